"""Numbers of drivers from their recorded motion behind recorded leaders.

A window is a part of a driver's motion behind one leader, whose motion is given (Treiber and
Kesting 2013, Traffic Flow Dynamics, chapter 16). The driver is simulated from where it was, and its
position and speed are compared; as the leader is given, an error of position is one of the gap. How
the numbers are moved `gippo.studies.least_squares` tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from gippo.errors import UserError
from gippo.studies.least_squares import Bounded, Interval, fit_windows
from gippo.studies.trajectories import Stretch
from warp_envs.articulation.parameters import Parameter
from warp_envs.checks import ArgumentError, near_matches
from warp_envs.traffic.following import Following
from warp_envs.traffic.models import CarFollowing


class Place(NamedTuple):
    """Where a window begins: of which stretch, and at which of its samples."""

    stretch: int
    sample: int


@dataclass(frozen=True)
class Split:
    """Windows fitted to, and windows that only judge.

    Attributes:
        drivers: their names, in the order of the groups.
        fitted: places of windows.
        held_out: places of windows.
        notes: on who was left out.
    """

    drivers: list[str]
    fitted: list[Place]
    held_out: list[Place]
    notes: list[str]


def split_windows(stretches: Sequence[Stretch], length: int, held_out: float) -> Split:
    """Cut stretches into windows of `length` intervals; the last of each driver are held out.

    Raises:
        UserError: nobody has two windows.
    """
    places: dict[str, list[Place]] = {}
    for k, stretch in enumerate(stretches):
        last = len(stretch.x) - length
        places.setdefault(stretch.driver, []).extend(
            Place(k, first) for first in range(0, last, length)
        )
    short = [driver for driver, own in places.items() if len(own) < 2]
    kept = {driver: own for driver, own in places.items() if len(own) >= 2}
    if not kept:
        raise UserError(f"window: nobody has two windows of {length} intervals behind one leader")
    notes = []
    if short:
        notes.append(
            f"{len(short)} of {len(places)} drivers left out, who have no two windows of {length} "
            "intervals behind one leader"
        )
    parts: tuple[list[Place], list[Place]] = ([], [])
    for own in kept.values():
        held = max(1, round(held_out * len(own)))
        parts[0].extend(own[:-held])
        parts[1].extend(own[-held:])
    return Split(list(kept), *parts, notes)


@dataclass(frozen=True)
class Driving:
    """How drivers are simulated.

    Attributes:
        model: of car-following.
        options: of `Following` but dt.
        dt: longest step [s].
        numbers: of every driver, where they are not fitted.
    """

    model: CarFollowing
    options: Mapping[str, Any]
    dt: float
    numbers: Mapping[str, float]


class DriverWindows:
    """Windows of drivers' motion, as `least_squares.Windows`: states are position and speed."""

    def __init__(
        self,
        stretches: Sequence[Stretch],
        interval: float,
        places: Sequence[Place],
        length: int,
        groups: Sequence[str] | None,
        driving: Driving,
        fit: Sequence[str],
    ) -> None:
        """Lay out the windows.

        Args:
            stretches: of the recording.
            interval: of its samples [s].
            places: of the windows.
            length: intervals of a window.
            groups: drivers, each with numbers of its own; None: one set for all.
            driving: how they are simulated.
            fit: names of the parameters fitted.
        """
        steps = max(1, int(np.ceil(interval / driving.dt - 1e-9)))
        self._steps = steps
        rows = [(stretches[k], slice(first, first + length + 1)) for k, first in places]
        x, speed, rear, leader_speed = (
            np.stack([getattr(stretch, name)[part] for stretch, part in rows])
            for name in ("x", "speed", "rear", "leader_speed")
        )
        # From the window's start on: positions may be far along a road.
        rear, x = rear - x[:, :1], x - x[:, :1]
        self.measured = torch.tensor(np.stack([x, speed], axis=2))
        self.gap = torch.tensor(rear - x)
        names = [stretch.driver for stretch, _ in rows]
        order = {} if groups is None else {driver: k for k, driver in enumerate(groups)}
        self.group = torch.tensor([order.get(name, 0) for name in names])
        self.spread = self._spread(len(order) or 1)
        self._following = Following(
            driving.model,
            torch.tensor(_between(rear, steps)),
            torch.tensor(_between(leader_speed, steps)),
            dt=interval / steps,
            **driving.options,
        )
        self._columns = [driving.model.place(name) for name in fit]
        self._numbers = torch.tensor(
            [driving.numbers[number.name] for number in driving.model.numbers], dtype=torch.float64
        )

    def _spread(self, groups: int) -> torch.Tensor:
        """How much gap and speed vary, of each driver."""
        found = torch.ones(groups, 2, dtype=torch.float64)
        for k in range(groups):
            own = self.group == k
            for i, rows in enumerate((self.gap, self.measured[..., 1])):
                deviation = float(rows[own].std(unbiased=False)) if bool(own.any()) else 0.0
                found[k, i] = deviation if deviation > 0.0 else 1.0
        return found

    def errors(self, values: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """Simulated less measured, (starts, windows, samples, 2)."""
        x, speed = self._simulate(self._driver(values), offset)
        return torch.stack([x, speed], dim=3)[:, :, :: self._steps] - self.measured

    def linearized(
        self, values: torch.Tensor, offset: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The errors and their derivatives in parameters and first states, side by side."""
        driver = self._driver(values)
        x, speed = self._simulate(driver, offset)
        derivatives = self._following.derivatives(x, speed, driver)[:, :, :: self._steps]
        chosen = [*self._columns, driver.shape[2], driver.shape[2] + 1]
        errors = torch.stack([x, speed], dim=3)[:, :, :: self._steps] - self.measured
        return errors, derivatives[..., chosen]

    def _driver(self, values: torch.Tensor) -> torch.Tensor:
        driver = self._numbers.expand(*values.shape[:2], -1).clone()
        driver[:, :, self._columns] = values
        return driver

    def _simulate(
        self, driver: torch.Tensor, offset: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        first = self.measured[:, 0] + offset
        return self._following.simulate(first[..., 0], first[..., 1].clamp(min=0.0), driver)


def _between(samples: np.ndarray, steps: int) -> np.ndarray:
    """A leader's numbers at the start of each step, on straight lines between the samples."""
    share = np.arange(steps) / steps
    before, after = samples[:, :-1, None], samples[:, 1:, None]
    return (before + share * (after - before)).reshape(len(samples), -1)


def driver_parameters(
    model: CarFollowing, numbers: Mapping[str, float], fit: Sequence[str], bounds: Mapping[str, Any]
) -> Bounded:
    """The parameters of a model that are fitted, from `numbers` on, within bounds.

    Raises:
        ArgumentError: a name that is not the model's or named twice, or as `Bounded`.
    """
    known = {number.name: number for number in model.parameters}
    for name in fit:
        if name not in known:
            raise ArgumentError("fit", repr(name), f"any of {[*known]}", near_matches(name, known))
        if fit.count(name) > 1:
            raise ArgumentError("fit", f"{name!r} twice", "each name once")
    items = []
    for name in fit:
        number, default = known[name], np.array(numbers[name])
        items.append(
            Parameter(name, (), number.unit, default, 0.0, np.inf, not number.may_be_zero, ())
        )
    return Bounded(items, bounds, _reach)


def _reach(item: Parameter) -> Interval:
    """A factor of five either way, from nothing up to one."""
    default = item.default.reshape(-1)
    if default[0] > 0.0:
        return 0.2 * default, 5.0 * default
    return np.zeros(1), np.ones(1)


@dataclass(frozen=True)
class Calibrated:
    """What a calibration found.

    Attributes:
        drivers: names; "all" alone where they share their numbers.
        values: (drivers, parameters).
        errors: standard errors, infinite where the motion does not tell.
        losses: of each start, (starts, drivers).
        simulations: of all windows from one start, forward, and backward through every step.
        before: root mean square error of the gap on each driver's held-out windows, started from
            what was measured, with the numbers the fit began with, (drivers,) [m].
        after: the same with the numbers found.
        gaps: simulated on the fitted windows, (windows, samples) [m].
    """

    drivers: list[str]
    values: np.ndarray
    errors: np.ndarray
    losses: np.ndarray
    simulations: tuple[int, int]
    before: np.ndarray
    after: np.ndarray
    gaps: np.ndarray


def calibrate(
    fitted_to: DriverWindows,
    held_out: DriverWindows,
    drivers: Sequence[str],
    bounded: Bounded,
    starts: int,
    iterations: int,
    seed: int,
) -> Calibrated:
    """Fit every driver's numbers.

    Args:
        fitted_to: windows.
        held_out: windows.
        drivers: names of the groups.
        bounded: the parameters.
        starts: sets of them to start from.
        iterations: at most, of each of two runs.
        seed: of the starts.
    """
    found = fit_windows(fitted_to, bounded, starts, iterations, seed)
    default = bounded.values(torch.tensor(bounded.default())).numpy()
    before, after = (
        _judge(held_out, torch.tensor(values), len(drivers))
        for values in (np.broadcast_to(default, found.values.shape).copy(), found.values)
    )
    return Calibrated(
        list(drivers), found.values, found.errors, found.losses, found.simulations,
        before, after, (fitted_to.gap - found.residual[..., 0]).numpy(),
    )  # fmt: skip


def _judge(held_out: DriverWindows, values: torch.Tensor, groups: int) -> np.ndarray:
    """Root mean square error of the gap, (groups,) [m]."""
    none = torch.zeros(1, *held_out.measured[:, 0].shape, dtype=torch.float64)
    errors = held_out.errors(values[None, held_out.group], none)[0, :, :, 0]
    squares = errors.square().mean(dim=1).numpy()
    group = held_out.group.numpy()
    counts = np.bincount(group, minlength=groups)
    return np.sqrt(np.bincount(group, squares, minlength=groups) / counts)
