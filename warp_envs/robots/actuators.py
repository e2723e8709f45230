"""What drives a robot's joints: the file's actuators, those of `env.actuators`, or motors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from warp_envs.articulation.anatomy import SINGLE, base_body, base_joints
from warp_envs.articulation.parameters import Parameter, parameter
from warp_envs.checks import ArgumentError, check_positive, check_sequence, near_matches
from warp_envs.options.robots import check_actuators, check_gear, check_settings, read_range
from warp_envs.usd.description import Actuator, Joint, RobotDescription

_ANY = np.array([-np.inf, np.inf])


@dataclass(frozen=True, eq=False)
class Drives:
    """What each action does: joint force ``clip(bias + slope * action, range)``, then its servo.

    Attributes:
        description: the robot, with the servos on its joints.
        bodies: index of the body whose joint each action drives.
        slope: [N or N m], shape (num_actions,).
        bias: [N or N m], shape (num_actions,).
        gain: of each action the quantity that its slope and bias are proportional to, as
            `warp_envs.articulation.columns` names it, and its value; None: none is.
    """

    description: RobotDescription
    bodies: list[int]
    slope: np.ndarray
    bias: np.ndarray
    gain: list[tuple[tuple[str, int], float] | None]


def find_drives(
    description: RobotDescription,
    actuated: Sequence[str] | None,
    gear: float | Sequence[float] | None,
    actuators: Mapping[str, Any] | None,
) -> Drives:
    """The drives of a robot, one for each action.

    Args:
        description: the robot.
        actuated: names of the driven joints in the actions' order. None: those that `actuators` or
            the file drive; where there are none, all but those by which the base moves.
        gear: force at full action of motors, of all or of each action; None: the file's, or 1.
        actuators: name or pattern of joints -> settings (kind, gear, range, kp, kd, force,
            armature), beyond what the file says.

    Raises:
        ArgumentError: a name, pattern or setting that does not fit, or nothing to drive.
    """
    joints = {b.joint.name: b.joint for b in description.bodies if b.joint.kind in SINGLE}
    places = {b.joint.name: i for i, b in enumerate(description.bodies) if b.joint.kind in SINGLE}
    found = {actuator.joint: actuator for actuator in description.actuators}
    chosen = read_actuators(actuators, joints, found)
    _check_single(description, chosen)
    found.update(chosen)
    names = _driven(description, joints, actuated, found)
    gears = _gears(gear, len(names))
    drives, gains = [], []
    bodies = [places[name] for name in names]
    for place, (name, own) in enumerate(zip(names, gears, strict=True)):
        actuator = found.get(name, Actuator(name=name, joint=name))
        if own is not None and name not in chosen:
            if actuator.kind != "motor":
                raise ArgumentError("gear", f"{own}, but joint {name} has a servo", "null")
            actuator = replace(actuator, gear=own)
        drives.append(_drive(actuator, joints[name]))
        gains.append(_gain(actuator, place, bodies[place], drives[-1][2]))
    servos = {body: joint for body, (_, _, joint) in zip(bodies, drives, strict=True)}
    parts = tuple(
        replace(body, joint=servos[index])
        if servos.get(index, body.joint) is not body.joint
        else body
        for index, body in enumerate(description.bodies)
    )
    if any(a is not b for a, b in zip(parts, description.bodies, strict=True)):
        description = replace(description, bodies=parts)
    slope, bias = (np.array([drive[k] for drive in drives]) for k in (0, 1))
    return Drives(description, bodies, slope, bias, gains)


def _gain(
    actuator: Actuator, place: int, body: int, joint: Joint
) -> tuple[tuple[str, int], float] | None:
    """What the force that an action asks for is proportional to."""
    bounded = bool(np.any(np.isfinite(actuator.force_range)))
    gains = {
        "motor": (("gear", place), 0.0 if bounded else actuator.gear),
        "position": (("servo_kp", body), joint.servo_kp),
        "velocity": (("servo_kd", body), joint.servo_kd),
    }
    found = gains.get(actuator.kind)
    return found if found is not None and found[1] != 0.0 else None


def drive_parameters(drives: Drives) -> dict[str, Parameter]:
    """What can vary of the drives: of each joint, and of all together.

    The gears of motors, the gains of servos and the greatest force of what is bounded alike either
    way. Gains and forces are those at the joint, after the gear.
    """
    values: dict[str, dict[tuple[str, int], tuple[str, float]]] = {
        kind: {} for kind in ("gear", "kp", "kd", "force")
    }
    for index, gain in zip(drives.bodies, drives.gain, strict=True):
        joint = drives.description.bodies[index].joint
        key, value = gain or (("", 0), 0.0)
        if key[0] == "gear":
            values["gear"][key] = (joint.name, value)
        if key[0] == "servo_kp":
            values["kp"][key] = (joint.name, value)
        if key[0] in ("servo_kp", "servo_kd"):
            values["kd"]["servo_kd", index] = (joint.name, joint.servo_kd)
        least, most = joint.servo_range
        if np.isfinite(most) and least == -most:
            values["force"]["servo_force", index] = (joint.name, most)
    found = {}
    for kind, owners in values.items():
        for key, (name, value) in owners.items():
            label = f"{name}.{kind}"
            found[label] = parameter(label, kind, [value], [key], False)
        if owners:
            defaults = [value for _, value in owners.values()]
            found[kind] = parameter(kind, kind, defaults, owners, True)
    return found


def _check_single(description: RobotDescription, chosen: Mapping[str, Actuator]) -> None:
    """Refuse several actuators of the file on one joint, unless `chosen` says what drives it."""
    first: dict[str, str] = {}
    for actuator in description.actuators:
        other = first.setdefault(actuator.joint, actuator.name)
        if other != actuator.name and actuator.joint not in chosen:
            given = f"{other} and {actuator.name} on joint {actuator.joint}"
            accepted = f"one on each joint, or its settings in actuators.{actuator.joint},"
            raise ArgumentError("actuators", given, accepted)


def read_actuators(
    given: Any, joints: Mapping[str, Joint], found: Mapping[str, Actuator]
) -> dict[str, Actuator]:
    """The actuators of ``{PATTERN: {kind: position, kp: 50, kd: 1}}`` by joint.

    A later pattern goes on from what an earlier one, or the file, said of a joint of the same kind.

    Raises:
        ArgumentError: no mapping, a pattern without a joint, an unknown or missing setting.
    """
    if given is None:
        return {}
    check_actuators(given)
    chosen: dict[str, Actuator] = {}
    for pattern, settings in given.items():
        key = f"actuators.{pattern}"
        matched = [name for name in joints if fnmatchcase(name, str(pattern))]
        if not matched:
            hint = near_matches(str(pattern), joints)
            raise ArgumentError("actuators", repr(pattern), f"one of {list(joints)}", hint)
        for name in matched:
            before = chosen.get(name, found.get(name))
            chosen[name] = _read(key, dict(settings), joints[name], before)
    return chosen


def _read(key: str, settings: dict[str, Any], joint: Joint, before: Actuator | None) -> Actuator:
    """One actuator from its settings and what was said before."""
    kind = settings.get("kind", "motor" if before is None else before.kind)
    check_settings(key, kind, settings)
    if before is not None and before.kind == kind:
        settings = {**_settings(before), **settings}
    gear, kp, kd = (
        settings.get(name, default) for name, default in (("gear", 1.0), ("kp", 0.0), ("kd", 0.0))
    )
    armature = settings.get("armature", 0.0)
    for name, value in (("kp", kp), ("kd", kd)):
        if {"kp": "position", "kd": "velocity"}[name] == kind:
            check_positive(f"{key}.{name}", value)
    gain, bias = {
        "motor": (1.0, (0.0, 0.0, 0.0)),
        "position": (kp, (0.0, -kp, -kd)),
        "velocity": (kd, (0.0, 0.0, -kd)),
    }[kind]
    return Actuator(
        name=joint.name,
        joint=joint.name,
        gear=float(gear),
        gain=gain,
        bias=np.array(bias),
        control_range=_bounds(f"{key}.range", settings.get("range")),
        force_range=_bounds(f"{key}.force", settings.get("force")),
        armature=float(armature),
    )


def _settings(actuator: Actuator) -> dict[str, Any]:
    """What `_read` was given of an actuator of a kind."""
    bias = actuator.bias
    own = {"position": {"kp": -bias[1], "kd": -bias[2]}, "velocity": {"kd": -bias[2]}}
    ranges = {"range": list(actuator.control_range), "force": list(actuator.force_range)}
    plain = {"gear": actuator.gear, "armature": actuator.armature}
    return {**plain, **ranges, **own.get(actuator.kind, {})}


def _bounds(key: str, given: Any) -> np.ndarray:
    pair = read_range(key, given)
    return _ANY if pair is None else np.array(pair, dtype=np.float64)


def _driven(
    description: RobotDescription,
    joints: Mapping[str, Joint],
    actuated: Sequence[str] | None,
    found: Mapping[str, Actuator],
) -> list[str]:
    """The names of the driven joints, in the order of the actions."""
    if actuated is not None:
        accepted = f"a list of any of {list(joints)}"
        check_sequence("actuated", actuated, accepted)
        if not actuated:
            raise ArgumentError("actuated", repr(actuated), accepted)
        for place, name in enumerate(actuated):
            if name not in joints:
                raise ArgumentError("actuated", repr(name), f"hinges and slides {list(joints)}")
            if name in actuated[:place]:
                raise ArgumentError("actuated", f"{name!r} twice", "each joint once")
        return list(actuated)
    if found:
        return list(found)
    own = base_joints(description, base_body(description))
    kept = [description.bodies[index].joint.name for index in own]
    driven = [name for name in joints if name not in kept]
    if not driven:
        given = f"{description.name}, which has no hinge or slide to drive"
        raise ArgumentError("asset", given, "a robot with an actuated joint")
    return driven


def _gears(gear: float | Sequence[float] | None, num_actions: int) -> list[float] | list[None]:
    """The gear of each action, None where the actuator's own holds."""
    if gear is None:
        return [None] * num_actions
    check_gear(gear)
    gears = list(gear) if isinstance(gear, Sequence) else [gear] * num_actions
    if len(gears) != num_actions:
        raise ArgumentError("gear", f"{len(gears)} numbers", f"{num_actions}")
    return [float(value) for value in gears]


def _drive(actuator: Actuator, joint: Joint) -> tuple[float, float, Joint]:
    """Slope, bias and the joint with its servo, by `Actuator`'s equation.

    Actions from -1 to 1 run through the range of control; a motor without one has [-1, 1], a
    position servo that of the joint.
    """
    gear, (constant, per_q, per_qd) = actuator.gear, actuator.bias
    low, high = actuator.control_range
    if not (np.isfinite(low) and np.isfinite(high)):
        low, high = _default_range(actuator, joint)
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    bounds = np.sort(gear * actuator.force_range) if gear else _ANY
    bounds = np.clip(bounds, *joint.force_range)
    bias = gear * (actuator.gain * middle + constant)
    servo = {"servo_kp": -per_q * gear * gear + 0.0, "servo_kd": -per_qd * gear * gear + 0.0}
    if any(servo.values()) or np.any(np.isfinite(bounds)):
        joint = replace(joint, **servo, servo_range=bounds)
    if actuator.armature:
        joint = replace(joint, armature=joint.armature + gear * gear * actuator.armature)
    return gear * actuator.gain * half, bias, joint


def _default_range(actuator: Actuator, joint: Joint) -> tuple[float, float]:
    if actuator.kind == "motor":
        return -1.0, 1.0
    limits = actuator.gear * np.array([joint.lower, joint.upper])
    if actuator.kind == "position" and np.all(np.isfinite(limits)):
        return float(limits.min()), float(limits.max())
    raise ArgumentError(
        f"actuators.{joint.name}.range",
        f"no range of the {actuator.kind} servo",
        "[least, greatest] of what actions from -1 to 1 ask for",
    )
