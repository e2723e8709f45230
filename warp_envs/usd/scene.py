"""The scene around a recording: stage metadata, ground, materials, lights, camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pxr import Gf, Kind, Sdf, Usd, UsdGeom, UsdLux, UsdPhysics, UsdShade, Vt

from warp_envs.usd.ground import HeightField
from warp_envs.usd.samples import continuous_quats, write_constant, write_samples
from warp_envs.usd.stage import quat_of_matrix

WORLD = Sdf.Path("/World")
LOOKS = WORLD.AppendChild("Looks")
CAMERA = WORLD.AppendChild("Camera")

# A full-frame camera cropped to 16:9 [mm].
_APERTURE = (36.0, 20.25)
_FOCAL_LENGTH = 40.0

_FARTHEST = 2000.0  # [m]: there is no floor beyond
_MAX_TILES = 1600
_TILE_SIZES = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


class Look(NamedTuple):
    """A UsdPreviewSurface."""

    color: tuple[float, float, float]
    roughness: float = 0.6
    metallic: float = 0.0


class Box(NamedTuple):
    """An axis-aligned box in the world: least and greatest corner [m], each (3,)."""

    lower: np.ndarray
    upper: np.ndarray

    @property
    def center(self) -> np.ndarray:
        """Its middle [m]."""
        return 0.5 * (self.lower + self.upper)

    @property
    def size(self) -> np.ndarray:
        """Its edges [m]."""
        return self.upper - self.lower

    def corners(self) -> np.ndarray:
        """Its corners (8, 3) [m]."""
        return np.array(np.meshgrid(*zip(self.lower, self.upper, strict=True))).reshape(3, 8).T


@dataclass(frozen=True)
class Timing:
    """How many frames, and how many a second."""

    num_frames: int
    fps: float


def new_stage(layer: Sdf.Layer, timing: Timing, comment: str) -> Usd.Stage:
    """A stage on an empty layer, with its metadata and /World."""
    stage = Usd.Stage.Open(layer)
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    stage.SetTimeCodesPerSecond(timing.fps)
    stage.SetFramesPerSecond(timing.fps)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(timing.num_frames - 1)
    layer.comment = comment
    # Omniverse opens the file looking through this camera.
    layer.customLayerData = {"cameraSettings": {"boundCamera": str(CAMERA)}}
    world = UsdGeom.Xform.Define(stage, WORLD)
    stage.SetDefaultPrim(world.GetPrim())
    Usd.ModelAPI(world).SetKind(Kind.Tokens.assembly)
    UsdGeom.Scope.Define(stage, LOOKS)
    return stage


def add_look(stage: Usd.Stage, name: str, look: Look, scope: Sdf.Path = LOOKS) -> UsdShade.Material:
    """A material in /World/Looks, or in another scope."""
    material = UsdShade.Material.Define(stage, scope.AppendChild(name))
    shader = UsdShade.Shader.Define(stage, material.GetPath().AppendChild("surface"))
    shader.CreateIdAttr("UsdPreviewSurface")
    color = shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
    color.Set(Gf.Vec3f(*look.color))
    shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(look.roughness)
    shader.CreateInput("metallic", Sdf.ValueTypeNames.Float).Set(look.metallic)
    output = shader.CreateOutput("surface", Sdf.ValueTypeNames.Token)
    material.CreateSurfaceOutput().ConnectToSource(output)
    return material


def bind(prim: Usd.Prim, material: UsdShade.Material) -> None:
    """Give a prim, and all below it that has none, a material."""
    UsdShade.MaterialBindingAPI.Apply(prim).Bind(material)


def add_box(stage: Usd.Stage, path: Sdf.Path, box: Box) -> UsdGeom.Cube:
    """A Cube with its position and edges as translation and scale."""
    cube = UsdGeom.Cube.Define(stage, path)
    cube.CreateSizeAttr(1.0)
    cube.CreateExtentAttr([(-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)])
    cube.AddTranslateOp().Set(Gf.Vec3d(*box.center.tolist()))
    cube.AddScaleOp().Set(Gf.Vec3f(*box.size.tolist()))
    return cube


def add_rectangles(stage: Usd.Stage, path: Sdf.Path, rectangles: np.ndarray, z: float) -> None:
    """A Mesh of level rectangles facing up.

    Args:
        stage: takes the mesh.
        path: of the mesh.
        rectangles: (n, 4), each x and y of the least corner, then of the greatest [m].
        z: their height [m].
    """
    corners = rectangles[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    points = np.column_stack([corners, np.full(len(corners), z)]).astype(np.float32)
    mesh = add_mesh(stage, path, points, np.full(len(rectangles), 4), np.arange(len(points)))
    mesh.CreateNormalsAttr([(0.0, 0.0, 1.0)])
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.constant)


def add_mesh(
    stage: Usd.Stage, path: Sdf.Path, points: np.ndarray, counts: np.ndarray, indices: np.ndarray
) -> UsdGeom.Mesh:
    """A polygon Mesh (no subdivision) with its extent, without normals.

    Args:
        stage: takes the mesh.
        path: of the mesh.
        points: (n, 3) float32 [m].
        counts: (faces,) corners of each face.
        indices: corners of all faces, counter-clockwise from outside.
    """
    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(counts.astype(np.int32)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(indices.astype(np.int32)))
    mesh.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(np.stack([points.min(0), points.max(0)])))
    return mesh


_FINEST = 160  # cells along an edge of a drawn patch of a height field


def add_field(
    stage: Usd.Stage, path: Sdf.Path, field: HeightField, region: Box, offset: np.ndarray
) -> None:
    """The part of a height field under a region, chequered, as two meshes that are colliders.

    They have the field's own points, or fewer where these are many.

    Args:
        stage: takes the mesh.
        path: of the meshes' prim.
        field: the ground.
        region: what stands on it, in the environment.
        offset: where the environment's origin stands in the scene [m], shape (3,).
    """
    lines = []
    for k in (0, 1):
        low, high = np.clip([region.lower[k], region.upper[k]], -_FARTHEST, _FARTHEST)
        first = np.floor((low - field.corner[k]) / field.cell[k])
        last = np.ceil((high - field.corner[k]) / field.cell[k])
        stride = max(1, int(np.ceil((last - first) / _FINEST)))
        count = int(np.ceil((last - first) / stride)) + 1
        lines.append(field.corner[k] + (first + stride * np.arange(count)) * field.cell[k])
    x, y = np.meshgrid(*lines, indexing="ij")
    heights = field.surface(np.stack([x, y], axis=-1))[..., 0]
    points = np.stack([x, y, heights], axis=-1).reshape(-1, 3) + offset
    i, j = np.meshgrid(np.arange(x.shape[0] - 1), np.arange(x.shape[1] - 1), indexing="ij")
    here = (i * x.shape[1] + j).reshape(-1)
    corners = np.stack([here, here + x.shape[1], here + x.shape[1] + 1, here + 1], axis=1)
    parent = UsdGeom.Xform.Define(stage, WORLD.AppendChild("Ground")).GetPath()
    dark = (i + j).reshape(-1) % 2 == 1
    for name, color, faces in (
        ("light", STUDIO.light, corners[~dark]),
        ("dark", STUDIO.dark, corners[dark]),
    ):
        part = path.AppendChild(name)
        counts = np.full(len(faces), 4)
        mesh = add_mesh(stage, part, points.astype(np.float32), counts, faces.reshape(-1))
        UsdPhysics.CollisionAPI.Apply(mesh.GetPrim())
        look = parent.AppendChild(f"{name}_field")
        bind(mesh.GetPrim(), add_look(stage, look.name, Look(color, 0.8)))


class Floor(NamedTuple):
    """The colours of a chequered floor's two kinds of tile, and of the plain around it."""

    light: tuple[float, float, float]
    dark: tuple[float, float, float]
    around: tuple[float, float, float]


STUDIO = Floor(light=(0.52, 0.54, 0.57), dark=(0.40, 0.42, 0.45), around=(0.34, 0.36, 0.39))
MEADOW = Floor(light=(0.30, 0.38, 0.20), dark=(0.27, 0.345, 0.18), around=(0.25, 0.32, 0.17))


def add_ground(
    stage: Usd.Stage, region: Box, height: float, floor: Floor, slope: np.ndarray | None = None
) -> None:
    """A chequered floor under a region, a plain one far around it, and a collider.

    Args:
        stage: takes /World/Ground.
        region: what stands on the floor.
        height: of the floor at x = y = 0 [m].
        floor: its colours.
        slope: along x and y, shape (2,); None: level.
    """
    xform = UsdGeom.Xform.Define(stage, WORLD.AppendChild("Ground"))
    ground = xform.GetPath()
    if slope is not None and np.any(slope):
        # the floor's own axes are turned about the origin, where it is at the height
        xform.AddTranslateOp().Set(Gf.Vec3d(0.0, 0.0, height))
        turn = Gf.Rotation(Gf.Vec3d(0.0, 0.0, 1.0), Gf.Vec3d(*(-slope).tolist(), 1.0))
        xform.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(turn.GetQuat())
        height = 0.0
    limited = np.clip([region.lower[:2], region.upper[:2]], -_FARTHEST, _FARTHEST)
    region = Box(*(np.append(corner, 0.0) for corner in limited))
    reach = float(np.max(region.size[:2]))
    far = np.full(2, 5.0 * reach + 50.0)
    center = region.center[:2]
    collider = add_box(
        stage,
        ground.AppendChild("collider"),
        Box(np.append(center - far, height - 1.0), np.append(center + far, height)),
    )
    collider.CreatePurposeAttr(UsdGeom.Tokens.guide)  # never drawn
    UsdPhysics.CollisionAPI.Apply(collider.GetPrim())
    # A little lower than the tiles, that the two do not flicker.
    gap = 0.002 + 0.0005 * reach
    surroundings = add_box(
        stage,
        ground.AppendChild("surroundings"),
        Box(np.append(center - far, height - gap - 0.1), np.append(center + far, height - gap)),
    )
    bind(surroundings.GetPrim(), add_look(stage, "ground", Look(floor.around, 0.9)))
    tiles = _tiles(region.lower[:2] - 0.15 * reach - 1.0, region.upper[:2] + 0.15 * reach + 1.0)
    colors = (("light", floor.light), ("dark", floor.dark))
    for (name, color), rectangles in zip(colors, tiles, strict=True):
        path = ground.AppendChild(f"{name}_tiles")
        add_rectangles(stage, path, rectangles, height)
        look = add_look(stage, f"{name}_tile", Look(color, 0.8))
        bind(stage.GetPrimAtPath(path), look)


def _tiles(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The squares of the two colours of a chequered floor, each (n, 4)."""
    size = _TILE_SIZES[-1]
    for candidate in _TILE_SIZES:
        if np.prod(np.ceil((upper - lower) / candidate)) <= _MAX_TILES:
            size = candidate
            break
    first, last = np.floor(lower / size).astype(int), np.ceil(upper / size).astype(int)
    i, j = np.meshgrid(np.arange(first[0], last[0]), np.arange(first[1], last[1]))
    squares = np.stack([i, j, i + 1, j + 1], axis=-1).reshape(-1, 4) * size
    # A joint between them: corners that coincide are a flaw in a mesh.
    squares += 0.003 * size * np.array([1.0, 1.0, -1.0, -1.0])
    odd = ((i + j) % 2 == 1).reshape(-1)
    return squares[~odd], squares[odd]


def add_lights(stage: Usd.Stage) -> None:
    """A sun and a pale sky, as bright as Omniverse's default light rig."""
    lights = UsdGeom.Scope.Define(stage, WORLD.AppendChild("Lights")).GetPath()
    sun = UsdLux.DistantLight.Define(stage, lights.AppendChild("sun"))
    sun.CreateIntensityAttr(3000.0)
    sun.CreateAngleAttr(1.0)
    sun.CreateColorAttr(Gf.Vec3f(1.0, 0.96, 0.9))
    sun.AddRotateXYZOp().Set(Gf.Vec3f(38.0, 0.0, 32.0))
    sky = UsdLux.DomeLight.Define(stage, lights.AppendChild("sky"))
    sky.CreateIntensityAttr(1000.0)
    sky.CreateColorAttr(Gf.Vec3f(0.85, 0.92, 1.0))


def add_physics(stage: Usd.Stage, gravity: float = 9.81) -> None:
    """A PhysicsScene with gravity [m/s^2] downwards."""
    scene = UsdPhysics.Scene.Define(stage, WORLD.AppendChild("PhysicsScene"))
    scene.CreateGravityDirectionAttr(Gf.Vec3f(0.0, 0.0, -1.0))
    scene.CreateGravityMagnitudeAttr(gravity)


def add_camera(
    layer: Sdf.Layer, box: Box, track: np.ndarray | None = None, along_road: bool = False
) -> None:
    """A camera that has a box in view, or follows it.

    Args:
        layer: takes /World/Camera.
        box: what is in view, at the first point of the track.
        track: (frames, 3), where the box's centre is in each frame [m]; None where it stays.
        along_road: look from behind, as at traffic, in place of from the side.
    """
    rotation, distance = _framing(box, along_road)
    eye = box.center + rotation[:, 2] * distance
    prim = Sdf.CreatePrimInLayer(layer, CAMERA)
    prim.specifier, prim.typeName = Sdf.SpecifierDef, "Camera"
    write_constant(prim, "focalLength", "float", _FOCAL_LENGTH)
    write_constant(prim, "horizontalAperture", "float", _APERTURE[0])
    write_constant(prim, "verticalAperture", "float", _APERTURE[1])
    reach = distance + float(np.linalg.norm(box.size))
    near, far = max(0.01, 0.005 * distance), 20.0 * reach + 1000.0
    write_constant(prim, "clippingRange", "float2", Gf.Vec2f(near, far))
    write_constant(prim, "focusDistance", "float", float(distance))
    path = eye[None] if track is None else eye + track - track[:1]
    write_samples(prim, "xformOp:translate", "double3", path)
    write_samples(prim, "xformOp:orient", "quatd", continuous_quats(quat_of_matrix(rotation)[None]))
    order = Vt.TokenArray(["xformOp:translate", "xformOp:orient"])
    write_constant(prim, "xformOpOrder", "token[]", order, uniform=True)


def _framing(box: Box, along_road: bool) -> tuple[np.ndarray, float]:
    """Axes of a camera (right, up, backwards as columns) and its distance that frame a box."""
    if along_road:
        backwards = np.array([-0.8, -1.0, 0.6])
    elif box.size[1] > 2.0 * box.size[0]:
        backwards = np.array([1.0, -0.3, 0.5])
    else:
        backwards = np.array([0.3, -1.0, 0.42])
    backwards /= np.linalg.norm(backwards)
    right = np.cross([0.0, 0.0, 1.0], backwards)
    right /= np.linalg.norm(right)
    rotation = np.column_stack([right, np.cross(backwards, right), backwards])
    seen = (box.corners() - box.center) @ rotation
    tangents = 0.5 * np.array(_APERTURE) / _FOCAL_LENGTH
    margin = 1.08
    needed = margin * np.abs(seen[:, :2]) / tangents + seen[:, 2:]
    return rotation, float(max(np.max(needed), 1.0))
