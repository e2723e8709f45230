"""Parameters that make simulated motion that which was recorded, window by window.

Multiple shooting (Bock and Plitt 1984): the recording is cut into windows; in each, motion is
simulated from a state of the window's own, which is fitted too, as what was measured is noisy.
Minimised is the sum of squares of simulated less measured states, each by the spread of its errors,
by Levenberg's and Marquardt's method, from several starts of the parameters side by side in one
batch. Windows belong to groups with parameters of their own: one of a robot, one of each driver.
Derivatives through a window are products of those of its steps, so that all of them take as many
backward passes as a state has numbers. Standard errors come from the same curvature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from warp_envs.articulation.parameters import Parameter
from warp_envs.checks import ArgumentError

FLOOR = 1e-9
"""Least spread of an error, by that of what was measured."""
_FLAT = 1e-12
"""Curvature in a direction, by the greatest, below which the motion does not tell of it."""

Interval = tuple[np.ndarray, np.ndarray]
"""Least and greatest numbers."""


class Bounded:
    """Parameters fitted as numbers in [0, 1]: logarithms between positive bounds."""

    def __init__(
        self,
        items: Sequence[Parameter],
        given: Mapping[str, Any],
        reach: Callable[[Parameter], Interval],
    ) -> None:
        """Lay out the numbers of all parameters side by side.

        Args:
            items: the parameters; the fit starts from their defaults.
            given: name -> [low, high].
            reach: bounds of a parameter for which none are given.

        Raises:
            ArgumentError: bounds of another parameter, out of its range, or with the default
                outside.
        """
        self.items = list(items)
        for name in given:
            if name not in [item.name for item in items]:
                names = [item.name for item in items]
                raise ArgumentError("bounds", repr(name), f"any of {names}")
        low, high = [], []
        for item in items:
            default = item.default.reshape(-1)
            least, most = (
                _read_bounds(item, given[item.name]) if item.name in given else reach(item)
            )
            if np.any(default < least) or np.any(default > most):
                text = f"[{least.min():g}, {most.max():g}]"
                accepted = f"ends on both sides of {default}, where the fit starts,"
                raise ArgumentError(f"bounds.{item.name}", text, accepted)
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
        """The defaults in [0, 1], (n,)."""
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


def _read_bounds(item: Parameter, given: Any) -> Interval:
    key, shape = f"bounds.{item.name}", item.default.reshape(-1).shape
    try:
        low, high = (np.broadcast_to(np.asarray(x, float), shape) for x in given)
    except (TypeError, ValueError):
        raise ArgumentError(key, repr(given), "[low, high]") from None
    if not (np.all(low < high) and np.all(low >= item.low) and np.all(high <= item.high)):
        raise ArgumentError(key, repr(given), f"[low, high], low < high, in {item.range}")
    return low, high


class Windows(Protocol):
    """Windows of recorded motion that can be simulated.

    Attributes:
        measured: states, (windows, samples, nx).
        group: whose parameters a window has, (windows,), from 0 on.
        spread: how much a state varies, (groups, nx), positive.
    """

    measured: torch.Tensor
    group: torch.Tensor
    spread: torch.Tensor

    def errors(self, values: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """Simulated less measured, (starts, windows, samples, nx), without gradient.

        Args:
            values: numbers of the parameters, (starts, windows, n).
            offset: of first states from what was measured, (starts, windows, nx).
        """
        ...

    def linearized(
        self, values: torch.Tensor, offset: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The errors with their derivatives, (starts, windows, samples, nx, n + nx)."""
        ...


Follow = Callable[[torch.Tensor], torch.Tensor]
"""How the windows' states change, (starts, windows, nx), with parameters, (starts, groups, n)."""


class Fit(NamedTuple):
    """Where a minimisation is, and what its derivatives are there.

    Attributes:
        unit: parameters in [0, 1], (starts, groups, n).
        offset: of each window's first state, by the spread of errors, (starts, windows, nx).
        residual: errors by their spread, (starts, windows, samples * nx).
        by_unit: its derivative, (starts, windows, samples * nx, n).
        by_offset: its derivative, (starts, windows, samples * nx, nx).
        group: of each window, (windows,).
    """

    unit: torch.Tensor
    offset: torch.Tensor
    residual: torch.Tensor
    by_unit: torch.Tensor
    by_offset: torch.Tensor
    group: torch.Tensor

    def summed(self, rows: torch.Tensor) -> torch.Tensor:
        """Sums over each group's windows, (starts, groups, ...) of (starts, windows, ...)."""
        shape = (rows.shape[0], self.unit.shape[1], *rows.shape[2:])
        return rows.new_zeros(shape).index_add_(1, self.group, rows)

    @property
    def loss(self) -> torch.Tensor:
        """Half the mean square of each group's residuals, (starts, groups)."""
        return _loss(self.residual, self.summed)


def _loss(residual: torch.Tensor, summed: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    squares = 0.5 * residual.square().mean(dim=2)
    return summed(squares) / summed(torch.ones_like(squares))


class Minimizer:
    """Levenberg's and Marquardt's method over parameters and windows' states, for all starts."""

    def __init__(self, windows: Windows, bounded: Bounded, sigma: torch.Tensor) -> None:
        """Minimise the errors of `windows` by their spread `sigma` (groups, nx)."""
        self._windows, self._bounded = windows, bounded
        self._sigma = sigma[windows.group]
        self.simulations = np.zeros(2, dtype=np.int64)
        """Of all windows from one start: forward, and backward through every step."""

    def residual(self, unit: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """(starts, windows, samples * nx), of parameters (starts, groups, n)."""
        self.simulations += 1, 0
        values = self._bounded.values(unit)[:, self._windows.group]
        errors = self._windows.errors(values, offset * self._sigma)
        return (errors / self._sigma[:, None]).flatten(2)

    def at(self, unit: torch.Tensor, offset: torch.Tensor) -> Fit:
        """The point with its derivatives."""
        group = self._windows.group
        values = self._bounded.values(unit)[:, group]
        errors, derivatives = self._windows.linearized(values, offset * self._sigma)
        self.simulations += 1, offset.shape[2]
        by_unit, by_offset = (derivatives / self._sigma[:, None, :, None]).split(
            [unit.shape[2], offset.shape[2]], dim=4
        )
        by_unit = by_unit * self._bounded.slope(unit)[:, group, None, None, :]
        by_offset = by_offset * self._sigma[:, None, None, :]
        residual = (errors / self._sigma[:, None]).flatten(2)
        return Fit(unit, offset, residual, by_unit.flatten(2, 3), by_offset.flatten(2, 3), group)

    def run(self, unit: torch.Tensor, offset: torch.Tensor, iterations: int) -> Fit:
        """From a point to where nothing improves any more, or `iterations` are done."""
        fit = self.at(unit, offset)
        damping = torch.full_like(fit.loss, 1e-3)
        for _ in range(iterations):
            by_unit, by_offset = step(fit, damping)
            moved = (fit.unit + by_unit).clamp(0.0, 1.0)
            loss = _loss(self.residual(moved, fit.offset + by_offset), fit.summed)
            better = torch.isfinite(loss) & (loss < fit.loss)
            gain = torch.where(better, (fit.loss - loss) / fit.loss.clamp(min=1e-300), 0.0)
            damping = torch.where(better, damping / 5.0, damping * 4.0).clamp(1e-12, 1e12)
            still = (gain > 1e-9) | (~better & (damping < 1e6))
            if better.any():
                unit = torch.where(better[..., None], moved, fit.unit)
                shift = torch.where(better[:, fit.group, None], by_offset, 0.0)
                fit = self.at(unit, fit.offset + shift)
            if not still.any():
                break
        return fit


def step(fit: Fit, damping: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Changes of parameters (starts, groups, n) and of windows' states (starts, windows, nx).

    A parameter at a bound against which the sum of squares pushes stays there.
    """
    curvature, slope, follow = eliminated(fit)
    pushed = ((fit.unit <= 0.0) & (slope > 0.0)) | ((fit.unit >= 1.0) & (slope < 0.0))
    diagonal = torch.diagonal(curvature, dim1=2, dim2=3)
    least = (1e-12 * diagonal.amax(dim=2, keepdim=True)).clamp(min=1e-12)
    added = damping[..., None] * diagonal.clamp(min=0.0) + least
    free = (~pushed).to(slope.dtype)
    matrix = free[..., :, None] * curvature * free[..., None, :] + torch.diag_embed(
        added * free + (1.0 - free)
    )
    change = -torch.linalg.solve(matrix, slope * free)
    return change, follow(change)


def eliminated(fit: Fit) -> tuple[torch.Tensor, torch.Tensor, Follow]:
    """Curvature (starts, groups, n, n) and slope (starts, groups, n), and what states do.

    With J and K the residuals' derivatives in parameters and states, the curvature in the
    parameters alone is J^T J - J^T K (K^T K)^-1 K^T J, summed over windows.
    """
    by_unit, by_state, residual = fit.by_unit, fit.by_offset, fit.residual[..., None]
    square = by_state.mT @ by_state
    mixed, along = by_state.mT @ by_unit, by_state.mT @ residual
    follows, rest = torch.linalg.solve(square, mixed), torch.linalg.solve(square, along)
    curvature = fit.summed(by_unit.mT @ by_unit - mixed.mT @ follows)
    slope = fit.summed(by_unit.mT @ residual - mixed.mT @ rest)[..., 0]

    def follow(change: torch.Tensor) -> torch.Tensor:
        return -(rest + follows @ change[:, fit.group, :, None])[..., 0]

    return 0.5 * (curvature + curvature.mT), slope, follow


class Solution(NamedTuple):
    """What a fit found.

    Attributes:
        values: of the parameters, (groups, n).
        errors: standard errors, infinite where the motion does not tell, (groups, n).
        losses: of each start, half the mean square of its errors by 1 % of what was measured,
            (starts, groups).
        simulations: of all windows from one start: forward, and backward through every step.
        residual: simulated less measured, (windows, samples, nx).
    """

    values: np.ndarray
    errors: np.ndarray
    losses: np.ndarray
    simulations: tuple[int, int]
    residual: torch.Tensor


def fit_windows(
    windows: Windows, bounded: Bounded, starts: int, iterations: int, seed: int
) -> Solution:
    """Fit the parameters of every group.

    Args:
        windows: of the recording.
        bounded: the parameters.
        starts: sets of them to start from: the defaults, and others drawn between the bounds.
        iterations: at most, of each of two runs. The second weighs errors by the spread that the
            first one left.
        seed: of the starts.
    """
    rng = np.random.default_rng(seed)
    count, samples, width = windows.measured.shape
    groups = len(windows.spread)
    unit = torch.tensor(rng.uniform(0.0, 1.0, (starts, groups, len(bounded.low))))
    unit[0] = torch.tensor(bounded.default())
    guess = 0.01 * windows.spread
    first = Minimizer(windows, bounded, guess)
    found = first.run(unit, torch.zeros(starts, count, width, dtype=torch.float64), iterations)
    best = torch.argmin(torch.nan_to_num(found.loss, nan=torch.inf), dim=0)
    chosen, each = best[windows.group], torch.arange(count)
    errors = found.residual[chosen, each].reshape(count, samples, width)
    squares = errors.square().mean(dim=1)
    mean = found.summed(squares[None]) / found.summed(torch.ones_like(squares)[None])
    sigma = torch.maximum(guess * mean[0].sqrt(), FLOOR * windows.spread)
    second = Minimizer(windows, bounded, sigma)
    offset = found.offset[chosen, each] * (guess / sigma)[windows.group]
    fit = second.run(found.unit[best, torch.arange(groups)][None], offset[None], iterations)
    fit = _without_drift(second, fit, bounded, iterations)
    forward, backward = (first.simulations * starts + second.simulations).tolist()
    return Solution(
        bounded.values(fit.unit[0]).numpy(),
        standard_errors(fit, bounded),
        found.loss.numpy(),
        (forward, backward),
        fit.residual[0].reshape(count, samples, width) * sigma[windows.group, None],
    )


def _without_drift(minimizer: Minimizer, fit: Fit, bounded: Bounded, iterations: int) -> Fit:
    """The point among those that fit alike which is the nearest to the defaults.

    Along directions that nothing tells of, parameters lie where they started; what a motion does
    not tell is to stay what it was said to be. In logarithms ratios of parameters are directions.
    """
    told, _, axes = _directions(fit)
    if told.all():
        return fit
    drift = fit.unit[0].numpy() - bounded.default()
    along = np.where(told, 0.0, np.einsum("gik,gi->gk", axes, drift))
    back = torch.tensor(np.einsum("gik,gk->gi", axes, along))
    moved = minimizer.run((fit.unit - back).clamp(0.0, 1.0), fit.offset, iterations)
    kept = moved.loss <= 1.01 * fit.loss + 1e-3  # in units of what errors are expected to be
    if bool(kept.all()):
        return moved
    unit = torch.where(kept[..., None], moved.unit, fit.unit)
    return minimizer.at(unit, torch.where(kept[:, fit.group, None], moved.offset, fit.offset))


def _directions(fit: Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which directions of the first start's parameters are told, (groups, n).

    With them the curvatures along them, and the directions as columns (groups, n, n).
    """
    squares, axes = np.linalg.eigh(eliminated(fit)[0][0].numpy())
    told = squares > _FLAT * np.maximum(squares.max(axis=1, keepdims=True), 1e-300)
    return told, squares, axes


def standard_errors(fit: Fit, bounded: Bounded) -> np.ndarray:
    """Standard errors (groups, n) of the first start, infinite where nothing tells of a number.

    The covariance is the inverse curvature times the variance of the residuals.
    """
    told, squares, axes = _directions(fit)
    _, _, rows = fit.residual.shape
    width, count = fit.offset.shape[2], fit.unit.shape[2]
    members = torch.bincount(fit.group, minlength=fit.unit.shape[1]).numpy()
    freedom = np.maximum(1, members * (rows - width) - count)
    variance = 2.0 * fit.loss[0].numpy() * members * rows / freedom
    inverse = np.where(told, 1.0 / np.where(told, squares, 1.0), 0.0)
    error = np.sqrt(variance[:, None] * np.einsum("gik,gk,gik->gi", axes, inverse, axes))
    untold = np.einsum("gik,gk->gi", axes**2, ~told) > 1e-6
    return np.where(untold, np.inf, error * bounded.slope(fit.unit[0]).numpy())
