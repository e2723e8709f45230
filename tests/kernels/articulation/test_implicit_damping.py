"""Damping that acts at the velocity after a substep."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch

from tests.kernels.articulation import robots
from tests.kernels.articulation.control_steps import (
    by_numpy,
    program,
    random_inputs,
    values_and_gradients,
    worst,
)
from tests.warp_envs.articulation.varied import everything, scattered
from warp_envs.usd.conversion.convert import convert_robot
from warp_envs.usd.loader import load_robot

ENVS, STEPS, SIZE = 8, 16, 1e-6
# a hinge and a ball, damped out of proportion, below a floating body
ROBOT = """
<mujoco><option timestep="0.004166666666666667" integrator="Euler"/>
  <worldbody><body pos="0 0 1"><joint type="slide" axis="1 0 0" damping="0.3"/>
    <geom type="capsule" fromto="0 0 0 0.4 0.1 0" size="0.05" mass="1"/>
    <body pos="0.4 0 0"><joint axis="0 1 0.2" damping="40" armature="0.01" stiffness="3"/>
      <geom type="box" size="0.04 0.1 0.06" pos="0.1 0 0" mass="0.5"/>
      <body pos="0.2 0 0"><joint axis="1 0 0" damping="20"/>
        <geom type="capsule" fromto="0 0 0 0.2 0.1 0" size="0.04" mass="0.02"/></body>
    </body></body></worldbody></mujoco>
"""


def damped(**changes):
    """The robot with balls of the dynamics' tests, stiffly damped."""
    robot = robots.ball_robot()
    bodies = [
        body if body.joint.kind == "free" else replace(body, joint=replace(body.joint, damping=1e3))
        for body in robot.bodies
    ]
    return replace(robot, bodies=bodies, contact=None, implicit_damping=True, **changes)


@pytest.mark.parametrize("plain", [True, False])
def test_the_motion_is_that_of_mujocos_euler(plain, tmp_path):
    (tmp_path / "robot.xml").write_text(ROBOT)
    convert_robot(tmp_path / "robot.xml", tmp_path / "robot.usda", ground=False)
    robot = replace(load_robot(tmp_path / "robot.usda"), implicit_damping=True)
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "robot.xml"))
    data = mujoco.MjData(model)
    data.qvel[:] = 2.0, -3.0, 5.0
    q, qd = (torch.tensor(x.copy())[None] for x in (data.qpos, data.qvel))
    still = torch.zeros_like(qd)
    for _ in range(10):
        mujoco.mj_step(model, data, 4)
        if plain:
            q, qd = program(robot, 1, torch.float64, 4, plain=True)(q, qd, still)
        else:
            q, qd = by_numpy(robot, [q, qd, still], [torch.zeros_like(q), still], 4)[:2]
    for found, wanted in ((q, data.qpos), (qd, data.qvel)):
        np.testing.assert_allclose(found[0], wanted, rtol=1e-6, atol=1e-6)


def test_without_it_the_same_robot_bursts():
    robot = damped()
    inputs, _ = random_inputs(robot, ENVS, seed=0)
    speeds = []
    for implicit in (True, False):
        step = program(
            replace(robot, implicit_damping=implicit), ENVS, torch.float64, 4, plain=True
        )
        q, qd, force = inputs
        for _ in range(5):
            q, qd = step(q, qd, force)
        speeds.append(qd.abs().max().item())
    assert speeds[0] < 100.0 and not speeds[1] < 1e6


def test_compiled_equations_and_their_gradients_are_the_plain_kernels():
    robot = damped()
    damping = tuple(name for name in everything(robot) if name.endswith(".damping"))
    inputs, seeds = random_inputs(robot, ENVS, seed=1)
    for names in ((), damping):
        more = [scattered(robot, names, ENVS, 3)[1]] if names else []
        plain = program(robot, ENVS, torch.float64, 3, plain=True, varied=names)
        found = by_numpy(robot, [*inputs, *more], seeds, 3, names)
        assert worst(found, values_and_gradients(plain, [*inputs, *more], seeds)) < 1e-9


def test_gradient_over_16_control_steps():
    robot = damped()
    inputs, _ = random_inputs(robot, 1, seed=2)
    weights = torch.tensor(np.random.default_rng(2).normal(size=(STEPS, robot.nq)))

    def total(step, q, qd, force):
        value = 0.0
        for row in weights:
            q, qd = step(q, qd, force)
            value = value + q @ row
        return value

    start = torch.cat(inputs, 1)
    sizes, count = [x.shape[1] for x in inputs], start.shape[1]
    moved = torch.cat([start + SIZE * torch.eye(count), start - SIZE * torch.eye(count)])
    many = program(robot, 2 * count, torch.float64, 4, plain=True)
    ends = total(many, *(x.contiguous() for x in moved.split(sizes, 1)))
    differences = (ends[:count] - ends[count:]) / (2 * SIZE)
    leaves = [x.clone().requires_grad_() for x in inputs]
    one = program(robot, 1, torch.float64, 4, plain=True)
    gradient = torch.cat(torch.autograd.grad(total(one, *leaves).sum(), leaves), 1)[0]
    assert (gradient - differences).abs().max() < 1e-5 * differences.abs().max()
