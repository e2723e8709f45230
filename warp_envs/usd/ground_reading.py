"""The ground of a USD file, among the colliders that belong to no body.

A Plane, at any pose, is the ground; so is a Mesh whose points are a grid along the world's x and y,
a height field: points in any order, one height at each, evenly spaced along either axis; its faces
do not matter. Without one of the two the ground is z = 0. Other colliders of the world play no part
and are told of.
"""

from __future__ import annotations

import numpy as np
from pxr import Usd

from warp_envs.usd.ground import STEEPEST, Ground, HeightField, Plane
from warp_envs.usd.stage import Stage, read_axis, read_flag, read_points, refuse

_SNAP = 1e-5  # of a grid's extent: places closer than this are one
_EVEN = 1e-2  # of a cell: how far a point may lie off its place


def read_ground(stage: Stage, colliders: list[Usd.Prim]) -> tuple[Ground, list[str]]:
    """The ground, and a sentence on each collider of the world that plays no part.

    Raises:
        ValueError: a second ground.
    """
    found: list[tuple[Usd.Prim, Ground]] = []
    notes = []
    for prim in colliders:
        if not read_flag(prim, "physics:collisionEnabled", True):
            continue
        ground = _ground(stage, prim)
        if ground is None:
            notes.append(
                f"{prim.GetPath()}, a {prim.GetTypeName()} of the world, touches nothing: a Plane "
                "that faces up or a Mesh that is a grid of heights can be the ground"
            )
        else:
            found.append((prim, ground))
    if len(found) > 1:
        raise refuse(found[1][0], f"a second ground beside {found[0][0].GetPath()}; one accepted")
    return (found[0][1] if found else Plane()), notes


def _ground(stage: Stage, prim: Usd.Prim) -> Ground | None:
    if prim.GetTypeName() == "Plane":
        frame, _ = stage.world_frame(prim)
        normal = frame.rotation @ read_axis(prim, "axis", "Z")
        if normal[2] <= 0.0 or np.linalg.norm(normal[:2]) > STEEPEST * normal[2]:
            return None
        slope = np.where(np.abs(normal[:2]) < 1e-12, 0.0, -normal[:2] / normal[2])
        return Plane(float(frame.position @ normal / normal[2]), slope)
    if prim.GetTypeName() == "Mesh":
        frame, scale = stage.world_frame(prim)
        points = read_points(prim) * scale * stage.units.length
        return height_field(frame.position + points @ frame.rotation.T)
    return None


def height_field(points: np.ndarray) -> HeightField | None:
    """The height field of points (n, 3) on a grid along x and y, None where they are none."""
    if len(points) < 4 or not np.all(np.isfinite(points)):
        return None
    extent = float(np.max(np.ptp(points[:, :2], axis=0)))
    if extent <= 0.0:
        return None
    rows, columns = (_lines(points[:, k], _SNAP * extent) for k in (0, 1))
    if rows is None or columns is None:
        return None
    (corner_x, cell_x, i), (corner_y, cell_y, j) = rows, columns
    shape = (int(i.max()) + 1, int(j.max()) + 1)
    heights = np.full(shape, np.nan)
    heights[i, j] = points[:, 2]
    if shape[0] * shape[1] != len(points) or np.isnan(heights).any():
        return None
    return HeightField(heights, np.array([corner_x, corner_y]), np.array([cell_x, cell_y]))


def _lines(values: np.ndarray, snap: float) -> tuple[float, float, np.ndarray] | None:
    """First of evenly spaced lines, their distance, and the line of each value; None if uneven."""
    ordered = np.sort(values)
    places = ordered[np.append(True, np.diff(ordered) > snap)]
    if len(places) < 2:
        return None
    first, cell = places[0], (places[-1] - places[0]) / (len(places) - 1)
    line = (values - first) / cell
    number = np.round(line)
    if np.abs(line - number).max() > _EVEN:
        return None
    return float(first), float(cell), number.astype(int)
