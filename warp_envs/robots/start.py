"""Where an episode starts: keyframe, joint values and height, inside limits and on the ground."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import numpy as np

from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.stiffness import clearance, place_bodies
from warp_envs.checks import ArgumentError, near_matches
from warp_envs.options.robots import read_start
from warp_envs.usd.description import Body, Joint, rotation_matrix

_SINGLE = ("revolute", "prismatic")
_VERTICAL = 1.0 - 1e-9  # cosine from which an axis counts as vertical
_log = logging.getLogger("warp_envs")


def start_pose(
    articulation: Articulation, start: str | Mapping[str, Any] | None, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """joint_q (nq) about which episodes start, and how far they are scattered (nq).

    A coordinate outside its limits is moved inside, a robot that would stand in the ground is
    lifted onto it, and one line on standard error says so; a spread ends at the limits.

    Args:
        articulation: the robot.
        start: None for the pose of its file; the name of one of its keyframes; or a mapping with
            ``keyframe``, ``joints`` (name or pattern -> coordinate, or coordinates of a ball or a
            free body; later ones win) and ``height`` of the first body that moves up or down [m],
            or "auto" for the lowest point on the ground.
        spread: either way about it (nq).

    Raises:
        ValueError: a keyframe or joint that the robot has not, another number of coordinates than
            it has, a height of a robot that cannot move up or down, or other keys.
    """
    wanted = read_start(start)
    q = articulation.default_joint_q.copy()
    if wanted.get("keyframe") is not None:
        _set_keyframe(articulation, str(wanted["keyframe"]), q)
    for name, value in (wanted.get("joints") or {}).items():
        _set_joints(articulation, str(name), value, q)
    said = list(_move_inside(articulation, q, spread))
    height = wanted.get("height")
    if height is None:
        said += _lift_out_of_the_ground(articulation, q)
    else:
        _set_height(articulation, height, q)
    if said:
        _say_once(f"{articulation.description.path}: start: {', '.join(said)}")
    return q, spread


def _set_keyframe(articulation: Articulation, name: str, q: np.ndarray) -> None:
    """Put in a keyframe's coordinates; joints that it does not name stay at rest."""
    bodies = articulation.description.bodies
    known = sorted({key for body in bodies for key in body.joint.keyframes})
    if name not in known:
        raise ArgumentError("start", f"keyframe {name!r}", f"one of {known} of the asset")
    for body, at in zip(bodies, articulation.q_start, strict=True):
        if name in body.joint.keyframes:
            q[at : at + body.joint.nq] = body.joint.keyframes[name]


def _set_joints(articulation: Articulation, pattern: str, value: Any, q: np.ndarray) -> None:
    """Put in the coordinates of all joints of a name or pattern."""
    joints = {
        body.joint.name: (body.joint, at)
        for body, at in zip(articulation.description.bodies, articulation.q_start, strict=True)
        if body.joint.nq
    }
    matched = [name for name in joints if name == pattern or fnmatchcase(name, pattern)]
    if not matched:
        hint = near_matches(pattern, joints)
        raise ArgumentError("start.joints", repr(pattern), f"one of {list(joints)}", hint)
    for name in matched:
        joint, at = joints[name]
        q[at : at + joint.nq] = _coordinates(f"start.joints.{name}", joint, value)


def _coordinates(key: str, joint: Joint, value: Any) -> np.ndarray:
    """The coordinates (nq,) that a person gave a joint.

    Raises:
        ArgumentError: another number of them, or one that is not finite.
    """
    accepted = f"{joint.nq} finite number(s)"
    try:
        numbers = np.atleast_1d(np.array(value, dtype=np.float64))
    except (TypeError, ValueError):
        raise ArgumentError(key, repr(value), accepted) from None
    if numbers.shape != (joint.nq,) or not np.all(np.isfinite(numbers)) or value is True:
        raise ArgumentError(key, repr(value), accepted)
    if joint.nq > 1:
        length = float(np.linalg.norm(numbers[-4:]))
        if length == 0.0:
            raise ArgumentError(key, repr(value), "a quaternion x, y, z, w")
        numbers[-4:] /= length
    return numbers


def _move_inside(articulation: Articulation, q: np.ndarray, spread: np.ndarray) -> Iterator[str]:
    """Move hinges and slides inside their limits, and end their spread there; tell of each."""
    for body, at in zip(articulation.description.bodies, articulation.q_start, strict=True):
        joint = body.joint
        if joint.kind not in _SINGLE:
            continue
        if not joint.lower <= q[at] <= joint.upper:
            room = min(spread[at], (joint.upper - joint.lower) / 2.0)
            inside = float(np.clip(q[at], joint.lower + room, joint.upper - room))
            yield (
                f"joint {joint.name} is moved from {q[at]:.4g} to {inside:.4g}, inside its limits "
                f"{joint.lower:.4g} to {joint.upper:.4g}"
            )
            q[at] = inside
        spread[at] = min(spread[at], q[at] - joint.lower, joint.upper - q[at])


# Height -----------------------------------------------------------------------------------------


def _upward(articulation: Articulation, q: np.ndarray) -> tuple[int, int, float] | None:
    """The first body that moves up and down, its coordinate for that, and that coordinate's sign.

    A free body's is the third; a slide's, if its axis is vertical at these coordinates.
    """
    bodies = articulation.description.bodies
    for index, (body, at) in enumerate(zip(bodies, articulation.q_start, strict=True)):
        if body.joint.kind == "free":
            return index, at + 2, 1.0
        if body.joint.kind == "prismatic" and not _turns_above(bodies, body):
            joint = body.joint
            turn = place_bodies(articulation.description, q)[index].rotation
            axis = turn @ rotation_matrix(joint.child_rotation) @ joint.axis
            if abs(axis[2]) > _VERTICAL:
                return index, at, float(np.sign(axis[2]))
    return None


def _turns_above(bodies: Sequence[Body], body: Body) -> bool:
    """Whether a joint that turns holds what holds a body."""
    while body.parent >= 0:
        body = bodies[body.parent]
        if body.joint.kind not in ("fixed", "prismatic"):
            return True
    return False


def _set_height(articulation: Articulation, height: Any, q: np.ndarray) -> None:
    """Move the robot up or down to a height, or with its lowest point onto the ground."""
    found = _upward(articulation, q)
    if found is None:
        given = f"{height!r} for a robot whose first body moves neither up nor down"
        raise ArgumentError("start.height", given, "none")
    body, coordinate, sign = found
    if height == "auto":
        lowest = clearance(articulation.description, q)
        if lowest is None:
            raise ArgumentError("start.height", "'auto' for a robot that touches no ground", "none")
        q[coordinate] -= sign * lowest
    else:
        q[coordinate] += sign * (
            float(height) - place_bodies(articulation.description, q)[body].position[2]
        )


def _lift_out_of_the_ground(articulation: Articulation, q: np.ndarray) -> list[str]:
    """Lift a robot that stands deeper in the ground than its weight would press one point."""
    description = articulation.description
    lowest, found = clearance(articulation.description, q), _upward(articulation, q)
    if lowest is None or found is None or description.contact is None:
        return []
    weight = sum(body.mass for body in description.bodies) * np.linalg.norm(description.gravity)
    if -lowest <= weight / description.contact.ke:
        return []
    _, coordinate, sign = found
    q[coordinate] -= sign * lowest
    return [f"it is lifted by {-lowest:.4g} m, out of the ground"]


@cache
def _say_once(line: str) -> None:
    _log.warning(line)
