"""Grounds by name and from files."""

import numpy as np
import pytest
import torch

import warp_envs
from warp_envs.options.ground import DEFAULTS
from warp_envs.robots.base import asset_path
from warp_envs.robots.terrain import make_ground
from warp_envs.usd.ground import HeightField, Plane

ANT = asset_path("ant.usda")


@pytest.mark.parametrize("kind", [kind for kind in DEFAULTS if kind != "flat"])
def test_grounds_are_level_at_the_start_and_as_large_as_asked(kind):
    ground = make_ground({"kind": kind, "size": 12})
    assert isinstance(ground, HeightField)
    np.testing.assert_allclose(ground.far_corner, [6.0, 6.0])
    near = np.random.default_rng(0).uniform(-0.6, 0.6, (50, 2))
    np.testing.assert_array_equal(ground.surface(near), 0.0)


def test_what_each_kind_is():
    assert isinstance(make_ground("flat"), Plane)
    ahead = np.array([3.0, 0.5])
    slope = make_ground({"kind": "slope", "angle": 20})
    np.testing.assert_allclose(slope.surface(ahead)[1:], [np.tan(np.radians(20)), 0.0], atol=1e-12)
    stairs = make_ground({"kind": "stairs", "height": 0.2, "length": 0.5})
    steps = [stairs.surface(np.array([x, 0.0]))[0] for x in (0.5, 1.25, 1.75, 2.25)]
    np.testing.assert_allclose(steps, [0.0, 0.2, 0.4, 0.6], atol=1e-12)
    one, two, other = (make_ground({"kind": "rough", "seed": s}).heights for s in (1, 1, 2))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert np.abs(one).max() == pytest.approx(0.05)


def test_heights_come_from_a_file(tmp_path):
    heights = np.arange(12.0).reshape(3, 4)
    np.save(tmp_path / "hills.npy", heights)
    ground = make_ground({"file": str(tmp_path / "hills.npy"), "cell": 0.5})
    np.testing.assert_array_equal(ground.heights, heights)
    np.testing.assert_allclose(ground.corner, [-0.5, -0.75])
    assert make_ground(str(tmp_path / "hills.npy")).cell[0] == 0.1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mountain", "ground.kind: 'mountain' given"),
        ({"kind": "rough", "angle": 3}, "ground.angle"),
        ({"kind": "rough", "cell": 0}, "ground.cell"),
        ({"kind": "stairs", "size": 1e6}, "ground.size"),
        ("nowhere.npy", "ground.file: 'nowhere.npy'"),
        (7, "ground: 7 given"),
    ],
)
def test_nonsense_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        make_ground(given)


def test_a_robot_stands_where_its_ground_is():
    env = warp_envs.make("robot", asset=ANT, num_envs=2, substeps=8, compiled=False,
                         ground={"kind": "slope", "size": 20})  # fmt: skip
    state = env.get_state()
    state["joint_q"][:, 0] = 5.0
    state["joint_q"][:, 2] += 4.0 * np.tan(np.radians(10))
    env.set_state(state)
    for _ in range(120):
        env.step(torch.zeros(2, 8))
    q = env.get_state()["joint_q"]
    above = q[:, 2] - (q[:, 0] - 1.0) * np.tan(np.radians(10))
    assert (above > 0.2).all() and (above < 0.8).all()


def test_a_state_beyond_the_greatest_speed_counts_as_diverged():
    env = warp_envs.make("robot", asset=ANT, num_envs=2, substeps=2, compiled=False, max_speed=50)
    env.step(torch.zeros(2, 8))
    state = env.get_state()
    state["joint_qd"][1, 3] = 60.0
    env.set_state(state)
    _, reward, terminated, _, info = env.step(torch.zeros(2, 8))
    assert info["diverged"].tolist() == terminated.tolist() == [False, True]
    assert torch.isfinite(reward).all() and reward.abs().max() < 50


def test_substeps_follow_from_the_robot_and_notes_say_what_does_not_touch():
    env = warp_envs.make("robot", asset=ANT, num_envs=1, compiled=False)
    assert env.substeps == 16 and not env.notes
    (note,) = warp_envs.make("robot", asset=asset_path("cartpole.usda"), num_envs=1).notes
    assert note.startswith("nothing of this robot touches the ground")
