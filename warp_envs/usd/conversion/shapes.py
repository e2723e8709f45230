"""Geoms of a compiled MuJoCo model as prims, to look at or to touch the ground with."""

from __future__ import annotations

from typing import Any

import numpy as np
from pxr import Sdf, Usd, UsdGeom, UsdPhysics, UsdShade

from warp_envs.usd.conversion.frames import frame_of, place
from warp_envs.usd.conversion.ground import frame_in_world, geom_kind, grid_of
from warp_envs.usd.conversion.source import Source
from warp_envs.usd.description import SHAPE_KINDS
from warp_envs.usd.scene import Look, add_look, add_mesh, bind

_HIDDEN_GROUP = 3  # MuJoCo's viewer shows the groups below


def visible_geoms(source: Source, touching: list[int]) -> set[int]:
    """Geoms to be drawn: of each body those that MuJoCo's viewer shows.

    Of a URDF, where shapes to look at and shapes that touch are told apart, a body's first, else
    its second. A body of which nothing would be drawn shows what touches.
    """
    model = source.model
    found: set[int] = set()
    for body in range(model.nbody):
        geoms = [int(g) for g in np.flatnonzero(model.geom_bodyid == body)]
        shown = [
            geom
            for geom in geoms
            if _color(model, geom)[3] > 0.0 and model.geom_group[geom] < _HIDDEN_GROUP
        ]
        if source.urdf:
            only_drawn = [g for g in shown if not model.geom_contype[g]]
            shown = only_drawn or shown
        found.update(shown or [geom for geom in geoms if geom in touching])
    return found


def write_geom(
    stage: Usd.Stage,
    path: Sdf.Path,
    source: Source,
    geom: int,
    *,
    visible: bool,
    contact: UsdShade.Material | None,
) -> bool:
    """A geom below its body's prim; whether there is a prim for its kind.

    Args:
        stage: to write to.
        path: of the prim.
        source: the robot.
        geom: index of the geom.
        visible: whether to draw it; what touches, and is not drawn, becomes a guide.
        contact: the material of contact, None if it touches nothing.
    """
    model = source.model
    kind = geom_kind(model, geom)
    prim, stretch = _define(stage, path, model, geom, kind)
    if prim is None:
        return False
    place(prim, frame_of(model.geom_pos[geom], model.geom_quat[geom]), stretch)
    if visible:
        _paint(stage, prim, _color(model, geom))
    else:
        UsdGeom.Imageable(prim).CreatePurposeAttr(UsdGeom.Tokens.guide)
    if contact is not None and kind in SHAPE_KINDS:
        UsdPhysics.CollisionAPI.Apply(prim)
        UsdShade.MaterialBindingAPI.Apply(prim).Bind(contact, materialPurpose="physics")
    return True


def _define(
    stage: Usd.Stage, path: Sdf.Path, model: Any, geom: int, kind: str
) -> tuple[Usd.Prim | None, np.ndarray]:
    """A geom's prim, None for a kind without, and the scale that it needs besides."""
    size, one = np.array(model.geom_size[geom], dtype=np.float64), np.ones(3)
    if kind in ("sphere", "ellipsoid"):
        sphere = UsdGeom.Sphere.Define(stage, path)
        radius = float(size[0])
        sphere.CreateRadiusAttr(radius)
        sphere.CreateExtentAttr([(-radius,) * 3, (radius,) * 3])
        return sphere.GetPrim(), one if kind == "sphere" else size / radius
    if kind == "box":
        cube = UsdGeom.Cube.Define(stage, path)
        cube.CreateSizeAttr(2.0)
        cube.CreateExtentAttr([(-1.0,) * 3, (1.0,) * 3])
        return cube.GetPrim(), size
    if kind in ("capsule", "cylinder"):
        schema = UsdGeom.Capsule if kind == "capsule" else UsdGeom.Cylinder
        tube = schema.Define(stage, path)
        radius, half = float(size[0]), float(size[1])
        tube.CreateAxisAttr("Z")
        tube.CreateRadiusAttr(radius)
        tube.CreateHeightAttr(2.0 * half)
        reach = half + (radius if kind == "capsule" else 0.0)
        tube.CreateExtentAttr([(-radius, -radius, -reach), (radius, radius, reach)])
        return tube.GetPrim(), one
    if kind in ("mesh", "sdf"):
        points, faces = mesh_of(model, int(model.geom_dataid[geom]))
        mesh = add_mesh(stage, path, points, np.full(len(faces), 3), faces.reshape(-1))
        return mesh.GetPrim(), one
    return None, one


def write_ground(stage: Usd.Stage, path: Sdf.Path, model: Any, geom: int) -> None:
    """The plane or height field that is the ground, as a guide: what is recorded draws its own."""
    frame = frame_in_world(model, geom)
    if geom_kind(model, geom) == "plane":
        plane = UsdGeom.Plane.Define(stage, path)
        plane.CreateAxisAttr("Z")
        plane.CreateExtentAttr([(-1.0, -1.0, 0.0), (1.0, 1.0, 0.0)])
        prim = plane.GetPrim()
    else:
        points, faces = _surface(model, geom)
        prim = add_mesh(stage, path, points, np.full(len(faces), 4), faces.reshape(-1)).GetPrim()
    place(prim, frame)
    UsdGeom.Imageable(prim).CreatePurposeAttr(UsdGeom.Tokens.guide)
    UsdPhysics.CollisionAPI.Apply(prim)


def _surface(model: Any, geom: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) of a height field in its frame and its squares (m, 4), seen from above."""
    heights = grid_of(model, geom)
    half_x, half_y = model.hfield_size[int(model.geom_dataid[geom])][:2]
    rows, columns = heights.shape
    y, x = np.linspace(-half_y, half_y, rows), np.linspace(-half_x, half_x, columns)
    at = np.meshgrid(x, y)
    points = np.stack([*at, heights], axis=-1).reshape(-1, 3).astype(np.float32)
    corner = np.arange(rows * columns).reshape(rows, columns)[:-1, :-1].reshape(-1, 1)
    return points, corner + np.array([0, 1, columns + 1, columns])


def mesh_of(model: Any, mesh: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) [m] of a mesh, in the frame of the geoms that show it, and triangles (m, 3)."""
    first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    face, faces = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    points = np.array(model.mesh_vert[first : first + count], dtype=np.float32)
    return points, np.array(model.mesh_face[face : face + faces])


def _color(model: Any, geom: int) -> np.ndarray:
    """A geom's own colour, or its material's, as MuJoCo draws it; rgba (4,)."""
    own, material = np.array(model.geom_rgba[geom]), int(model.geom_matid[geom])
    grey = np.allclose(own, (0.5, 0.5, 0.5, 1.0))  # the default: the material tells
    return np.array(model.mat_rgba[material]) if material >= 0 and grey else own


def _paint(stage: Usd.Stage, prim: Usd.Prim, color: np.ndarray) -> None:
    rgb = tuple(float(part) for part in np.clip(color[:3], 0.0, 1.0))
    number = "_".join(f"{round(255 * part):02x}" for part in rgb)
    path = stage.GetDefaultPrim().GetPath().AppendPath(f"Looks/color_{number}")
    if not stage.GetPrimAtPath(path):
        add_look(stage, path.name, Look(rgb, 0.45), path.GetParentPath())
    bind(prim, UsdShade.Material.Get(stage, path))
