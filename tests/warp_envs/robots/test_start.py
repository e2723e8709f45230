"""Starts from keyframes, joint values and heights, inside the limits and on the ground."""

import logging

import mujoco
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import warp_envs
from tests.kernels.articulation.mujoco_reference import MujocoReference
from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.stiffness import clearance, place_bodies
from warp_envs.robots.start import start_pose
from warp_envs.usd.conversion.convert import convert_robot

# A knee that may not be straight, a ball, a slide; the rest pose stands outside and in the ground.
DOG = """
<mujoco><compiler angle="radian"/><worldbody><geom type="plane" size="5 5 1"/>
  <body name="trunk" pos="0 0 -1"><freejoint/><geom type="box" size="0.2 0.1 0.05" mass="5"/>
    <body name="calf" pos="0.2 0 0"><joint name="knee" axis="0 1 0" range="-2.8 -0.9"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.2" size="0.01" mass="0.15"/>
      <body name="foot" pos="0 0 -0.2"><joint name="ankle" type="ball" pos="0 0.01 0"/>
        <geom size="0.03" mass="0.1"/></body></body>
    <body name="tail" pos="-0.2 0 0"><joint name="reach" type="slide" axis="1 0 1" ref="0.2"/>
      <geom size="0.02" mass="0.1"/></body></body></worldbody>
  <keyframe><key name="home" qpos="0 0 0.4 1 0 0 0 -1.5 1 0 0 0 0.1"/></keyframe></mujoco>
"""
# A planar robot: slides along x and z hold the trunk.
PLANAR = """
<mujoco><worldbody><geom type="plane" size="5 5 1"/><body pos="0 0 1">
  <joint name="x" type="slide" axis="1 0 0"/><joint name="z" type="slide" axis="0 0 -1" ref="1"/>
  <joint name="pitch" axis="0 1 0"/><geom type="capsule" fromto="0 0 -0.3 0 0 0.3" size="0.1"/>
</body></worldbody></mujoco>
"""


def articulation_of(folder, text):
    (folder / "robot.xml").write_text(text)
    convert_robot(folder / "robot.xml", folder / "robot.usda")
    return Articulation.from_usd(folder / "robot.usda", num_envs=1)


@pytest.fixture(scope="module")
def dog(tmp_path_factory):
    return articulation_of(tmp_path_factory.mktemp("dog"), DOG)


def start_of(robot, start):
    spread = np.full(robot.nq, 0.1)
    q, spread = start_pose(robot, start, spread)
    return dict(zip(("trunk", "knee", "ankle", "reach"),
                    (q[:7], q[7], q[8:12], q[12]), strict=True)), spread  # fmt: skip


def test_a_keyframe_is_the_sources(dog):
    pose, _ = start_of(dog, "home")
    assert_allclose(pose["trunk"], [0, 0, 0.4, 0, 0, 0, 1])
    assert_allclose([pose["knee"], pose["reach"]], [-1.5, 0.1])


def test_joints_and_height_change_a_keyframe(dog):
    start = {"keyframe": "home", "joints": {"knee": -2, "ankle": [0, 0, 2, 0]}, "height": 0.7}
    pose, _ = start_of(dog, start)
    assert_allclose([pose["knee"], pose["trunk"][2]], [-2, 0.7])
    assert_allclose(pose["ankle"], [0, 0, 1, 0])


def test_auto_puts_the_lowest_point_on_the_ground(dog):
    q, _ = start_pose(dog, {"keyframe": "home", "height": "auto"}, np.zeros(dog.nq))
    assert clearance(dog.description, q) == pytest.approx(0.0, abs=1e-12)
    assert 0.05 < q[2] < 0.4


def test_a_start_outside_the_limits_or_in_the_ground_is_moved_and_said(dog, caplog):
    with caplog.at_level(logging.WARNING, logger="warp_envs"):
        pose, spread = start_of(dog, None)
    assert pose["knee"] == pytest.approx(-1.0)  # the spread stays inside, too
    assert spread[7] == pytest.approx(0.1)
    q = np.concatenate([np.atleast_1d(value) for value in pose.values()])
    assert clearance(dog.description, q) == pytest.approx(0.0, abs=1e-12)
    assert "joint knee is moved from 0 to -1, inside its limits -2.8 to -0.9" in caplog.text
    assert "lifted by" in caplog.text
    _, spread = start_of(dog, {"keyframe": "home", "joints": {"knee": -0.95}})
    assert spread[7] == pytest.approx(0.05)


def test_it_stands_on_a_slope_with_shapes_of_every_kind(tmp_path):
    """The ellipsoid and the cylinder touch where MuJoCo measures no distance to the plane."""
    text = """<mujoco><worldbody><geom name="floor" type="plane" size="5 5 1" euler="10 20 0"/>
      <body pos="1 2 3" euler="40 0 30"><freejoint/>
        <geom name="limb" type="{kind}" size="0.3 0.1 0.2" pos="0.1 0 0.2"/></body>
      </worldbody></mujoco>"""
    for kind in ("sphere", "capsule", "box", "cylinder", "ellipsoid"):
        robot = articulation_of(tmp_path, text.format(kind=kind))
        q, _ = start_pose(robot, {"height": "auto"}, np.zeros(7))
        model = mujoco.MjModel.from_xml_string(text.format(kind=kind))
        data = mujoco.MjData(model)
        data.qpos[:] = [*q[:3], q[6], *q[3:6]]
        mujoco.mj_kinematics(model, data)
        distance = mujoco.mj_geomDistance(model, data, 0, 1, 10.0, None)
        assert distance == pytest.approx(0.0, abs=1e-5), kind


def test_a_planar_robot_moves_up_along_its_slide(tmp_path):
    robot = articulation_of(tmp_path, PLANAR)
    q, _ = start_pose(robot, {"height": "auto", "joints": {"pitch": np.pi / 2}}, np.zeros(3))
    assert_allclose(q, [0, 1.9, np.pi / 2], atol=1e-6)
    q, _ = start_pose(robot, {"height": 2.5}, np.zeros(3))
    assert_allclose(q, [0, -0.5, 0], atol=1e-6)
    assert robot.default_joint_q[1] == pytest.approx(1.0)


def test_frames_are_mujocos(dog):
    q = np.random.default_rng(0).normal(size=dog.nq)
    q[3:7] /= np.linalg.norm(q[3:7])
    q[8:12] /= np.linalg.norm(q[8:12])
    reference = MujocoReference(dog.description)
    reference.set_state(q, np.zeros(dog.nv))
    for index, frame in enumerate(place_bodies(dog.description, q)):
        position, rotation = reference.body_pose(index)
        assert_allclose(frame.position, position, atol=1e-9)
        assert_allclose(frame.rotation, rotation, atol=1e-9)


def test_an_environment_starts_there(dog):
    env = warp_envs.make("robot", asset=dog.description.path, num_envs=8, start="home")
    start = env.get_state()["joint_q"]
    assert torch.all((start[:, 7] + 1.5).abs() <= 0.1 + 1e-6)
    assert torch.all(start[:, 2] == 0.4)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("hom", r"start: keyframe 'hom' given, one of \['home'\]"),
        ({"heigt": 1}, "start: key 'heigt' given, .*did you mean 'height'"),
        ({"joints": 3}, "start.joints: 3 given"),
        ({"joints": {"kne": 1}}, "start.joints: 'kne' given, .*did you mean 'knee'"),
        ({"joints": {"knee": [1, 2]}}, r"start.joints.knee: \[1, 2\] given, 1 finite"),
        ({"joints": {"knee": float("nan")}}, "start.joints.knee: nan given"),
        ({"joints": {"ankle": [0, 0, 0, 0]}}, "start.joints.ankle: .* a quaternion"),
        ({"height": "high"}, "start.height: 'high' given, a height in metres or 'auto'"),
        ({"height": float("inf")}, "start.height: inf given"),
        (3, "start: 3 given"),
    ],
)
def test_other_starts_are_refused_by_name(dog, start, said):
    with pytest.raises(ValueError, match=said):
        start_pose(dog, start, np.zeros(dog.nq))


def test_joints_by_patterns_and_how_far_a_start_is_scattered(dog, tmp_path):
    pose, _ = start_of(dog, {"joints": {"kn*": -1.2}})
    assert_allclose(pose["knee"], -1.2)
    with pytest.raises(ValueError, match=r"start\.joints: 'kn\?' given"):
        start_of(dog, {"joints": {"kn?": -1.2}})
    path = dog.description.path
    settings = {"height": 1.0, "joints": {"knee": -1.5}, "spread": 0.05, "speed_spread": 0.0}
    env = warp_envs.make("robot", asset=path, num_envs=50, start=settings, seed=0, compiled=False)
    env.reset()
    state = env.get_state()
    knee = state["joint_q"][:, 7] + 1.5
    assert 0.03 < knee.abs().max() <= 0.05 + 1e-6
    assert (state["joint_qd"] == 0.0).all()
    with pytest.raises(ValueError, match=r"start\.spread"):
        warp_envs.make("robot", asset=path, num_envs=1, start={"spread": -1})
