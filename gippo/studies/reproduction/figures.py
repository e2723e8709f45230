"""The figures of experiments: learning curves, the ladder, alpha, determinant against variance."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gippo.runs.plots import (
    Curve,
    cycle_colours,
    draw_curves,
    save_figure,
    shared_legend,
    smooth,
    spread_if_vanishing,
    tidy,
)
from gippo.studies.reproduction.paper import METHODS, OURS, Experiment, Problem
from gippo.studies.reproduction.runs import Run
from gippo.studies.reproduction.tables import Cell, Cells, ladder_place

_CSV_POINTS = 200
"""Epochs of a curve that its csv keeps, evenly spaced."""


def shortened_text(runs: Sequence[Run]) -> str:
    """What a figure or table of shortened runs must say; empty if none is."""
    cut = {(run.config.num_epochs, run.full_epochs) for run in runs}
    cut = {(done, full) for done, full in cut if done < full}
    if not cut:
        return ""
    return "SHORTENED: " + ", ".join(f"{done} of {full} epochs" for done, full in sorted(cut))


def plot_learning_curves(
    experiment: Experiment, cells: Cells, path: Path, missing: str = ""
) -> None:
    """One panel a problem, one curve a method; what is drawn goes beside it as csv.

    Args:
        experiment: which problems there are.
        cells: what was run.
        path: of the picture.
        missing: what of the experiment was not run; below the panels.
    """
    panels = [p for p in experiment.problems if any(c.problem is p for c in cells.values())]
    figure, axes = _grid(len(panels))
    rows: list[list[object]] = []
    for problem, axis in zip(panels, axes, strict=True):
        own = [cell for cell in cells.values() if cell.problem is problem]
        curves = [curve for curve in map(_curve, own) if curve is not None]
        silent = [METHODS[cell.method] for cell in own if _curve(cell) is None]
        notes = [
            shortened_text([run for cell in own for run in cell.runs]),
            f"no episode ended: {', '.join(silent)}" if silent and curves else "",
        ]
        title = "\n".join([problem.title, *filter(None, notes)])
        if not curves:
            axis.set_title(f"{title}\nno episode has ended")
            continue
        drawn = draw_curves(axis, curves, title)
        for curve in curves:
            part = [row for row in drawn if row[0] == curve.label]
            rows += [[problem.env, *row] for row in part[:: max(1, len(part) // _CSV_POINTS)]]
    figure.suptitle(experiment.title)
    width = round(14 * figure.get_figwidth())  # of small letters
    shared_legend(figure, textwrap.fill(missing, width))
    save_figure(figure, path)
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["env", "method", "runs", "env_steps", "mean_return", "std_return"])
        writer.writerows([*row[:3], *(f"{v:.6g}" for v in row[3:])] for row in rows)  # type: ignore[str-format]


def _curve(cell: Cell) -> Curve | None:
    columns = [run.columns for run in cell.runs if run.epochs_done > 0]
    columns = [c for c in columns if np.isfinite(c["episode_return"]).any()]
    if not columns:
        return None
    return Curve(
        METHODS[cell.method],
        [c["env_steps"] for c in columns],
        [c["episode_return"] for c in columns],
        cycle_colours(len(METHODS))[list(METHODS).index(cell.method)],
    )


def _grid(count: int, width: float = 5.2, height: float = 3.9) -> tuple[Figure, list[Axes]]:
    """Panels in up to two columns, three if there are three of them."""
    columns = 3 if count == 3 else min(count, 2)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.3), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).ravel())
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


_LADDER_ENDS = (-0.1, 1.6)
"""What the ladder's axis shows; scores beyond lie on its ends."""


def plot_ladder(cells: Cells, path: Path) -> None:
    """One line a problem, one mark a method, between the worst (0) and the best (1) of the others.

    gippo_adaptive's mean is the large mark, its runs the small ones. Problems without scores of it
    and of two others are left out.

    Args:
        cells: what was run.
        path: of the picture.
    """
    save_figure(ladder_figure(cells), path)


def ladder_figure(cells: Cells) -> Figure:
    """What `plot_ladder` writes."""
    by_problem: dict[str, dict[str, Cell]] = {}
    for (env, method), cell in cells.items():
        if cell.scores:
            by_problem.setdefault(env, {})[method] = cell
    rows = [row for row in by_problem.values() if OURS in row and len(row) > 2]
    figure = Figure(figsize=(8.0, 1.3 + 0.42 * len(rows)), layout="constrained")
    axis = figure.subplots()
    colours = dict(zip(METHODS, cycle_colours(len(METHODS)), strict=True))
    named: set[str] = set()
    for height, row in enumerate(reversed(rows)):
        others = [cell.mean for method, cell in row.items() if method != OURS]
        ends = row[OURS].problem, min(others), max(others)
        for method, cell in row.items():
            colour, ours = colours[method], method == OURS
            label = "" if method in named else METHODS[method]
            named.add(method)
            axis.plot(
                _on_ladder(cell.mean, *ends), height, "D" if ours else "o", ms=8 if ours else 5,
                color=colour, label=label, clip_on=False,
            )  # fmt: skip
            for score in cell.scores if ours else ():
                axis.plot(_on_ladder(score, *ends), height, "|", ms=10, color=colour, clip_on=False)
    axis.set_yticks(range(len(rows)), [row[OURS].problem.title for row in reversed(rows)])
    axis.set_xlim(*_LADDER_ENDS)
    axis.axvline(1.0, ls="--", lw=1, color="0.4")
    axis.set_xlabel("score: 0 the worst, 1 the best of the other methods (functions: logarithms)")
    tidy(axis)
    shared_legend(figure)
    return figure


def _on_ladder(score: float, problem: Problem, worst: float, best: float) -> float:
    return float(np.clip(ladder_place(problem, score, worst, best), *_LADDER_ENDS))


TRACES = (
    ("alpha", "alpha", "log"),
    ("episode_return", "episode return", "linear"),
    ("bias", "expected gain, R", "symlog"),
    ("det", "determinant ratio", "linear"),
    ("out_of_range_ratio", "out-of-range ratio", "linear"),
)
"""Rows of `plot_alpha_traces`: a metric, its name, the axis."""


def plot_alpha_traces(groups: Sequence[tuple[str, Sequence[Run]]], title: str, path: Path) -> None:
    """One column a group of runs that differ in their seed: alpha and what it is judged by.

    Thin lines are epochs, thick ones their mean over 25; dashed lines are the criteria's bounds.
    """
    size = (5.0 * len(groups), 2.5 * len(TRACES) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = np.asarray(figure.subplots(len(TRACES), len(groups), sharex="col", squeeze=False))
    for column, (name, runs) in enumerate(groups):
        note = shortened_text(runs)
        axes[0, column].set_title(f"{name}\n{note}" if note else name)
        for row, (metric, label, scale) in enumerate(TRACES):
            _trace(axes[row, column], metric, scale, [run for run in runs if run.epochs_done])
            axes[row, column].set_ylabel(label)
            tidy(axes[row, column])
        _bounds(list(axes[:, column]), runs[0])
        axes[-1, column].set_xlabel("epoch")
    figure.suptitle(title)
    save_figure(figure, path)


def _trace(axis: Axes, metric: str, scale: str, runs: Sequence[Run]) -> None:
    for run, colour in zip(runs, cycle_colours(len(runs)), strict=True):
        columns = run.columns
        epoch = columns["epoch"]
        if metric == "det":
            low, high = columns["det_min"], columns["det_max"]
            axis.fill_between(epoch, low, high, color=colour, alpha=0.2, lw=0)
            axis.plot(epoch, smooth(columns["det_mean"]), color=colour, label=f"seed {run.seed}")
            axis.set_ylim(0.0, 2.5)
            continue
        axis.plot(epoch, columns[metric], color=colour, alpha=0.3, lw=0.6)
        axis.plot(epoch, smooth(columns[metric]), color=colour, label=f"seed {run.seed}")
    if scale == "symlog":
        values = np.concatenate([run.columns[metric] for run in runs])
        size = np.abs(values[np.isfinite(values) & (values != 0.0)])
        axis.set_yscale("symlog", linthresh=float(np.median(size)) if size.size else 1.0)
    elif scale == "log":
        axis.set_yscale("log")
    if metric == "episode_return" and runs:
        spread_if_vanishing(axis, np.concatenate([run.columns[metric] for run in runs]))
    if metric == "alpha":
        axis.legend(frameon=False)


def _bounds(axes: Sequence[Axes], run: Run) -> None:
    alpha = run.config.algo.alpha
    heights = {"det": (1 - alpha.delta_det, 1 + alpha.delta_det), "bias": (0.0,)}
    heights["out_of_range_ratio"] = (alpha.delta_oorr,)
    for axis, (metric, _, _) in zip(axes, TRACES, strict=True):
        for height in heights.get(metric, ()):
            axis.axhline(height, ls="--", lw=1, color="0.4")


def plot_variance(groups: Sequence[tuple[str, Sequence[Run]]], title: str, path: Path) -> None:
    """Sample variance of dA/da above the determinant's range, one column a problem (Figure 5)."""
    figure = Figure(figsize=(4.6 * len(groups), 6.2), layout="constrained")
    axes = np.asarray(figure.subplots(2, len(groups), sharex="col", squeeze=False))
    for column, (name, runs) in enumerate(groups):
        upper, lower = axes[:, column]
        note = shortened_text(runs)
        upper.set_title(f"{name}\n{note}" if note else name)
        for run, colour in zip(runs, cycle_colours(len(runs)), strict=True):
            if not run.epochs_done:
                continue
            columns = run.columns
            epoch = columns["epoch"]
            upper.plot(epoch, columns["gradient_variance"], color=colour, lw=0.8)
            for metric in ("det_min", "det_max"):
                lower.plot(epoch, columns[metric], color=colour, lw=0.6, alpha=0.7)
            lower.plot(epoch, columns["det_mean"], color=colour, label=f"seed {run.seed}")
        upper.set_yscale("log")
        upper.set_ylabel("variance of dA/da (trace)")
        lower.set_ylabel("determinant: least, mean, greatest")
        lower.set_xlabel("epoch")
        lower.legend(frameon=False)
        tidy(upper)
        tidy(lower)
    figure.suptitle(title)
    save_figure(figure, path)


def variance_correlation(run: Run) -> float:
    """Spearman's rank correlation over epochs of the variance with the determinant's range."""
    columns = run.columns
    deviation = np.maximum(columns["det_max"] - 1.0, 1.0 - columns["det_min"])
    known = np.isfinite(columns["gradient_variance"]) & np.isfinite(deviation)
    if known.sum() < 3:
        return math.nan
    ranks = [
        np.argsort(np.argsort(v[known])).astype(float)
        for v in (columns["gradient_variance"], deviation)
    ]
    return float(np.corrcoef(ranks)[0, 1])
