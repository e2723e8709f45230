"""Mass matrix, forward dynamics and poses against MuJoCo at random states."""

import numpy as np
import pytest
import torch

from tests.kernels.articulation import robots
from tests.kernels.articulation.mujoco_reference import MujocoReference
from warp_envs.articulation.articulation import Articulation
from warp_envs.usd.description import rotation_matrix

STATES = 100
ROBOTS = {
    "ant": robots.ant,
    "hopper": robots.hopper,
    "ball": robots.ball_robot,
    "skew": robots.skew_robot,
    "floating": robots.floating_robot,
}
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}


def relative_error(ours, theirs):
    """Largest over the states of the error's norm over the reference's norm."""
    axes = tuple(range(1, ours.ndim))
    error = np.sqrt(((ours - theirs) ** 2).sum(axes))
    return (error / np.sqrt((theirs**2).sum(axes))).max()


@pytest.fixture(scope="module", params=list(ROBOTS))
def case(request):
    """A robot, random states with forces, and what MuJoCo says about them."""
    description = ROBOTS[request.param]()
    rng = np.random.default_rng(0)
    reference = MujocoReference(description)
    rows = {name: [] for name in ("q", "qd", "f", "qdd", "matrix", "position", "rotation")}
    for _ in range(STATES):
        q, qd = robots.random_state(description, rng)
        f = rng.normal(size=description.nv) * 10.0
        reference.set_state(q, qd)
        poses = [reference.body_pose(index) for index in range(len(description.bodies))]
        values = (
            q, qd, f, reference.acceleration(f), reference.mass_matrix(),
            [pose[0] for pose in poses], [pose[1] for pose in poses],
        )  # fmt: skip
        for row, value in zip(rows.values(), values, strict=True):
            row.append(value)
    return description, {name: np.array(row) for name, row in rows.items()}


@pytest.fixture(params=[torch.float64, torch.float32])
def dtype(request):
    return request.param


def test_forward_dynamics(case, dtype):
    description, rows = case
    robot = Articulation(description, STATES, dtype=dtype)
    arguments = [torch.tensor(rows[name], dtype=dtype) for name in ("q", "qd", "f")]
    qdd = robot.forward_dynamics(*arguments).double().numpy()
    assert relative_error(qdd, rows["qdd"]) <= TOLERANCE[dtype]


def test_mass_matrix(case, dtype):
    description, rows = case
    robot = Articulation(description, STATES, dtype=dtype)
    matrix = robot.mass_matrix(torch.tensor(rows["q"], dtype=dtype)).double().numpy()
    assert relative_error(matrix, rows["matrix"]) <= TOLERANCE[dtype]


def test_body_poses(case, dtype):
    description, rows = case
    robot = Articulation(description, STATES, dtype=dtype)
    poses = robot.body_poses(torch.tensor(rows["q"], dtype=dtype)).double().numpy()
    turns = np.array([[rotation_matrix(pose[3:]) for pose in row] for row in poses])
    assert np.abs(poses[:, :, :3] - rows["position"]).max() <= 10 * TOLERANCE[dtype]
    assert np.abs(turns - rows["rotation"]).max() <= TOLERANCE[dtype]
