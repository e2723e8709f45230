"""Masses of shapes and of bodies made of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from warp_envs.usd.description import Shape, rotation_matrix
from warp_envs.usd.hull import convex_hull, solid_integrals


@dataclass(frozen=True, eq=False)
class MassProperties:
    """Mass [kg], centre of mass [m] (3,) and inertia about it [kg m^2] (3, 3), in one frame."""

    mass: float
    com: np.ndarray
    inertia: np.ndarray


def shape_mass_properties(shape: Shape) -> MassProperties:
    """Mass properties of one shape at its density, in the body's frame."""
    volume, center, local = _solid(shape)
    turn = rotation_matrix(shape.rotation)
    position = shape.position + turn @ center if shape.kind == "mesh" else shape.position
    return MassProperties(shape.density * volume, position, turn @ (shape.density * local) @ turn.T)


def _solid(shape: Shape) -> tuple[float, np.ndarray, np.ndarray]:
    """Volume, centre of mass (3,) and inertia (3, 3) about it at density 1, in the shape's axes.

    A capsule is its cylinder and two half spheres; a half sphere's centre of mass lies 3/8 r from
    its flat side.
    """
    r, h = shape.radius, shape.half_length
    if shape.kind == "mesh":
        return solid_integrals(convex_hull(shape.points)[1])
    if shape.kind in ("box", "ellipsoid"):
        share, per_square = (8.0, 3.0) if shape.kind == "box" else (4.0 / 3.0 * np.pi, 5.0)
        volume = share * float(np.prod(shape.half_extents))
        squares = shape.half_extents**2
        return volume, np.zeros(3), volume * np.diag((squares.sum() - squares) / per_square)
    ends = 0.0 if shape.kind == "cylinder" else 4.0 / 3.0 * np.pi * r**3
    middle = 2.0 * np.pi * r**2 * h
    axial = middle * r**2 / 2.0 + ends * 2.0 / 5.0 * r**2
    # About the capsule's centre: each half sphere is 2/5 r^2 about its flat side's centre,
    # moved out by h with its centre of mass 3/8 r further.
    across = middle * (r**2 / 4.0 + h**2 / 3.0)
    across += ends * (2.0 / 5.0 * r**2 + h**2 + 3.0 / 4.0 * r * h)
    return ends + middle, np.zeros(3), np.diag([across, across, axial])


def combine_mass_properties(parts: Sequence[MassProperties]) -> MassProperties:
    """Sum of parts in one frame, by the parallel-axis theorem. Overlaps count twice.

    No part, or none with mass, gives zeros.
    """
    mass = float(sum(part.mass for part in parts))
    if mass <= 0.0:
        return MassProperties(0.0, np.zeros(3), np.zeros((3, 3)))
    com = sum((part.mass * part.com for part in parts), np.zeros(3)) / mass
    inertia = np.zeros((3, 3))
    for part in parts:
        d = part.com - com
        inertia += part.inertia + part.mass * (d @ d * np.eye(3) - np.outer(d, d))
    return MassProperties(mass, com, inertia)
