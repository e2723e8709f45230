"""Which bodies of a compiled MuJoCo model become bodies here, with what mass, on what.

A body without joints is welded to its parent. It stays a body, on a fixed joint, if it has mass;
else it is a frame with shapes in it, nested in the body that it is welded to. Its mass goes there,
too, where that body has none of its own, as no moving body here may be without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from warp_envs.usd.conversion.frames import frame_of
from warp_envs.usd.mass import MassProperties, combine_mass_properties
from warp_envs.usd.stage import IDENTITY, Frame

WORLD = 0


@dataclass
class Place:
    """Where a body of MuJoCo's model is found here.

    Attributes:
        holder: the body whose prim it is nested in, itself if it is a body of its own, or `WORLD`.
        frame: of the body in its holder's frame (the identity if it is its own).
        mass: of a body of its own, in its frame.
    """

    holder: int
    frame: Frame
    mass: MassProperties


def place_bodies(model: Any) -> list[Place]:
    """The place of every body, the world first."""
    nothing = MassProperties(0.0, np.zeros(3), np.zeros((3, 3)))
    places = [Place(WORLD, IDENTITY, nothing)]
    merged: dict[int, list[MassProperties]] = {}
    for body in range(1, model.nbody):
        parent = int(model.body_parentid[body])
        mass = _mass_of(model, body)
        own = model.body_jntnum[body] > 0 or _stands_alone(model, body, mass)
        if own:
            places.append(Place(body, IDENTITY, mass))
            continue
        local = frame_of(model.body_pos[body], model.body_quat[body])
        frame = places[parent].frame.then(local)
        holder = places[parent].holder
        places.append(Place(holder, frame, nothing))
        merged.setdefault(holder, []).append(_seen_from(mass, frame))
    for holder, parts in merged.items():
        # of a welded frame some files give an inertia without a mass
        if holder != WORLD and any(part.mass > 0.0 or np.any(part.inertia) for part in parts):
            places[holder].mass = combine_mass_properties([places[holder].mass, *parts])
    return places


def _stands_alone(model: Any, body: int, mass: MassProperties) -> bool:
    """Whether a welded body is a body of its own."""
    carrier = int(model.body_weldid[body])
    needed = carrier != WORLD and not _is_solid(_mass_of(model, carrier))
    return _is_solid(mass) and not needed


def _is_solid(mass: MassProperties) -> bool:
    return mass.mass > 0.0 and np.linalg.eigvalsh(mass.inertia)[0] > 0.0


def _mass_of(model: Any, body: int) -> MassProperties:
    """Mass properties of a body in its own frame."""
    axes = frame_of(model.body_ipos[body], model.body_iquat[body]).rotation
    inertia = axes @ np.diag(model.body_inertia[body]) @ axes.T
    com = np.array(model.body_ipos[body], dtype=np.float64)
    return MassProperties(float(model.body_mass[body]), com, inertia)


def _seen_from(mass: MassProperties, frame: Frame) -> MassProperties:
    """The same in the frame in which `frame`, that of the mass, is given."""
    com = frame.position + frame.rotation @ mass.com
    return MassProperties(mass.mass, com, frame.rotation @ mass.inertia @ frame.rotation.T)
