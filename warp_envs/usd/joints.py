"""What a joint's prim says of itself: its kind, its limits, springs, damping and armature.

Angular limits, gains and damping are authored for each degree, as in UsdPhysics and in Newton's
published schema, and come out for each radian.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pxr import Usd

from warp_envs.usd.actuators import FORCE_RANGE
from warp_envs.usd.description import JOINT_NQ
from warp_envs.usd.stage import (
    Units,
    read_doubles,
    read_flag,
    read_gain,
    read_numbers,
    read_text,
    refuse,
)

DEFAULT_LIMIT_KE = 1e3  # [N m/rad or N/m], where a joint has limits and no stiffness for them

BALL_STIFFNESS, BALL_LIMIT = "gippo:stiffness", "gippo:angleLimit"
"""Of a ball: its spring towards coordinate zero [N m/rad]; how far it turns from there [rad]."""

KEYFRAME = "gippo:keyframe:"
"""Start of the name of an attribute with a joint's coordinates in a keyframe [m, rad]."""

JOINT_KINDS = {
    "PhysicsFixedJoint": "fixed",
    "PhysicsRevoluteJoint": "revolute",
    "PhysicsPrismaticJoint": "prismatic",
    "PhysicsSphericalJoint": "spherical",
}

ARMATURES = ("newton:armature", "physxJoint:armature", "mjc:armature")
_DEGREE = np.pi / 180.0
DRIVES = {"revolute": "angular", "prismatic": "linear"}
# Files write "never breaks" and "no limit" as infinity or as the greatest float.
_NEVER = 1e30


def read_kind(prim: Usd.Prim) -> str:
    """The kind of a joint, once nothing speaks against simulating it.

    Raises:
        ValueError: another kind of joint, or one that breaks, couples, rubs dry, or limits, drives
            or damps what this project leaves free.
    """
    kind = JOINT_KINDS.get(str(prim.GetTypeName()))
    if kind is None:
        raise refuse(
            prim, f"a joint of type {prim.GetTypeName()}; accepted: {', '.join(JOINT_KINDS)}"
        )
    if read_flag(prim, "physics:excludeFromArticulation", False):
        raise refuse(prim, "excluded from the articulation; joints of the tree are accepted")
    for name in ("physics:breakForce", "physics:breakTorque"):
        value = read_numbers(prim, name, 1)
        if value is not None and value[0] < _NEVER:
            raise refuse(prim, f"{name} is {value[0]}, joints that do not break are accepted")
    if read_gain(prim, "newton:friction"):
        raise refuse(prim, "newton:friction is dry friction; viscous newton:damping is accepted")
    _refuse_schemas(prim, kind)
    if kind == "spherical":
        _refuse_ball_limits(prim)
    return kind


def read_parameters(prim: Usd.Prim, kind: str, units: Units) -> dict[str, Any]:
    """Armature, damping, limits and springs, in SI units and radians.

    The keys are fields of `warp_envs.usd.description.Joint`.

    Raises:
        ValueError: a gain that is negative or not finite, limits the wrong way round, or a drive
            that is not passive.
    """
    if kind == "fixed":
        return {}
    parameters: dict[str, Any] = {
        "armature": _armature(prim, units.mass if kind == "prismatic" else units.inertia)
    }
    if kind == "spherical":
        parameters["damping"] = (read_gain(prim, "newton:damping") or 0.0) * units.inertia / _DEGREE
        parameters |= _of_a_ball(prim, units)
    if kind in DRIVES:
        parameters |= _passive(prim, kind, units)
        bounds = read_doubles(prim, FORCE_RANGE, 2)
        if bounds is not None:
            if bounds[0] > bounds[1]:
                given = f"{FORCE_RANGE} is {bounds.tolist()}, two numbers, the lesser first,"
                raise refuse(prim, f"{given} accepted")
            parameters["force_range"] = bounds
    return parameters


def read_keyframes(prim: Usd.Prim, kind: str) -> dict[str, np.ndarray]:
    """A joint's coordinates (nq,) in each keyframe [m, rad; quaternions x, y, z, w], by its name.

    A free joint's stand on its body's prim.

    Raises:
        ValueError: another number of coordinates than the joint has, or one that is not finite.
    """
    found = {}
    for attribute in prim.GetAuthoredPropertiesInNamespace(KEYFRAME.rstrip(":")):
        values = read_doubles(prim, attribute.GetName(), JOINT_NQ[kind])
        if values is None or not np.all(np.isfinite(values)):
            given = f"{attribute.GetName()} is {values}, {JOINT_NQ[kind]} finite numbers accepted"
            raise refuse(prim, given)
        found[attribute.GetName().removeprefix(KEYFRAME)] = values
    return found


def _armature(prim: Usd.Prim, unit: float) -> float:
    """The first armature authored [kg m^2 or kg]; it has no angle in it."""
    for name in ARMATURES:
        value = read_gain(prim, name)
        if value is not None:
            return value * unit
    return 0.0


def _passive(prim: Usd.Prim, kind: str, units: Units) -> dict[str, float]:
    """Limits, springs and damping of a hinge or slide."""
    angular = kind == "revolute"
    coordinate = _DEGREE if angular else units.length
    gain = units.inertia / _DEGREE if angular else units.mass
    stiffness, damping, rest = _drive(prim, DRIVES[kind])
    lower = _limit(prim, "physics:lowerLimit", -np.inf)
    upper = _limit(prim, "physics:upperLimit", np.inf)
    if lower > upper:
        raise refuse(
            prim,
            f"physics:lowerLimit {lower} above physics:upperLimit {upper}; for a locked "
            f"joint a PhysicsFixedJoint is accepted",
        )
    limit_ke = read_gain(prim, "newton:limitStiffness")
    if limit_ke is not None:
        limit_ke *= gain
    else:
        limited = np.isfinite(lower) or np.isfinite(upper)
        limit_ke = DEFAULT_LIMIT_KE if limited else 0.0
    return {
        "lower": lower * coordinate,
        "upper": upper * coordinate,
        "damping": (damping + (read_gain(prim, "newton:damping") or 0.0)) * gain,
        "stiffness": stiffness * gain,
        "rest": rest * coordinate,
        "limit_ke": limit_ke,
        "limit_kd": (read_gain(prim, "newton:limitDamping") or 0.0) * gain,
    }


def _of_a_ball(prim: Usd.Prim, units: Units) -> dict[str, float]:
    """Spring and limit of a ball joint."""
    stiffness, most = (read_doubles(prim, name, 1) for name in (BALL_STIFFNESS, BALL_LIMIT))
    found = {"stiffness": 0.0 if stiffness is None else float(stiffness[0])}
    if most is not None:
        ke = read_gain(prim, "newton:limitStiffness")
        found["limit_ke"] = DEFAULT_LIMIT_KE if ke is None else ke * units.inertia / _DEGREE
        found["upper"] = float(most[0])
    if not (0.0 <= found["stiffness"] < np.inf and found.get("upper", 0.0) >= 0.0):
        given = f"{BALL_STIFFNESS} is {stiffness}, {BALL_LIMIT} is {most}"
        raise refuse(prim, f"{given}; no negative numbers are accepted")
    return found


def _limit(prim: Usd.Prim, name: str, default: float) -> float:
    value = read_numbers(prim, name, 1)
    if value is None:
        return default
    return float(np.sign(value[0]) * np.inf if abs(value[0]) > _NEVER else value[0])


def _refuse_schemas(prim: Usd.Prim, kind: str) -> None:
    """Refuse applied schemas that couple the joint to another or drive what it has not."""
    for schema in map(str, prim.GetPrimTypeInfo().GetAppliedAPISchemas()):
        api, _, instance = schema.partition(":")
        if "Mimic" in api:
            raise refuse(prim, f"{schema} couples joints; independent joints are accepted")
        if (
            api == "PhysicsDriveAPI"
            and instance != DRIVES.get(kind)
            and any(_gains(prim, instance))
        ):
            raise refuse(
                prim, f"a drive {instance!r} on a {kind} joint; {DRIVES.get(kind)} is accepted"
            )


def _refuse_ball_limits(prim: Usd.Prim) -> None:
    """Refuse limits of a ball joint: this project's turn all the way."""
    for name in ("physics:coneAngle0Limit", "physics:coneAngle1Limit"):
        angle = read_numbers(prim, name, 1)
        if angle is not None and 0.0 <= angle[0] < np.inf:
            raise refuse(prim, f"{name} is {angle[0]}; ball joints without limit are accepted")
    if read_gain(prim, "newton:limitDamping"):
        given = "newton:limitDamping on a ball joint; ball joints without it are accepted"
        raise refuse(prim, given)


def _gains(prim: Usd.Prim, drive: str) -> tuple[float, float]:
    """Stiffness and damping of a drive in the stage's units."""
    prefix = f"drive:{drive}:physics:"
    return (
        read_gain(prim, prefix + "stiffness") or 0.0,
        read_gain(prim, prefix + "damping") or 0.0,
    )


def _drive(prim: Usd.Prim, name: str) -> tuple[float, float, float]:
    """Stiffness, damping and target of a joint's drive, zeros where it has none.

    Raises:
        ValueError: a drive by acceleration, or with a target velocity: neither is passive.
    """
    if f"PhysicsDriveAPI:{name}" not in map(str, prim.GetPrimTypeInfo().GetAppliedAPISchemas()):
        return 0.0, 0.0, 0.0
    stiffness, damping = _gains(prim, name)
    if not (stiffness or damping):
        return 0.0, 0.0, 0.0
    prefix = f"drive:{name}:physics:"
    kind = read_text(prim, prefix + "type", "force")
    if kind != "force":
        raise refuse(prim, f"{prefix}type is {kind!r}, 'force' is accepted")
    speed = read_numbers(prim, prefix + "targetVelocity", 1)
    if speed is not None and speed[0] != 0.0:
        raise refuse(prim, f"{prefix}targetVelocity is {speed[0]}, 0 is accepted")
    target = read_numbers(prim, prefix + "targetPosition", 1)
    rest = 0.0 if target is None else float(target[0])
    if not np.isfinite(rest):
        raise refuse(prim, f"{prefix}targetPosition is {rest}, a finite number is accepted")
    return stiffness, damping, rest
