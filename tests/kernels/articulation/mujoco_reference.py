"""MuJoCo as an outside opinion: its mass matrix, bias forces and Jacobians in our coordinates.

MuJoCo's free joint has the velocity of the frame's origin in world axes and the angular velocity
in body axes, its ball joint the angular velocity in the child's axes; its quaternions start with w.
`T` maps its velocities to ours, v = T v_mj, so M = T^-T M_mj T^-1 and so on.
"""

import mujoco
import numpy as np

from warp_envs.usd.description import rotation_matrix


def wxyz(quat):
    return np.array([quat[3], quat[0], quat[1], quat[2]])


def multiply(a, b):
    """Product of quaternions (x, y, z, w)."""
    out = np.zeros(4)
    mujoco.mju_mulQuat(out, wxyz(a), wxyz(b))
    return np.array([out[1], out[2], out[3], out[0]])


def conjugate(a):
    return np.array([-a[0], -a[1], -a[2], a[3]])


KINDS = {
    "revolute": mujoco.mjtJoint.mjJNT_HINGE,
    "prismatic": mujoco.mjtJoint.mjJNT_SLIDE,
    "spherical": mujoco.mjtJoint.mjJNT_BALL,
    "free": mujoco.mjtJoint.mjJNT_FREE,
}


class MujocoReference:
    """A robot description in MuJoCo. Call `set_state` before asking for anything."""

    def __init__(self, description):
        self.description = description
        spec = mujoco.MjSpec()
        spec.option.gravity = description.gravity
        bodies = []
        for index, body in enumerate(description.bodies):
            joint = body.joint
            above = spec.worldbody if body.parent < 0 else bodies[body.parent]
            turn = multiply(joint.parent_rotation, conjugate(joint.child_rotation))
            place = joint.parent_position - rotation_matrix(turn) @ joint.child_position
            if joint.kind == "free":
                turn, place = np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(3)
            new = above.add_body(
                name=str(index), pos=place, quat=wxyz(turn), mass=1.0, inertia=[1.0, 1.0, 1.0],
                ipos=body.com, explicitinertial=True,
            )  # fmt: skip
            if joint.kind != "fixed":
                new.add_joint(
                    type=KINDS[joint.kind], pos=joint.child_position, armature=joint.armature,
                    axis=rotation_matrix(joint.child_rotation) @ joint.axis,
                )  # fmt: skip
            bodies.append(new)
        self.model = spec.compile()
        names = [self.model.body(index + 1).name for index in range(len(bodies))]
        assert names == [str(index) for index in range(len(bodies))], "not depth first"
        for index, body in enumerate(description.bodies, 1):
            # written in after compilation: the compiler refuses the paper's unphysical inertias
            values, axes = np.linalg.eigh(body.inertia)
            axes[:, 2] *= np.sign(np.linalg.det(axes))
            mujoco.mju_mat2Quat(self.model.body_iquat[index], axes.ravel())
            self.model.body_inertia[index] = values
            self.model.body_mass[index] = body.mass
        self.data = mujoco.MjData(self.model)
        mujoco.mj_setConst(self.model, self.data)
        self.nv = self.model.nv

    def set_state(self, q, qd):
        """Take coordinates and velocities in our convention."""
        qpos, at_q, at_v = np.array(q, dtype=float), 0, 0
        self.T, self.T_rate_v = np.eye(self.nv), np.zeros(self.nv)
        for body in self.description.bodies:
            joint = body.joint
            if joint.kind == "spherical":
                local = multiply(joint.child_rotation, q[at_q : at_q + 4])
                qpos[at_q : at_q + 4] = wxyz(multiply(local, conjugate(joint.child_rotation)))
                axes = rotation_matrix(q[at_q : at_q + 4])
                axes = axes @ rotation_matrix(joint.child_rotation).T
                self.T[at_v : at_v + 3, at_v : at_v + 3] = axes
            if joint.kind == "free":
                qpos[at_q + 3 : at_q + 7] = wxyz(q[at_q + 3 : at_q + 7])
                axes = rotation_matrix(q[at_q + 3 : at_q + 7])
                arm, omega = axes @ body.com, qd[at_v + 3 : at_v + 6]
                skew = np.cross(np.eye(3), arm).T  # skew @ w = w x arm
                self.T[at_v : at_v + 3, at_v + 3 : at_v + 6] = skew @ axes
                self.T[at_v + 3 : at_v + 6, at_v + 3 : at_v + 6] = axes
                self.T_rate_v[at_v : at_v + 3] = np.cross(omega, np.cross(omega, arm))
            at_q, at_v = at_q + joint.nq, at_v + joint.nv
        self.data.qpos[:] = qpos
        self.data.qvel[:] = np.linalg.solve(self.T, qd)
        mujoco.mj_fwdPosition(self.model, self.data)
        mujoco.mj_fwdVelocity(self.model, self.data)

    def mass_matrix(self):
        inverse = np.linalg.inv(self.T)
        return inverse.T @ self._mujoco_mass_matrix() @ inverse

    def bias(self):
        """c(q, qd) less gravity: M qdd + bias = joint_f."""
        drift = np.linalg.solve(self.T, self.T_rate_v)
        bias = self.data.qfrc_bias - self._mujoco_mass_matrix() @ drift
        return np.linalg.solve(self.T.T, bias)

    def acceleration(self, joint_f):
        return np.linalg.solve(self.mass_matrix(), joint_f - self.bias())

    def body_pose(self, index):
        """World position and rotation matrix of a body's frame."""
        return self.data.xpos[index + 1].copy(), self.data.xmat[index + 1].reshape(3, 3).copy()

    def jacobian(self, index, point):
        """(3, nv): velocity of the body's point that is now at the world point."""
        linear = np.zeros((3, self.nv))
        mujoco.mj_jac(self.model, self.data, linear, None, point, index + 1)
        return linear @ np.linalg.inv(self.T)

    def _mujoco_mass_matrix(self):
        columns = np.zeros((self.nv, self.nv))
        for column, unit in zip(columns, np.eye(self.nv), strict=True):
            mujoco.mj_mulM(self.model, self.data, column, unit)
        return columns.T
