"""Gradients of many control steps against central differences, in double precision."""

import numpy as np
import pytest
import torch

from tests.kernels.articulation import robots
from tests.kernels.articulation.rollout import step_function
from tests.kernels.articulation.test_dynamics_resimulated import ANT_START, tilted
from warp_envs.articulation.articulation import Articulation

STEPS = 16  # of 16 substeps each
SIZE = 1e-6

CASES = {  # robot, first coordinates, first driven degree of freedom, joint force at full action
    "ant": (robots.ant, ANT_START, 6, 60.0),
    "hopper": (robots.hopper, np.array([0.0, -0.05, 0.1, -0.3, -0.2, 0.2]), 3, 60.0),
    "boxes": (robots.box_robot, tilted([0.0, 0.0, 0.2], [0.3, 0.0, 0.0, 0.0, 1.0]), 6, 1.0),
}


def rollout(robot, packed, driven, strength):
    """A random linear function of the states of all steps, (rows,), of actions and first state."""
    step = step_function(robot)
    sizes = [STEPS * (robot.nv - driven), robot.nq, robot.nv]
    actions, q, qd = packed.split(sizes, dim=1)
    weights = torch.tensor(np.random.default_rng(1).normal(size=(STEPS, robot.nq + robot.nv)))
    total = torch.zeros(len(packed), dtype=torch.float64)
    for t, action in enumerate(actions.split(robot.nv - driven, dim=1)):
        q, qd = step(q, qd, torch.nn.functional.pad(strength * action, (driven, 0)))
        total = total + torch.cat([q, qd], dim=1) @ weights[t]
    return total


def first_inputs(description, q, driven):
    rng = np.random.default_rng(2)
    actions = rng.uniform(-1, 1, STEPS * (description.nv - driven))
    qd = 0.25 * rng.uniform(-1, 1, description.nv)
    return torch.tensor(np.concatenate([actions, q, qd]))


@pytest.mark.parametrize("name", CASES)
def test_gradient_of_256_substeps_with_contact(name):
    make, q, driven, strength = CASES[name]
    description = make()
    x = first_inputs(description, q, driven)
    moved = torch.cat([x + SIZE * torch.eye(len(x)), x - SIZE * torch.eye(len(x)), x[None]])
    batch = Articulation(description, len(moved), dtype=torch.float64)
    above, below, here = rollout(batch, moved, driven, strength).split([len(x), len(x), 1])
    differences = (above - below) / (2.0 * SIZE)
    scale = differences.abs().max()
    one_sided = ((above - here) - (here - below)).abs() / SIZE
    assert one_sided.max() <= 1e-4 * scale, "a kink lies within the differences"

    robot = Articulation(description, 1, dtype=torch.float64)
    leaf = x[None].clone().requires_grad_(True)
    rollout(robot, leaf, driven, strength).sum().backward()
    assert (leaf.grad[0] - differences).abs().max() <= 1e-5 * scale

    airborne = Articulation(robots.without_ground(description), 1, dtype=torch.float64)
    assert abs(rollout(airborne, x[None], driven, strength) - here) > 1.0, "no contact was made"


@pytest.mark.parametrize("make", [robots.ball_robot, robots.skew_robot, robots.floating_robot])
def test_gradients_of_forward_dynamics_mass_matrix_and_poses(make):
    description = make()
    rng = np.random.default_rng(3)
    q, qd = robots.random_state(description, rng)
    f = rng.normal(size=description.nv)
    robot = Articulation(description, 1, dtype=torch.float64)
    arguments = [torch.tensor(value)[None].requires_grad_(True) for value in (q, qd, f)]
    assert torch.autograd.gradcheck(robot.forward_dynamics, arguments, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradcheck(robot.mass_matrix, arguments[:1], atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradcheck(robot.body_poses, arguments[:1], atol=1e-6, rtol=1e-5)


def test_float32_gradient_is_the_float64_gradient_rounded():
    make, q, driven, strength = CASES["ant"]
    description = make()
    x = first_inputs(description, q, driven)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        robot = Articulation(description, 1, dtype=dtype)
        leaf = x[None].to(dtype).requires_grad_(True)
        step = step_function(robot)
        sizes = [STEPS * (robot.nv - driven), robot.nq, robot.nv]
        actions, q_now, qd_now = leaf.split(sizes, dim=1)
        for action in actions.split(robot.nv - driven, dim=1)[:4]:
            force = torch.nn.functional.pad(strength * action, (driven, 0))
            q_now, qd_now = step(q_now, qd_now, force)
        (q_now.sum() + qd_now.sum()).backward()
        gradients.append(leaf.grad[0].double())
    single, double = gradients
    assert (single - double).abs().max() <= 1e-2 * double.abs().max()
