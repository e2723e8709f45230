"""Recorded traffic in a scene: roads with lane markings, and cars that move by time samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pxr import Gf, Kind, Sdf, Usd, UsdGeom, UsdShade, Vt

from warp_envs.usd.samples import (
    continuous_quats,
    declare,
    write_constant,
    write_samples,
    write_values,
)
from warp_envs.usd.scene import WORLD, Box, Look, add_box, add_look, add_mesh, add_rectangles, bind

ENVS = WORLD.AppendChild("envs")
PROTOTYPES = WORLD.AppendChild("Prototypes")
MAX_SINGLE_CARS = 20  # above, all cars of a road are one PointInstancer

# The car as drawn, at rest along x with its wheels on z = 0 [m].
CAR_LENGTH, CAR_WIDTH, CAR_HEIGHT = 5.0, 1.8, 1.42

_PAINT = {
    "human_car": Look((0.55, 0.60, 0.66), 0.35, 0.2),
    "autonomous_car": Look((0.90, 0.30, 0.05), 0.3, 0.1),
}

_ASPHALT, _MARKING = Look((0.10, 0.10, 0.11), 0.85), Look((0.90, 0.90, 0.86), 0.6)

_SHOULDER = 1.0  # asphalt beyond the outer lanes [m]
_SEEN = 100.0  # of roads that are looked at in part, to every side [m]
_VERGE = 40.0  # road beyond where the cars were [m]
_LINE_WIDTH = 0.15
_DASH, _DASH_PERIOD = 3.0, 12.0


def add_cars(stage: Usd.Stage) -> None:
    """Write the two cars that all others reference, as classes, which are not drawn themselves."""
    stage.CreateClassPrim(PROTOTYPES).SetTypeName("Scope")
    parts = {
        "glass": add_look(stage, "glass", Look((0.06, 0.08, 0.10), 0.1)),
        "tyre": add_look(stage, "tyre", Look((0.03, 0.03, 0.03), 0.9)),
    }
    for name, look in _PAINT.items():
        _add_car(stage, PROTOTYPES.AppendChild(name), add_look(stage, name, look), parts)


def _add_car(
    stage: Usd.Stage, path: Sdf.Path, paint: UsdShade.Material, parts: dict[str, UsdShade.Material]
) -> None:
    """A body, a cabin and four wheels."""
    car = UsdGeom.Xform.Define(stage, path)
    Usd.ModelAPI(car).SetKind(Kind.Tokens.component)
    side = [
        (-2.5, 0.3),
        (2.4, 0.3),
        (2.5, 0.55),
        (2.3, 0.75),
        (1.1, 0.9),
        (-2.4, 0.95),
        (-2.5, 0.8),
    ]
    body = _add_prism(stage, path.AppendChild("body"), np.array(side), 0.5 * CAR_WIDTH, 1.0)
    bind(body, paint)
    side = [(-2.2, 0.92), (1.2, 0.88), (0.25, 1.36), (-1.4, 1.36)]
    cabin = _add_prism(stage, path.AppendChild("cabin"), np.array(side), 0.46 * CAR_WIDTH, 0.82)
    bind(cabin, parts["glass"])
    side = [(-1.4, 1.35), (0.25, 1.35), (0.15, CAR_HEIGHT), (-1.3, CAR_HEIGHT)]
    roof = _add_prism(stage, path.AppendChild("roof"), np.array(side), 0.38 * CAR_WIDTH, 0.96)
    bind(roof, paint)
    for number, (x, y) in enumerate([(1.5, 0.78), (1.5, -0.78), (-1.5, 0.78), (-1.5, -0.78)], 1):
        wheel = UsdGeom.Cylinder.Define(stage, path.AppendChild(f"wheel{number}"))
        wheel.CreateAxisAttr(UsdGeom.Tokens.y)
        wheel.CreateRadiusAttr(0.34)
        wheel.CreateHeightAttr(0.25)
        wheel.CreateExtentAttr([(-0.34, -0.125, -0.34), (0.34, 0.125, 0.34)])
        wheel.AddTranslateOp().Set(Gf.Vec3d(x, y, 0.34))
        bind(wheel.GetPrim(), parts["tyre"])


def _add_prism(
    stage: Usd.Stage, path: Sdf.Path, side: np.ndarray, half_width: float, narrowing: float
) -> Usd.Prim:
    """A convex outline in x and z as a solid along y, its upper end narrower by a factor."""
    n = len(side)
    low, high = side[:, 1].min(), side[:, 1].max()
    widths = half_width * (1.0 - (1.0 - narrowing) * (side[:, 1] - low) / (high - low))
    left = np.column_stack([side[:, 0], widths, side[:, 1]])
    right = np.column_stack([side[:, 0], -widths, side[:, 1]])
    points = np.concatenate([left, right]).astype(np.float32)
    # Seen from -y the outline runs counter-clockwise.
    around = [[i + n, i, (i + 1) % n, (i + 1) % n + n] for i in range(n)]
    faces = [list(range(n))[::-1], list(range(n, 2 * n)), *around]
    counts, indices = np.array([len(face) for face in faces]), np.concatenate(faces)
    mesh = add_mesh(stage, path, points, counts, indices)
    corners = [points[face[:3]] for face in faces]
    normals = np.array([np.cross(b - a, c - b) for a, b, c in corners])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(normals.astype(np.float32)))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.uniform)
    return mesh.GetPrim()


class Road:
    """Parallel lanes along x, lane i centred on y = i * lane_width."""

    def __init__(self, num_lanes: int, lane_width: float) -> None:
        """A road of `num_lanes` lanes, `lane_width` [m] wide each."""
        self.num_lanes, self.lane_width = num_lanes, lane_width

    @property
    def edges(self) -> tuple[float, float]:
        """Least and greatest y of the asphalt [m]."""
        lowest = -0.5 * self.lane_width
        return lowest - _SHOULDER, lowest + self.num_lanes * self.lane_width + _SHOULDER

    def write(self, stage: Usd.Stage, path: Sdf.Path, first: float, last: float) -> None:
        """Write asphalt and markings from x = first to x = last [m]."""
        road = UsdGeom.Xform.Define(stage, path)
        start = np.floor((first - _VERGE) / _DASH_PERIOD) * _DASH_PERIOD
        end = np.ceil((last + _VERGE) / _DASH_PERIOD) * _DASH_PERIOD
        lower, upper = self.edges
        box = Box(np.array([start, lower, -0.2]), np.array([end, upper, 0.0]))
        asphalt = add_box(stage, road.GetPath().AppendChild("asphalt"), box)
        bind(asphalt.GetPrim(), add_look(stage, "asphalt", _ASPHALT))
        markings = road.GetPath().AppendChild("markings")
        add_rectangles(stage, markings, self._markings(start, end), 0.012)
        paint = add_look(stage, "marking", _MARKING)
        bind(stage.GetPrimAtPath(markings), paint)

    def _markings(self, start: float, end: float) -> np.ndarray:
        """Solid lines at the sides, dashes between lanes: (n, 4) rectangles."""
        borders = (np.arange(self.num_lanes + 1) - 0.5) * self.lane_width
        half = 0.5 * _LINE_WIDTH
        solid = [(start, y - half, end, y + half) for y in (borders[0], borders[-1])]
        dashes = np.arange(start, end, _DASH_PERIOD) + 0.5 * (_DASH_PERIOD - _DASH)
        broken = [(x, y - half, x + _DASH, y + half) for y in borders[1:-1] for x in dashes]
        return np.array(solid + broken)


class LaneRoads:
    """Lanes that lie anywhere, in straight pieces."""

    def __init__(
        self,
        lines: np.ndarray,
        num_lanes: int,
        lane_width: float,
        center: tuple[float, float] | None = None,
    ) -> None:
        """Make the roads.

        Args:
            lines: pieces of lanes from start to end (pieces, 2, 2) [m].
            num_lanes: that they are called to have.
            lane_width: of each piece [m].
            center: of what is looked at, 100 m to all sides [m]; None: all of it.
        """
        self.lines = np.asarray(lines, dtype=np.float64)
        self.num_lanes, self.lane_width, self.center = num_lanes, lane_width, center

    @property
    def edges(self) -> tuple[float, float]:
        """Least and greatest y of the asphalt [m]."""
        reach = 0.5 * self.lane_width + _SHOULDER
        return self.lines[..., 1].min() - reach, self.lines[..., 1].max() + reach

    @property
    def box(self) -> Box:
        """Around what is looked at."""
        points = self.lines.reshape(-1, 2)
        if self.center is not None:
            points = np.clip(points, np.array(self.center) - _SEEN, np.array(self.center) + _SEEN)
        return Box(np.append(points.min(axis=0), 0.0), np.append(points.max(axis=0), CAR_HEIGHT))

    def write(self, stage: Usd.Stage, path: Sdf.Path, first: float, last: float) -> None:
        """Write asphalt and markings; all of the roads, wherever the cars were."""
        road = UsdGeom.Xform.Define(stage, path)
        lines, half = self.lines, 0.5 * self.lane_width
        asphalt = road.GetPath().AppendChild("asphalt")
        add_stripes(stage, asphalt, lines, half + _SHOULDER, 0.0)
        bind(stage.GetPrimAtPath(asphalt), add_look(stage, "asphalt", _ASPHALT))
        borders = np.concatenate(_sides(lines, half))
        middles = borders.mean(axis=1)
        near = np.linalg.norm(middles[:, None] - middles[None], axis=-1) < 0.5
        shared = near.sum(axis=1) > 1
        painted = [*borders[~shared], *_dashed(borders[shared])]
        markings = road.GetPath().AppendChild("markings")
        add_stripes(stage, markings, np.array(painted), 0.5 * _LINE_WIDTH, 0.012)
        bind(stage.GetPrimAtPath(markings), add_look(stage, "marking", _MARKING))


def _sides(lines: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """The left and the right side of stripes about lines (n, 2, 2); mitred where one goes on."""
    along = lines[:, 1] - lines[:, 0]
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    aside = np.stack([across, across], axis=1)
    joined = np.linalg.norm(lines[:, None, 1] - lines[None, :, 0], axis=-1) < 1e-6
    for here, place in ((0, joined.T), (1, joined)):
        for i in np.flatnonzero(place.any(axis=1)):
            bisector = across[i] + across[int(place[i].argmax())]
            aside[i, here] = 2.0 * bisector / (bisector @ bisector)
    return lines + reach * aside, lines - reach * aside


def _dashed(lines: np.ndarray) -> list[np.ndarray]:
    """Dashes along lines (n, 2, 2)."""
    dashes = []
    for start, end in lines:
        length = np.linalg.norm(end - start)
        at = np.arange(0.5 * (_DASH_PERIOD - _DASH), length - _DASH, _DASH_PERIOD) / length
        step = (end - start) * _DASH / length
        dashes += [np.array([p, p + step]) for p in start + at[:, None] * (end - start)]
    return dashes


def add_stripes(
    stage: Usd.Stage, path: Sdf.Path, lines: np.ndarray, half_width: float, z: float
) -> None:
    """A Mesh of level stripes about lines (n, 2, 2), facing up."""
    left, right = _sides(lines, half_width)
    corners = [right[:, 0], right[:, 1], left[:, 1], left[:, 0]]
    flat = np.stack(corners, axis=1).reshape(-1, 2)
    points = np.column_stack([flat, np.full(len(flat), z)]).astype(np.float32)
    mesh = add_mesh(stage, path, points, np.full(len(lines), 4), np.arange(len(points)))
    mesh.CreateNormalsAttr([(0.0, 0.0, 1.0)])
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.constant)


class CarWriter:
    """Writes roads full of cars into a scene's layer."""

    def __init__(self, layer: Sdf.Layer, lengths: np.ndarray, num_autonomous: int) -> None:
        """Cars of `lengths` (vehicles,) [m], the first `num_autonomous` of them autonomous."""
        self.layer = layer
        self.lengths = lengths
        self.kinds = (np.arange(len(lengths)) < num_autonomous).astype(int)

    def write(self, env: Sdf.Path, poses: np.ndarray, instanced: bool) -> Iterator[int]:
        """Write a road's cars; gives back the number of samples written, piece by piece.

        Args:
            env: path of the environment's prim.
            poses: (frames, vehicles, 3): x, y [m] and heading [rad]; NaN while a vehicle is gone.
            instanced: one PointInstancer in place of a prim for each car.
        """
        if instanced:
            yield self._write_instancer(env.AppendChild("Cars"), poses)
            return
        for number in range(poses.shape[1]):
            yield self._write_car(env, number, poses[:, number])

    def _write_car(self, env: Sdf.Path, number: int, pose: np.ndarray) -> int:
        autonomous = self.kinds[number] == 1
        name = "autonomous" if autonomous else "human"
        prim = Sdf.CreatePrimInLayer(self.layer, env.AppendChild(f"{name}_{number}"))
        prim.specifier = Sdf.SpecifierDef
        prototype = PROTOTYPES.AppendChild(f"{name}_car")
        prim.referenceList.prependedItems = [Sdf.Reference(primPath=prototype)]
        positions, quats, gone = _placed(pose[:, None])
        written = write_samples(prim, "xformOp:translate", "double3", positions[:, 0])
        written += write_samples(prim, "xformOp:orient", "quatd", continuous_quats(quats[:, 0]))
        order = ["xformOp:translate", "xformOp:orient"]
        if self.lengths[number] != CAR_LENGTH:
            stretch = Gf.Vec3f(float(self.lengths[number]) / CAR_LENGTH, 1.0, 1.0)
            write_constant(prim, "xformOp:scale", "float3", stretch)
            order.append("xformOp:scale")
        write_constant(prim, "xformOpOrder", "token[]", Vt.TokenArray(order), uniform=True)
        if gone.any():
            tokens = np.where(gone[:, 0], "invisible", "inherited").tolist()
            same = len(set(tokens)) == 1
            written += write_values(prim, "visibility", "token", tokens[:1] if same else tokens)
        return written

    def _write_instancer(self, path: Sdf.Path, poses: np.ndarray) -> int:
        prim = Sdf.CreatePrimInLayer(self.layer, path)
        prim.specifier, prim.typeName = Sdf.SpecifierDef, "PointInstancer"
        prim.SetInfo("kind", Kind.Tokens.group)
        targets = []
        for name in ("human_car", "autonomous_car"):
            copy = Sdf.CreatePrimInLayer(self.layer, path.AppendPath(f"Prototypes/{name}"))
            copy.specifier = Sdf.SpecifierDef
            reference = Sdf.Reference(primPath=PROTOTYPES.AppendChild(name))
            copy.referenceList.prependedItems = [reference]
            targets.append(copy.path)
        scope = self.layer.GetPrimAtPath(path.AppendChild("Prototypes"))
        scope.specifier, scope.typeName = Sdf.SpecifierDef, "Scope"
        scope.SetInfo("kind", Kind.Tokens.group)
        Sdf.RelationshipSpec(
            prim, "prototypes", custom=False
        ).targetPathList.explicitItems = targets
        write_constant(prim, "protoIndices", "int[]", Vt.IntArray(self.kinds.tolist()))
        stretch = np.ones((len(self.lengths), 3), dtype=np.float32)
        stretch[:, 0] = self.lengths / CAR_LENGTH
        write_constant(prim, "scales", "float3[]", Vt.Vec3fArray.FromNumpy(stretch))
        positions, quats, gone = _placed(poses)
        for number in range(quats.shape[1]):
            quats[:, number] = continuous_quats(quats[:, number])
        positions, quats = positions.astype(np.float32), quats.astype(np.float32)
        values = [Vt.Vec3fArray.FromNumpy(row) for row in positions]
        written = write_values(prim, "positions", "point3f[]", values)
        values = [Vt.QuatfArray.FromNumpy(row) for row in quats]
        written += write_values(prim, "orientationsf", "quatf[]", values)
        if gone.any():
            hidden = [Vt.Int64Array(np.flatnonzero(row).tolist()) for row in gone]
            written += write_values(prim, "invisibleIds", "int64[]", hidden)
        reach = 0.5 * np.hypot(self.lengths.max(), CAR_WIDTH)
        lower, upper = positions.min(axis=1) - reach, positions.max(axis=1) + reach
        upper[:, 2] += CAR_HEIGHT
        boxes = np.stack([lower, upper], axis=1).astype(np.float32)
        values = [Vt.Vec3fArray.FromNumpy(box) for box in boxes]
        return written + write_values(prim, "extent", "float3[]", values)


def _placed(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (frames, vehicles, 3), quaternions (…, 4), and where a vehicle is gone.

    A vehicle that is gone waits where it was last, or where it will first be.
    """
    gone = np.asarray(np.isnan(poses).any(axis=-1))
    x, y, heading = np.moveaxis(_hold(poses, gone), -1, 0)
    zero = np.zeros_like(x)
    quats = np.stack([zero, zero, np.sin(0.5 * heading), np.cos(0.5 * heading)], axis=-1)
    return np.stack([x, y, zero], axis=-1), quats, gone


def _hold(poses: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Poses with the frames of absence filled in from the nearest earlier, else first, presence."""
    frames = np.arange(len(poses))[:, None]
    last = np.maximum.accumulate(np.where(gone, -1, frames), axis=0)
    source = np.where(last < 0, (~gone).argmax(axis=0)[None], last)
    held = np.take_along_axis(poses, source[..., None], axis=0)
    return np.nan_to_num(held)  # only vehicles that never come are still NaN


def declare_env(layer: Sdf.Layer, path: Sdf.Path, offset: np.ndarray) -> None:
    """An environment's prim, standing at `offset` (3,) [m]."""
    prim = Sdf.CreatePrimInLayer(layer, path)
    prim.specifier, prim.typeName = Sdf.SpecifierDef, "Xform"
    prim.SetInfo("kind", Kind.Tokens.group)
    translate = declare(prim, "xformOp:translate", "double3")
    translate.default = Gf.Vec3d(*offset.tolist())
    order = Vt.TokenArray(["xformOp:translate"])
    write_constant(prim, "xformOpOrder", "token[]", order, uniform=True)
