"""Pictures of runs: one run's curve.png, and learning curves of several compared."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, NullFormatter

from gippo.files import write_whole

Columns = Mapping[str, np.ndarray]

# Okabe and Ito's colours, told apart by colour-blind readers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SMOOTHING = 25
_FEWEST_FOR_INTERVAL = 4
"""Runs; Student's t of fewer makes an interval that says more of t than of them."""


@dataclass(frozen=True)
class Limits:
    """What GI-PPO compares with to raise or lower alpha, drawn as dashed lines."""

    delta_det: float
    delta_oorr: float


@dataclass(frozen=True)
class Curve:
    """The runs of one setting: for each, its epochs' environment steps and returns."""

    label: str
    env_steps: list[np.ndarray]
    returns: list[np.ndarray]
    colour: str | None = None
    """None: the next of the usual ones."""


def plot_run(columns: Columns, path: Path, title: str, limits: Limits | None = None) -> None:
    """Draw a run's return and, for GI-PPO, alpha, determinant range and out-of-range ratio.

    Args:
        columns: name -> (epochs,), as `gippo.runs.metrics.read_metrics` gives them.
        path: of the PNG.
        title: what was run.
        limits: of GI-PPO's alpha control; None for other methods.
    """
    informed = limits is not None and "alpha" in columns
    figure = Figure(figsize=(11, 6.6) if informed else (7.5, 4.2), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True).ravel() if informed else [figure.subplots()]
    epoch = columns["epoch"]
    _draw_return(axes[0], columns)
    if informed and limits is not None:
        _draw_alpha(axes[1], epoch, columns["alpha"])
        _draw_determinant(axes[2], columns, limits)
        _draw_out_of_range(axes[3], columns, limits)
    for axis in axes[-2:]:
        axis.set_xlabel("epoch")
    for axis in axes:
        tidy(axis)
        axis.set_xlim(0, max(float(epoch[-1]), 1.0))
    figure.suptitle(title)
    save_figure(figure, path)


def plot_comparison(panels: Mapping[str, Sequence[Curve]], path: Path) -> None:
    """Draw learning curves, a panel for each environment, and write them beside it as csv.

    Args:
        panels: the environment's name -> its curves.
        path: of the picture; the csv gets its name.
    """
    columns = min(len(panels), 3)
    num_rows = math.ceil(len(panels) / columns)
    size = (8.0, 4.8) if len(panels) == 1 else (5.2 * columns, 4.0 * num_rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(num_rows, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.remove()
    rows: list[list[Any]] = []
    labels = list(dict.fromkeys(curve.label for curves in panels.values() for curve in curves))
    colours = dict(zip(labels, cycle_colours(len(labels)), strict=True))
    for axis, (env, curves) in zip(axes, panels.items(), strict=False):
        coloured = [replace(c, colour=c.colour or colours[c.label]) for c in curves]
        for label, runs, steps, mean, spread in draw_curves(axis, coloured, env):
            rows.append([env, label, runs, steps, mean, spread, half_width(spread, runs)])
    shared_legend(figure)
    save_figure(figure, path)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(
        ["env", "label", "runs", "env_steps", "mean_return", "std_return", "ci95_return"]
    )
    writer.writerows(rows)
    write_whole(path.with_suffix(".csv"), table.getvalue().encode())


def draw_curves(axis: Axes, curves: Sequence[Curve], title: str = "") -> list[list[Any]]:
    """Draw the mean return over runs against environment steps.

    The band is the mean's 95 % confidence interval, by Student's t over four runs or more. Of
    fewer, and where returns approach zero on a logarithmic axis, on which such an interval has no
    place, it spans the runs. The axis is made for the runs: a wider band is cut off at its ends.

    Returns:
        What is drawn: label, runs, environment steps, mean and standard deviation.
    """
    rows: list[list[Any]] = []
    at_steps = [_at_common_steps(curve) for curve in curves]
    logarithmic = spread_if_vanishing(axis, np.concatenate([r.mean(axis=0) for _, r in at_steps]))
    if not logarithmic:
        _fit_to(axis, np.concatenate([r.ravel() for _, r in at_steps]))
    colours = cycle_colours(len(curves))
    for curve, colour, (steps, returns) in zip(curves, colours, at_steps, strict=True):
        mean, spread = returns.mean(axis=0), returns.std(axis=0)
        count = len(returns)
        colour = curve.colour or colour
        seeds = "" if count == 1 else f" ({count} runs)"
        axis.plot(steps, mean, color=colour, label=f"{curve.label}{seeds}")
        if count > 1:
            width = half_width(spread, count)
            span = (returns.min(axis=0), returns.max(axis=0))
            spans = logarithmic or count < _FEWEST_FOR_INTERVAL
            band = span if spans else (mean - width, mean + width)
            axis.fill_between(steps, *band, color=colour, alpha=0.18, lw=0)
        rows += [[curve.label, count, *row] for row in zip(steps, mean, spread, strict=True)]
    axis.set_title(title)
    axis.set_xlabel("environment steps")
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set_ylabel("episode return (mean of the last 100)")
    tidy(axis)
    axis.set_xlim(left=0)
    return rows


def _fit_to(axis: Axes, values: np.ndarray) -> None:
    """Have the axis show all `values`, with a margin, and nothing beyond."""
    known = values[np.isfinite(values)]
    if known.size and np.ptp(known) > 0.0:
        margin = 0.05 * float(np.ptp(known))
        axis.set_ylim(float(known.min()) - margin, float(known.max()) + margin)


def shared_legend(figure: Figure, note: str = "") -> None:
    """Name the curves of all panels once, below them and a note."""
    by_label = {
        label: handle
        for axis in figure.axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    columns = max(1, int(figure.get_figwidth() / 1.8))
    figure.legend(
        list(by_label.values()),
        list(by_label),
        loc="outside lower center",
        ncols=min(columns, max(1, len(by_label))),
        title=note,
        title_fontsize="small",
        frameon=False,
    )


def half_width(spread: Any, count: int) -> Any:
    """Half the 95 % confidence interval of a mean of `count` values; NaN of a single one.

    Args:
        spread: their standard deviation, the root of the mean squared deviation.
        count: how many.
    """
    if count < 2:
        return spread * math.nan
    return student_quantile(count - 1) * spread / math.sqrt(count - 1)


@cache
def student_quantile(degrees: int, level: float = 0.95) -> float:
    """The t with P(|T| < t) = `level` for Student's T of so many degrees of freedom.

    With T = sqrt(degrees) tan(x) the density of x is proportional to cos(x)^(degrees - 1) on
    (-pi/2, pi/2), which the trapezoidal rule integrates.
    """
    x = np.linspace(0.0, 0.5 * np.pi, 20_001)
    density = np.cos(x) ** (degrees - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(math.sqrt(degrees) * np.tan(np.interp(level, below / below[-1], x)))


def smooth(values: np.ndarray, window: int = _SMOOTHING) -> np.ndarray:
    """The mean over `window` values about each, fewer at the ends; NaN ones are left out."""
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    i = np.arange(len(values))
    reach = np.minimum(window // 2, np.minimum(i, len(values) - 1 - i))
    low, high = i - reach, i + reach + 1
    counts = count[high] - count[low]
    return np.divide(
        total[high] - total[low], counts, out=np.full(len(values), np.nan), where=counts > 0
    )


def _draw_return(axis: Axes, columns: Columns) -> None:
    epoch, value = columns["epoch"], columns["episode_return"]
    axis.plot(
        epoch, value, color=_COLOURS[0], alpha=0.35, lw=0.8, label="mean of the last 100 episodes"
    )
    smoothed = np.where(np.isfinite(value), smooth(value), np.nan)
    axis.plot(epoch, smoothed, color=_COLOURS[0], label=f"smoothed over {_SMOOTHING} epochs")
    evaluated = columns.get("evaluation_return")
    if evaluated is not None:
        known = np.isfinite(evaluated)
        style = {"color": _COLOURS[1], "marker": ".", "lw": 1.0}
        axis.plot(epoch[known], evaluated[known], label="evaluated, without exploration", **style)
        value = np.concatenate([value, evaluated[known]])
    axis.set_ylabel("episode return")
    if not np.isfinite(value).any():
        axis.set_yticks([])
        told = "no episode has ended yet"
        axis.text(0.5, 0.5, told, transform=axis.transAxes, ha="center", va="center")
        return
    spread_if_vanishing(axis, value)
    axis.legend(frameon=False, loc="best")


def spread_if_vanishing(axis: Axes, values: np.ndarray) -> bool:
    """Give returns that approach zero from below a logarithmic axis, upwards still better.

    Returns:
        Whether they do.
    """
    known = values[np.isfinite(values)]
    if not known.size or known.max() >= 0.0 or known.min() >= 1e3 * known.max():
        return False
    axis.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(-known.max())))
    axis.set_ylim(1.5 * float(known.min()), 0.0)
    return True


def _draw_alpha(axis: Axes, epoch: np.ndarray, alpha: np.ndarray) -> None:
    axis.plot(epoch, alpha, color=_COLOURS[1])
    axis.set_yscale("log")
    plain = FuncFormatter(lambda value, position: f"{value:g}")
    axis.yaxis.set_major_formatter(plain)
    within_a_decade = np.nanmax(alpha) < 10.0 * np.nanmin(alpha)
    axis.yaxis.set_minor_formatter(plain if within_a_decade else NullFormatter())
    axis.set_ylabel("alpha")


def _draw_determinant(axis: Axes, columns: Columns, limits: Limits) -> None:
    epoch = columns["epoch"]
    low, high = columns["det_min"], columns["det_max"]
    axis.fill_between(epoch, low, high, color=_COLOURS[2], alpha=0.25, lw=0, label="min to max")
    axis.plot(epoch, smooth(low), color=_COLOURS[2], lw=1)
    axis.plot(epoch, smooth(high), color=_COLOURS[2], lw=1, label="smoothed")
    for bound in (1 - limits.delta_det, 1 + limits.delta_det):
        axis.axhline(bound, ls="--", lw=1, color="0.4")
    top = np.nanpercentile(high, 98) if np.isfinite(high).any() else 2.0
    axis.set_ylim(0, max(1.2 * (1 + limits.delta_det), 1.1 * float(top)))
    axis.set_ylabel("determinant ratio")
    axis.legend(frameon=False, loc="best")


def _draw_out_of_range(axis: Axes, columns: Columns, limits: Limits) -> None:
    epoch, ratio = columns["epoch"], columns["out_of_range_ratio"]
    axis.plot(epoch, ratio, color=_COLOURS[3], alpha=0.35, lw=0.8)
    axis.plot(epoch, smooth(ratio), color=_COLOURS[3], label="smoothed")
    axis.axhline(limits.delta_oorr, ls="--", lw=1, color="0.4", label="limit")
    axis.set_ylim(0, 1)
    axis.set_ylabel("out-of-range ratio")
    axis.legend(frameon=False, loc="best")


def _at_common_steps(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Steps common to all runs (n,), and each run's return there, (runs, n)."""
    last = min(steps[-1] for steps in curve.env_steps)
    longest = curve.env_steps[0]
    steps = longest[longest <= last]
    at_steps = np.full((len(curve.returns), len(steps)), np.nan)
    for row, own_steps, own in zip(at_steps, curve.env_steps, curve.returns, strict=True):
        known = np.isfinite(own)
        if known.any():  # an episode has ended
            row[:] = np.interp(steps, own_steps[known], own[known], left=np.nan)
    return steps, at_steps


def cycle_colours(count: int) -> list[str]:
    """Colours told apart by colour-blind readers, from the start again when they run out."""
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def tidy(axis: Axes) -> None:
    """Two spines and a light grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, lw=0.6)


def save_figure(figure: Figure, path: Path) -> None:
    """Write the picture in one step, so that no half of one is ever there."""
    FigureCanvasAgg(figure)
    picture = io.BytesIO()
    figure.set_dpi(150)
    layout = figure.get_layout_engine()
    if layout is not None:  # once; savefig would twice, and draw everything for that
        layout.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(picture, format=path.suffix.lstrip(".") or "png", dpi=150)
    write_whole(path, picture.getvalue())
