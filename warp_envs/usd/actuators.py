"""Actuators that a robot's file names: prims with a relationship to the joint that they drive.

Attributes are arrays of doubles in SI units and radians, as `warp_envs.usd.description.Actuator`
has them; all but the relationship may be missing. A joint's `FORCE_RANGE` bounds all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pxr import Sdf, Usd

from warp_envs.usd.description import Actuator
from warp_envs.usd.stage import read_doubles, read_name, refuse

DRIVEN = "gippo:joint"
GEAR, GAIN, BIAS = "gippo:gear", "gippo:gain", "gippo:bias"
CONTROL_RANGE, FORCE_RANGE = "gippo:controlRange", "gippo:forceRange"


def read_actuator(prim: Usd.Prim, joints: Mapping[Sdf.Path, str]) -> Actuator | None:
    """The actuator that a prim is, None if it is none.

    Args:
        prim: any.
        joints: names of the hinges and slides, by their prims' paths.

    Raises:
        ValueError: a joint that is no hinge or slide, or numbers that are not accepted.
    """
    relationship = prim.GetRelationship(DRIVEN)
    if not relationship:
        return None
    targets = relationship.GetForwardedTargets()
    if len(targets) != 1 or targets[0] not in joints:
        raise refuse(prim, f"{DRIVEN} names {list(map(str, targets))}; one hinge or slide accepted")
    values: dict[str, Any] = {
        name: found
        for name, attribute, size in (
            ("gear", GEAR, 1),
            ("gain", GAIN, 1),
            ("bias", BIAS, 3),
            ("control_range", CONTROL_RANGE, 2),
            ("force_range", FORCE_RANGE, 2),
        )
        if (found := read_doubles(prim, attribute, size)) is not None
    }
    for name in {"gear", "gain"} & set(values):
        values[name] = float(values[name][0])
    try:
        return Actuator(name=read_name(prim), joint=joints[targets[0]], **values)
    except ValueError as error:
        raise refuse(prim, str(error)) from None
