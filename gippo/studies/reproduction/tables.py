"""Scores beside the paper's: cells, verdicts, rankings, and their files."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from gippo.studies.reproduction.paper import METHODS, OURS, Experiment, Problem
from gippo.studies.reproduction.runs import Run

NEAR = 0.05
"""A mean this little short of the paper's, as a part of it, still counts as near."""
VERDICTS = {
    "reached": "the mean is the paper's or better",
    "near": f"the mean is short by at most one standard deviation or {NEAR:.0%}",
    "short": "the mean is worse than that",
    "no paper value": "the paper has no such number",
    "shortened": "fewer epochs than the paper's, not comparable",
    "missing": "no run has a score",
}


@dataclass(frozen=True)
class Cell:
    """One method on one problem."""

    problem: Problem
    method: str
    runs: tuple[Run, ...]
    scores: tuple[float, ...]
    """Of runs in which an episode ended."""
    shortened: bool

    @property
    def mean(self) -> float:
        """Over seeds; NaN without scores."""
        return float(np.mean(self.scores)) if self.scores else math.nan

    @property
    def std(self) -> float:
        """Sample standard deviation over seeds; NaN for fewer than two."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else math.nan

    @property
    def paper(self) -> float | None:
        """The paper's mean."""
        return self.problem.paper.get(self.method)

    @property
    def ratio(self) -> float | None:
        """Ours over the paper's; below 1 is better for negative scores, above for positive."""
        return None if self.paper is None or not self.scores else self.mean / self.paper

    @property
    def failures(self) -> int:
        """Runs given up."""
        return sum(run.failure is not None for run in self.runs)

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        if not self.scores:
            return "missing"
        if self.shortened:
            return "shortened"
        if self.paper is None:
            return "no paper value"
        gap = self.paper - self.mean
        if gap <= 0.0:
            return "reached"
        spread = 0.0 if math.isnan(self.std) else self.std
        return "near" if gap <= max(spread, NEAR * abs(self.paper)) else "short"


def make_cell(problem: Problem, method: str, runs: Sequence[Run]) -> Cell:
    """Score the runs of a method on a problem, whatever their seeds."""
    scores = tuple(score for score in (run.score for run in runs) if not math.isnan(score))
    shortened = any(run.config.num_epochs < run.full_epochs for run in runs)
    return Cell(problem, method, tuple(runs), scores, shortened)


Cells = Mapping[tuple[str, str], Cell]
"""By environment and method."""


def score_text(value: float, digits: int = 4) -> str:
    """Significant digits, with an exponent where that is short; "-" for none."""
    if math.isnan(value):
        return "-"
    small = 0.0 < abs(value) < 1e-3
    text = f"{value:.{digits - 2}e}" if small else f"{value:.{digits}g}"
    return text.replace("e-0", "e-").replace("e+0", "e")


def cell_rows(cells: Cells) -> list[list[str]]:
    """One row a cell: problem, method, seeds, mean ± std, paper, ratio, verdict."""
    rows = []
    for cell in cells.values():
        failed = f", {cell.failures} given up" if cell.failures else ""
        rows.append(
            [
                cell.problem.title,
                METHODS[cell.method],
                f"{len(cell.scores)}{failed}",
                _mean_text(cell),
                "-" if cell.paper is None else score_text(cell.paper),
                "-" if cell.ratio is None else f"{cell.ratio:.3g}",
                cell.verdict,
            ]
        )
    return rows


HEADER = ("problem", "method", "seeds", "score", "paper", "ours/paper", "verdict")


def rich_table(rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> Table:
    """For the terminal."""
    table = Table(*header, box=None)
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[2:-1]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    return table


def markdown_table(rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> str:
    """For a page."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def order_rows(experiment: Experiment, cells: Cells) -> list[list[str]]:
    """The paper's rankings, with both means and whether ours has them too."""
    titles = {problem.env: problem.title for problem in experiment.problems}
    rows = []
    for order in experiment.orders:
        better, worse = (cells.get((order.env, m)) for m in (order.better, order.worse))
        if better is None or worse is None or not (better.scores and worse.scores):
            continue
        rows.append(
            [
                titles[order.env],
                f"{METHODS[order.better]} above {METHODS[order.worse]}",
                f"{score_text(better.mean)} and {score_text(worse.mean)}",
                "holds" if better.mean > worse.mean else "FAILS",
            ]
        )
    return rows


ORDER_HEADER = ("problem", "the paper's ranking", "ours", "")


LADDER_HEADER = (
    *("problem", "adaptive", "best of the others", "", "gap", "steps"),
    *("seconds", "seconds of the best"),
)


def ladder_rows(cells: Cells) -> list[list[str]]:
    """One row a problem: gippo_adaptive's mean beside the best mean of the others.

    The gap is what it lies below the best (+ above), as a part of the range from the worst of the
    others to the best; of logarithms where scores vanish.
    """
    rows = []
    for env, problem in {cell.problem.env: cell.problem for cell in cells.values()}.items():
        own = cells.get((env, OURS))
        others = [c for (e, method), c in cells.items() if e == env and method != OURS]
        others = sorted((c for c in others if c.scores), key=lambda c: c.mean)
        if own is None or not own.scores or not others:
            continue
        best = others[-1]
        rows.append(
            [
                problem.title,
                _mean_text(own),
                _mean_text(best),
                METHODS[best.method],
                _gap_text(problem, own.mean, others[0].mean, best.mean),
                score_text(max(float(run.columns["env_steps"][-1]) for run in own.runs)),
                *(f"{np.mean([run.seconds for run in cell.runs]):.0f}" for cell in (own, best)),
            ]
        )
    return rows


def missing_text(experiment: Experiment, asked: Iterable[tuple[str, str]]) -> str:
    """What of an experiment was not asked for, by environment and method; empty if nothing."""
    envs, methods = (set(names) for names in zip(*asked, strict=True))
    left = [p.title for p in experiment.problems if p.env not in envs]
    left += [METHODS[m] for m in experiment.methods if m not in methods]
    return f"Not run here: {'; '.join(left)}." if left else ""


def _mean_text(cell: Cell) -> str:
    spread = "" if math.isnan(cell.std) else f" ± {score_text(cell.std, 3)}"
    return f"{score_text(cell.mean)}{spread}"


def ladder_place(problem: Problem, score: float, worst: float, best: float) -> float:
    """Where a score lies between two others, 0 and 1; of logarithms where scores vanish.

    NaN where the two are the same, infinity for a score that has vanished.
    """
    if problem.logarithmic and max(worst, best) < 0.0:
        if score >= 0.0:
            return math.inf
        score, worst, best = (-math.log10(-value) for value in (score, worst, best))
    return math.nan if best == worst else (score - worst) / (best - worst)


def _gap_text(problem: Problem, own: float, worst: float, best: float) -> str:
    place = ladder_place(problem, own, worst, best)
    return "-" if math.isnan(place) else f"{place - 1.0:+.1%}"


def write_scores(cells: Cells, path: Path) -> None:
    """Every run, a line each."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["env", "method", "seed", "score", "epochs", "of_epochs", "seconds", "paper_mean",
             "config", "code", "failure"]
        )  # fmt: skip
        for cell in cells.values():
            for run in cell.runs:
                writer.writerow(
                    [
                        run.env,
                        run.method,
                        run.seed,
                        repr(run.score),
                        run.epochs_done,
                        run.full_epochs,
                        f"{run.seconds:.1f}",
                        "" if cell.paper is None else cell.paper,
                        run.run_dir.name.split("_")[-2],
                        run.code,
                        run.failure or "",
                    ]
                )
