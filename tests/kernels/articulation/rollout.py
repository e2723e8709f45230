"""Control steps of an articulation without an environment around it."""

import torch

from warp_envs.articulation.articulation import Articulation
from warp_envs.bridge.program import Program


def step_function(
    robot: Articulation, dt: float = 1.0 / 60.0, substeps: int = 16, compiled: bool = False,
    every: int = 1,
):  # fmt: skip
    """(joint_q, joint_qd, joint_f) -> (joint_q, joint_qd) one control step later."""
    program = Program(str(robot.device))
    shapes = [robot.nq, robot.nv, robot.nv, robot.nq, robot.nv]
    rows = [program.array((robot.num_envs, width), robot.scalar) for width in shapes]
    options = {"compiled": compiled, "mass_matrix_every": every}
    robot.record_step(program, *rows, dt=dt, substeps=substeps, **options)
    return program.function(rows[:3], rows[3:])


def kinematics(robot):
    """(joint_q, joint_qd) -> (body_q, body_qd)."""
    program = Program(str(robot.device))
    n, bodies = robot.num_envs, len(robot.body_names)
    shapes = [(n, robot.nq), (n, robot.nv), (n, bodies, 7), (n, bodies, 6)]
    arrays = [program.array(shape, robot.scalar) for shape in shapes]
    robot.record_kinematics(program, *arrays)
    return program.function(arrays[:2], arrays[2:])


def rows(values, count=1):
    """`count` equal rows of a torch float64 matrix."""
    return torch.as_tensor(values, dtype=torch.float64).repeat(count, 1)
