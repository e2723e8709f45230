"""The ground's forces as they are shown: against weight, momentum, and the reward's own kernel."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import warp_envs
from tests.kernels.articulation.test_contact import solid
from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.ground_contacts import GroundContacts
from warp_envs.bridge.program import Program

DT = 1e-4  # [s]


def stepped(robot: Articulation, q: torch.Tensor, qd: torch.Tensor) -> torch.Tensor:
    """Velocities after one substep of `DT`."""
    n = robot.num_envs
    program = Program("cpu")
    arrays = [program.array((n, w), robot.scalar) for w in (robot.nq, robot.nv, robot.nv)]
    after = [program.array((n, w), robot.scalar) for w in (robot.nq, robot.nv)]
    robot.record_step(program, *arrays, *after, dt=DT, substeps=1, compiled=False)
    return program.function(arrays, after)(q, qd, torch.zeros_like(qd))[1]


def test_robots_at_rest_press_on_the_ground_with_their_weight():
    env = warp_envs.make("ant", num_envs=3)
    env.reset(seed=0)
    step, state = env.physics(), list(env._split_state().values())
    for _ in range(400):  # long after they have come to rest
        state = list(step(*state, torch.zeros(3, env.num_actions)))
    with torch.no_grad():
        found = env.ground_contacts.at(torch.cat(state[:2], dim=1))
    assert found.shape == (3, len(env.ground_contacts.bodies), 6)
    assert_allclose(found[..., 2].sum(dim=1), env.weight, rtol=0.02)
    assert_allclose(found[..., :2].sum(dim=1), 0.0, atol=0.02 * env.weight)
    mass = sum(body.mass for body in env.articulation.description.bodies)
    assert env.weight == pytest.approx(9.81 * mass)


def test_a_body_is_moved_and_turned_as_the_forces_say():
    """F = m (dv/dt - g) and, without friction, (centre of pressure - centre) x F = I dw/dt."""
    smooth = solid("box")
    smooth = replace(smooth, contact=replace(smooth.contact, mu=0.0, kf=0.0))
    robot = Articulation.from_description(smooth, 40, dtype=torch.float64)
    rng = np.random.default_rng(1)
    q, qd = np.zeros((40, 7)), 0.2 * rng.normal(size=(40, 6))
    q[:, 2], qd[:, 3:] = rng.uniform(0.07, 0.16, size=40), 0.0
    q[:, 3:] = [0.0, 0.0, 0.0, 1.0] + 0.1 * rng.normal(size=(40, 4))
    q[:, 3:] /= np.linalg.norm(q[:, 3:], axis=1, keepdims=True)
    given = [torch.tensor(x) for x in (q, qd)]
    (body,) = smooth.bodies
    assert_allclose(body.com, 0.0, atol=1e-12)
    change = ((stepped(robot, *given) - given[1]) / DT).numpy()
    found = GroundContacts(robot).at(torch.cat(given, dim=1)).numpy()[:, 0]
    force, place = found[:, :3], found[:, 3:]
    assert 10 < (force[:, 2] > 0.0).sum() < 40  # some are above the ground
    scale = body.mass * 9.81
    assert_allclose(force, body.mass * (change[:, :3] + [0.0, 0.0, 9.81]), atol=0.01 * scale)
    x, y, z, w = q[:, 3:].T
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    ).transpose(2, 0, 1)
    inertia = turn @ body.inertia @ turn.transpose(0, 2, 1)
    torque = np.einsum("nij,nj->ni", inertia, change[:, 3:])
    arm = np.where(force[:, 2:] > 0.0, place - q[:, :3], 0.0)
    assert_allclose(np.cross(arm, force), torque, atol=0.01 * 0.2 * scale)


def test_they_are_those_of_the_rewards_kernel_with_what_varies():
    """On every body of an Ant, environments differing in friction, stiffness and mass."""
    names = ["friction", "contact_ke", "torso.mass"]
    env = warp_envs.make("ant", num_envs=4, parameters=names)
    env.reset(seed=0)
    ke, mu = (env.parameters()[name].default for name in ("contact_ke", "friction"))
    factors = torch.tensor([0.5, 1.0, 1.5, 2.0])
    env.set_parameters({"contact_ke": float(ke) * factors, "friction": float(mu) * factors})
    joint_q = env.get_state()["joint_q"]
    joint_q[:, 2] = 0.1  # into the ground
    env.set_state({"joint_q": joint_q})
    with torch.no_grad():
        robot, states = env.articulation, env.contact_states()
        found = env.ground_contacts.at(states)
        program = Program("cpu")
        widths = (robot.nq, robot.nv, robot.columns.count)
        given = [program.array((4, width), robot.scalar) for width in widths]
        force = program.array((4, len(robot.body_names), 3), robot.scalar)
        robot.record_contact_forces(program, *given[:2], force, given[2])
        (wanted,) = program.function(given, [force])(*states.split(widths, dim=1))
    bodies = list(env.ground_contacts.bodies)
    assert_allclose(found[..., :3], wanted[:, bodies], rtol=1e-5, atol=1e-3)
    assert len({round(float(x)) for x in wanted[..., 2].sum(dim=1)}) == 4
    many = env.ground_contacts.at(states.repeat(70, 1))  # more than are found at once
    assert_allclose(many, found.repeat(70, 1, 1), rtol=1e-6)
