import csv
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig, save_config
from gippo.errors import UserError
from gippo.runs.comparison import find_runs, gather
from gippo.runs.metrics import MetricsLog
from gippo.runs.plots import (
    Curve,
    Limits,
    draw_curves,
    plot_comparison,
    plot_run,
    shared_legend,
    smooth,
    student_quantile,
)
from gippo.terminal.progress import duration, number


def test_smoothing_is_a_centred_mean_that_passes_over_gaps():
    np.testing.assert_allclose(smooth(np.arange(6.0), window=3), np.arange(6.0))
    gap = np.array([np.nan, np.nan, 4.0, np.nan, 2.0])
    np.testing.assert_array_equal(smooth(gap, window=3), [np.nan, 4.0, 4.0, 3.0, 2.0])


def columns(**changes) -> dict[str, np.ndarray]:
    n = 30
    return {
        "epoch": np.arange(1.0, n + 1),
        "episode_return": np.concatenate([[np.nan] * 4, -np.geomspace(1e3, 1e-4, n - 4)]),
        "alpha": np.full(n, 0.5),
        "det_min": np.full(n, 0.9),
        "det_max": np.full(n, 1.2),
        "out_of_range_ratio": np.linspace(0, 1, n),
        **changes,
    }


@pytest.mark.parametrize("limits", [None, Limits(0.4, 0.5)])
def test_a_run_is_drawn(tmp_path, limits):
    for name, values in (
        ("whole", columns()),
        ("unfinished", columns(episode_return=np.full(30, np.nan))),
        ("one", {name: value[:1] for name, value in columns().items()}),
    ):
        plot_run(values, tmp_path / f"{name}.png", "a run", limits)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_run_without_an_ended_episode_says_so(tmp_path, monkeypatch):
    drawn: list[Figure] = []
    monkeypatch.setattr("gippo.runs.plots.save_figure", lambda figure, path: drawn.append(figure))
    for values in (columns(), columns(episode_return=np.full(30, np.nan))):
        plot_run(values, tmp_path / "run.png", "a run")
    ended, none = ([text.get_text() for text in figure.axes[0].texts] for figure in drawn)
    assert ended == [] and none == ["no episode has ended yet"]


def test_a_comparison_is_the_mean_and_spread_of_its_runs(tmp_path):
    steps = np.array([10.0, 20.0, 30.0])
    returns = [np.array([np.nan, 1.0, 2.0]), np.array([0.0, 3.0, 6.0])]
    plot_comparison({"ant": [Curve("a", [steps, steps], returns)]}, tmp_path / "c.png")
    rows = list(csv.DictReader((tmp_path / "c.csv").open()))
    assert [row["env_steps"] for row in rows] == ["10.0", "20.0", "30.0"]
    assert [float(row["mean_return"]) for row in rows[1:]] == [2.0, 4.0]
    assert [float(row["std_return"]) for row in rows[1:]] == [1.0, 2.0]
    # Of two values: t(1; 0.975) = 12.7062 times their standard error.
    error = 1.0 / math.sqrt(2 - 1)
    assert float(rows[1]["ci95_return"]) == pytest.approx(12.7062 * error, rel=1e-4)
    assert rows[0]["mean_return"] == "nan"


@pytest.mark.parametrize(  # from any table of Student's distribution
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.30265), (4, 2.77645), (29, 2.04523), (999, 1.96234)],
)
def test_the_confidence_interval_is_students(degrees, quantile):
    assert student_quantile(degrees) == pytest.approx(quantile, rel=2e-5)


def test_every_environment_has_its_panel_and_a_run_without_returns_no_curve(tmp_path):
    steps = np.arange(1.0, 4.0)
    curve, unknown = Curve("a", [steps], [steps]), Curve("b", [steps], [np.full(3, np.nan)])
    panels = {name: [curve, unknown] for name in ("ant", "hopper", "cartpole", "dejong")}
    plot_comparison(panels, tmp_path / "c.png")
    rows = list(csv.DictReader((tmp_path / "c.csv").open()))
    assert len(rows) == 4 * 2 * 3
    assert {row["env"] for row in rows} == set(panels)
    assert {row["mean_return"] for row in rows if row["label"] == "b"} == {"nan"}
    assert {row["ci95_return"] for row in rows} == {"nan"}, "of one run nothing is known"


def test_vanishing_returns_have_a_logarithmic_axis_on_which_the_band_spans_the_runs():
    steps = np.arange(1.0, 5.0)
    vanishing = -np.geomspace(10.0, 1e-4, 4)
    axis = Figure().subplots()
    draw_curves(axis, [Curve("a", [steps, steps], [0.1 * vanishing, 10.0 * vanishing])])
    assert axis.get_yscale() == "symlog"
    (band,) = axis.collections
    returns = band.get_paths()[0].vertices[:, 1]
    assert returns.min() == pytest.approx(10.0 * vanishing.min())
    assert returns.max() == pytest.approx(0.1 * vanishing.max())


def test_the_band_of_few_runs_spans_them_and_the_axis_follows_the_curves():
    """An interval by Student's t of two runs 200 apart is +-1,271 about their mean."""
    steps, low = np.arange(1.0, 6.0), np.linspace(-2600.0, -2500.0, 5)
    for count, spans in ((2, True), (3, True), (4, False)):
        axis = Figure().subplots()
        runs = [low + 200.0 * (i % 2) for i in range(count)]
        draw_curves(axis, [Curve("a", [steps] * count, runs)])
        (band,) = axis.collections
        drawn = band.get_paths()[0].vertices[:, 1]
        assert bool(drawn.min() == -2600.0 and drawn.max() == -2300.0) is spans
        assert axis.get_ylim() == pytest.approx((-2615.0, -2285.0))


def test_a_method_has_one_colour_in_all_panels(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("gippo.runs.plots.save_figure", lambda figure, path: figures.append(figure))
    steps = [np.arange(5.0)]
    a, b = (Curve(label, steps, steps) for label in "ab")
    plot_comparison({"ant": [a, b], "hopper": [b]}, tmp_path / "c.png")
    both, alone = figures[0].axes
    assert alone.lines[0].get_color() == both.lines[1].get_color() != both.lines[0].get_color()


def test_panels_share_a_legend_that_names_each_curve_once():
    figure = Figure()
    for axis in figure.subplots(1, 2):
        axis.plot([0, 1], [0, 1], label="gippo (3 runs)")
    axis.plot([0, 1], [0, 1], label="ppo")
    shared_legend(figure)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["gippo (3 runs)", "ppo"]


def test_a_comparison_ends_where_the_shortest_run_does(tmp_path):
    short, long = np.arange(1.0, 4.0), np.arange(1.0, 9.0)
    plot_comparison({"ant": [Curve("a", [long, short], [long, short])]}, tmp_path / "c.png")
    assert len((tmp_path / "c.csv").read_text().splitlines()) == 4


def save_run(folder, *overrides: str) -> None:
    folder.mkdir(parents=True)
    save_config(configure("train", TrainConfig, overrides), folder / "config.yaml")
    log = MetricsLog(folder)
    log.write({"epoch": 1, "env_steps": 64, "episode_return": -1.0})
    log.close()


def test_runs_are_grouped_by_all_but_the_seed_and_named_by_what_differs(tmp_path):
    save_run(tmp_path / "a", "seed=0")
    save_run(tmp_path / "b", "seed=1", "num_threads=2")
    save_run(tmp_path / "c", "algo.alpha.beta=1.1")
    save_run(tmp_path / "d", "algo=ppo")
    curves = gather(find_runs(str(tmp_path)))
    assert list(curves) == ["cartpole"]
    assert [(curve.label, len(curve.returns)) for curve in curves["cartpole"]] == [
        ("gippo, algo.alpha.beta=1.02", 2),
        ("gippo, algo.alpha.beta=1.1", 1),
        ("ppo", 1),
    ]
    save_run(tmp_path / "e", "algo=ppo", "env=dejong")
    panels = gather(find_runs(str(tmp_path / "[de]")))
    assert {env: [curve.label for curve in curves] for env, curves in panels.items()} == {
        "cartpole": ["ppo"],
        "dejong": ["ppo"],
    }
    with pytest.raises(UserError, match="names no folder"):
        find_runs(str(tmp_path / "nowhere*"))


def test_numbers_and_times_are_short():
    shown = [number(x) for x in (-1234.56, 0.000123456, None, float("nan"), 12.0, 3e7)]
    assert shown == ["-1234.6", "0.0001235", "-", "-", "12", "3e+07"]
    assert [duration(x) for x in (3.2, 83, 3723)] == ["0:03", "1:23", "1:02:03"]
