"""Joints of a compiled MuJoCo model as prims, with what acts on them, and its actuators.

MuJoCo moves a body from where its parent holds it by each of its joints in turn, each about (or
along) its axis through its anchor in the body's frame, by q - ref. Here a body of next to no mass,
at the body's own place, stands between each two of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from pxr import Gf, Sdf, Tf, Usd, UsdPhysics, Vt

from warp_envs.usd.actuators import (
    BIAS,
    CONTROL_RANGE,
    DRIVEN,
    FORCE_RANGE,
    GAIN,
    GEAR,
)
from warp_envs.usd.conversion.actuators import driven_joint, joint_force_range
from warp_envs.usd.conversion.frames import about_x, along_x, quat_of
from warp_envs.usd.conversion.mujoco_model import joint_kind
from warp_envs.usd.conversion.source import Source
from warp_envs.usd.description import Actuator
from warp_envs.usd.joints import BALL_LIMIT, BALL_STIFFNESS, DEFAULT_LIMIT_KE, KEYFRAME
from warp_envs.usd.stage import Frame

Side = tuple[Sdf.Path | None, Frame]
"""What a joint joins: a body's path (None: the world) and the anchor in its frame."""


TYPES = {
    "hinge": "PhysicsRevoluteJoint",
    "slide": "PhysicsPrismaticJoint",
    "ball": "PhysicsSphericalJoint",
}
"""Types of prims by MuJoCo's kinds of joints; a free body has none."""

_LIMIT_RATE = 1920.0
"""At which a limit's spring swings at most what it moves [1/s], half of what 64 substeps of a
control step of 1/60 s follow: of several limits at once the fastest motion is faster."""


class Anchors(NamedTuple):
    """A joint's frame in the body's frame, x along its axis, and what turns it back by `ref`."""

    child: Frame
    parent: Frame


def define_joint(
    stage: Usd.Stage, path: Sdf.Path, type_name: str, parent: Side, child: Side
) -> Usd.Prim:
    """A joint's prim between two sides."""
    prim = stage.DefinePrim(path, type_name)
    joint = UsdPhysics.Joint(prim)
    sides = (
        (parent, joint.CreateBody0Rel(), joint.CreateLocalPos0Attr, joint.CreateLocalRot0Attr),
        (child, joint.CreateBody1Rel(), joint.CreateLocalPos1Attr, joint.CreateLocalRot1Attr),
    )
    for (body, frame), relationship, set_position, set_rotation in sides:
        if body is not None:
            relationship.SetTargets([body])
        set_position(Gf.Vec3f(*frame.position.tolist()))
        set_rotation(Gf.Quatf(quat_of(frame.rotation)))
    return prim


def anchors_of(model: Any, joint: int) -> Anchors:
    """Where a joint sits in its body's frame, as MuJoCo has it at q = ref."""
    position, kind = np.array(model.jnt_pos[joint], dtype=np.float64), joint_kind(model, joint)
    if kind == "ball":
        frame = Frame(position, np.eye(3))
        return Anchors(frame, frame)
    frame = Frame(position, along_x(np.array(model.jnt_axis[joint], dtype=np.float64)))
    reference = float(model.qpos0[model.jnt_qposadr[joint]])
    if kind == "hinge":
        back = Frame(np.zeros(3), about_x(-reference))
    else:
        back = Frame(np.array([-reference, 0.0, 0.0]), np.eye(3))
    return Anchors(frame, frame.then(back))


def limit_stiffness(model: Any, joint: int) -> float:
    """Of the spring that holds a limit [N m/rad or N/m].

    `DEFAULT_LIMIT_KE`, or less where that would swing what it moves, in the initial pose, faster
    than `_LIMIT_RATE`: fingers and tails would ask for thousands of substeps.
    """
    dof = int(model.jnt_dofadr[joint])
    mobility = float(model.dof_invweight0[dof])  # the diagonal of M^-1
    softest = _LIMIT_RATE**2 / mobility if mobility > 0.0 else np.inf
    return min(DEFAULT_LIMIT_KE, float(f"{softest:.3g}"))


def _write_limit_stiffness(prim: Usd.Prim, model: Any, joint: int, coordinate: float) -> None:
    """What is not the default."""
    stiffness = limit_stiffness(model, joint)
    if stiffness < DEFAULT_LIMIT_KE:
        write_float(prim, "newton:limitStiffness", stiffness / coordinate)


def write_axis(prim: Usd.Prim, source: Source, joint: int) -> None:
    """Limits, armature, damping and spring of a hinge or slide, and bounds of what drives it."""
    model = source.model
    angular = prim.GetTypeName() == "PhysicsRevoluteJoint"
    coordinate = np.degrees(1.0) if angular else 1.0  # UsdPhysics has degrees, also in gains
    schema = UsdPhysics.RevoluteJoint(prim) if angular else UsdPhysics.PrismaticJoint(prim)
    schema.CreateAxisAttr("X")
    if model.jnt_limited[joint] and not source.is_off("CONSTRAINT", "LIMIT"):
        lower, upper = model.jnt_range[joint]
        schema.CreateLowerLimitAttr(float(lower) * coordinate)
        schema.CreateUpperLimitAttr(float(upper) * coordinate)
        _write_limit_stiffness(prim, model, joint, coordinate)
    dof = int(model.jnt_dofadr[joint])
    armature = float(model.dof_armature[dof]) + _of_actuators(source, joint, "armature")
    damping = float(model.dof_damping[dof]) + _of_actuators(source, joint, "damping")
    write_float(prim, "newton:armature", armature)
    still = source.is_off("DAMPER")
    write_float(prim, "newton:damping", 0.0 if still else damping / coordinate)
    stiffness = float(model.jnt_stiffness[joint])
    if stiffness > 0.0 and not source.is_off("SPRING"):
        drive = UsdPhysics.DriveAPI.Apply(prim, "angular" if angular else "linear")
        drive.CreateTypeAttr("force")
        drive.CreateStiffnessAttr(stiffness / coordinate)
        drive.CreateDampingAttr(0.0)
        rest = float(model.qpos_spring[model.jnt_qposadr[joint]])
        drive.CreateTargetPositionAttr(rest * coordinate)
    bounds = joint_force_range(source, joint)
    if bounds is not None:
        write_doubles(prim, FORCE_RANGE, bounds)


def write_ball(prim: Usd.Prim, source: Source, joint: int) -> None:
    """Spring and limit of a ball."""
    model = source.model
    stiffness = float(model.jnt_stiffness[joint])
    if stiffness > 0.0 and not source.is_off("SPRING"):
        write_doubles(prim, BALL_STIFFNESS, np.array([stiffness]))
    if model.jnt_limited[joint] and not source.is_off("CONSTRAINT", "LIMIT"):
        write_doubles(prim, BALL_LIMIT, np.array([float(model.jnt_range[joint][1])]))
        _write_limit_stiffness(prim, model, joint, np.degrees(1.0))


def _of_actuators(source: Source, joint: int, what: str) -> float:
    """Armature or damping that actuators add to a joint, each by the square of its gear."""
    model = source.model
    values = getattr(model, f"actuator_{what}")
    return sum(
        float(model.actuator_gear[index][0]) ** 2 * float(np.ravel(values[index])[0])
        for index in range(model.nu)
        if driven_joint(source, index) == joint
    )


def write_keyframes(prim: Usd.Prim, source: Source, joint: int) -> None:
    """The joint's coordinates in each keyframe [m, rad; quaternions x, y, z, w], by its name."""
    model = source.model
    start = int(model.jnt_qposadr[joint])
    size = {"free": 7, "ball": 4}.get(joint_kind(model, joint), 1)
    for key in range(model.nkey):
        values = np.array(model.key_qpos[key][start : start + size])
        if size > 1:
            quat = values[-4:] / np.linalg.norm(values[-4:])
            values = np.concatenate([values[:-4], np.roll(quat, -1)])
        name = Tf.MakeValidIdentifier(source.name("key", key))
        write_doubles(prim, KEYFRAME + name, values)


def write_actuator(stage: Usd.Stage, path: Sdf.Path, joint: Sdf.Path, actuator: Actuator) -> None:
    """What drives a joint, as `warp_envs.usd.actuators` reads it."""
    prim = stage.DefinePrim(path, "Scope")
    prim.CreateRelationship(DRIVEN, custom=False).SetTargets([joint])
    for name, values in (
        (GEAR, [actuator.gear]),
        (GAIN, [actuator.gain]),
        (BIAS, actuator.bias),
        (CONTROL_RANGE, actuator.control_range),
        (FORCE_RANGE, actuator.force_range),
    ):
        write_doubles(prim, name, np.asarray(values))


def write_float(prim: Usd.Prim, name: str, value: float) -> None:
    """A number in single precision."""
    prim.CreateAttribute(name, Sdf.ValueTypeNames.Float, custom=False).Set(float(value))


def write_doubles(prim: Usd.Prim, name: str, values: np.ndarray) -> None:
    """An array of numbers in double precision."""
    attribute = prim.CreateAttribute(name, Sdf.ValueTypeNames.DoubleArray, custom=False)
    attribute.Set(Vt.DoubleArray(values.tolist()))
