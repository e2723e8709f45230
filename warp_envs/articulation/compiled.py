"""A robot's control step as one kernel compiled for it, without the loops of the plain kernels."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
import warp as wp

from kernels.compiled.cpp import trail_width
from kernels.compiled.held import HeldStepEquations
from kernels.compiled.kernel import step_kernel
from kernels.compiled.mechanism import (
    Contact,
    Cord,
    Coupling,
    Drag,
    Grid,
    Ground,
    Lift,
    Link,
    Mechanism,
)
from kernels.compiled.step_equations import StepEquations
from warp_envs.articulation.columns import NOTHING, Columns
from warp_envs.articulation.contacts import ContactPoint, contact_points
from warp_envs.articulation.model import body_indices, passive_damping
from warp_envs.articulation.variation import Member, variation_of
from warp_envs.bridge.program import Program
from warp_envs.checks import ArgumentError
from warp_envs.usd import passive
from warp_envs.usd.description import Body, RobotDescription, rotation_matrix
from warp_envs.usd.ground import HeightField
from warp_envs.usd.mass import MassProperties, combine_mass_properties


def record_compiled_step(
    program: Program,
    description: RobotDescription,
    joint_q: wp.array,
    joint_qd: wp.array,
    joint_f: wp.array,
    next_joint_q: wp.array,
    next_joint_qd: wp.array,
    dt: float,
    substeps: int,
    lanes: int | None = None,
    columns: Columns = NOTHING,
    parameters: wp.array | None = None,
    mass_matrix_every: int = 1,
) -> None:
    """Append one control step: `dt` seconds in `substeps` semi-implicit steps.

    The same function as `Articulation.record_step` to rounding, and the same gradient, but compiled
    for the robot at hand: seconds at its first use on a machine, afterwards from Warp's cache.

    Args:
        program: where the launch and its scratch array go.
        description: the robot.
        joint_q: coordinates before, (num_envs, nq).
        joint_qd: velocities before, (num_envs, nv).
        joint_f: applied joint forces [N, N m], (num_envs, nv).
        next_joint_q: coordinates after.
        next_joint_qd: velocities after.
        dt: length of the control step [s].
        substeps: integration steps in it.
        lanes: environments that a CPU computes side by side; None: what its registers hold.
        columns: what varies from environment to environment.
        parameters: its numbers, (num_envs, columns.count).
        mass_matrix_every: substeps from one mass matrix to the next.

    Raises:
        ValueError: a robot without a joint that moves.
    """
    scalar = joint_q.dtype
    num_envs = joint_q.shape[0]
    width = trail_width(description.nq, description.nv, substeps)
    scratch = program.array((num_envs, width), scalar, requires_grad=False)
    numbers = np.zeros(1)
    if isinstance(description.ground, HeightField):
        numbers = description.ground.table[0].reshape(-1)
    ground = wp.array(numbers, dtype=scalar, device=program.device)
    arrays = [joint_q, joint_qd, joint_f, scratch, next_joint_q, next_joint_qd, ground]
    arrays += [] if parameters is None else [parameters]
    kernel = _kernel(pickle.dumps(description), scalar, lanes, columns, mass_matrix_every)
    name = f"the dynamics of {description.name!r} ({description.nv} degrees of freedom)"
    program.launch(kernel, num_envs, [scalar(dt / substeps), substeps, *arrays], name=name)


@lru_cache(maxsize=16)
def _kernel(
    description: bytes, scalar: type, lanes: int | None, columns: Columns, every: int
) -> wp.Kernel:
    """A robot's kernel; descriptions compare by identity, pickled by what they say."""
    return step_kernel(equations_of(pickle.loads(description), columns, every), scalar, lanes)


def equations_of(
    description: RobotDescription, columns: Columns = NOTHING, mass_matrix_every: int = 1
) -> StepEquations:
    """The traced step of a robot of which `columns` vary."""
    mechanism, members = _lay_out(description)
    variation = variation_of(description, members, columns)
    if mass_matrix_every == 1:
        return StepEquations(mechanism, variation)
    return HeldStepEquations(mechanism, mass_matrix_every, variation)


class _Frame:
    """Where a body's frame, or a joint's, lies in a link's (-1: the world)."""

    def __init__(self, link: int, rotation: np.ndarray, position: np.ndarray) -> None:
        self.link = link
        self.rotation = rotation
        self.position = position

    def place(self, point: np.ndarray) -> np.ndarray:
        """A point of this frame in the link's."""
        return self.position + self.rotation @ point


def mechanism_of(description: RobotDescription) -> Mechanism:
    """The links of a robot: bodies welded to each other are one, those welded to the world none.

    Raises:
        ValueError: a robot without a joint that moves.
    """
    return _lay_out(description)[0]


def _lay_out(description: RobotDescription) -> tuple[Mechanism, list[list[Member]]]:
    """The mechanism, and the bodies of each link."""
    frames: list[_Frame] = []
    joints: list[dict[str, Any]] = []
    members: list[list[tuple[Body, _Frame]]] = []
    placed: list[list[Member]] = []
    for index, body in enumerate(description.bodies):
        parent = frames[body.parent] if body.parent >= 0 else _Frame(-1, np.eye(3), np.zeros(3))
        if body.joint.kind == "fixed":
            frame = _welded(body, parent)
        else:
            joint, frame = _jointed(body, parent, len(joints))
            joints.append(joint)
            members.append([])
            placed.append([])
        frames.append(frame)
        if frame.link >= 0:
            members[frame.link].append((body, frame))
            placed[frame.link].append(Member(index, frame.rotation, frame.position))
    if not joints:
        given = f"{description.name} without a joint that moves"
        raise ArgumentError("description", given, "at least one")
    links = [Link(**joint, **_solid(parts)) for joint, parts in zip(joints, members, strict=True)]
    ground, couplings = _ground(description), tuple(_couplings(description, frames))
    cords = tuple(_cords(description, frames))
    implicit = description.implicit_damping
    mechanism = Mechanism(tuple(links), description.gravity, ground, couplings, cords, implicit)
    return mechanism, placed


def _couplings(description: RobotDescription, frames: list[_Frame]) -> Iterator[Coupling]:
    links = {
        body.joint.name: frame.link for body, frame in zip(description.bodies, frames, strict=True)
    }
    for given in description.couplings:
        tied = tuple(links[name] for name in given.joints)
        numbers = (given.stiffness, given.damping, given.low, given.high)
        yield Coupling(tied, given.weights, *numbers)


def _cords(description: RobotDescription, frames: list[_Frame]) -> Iterator[Cord]:
    index, world = body_indices(description), _Frame(-1, np.eye(3), np.zeros(3))
    for given in description.cords:
        held = [frames[index[path]] if path else world for path in given.bodies]
        places = zip(held, given.points, strict=True)
        yield Cord(
            tuple(frame.link for frame in held),
            tuple(_clean(frame.place(point)) for frame, point in places),
            given.weights,
            given.stiffness,
            given.damping,
            given.low,
            given.high,
        )


def _ground(description: RobotDescription) -> Ground | None:
    material, ground = description.contact, description.ground
    if material is None:
        return None
    if isinstance(ground, HeightField):
        table, corner = ground.table
        rows, columns, _ = table.shape
        grid = Grid(tuple(corner.tolist()), tuple(ground.cell.tolist()), (rows, columns))
        return Ground(**asdict(material), grid=grid)
    return Ground(**asdict(material), plane=(ground.height, *ground.slope.tolist()))


def _welded(body: Body, parent: _Frame) -> _Frame:
    anchor, turn = _anchor(body, parent)
    rotation = turn @ rotation_matrix(body.joint.child_rotation).T
    return _Frame(parent.link, rotation, anchor - rotation @ body.joint.child_position)


def _jointed(body: Body, parent: _Frame, index: int) -> tuple[dict[str, Any], _Frame]:
    """The joint's fields of a new link, and the body's frame in it."""
    joint = body.joint
    single = joint.kind in ("revolute", "prismatic")
    held = single or joint.kind == "spherical"
    fields: dict[str, Any] = {
        "kind": joint.kind,
        "parent": parent.link,
        "armature": joint.armature,
        "damping": passive_damping(joint),
        "stiffness": joint.stiffness if held else 0.0,
        "rest": joint.rest if single else 0.0,
        "lower": joint.lower if single else -np.inf,
        "upper": joint.upper if held else np.inf,
        "limit_ke": joint.limit_ke if held else 0.0,
        "servo_kp": joint.servo_kp if single else 0.0,
        "servo_kd": joint.servo_kd if single else 0.0,
        "servo_range": tuple(joint.servo_range) if single else (-np.inf, np.inf),
        "axis": np.array([0.0, 0.0, 1.0]),
        "offset": np.zeros(3),
    }
    if joint.kind == "free":
        fields.update(anchor=np.zeros(3), frame=np.eye(3), offset=body.com)
        return fields, _Frame(index, np.eye(3), -body.com)
    anchor, turn = _anchor(body, parent)
    at_rest = turn @ rotation_matrix(joint.child_rotation).T  # the body, in the parent link's frame
    frame = turn
    if joint.kind == "prismatic":
        frame = np.eye(3)
        fields.update(axis=_clean(turn @ joint.axis))
    if joint.kind == "revolute":
        frame = _hinge_frame(turn @ joint.axis, at_rest @ (body.com - joint.child_position))
    frame = _clean(frame)
    fields.update(anchor=_clean(anchor), frame=frame)
    rotation = frame.T @ at_rest
    return fields, _Frame(index, rotation, -rotation @ joint.child_position)


def _anchor(body: Body, parent: _Frame) -> tuple[np.ndarray, np.ndarray]:
    """Place and orientation of a body's joint in the parent link's frame."""
    joint = body.joint
    turn = parent.rotation @ rotation_matrix(joint.parent_rotation)
    return parent.place(joint.parent_position), turn


def _hinge_frame(axis: np.ndarray, com: np.ndarray) -> np.ndarray:
    """A rotation matrix with z along a hinge's axis and x towards the mass, to make zeros."""
    radius = com - axis * np.dot(axis, com)
    if np.linalg.norm(radius) < 1e-9 * (1.0 + np.linalg.norm(com)):
        nearest = np.eye(3)[np.argmin(np.abs(axis))]
        radius = nearest - axis * np.dot(axis, nearest)
    x = radius / np.linalg.norm(radius)
    return np.stack([x, np.cross(axis, x), axis], axis=1)


def _solid(parts: list[tuple[Body, _Frame]]) -> dict[str, Any]:
    """The fields of a link that come of its bodies: mass, and what can touch the ground."""
    mass = combine_mass_properties(
        [
            MassProperties(
                body.mass,
                frame.place(body.com),
                frame.rotation @ body.inertia @ frame.rotation.T,
            )
            for body, frame in parts
        ]
    )
    counts: dict[tuple[Any, ...], int] = {}
    for body, frame in parts:
        for shape in body.shapes:
            for point in contact_points(shape) if shape.collides else ():
                turned = point.frame if point.kind == "ball" else _turned_frame(point, frame)
                place = (*_clean(frame.place(point.position)), round(point.radius, 12))
                key = (*place, point.kind, *_clean(turned).ravel())
                counts[key] = counts.get(key, 0) + 1
    lifts = [
        Lift(_clean(frame.place(body.lift_position)), body.lift_mass)
        for body, frame in parts
        if body.lift_mass
    ]
    return {
        "lifts": tuple(lifts),
        "drags": tuple(_drag(drag, frame) for body, frame in parts for drag in body.drags),
        "mass": mass.mass,
        "com": _clean(mass.com),
        "inertia": _clean(mass.inertia),
        "contacts": tuple(
            Contact(np.array(key[:3]), key[3], count, key[4], np.reshape(key[5:], (3, 3)))
            for key, count in counts.items()
        ),
    }


def _drag(drag: passive.Drag, frame: _Frame) -> Drag:
    axes = frame.rotation @ rotation_matrix(drag.rotation)
    return Drag(
        point=_clean(frame.place(drag.position)),
        axes=_clean(axes),
        linear=drag.linear,
        angular=drag.angular,
        linear_square=drag.linear_square,
        angular_square=drag.angular_square,
        wind=drag.wind,
    )


def _turned_frame(point: ContactPoint, frame: _Frame) -> np.ndarray:
    """The frame of a contact in the link's axes; of a rim's the middle column is numbers."""
    turned = frame.rotation @ point.frame
    if point.kind == "rim":
        turned[:, 1] = point.frame[:, 1]
    return turned


def _clean(values: np.ndarray) -> np.ndarray:
    """Without the rounding of rotations, so that zeros are zero and equal points equal."""
    return np.round(values, 14) + 0.0
