"""Drag and lift of bodies, couplings of joints and cords, as a USD file has them.

Attributes are arrays of doubles in SI units and radians, as `warp_envs.usd.passive` has them. Drag
and lift stand on a body's prim; a coupling is a prim of its own with a relationship to its joints,
a cord one with a relationship to its bodies, each once, and of each point the body's number there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from pxr import Sdf, Usd

from warp_envs.usd.mass import MassProperties
from warp_envs.usd.passive import DRAG_NUMBERS, Cord, Coupling, Drag
from warp_envs.usd.stage import (
    read_array,
    read_doubles,
    read_flag,
    read_name,
    read_numbers,
    refuse,
)

DRAG = "gippo:drag"
"""The numbers of a body's drags, one after the other, 18 of each."""
LIFT_MASS, LIFT_POSITION = "gippo:liftMass", "gippo:liftPosition"
WEIGHTLESS, SHARE = "physxRigidBody:disableGravity", "mjc:gravcomp"
COUPLED, WEIGHTS = "gippo:joints", "gippo:weights"
CORD_BODIES, CORD_NUMBERS, CORD_POINTS = "gippo:bodies", "gippo:bodyNumbers", "gippo:points"
"""Bodies that a cord pulls at; of each of its points the place in that list, -1 of the world, and
x, y, z [m] in the body's frame."""
STIFFNESS, DAMPING, RANGE = "gippo:stiffness", "gippo:damping", "gippo:range"


def read_drags(prim: Usd.Prim) -> tuple[Drag, ...]:
    """The drags of a body.

    Raises:
        ValueError: numbers that are not accepted.
    """
    numbers = read_array(prim, DRAG)
    if numbers is None:
        return ()
    if len(numbers) % DRAG_NUMBERS:
        given = f"{DRAG} has {len(numbers)} numbers"
        raise refuse(prim, f"{given}, {DRAG_NUMBERS} for each drag accepted")
    try:
        return tuple(map(Drag.from_numbers, numbers.reshape(-1, DRAG_NUMBERS)))
    except ValueError as error:
        raise refuse(prim, str(error)) from None


def read_lift(prim: Usd.Prim, body: MassProperties) -> dict[str, Any]:
    """The fields of `Body` that say what carries a body against gravity.

    A body without gravity (`WEIGHTLESS`, or a share of it by `SHARE`) is carried at its centre of
    mass, as MuJoCo's `gravcomp` does.

    Raises:
        ValueError: numbers that are not accepted, or two that carry it.
    """
    share = read_numbers(prim, SHARE, 1)
    if share is not None and not np.isfinite(share[0]):
        raise refuse(prim, f"{SHARE} is {share[0]}, a finite number accepted")
    carried = 1.0 if read_flag(prim, WEIGHTLESS, False) else 0.0 if share is None else share[0]
    mass, position = read_doubles(prim, LIFT_MASS, 1), read_doubles(prim, LIFT_POSITION, 3)
    if mass is None:
        return {"lift_mass": carried * body.mass, "lift_position": body.com} if carried else {}
    if carried:
        raise refuse(prim, f"{LIFT_MASS} beside {WEIGHTLESS} or {SHARE}; one of them is accepted")
    position = np.zeros(3) if position is None else position
    if not np.all(np.isfinite([*mass, *position])):
        raise refuse(prim, f"{LIFT_MASS} is {mass[0]} at {position}, finite numbers accepted")
    return {"lift_mass": float(mass[0]), "lift_position": position}


def read_coupling(prim: Usd.Prim, joints: Mapping[Sdf.Path, str]) -> Coupling | None:
    """The coupling that a prim is, None if it is none.

    Args:
        prim: any.
        joints: names of the hinges and slides, by their prims' paths.

    Raises:
        ValueError: a joint that is no hinge or slide, or numbers that are not accepted.
    """
    relationship = prim.GetRelationship(COUPLED)
    if not relationship:
        return None
    targets = relationship.GetForwardedTargets()
    if not targets or any(target not in joints for target in targets):
        raise refuse(prim, f"{COUPLED} names {list(map(str, targets))}; hinges and slides accepted")
    weights = read_doubles(prim, WEIGHTS, len(targets))
    if weights is None:
        raise refuse(prim, f"{WEIGHTS} is missing; a number for each joint is accepted")
    numbers = _spring(prim)
    names = tuple(joints[target] for target in targets)
    try:
        return Coupling(read_name(prim), names, tuple(weights), *numbers)
    except ValueError as error:
        raise refuse(prim, str(error)) from None


def read_cord(prim: Usd.Prim, bodies: Collection[Sdf.Path]) -> Cord | None:
    """The cord that a prim is, None if it is none.

    Args:
        prim: any.
        bodies: paths of the bodies.

    Raises:
        ValueError: a body that is none, or numbers that are not accepted.
    """
    points = read_array(prim, CORD_POINTS)
    relationship = prim.GetRelationship(CORD_BODIES)
    if points is None and not relationship:
        return None
    if points is None or not len(points) or len(points) % 3:
        given = "missing" if points is None else f"{points.tolist()}"
        raise refuse(prim, f"{CORD_POINTS} is {given}; three numbers for each point are accepted")
    count = len(points) // 3
    targets = relationship.GetForwardedTargets() if relationship else []
    if any(target not in bodies for target in targets):
        raise refuse(prim, f"{CORD_BODIES} names {list(map(str, targets))}; bodies are accepted")
    weights = read_doubles(prim, WEIGHTS, count - 1)
    chosen = read_array(prim, CORD_NUMBERS)
    numbers = [] if chosen is None else chosen.tolist()
    if len(numbers) != count or any(n not in range(-1, len(targets)) for n in numbers):
        accepted = f"{count} numbers from -1 to {len(targets) - 1} are accepted"
        raise refuse(prim, f"{CORD_NUMBERS} is {numbers}; {accepted}")
    if weights is None:
        raise refuse(prim, f"{WEIGHTS} is missing; a number for each piece is accepted")
    names = tuple(str(targets[int(n)]) if n >= 0 else "" for n in numbers)
    try:
        return Cord(read_name(prim), names, points, tuple(weights), *_spring(prim))
    except ValueError as error:
        raise refuse(prim, str(error)) from None


def _spring(prim: Usd.Prim) -> tuple[float, float, float, float]:
    """Stiffness, damping and range of a coupling or cord."""
    single = {name: read_doubles(prim, name, 1) for name in (STIFFNESS, DAMPING)}
    stiffness, damping = (0.0 if v is None else float(v[0]) for v in single.values())
    low, high = (-np.inf, np.inf) if (r := read_doubles(prim, RANGE, 2)) is None else map(float, r)
    return stiffness, damping, low, high
