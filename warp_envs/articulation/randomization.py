"""Domain randomisation: parameters drawn anew for every episode, as a configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import warp as wp

from kernels import randomization as kernels
from warp_envs.articulation.columns import width_of
from warp_envs.articulation.parameters import Parameter, Parameters, check_values, choose
from warp_envs.bridge.program import Program
from warp_envs.checks import ArgumentError
from warp_envs.options.parameters import read_spread

KINDS = {
    "range": int(kernels.RANGE),
    "scale": int(kernels.SCALE),
    "add": int(kernels.ADD),
}
_STREAM = 2000  # of random numbers, beyond those of starts and commands


class Spread(NamedTuple):
    """How one parameter is drawn.

    Attributes:
        kind: of `KINDS`: in place of the value, as a factor of it, or added to it.
        low: (numbers,) of one environment.
        high: (numbers,).
        once: whether it is drawn for the first episode alone, and holds.
    """

    kind: str
    low: np.ndarray
    high: np.ndarray
    once: bool


def read_randomization(given: Any, known: Mapping[str, Parameter]) -> dict[str, Spread]:
    """The spreads of ``{friction: [0.5, 1.2], "*.mass": {scale: [0.8, 1.2]}}`` by parameter.

    Args:
        given: name or pattern -> spread; None: nothing is drawn.
        known: the parameters that there are.

    Raises:
        ArgumentError: a name without a parameter, a spread that does not fit it, or two parameters
            that stand for one number.
    """
    if given is None:
        return {}
    choose(known, list(given), "randomize")
    spreads: dict[str, Spread] = {}
    for name, spread in given.items():
        for item in choose(known, [name], "randomize").values():
            spreads[item.name] = _read(f"randomize.{item.name}", spread, item)
    return spreads


def _read(key: str, given: Any, item: Parameter) -> Spread:
    kind, pair, once = read_spread(key, given)
    if item.keys[-1][0] == "second_moment":
        hint = "; mass, com and inertia_scale can be drawn"
        raise ArgumentError(key, repr(given), "no spread of this parameter", hint)
    low, high = _pair(f"{key}.{kind}" if isinstance(given, Mapping) else key, pair, item)
    if kind == "add" and np.isfinite(item.low):
        hint = "; what is added could take it below its least value"
        raise ArgumentError(key, repr(given), "{range: [low, high]} or {scale: [low, high]}", hint)
    if kind == "scale" and not np.all(low >= 0.0):
        raise ArgumentError(f"{key}.scale", repr(pair), "factors of at least 0")
    if kind != "add":
        default = item.default.reshape(-1)
        for end in (low, high):
            check_values(key, item, torch.tensor(default * end if kind == "scale" else end))
    return Spread(kind, low, high, once)


def _pair(key: str, given: Any, item: Parameter) -> tuple[np.ndarray, np.ndarray]:
    """Ends of a spread, one number each for all of a parameter or of its shape."""
    shaped = f", each a number or of shape {item.shape}" if item.shape else ""
    accepted = f"[low, high]{shaped}"
    try:
        low, high = (
            np.broadcast_to(np.asarray(end, dtype=np.float64), item.shape).reshape(-1)
            for end in given
        )
    except (TypeError, ValueError):
        raise ArgumentError(key, repr(given), accepted) from None
    if not np.all(np.isfinite([low, high])) or not np.all(low <= high):
        raise ArgumentError(key, repr(given), f"{accepted}, finite, low <= high")
    return low, high


class Draws:
    """What is drawn in every environment, and the launches that draw and apply it."""

    def __init__(self, spreads: Mapping[str, Spread], parameters: Parameters) -> None:
        """Lay out the draws of parameters that vary."""
        columns = parameters.columns
        self._kind = np.full(columns.count, int(kernels.FIXED), dtype=np.int32)
        self._draw = np.zeros(columns.count, dtype=np.int32)
        ends: list[tuple[float, float, bool]] = []
        for name, spread in spreads.items():
            places = [
                columns.start[key] + k
                for key in parameters.chosen[name].keys
                for k in range(width_of(key[0]))
            ]
            for place, low, high in zip(places, spread.low, spread.high, strict=True):
                self._kind[place], self._draw[place] = KINDS[spread.kind], len(ends)
                ends.append((low, high, spread.once))
        self._low, self._high, self._once = (np.array(part) for part in zip(*ends, strict=True))
        self.count = len(ends)

    def centered(self, draws: torch.Tensor) -> torch.Tensor:
        """Draws (num_envs, count) from -1 to 1 between their ends; 0 where these are one."""
        low, high = (
            torch.as_tensor(end, dtype=draws.dtype, device=draws.device)
            for end in (self._low, self._high)
        )
        spread = high - low
        whole = 2.0 * (draws - low) / spread.where(spread > 0.0, 1.0) - 1.0
        return whole.where(spread > 0.0, 0.0)

    def record_draw(
        self, program: Program, rng: wp.array, first_rng: wp.array, draws: wp.array
    ) -> None:
        """Append the drawing of `draws` (num_envs, count).

        Args:
            program: takes the launch.
            rng: random-number states of the episode, (num_envs,), uint32.
            first_rng: the same of each environment's first episode.
            draws: to be written.
        """
        device, scalar = program.device, draws.dtype
        ends = [wp.array(x, dtype=scalar, device=device) for x in (self._low, self._high)]
        once = wp.array(self._once.astype(np.int32), dtype=wp.int32, device=device)
        inputs = [*ends, once, _STREAM, rng, first_rng, draws]
        program.launch(kernels.draw_numbers, draws.shape, inputs)

    def record_apply(self, program: Program, given: wp.array, draws: wp.array) -> wp.array:
        """Append what makes the numbers in force (num_envs, columns) of those given.

        `draws` may change after the launches; the adjoint reads a copy.
        """
        held = program.array(draws.shape, draws.dtype, requires_grad=False)
        program.launch(kernels.hold_draws, draws.shape, [draws, held])
        in_force = program.array(given.shape, given.dtype)
        model = [
            wp.array(x, dtype=wp.int32, device=program.device) for x in (self._kind, self._draw)
        ]
        program.launch(kernels.apply_draws, given.shape, [*model, given, held, in_force])
        return in_force
