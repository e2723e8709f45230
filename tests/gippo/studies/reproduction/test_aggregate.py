import pytest

from gippo.studies.reproduction.aggregate import (
    aggregate_rows,
    interquartile_mean,
    normalized_score,
    probability_of_improvement,
)
from gippo.studies.reproduction.paper import Problem
from gippo.studies.reproduction.tables import Cell

FIRST = Problem("first", "First", {"lr": 0.0, "gippo": 10.0})
SECOND = Problem("second", "Second", {"lr": -1e-2, "gippo": -1e-6}, logarithmic=True)


def cell(problem, scores, method="gippo"):
    return Cell(problem, method, (), tuple(scores), False)


def test_scores_are_normalised_between_the_papers_worst_and_best():
    assert normalized_score(FIRST, 5.0) == pytest.approx(0.5)
    assert normalized_score(FIRST, 20.0) == pytest.approx(2.0)
    assert normalized_score(SECOND, -1e-4) == pytest.approx(0.5)
    assert normalized_score(SECOND, -1e-8) == pytest.approx(1.5)


def test_the_interquartile_mean_by_hand():
    """Of 0, 1, 2, 3 and 0, 0.5, 1, 9 (normalised) the middle four are 0.5, 1, 1, 2."""
    cells = [cell(FIRST, [0.0, 10.0, 20.0, 30.0]), cell(FIRST, [0.0, 5.0, 10.0, 90.0])]
    estimate = interquartile_mean(cells)
    assert estimate.value == pytest.approx((0.5 + 1.0 + 1.0 + 2.0) / 4)
    low, high = estimate.interval
    assert 0.0 <= low < estimate.value < high <= 9.0


def test_strata_are_kept_by_the_bootstrap():
    """Problems whose seeds agree leave nothing to draw, however far apart they are."""
    estimate = interquartile_mean([cell(FIRST, [2.0] * 3), cell(FIRST, [8.0] * 3)])
    assert estimate.value == pytest.approx(0.5)
    assert estimate.interval == pytest.approx((0.5, 0.5))


def test_the_probability_of_improvement_by_hand():
    ours = [cell(FIRST, [1.0, 4.0]), cell(SECOND, [-1.0, -1.0])]
    other = [cell(FIRST, [2.0, 3.0], "lr"), cell(SECOND, [-1.0, -2.0], "lr")]
    # first: 4 beats both, 1 none: 2/4; second: 2 ties and 2 wins: 3/4
    estimate = probability_of_improvement(ours, other)
    assert estimate.value == pytest.approx(0.625)
    low, high = estimate.interval
    assert low < 0.625 < high


def test_a_single_seed_has_no_interval():
    assert interquartile_mean([cell(FIRST, [1.0]), cell(SECOND, [-1e-3])]).interval is None


def test_only_methods_with_scores_on_all_problems_are_aggregated():
    cells = {
        ("first", "lr"): cell(FIRST, [1.0, 2.0], "lr"),
        ("second", "lr"): cell(SECOND, [-1e-3, -1e-4], "lr"),
        ("first", "gippo"): cell(FIRST, [3.0, 4.0]),
        ("second", "gippo"): cell(SECOND, [-1e-7, -1e-8]),
        ("first", "rp"): cell(FIRST, [3.0, 4.0], "rp"),
        ("second", "rp"): cell(SECOND, [], "rp"),
    }
    rows = aggregate_rows(cells)
    assert [row[0] for row in rows] == ["LR", "GI-PPO"]
    assert rows[0][2].startswith("1.00 ")
