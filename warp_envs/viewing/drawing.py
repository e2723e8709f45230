"""The shapes of a USD stage as coloured polygons in the world, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pxr import Gf, Usd, UsdGeom

from warp_envs.usd.stage import refuse
from warp_envs.viewing.contents import (
    Problems,
    check_place,
    read_axis,
    read_instances,
    read_look,
    read_mesh,
    read_size,
    shown_parts,
)

_AXES = {"X": [1, 2, 0], "Y": [2, 0, 1], "Z": [0, 1, 2]}  # where z goes: cyclic, so no mirror image
_FEW_SHAPES = 150


@dataclass(frozen=True)
class Solid:
    """A shape as polygons, in its own frame or in the world.

    Attributes:
        points: (n, 3) [m].
        faces: (m, k) corners, counter-clockwise from outside; -1 where there are fewer.
        color: (3,) from 0 to 1.
    """

    points: np.ndarray
    faces: np.ndarray
    color: np.ndarray


class Drawing:
    """What there is to draw in a stage; guides and invisible prims are left out.

    What cannot be drawn is left out as well and told by `problems`.
    """

    def __init__(self, stage: Usd.Stage) -> None:
        """Read the shapes of the stage; their places are read for each frame."""
        self.stage = stage
        drawn = [prim for prim in drawn_prims(stage.GetPseudoRoot()) if prim.IsA(UsdGeom.Gprim)]
        segments = 16 if len(drawn) < _FEW_SHAPES else 8
        self._segments = segments
        self.problems = Problems()
        solids = [(prim, self._solid(prim)) for prim in drawn]
        self._solids = [(prim, solid) for prim, solid in solids if solid is not None]
        self._instancers = [
            UsdGeom.PointInstancer(prim)
            for prim in drawn_prims(stage.GetPseudoRoot())
            if prim.IsA(UsdGeom.PointInstancer)
        ]

    def frame(self, time: float) -> list[Solid]:
        """Everything where it is at a time code."""
        xforms = UsdGeom.XformCache(time)
        placed = []
        for prim, solid in self._solids:
            if UsdGeom.Imageable(prim).ComputeVisibility(time) != UsdGeom.Tokens.invisible:
                matrix = np.array(xforms.GetLocalToWorldTransform(prim))
                placed.append(self._placed(prim, solid, matrix))
        for instancer in self._instancers:
            copies = self.problems.unless_refused(
                lambda instancer=instancer: list(self._instances(instancer, xforms))
            )
            placed += copies or []
        return [solid for solid in placed if solid is not None]

    def _solid(self, prim: Usd.Prim) -> Solid | None:
        geometry = self.problems.unless_refused(lambda: _geometry(prim, self._segments))
        color = np.array(read_look(prim, self.problems)["color"])
        # As the eye takes it in.
        return None if geometry is None else Solid(*geometry, np.clip(color, 0, 1) ** (1.0 / 2.2))

    def _placed(self, prim: Usd.Prim, solid: Solid, matrix: np.ndarray) -> Solid | None:
        return self.problems.unless_refused(lambda: _place(solid, check_place(prim, matrix)))

    def _instances(
        self, instancer: UsdGeom.PointInstancer, xforms: UsdGeom.XformCache
    ) -> Iterator[Solid]:
        time = xforms.GetTime()
        copies = read_instances(instancer, np.array([time.GetValue()]))
        if len(copies.indices) == 0:
            return
        world = np.array(xforms.GetLocalToWorldTransform(instancer.GetPrim()))
        # Masked by invisibleIds; prototypes' own transforms count.
        matrices = np.array(instancer.ComputeInstanceTransformsAtTime(time, time))
        kept = instancer.ComputeMaskAtTime(time) or [True] * len(copies.indices)
        indices = copies.indices[np.array(kept, dtype=bool)]
        if len(matrices) != len(indices):
            raise refuse(instancer.GetPrim(), "its copies have no places")
        models = []
        for root in copies.models:
            base = xforms.GetLocalToWorldTransform(root).GetInverse()
            solids = [(part, self._solid(part)) for part in shown_parts(root)]
            models.append(
                [
                    (solid, np.array(xforms.GetLocalToWorldTransform(part) * base))
                    for part, solid in solids
                    if solid is not None
                ]
            )
        for matrix, index in zip(matrices, indices, strict=True):
            for solid, local in models[index]:
                yield _place(solid, check_place(instancer.GetPrim(), local @ matrix @ world))


def drawn_prims(root: Usd.Prim) -> Iterator[Usd.Prim]:
    """Prims below one that a renderer would look at, instancers but not what they copy."""
    prims = iter(Usd.PrimRange(root, Usd.TraverseInstanceProxies()))
    for prim in prims:
        if prim.IsA(UsdGeom.PointInstancer):
            prims.PruneChildren()
        imageable = UsdGeom.Imageable(prim)
        if imageable and imageable.ComputePurpose() in ("default", "render"):
            yield prim


def _place(solid: Solid, matrix: np.ndarray) -> Solid:
    """A solid moved by a matrix (4, 4) for row vectors."""
    points = solid.points @ matrix[:3, :3] + matrix[3, :3]
    faces = solid.faces
    if np.linalg.det(matrix[:3, :3]) < 0.0:  # a mirror image is seen from the other side
        faces = np.concatenate([faces[:, :1], faces[:, :0:-1]], axis=1)
    return Solid(points, faces, solid.color)


def _geometry(prim: Usd.Prim, segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) and faces of a shape.

    Raises:
        ArgumentError: a kind that is unknown here, or numbers that cannot be drawn.
    """
    time = Usd.TimeCode.EarliestTime()
    if prim.IsA(UsdGeom.Mesh):
        points, counts, corners = read_mesh(UsdGeom.Mesh(prim), time)
        faces = np.full((len(counts), counts.max(initial=3)), -1)
        faces[np.arange(faces.shape[1]) < counts[:, None]] = corners
        return points, faces
    if prim.IsA(UsdGeom.Cube):
        half = 0.5 * read_size(prim, UsdGeom.Cube(prim).GetSizeAttr(), time)
        return _tube(np.array([-half, half]), np.full(2, half * np.sqrt(2.0)), 4, "Z")
    if prim.IsA(UsdGeom.Sphere):
        radius = read_size(prim, UsdGeom.Sphere(prim).GetRadiusAttr(), time)
        return _round(radius, 0.0, segments, "Z")
    for schema in (UsdGeom.Capsule, UsdGeom.Cylinder, UsdGeom.Cone):
        if prim.IsA(schema):
            shape = schema(prim)
            radius = read_size(prim, shape.GetRadiusAttr(), time)
            half = 0.5 * read_size(prim, shape.GetHeightAttr(), time)
            axis = read_axis(prim, shape.GetAxisAttr(), time)
            if schema is UsdGeom.Capsule:
                return _round(radius, half, segments, axis)
            top = radius if schema is UsdGeom.Cylinder else 0.0
            return _tube(np.array([-half, half]), np.array([radius, top]), segments, axis)
    raise refuse(prim, f"a {prim.GetTypeName()}, which is not shown")


def _round(radius: float, half: float, segments: int, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """A capsule, or with `half` = 0 a sphere."""
    angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, segments // 2 + 1)
    angle[[0, -1]] *= 0.98  # small flat ends in place of poles
    heights = radius * np.sin(angle) + np.where(angle < 0.0, -half, half)
    radii = radius * np.cos(angle)
    if half > 0.0:
        middle = len(angle) // 2
        heights = np.insert(heights, middle, -half)
        radii = np.insert(radii, middle, radius)
    return _tube(heights, radii, segments, axis)


def _tube(
    heights: np.ndarray, radii: np.ndarray, segments: int, axis: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rings along an axis, joined, with flat ends."""
    turn = 2.0 * np.pi * (np.arange(segments) + 0.5) / segments
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    flat = (ring[None] * radii[:, None, None]).reshape(-1, 2)
    points = np.column_stack([flat, np.repeat(heights, segments)])
    i, j = np.meshgrid(np.arange(len(heights) - 1), np.arange(segments), indexing="ij")
    here, after = i * segments + j, i * segments + (j + 1) % segments
    sides = np.stack([here, after, after + segments, here + segments], axis=-1).reshape(-1, 4)
    faces = np.full((len(sides) + 2, max(4, segments)), -1)
    faces[: len(sides), :4] = sides
    faces[-2, :segments] = np.arange(segments)[::-1]
    faces[-1, :segments] = (len(heights) - 1) * segments + np.arange(segments)
    return points[:, np.argsort(_AXES[axis])], faces


def camera_matrices(camera: UsdGeom.Camera, time: float) -> tuple[np.ndarray, np.ndarray]:
    """World to camera (4, 4), row vectors, and the tangents (2,) of half the angles of view.

    Raises:
        ArgumentError: a camera that sees nothing.
    """
    seen: Gf.Camera = camera.GetCamera(time)
    matrix = check_place(camera.GetPrim(), np.array(seen.transform.GetInverse()))
    apertures = np.array([seen.horizontalAperture, seen.verticalAperture])
    with np.errstate(all="ignore"):
        tangents = 0.5 * apertures / np.array(seen.focalLength)
    if not (np.isfinite(tangents).all() and (tangents > 0.0).all()):
        raise refuse(camera.GetPrim(), "its apertures and focal length give no angle of view")
    return matrix, tangents
