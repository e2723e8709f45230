"""The public face of `Articulation`: layout, rest pose, overrides, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.kernels.articulation import robots
from tests.kernels.articulation.rollout import rows, step_function
from warp_envs.articulation.articulation import Articulation
from warp_envs.usd.description import Joint


@pytest.fixture(scope="module")
def ant():
    return Articulation(robots.ant(), 3, dtype=torch.float64)


def test_layout_of_the_ant(ant):
    assert (ant.nq, ant.nv, ant.num_envs) == (15, 14, 3)
    assert ant.body_names[:3] == ("torso", "upper1", "lower1")
    assert ant.joint_names[:3] == ("root", "hip1", "ankle1")
    assert ant.q_start == (0, *range(7, 15))
    assert ant.qd_start == (0, *range(6, 14))
    assert np.allclose(ant.default_joint_q, [0, 0, 0.75, 0, 0, 0, 1] + [0] * 8)


@pytest.mark.parametrize("make", [robots.ball_robot, robots.skew_robot, robots.floating_robot])
def test_default_coordinates_restore_the_authored_pose(make):
    description = make()
    q, _ = robots.random_state(description, np.random.default_rng(0))
    poses = Articulation(description, 1, dtype=torch.float64).body_poses(rows(q))[0].numpy()
    bodies = [
        replace(body, position=pose[:3], rotation=pose[3:] / np.linalg.norm(pose[3:]))
        for body, pose in zip(description.bodies, poses, strict=True)
    ]
    robot = Articulation(replace(description, bodies=tuple(bodies)), 1, dtype=torch.float64)
    again = robot.body_poses(rows(robot.default_joint_q))[0].numpy()
    signs = np.sign((again[:, 3:] * poses[:, 3:]).sum(axis=1, keepdims=True))
    assert np.allclose(again[:, :3], poses[:, :3], atol=1e-12)
    assert np.allclose(again[:, 3:] * signs, poses[:, 3:], atol=1e-12)


def test_a_hinge_turns_and_a_slide_moves_the_right_way():
    """By hand: x slide at 2 m, then a hinge about z at +90 degrees carrying a body 1 m along x."""
    light = {"mass": 1.0, "com": np.zeros(3), "inertia": np.eye(3)}
    slide = Joint("slide", kind="prismatic", axis=[1.0, 0.0, 0.0])
    hinge = Joint("hinge", kind="revolute", axis=[0.0, 0.0, 1.0], child_position=[-1.0, 0.0, 0.0])
    bodies = (robots.body("a", -1, slide, [], **light), robots.body("b", 0, hinge, [], **light))
    robot = Articulation(robots.RobotDescription("two", "", bodies), 1, dtype=torch.float64)
    poses = robot.body_poses(rows([2.0, np.pi / 2]))[0]
    half = np.sqrt(0.5)
    assert np.allclose(poses, [[2, 0, 0, 0, 0, 0, 1], [2, 1, 0, 0, 0, half, half]], atol=1e-15)


def test_inertia_override_replaces_one_body():
    tensor = np.diag([0.011844, 0.056797, 0.113593])
    names = ("upper1", "upper2", "upper3", "upper4")
    changed = Articulation(
        robots.ant(), 1, dtype=torch.float64, inertia=dict.fromkeys(names, tensor)
    )
    bodies = tuple(
        replace(body, inertia=tensor) if body.name in names else body
        for body in robots.ant().bodies
    )
    by_hand = Articulation(replace(robots.ant(), bodies=bodies), 1, dtype=torch.float64)
    q = rows(changed.default_joint_q)
    assert torch.equal(changed.mass_matrix(q), by_hand.mass_matrix(q))
    plain = Articulation(robots.ant(), 1, dtype=torch.float64)
    assert not torch.allclose(changed.mass_matrix(q), plain.mass_matrix(q))


def test_a_mass_matrix_is_symmetric_and_positive(ant):
    rng = np.random.default_rng(1)
    q = torch.cat([rows(robots.random_state(ant.description, rng)[0]) for _ in range(3)])
    matrix = ant.mass_matrix(q)
    assert torch.equal(matrix, matrix.transpose(1, 2))
    assert torch.linalg.eigvalsh(matrix).min() > 0.0


def test_backward_may_run_twice_and_in_between(ant):
    q = rows(ant.default_joint_q, 3).requires_grad_(True)
    zero = torch.zeros(3, ant.nv, dtype=torch.float64)
    loss = ant.forward_dynamics(q, zero + 0.3, zero).square().sum()
    first = torch.autograd.grad(loss, q, retain_graph=True)[0]
    ant.forward_dynamics(q.detach() + 1.0, zero, zero)
    assert torch.equal(first, torch.autograd.grad(loss, q)[0])
    assert first.abs().max() > 0.0


def test_limit_and_joint_damping_act_inside_the_range_and_the_spring_pulls_to_rest():
    """A single hinge of inertia 2 with damping 0.3 + limit damping 0.2, spring 5 about 0.4."""
    joint = Joint(
        "hinge", kind="revolute", axis=[0.0, 0.0, 1.0], damping=0.3, limit_kd=0.2, stiffness=5.0,
        rest=0.4, lower=-1.0, upper=1.0, limit_ke=70.0,
    )  # fmt: skip
    disc = robots.body("disc", -1, joint, [], mass=1.0, com=np.zeros(3), inertia=2 * np.eye(3))
    robot = Articulation(robots.RobotDescription("disc", "", (disc,)), 1, dtype=torch.float64)
    step, h = step_function(robot, dt=0.01, substeps=1), 0.01
    for q, violation in ((0.7, 0.0), (1.5, -0.5), (-1.2, 0.2)):
        _, qd = step(rows([q]), rows([3.0]), rows([1.0]))
        torque = 1.0 - 0.5 * 3.0 - 5.0 * (q - 0.4) + 70.0 * violation
        assert np.isclose(qd.item(), 3.0 + h * torque / 2.0, rtol=1e-14)


ACCEPTED = {"joint_q": (3, 15), "joint_qd": (3, 14), "joint_f": (3, 14)}


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: good[:2],
        lambda good: good[:, :-1],
        lambda good: good.float(),
        lambda good: good.numpy(),
        lambda good: good.to("meta"),
    ],
)
def test_a_wrong_argument_is_named(ant, name, spoil):
    arguments = {key: torch.zeros(shape, dtype=torch.float64) for key, shape in ACCEPTED.items()}
    arguments[name] = spoil(arguments[name])
    with pytest.raises(
        ValueError, match=rf"{name}: .* given, .*\(3, {ACCEPTED[name][1]}\).*accept"
    ):
        ant.forward_dynamics(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs: 0 given"),
        ({"num_envs": True}, "num_envs: True given"),
        ({"num_envs": 2.0}, "num_envs: 2.0 given"),
        ({"dtype": torch.float16}, "dtype: torch.float16 given"),
        ({"inertia": {"nose": np.eye(3)}}, "inertia: body 'nose' given"),
        ({"inertia": {"torso": np.arange(9.0).reshape(3, 3)}}, "symmetric"),
        ({"inertia": {"torso": np.eye(2)}}, "symmetric"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Articulation(robots.ant(), **{"num_envs": 1, **options})


@pytest.mark.parametrize(
    "options", [{"dt": 0.0}, {"dt": float("nan")}, {"substeps": 0}, {"substeps": 2.0}]
)
def test_a_control_step_of_no_length_is_refused(ant, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: .* given, an? "):
        step_function(ant, **options)


def test_a_floating_robot_too_light_for_single_precision_is_refused():
    mite = robots.body("mite", -1, Joint("root", "free"), [robots.Shape("sphere", radius=2e-4)])
    grain = robots.RobotDescription("grain", "", (mite,))
    with pytest.raises(ValueError, match=r"the mass of mite's tree: .*e-08 kg given, at least"):
        Articulation(grain, 1)
    assert Articulation(grain, 1, dtype=torch.float64).nv == 6


def test_a_robot_without_joints_to_move_stands_still():
    weld = Joint("weld", kind="fixed", parent_position=[1.0, 2.0, 3.0])
    block = robots.body("block", -1, weld, [robots.Shape("sphere", radius=0.1)])
    robot = Articulation(robots.RobotDescription("weld", "", (block,)), 2, dtype=torch.float64)
    assert (robot.nq, robot.nv) == (0, 0)
    nothing = torch.zeros(2, 0, dtype=torch.float64)
    assert robot.body_poses(nothing)[:, 0].tolist() == [[1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0]] * 2
    assert robot.forward_dynamics(nothing, nothing, nothing).shape == (2, 0)


def test_a_free_joint_below_a_body_is_refused():
    bodies = robots.floating_robot().bodies
    below = (bodies[0], replace(bodies[4], parent=0))
    with pytest.raises(ValueError, match="a free one given, free ones on roots accepted"):
        Articulation(robots.RobotDescription("two", "", below), 1)
