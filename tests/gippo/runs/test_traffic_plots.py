"""Pictures of traffic: what loops count, where ways are broken, and the command that draws them."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from gippo.cli import main
from gippo.runs.traffic_plots import Driven, draw_space_time, loop_counts

LENGTH, CARS, SPEED, DT = 240.0, 12, 8.0, 0.5


def even_ring(seconds=180.0):
    """Equally spaced cars at one speed."""
    time = np.arange(0.0, seconds, DT)[:, None]
    x = (LENGTH / CARS * np.arange(CARS)[None] + SPEED * time) % LENGTH
    x = np.stack([x, (x + 7.0) % LENGTH], axis=1)
    return Driven(x, np.full_like(x, SPEED), DT, 1)


@pytest.mark.parametrize("at", [0.0, 100.0])
def test_loops_count_the_flow_and_density_of_even_traffic(at):
    flow, density = loop_counts(even_ring(), at)
    spacing = LENGTH / CARS
    assert flow.shape == (2, 2)
    assert np.abs(flow - 3600.0 * SPEED / spacing).max() <= 60.0  # one car more or less a minute
    assert np.allclose(density, flow / (3.6 * SPEED))


def test_nobody_passing_or_one_standing_gives_no_density():
    driven = even_ring()
    still = Driven(np.zeros_like(driven.x), 0.0 * driven.speed, DT, 0)
    flow, density = loop_counts(still, 50.0)
    assert (flow == 0.0).all() and np.isnan(density).all()
    driven.speed[:] = 0.01
    assert np.isnan(loop_counts(driven)[1]).all()


def test_ways_are_broken_at_the_seam_and_own_cars_are_black():
    axis = Figure().subplots()
    driven = even_ring()
    draw_space_time(axis, driven)
    ways = [c for c in axis.collections if isinstance(c, LineCollection)]
    assert len(ways) == CARS
    laps = (np.diff(driven.x[:, 0], axis=0) < 0.0).sum(axis=0)
    drawn = [len(way.get_segments()) for way in ways]
    assert drawn == [len(driven.x) - 1 - lap for lap in laps]
    assert tuple(ways[0].get_colors()[0]) == (0.0, 0.0, 0.0, 1.0)
    for way in ways:
        assert all(end[1] > start[1] for start, end in way.get_segments())


def test_an_episode_s_end_is_marked_and_breaks_every_way():
    axis = Figure().subplots()
    even = even_ring()
    ended = np.zeros((len(even.x), 2), dtype=bool)
    ended[[100, -1], [0, 0]] = True  # what comes after the last step is not drawn
    draw_space_time(axis, replace(even, ended=ended))
    (mark,) = axis.lines
    assert tuple(mark.get_xdata()) == (101 * DT, 101 * DT)
    for way in (c for c in axis.collections if isinstance(c, LineCollection)):
        starts = [start[0] for start, _ in way.get_segments()]
        assert 99 * DT in starts or 101 * DT in starts
        assert 100 * DT not in starts


@pytest.mark.parametrize("kind", ["space_time", "fundamental"])
def test_the_command_draws_a_policy_s_traffic(kind, tmp_path, capsys):
    out = tmp_path / "traffic.png"
    command = ["plot", f"kind={kind}", "policy=idm", "env=ring", "env.warm_up_steps=0"]
    assert main([*command, "num_envs=2", "num_steps=700", f"out={out}"]) == 0
    assert out.read_bytes().startswith(b"\x89PNG") and str(out) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["policy=idm", "env=ring"], "drawn with kind=space_time or kind=fundamental alone"),
        (["kind=spacetime"], "did you mean 'space_time'"),
        (["kind=space_time", "policy=idm"], "policy=NAME env=NAME without a run"),
        (["kind=space_time", "policy=idm", "env=ring", "out=x.gif"], "out: 'x.gif' given"),
        (["kind=space_time", "policy=idm", "env=ring", "num_steps=1"], "num_steps: 1 given"),
        (["kind=fundamental", "policy=idm", "env=ring", "loop=-1"], "loop: -1"),
        (["kind=space_time", f"policy={__name__}:Still", "env=cartpole"], "vehicles on a road"),
    ],
)
def test_mistakes_are_refused_by_name(arguments, said, capsys):
    assert main(["plot", *arguments]) == 2
    assert said in capsys.readouterr().err


class Still:
    """A policy of one's own."""

    def __init__(self, env):
        self.env = env
