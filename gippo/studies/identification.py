"""Physical parameters of a robot from its recorded motion, by gradients through short windows.

`gippo.studies.least_squares` tells how; here is what a robot's windows are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gippo.studies.least_squares import Bounded, Interval, fit_windows
from gippo.studies.recordings import Recording
from warp_envs.articulation.parameters import Parameter
from warp_envs.robots.base import ArticulatedEnv


@dataclass(frozen=True)
class Fitted:
    """One parameter as it was identified.

    Attributes:
        name: of the parameter.
        unit: SI.
        default: of the robot's file.
        value: fitted, of the shape of the default.
        error: standard error, infinite where the motion does not tell.
        low: bound.
        high: bound.
    """

    name: str
    unit: str
    default: np.ndarray
    value: np.ndarray
    error: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Identified:
    """What an identification found.

    Attributes:
        fitted: the parameters.
        losses: of each start, half the mean square of its errors by 1 % of what was measured.
        simulations: of the whole recording from one start, forward and backward.
        before: root mean square of simulated less measured on the held-out windows, joint_q and
            joint_qd together, each by the spread of what was measured, with the file's numbers.
        after: the same with the fitted numbers.
        simulated: joint_q of the windows by the fitted numbers, (windows, steps + 1, nq).
    """

    fitted: list[Fitted]
    losses: np.ndarray
    simulations: tuple[int, int]
    before: float
    after: float
    simulated: np.ndarray = field(repr=False)


def bounded_parameters(env: ArticulatedEnv, bounds: Mapping[str, Any]) -> Bounded:
    """The parameters that vary in `env`, within bounds.

    Raises:
        ArgumentError: as `Bounded`.
    """
    return Bounded([item for item in env.parameters().values() if item.varies], bounds, _reach)


def _reach(item: Parameter) -> Interval:
    default = item.default.reshape(-1)
    if item.low == 0.0:  # a factor of ten either way, from nothing up to one
        return np.where(default > 0.0, 0.1, 0.0) * default, np.where(
            default > 0.0, 10.0 * default, 1.0
        )
    if item.name.endswith("gear"):
        return np.minimum(0.1 * default, 10.0 * default), np.maximum(0.1 * default, 10.0 * default)
    reach = {"com": 0.1, "rest": 0.5, "gravity": 1.0}.get(item.name.rpartition(".")[2], 1.0)
    return default - reach, default + reach


class Shooting:
    """Windows of a recording, simulated from `starts` sets of parameters side by side."""

    def __init__(
        self,
        env: ArticulatedEnv,
        recording: Recording,
        first: np.ndarray,
        length: int,
        steps: int,
        starts: int,
    ) -> None:
        """Lay out the windows.

        Args:
            env: the robot in ``starts * len(first)`` environments.
            recording: what was measured.
            first: sample at which each window begins.
            length: intervals of a window.
            steps: control steps of an interval.
            starts: sets of parameters.
        """
        self.env, self.steps, self.starts = env, steps, starts
        self._physics = env.physics()
        rows = first[:, None] + np.arange(length + 1)
        measured = np.concatenate([recording.joint_q, recording.joint_qd], axis=1)[rows]
        self.measured = torch.tensor(measured)  # (windows, length + 1, nq + nv)
        self.group = torch.zeros(len(rows), dtype=torch.int64)  # all have the robot's parameters
        self._action = torch.tensor(recording.action[rows[:, :-1]])
        self.num_positions = recording.joint_q.shape[1]
        self._items = [item for item in env.parameters().values() if item.varies]
        self._extra = [
            torch.zeros(starts * len(rows), n, dtype=torch.float64)
            for name, n in env.state_layout.items()
            if name not in ("joint_q", "joint_qd")
        ]
        self._turns = [
            slice(at + body.joint.nq - 4, at + body.joint.nq)
            for body, at in zip(
                env.articulation.description.bodies, env.articulation.q_start, strict=True
            )
            if body.joint.nq in (4, 7)
        ]
        spread = measured.reshape(-1, measured.shape[2]).std(axis=0)
        self.spread = torch.tensor(np.where(spread > 0.0, spread, 1.0))[None]

    def errors(self, values: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """Simulated less measured, (starts, windows, length + 1, nq + nv), without gradient."""
        with torch.no_grad():
            rows = self._set(self._all(values))
            state = self._all(self.measured[:, 0] + offset)
            found = [state]
            for k in range(self.measured.shape[1] - 1):
                for _ in range(self.steps):
                    state = self._advance(state, k, rows)
                found.append(state)
        return self._less_measured(self._each(found, len(values)))

    def linearized(
        self, values: torch.Tensor, offset: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The errors and their derivatives in parameters and states, side by side.

        A step's derivatives come by a backward pass for each number of the state.
        """
        _, samples, width = self.measured.shape
        numbers = self._all(values).requires_grad_()
        rows = self._set(numbers)
        state = self._all(self.measured[:, 0] + offset)
        by = torch.eye(width, dtype=state.dtype).expand(len(state), -1, -1)
        by = torch.cat([by.new_zeros(len(state), width, values.shape[2]), by], dim=2)
        found, derivatives = [state], [by]
        for k in range(samples - 1):
            for _ in range(self.steps):
                before = state.detach().requires_grad_()
                state = self._advance(before, k, rows)
                each = [
                    torch.autograd.grad(state[:, i].sum(), [before, numbers], retain_graph=True)
                    for i in range(width)
                ]
                by_state, by_number = (torch.stack(part, 1) for part in zip(*each, strict=True))
                by = by_state @ by
                by[..., : values.shape[2]] += by_number
            found.append(state.detach())
            derivatives.append(by)
        simulated, slopes = (self._each(part, len(values)) for part in (found, derivatives))
        return self._less_measured(simulated), slopes

    def _all(self, rows: torch.Tensor) -> torch.Tensor:
        """A row for each environment; those of one start alone go to all."""
        return rows.expand(self.starts, -1, -1).flatten(0, 1).clone()

    def _each(self, found: list[torch.Tensor], starts: int) -> torch.Tensor:
        """Samples (environments, ...) as (starts, windows, samples, ...)."""
        return torch.stack(found, dim=1).unflatten(0, (self.starts, -1))[:starts]

    def _set(self, numbers: torch.Tensor) -> torch.Tensor:
        """Set the parameters to numbers (starts * windows, n); what the kernels take of them."""
        parts = numbers.split([item.default.size for item in self._items], dim=1)
        named = zip(self._items, parts, strict=True)
        self.env.set_parameters({item.name: x.reshape(-1, *item.shape) for item, x in named})
        (rows,) = self.env.varying.given()
        return rows

    def _advance(self, state: torch.Tensor, interval: int, rows: torch.Tensor) -> torch.Tensor:
        """One control step of all windows, in an interval of theirs."""
        q, qd = state[:, : self.num_positions], state[:, self.num_positions :]
        action = self._action[:, interval].repeat(self.starts, 1)
        q, qd, *_ = self._physics(q, qd, *self._extra, action, rows)
        return torch.cat([q, qd], dim=1)

    def _less_measured(self, simulated: torch.Tensor) -> torch.Tensor:
        """The errors: of quaternions, of those measured with the sign of the simulated ones."""
        measured = self.measured.expand_as(simulated).clone()
        for turn in self._turns:
            same = (simulated[..., turn] * measured[..., turn]).sum(-1, keepdim=True)
            measured[..., turn] = torch.where(same < 0.0, -measured[..., turn], measured[..., turn])
        return simulated - measured


def identify(
    shooting: Shooting,
    held_out: Shooting,
    bounded: Bounded,
    iterations: int = 50,
    seed: int = 0,
) -> Identified:
    """Fit the parameters that vary.

    Args:
        shooting: the windows fitted to.
        held_out: other windows, with one set of parameters.
        bounded: of the parameters.
        iterations: at most, of each of two runs.
        seed: of the starts but the first, which is the robot's file.
    """
    found = fit_windows(shooting, bounded, shooting.starts, iterations, seed)
    judged = [
        _judge(held_out, torch.tensor(x))
        for x in (bounded.values(torch.tensor(bounded.default())).numpy(), found.values[0])
    ]
    return Identified(
        _fitted(bounded, found.values[0], found.errors[0]),
        found.losses[:, 0],
        found.simulations,
        judged[0],
        judged[1],
        (found.residual + shooting.measured)[..., : shooting.num_positions].numpy(),
    )


def _judge(held_out: Shooting, values: torch.Tensor) -> float:
    """Root mean square error on windows started from what was measured, by its spread."""
    windows, _, width = held_out.measured.shape
    none = torch.zeros(1, windows, width, dtype=torch.float64)
    errors = held_out.errors(values.expand(1, windows, -1), none)
    return (errors / held_out.spread).square().mean().sqrt().item()


def _fitted(bounded: Bounded, values: np.ndarray, errors: np.ndarray) -> list[Fitted]:
    ends = np.cumsum([item.default.size for item in bounded.items])[:-1]
    value, error, low, high = (
        np.split(x, ends) for x in (values, errors, bounded.low, bounded.high)
    )
    found = []
    for k, item in enumerate(bounded.items):
        own = [part[k].reshape(item.shape) for part in (value, error, low, high)]
        found.append(Fitted(item.name, item.unit, item.default, own[0], own[1], own[2], own[3]))
    return found
