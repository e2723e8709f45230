"""A control step simulated a second time: MuJoCo's dynamics, everything else in plain numpy.

Mass matrix, bias forces and Jacobians are MuJoCo's; joint forces, limits, ground contact and the
integrator are written here from the specification, without a look at the kernels.
"""

import numpy as np

from tests.kernels.articulation.mujoco_reference import MujocoReference, multiply
from warp_envs.usd.description import rotation_matrix


class Resimulation:
    """Steps one environment of a robot; `touched` counts the contact points met so far."""

    def __init__(self, description):
        self.reference = MujocoReference(description)
        self.description = description
        self.points = [
            (index, point, radius)
            for index, body in enumerate(description.bodies)
            for shape in body.shapes
            if description.contact is not None and shape.collides
            for point, radius in contact_points(shape)
        ]
        self.touched = 0

    def control_step(self, q, qd, joint_f, dt, substeps, every=1):
        """Coordinates and velocities after `dt` under constant joint forces.

        The mass matrix of each `every`-th substep is held, as that of the twists of free bodies at
        the world's origin, V = S v: M_O = S^-T M S^-1, V' = S v' + S' v.
        """
        h, held = dt / substeps, None
        for step in range(substeps):
            self.reference.set_state(q, qd)
            force = joint_f + self.passive_forces(q, qd) + self.contact_forces(qd)
            if every == 1:
                qdd = self.reference.acceleration(force)
            else:
                change, drift = self.to_twists(q, qd)
                back = np.linalg.inv(change)
                mass = back.T @ self.reference.mass_matrix() @ back
                held = mass if step % every == 0 else held
                bias = back.T @ self.reference.bias() - mass @ drift
                qdd = back @ (np.linalg.solve(held, back.T @ force - bias) - drift)
            qd = qd + h * qdd
            q = self.integrate(q, qd, h)
        return q, qd

    def to_twists(self, q, qd):
        """S and S' v: velocities of centres of mass of free bodies to twists at the origin."""
        change, drift, at_q, at_v = np.eye(len(qd)), np.zeros(len(qd)), 0, 0
        for body in self.description.bodies:
            if body.joint.kind == "free":
                v, omega = qd[at_v : at_v + 3], qd[at_v + 3 : at_v + 6]
                p = q[at_q : at_q + 3] + rotation_matrix(q[at_q + 3 : at_q + 7]) @ body.com
                change[at_v : at_v + 3, at_v + 3 : at_v + 6] = np.cross(np.eye(3), -p).T  # p x
                drift[at_v : at_v + 3] = -np.cross(omega, v)
            at_q, at_v = at_q + body.joint.nq, at_v + body.joint.nv
        return change, drift

    def passive_forces(self, q, qd):
        force, at_q, at_v = np.zeros_like(qd), 0, 0
        for body in self.description.bodies:
            joint = body.joint
            if joint.kind in ("revolute", "prismatic"):
                x, speed = q[at_q], qd[at_v]
                force[at_v] = -joint.damping * speed - joint.stiffness * (x - joint.rest)
                force[at_v] -= joint.limit_kd * speed
                force[at_v] += joint.limit_ke * (np.clip(x, joint.lower, joint.upper) - x)
            at_q, at_v = at_q + joint.nq, at_v + joint.nv
        return force

    def contact_forces(self, qd):
        """Sum over the touching points of J^T f."""
        material, total = self.description.contact, np.zeros_like(qd)
        for index, point, radius in self.points:
            position, rotation = self.reference.body_pose(index)
            bottom = position + rotation @ point - [0.0, 0.0, radius]
            depth = -bottom[2]
            if depth <= 0.0:
                continue
            self.touched += 1
            jacobian = self.reference.jacobian(index, bottom)
            v = jacobian @ qd
            slip = np.array([v[0], v[1], 0.0])
            speed = np.linalg.norm(slip)
            friction = min(material.kf * speed, material.mu * material.ke * depth)
            force = -slip / speed * friction if speed > 0.0 else np.zeros(3)
            force[2] = material.ke * depth - material.kd * min(v[2], 0.0) * depth
            total += jacobian.T @ force
        return total

    def integrate(self, q, qd, h):
        new, at_q, at_v = np.array(q), 0, 0
        for body in self.description.bodies:
            joint = body.joint
            if joint.kind in ("revolute", "prismatic"):
                new[at_q] += h * qd[at_v]
            if joint.kind == "spherical":
                new[at_q : at_q + 4] = turn(q[at_q : at_q + 4], qd[at_v : at_v + 3], h)
            if joint.kind == "free":
                old, quat = q[at_q + 3 : at_q + 7], slice(at_q + 3, at_q + 7)
                new[quat] = turn(old, qd[at_v + 3 : at_v + 6], h)
                com = q[at_q : at_q + 3] + rotation_matrix(old) @ body.com + h * qd[at_v : at_v + 3]
                new[at_q : at_q + 3] = com - rotation_matrix(new[quat]) @ body.com
            at_q, at_v = at_q + joint.nq, at_v + joint.nv
        return new


def turn(quat, omega, h):
    """quat + h/2 (omega, 0) quat, normalised."""
    moved = quat + 0.5 * h * multiply(np.append(omega, 0.0), quat)
    return moved / np.linalg.norm(moved)


def contact_points(shape):
    """Points in the body's frame and their radii: centre, axis ends or corners."""
    if shape.kind == "sphere":
        return [(shape.position, shape.radius)]
    rotation = rotation_matrix(shape.rotation)
    if shape.kind == "capsule":
        ends = ([0.0, 0.0, -shape.half_length], [0.0, 0.0, shape.half_length])
        return [(shape.position + rotation @ end, shape.radius) for end in ends]
    x, y, z = shape.half_extents
    corners = [(i * x, j * y, k * z) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]
    return [(shape.position + rotation @ corner, 0.0) for corner in corners]
