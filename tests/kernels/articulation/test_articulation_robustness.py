"""Far from the origin, non-finite states, many trees: nothing spills over."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.kernels.articulation import robots
from tests.kernels.articulation.rollout import kinematics, rows, step_function
from tests.kernels.articulation.test_dynamics_resimulated import ANT_START
from warp_envs.articulation.articulation import Articulation
from warp_envs.usd.description import rotation_matrix

FAR = 1e4  # m


@pytest.mark.slow
def test_a_free_robot_far_away_loses_no_digit():
    robot = Articulation(robots.ant(), 2)
    rng = np.random.default_rng(6)
    q = rows(ANT_START, 2).float()
    q[1, :2] += FAR
    qd, f = (torch.tensor(rng.normal(size=robot.nv)).float().repeat(2, 1) for _ in range(2))
    for values in (
        robot.forward_dynamics(q, qd, f),
        robot.mass_matrix(q),
        step_function(robot)(q, qd, f)[1],
    ):
        assert torch.equal(values[0], values[1])


def test_a_robot_mounted_far_away_loses_no_digit():
    near = robots.skew_robot()
    base = near.bodies[0]
    joint = replace(base.joint, parent_position=base.joint.parent_position + FAR)
    far = replace(near, bodies=(replace(base, joint=joint), *near.bodies[1:]))
    q, qd = robots.random_state(near, np.random.default_rng(7))
    arguments = [rows(values).float() for values in (q, qd, qd)]
    expected, found = (
        Articulation(description, 1).forward_dynamics(*arguments) for description in (near, far)
    )
    assert torch.equal(expected, found)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_a_diverged_environment_leaves_the_others_alone(bad):
    robot = Articulation(robots.ant(), 3)
    step = step_function(robot)
    q = rows(ANT_START, 3).float()
    qd = torch.zeros(3, robot.nv)
    f = torch.ones(3, robot.nv, requires_grad=True)
    broken_q, broken_qd = q.clone(), qd.clone()
    broken_q[1, 3:] = bad
    broken_qd[1] = bad
    gradients, states = [], []
    for start in ((q, qd), (broken_q, broken_qd)):
        state = step(*step(*start, f), f)
        others = state[0][::2].sum() + state[1][::2].sum()
        gradients.append(torch.autograd.grad(others, f)[0][::2])
        states.append(torch.cat(state, dim=1)[::2].detach())
    assert torch.equal(*states)
    assert torch.equal(*gradients)


def test_two_trees_move_as_each_would_alone():
    both = robots.floating_robot()
    alone = replace(both, bodies=both.bodies[4:5])
    q, qd = robots.random_state(both, np.random.default_rng(8))
    f = np.random.default_rng(9).normal(size=both.nv)
    together = Articulation(both, 1, dtype=torch.float64)
    single = Articulation(alone, 1, dtype=torch.float64)
    at_q, at_v = together.q_start[4], together.qd_start[4]
    found = together.forward_dynamics(rows(q), rows(qd), rows(f))[:, at_v : at_v + 6]
    expected = single.forward_dynamics(
        rows(q[at_q : at_q + 7]), rows(qd[at_v : at_v + 6]), rows(f[at_v : at_v + 6])
    )
    assert torch.equal(found, expected)


def test_body_rates_are_the_derivatives_of_the_poses():
    description = robots.ball_robot()
    q, qd = robots.random_state(description, np.random.default_rng(10))
    robot = Articulation(description, 1, dtype=torch.float64)
    h, free = 1e-6, torch.zeros(1, robot.nv, dtype=torch.float64)
    step = step_function(robot, dt=h, substeps=1)
    before, rates = kinematics(robot)(rows(q), rows(qd))
    after, _ = kinematics(robot)(*step(rows(q), rows(qd), free))
    for body, old, new, rate in zip(
        description.bodies, before[0].numpy(), after[0].numpy(), rates[0].numpy(), strict=True
    ):
        turns = [rotation_matrix(pose[3:]) for pose in (old, new)]
        coms = [pose[:3] + turn @ body.com for pose, turn in zip((old, new), turns, strict=True)]
        assert np.allclose((coms[1] - coms[0]) / h, rate[:3], atol=1e-4)
        spin = (turns[1] @ turns[0].T - np.eye(3)) / h
        assert np.allclose([spin[2, 1], spin[0, 2], spin[1, 0]], rate[3:], atol=1e-4)
