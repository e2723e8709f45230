"""Whole control steps against the independent re-simulation, contact and limits included."""

import numpy as np
import pytest
import torch

from tests.kernels.articulation import robots
from tests.kernels.articulation.resimulation import Resimulation
from tests.kernels.articulation.rollout import rows, step_function
from warp_envs.articulation.articulation import Articulation

STEPS, SUBSTEPS, DT = 20, 16, 1.0 / 60.0


def tilted(position, hinges):
    """Coordinates of a free base, not quite upright, and what follows."""
    quat = np.array([0.05, -0.1, 0.2, 1.0])
    return np.array([*position, *(quat / np.linalg.norm(quat)), *hinges])


ANT_START = tilted([0.1, -0.2, 0.45], [0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0])
CASES = {  # robot, first coordinates, first driven degree of freedom, joint force
    "ant": (robots.ant(), ANT_START, 6, 60.0),
    "ant_dflex": (robots.ant_dflex(), ANT_START, 6, 60.0),
    "hopper": (robots.hopper(), np.array([0.0, -0.05, 0.1, -0.3, -0.2, 0.2]), 3, 60.0),
    "boxes": (robots.box_robot(), tilted([0.0, 0.0, 0.2], [0.3, 0.0, 0.0, 0.0, 1.0]), 6, 1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_control_steps_agree(name):
    description, q, driven, strength = CASES[name]
    rng = np.random.default_rng(5)
    robot = Articulation(description, 1, dtype=torch.float64)
    step, other = step_function(robot, DT, SUBSTEPS), Resimulation(description)
    qd = 0.25 * rng.uniform(-1, 1, robot.nv)
    state = rows(q), rows(qd)
    for _ in range(STEPS):
        f = np.zeros(robot.nv)
        f[driven:] = strength * rng.uniform(-1, 1, robot.nv - driven)
        state = step(*state, rows(f))
        q, qd = other.control_step(q, qd, f, DT, SUBSTEPS)
        for ours, theirs in zip(state, (q, qd), strict=True):
            error = np.abs(ours[0].numpy() - theirs).max() / max(1.0, np.abs(theirs).max())
            assert error <= 1e-6
    assert other.touched > 100, "the robot should have stood on the ground"
