"""The convex hull of a mesh: its corners, its mass properties, a few points that stand for it."""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, QhullError

MOST_POINTS = 12
"""Points by which a mesh touches the ground."""

_DIRECTIONS = 256  # in which a hull and the points that stand for it are compared
_CLOSE = 1e-3  # of the hull's size: how far they may differ in all of these


def convex_hull(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (n, 3) of the hull of points (m, 3), and its triangles (k, 3, 3), outward.

    Points that lie in a plane have no triangles, and are all corners.
    """
    unique = np.unique(points, axis=0)
    try:
        hull = ConvexHull(unique)
    except (QhullError, ValueError):
        return unique, np.zeros((0, 3, 3))
    triangles = unique[hull.simplices]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    inward = np.einsum("ij,ij->i", normals, hull.equations[:, :3]) < 0.0
    triangles[inward] = triangles[inward][:, ::-1]
    return unique[hull.vertices], triangles


def solid_integrals(triangles: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Volume, centre of mass (3,) and inertia (3, 3) about it at density 1 of a closed surface.

    Sums over the tetrahedra between a point inside and each triangle (n, 3, 3): with a, b, c the
    corners from there, the volume is det(a, b, c) / 6, the integral of x x^T is that of the corners
    times a constant.
    """
    if not len(triangles):
        return 0.0, np.zeros(3), np.zeros((3, 3))
    inside = triangles.reshape(-1, 3).mean(axis=0)
    corners = triangles - inside
    volumes = np.linalg.det(corners) / 6.0
    volume = float(volumes.sum())
    total = corners.sum(axis=1)
    center = (volumes @ total) / (4.0 * volume)
    squares = np.einsum("tki,tkj->tij", corners, corners) + np.einsum("ti,tj->tij", total, total)
    second = np.einsum("t,tij->ij", volumes, squares) / 20.0
    second -= volume * np.outer(center, center)
    return volume, inside + center, np.trace(second) * np.eye(3) - second


def few_points(corners: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Corners (n, 3) of a hull that reach about as far as all of them in every direction, few.

    One after the other that corner is taken which reaches farthest beyond those taken so far.
    """
    number = np.arange(_DIRECTIONS)
    z = 1.0 - (2.0 * number + 1.0) / _DIRECTIONS  # a spiral on the sphere, evenly spread
    angle = np.pi * (1.0 + np.sqrt(5.0)) * number
    around = np.sqrt(1.0 - z * z)
    even = np.column_stack([np.cos(angle) * around, np.sin(angle) * around, z])
    directions = np.concatenate([np.eye(3), -np.eye(3), even])
    reach = corners @ directions.T
    farthest, taken = reach.max(axis=0), np.full(len(directions), -np.inf)
    size = float(np.max(np.ptp(corners, axis=0)))
    chosen: list[int] = []
    while len(chosen) < min(most, len(corners)):
        missing = farthest - np.maximum(taken, reach.min())
        direction = int(np.argmax(missing))
        if missing[direction] <= _CLOSE * size:
            break
        chosen.append(int(np.argmax(reach[:, direction])))
        taken = np.maximum(taken, reach[chosen[-1]])
    return corners[sorted(chosen)] if chosen else corners[:1]
