"""`gippo identify env=traffic`: trajectories and drivers brought together, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from gippo.studies.calibration import (
    Calibrated,
    DriverWindows,
    Driving,
    Split,
    calibrate,
    driver_parameters,
    split_windows,
)
from gippo.studies.least_squares import Bounded
from gippo.studies.trajectories import Stretch, read_trajectories, stretches
from warp_envs.checks import ArgumentError, check_choice, check_positive, near_matches
from warp_envs.traffic.models import default_numbers, find_model
from warp_envs.traffic.simulator import DRIVING, INTEGRATORS

if TYPE_CHECKING:
    from rich.console import Console

_WINDOW = 20.0
"""Length of a window [s] where none is given."""
_BATCH = 500_000
"""Steps, of all starts, that are linearised at once: about 1 kB each."""
_OPTIONS = {"driving": "plain", "integrator": "euler", "planning_step": None}
"""Of `Following`, by default those of `TrafficSim`."""
_MOST_ROWS, _MOST_PANELS = 40, 6


def calibrate_drivers(
    settings: Any,
    options: Mapping[str, Any],
    seed: int,
    out: Path,
    picture: Path,
    console: Console,
) -> None:
    """Fit, print the table, write the drivers' numbers and the picture.

    Args:
        settings: the keys of `gippo identify`.
        options: of the traffic: model, driving, integrator, planning_step, dt and numbers of a
            driver by name.
        seed: of the starts.
        out: the drivers' numbers, see `warp_envs.traffic.read_drivers`.
        picture: gaps that were measured and simulated.
        console: where to tell.
    """
    driving = _driving(options)
    bounded = driver_parameters(driving.model, driving.numbers, settings.fit, settings.bounds or {})
    found, interval, notes = stretches(
        read_trajectories(Path(str(settings.data))), driving.numbers["length"]
    )
    _note(notes, console)
    length = max(1, round(_WINDOW / interval)) if settings.window is None else settings.window
    split = split_windows(found, length, settings.held_out)
    _note(split.notes, console)
    calibrated = _calibrate_all(found, interval, length, split, driving, bounded, settings, seed)
    _tell(calibrated, bounded, console)
    _write(calibrated, driving, bounded, out)
    _draw(found, interval, length, split, calibrated, picture)
    for name, path in (("drivers", out), ("picture", picture)):
        console.print(f"{name}: {path}", soft_wrap=True, markup=False)


def _driving(options: Mapping[str, Any]) -> Driving:
    model = find_model(options.get("model", "idm"))
    numbers = default_numbers(model)
    known = ["model", "dt", *_OPTIONS, *numbers]
    for name in options:
        if name not in known:
            hint = near_matches(name, known)
            raise ArgumentError("env", repr(name), f"any of {known}", hint)
    for number in model.numbers:
        value = options.get(number.name, number.default)
        least = 0.0 if number.may_be_zero else np.nextafter(0.0, 1.0)
        most = np.inf if number.may_be_infinite else np.finfo(float).max
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ArgumentError(f"env.{number.name}", repr(value), "a number")
        if not least <= value <= most:
            accepted = f"a number {'>=' if number.may_be_zero else '>'} 0"
            raise ArgumentError(f"env.{number.name}", repr(value), accepted)
        numbers[number.name] = float(value)
    step = options.get("dt", 0.1)
    check_positive("env.dt", step)
    check_choice("env.driving", options.get("driving", "plain"), DRIVING)
    check_choice("env.integrator", options.get("integrator", "euler"), INTEGRATORS)
    chosen = {name: options.get(name, default) for name, default in _OPTIONS.items()}
    return Driving(model, chosen, float(step), numbers)


def _calibrate_all(
    found: Sequence[Stretch],
    interval: float,
    length: int,
    split: Split,
    driving: Driving,
    bounded: Bounded,
    settings: Any,
    seed: int,
) -> Calibrated:
    """All drivers, as many at once as memory has room for."""

    def fit(part: Split) -> Calibrated:
        groups = None if settings.shared else part.drivers
        fitted_to, held_out = (
            DriverWindows(found, interval, places, length, groups, driving, settings.fit)
            for places in (part.fitted, part.held_out)
        )
        names = groups or ["all"]
        rest = settings.starts, settings.iterations, seed
        return calibrate(fitted_to, held_out, names, bounded, *rest)

    if settings.shared:
        return fit(split)
    steps = length * max(1, int(np.ceil(interval / driving.dt - 1e-9))) * settings.starts
    return _joined([fit(part) for part in _parts(found, split, _BATCH // steps)])


def _parts(found: Sequence[Stretch], split: Split, most: int) -> list[Split]:
    """The drivers in parts of at most so many windows, one driver at least."""
    by_driver = {name: ([], []) for name in split.drivers}
    for which, places in enumerate((split.fitted, split.held_out)):
        for place in places:
            by_driver[found[place.stretch].driver][which].append(place)
    parts: list[Split] = []
    for name, (fitted, held_out) in by_driver.items():
        last = parts[-1] if parts else None
        if last is None or len(last.fitted) + len(fitted) > most:
            parts.append(Split([name], fitted, held_out, []))
        else:
            parts[-1] = Split(
                [*last.drivers, name], last.fitted + fitted, last.held_out + held_out, []
            )
    return parts


def _joined(parts: Sequence[Calibrated]) -> Calibrated:
    """One result of many, with the simulations of the part that took most."""
    along = {"losses": 1}
    joined = {
        field.name: np.concatenate(
            [getattr(part, field.name) for part in parts], axis=along.get(field.name, 0)
        )
        for field in fields(Calibrated)
        if field.name not in ("drivers", "simulations")
    }
    return replace(
        parts[0],
        drivers=[name for part in parts for name in part.drivers],
        simulations=max(part.simulations for part in parts),
        **joined,
    )


def _note(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)


def _tell(found: Calibrated, bounded: Bounded, console: Console) -> None:
    heads = [f"{item.name} [{item.unit}]" for item in bounded.items]
    table = Table("driver", *heads, "gap's error [m]")
    table.columns[0].no_wrap = True
    for k, name in enumerate(found.drivers[:_MOST_ROWS]):
        cells = [
            _cell(*numbers)
            for numbers in zip(
                found.values[k], found.errors[k], bounded.low, bounded.high, strict=True
            )
        ]
        table.add_row(name, *cells, f"{found.after[k]:.3g}")
    console.print(table)
    more = len(found.drivers) - _MOST_ROWS
    if more > 0:
        console.print(f"and {more} more; all are in the file")
    told = np.isfinite(found.errors)
    for i, item in enumerate(bounded.items if len(found.drivers) > 1 else []):
        low, middle, high = np.quantile(found.values[:, i], [0.25, 0.5, 0.75])
        line = f"{item.name}: median {middle:.4g}, half of the drivers from {low:.4g} to {high:.4g}"
        untold = int(np.sum(~told[:, i]))
        line += f"; of {untold} the motion does not tell" if untold else ""
        console.print(line, soft_wrap=True, markup=False)
    agree = np.mean(found.losses <= 1.001 * np.nanmin(found.losses, axis=0) + 1e-12)
    forward, backward = found.simulations
    lines = (
        f"held-out windows: the gap is off by {np.median(found.before):.4g} m (median of the "
        f"drivers) with the numbers begun with, {np.median(found.after):.4g} m with those found",
        f"{100.0 * agree:.0f} % of the starts found what the best did; {forward} simulations of "
        f"each window, {backward} passes backward through their steps",
    )
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    worse = int(np.sum(found.after > found.before + 1e-3))  # by more than a millimetre
    if worse:
        console.print(
            f"warning: of {worse} of {len(found.drivers)} drivers the held-out gap is further off "
            "than with the numbers begun with: the model or the data does not fit them",
            soft_wrap=True,
            markup=False,
        )


def _cell(value: float, error: float, low: float, high: float) -> str:
    edge = 1e-6 * (high - low)
    remark = ", at its bound" if value - low <= edge or high - value <= edge else ""
    told = f"± {error:.2g}" if np.isfinite(error) else "not told"
    return f"{value:.4g} {told}{remark}"


def _write(found: Calibrated, driving: Driving, bounded: Bounded, out: Path) -> None:
    """All numbers of every driver, those not fitted as well, and the standard errors."""
    names = [item.name for item in bounded.items]
    count = len(found.drivers)
    values = {
        number.name: [float(driving.numbers[number.name])] * count
        for number in driving.model.numbers
    }
    values |= {name: found.values[:, i].tolist() for i, name in enumerate(names)}
    errors = {name: found.errors[:, i].tolist() for i, name in enumerate(names)}
    told = {
        "model": driving.model.name,
        **{name: value for name, value in driving.options.items() if value is not None},
        "dt": driving.dt,
        "drivers": found.drivers,
        "parameters": values,
        "standard_errors": errors,
    }
    out.write_text(yaml.safe_dump(told, sort_keys=False, default_flow_style=None), "utf-8")


def _draw(
    found: Sequence[Stretch],
    interval: float,
    length: int,
    split: Split,
    calibrated: Calibrated,
    path: Path,
) -> None:
    """Measured and simulated gaps over time, of the first drivers."""
    drivers = split.drivers[:_MOST_PANELS]
    figure = Figure(figsize=(9.0, 1.2 + 1.5 * len(drivers)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(drivers), 1, squeeze=False).ravel()
    for driver, axes in zip(drivers, panels, strict=True):
        for stretch in (s for s in found if s.driver == driver):
            time = stretch.start + interval * np.arange(len(stretch.x))
            axes.plot(time, stretch.rear - stretch.x, ".", color="0.6", markersize=3)
        own = [
            (place, gap)
            for place, gap in zip(split.fitted, calibrated.gaps, strict=True)
            if found[place.stretch].driver == driver
        ]
        for place, gap in own:
            start = found[place.stretch].start + interval * place.sample
            time = start + interval * np.arange(length + 1)
            axes.plot(time, gap, color="#0072B2", linewidth=1.2)
        for place in split.held_out:
            if found[place.stretch].driver == driver:
                start = found[place.stretch].start + interval * place.sample
                axes.axvspan(start, start + interval * length, color="0.93", zorder=0)
        axes.set_ylabel(f"{driver}\ngap [m]")
    panels[0].set_title(
        "grey: measured; blue: simulated, window by window; shaded: held out", fontsize="medium"
    )
    panels[-1].set_xlabel("time [s]")
    figure.align_ylabels(panels)
    figure.savefig(path, dpi=150)
