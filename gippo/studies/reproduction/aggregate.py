"""Aggregates over problems: interquartile mean and probability of improvement, with intervals.

After Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
SciPy does the statistics: a trimmed mean, the Mann-Whitney U, and a bootstrap that draws seeds anew
within each problem, which is the stratified bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap, mannwhitneyu, trim_mean

from gippo.studies.reproduction.paper import METHODS, Problem
from gippo.studies.reproduction.tables import Cell, Cells

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with the interval that 95 % of bootstrap samples lie in; None for lack of seeds."""

    value: float
    interval: tuple[float, float] | None


def normalized_score(problem: Problem, score: float) -> float:
    """0 at the paper's worst method, 1 at its best; of the logarithm where scores span decades."""

    def scale(value: float) -> float:
        return -float(np.log10(max(-value, 1e-300))) if problem.logarithmic else value

    worst, best = min(problem.paper.values()), max(problem.paper.values())
    return (scale(score) - scale(worst)) / (scale(best) - scale(worst))


def interquartile_mean(cells: Sequence[Cell]) -> Estimate:
    """Of a method's normalised scores on all its problems: the mean of the middle half."""
    samples = [np.array([normalized_score(c.problem, s) for s in c.scores]) for c in cells]

    def statistic(*strata: np.ndarray, axis: int = -1) -> Any:
        return trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis)

    return _estimate(samples, statistic)


def probability_of_improvement(better: Sequence[Cell], worse: Sequence[Cell]) -> Estimate:
    """That a run of one method beats a run of the other, on average over problems; ties half."""
    samples = [np.array(cell.scores) for cell in (*better, *worse)]
    count = len(better)

    def statistic(*strata: np.ndarray, axis: int = -1) -> Any:
        shares = [
            mannwhitneyu(x, y, axis=axis, method="asymptotic").statistic
            / (x.shape[axis] * y.shape[axis])
            for x, y in zip(strata[:count], strata[count:], strict=True)
        ]
        return np.mean(shares, axis=0)

    return _estimate(samples, statistic)


def _estimate(samples: Sequence[np.ndarray], statistic: Callable[..., Any]) -> Estimate:
    value = float(statistic(*samples))
    if min(map(len, samples)) < 2:
        return Estimate(value, None)
    result = bootstrap(
        samples,
        statistic,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = result.confidence_interval
    return Estimate(value, (float(low), float(high)))


def aggregate_rows(cells: Cells) -> list[list[str]]:
    """One row a method: interquartile mean, and the probability that GI-PPO beats it.

    Only methods that the paper has on every problem here, and that have scores on all of them.
    """
    problems = list({cell.problem.env: cell.problem for cell in cells.values()}.values())
    rows = []
    ours = _whole_row(cells, problems, "gippo")
    for method in METHODS:
        row = _whole_row(cells, problems, method)
        if row is None:
            continue
        beaten = "-"
        if ours is not None and method != "gippo":
            beaten = _text(probability_of_improvement(ours, row))
        rows.append([METHODS[method], _text(interquartile_mean(row)), beaten])
    return rows


AGGREGATE_HEADER = ("method", "interquartile mean", "P(GI-PPO better)")


def _whole_row(cells: Cells, problems: Sequence[Problem], method: str) -> list[Cell] | None:
    row = [cells.get((problem.env, method)) for problem in problems]
    whole = [cell for cell in row if cell is not None and cell.scores and not cell.shortened]
    return whole if len(whole) == len(problems) else None


def _text(estimate: Estimate) -> str:
    if estimate.interval is None:
        return f"{estimate.value:.2f}"
    low, high = estimate.interval
    return f"{estimate.value:.2f} [{low:.2f}, {high:.2f}]"
