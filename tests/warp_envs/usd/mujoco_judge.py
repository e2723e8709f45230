"""How far a converted robot is from MuJoCo's reading of its source."""

import mujoco
import numpy as np
import torch

from tests.kernels.articulation.mujoco_reference import MujocoReference
from warp_envs.articulation.articulation import Articulation


def reference_of(description, source):
    """MuJoCo's reading of a source, in the coordinates of the description converted from it.

    Without contact, limits, equalities and actuators.
    """
    reference = MujocoReference.__new__(MujocoReference)
    reference.description, reference.nv = description, description.nv
    model = mujoco.MjModel.from_xml_path(str(source))
    flags = mujoco.mjtDisableBit
    model.opt.disableflags |= int(flags.mjDSBL_CONSTRAINT) | int(flags.mjDSBL_ACTUATION)
    reference.model, reference.data = model, mujoco.MjData(model)
    assert (model.nq, model.nv) == (description.nq, description.nv)
    return reference


def deviation(usd, source, count=20):
    """Largest difference from MuJoCo in mass matrix and acceleration, of the largest entry."""
    robot = Articulation.from_usd(usd, num_envs=count, dtype=torch.float64)
    reference = reference_of(robot.description, source)
    rng = np.random.default_rng(0)
    q, qd, force = (rng.normal(size=(count, n)) * s for n, s in
                    ((robot.nq, 0.5), (robot.nv, 1.0), (robot.nv, 5.0)))  # fmt: skip
    passive = np.zeros_like(qd)
    for body, at_q, at_v in zip(
        robot.description.bodies, robot.q_start, robot.qd_start, strict=True
    ):
        joint, end = body.joint, at_q + body.joint.nq
        if joint.kind in ("free", "spherical"):
            q[:, end - 4 : end] /= np.linalg.norm(q[:, end - 4 : end], axis=1, keepdims=True)
        elif joint.nv:
            spring = joint.stiffness * (q[:, at_q] - joint.rest)
            passive[:, at_v] = -joint.damping * qd[:, at_v] - spring
    mass = robot.mass_matrix(torch.tensor(q)).numpy()
    qdd = robot.forward_dynamics(*map(torch.tensor, (q, qd, force + passive))).numpy()
    worst = np.zeros(2)
    for env in range(count):
        reference.set_state(q[env], qd[env])
        theirs = np.linalg.solve(reference.T.T, reference.data.qfrc_passive)
        wanted = reference.mass_matrix(), reference.acceleration(force[env] + theirs)
        for k, (got, want) in enumerate(zip((mass[env], qdd[env]), wanted, strict=True)):
            worst[k] = max(worst[k], np.abs(got - want).max() / np.abs(want).max())
    return worst
