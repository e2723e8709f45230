"""Where an episode starts: keyframe, joint values and height, inside limits and on the ground."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.contacts import robot_contacts
from warp_envs.checks import ArgumentError, check_number, near_matches
from warp_envs.usd.description import Body, rotation_matrix
from warp_envs.usd.stage import Frame

KEYS = ("keyframe", "joints", "height")
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
            ``keyframe``, ``joints`` (name -> coordinate, or coordinates of a ball or a free body)
            and ``height`` of the first body that moves up or down [m], or "auto" for the lowest
            point on the ground.
        spread: either way about it (nq).

    Raises:
        ValueError: a keyframe or joint that the robot has not, another number of coordinates than
            it has, a height of a robot that cannot move up or down, or other keys.
    """
    wanted = _wanted(start)
    q = articulation.default_joint_q.copy()
    if wanted.get("keyframe") is not None:
        _set_keyframe(articulation, str(wanted["keyframe"]), q)
    for name, value in (wanted.get("joints") or {}).items():
        _set_joint(articulation, str(name), value, q)
    said = list(_move_inside(articulation, q, spread))
    height = wanted.get("height")
    if height is None:
        said += _lift_out_of_the_ground(articulation, q)
    else:
        _set_height(articulation, height, q)
    if said:
        _say_once(f"{articulation.description.path}: start: {', '.join(said)}")
    return q, spread


def _wanted(start: str | Mapping[str, Any] | None) -> dict[str, Any]:
    if start is None:
        return {}
    if isinstance(start, str):
        return {"keyframe": start}
    accepted = f"a keyframe's name or a mapping with {list(KEYS)}"
    if not isinstance(start, Mapping):
        raise ArgumentError("start", repr(start), accepted)
    for key in start:
        if key not in KEYS:
            raise ArgumentError("start", f"key {key!r}", accepted, near_matches(str(key), KEYS))
    if not isinstance(start.get("joints") or {}, Mapping):
        raise ArgumentError("start.joints", repr(start["joints"]), "joint names and values")
    return dict(start)


def _set_keyframe(articulation: Articulation, name: str, q: np.ndarray) -> None:
    """Put in a keyframe's coordinates; joints that it does not name stay at rest."""
    bodies = articulation.description.bodies
    known = sorted({key for body in bodies for key in body.joint.keyframes})
    if name not in known:
        raise ArgumentError("start", f"keyframe {name!r}", f"one of {known} of the asset")
    for body, at in zip(bodies, articulation.q_start, strict=True):
        if name in body.joint.keyframes:
            q[at : at + body.joint.nq] = body.joint.keyframes[name]


def _set_joint(articulation: Articulation, name: str, value: Any, q: np.ndarray) -> None:
    joints = {
        body.joint.name: (body.joint, at)
        for body, at in zip(articulation.description.bodies, articulation.q_start, strict=True)
        if body.joint.nq
    }
    if name not in joints:
        hint = near_matches(name, joints)
        raise ArgumentError("start.joints", repr(name), f"one of {list(joints)}", hint)
    joint, at = joints[name]
    accepted = f"{joint.nq} finite number(s)"
    try:
        numbers = np.atleast_1d(np.array(value, dtype=np.float64))
    except (TypeError, ValueError):
        raise ArgumentError(f"start.joints.{name}", repr(value), accepted) from None
    if numbers.shape != (joint.nq,) or not np.all(np.isfinite(numbers)) or value is True:
        raise ArgumentError(f"start.joints.{name}", repr(value), accepted)
    if joint.nq > 1:
        length = float(np.linalg.norm(numbers[-4:]))
        if length == 0.0:
            raise ArgumentError(f"start.joints.{name}", repr(value), "a quaternion x, y, z, w")
        numbers[-4:] /= length
    q[at : at + joint.nq] = numbers


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


def place_bodies(articulation: Articulation, q: np.ndarray) -> list[Frame]:
    """The bodies' frames in the world at coordinates (nq,), as `description` has the equation."""
    frames: list[Frame] = []
    for body, at in zip(articulation.description.bodies, articulation.q_start, strict=True):
        joint = body.joint
        if joint.kind == "free":
            frames.append(Frame(q[at : at + 3].copy(), rotation_matrix(q[at + 3 : at + 7])))
            continue
        outer = Frame(joint.parent_position, rotation_matrix(joint.parent_rotation))
        if body.parent >= 0:
            outer = frames[body.parent].then(outer)
        anchor = Frame(joint.child_position, rotation_matrix(joint.child_rotation))
        moved = _moved(body, q[at : at + joint.nq])
        frames.append(outer.then(moved).then(anchor.inverse()))
    return frames


def _moved(body: Body, q: np.ndarray) -> Frame:
    """What a joint other than a free one does at its coordinates."""
    joint = body.joint
    position, turn = np.zeros(3), np.eye(3)
    if joint.kind == "prismatic":
        position = q[0] * joint.axis
    elif joint.kind == "revolute":
        half = q[0] / 2.0
        turn = rotation_matrix([*(math.sin(half) * joint.axis), math.cos(half)])
    elif joint.kind == "spherical":
        turn = rotation_matrix(q)
    return Frame(position, turn)


def clearance(articulation: Articulation, q: np.ndarray) -> float | None:
    """How far the robot could sink before it touches the ground [m], None if it never does.

    Of each point that can touch, its height above the ground there, less how far its shape reaches
    against the ground's normal, taken along the vertical.
    """
    description = articulation.description
    frames = place_bodies(articulation, q)
    gaps = []
    for index, point in robot_contacts(description):
        if not _moves(description.bodies, index):
            continue
        frame = frames[index]
        place = frame.position + frame.rotation @ point.position
        height, slope_x, slope_y = description.ground.surface(place[:2])
        up = np.array([-slope_x, -slope_y, 1.0])  # the normal over its third part
        axes = frame.rotation @ point.frame
        if point.kind == "ellipsoid":
            reach = np.linalg.norm(axes.T @ up)
        elif point.kind == "rim":
            reach = point.radius * np.linalg.norm(np.cross(axes[:, 0], up))
        else:
            reach = point.radius * np.linalg.norm(up)
        gaps.append(float(place[2] - height - reach))
    return min(gaps, default=None)


def _moves(bodies: Sequence[Body], index: int) -> bool:
    """Whether a body is not fixed to the world."""
    while bodies[index].joint.kind == "fixed" and bodies[index].parent >= 0:
        index = bodies[index].parent
    return bodies[index].joint.kind != "fixed"


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
            turn = place_bodies(articulation, q)[index].rotation
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
    accepted = "a height in metres or 'auto'"
    if height != "auto":
        if isinstance(height, str):
            raise ArgumentError("start.height", repr(height), accepted)
        check_number("start.height", height, -1e6, 1e6)
    found = _upward(articulation, q)
    if found is None:
        given = f"{height!r} for a robot whose first body moves neither up nor down"
        raise ArgumentError("start.height", given, "none")
    body, coordinate, sign = found
    if height == "auto":
        lowest = clearance(articulation, q)
        if lowest is None:
            raise ArgumentError("start.height", "'auto' for a robot that touches no ground", "none")
        q[coordinate] -= sign * lowest
    else:
        q[coordinate] += sign * (float(height) - place_bodies(articulation, q)[body].position[2])


def _lift_out_of_the_ground(articulation: Articulation, q: np.ndarray) -> list[str]:
    """Lift a robot that stands deeper in the ground than its weight would press one point."""
    description = articulation.description
    lowest, found = clearance(articulation, q), _upward(articulation, q)
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
