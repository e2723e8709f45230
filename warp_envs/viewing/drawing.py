"""The shapes of a USD stage as coloured polygons in the world, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pxr import Gf, Usd, UsdGeom, UsdShade

_GREY = np.array([0.6, 0.6, 0.6])
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
    """What there is to draw in a stage; guides and invisible prims are left out."""

    def __init__(self, stage: Usd.Stage) -> None:
        """Read the shapes of the stage; their places are read for each frame."""
        self.stage = stage
        drawn = [prim for prim in drawn_prims(stage.GetPseudoRoot()) if prim.IsA(UsdGeom.Gprim)]
        segments = 16 if len(drawn) < _FEW_SHAPES else 8
        self._segments = segments
        self._solids = [(prim, _solid(prim, segments)) for prim in drawn]
        self._instancers = [
            UsdGeom.PointInstancer(prim)
            for prim in drawn_prims(stage.GetPseudoRoot())
            if prim.IsA(UsdGeom.PointInstancer)
        ]

    def frame(self, time: float) -> list[Solid]:
        """Everything where it is at a time code."""
        xforms = UsdGeom.XformCache(time)
        placed = [
            _place(solid, np.array(xforms.GetLocalToWorldTransform(prim)))
            for prim, solid in self._solids
            if UsdGeom.Imageable(prim).ComputeVisibility(time) != UsdGeom.Tokens.invisible
        ]
        for instancer in self._instancers:
            placed += self._instances(instancer, xforms)
        return placed

    def _instances(
        self, instancer: UsdGeom.PointInstancer, xforms: UsdGeom.XformCache
    ) -> Iterator[Solid]:
        time = xforms.GetTime()
        world = np.array(xforms.GetLocalToWorldTransform(instancer.GetPrim()))
        # Masked by invisibleIds; prototypes' own transforms count.
        matrices = np.array(instancer.ComputeInstanceTransformsAtTime(time, time))
        kept = instancer.ComputeMaskAtTime(time) or [True] * len(matrices)
        indices = np.array(instancer.GetProtoIndicesAttr().Get(time))[np.array(kept, dtype=bool)]
        models = []
        for path in instancer.GetPrototypesRel().GetTargets():
            root = self.stage.GetPrimAtPath(path)
            base = xforms.GetLocalToWorldTransform(root).GetInverse()
            parts = [prim for prim in Usd.PrimRange(root) if prim.IsA(UsdGeom.Gprim)]
            models.append(
                [
                    (
                        _solid(part, self._segments),
                        np.array(xforms.GetLocalToWorldTransform(part) * base),
                    )
                    for part in parts
                ]
            )
        for matrix, index in zip(matrices, indices, strict=True):
            for solid, local in models[index]:
                yield _place(solid, local @ matrix @ world)


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


def _solid(prim: Usd.Prim, segments: int) -> Solid:
    points, faces = _geometry(prim, segments)
    return Solid(points, faces, _color(prim))


def _color(prim: Usd.Prim) -> np.ndarray:
    """Of the material bound, as the eye takes it in."""
    material = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0]
    surface = material.ComputeSurfaceSource()[0] if material else None
    color = surface.GetInput("diffuseColor") if surface else None
    value = color.Get() if color else None
    return _GREY if value is None else np.array(value) ** (1.0 / 2.2)


def _geometry(prim: Usd.Prim, segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) and faces of a shape; none of one that is unknown here."""
    time = Usd.TimeCode.EarliestTime()
    if prim.IsA(UsdGeom.Mesh):
        mesh = UsdGeom.Mesh(prim)
        points = np.array(mesh.GetPointsAttr().Get(time), dtype=np.float64).reshape(-1, 3)
        counts = np.array(mesh.GetFaceVertexCountsAttr().Get(time))
        indices = np.array(mesh.GetFaceVertexIndicesAttr().Get(time))
        faces = np.full((len(counts), counts.max(initial=3)), -1)
        faces[np.arange(faces.shape[1]) < counts[:, None]] = indices
        return points, faces
    if prim.IsA(UsdGeom.Cube):
        half = 0.5 * UsdGeom.Cube(prim).GetSizeAttr().Get(time)
        return _tube(np.array([-half, half]), np.full(2, half * np.sqrt(2.0)), 4, "Z")
    if prim.IsA(UsdGeom.Sphere):
        radius = UsdGeom.Sphere(prim).GetRadiusAttr().Get(time)
        return _round(radius, 0.0, segments, "Z")
    for schema in (UsdGeom.Capsule, UsdGeom.Cylinder):
        if prim.IsA(schema):
            shape = schema(prim)
            radius = shape.GetRadiusAttr().Get(time)
            half = 0.5 * shape.GetHeightAttr().Get(time)
            axis = str(shape.GetAxisAttr().Get(time))
            if schema is UsdGeom.Capsule:
                return _round(radius, half, segments, axis)
            return _tube(np.array([-half, half]), np.full(2, radius), segments, axis)
    return np.zeros((0, 3)), np.zeros((0, 4), dtype=int)


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
    """World to camera (4, 4), row vectors, and the tangents (2,) of half the angles of view."""
    seen: Gf.Camera = camera.GetCamera(time)
    matrix = np.array(seen.transform.GetInverse())
    apertures = np.array([seen.horizontalAperture, seen.verticalAperture])
    return matrix, 0.5 * apertures / seen.focalLength
