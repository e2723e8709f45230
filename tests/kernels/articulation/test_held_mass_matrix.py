"""A mass matrix held for some substeps: the re-simulation, both kernel families, gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.kernels.articulation import published_robots, robots
from tests.kernels.articulation.control_steps import (
    by_numpy,
    program,
    random_inputs,
    values_and_gradients,
    worst,
)
from tests.kernels.articulation.resimulation import Resimulation
from tests.kernels.articulation.rollout import rows, step_function
from tests.kernels.articulation.test_dynamics_resimulated import ANT_START, CASES
from tests.kernels.compiled.test_cpp import ROBOT, states
from tests.warp_envs.articulation.varied import everything, scattered
from warp_envs.articulation.articulation import Articulation

DT, SIZE = 1.0 / 60.0, 1e-6
HUMANOID_START = np.array([0.0, 0.0, 1.2, 0.02, -0.03, 0.05, 1.0, *[0.1] * 21])
ROBOTS = {  # robot, first coordinates, first driven dof, joint force, substeps, held for
    **{name: (*CASES[name], 16, 16) for name in ("hopper", "boxes")},
    "ant": (*CASES["ant"], 16, 5),
    "half_cheetah": (published_robots.half_cheetah(), -0.2 * np.eye(9)[1], 3, 200.0, 16, 16),
    "humanoid_dflex": (published_robots.humanoid_dflex(), HUMANOID_START, 6, 40.0, 48, 48),
}


def unit(q, start):
    q = q.copy()
    q[start : start + 4] /= np.linalg.norm(q[start : start + 4])
    return q


@pytest.mark.parametrize("name", ROBOTS)
def test_control_steps_agree_with_a_second_simulation(name):
    description, q, driven, strength, substeps, every = ROBOTS[name]
    q = unit(q, 3) if driven == 6 else q
    rng = np.random.default_rng(5)
    robot = Articulation(description, 1, dtype=torch.float64)
    step = step_function(robot, DT, substeps, every=every)
    exact, other = step_function(robot, DT, substeps), Resimulation(description)
    qd = 0.25 * rng.uniform(-1, 1, robot.nv)
    state = exactly = rows(q), rows(qd)
    for _ in range(10 if substeps == 48 else 20):
        f = np.zeros(robot.nv)
        f[driven:] = strength * rng.uniform(-1, 1, robot.nv - driven)
        state, exactly = step(*state, rows(f)), exact(*exactly, rows(f))
        q, qd = other.control_step(q, qd, f, DT, substeps, every)
        for ours, theirs in zip(state, (q, qd), strict=True):
            error = np.abs(ours[0].numpy() - theirs).max() / max(1.0, np.abs(theirs).max())
            assert error <= 1e-6
    assert (exactly[0] - state[0]).abs().max() > 1e-4, "holding should make a difference"
    assert other.touched > 100, "the robot should have stood on the ground"


@pytest.mark.parametrize(
    ("name", "implicit"), [("hopper", False), ("ball_robot", True), ("floating_robot", False)]
)
def test_compiled_equations_are_the_plain_kernels(name, implicit):
    robot = replace(getattr(robots, name)(), implicit_damping=implicit)
    for names in ((), everything(robot)):
        inputs, seeds = random_inputs(robot, 3, seed=3)
        inputs += [scattered(robot, names, 3, 3)[1]] if names else []
        plain = program(robot, 3, torch.float64, 7, plain=True, varied=names, every=3)
        found = by_numpy(robot, inputs, seeds, 7, names, every=3)
        assert worst(found, values_and_gradients(plain, inputs, seeds)) < 1e-9


@pytest.mark.parametrize(
    ("dtype", "most"),
    [(torch.float32, 1e-4), pytest.param(torch.float64, 1e-11, marks=pytest.mark.slow)],
)
def test_the_compiled_kernel_is_its_equations(dtype, most):
    inputs, seeds = states(11)
    expected = by_numpy(ROBOT, inputs, seeds, 7, every=3)
    inputs, seeds = states(11, dtype)
    kernel = program(ROBOT, 11, dtype, 7, every=3)
    assert worst(values_and_gradients(kernel, inputs, seeds), expected) < most


def test_one_in_every_substep_is_the_exact_one():
    """Of what is longer than a control step, too, one is held."""
    robot = Articulation(robots.hopper(), 1, dtype=torch.float64)
    (q, qd, f), _ = random_inputs(robots.hopper(), 1, seed=4)
    ends = [step_function(robot, substeps=4, every=every)(q, qd, f)[1] for every in (4, 9)]
    assert torch.equal(*ends)
    # the same by the two factorisations, of one substep
    held = step_function(robot, substeps=1, every=2)(q, qd, f)[1]
    torch.testing.assert_close(held, step_function(robot, substeps=1)(q, qd, f)[1])


@pytest.mark.parametrize("every", [16, 6])
def test_gradient_of_256_substeps_with_contact(every):
    description = robots.ant()
    rng = np.random.default_rng(2)
    sizes = [16 * 8, 15, 14]
    start = [rng.uniform(-1, 1, sizes[0]), unit(ANT_START, 3), 0.25 * rng.uniform(-1, 1, 14)]
    x, weights = torch.tensor(np.concatenate(start)), torch.tensor(rng.normal(size=(16, 29)))

    def rollout(packed):
        robot = Articulation(description, len(packed), dtype=torch.float64)
        step = step_function(robot, every=every)
        actions, q, qd = packed.split(sizes, dim=1)
        total = torch.zeros(len(packed), dtype=torch.float64)
        for t, action in enumerate(actions.split(8, dim=1)):
            q, qd = step(q, qd, torch.nn.functional.pad(60.0 * action, (6, 0)))
            total = total + torch.cat([q, qd], dim=1) @ weights[t]
        return total

    ends = rollout(torch.cat([x + SIZE * torch.eye(len(x)), x - SIZE * torch.eye(len(x))]))
    differences = (ends[: len(x)] - ends[len(x) :]) / (2 * SIZE)
    leaf = x[None].clone().requires_grad_()
    rollout(leaf).sum().backward()
    assert (leaf.grad[0] - differences).abs().max() <= 1e-5 * differences.abs().max()
