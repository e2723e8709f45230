"""`gippo identify`: the recording and the robot brought together, and what was found told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from gippo.errors import UserError
from gippo.studies.identification import (
    Fitted,
    Identified,
    Shooting,
    bounded_parameters,
    identify,
)
from gippo.studies.recorded_rates import check_rates
from gippo.studies.recordings import Recording, read_recording
from warp_envs.checks import ArgumentError
from warp_envs.registry import make
from warp_envs.robots.base import ArticulatedEnv

if TYPE_CHECKING:
    from rich.console import Console

_MOST_PANELS = 12
_MISSED = 0.03
"""Error of positions by how much they vary: as much noise as sensors of joints hardly have."""


def identify_robot(
    settings: Any,
    options: Mapping[str, Any],
    seed: int,
    out: Path,
    picture: Path,
    console: Console,
) -> None:
    """Fit, print the table, write the layer and the picture.

    Args:
        settings: the keys of `gippo identify`.
        options: of the environment.
        seed: of the starts.
        out: the layer.
        picture: what was measured and simulated.
        console: where to tell.
    """
    options = {**options, "parameters": settings.fit, "max_speed": None}
    for name, nothing in (("randomize", None), ("action_delay", 0), ("observation_noise", 0.0)):
        options[name] = nothing
    try:
        path, robot = Path(str(settings.data)), _robot(options, 1)
    except ArgumentError as error:
        raise error.renamed("fit") if error.key == "parameters" else error from None
    recording = read_recording(path, recorded_columns(robot))
    check_rates(recording, robot.articulation.description.bodies, f"data: {path}")
    steps = max(1, math.ceil(recording.interval / float(options["control_step"]) - 1e-9))
    options["control_step"] = recording.interval / steps
    first = recording.windows(settings.window)
    held = max(1, round(settings.held_out * len(first)))
    if len(first) - held < 1:
        given = (
            f"{len(first)} of {settings.window} intervals in {recording.joint_q.shape[0]} samples"
        )
        raise UserError(f"window: {given}; two windows at least are accepted")
    parts = (first[:-held], settings.starts), (first[-held:], 1)
    fitted_to, held_out = (
        Shooting(
            _robot(options, len(rows) * starts), recording, rows, settings.window, steps, starts
        )
        for rows, starts in parts
    )
    bounded = bounded_parameters(fitted_to.env, settings.bounds or {})
    found = identify(fitted_to, held_out, bounded, settings.iterations, seed)
    _tell(found, console)
    notes = off_the_recording(fitted_to, recorded_columns(robot)["joint_q"], found)
    for note in [*notes, *write_layer(fitted_to.env, found.fitted, out)]:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    _draw(fitted_to.env, recording, first[:-held], found, picture)
    for name, path in (("robot", out), ("picture", picture)):
        console.print(f"{name}: {path}", soft_wrap=True, markup=False)


def _robot(options: Mapping[str, Any], num_envs: int) -> ArticulatedEnv:
    env = make("robot", num_envs=num_envs, dtype=torch.float64, **options)
    assert isinstance(env, ArticulatedEnv)
    return env


def recorded_columns(env: ArticulatedEnv) -> dict[str, list[str]]:
    """The columns of a recording in a .csv file, in the order of the arrays."""
    names: dict[str, list[str]] = {"joint_q": [], "joint_qd": [], "action": []}
    for body in env.articulation.description.bodies:
        joint = body.joint
        for part, suffix, count in (("joint_q", "q", joint.nq), ("joint_qd", "qd", joint.nv)):
            numbers = [""] if count == 1 else [str(k) for k in range(count)]
            names[part] += [f"{joint.name}.{suffix}{number}" for number in numbers]
    names["action"] = [f"{name}.action" for name in env.driven_joints]
    return names


def write_layer(env: ArticulatedEnv, fitted: list[Fitted], out: Path) -> list[str]:
    """Write what was found over the robot's file; what a layer cannot say comes back."""
    from warp_envs.usd.identified import write_identified

    columns = env.articulation.columns
    env.set_parameters({item.name: item.value for item in fitted})
    (rows,) = env.varying.given()
    numbers = rows[0].detach().numpy()
    driven = env.driven_bodies
    values = {
        (quantity, driven[index] if quantity == "gear" else index): numbers[where]
        for quantity, index, where in columns
    }
    return write_identified(env.asset_path, out, values)


def _tell(found: Identified, console: Console) -> None:
    table = Table("parameter", "unit", "file", "found", "standard error", "")
    table.columns[0].overflow = "fold"
    for item in found.fitted:
        flat = (x.reshape(-1) for x in (item.default, item.value, item.error, item.low, item.high))
        for k, (default, value, error, low, high) in enumerate(zip(*flat, strict=True)):
            name = item.name if item.value.size == 1 else f"{item.name}[{k}]"
            edge = 1e-6 * (high - low)
            remark = "at its bound" if value - low <= edge or high - value <= edge else ""
            if not np.isfinite(error):
                remark = "this motion does not tell"
            table.add_row(name, item.unit, f"{default:.5g}", f"{value:.5g}", f"{error:.2g}", remark)
    console.print(table)
    agree = int(np.sum(found.losses <= 1.001 * np.nanmin(found.losses) + 1e-12))
    forward, backward = found.simulations
    lines = (
        f"held-out windows: error {found.before:.4g} of what was measured varies with the file's "
        f"numbers, {found.after:.4g} with those found",
        f"{agree} of {len(found.losses)} starts found this; {forward} simulations of the windows, "
        f"{backward} passes backward through their steps",
    )
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def off_the_recording(shooting: Shooting, names: list[str], found: Identified) -> list[str]:
    """A note on the coordinates whose motion is not the recorded one with the best numbers."""
    count = shooting.num_positions
    errors = found.simulated - shooting.measured[..., :count].numpy()
    share = np.sqrt(np.square(errors).mean(axis=(0, 1))) / shooting.spread[0, :count].numpy()
    pairs = zip(names, share, strict=True)
    far = [f"{name} by {x:.2g} of what it varies" for name, x in pairs if x > _MISSED]
    if not far:
        return []
    return [
        f"with the best numbers, too, the motion is off the recording: {', '.join(far)}; something "
        "moves the robot that is not in its file (contact, play, another robot), or the recording "
        "is noisy; standard errors are those of noise alone"
    ]


def _draw(
    env: ArticulatedEnv, recording: Recording, first: np.ndarray, found: Identified, path: Path
) -> None:
    """Measured and simulated coordinates over time."""
    names = recorded_columns(env)["joint_q"][:_MOST_PANELS]
    figure = Figure(figsize=(9.0, 1.2 + 1.6 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False).ravel()
    length = found.simulated.shape[1]
    time = recording.interval * np.arange(len(recording.joint_q))
    for k, (name, axes) in enumerate(zip(names, panels, strict=True)):
        axes.plot(time, recording.joint_q[:, k], ".", color="0.6", markersize=3, label="measured")
        for row, start in zip(found.simulated, first, strict=True):
            label = "simulated, window by window" if start == first[0] else None
            at = time[start : start + length]
            axes.plot(at, row[:, k], color="#0072B2", linewidth=1.2, label=label)
        axes.set_ylabel(name)
        axes.axvspan(time[first[-1] + length - 1], time[-1], color="0.93", zorder=0)
    panels[0].legend(loc="best", frameon=False, ncols=2, markerscale=3)
    panels[-1].set_xlabel("time [s]; shaded: held out")
    figure.savefig(path, dpi=150)
