"""Physical parameters of a robot from its recorded motion, by gradients through short windows.

Multiple shooting (Bock and Plitt 1984): the recording is cut into windows; in each the robot is
simulated from a state of the window's own, which is fitted too, as what was measured is noisy.
Minimised is the sum of squares of simulated less measured positions and velocities, each by the
spread of its errors, which is estimated from a first fit. Levenberg's and Marquardt's method does
it, from several starts of the parameters side by side in one batch: each backward pass gives one
residual's derivative in all windows of all starts. Standard errors come from the same curvature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from gippo.studies.recordings import Recording
from warp_envs.checks import ArgumentError
from warp_envs.robots.base import ArticulatedEnv

_FLOOR = 1e-9
"""Least spread of an error, by that of what was measured."""
_FLAT = 1e-12
"""Curvature in a direction, by the greatest, below which the motion does not tell of it."""


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
        simulations: of the whole recording, from one start, forward and backward.
        before: root mean square of simulated less measured on the held-out windows, joint_q and
            joint_qd together, each by the spread of what was measured, with the file's numbers.
        after: the same with the fitted numbers.
        simulated: joint_q of the windows by the fitted numbers, (windows, steps + 1, nq).
    """

    fitted: list[Fitted]
    losses: np.ndarray
    simulations: list[int]
    before: float
    after: float
    simulated: np.ndarray = field(repr=False)


class Bounded:
    """The parameters fitted as numbers in [0, 1]: logarithms between positive bounds."""

    def __init__(self, env: ArticulatedEnv, bounds: Mapping[str, Any]) -> None:
        """Bounds of each parameter that varies in `env`.

        Raises:
            ArgumentError: bounds of another parameter, or out of its range.
        """
        known = env.parameters()
        self.items = [item for item in known.values() if item.varies]
        for name in bounds:
            if name not in [item.name for item in self.items]:
                names = [item.name for item in self.items]
                raise ArgumentError("bounds", repr(name), f"any of {names}")
        low, high = [], []
        for item in self.items:
            default = item.default.reshape(-1)
            least, most = _bounds(item, bounds.get(item.name))
            if np.any(default < least) or np.any(default > most):
                given = f"[{least.min():g}, {most.max():g}]"
                accepted = f"ends on both sides of the file's {default}"
                raise ArgumentError(f"bounds.{item.name}", given, accepted)
            low.append(least)
            high.append(most)
        self.low, self.high = np.concatenate(low), np.concatenate(high)
        self.log = self.low > 0.0
        self._low = torch.tensor(
            np.where(self.log, np.log(np.where(self.log, self.low, 1.0)), self.low)
        )
        high_end = np.where(self.log, np.log(np.where(self.log, self.high, 1.0)), self.high)
        self._width = torch.tensor(high_end) - self._low

    def default(self) -> np.ndarray:
        """The file's numbers in [0, 1]."""
        values = np.concatenate([item.default.reshape(-1) for item in self.items])
        raw = torch.tensor(np.where(self.log, np.log(np.where(self.log, values, 1.0)), values))
        return ((raw - self._low) / self._width).numpy()

    def values(self, unit: torch.Tensor) -> torch.Tensor:
        """Numbers (..., n) in the parameters' units of those in [0, 1]."""
        raw = self._low + self._width * unit
        return torch.where(torch.tensor(self.log), torch.exp(raw), raw)

    def slope(self, unit: torch.Tensor) -> torch.Tensor:
        """Derivative of `values`, (..., n)."""
        return self._width * torch.where(torch.tensor(self.log), self.values(unit), 1.0)

    def named(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """Name -> (environments, *shape) of numbers (environments, n)."""
        sizes = [int(np.prod(item.shape)) for item in self.items]
        parts = zip(self.items, values.split(sizes, dim=1), strict=True)
        return {item.name: part.reshape(-1, *item.shape) for item, part in parts}


def _bounds(item: Any, given: Any) -> tuple[np.ndarray, np.ndarray]:
    default = item.default.reshape(-1)
    if given is not None:
        key = f"bounds.{item.name}"
        try:
            low, high = (np.broadcast_to(np.asarray(x, float), default.shape) for x in given)
        except (TypeError, ValueError):
            raise ArgumentError(key, repr(given), "[low, high]") from None
        if not (np.all(low < high) and np.all(low >= item.low) and np.all(high <= item.high)):
            raise ArgumentError(key, repr(given), f"[low, high] in {item.range}")
        return low, high
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
        self._action = torch.tensor(recording.action[rows[:, :-1]])
        self.num_positions = recording.joint_q.shape[1]
        self._turns = [
            slice(at + body.joint.nq - 4, at + body.joint.nq)
            for body, at in zip(
                env.articulation.description.bodies, env.articulation.q_start, strict=True
            )
            if body.joint.nq in (4, 7)
        ]
        spread = measured.reshape(-1, measured.shape[2]).std(axis=0)
        self.spread = torch.tensor(np.where(spread > 0.0, spread, 1.0))

    def errors(self, named: Mapping[str, torch.Tensor], offset: torch.Tensor) -> torch.Tensor:
        """Simulated less measured, (starts, windows, length + 1, nq + nv).

        Args:
            named: name -> (starts * windows, *shape).
            offset: of each window's first state from what was measured, (starts, windows, nq + nv).
        """
        windows, samples, width = self.measured.shape
        self.env.set_parameters(named)
        (rows,) = self.env.varying.given()
        state = (self.measured[:, 0] + offset).reshape(-1, width)
        extra = [
            torch.zeros(len(state), n, dtype=state.dtype)
            for name, n in self.env.state_layout.items()
            if name not in ("joint_q", "joint_qd")
        ]
        q, qd = state[:, : self.num_positions], state[:, self.num_positions :]
        found = [torch.cat([q, qd], dim=1)]
        for k in range(samples - 1):
            action = self._action[:, k].repeat(self.starts, 1)
            for _ in range(self.steps):
                q, qd, *_ = self._physics(q, qd, *extra, action, rows)
            found.append(torch.cat([q, qd], dim=1))
        simulated = torch.stack(found, dim=1).reshape(self.starts, windows, samples, width)
        return simulated - self._signed(simulated)

    def _signed(self, simulated: torch.Tensor) -> torch.Tensor:
        """What was measured, quaternions with the sign of the simulated ones."""
        measured = self.measured.expand_as(simulated)
        if not self._turns:
            return measured
        measured = measured.clone()
        for turn in self._turns:
            same = (simulated[..., turn].detach() * measured[..., turn]).sum(-1, keepdim=True)
            measured[..., turn] = torch.where(same < 0.0, -measured[..., turn], measured[..., turn])
        return measured


Follow = Callable[[torch.Tensor], torch.Tensor]
"""How the windows' states change, (starts, windows, nx), with the parameters, (starts, n)."""


class Fit(NamedTuple):
    """Where a minimisation is, and what its derivatives are there.

    Attributes:
        unit: parameters in [0, 1], (starts, n).
        offset: of each window's first state, by the spread of errors, (starts, windows, nx).
        residual: errors by their spread, (starts, windows, samples * nx).
        by_unit: its derivative, (starts, windows, samples * nx, n).
        by_offset: its derivative, (starts, windows, samples * nx, nx).
    """

    unit: torch.Tensor
    offset: torch.Tensor
    residual: torch.Tensor
    by_unit: torch.Tensor
    by_offset: torch.Tensor

    @property
    def loss(self) -> torch.Tensor:
        """Half the mean square of the residuals, (starts,)."""
        return 0.5 * self.residual.square().mean(dim=(1, 2))


class Minimizer:
    """Levenberg's and Marquardt's method over parameters and windows' states, for all starts."""

    def __init__(self, shooting: Shooting, bounded: Bounded, sigma: torch.Tensor) -> None:
        """Minimise the errors of `shooting` by their spread `sigma` (nx,)."""
        self._shooting, self._bounded, self._sigma = shooting, bounded, sigma
        self.passes = np.zeros(2, dtype=np.int64)
        """Forward and backward, of the whole batch."""

    def residual(self, unit: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """(starts, windows, samples * nx), of parameters (starts, windows, n)."""
        rows = self._bounded.values(unit).flatten(0, 1)
        self.passes[0] += 1
        errors = self._shooting.errors(self._bounded.named(rows), offset * self._sigma)
        return (errors / self._sigma).flatten(2)

    def at(self, unit: torch.Tensor, offset: torch.Tensor) -> Fit:
        """The point with its derivatives, a backward pass for each residual of a window."""
        windows = offset.shape[1]
        leaf = unit[:, None].repeat(1, windows, 1).requires_grad_()
        states = offset.clone().requires_grad_()
        residual = self.residual(leaf, states)
        rows = [
            torch.autograd.grad(residual[:, :, k].sum(), [leaf, states], retain_graph=True)
            for k in range(residual.shape[2])
        ]
        self.passes[1] += len(rows)
        by_unit, by_offset = (torch.stack(part, dim=2) for part in zip(*rows, strict=True))
        return Fit(unit, offset, residual.detach(), by_unit, by_offset)

    def run(self, unit: torch.Tensor, offset: torch.Tensor, iterations: int) -> Fit:
        """From a point to where nothing improves any more, or `iterations` are done."""
        fit = self.at(unit, offset)
        damping = torch.full_like(fit.loss, 1e-3)
        for _ in range(iterations):
            by_unit, by_offset = step(fit, damping)
            moved = (fit.unit + by_unit).clamp(0.0, 1.0)
            with torch.no_grad():
                windows = offset.shape[1]
                trial = self.residual(
                    moved[:, None].expand(-1, windows, -1), fit.offset + by_offset
                )
            loss = 0.5 * trial.square().mean(dim=(1, 2))
            better = torch.isfinite(loss) & (loss < fit.loss)
            gain = torch.where(better, (fit.loss - loss) / fit.loss.clamp(min=1e-300), 0.0)
            damping = torch.where(better, damping / 5.0, damping * 4.0).clamp(1e-12, 1e12)
            still = (gain > 1e-9) | (~better & (damping < 1e6))
            if better.any():
                unit = torch.where(better[:, None], moved, fit.unit)
                shift = torch.where(better[:, None, None], by_offset, 0.0)
                fit = self.at(unit, fit.offset + shift)
            if not still.any():
                break
        return fit


def step(fit: Fit, damping: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Changes of parameters (starts, n) and of windows' states (starts, windows, nx).

    A parameter at a bound against which the sum of squares pushes stays there.
    """
    curvature, slope, follow = eliminated(fit)
    pushed = ((fit.unit <= 0.0) & (slope > 0.0)) | ((fit.unit >= 1.0) & (slope < 0.0))
    diagonal = torch.diagonal(curvature, dim1=1, dim2=2)
    least = (1e-12 * diagonal.amax(dim=1, keepdim=True)).clamp(min=1e-12)
    added = damping[:, None] * diagonal.clamp(min=0.0) + least
    free = (~pushed).to(slope.dtype)
    matrix = free[:, :, None] * curvature * free[:, None, :] + torch.diag_embed(
        added * free + (1.0 - free)
    )
    change = -torch.linalg.solve(matrix, slope * free)
    return change, follow(change)


def eliminated(fit: Fit) -> tuple[torch.Tensor, torch.Tensor, Follow]:
    """Curvature (starts, n, n) and slope (starts, n) in the parameters alone, and what states do.

    With J and K the residuals' derivatives in parameters and states, the curvature is
    J^T J - J^T K (K^T K)^-1 K^T J, summed over windows.
    """
    by_unit, by_state, residual = fit.by_unit, fit.by_offset, fit.residual[..., None]
    square = by_state.mT @ by_state
    mixed, along = by_state.mT @ by_unit, by_state.mT @ residual
    follows, rest = torch.linalg.solve(square, mixed), torch.linalg.solve(square, along)
    curvature = (by_unit.mT @ by_unit - mixed.mT @ follows).sum(1)
    slope = (by_unit.mT @ residual - mixed.mT @ rest).sum(1)[..., 0]

    def follow(change: torch.Tensor) -> torch.Tensor:
        return -(rest + follows @ change[:, None, :, None])[..., 0]

    return 0.5 * (curvature + curvature.mT), slope, follow


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
    rng = np.random.default_rng(seed)
    unit = rng.uniform(0.0, 1.0, (shooting.starts, len(bounded.low)))
    unit[0] = bounded.default()
    windows, samples, width = shooting.measured.shape
    offset = torch.zeros(shooting.starts, windows, width, dtype=torch.float64)
    guess = 0.01 * shooting.spread
    first = Minimizer(shooting, bounded, guess)
    found = first.run(torch.tensor(unit), offset, iterations)
    best = int(torch.argmin(torch.nan_to_num(found.loss, nan=torch.inf)))
    errors = found.residual[best].reshape(windows, samples, width) * guess
    sigma = torch.maximum(errors.square().mean(dim=(0, 1)).sqrt(), _FLOOR * shooting.spread)
    second = Minimizer(shooting, bounded, sigma)
    point = found.unit[best].expand(shooting.starts, -1)
    offset = (found.offset[best] * guess / sigma).expand(shooting.starts, -1, -1)
    fit = second.run(point, offset, iterations)
    value = fit.unit[0]
    judged = [_judge(held_out, bounded, bounded.values(x)) for x in (torch.tensor(unit[0]), value)]
    simulated = (fit.residual[0].reshape(windows, samples, width) * sigma) + shooting.measured
    return Identified(
        _fitted(bounded, bounded.values(value).numpy(), standard_errors(fit, bounded)),
        found.loss.numpy(),
        (first.passes * shooting.starts + second.passes).tolist(),
        judged[0],
        judged[1],
        simulated[..., : shooting.num_positions].numpy(),
    )


def _judge(held_out: Shooting, bounded: Bounded, values: torch.Tensor) -> float:
    """Root mean square error on windows started from what was measured, by its spread."""
    windows, _, width = held_out.measured.shape
    none = torch.zeros(1, windows, width, dtype=torch.float64)
    with torch.no_grad():
        errors = held_out.errors(bounded.named(values.expand(windows, -1)), none)
    return (errors / held_out.spread).square().mean().sqrt().item()


def _fitted(bounded: Bounded, values: np.ndarray, errors: np.ndarray) -> list[Fitted]:
    ends = np.cumsum([int(np.prod(item.shape)) for item in bounded.items])[:-1]
    value, error, low, high = (
        np.split(x, ends) for x in (values, errors, bounded.low, bounded.high)
    )
    found = []
    for k, item in enumerate(bounded.items):
        own = [part[k].reshape(item.shape) for part in (value, error, low, high)]
        found.append(Fitted(item.name, item.unit, item.default, own[0], own[1], own[2], own[3]))
    return found


def standard_errors(fit: Fit, bounded: Bounded) -> np.ndarray:
    """Standard error of each number (n,) of the first start, infinite where nothing tells of it.

    The covariance is the inverse curvature times the variance of the residuals.
    """
    curvature = eliminated(fit)[0][0].numpy()
    _, windows, rows = fit.residual.shape
    width, count = fit.offset.shape[2], fit.unit.shape[1]
    freedom = max(1, windows * (rows - width) - count)
    variance = fit.residual[0].square().sum().item() / freedom
    squares, axes = np.linalg.eigh(curvature)
    told = squares > _FLAT * max(squares.max(), 1e-300)
    inverse = np.where(told, 1.0 / np.where(told, squares, 1.0), 0.0)
    error = np.sqrt(variance * np.einsum("ik,k,ik->i", axes, inverse, axes))
    untold = (axes[:, ~told] ** 2).sum(axis=1) > 1e-6
    return np.where(untold, np.inf, error * bounded.slope(fit.unit[0]).numpy())
