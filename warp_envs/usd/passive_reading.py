"""Drag and lift of bodies and couplings of joints, as a USD file has them.

Attributes are arrays of doubles in SI units and radians, as `warp_envs.usd.passive` has them. Drag
and lift stand on a body's prim; a coupling is a prim of its own with a relationship to its joints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pxr import Sdf, Usd

from warp_envs.usd.actuators import read_doubles
from warp_envs.usd.passive import DRAG_NUMBERS, Coupling, Drag
from warp_envs.usd.stage import read_name, refuse

DRAG = "gippo:drag"
"""The numbers of a body's drags, one after the other, 18 of each."""
LIFT_MASS, LIFT_POSITION = "gippo:liftMass", "gippo:liftPosition"
COUPLED, WEIGHTS = "gippo:joints", "gippo:weights"
STIFFNESS, DAMPING, RANGE = "gippo:stiffness", "gippo:damping", "gippo:range"


def read_drags(prim: Usd.Prim) -> tuple[Drag, ...]:
    """The drags of a body.

    Raises:
        ValueError: numbers that are not accepted.
    """
    attribute = prim.GetAttribute(DRAG)
    size = len(attribute.Get() or ()) if attribute else 0
    if size == 0:
        return ()
    if size % DRAG_NUMBERS:
        raise refuse(prim, f"{DRAG} has {size} numbers, {DRAG_NUMBERS} for each drag accepted")
    numbers = read_doubles(prim, DRAG, size)
    assert numbers is not None
    try:
        return tuple(map(Drag.from_numbers, numbers.reshape(-1, DRAG_NUMBERS)))
    except ValueError as error:
        raise refuse(prim, str(error)) from None


def read_lift(prim: Usd.Prim) -> dict[str, Any]:
    """The fields of `Body` that say what carries a body against gravity.

    Raises:
        ValueError: numbers that are not accepted.
    """
    mass, position = read_doubles(prim, LIFT_MASS, 1), read_doubles(prim, LIFT_POSITION, 3)
    if mass is None:
        return {}
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
    targets = relationship.GetForwardedTargets() if relationship else []
    if not targets:
        return None
    if any(target not in joints for target in targets):
        raise refuse(prim, f"{COUPLED} names {list(map(str, targets))}; hinges and slides accepted")
    weights = read_doubles(prim, WEIGHTS, len(targets))
    if weights is None:
        raise refuse(prim, f"{WEIGHTS} is missing; a number for each joint is accepted")
    single = {name: read_doubles(prim, name, 1) for name in (STIFFNESS, DAMPING)}
    stiffness, damping = (0.0 if v is None else float(v[0]) for v in single.values())
    low, high = (-np.inf, np.inf) if (r := read_doubles(prim, RANGE, 2)) is None else map(float, r)
    names = tuple(joints[target] for target in targets)
    try:
        return Coupling(read_name(prim), names, tuple(weights), stiffness, damping, low, high)
    except ValueError as error:
        raise refuse(prim, str(error)) from None
