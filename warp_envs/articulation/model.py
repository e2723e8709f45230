"""A robot description as the arrays that the dynamics kernels read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import warp as wp

from kernels.articulation import data
from kernels.precision import precision_of
from warp_envs.articulation.contacts import robot_contacts
from warp_envs.usd.description import Body, Joint, RobotDescription, rotation_matrix
from warp_envs.usd.ground import Ground, HeightField

_KINDS = {
    "fixed": data.FIXED,
    "revolute": data.REVOLUTE,
    "prismatic": data.PRISMATIC,
    "spherical": data.SPHERICAL,
    "free": data.FREE,
}

_CONTACT_KINDS = {"ball": data.BALL, "ellipsoid": data.ELLIPSOID, "rim": data.RIM}

SERVO = ("servo_kp", "servo_kd", "servo_least", "servo_most")
VARYING = ("armature", "damping", "stiffness", "rest", "limit_ke", *SERVO)
"""Constants of degrees of freedom that may vary from environment to environment."""

_ONE_AXIS = ("revolute", "prismatic")


def start_indices(bodies: Sequence[Body]) -> tuple[list[int], list[int]]:
    """First coordinate and first degree of freedom of each body, with the totals at the end."""
    q_start, qd_start = [0], [0]
    for body in bodies:
        q_start.append(q_start[-1] + body.joint.nq)
        qd_start.append(qd_start[-1] + body.joint.nv)
    return q_start, qd_start


def count_slots(bodies: Sequence[Body]) -> int:
    """Articulated inertias per substep: one per axis of a joint, one per fixed or free body."""
    return _slot_starts(bodies)[-1]


def rest_coordinates(bodies: Sequence[Body]) -> np.ndarray:
    """The coordinates (nq,) at which the bodies stand as authored."""
    return np.concatenate([np.zeros(0), *(_rest(body, bodies) for body in bodies)])


def robot_model(description: RobotDescription, scalar: type, device: wp.Device) -> Any:
    """The kernels' struct of a robot's constants on a device, one row for all environments."""
    types = precision_of(scalar)
    bodies = description.bodies
    joints = [body.joint for body in bodies]
    q_start, qd_start = start_indices(bodies)
    model = data.model_type(scalar)()

    def array(values: Any, dtype: Any) -> wp.array:
        return wp.array(np.asarray(values, dtype=np.float64), dtype=dtype, device=device)

    def integers(values: Any) -> wp.array:
        return wp.array(np.asarray(values, dtype=np.int32), dtype=wp.int32, device=device)

    model.num_bodies, model.num_coordinates, model.num_dofs = len(bodies), q_start[-1], qd_start[-1]
    model.stride = 0
    model.implicit_damping = scalar(float(description.implicit_damping))
    model.gravity = array([[description.gravity]], types.vec3)
    model.parent = integers([body.parent for body in bodies])
    model.joint_kind = integers([_KINDS[joint.kind] for joint in joints])
    model.q_start, model.qd_start = integers(q_start), integers(qd_start)
    model.slot = integers(_slot_starts(bodies))
    # a free joint places the body itself
    anchors = [Joint(joint.name) if joint.kind == "free" else joint for joint in joints]
    model.parent_position = array([anchor.parent_position for anchor in anchors], types.vec3)
    model.child_position = array([anchor.child_position for anchor in anchors], types.vec3)
    model.child_rotation = array([anchor.child_rotation for anchor in anchors], types.quat)
    model.rest_rotation = array([_rest_rotation(anchor) for anchor in anchors], types.quat)
    axes = [rotation_matrix(anchor.child_rotation) @ anchor.axis for anchor in anchors]
    model.axis = array(axes, types.vec3)
    model.mass = array([[body.mass for body in bodies]], scalar)
    model.com = array([[body.com for body in bodies]], types.vec3)
    model.inertia = array([[body.inertia for body in bodies]], types.mat33)
    for name, values in dof_constants(bodies, q_start).items():
        if name == "coordinate":
            model.coordinate = integers(values)
        else:
            setattr(model, name, array([values] if name in VARYING else values, scalar))
    model.moves = integers(_moves(bodies, qd_start))
    _set_contacts(model, description, types, array, integers)
    _set_lifts_and_drags(model, bodies, types, array, integers)
    _set_couplings(model, description, types, array, integers)
    _set_cords(model, description, types, array, integers)
    _set_ground(model, description.ground, types, array)
    return model


def _rest_rotation(joint: Joint) -> np.ndarray:
    """Orientation of a body in its parent's frame where its joint's coordinate is zero."""
    return quaternion_product(joint.parent_rotation, conjugate(joint.child_rotation))


def _slot_starts(bodies: Sequence[Body]) -> list[int]:
    starts = [0]
    for body in bodies:
        starts.append(starts[-1] + (3 if body.joint.kind == "spherical" else 1))
    return starts


def dof_constants(bodies: Sequence[Body], q_start: Sequence[int]) -> dict[str, list[float]]:
    """Constants of each degree of freedom; springs and limits on hinges, slides and balls only."""
    constants: dict[str, list[float]] = {}
    for body, start in zip(bodies, q_start, strict=False):
        joint = body.joint
        single = joint.kind in _ONE_AXIS
        held = single or joint.kind == "spherical"
        values = {
            "armature": joint.armature,
            "damping": passive_damping(joint),
            "coordinate": start if single else -1,
            "stiffness": joint.stiffness if held else 0.0,
            "rest": joint.rest if single else 0.0,
            "lower": joint.lower if single else -np.inf,
            "upper": joint.upper if held else np.inf,
            "limit_ke": joint.limit_ke if held else 0.0,
            "servo_kp": joint.servo_kp if single else 0.0,
            "servo_kd": joint.servo_kd if single else 0.0,
            "servo_least": joint.servo_range[0] if single else -np.inf,
            "servo_most": joint.servo_range[1] if single else np.inf,
        }
        for name, value in values.items():
            constants.setdefault(name, []).extend([value] * joint.nv)
    return constants


def passive_damping(joint: Joint) -> float:
    """Damping of each degree of freedom: that of limits always acts, a free joint has none."""
    if joint.kind in _ONE_AXIS:
        return joint.damping + joint.limit_kd
    return joint.damping if joint.kind == "spherical" else 0.0


def _moves(bodies: Sequence[Body], qd_start: Sequence[int]) -> np.ndarray:
    """(nv, bodies): whether a degree of freedom moves a body."""
    moves = np.zeros((qd_start[-1], len(bodies)), dtype=np.int32)
    for index, body in enumerate(bodies):
        if body.parent >= 0:
            moves[:, index] = moves[:, body.parent]
        moves[qd_start[index] : qd_start[index + 1], index] = 1
    return moves


def _set_contacts(
    model: Any, description: RobotDescription, types: Any, array: Any, integers: Any
) -> None:
    material = description.contact
    contacts = robot_contacts(description)
    points = [point for _, point in contacts]
    model.num_contacts = len(points)
    model.contact_body = integers([body for body, _ in contacts])
    model.contact_kind = integers([_CONTACT_KINDS[point.kind] for point in points])
    positions = np.reshape([point.position for point in points], (-1, 3))
    model.contact_position = array(positions, types.vec3)
    model.contact_radius = array([point.radius for point in points], types.scalar)
    frames = np.reshape([point.frame for point in points], (-1, 3, 3))
    model.contact_frame = array(frames, types.mat33)
    names = ("ke", "kd", "kf", "mu")
    constants = [0.0 if material is None else getattr(material, name) for name in names]
    model.contact_material = array([constants], types.scalar)


def _set_lifts_and_drags(
    model: Any, bodies: Sequence[Body], types: Any, array: Any, integers: Any
) -> None:
    lifted = [(i, body) for i, body in enumerate(bodies) if body.lift_mass]
    model.num_lifts = len(lifted)
    model.lift_body = integers([i for i, _ in lifted])
    model.lift_mass = array([body.lift_mass for _, body in lifted], types.scalar)
    positions = np.reshape([body.lift_position for _, body in lifted], (-1, 3))
    model.lift_position = array(positions, types.vec3)
    drags = [(i, drag) for i, body in enumerate(bodies) for drag in body.drags]
    model.num_drags = len(drags)
    model.drag_body = integers([i for i, _ in drags])
    for name in ("linear", "angular"):
        values = array([getattr(drag, name) for _, drag in drags], types.scalar)
        setattr(model, f"drag_{name}", values)
    for name in ("position", "linear_square", "angular_square", "wind"):
        rows = np.reshape([getattr(drag, name) for _, drag in drags], (-1, 3))
        setattr(model, f"drag_{name}", array(rows, types.vec3))
    axes = np.reshape([rotation_matrix(drag.rotation) for _, drag in drags], (-1, 3, 3))
    model.drag_axes = array(axes, types.mat33)


def _set_couplings(
    model: Any, description: RobotDescription, types: Any, array: Any, integers: Any
) -> None:
    couplings = description.couplings
    _, qd_start = start_indices(description.bodies)
    dofs = {body.joint.name: dof for body, dof in zip(description.bodies, qd_start, strict=False)}
    model.num_couplings = len(couplings)
    model.coupling_start = integers(np.cumsum([0, *(len(c.joints) for c in couplings)]))
    model.coupling_dof = integers([dofs[name] for c in couplings for name in c.joints])
    model.coupling_weight = array([w for c in couplings for w in c.weights], types.scalar)
    for name in ("stiffness", "damping", "low", "high"):
        values = array([getattr(coupling, name) for coupling in couplings], types.scalar)
        setattr(model, f"coupling_{name}", values)


def _set_cords(
    model: Any, description: RobotDescription, types: Any, array: Any, integers: Any
) -> None:
    cords, index = description.cords, body_indices(description)
    model.num_cords = len(cords)
    model.cord_start = integers(np.cumsum([0, *(len(cord.bodies) for cord in cords)]))
    model.cord_body = integers([index[path] for cord in cords for path in cord.bodies])
    points = np.reshape([point for cord in cords for point in cord.points], (-1, 3))
    model.cord_position = array(points, types.vec3)
    weights = [weight for cord in cords for weight in (*cord.weights, 0.0)]
    model.cord_weight = array(weights, types.scalar)
    for name in ("stiffness", "damping", "low", "high"):
        values = array([getattr(cord, name) for cord in cords], types.scalar)
        setattr(model, f"cord_{name}", values)


def body_indices(description: RobotDescription) -> dict[str, int]:
    """Index of each body by its path, -1 of the world, ""."""
    return {"": -1, **{body.path: i for i, body in enumerate(description.bodies)}}


def _set_ground(model: Any, ground: Ground, types: Any, array: Any) -> None:
    table, corner, cell = np.zeros((0, 0, 3)), np.zeros(2), np.ones(2)
    plane = np.zeros(3)
    if isinstance(ground, HeightField):
        (table, corner), cell = ground.table, ground.cell
    else:
        plane = np.array([ground.height, *ground.slope])
    model.ground_plane = types.vec3(*plane)
    model.ground_rows, model.ground_columns = table.shape[:2]
    model.ground_corner = types.vec3(*corner, 0.0)
    model.ground_cell = types.vec3(*cell, 0.0)
    model.ground = array(table, types.vec3)


# Rest pose --------------------------------------------------------------------------------------


def _rest(body: Body, bodies: Sequence[Body]) -> np.ndarray:
    """The coordinates of a body's joint in the authored pose."""
    joint = body.joint
    if joint.kind == "fixed":
        return np.zeros(0)
    if joint.kind == "free":
        return np.concatenate([body.position, body.rotation])
    position, rotation = _joint_pose(body, joint, bodies)
    if joint.kind == "spherical":
        return rotation
    if joint.kind == "prismatic":
        return np.array([np.dot(joint.axis, position)])
    angle = 2.0 * np.arctan2(np.dot(joint.axis, rotation[:3]), rotation[3])
    return np.array([(angle + np.pi) % (2.0 * np.pi) - np.pi])


def _joint_pose(body: Body, joint: Joint, bodies: Sequence[Body]) -> tuple[np.ndarray, np.ndarray]:
    """Pose of the joint's child frame in its parent frame, as authored."""
    position, rotation = np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])
    if body.parent >= 0:
        position, rotation = bodies[body.parent].position, bodies[body.parent].rotation
    frame = quaternion_product(rotation, joint.parent_rotation)
    anchor = position + rotation_matrix(rotation) @ joint.parent_position
    child = body.position + rotation_matrix(body.rotation) @ joint.child_position
    turned = quaternion_product(body.rotation, joint.child_rotation)
    relative = quaternion_product(conjugate(frame), turned)
    return rotation_matrix(frame).T @ (child - anchor), relative


def conjugate(a: np.ndarray) -> np.ndarray:
    """The inverse of the rotation `a`, a unit quaternion (x, y, z, w)."""
    return a * [-1.0, -1.0, -1.0, 1.0]


def quaternion_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The rotation `b` followed by `a`, quaternions (x, y, z, w)."""
    vector = a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3])
    return np.append(vector, a[3] * b[3] - np.dot(a[:3], b[:3]))
