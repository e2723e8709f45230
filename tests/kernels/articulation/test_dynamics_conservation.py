"""What physics keeps: energy to the order of the integrator, momentum, and rest at the end."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from tests.kernels.articulation import robots
from tests.kernels.articulation.rollout import kinematics, rows, step_function
from tests.kernels.articulation.test_dynamics_resimulated import ANT_START
from warp_envs.articulation.articulation import Articulation
from warp_envs.usd.description import rotation_matrix


def floating_ant(gravity=-9.81):
    """An Ant without ground, damping or limits, and a tumbling state of it."""
    description = replace(
        robots.ant(contact=False, passive=False), gravity=np.array([0.0, 0.0, gravity])
    )
    return description, rows(ANT_START), rows(np.random.default_rng(4).normal(size=description.nv))


def energy(robot, q, qd):
    """Kinetic energy, armature included, plus potential energy [J]."""
    kinetic = 0.5 * qd[0] @ robot.mass_matrix(q)[0] @ qd[0]
    potential = 0.0
    for body, pose in zip(robot.description.bodies, robot.body_poses(q)[0].numpy(), strict=True):
        com = pose[:3] + rotation_matrix(pose[3:]) @ body.com
        potential -= body.mass * robot.description.gravity @ com
    return float(kinetic + potential)


def momentum(robot, q, qd):
    """Linear momentum and angular momentum about the world's origin."""
    poses, velocities = (values[0].numpy() for values in kinematics(robot)(q, qd))
    total = np.zeros(6)
    for body, pose, velocity in zip(robot.description.bodies, poses, velocities, strict=True):
        rotation = rotation_matrix(pose[3:])
        com, linear = pose[:3] + rotation @ body.com, body.mass * velocity[:3]
        spin = rotation @ body.inertia @ rotation.T @ velocity[3:]
        total += np.concatenate([linear, np.cross(com, linear) + spin])
    return total


def tumble(robot, q, qd, substeps, steps=15):
    step = step_function(robot, substeps=substeps)
    for _ in range(steps):
        q, qd = step(q, qd, torch.zeros_like(qd))
    return q, qd


def test_energy_drifts_with_the_first_order_of_the_step():
    description, q, qd = floating_ant()
    robot = Articulation(description, 1, dtype=torch.float64)
    start = energy(robot, q, qd)
    drifts = [energy(robot, *tumble(robot, q, qd, n)) - start for n in (64, 128, 256)]
    ratios = [coarse / fine for coarse, fine in pairwise(drifts)]
    assert all(1.9 < ratio < 2.1 for ratio in ratios), ratios
    assert abs(drifts[-1]) < 0.01 * start


def test_momentum_drifts_with_the_first_order_of_the_step_and_not_at_all_in_the_limit():
    description, q, qd = floating_ant(gravity=0.0)
    robot = Articulation(description, 1, dtype=torch.float64)
    start = momentum(robot, q, qd)
    once, twice = (momentum(robot, *tumble(robot, q, qd, n)) for n in (128, 256))
    assert np.abs(2.0 * twice - once - start).max() < 2e-3 * np.abs(start).max()
    assert 1.9 < np.linalg.norm(once - start) / np.linalg.norm(twice - start) < 2.1


def test_forces_between_bodies_change_no_momentum():
    """d/dt of both momenta along the equations of motion, hinges driven: zero to rounding."""
    description, q, qd = floating_ant(gravity=0.0)
    robot = Articulation(description, 1, dtype=torch.float64)
    f = torch.zeros_like(qd)
    f[:, 6:] = torch.tensor(np.random.default_rng(5).normal(size=8)) * 50.0
    qdd = robot.forward_dynamics(q, qd, f)
    size = 1e-5
    omega, quat = qd[0, 3:6].numpy(), q[0, 3:7].numpy()
    spin = 0.5 * np.append(quat[3] * omega + np.cross(omega, quat[:3]), -omega @ quat[:3])
    rate = torch.cat([qd[:, :3], torch.tensor(spin)[None], qd[:, 6:]], dim=1)  # torso's com is 0
    ahead = momentum(robot, q + size * rate, qd + size * qdd)
    behind = momentum(robot, q - size * rate, qd - size * qdd)
    assert np.abs(ahead - behind).max() / (2 * size) < 1e-6 * np.abs(qdd.numpy()).max()


def test_a_dropped_ant_comes_to_rest():
    robot = Articulation(robots.ant(), 1, dtype=torch.float64)
    step = step_function(robot)
    q, qd = rows(ANT_START), torch.zeros(1, robot.nv, dtype=torch.float64)
    q[0, 2] = 0.9
    for _ in range(300):
        q, qd = step(q, qd, torch.zeros_like(qd))
    # not zero: below the Coulomb bound friction is viscous, so a loaded foot still creeps
    assert qd.abs().max() < 5e-3
    assert 0.2 < q[0, 2] < 0.75
