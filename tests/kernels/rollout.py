"""Control steps of an articulation without an environment around it."""

import torch

from warp_envs.articulation import Articulation
from warp_envs.bridge import Program


def step_function(robot: Articulation, dt: float = 1.0 / 60.0, substeps: int = 16):
    """(joint_q, joint_qd, joint_f) -> (joint_q, joint_qd) one control step later, differentiable."""
    program = Program(str(robot.device))
    shapes = [robot.nq, robot.nv, robot.nv, robot.nq, robot.nv]
    rows = [program.array((robot.num_envs, width), robot.scalar) for width in shapes]
    robot.record_step(program, *rows, dt=dt, substeps=substeps)
    return program.function(rows[:3], rows[3:])


def rows(values, count=1):
    """`count` equal rows of a torch float64 matrix."""
    return torch.as_tensor(values, dtype=torch.float64).repeat(count, 1)
