import math

import numpy as np
import pytest

from gippo.studies.reproduction.figures import ladder_figure
from gippo.studies.reproduction.paper import (
    EXPERIMENTS,
    FUNCTIONS,
    METHODS,
    OURS,
    PHYSICS,
    TRAFFIC,
    Problem,
)
from gippo.studies.reproduction.tables import (
    Cell,
    cell_rows,
    ladder_rows,
    markdown_table,
    missing_text,
    order_rows,
    score_text,
)


class FakeRun:
    """A run that ended as told."""

    failure = None
    columns = {"env_steps": [100.0, 4096.0]}  # noqa: RUF012
    seconds = 12.0

    def __init__(self, failure=None):
        self.failure = failure


def cell(paper, scores, *, shortened=False, method="gippo", failures=0, env="ant_dflex"):
    paper = {} if paper is None else {method: paper}
    runs = tuple(FakeRun("NaN" if i < failures else None) for i in range(len(scores)))
    return Cell(Problem(env, "Ant", paper), method, runs, tuple(scores), shortened)


@pytest.mark.parametrize(
    ("paper", "scores", "verdict"),
    [
        (100.0, [99.0, 103.0], "reached"),
        (100.0, [100.0], "reached"),
        (100.0, [96.0], "near"),  # within 5 %
        (100.0, [94.0], "short"),
        (100.0, [80.0, 110.0], "near"),  # mean 95 on the edge; std 21
        (100.0, [50.0, 70.0], "short"),  # mean 60, std 14
        (-1e-6, [-1e-9], "reached"),
        (-1e-6, [-1.04e-6], "near"),
        (-1e-6, [-2e-6], "short"),
        (None, [1.0], "no paper value"),
        (100.0, [], "missing"),
    ],
)
def test_verdicts(paper, scores, verdict):
    assert cell(paper, scores).verdict == verdict


def test_a_shortened_cell_is_not_judged_and_failures_are_told():
    assert cell(100.0, [200.0], shortened=True).verdict == "shortened"
    (row,) = cell_rows({("ant_dflex", "gippo"): cell(4.0, [1.0, 3.0], failures=1)})
    assert row == ["Ant", "GI-PPO", "2, 1 given up", "2 ± 1.41", "4", "0.5", "short"]


def test_mean_and_spread_over_seeds():
    three = cell(None, [1.0, 2.0, 6.0])
    assert three.mean == 3.0
    assert three.std == pytest.approx(math.sqrt(7.0))
    assert math.isnan(cell(None, [1.0]).std)


def test_numbers_for_readers():
    texts = [score_text(v) for v in (-3.84e-10, 5933.0, -0.0005, 943.51, math.nan, 0.0, 2.5e7)]
    assert texts == ["-3.84e-10", "5933", "-5.00e-4", "943.5", "-", "0", "2.5e7"]
    assert markdown_table([["a", "b"]], ("x", "y")) == "| x | y |\n| --- | --- |\n| a | b |"


def test_rankings_are_held_against_our_means():
    experiment = EXPERIMENTS["figure3"]
    cells = {
        ("cartpole", "gippo"): cell(None, [-400.0], env="cartpole"),
        ("cartpole", "ppo"): cell(None, [-900.0], env="cartpole"),
        ("hopper", "gippo"): cell(None, [10.0], env="hopper"),
        ("hopper", "ppo"): cell(None, [11.0], env="hopper"),
    }
    rows = order_rows(experiment, cells)
    assert [(row[0], row[-1]) for row in rows] == [("Cartpole", "holds"), ("Hopper", "FAILS")]


def test_the_ladder_sets_ours_beside_the_best_of_the_others():
    ant = {"gippo_adaptive": [90.0, 110.0], "rp": [80.0], "ppo": [30.0], "gippo": []}
    cells = {("ant", m): cell(None, scores, method=m, env="ant") for m, scores in ant.items()}
    assert ladder_rows(cells) == [
        ["Ant", "100 ± 14.1", "80", "RP", "+40.0%", "4096", "12", "12"],
    ]
    assert ladder_rows({k: c for k, c in cells.items() if k[1] != "gippo_adaptive"}) == []
    vanishing = Problem("dejong", "De Jong", {}, logarithmic=True)
    scores = {"gippo_adaptive": -1e-5, "rp": -1e-6, "lr": -1e-2}
    cells = {
        ("dejong", m): Cell(vanishing, m, (FakeRun(),), (x,), False) for m, x in scores.items()
    }
    assert ladder_rows(cells)[0][4] == "-25.0%"


def test_the_ladders_marks_lie_between_the_worst_and_the_best_of_the_others():
    """RP 100, GI-PPO 200: PPO's 125 is at 0.25, ours, 210, at 1.1; 300 is beyond the end."""
    means = {"rp": [100.0], "gippo": [200.0], "ppo": [125.0], "gippo_adaptive": [120.0, 300.0]}
    cells = {
        ("ant_dflex", method): cell(None, scores, method=method) for method, scores in means.items()
    }
    cells |= {("hopper", "rp"): cell(None, [1.0], method="rp", env="hopper")}
    (axis,) = ladder_figure(cells).axes
    marks = {
        str(line.get_label()): float(np.ravel(line.get_xdata())[0]) for line in axis.get_lines()
    }
    assert [text.get_text() for text in axis.get_yticklabels()] == ["Ant"]
    assert marks["PPO"] == pytest.approx(0.25)
    assert marks["adaptive"] == pytest.approx(1.1)
    runs = [np.ravel(line.get_xdata())[0] for line in axis.get_lines() if line.get_marker() == "|"]
    assert runs == pytest.approx([0.2, axis.get_xlim()[1]])


def test_what_was_not_run_is_told():
    figure = EXPERIMENTS["table1"]
    everything = [(p.env, m) for p in figure.problems for m in figure.methods]
    assert missing_text(figure, everything) == ""
    asked = [(env, m) for env, m in everything if env != "ackley64" and m != "rp"]
    assert missing_text(figure, asked) == "Not run here: Ackley, 64 dimensions; RP."


def test_the_papers_own_rankings_hold_in_its_numbers():
    for experiment in EXPERIMENTS.values():
        papers = {problem.env: problem.paper for problem in experiment.problems}
        assert set(experiment.methods) <= set(METHODS)
        for order in experiment.orders:
            assert papers[order.env][order.better] > papers[order.env][order.worse]


def test_the_papers_numbers_as_printed():
    """A second copy of the published tables, row by row: LR, RP, PPO, LR+RP, PE, GI-PPO."""
    none = None
    printed = [
        (-1.24e-6, -1.42e-8, -5.21e-5, -6.36e-8, none, -3.84e-10),
        (-0.0007, -9.28e-7, -0.0011, -3.05e-6, none, -1.04e-6),
        (-1.2772, -0.4821, -0.2489, -1.2255, none, -0.0005),
        (-0.6378, -0.0089, -0.1376, -0.0326, none, -0.0036),
        (-1350.8, -495.8, -1093.6, none, -1275.0, -509.3),
        (1778, 7066, 4797, none, 901, 5933),
        (4084, 5176, 4452, none, 432, 4777),
        (945.3, 947.4, 946.3, 947.2, none, 943.5),
        (434.7, 545.2, 489.5, 679.5, none, 873.7),
        (125.9, 131.2, 131.8, 127.8, none, 137.1),
        (22.3, 22.8, 32.5, 28.0, none, 44.4),
    ]
    problems = (*FUNCTIONS, *PHYSICS, *TRAFFIC)
    assert [tuple(p.paper.get(m) for m in METHODS if m != OURS) for p in problems] == printed
    seconds = [(120, 282, 181, 1335, 332), (142, 330, 218, 1513, 411)]
    seconds += [(304, 646, 366, 2093, 813), (244, 496, 294, 2103, 533)]
    assert [tuple(p.seconds.values()) for p in TRAFFIC] == seconds
