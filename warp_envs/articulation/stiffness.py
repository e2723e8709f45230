"""How stiff a robot is for its masses, and the substeps that an explicit integrator needs for it.

A spring k on a coordinate or at a point with Jacobian J swings at omega = sqrt(k J M^-1 J^T), a
damper c slows at the rate c J M^-1 J^T. Semi-implicit Euler with the step h is stable while
(omega h)^2 + 2 c h < 4; it follows the motion where omega h and c h stay below about 1. Friction,
which Coulomb's bound keeps from growing, is asked for c h below 2: beyond, feet at rest rattle.
Damping that acts at the velocity after a substep (`RobotDescription.implicit_damping`) never makes
a motion grow, and slows springs as h c more inertia would: then h is in the question, too.
Several act at once: of all limits, and of all points of a body that touch together, the fastest
motion counts (the greatest eigenvalue of J M^-1 J^T times the stiffness), in the start pose and in
others between the limits.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from warp_envs.articulation.contacts import ContactPoint, robot_contacts
from warp_envs.articulation.model import (
    body_indices,
    passive_damping,
    rest_coordinates,
    start_indices,
)
from warp_envs.usd.description import Body, RobotDescription, rotation_matrix
from warp_envs.usd.ground import Ground

KINDS = ("contact", "limit", "spring", "damper", "coupling", "impact", "friction")

LEAST_SUBSTEPS = 16
"""Of ``substeps="auto"``: what the Ant and the Hopper are simulated with."""

_POSES = 8  # besides the start
_FREE_RANGE = 1.0  # [rad, m]: of a coordinate without limits, either way
_TOGETHER = 0.02  # of a body's size: points that lie no higher touch with the lowest
_IMPACT = 3.0  # weights that press a point, where its damping, which grows with depth, is taken


class Rate(NamedTuple):
    """How fast something of a robot moves by itself [1/s], and what it is."""

    speed: float
    what: str


@dataclass(frozen=True)
class Stiffness:
    """The fastest motions of a robot, None where there is nothing of the kind.

    Attributes:
        contact: of a body on the ground's springs.
        limit: of a joint on the springs of its limits.
        spring: of a joint on its own spring and position servos.
        damper: of joints against their damping, that of servos included.
        coupling: of joints on the springs that couple them, or against their dampers; of bodies on
            cords.
        impact: of a body against the contact's damping.
        friction: of a body against half of the friction's viscosity.
    """

    contact: Rate | None
    limit: Rate | None
    spring: Rate | None
    damper: Rate | None
    coupling: Rate | None
    impact: Rate | None
    friction: Rate | None

    @property
    def fastest(self) -> Rate | None:
        """The fastest of all."""
        rates = [getattr(self, kind) for kind in KINDS]
        return max((rate for rate in rates if rate is not None), default=None)

    def substeps(self, control_step: float) -> int:
        """Integration steps in a control step [s] with which the fastest is followed."""
        speed = 0.0 if self.fastest is None else self.fastest.speed
        # two digits more than there is rounding: the same number on every machine
        return max(1, math.ceil(round(speed * control_step, 6)))


class Placed(NamedTuple):
    """A body in a pose: orientation (3, 3), origin (3,), Jacobian (6, nv) about the world's origin.

    The Jacobian's rows are the velocity of the body's point at the origin and the angular velocity.
    """

    rotation: np.ndarray
    position: np.ndarray
    jacobian: np.ndarray

    def point_jacobian(self, point: np.ndarray) -> np.ndarray:
        """Of a point of the body, world axes and place (3,); (3, nv)."""
        return self.jacobian[:3] + np.cross(self.jacobian[3:], point, axis=0)


def place_bodies(description: RobotDescription, q: np.ndarray) -> list[Placed]:
    """Every body at the coordinates q (nq,)."""
    q_start, qd_start = start_indices(description.bodies)
    world = Placed(np.eye(3), np.zeros(3), np.zeros((6, description.nv)))
    placed: list[Placed] = []
    for body, at, dof in zip(description.bodies, q_start, qd_start, strict=False):
        parent = placed[body.parent] if body.parent >= 0 else world
        placed.append(_place(body, parent, q[at : at + body.joint.nq], dof))
    return placed


def _place(body: Body, parent: Placed, q: np.ndarray, dof: int) -> Placed:
    joint, jacobian = body.joint, parent.jacobian.copy()
    if joint.kind == "free":
        rotation = rotation_matrix(q[3:] / np.linalg.norm(q[3:]))
        com = q[:3] + rotation @ body.com
        jacobian[:3, dof : dof + 3] = np.eye(3)
        jacobian[3:, dof + 3 : dof + 6] = np.eye(3)
        jacobian[:3, dof + 3 : dof + 6] = np.cross(com, np.eye(3)).T
        return Placed(rotation, q[:3], jacobian)
    frame = parent.rotation @ rotation_matrix(joint.parent_rotation)
    anchor = parent.position + parent.rotation @ joint.parent_position
    turned = frame
    if joint.kind == "prismatic":
        axis = frame @ joint.axis
        jacobian[:3, dof] = axis
        anchor = anchor + axis * q[0]
    if joint.kind == "revolute":
        axis = frame @ joint.axis
        jacobian[:, dof] = [*np.cross(anchor, axis), *axis]
        half = 0.5 * q[0]
        turned = frame @ rotation_matrix([*np.sin(half) * joint.axis, np.cos(half)])
    if joint.kind == "spherical":
        jacobian[:3, dof : dof + 3] = np.cross(anchor, frame.T).T
        jacobian[3:, dof : dof + 3] = frame
        turned = frame @ rotation_matrix(q / np.linalg.norm(q))
    rotation = turned @ rotation_matrix(joint.child_rotation).T
    return Placed(rotation, anchor - rotation @ joint.child_position, jacobian)


def mass_matrix(description: RobotDescription, placed: list[Placed]) -> np.ndarray:
    """The joint-space inertia (nv, nv), armature included."""
    matrix = np.diag([body.joint.armature for body in description.bodies for _ in _dofs(body)])
    for body, at in zip(description.bodies, placed, strict=True):
        linear = at.point_jacobian(at.position + at.rotation @ body.com)
        angular = at.jacobian[3:]
        inertia = at.rotation @ body.inertia @ at.rotation.T
        matrix = matrix + body.mass * linear.T @ linear + angular.T @ inertia @ angular
    return matrix


def measure_stiffness(
    description: RobotDescription, q: np.ndarray | None = None, step: float = 0.0
) -> Stiffness:
    """The fastest motions of a robot, at q (nq,), by default its rest pose, and in other poses.

    `step` is that of the integrator [s], which matters to implicit damping alone.
    """
    q = rest_coordinates(description.bodies) if q is None else np.asarray(q, dtype=np.float64)
    found: dict[str, Rate] = {}
    for pose in (q, *_other_poses(description, q)):
        placed = place_bodies(description, pose)
        inertia = mass_matrix(description, placed)
        if description.implicit_damping:
            joints = [body.joint for body in description.bodies for _ in _dofs(body)]
            inertia += step * np.diag([passive_damping(joint) for joint in joints])
        inverse = np.linalg.pinv(inertia, hermitian=True)
        for kind, rate in _rates(description, placed, inverse):
            if kind not in found or rate.speed > found[kind].speed:
                found[kind] = rate
    return Stiffness(**{kind: found.get(kind) for kind in KINDS})


def advised_stiffness(
    description: RobotDescription, control_step: float, q: np.ndarray | None = None
) -> Stiffness:
    """`measure_stiffness` at the longest substep that follows what it finds."""
    substeps, found = 1, measure_stiffness(description, q, control_step)
    # fewer never suffice, as shorter substeps let implicit damping add less inertia
    while found.substeps(control_step) > substeps:
        substeps = found.substeps(control_step)
        found = measure_stiffness(description, q, control_step / substeps)
    return found


def advised_substeps(description: RobotDescription, control_step: float) -> int:
    """What ``substeps="auto"`` means for a robot and the time between two actions [s]."""
    return _substeps(pickle.dumps(description), control_step)


@lru_cache(maxsize=16)
def _substeps(description: bytes, control_step: float) -> int:
    """The same of a pickled description, by which the same robot is known again."""
    found = advised_stiffness(pickle.loads(description), control_step)
    return max(LEAST_SUBSTEPS, found.substeps(control_step))


def _dofs(body: Body) -> range:
    return range(body.joint.nv)


def _other_poses(description: RobotDescription, q: np.ndarray) -> Iterator[np.ndarray]:
    """Hinges and slides anywhere between their limits."""
    rng = np.random.default_rng(0)
    starts = start_indices(description.bodies)[0]
    for _ in range(_POSES):
        pose = q.copy()
        for body, at in zip(description.bodies, starts, strict=False):
            joint = body.joint
            if joint.kind in ("revolute", "prismatic"):
                low = max(joint.lower, q[at] - _FREE_RANGE)
                high = max(min(joint.upper, q[at] + _FREE_RANGE), low)
                pose[at] = rng.uniform(low, high)
        yield pose


def _rates(
    description: RobotDescription, placed: list[Placed], inverse: np.ndarray
) -> Iterator[tuple[str, Rate]]:
    """Every kind of motion in a pose, given M^-1."""
    joints = [body.joint for body in description.bodies for _ in _dofs(body)]
    single = np.array([joint.kind in ("revolute", "prismatic") for joint in joints], dtype=bool)
    held = single | np.array([joint.kind == "spherical" for joint in joints], dtype=bool)
    limited = [np.isfinite(joint.lower) or np.isfinite(joint.upper) for joint in joints]
    servo = {joint.name: np.zeros(2) for joint in joints}
    for actuator in description.actuators:  # pulls by -bias_1 and -bias_2, through its gear twice
        servo[actuator.joint] += actuator.gear**2 * np.maximum(-actuator.bias[1:], 0.0)
    own = [
        np.array([joint.servo_kp, joint.servo_kd]) for joint in joints
    ]  # what drives it is known
    pulls = np.array(
        [np.maximum(servo[j.name], pull) for j, pull in zip(joints, own, strict=True)]
    ).T
    damping = np.array([passive_damping(joint) for joint in joints])
    if description.implicit_damping:
        damping = np.zeros(len(joints))
    gains = {
        "limit": held * limited * [joint.limit_ke for joint in joints],
        "spring": held * [joint.stiffness for joint in joints] + single * pulls[0],
        "damper": damping + single * pulls[1],
    }
    for kind, gain in gains.items():
        if np.any(gain > 0.0):
            value, which = _fastest(inverse, np.sqrt(gain))
            speed = value if kind == "damper" else math.sqrt(value)
            yield kind, Rate(speed, f"joint {joints[which].name}")
    yield from _coupling_rates(description, inverse)
    yield from _cord_rates(description, placed, inverse)
    yield from _contact_rates(description, placed, inverse)


def _coupling_rates(
    description: RobotDescription, inverse: np.ndarray
) -> Iterator[tuple[str, Rate]]:
    dofs = start_indices(description.bodies)[1]
    column = {b.joint.name: dof for b, dof in zip(description.bodies, dofs, strict=False)}
    for coupling in description.couplings:
        row = np.zeros(len(inverse))
        for name, weight in zip(coupling.joints, coupling.weights, strict=True):
            row[column[name]] += weight
        mobility = max(float(row @ inverse @ row), 0.0)
        speed = max(math.sqrt(coupling.stiffness * mobility), coupling.damping * mobility)
        yield "coupling", Rate(speed, f"coupling {coupling.name}")


def _cord_rates(
    description: RobotDescription, placed: list[Placed], inverse: np.ndarray
) -> Iterator[tuple[str, Rate]]:
    index = body_indices(description)
    for cord in description.cords:
        places, rows = [], []
        for path, point in zip(cord.bodies, cord.points, strict=True):
            body = placed[index[path]] if path else None
            at = point if body is None else body.position + body.rotation @ point
            places.append(at)
            rows.append(np.zeros((3, len(inverse))) if body is None else body.point_jacobian(at))
        row = np.zeros(len(inverse))
        for k, weight in enumerate(cord.weights):
            piece = places[k + 1] - places[k]
            if np.any(piece):
                row += weight * piece @ (rows[k + 1] - rows[k]) / np.linalg.norm(piece)
        mobility = max(float(row @ inverse @ row), 0.0)
        speed = max(math.sqrt(cord.stiffness * mobility), cord.damping * mobility)
        yield "coupling", Rate(speed, f"cord {cord.name}")


def _fastest(inverse: np.ndarray, roots: np.ndarray) -> tuple[float, int]:
    """The greatest eigenvalue of M^-1 diag(roots^2), and what moves most in it."""
    values, vectors = np.linalg.eigh(roots[:, None] * inverse * roots)
    return max(float(values[-1]), 0.0), int(np.argmax(np.abs(vectors[:, -1])))


def _contact_rates(
    description: RobotDescription, placed: list[Placed], inverse: np.ndarray
) -> Iterator[tuple[str, Rate]]:
    """Of each body, pressed on the ground from the directions of a cube's faces and corners."""
    material = description.contact
    if material is None:
        return
    weight = float(np.linalg.norm(description.gravity)) * sum(b.mass for b in description.bodies)
    damping = material.kd / material.ke * _IMPACT * weight
    of_body: dict[int, list[ContactPoint]] = {}
    for index, contact in robot_contacts(description):
        of_body.setdefault(index, []).append(contact)
    corners = np.array(np.meshgrid(*[(-1.0, 0.0, 1.0)] * 3)).reshape(3, -1).T
    normals = [n / np.linalg.norm(n) for n in corners if np.sum(n != 0.0) in (1, 3)]
    for index, contacts in of_body.items():
        if not np.any(placed[index].jacobian):
            continue  # welded to the world
        for normal in normals:
            across, along = _mobility(placed[index], contacts, normal, inverse)
            name = f"body {description.bodies[index].name}"
            yield "contact", Rate(math.sqrt(material.ke * across), name)
            yield "impact", Rate(damping * across, name)
            yield "friction", Rate(0.5 * material.kf * along, name)


def _mobility(
    body: Placed, contacts: list[ContactPoint], normal: np.ndarray, inverse: np.ndarray
) -> tuple[float, float]:
    """The greatest eigenvalues of J M^-1 J^T [1/kg] of the points that touch together.

    Across the ground and along it.
    """
    points = np.array([touching_point(body, contact, normal) for contact in contacts])
    heights = points @ normal
    size = np.max(np.ptp(points, axis=0)) + max(contact.radius for contact in contacts)
    lowest = points[heights <= heights.min() + _TOGETHER * size]
    lowest = np.unique(np.round(lowest, 9), axis=0)
    jacobians = np.array([body.point_jacobian(point) for point in lowest])
    across = np.einsum("i,pij->pj", normal, jacobians)
    along = (jacobians - normal[:, None] * across[:, None]).reshape(-1, across.shape[1])
    found = [float(np.linalg.eigvalsh(rows @ inverse @ rows.T)[-1]) for rows in (across, along)]
    return max(found[0], 0.0), max(found[1], 0.0)


def touching_point(body: Placed, contact: ContactPoint, normal: np.ndarray) -> np.ndarray:
    """Where a contact touches ground of a normal first, in the world (3,).

    As `kernels.articulation.contact.reach`.
    """
    place = body.position + body.rotation @ contact.position
    if contact.kind == "ball":
        return place - contact.radius * normal
    if contact.kind == "ellipsoid":
        stretch = body.rotation @ contact.frame
        across = stretch.T @ normal
        return place - stretch @ across / np.linalg.norm(across)
    axis = body.rotation @ contact.frame[:, 0]
    upward = normal - (normal @ axis) * axis
    length = np.linalg.norm(upward)
    out = -upward / length if length > 1e-4 else body.rotation @ contact.frame[:, 2]
    cosine, sine = contact.frame[:2, 1]
    return place + contact.radius * (cosine * out + sine * np.cross(axis, out))


def clearance(description: RobotDescription, q: np.ndarray) -> float | None:
    """Height above the ground of the lowest point that can touch it at q (nq,), None without one.

    What is welded to the world does not count [m].
    """
    placed = place_bodies(description, q)
    heights = [
        _above(description.ground, placed[index], contact)
        for index, contact in robot_contacts(description)
        if np.any(placed[index].jacobian)
    ]
    return min(heights, default=None)


def _above(ground: Ground, body: Placed, contact: ContactPoint) -> float:
    """How far a contact's touching point lies above the ground [m]."""
    place = body.position + body.rotation @ contact.position
    _, along_x, along_y = ground.surface(place[:2])
    normal = np.array([-along_x, -along_y, 1.0]) / math.hypot(along_x, along_y, 1.0)
    touching = touching_point(body, contact, normal)
    return float(touching[2] - ground.surface(touching[:2])[0])
