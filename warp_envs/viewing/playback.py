"""A USD stage as numbers to play: what there is to see, and where it is in every frame.

Made for `warp_envs.viewing.page`, which shows it in a browser; not only of recordings, but of any
stage whose things move as rigid bodies.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pxr import Usd, UsdGeom, Vt

from warp_envs.usd.stage import FAR, Stage, refuse
from warp_envs.viewing.contents import (
    Instances,
    Problems,
    check_place,
    read_axis,
    read_instances,
    read_look,
    read_mesh,
    read_size,
    shown_parts,
    tell_changes,
)
from warp_envs.viewing.drawing import drawn_prims
from warp_envs.viewing.told import Contacts, Told

STATIC = -1  # the mover of what does not move, the environment of what belongs to none
_FPS = 24.0  # of a stage whose own rate is none
_MOST_FRAMES = 20_000
_MOST_POSES = 4_000_000  # of all movers in all frames, 128 bytes each while they are read


@dataclass(frozen=True)
class Part:
    """Something drawn.

    Attributes:
        shape: its number in `Playback.shapes`.
        look: its number in `Playback.looks`.
        mover: number of what carries it, `STATIC` if nothing does.
        env: number of the environment it belongs to, `STATIC` if to none.
        matrix: its place in the mover, or in the world [m]; (4, 4) for row vectors.
    """

    shape: int
    look: int
    mover: int
    env: int
    matrix: np.ndarray


@dataclass
class Playback:
    """A stage as numbers: metres, z up.

    Attributes:
        fps: frames shown in a second.
        poses: (frames, movers, 7): position and unit quaternion xyzw; NaN while hidden.
        shapes: each a kind ("box", "sphere", "capsule", "cylinder", "cone", "mesh") with its sizes.
        looks: colour (linear), roughness, metallic and opacity of a material.
        parts: what is drawn.
        envs: names of the environments.
        signals: of the environments in each frame, name -> (frames, envs).
        terms: of the reward in each frame, name -> (frames, envs).
        contacts: the ground's forces, None where there are none.
        camera: "eye" and "aim" (frames or 1, 3) [m] and the vertical angle of view "angle" [deg].
        problems: a line for each thing that is not shown, with its prim's path and the reason.
    """

    fps: float
    poses: np.ndarray
    shapes: list[dict[str, Any]] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    envs: list[str] = field(default_factory=list)
    signals: dict[str, np.ndarray] = field(default_factory=dict)
    terms: dict[str, np.ndarray] = field(default_factory=dict)
    contacts: Contacts | None = None
    camera: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list)


def read_playback(path: str | os.PathLike[str], share: float = 1.0) -> Playback:
    """Read a stage from its first to its last whole time code, every n-th of very many.

    What cannot be shown is left out and listed in `problems`.

    Args:
        path: of a USD file.
        share: of the poses that one page may hold.

    Raises:
        ValueError: a file that cannot be read.
    """
    return _Reader(Stage(os.fspath(path)), int(share * _MOST_POSES)).read()


class _Reader:
    """Collects movers, parts, shapes and looks while it goes over a stage."""

    def __init__(self, stage: Stage, most_poses: int) -> None:
        self.usd = stage.usd
        self.most_poses = most_poses
        self.problems = Problems()
        for note in stage.notes:
            self.problems.tell(stage.usd.GetPseudoRoot(), note)
        self.start = _finite(self.usd.GetStartTimeCode(), 0.0)
        self.to_world = np.eye(4)
        self.to_world[:3, :3] = stage.units.length * stage.units.up.T
        self.envs = [p for p in self.usd.Traverse() if p.HasAttribute("gippo:return")]
        self.shapes: dict[str, int] = {}
        self.looks: dict[str, int] = {}
        self.out = Playback(_FPS, np.zeros((0, 0, 7)))
        self.movers: dict[Usd.Prim, int] = {}
        self.times = np.array([np.ceil(self.start)])

    def read(self) -> Playback:
        """Everything that is drawn, and how it moves."""
        prims = list(drawn_prims(self.usd.GetPseudoRoot()))
        solids = [prim for prim in prims if prim.IsA(UsdGeom.Gprim) and self._ever_seen(prim)]
        carriers = [self._mover(prim) for prim in solids]
        found = [UsdGeom.PointInstancer(p) for p in prims if p.IsA(UsdGeom.PointInstancer)]
        indices = [instancer.GetProtoIndicesAttr().Get(self.times[0]) or [] for instancer in found]
        self._choose_frames(len(self.movers) + sum(map(len, indices)))
        matrices = [self._matrices(list(self.movers))]
        instancers = []
        for instancer in found:
            copies = self.problems.unless_refused(lambda i=instancer: self._copies(i))
            if copies is not None and len(copies[0].indices):
                instancers.append((instancer, copies[0]))
                matrices.append(copies[1])
        moved = np.concatenate(matrices, axis=1)
        # A mover's rigid motion is in its poses; its scale stays with what it carries.
        self.out.poses, stretch = _rigid(moved)
        for prim, mover in zip(solids, carriers, strict=True):
            self.problems.unless_refused(lambda p=prim, m=mover: self._add_solid(p, m, stretch))
        start = len(self.movers)
        for instancer, copies in instancers:
            self._add_instances(instancer, copies, start, stretch)
            start += len(copies.indices)
        self._read_signals()
        self.problems.unless_refused(self._read_camera)
        self.out.problems = self.problems.lines()
        return self.out

    def _choose_frames(self, num_movers: int) -> None:
        """The time codes shown, and at what rate."""
        root = self.usd.GetPseudoRoot()
        fps = self.usd.GetTimeCodesPerSecond()
        if not (np.isfinite(fps) and 0.0 < fps <= FAR):
            self.problems.tell(root, f"timeCodesPerSecond = {fps}; {_FPS:g} are shown in a second")
            fps = _FPS
        first, last = np.ceil(self.start), np.floor(_finite(self.usd.GetEndTimeCode(), self.start))
        count = int(max(last - first, 0.0)) + 1
        most = max(1, min(_MOST_FRAMES, self.most_poses // max(num_movers, 1)))
        step = -(-count // most)
        if step > 1:
            self.problems.tell(root, f"{count} frames; one in {step} is shown")
        self.times = first + np.arange(0, count, step, dtype=np.float64)
        self.out.fps = float(fps) / step

    # What moves ---------------------------------------------------------------------------------

    def _mover(self, prim: Usd.Prim) -> Usd.Prim | None:
        """The nearest prim, from this one upwards, that moves or comes and goes."""
        while prim and not prim.IsPseudoRoot():
            moving = UsdGeom.Xformable(prim)
            if (moving and moving.TransformMightBeTimeVarying()) or _comes_and_goes(prim):
                self.movers.setdefault(prim, len(self.movers))
                return prim
            prim = prim.GetParent()
        return None

    def _ever_seen(self, prim: Usd.Prim) -> bool:
        if UsdGeom.Imageable(prim).ComputeVisibility(self.times[0]) != UsdGeom.Tokens.invisible:
            return True
        while prim and not prim.IsPseudoRoot():
            if _comes_and_goes(prim):
                return True
            prim = prim.GetParent()
        return False

    def _matrices(self, prims: list[Usd.Prim]) -> np.ndarray:
        """(frames, prims, 4, 4) in the world, for row vectors; NaN while hidden."""
        found = np.empty((len(self.times), len(prims), 4, 4))
        blinking = [
            (number, UsdGeom.Imageable(prim))
            for number, prim in enumerate(prims)
            if any(map(_comes_and_goes, _upwards(prim)))
        ]
        cache = UsdGeom.XformCache()
        for frame, time in enumerate(self.times.tolist()):
            cache.SetTime(time)
            placed = [cache.GetLocalToWorldTransform(prim) for prim in prims]
            found[frame] = np.array(Vt.Matrix4dArray(placed)).reshape(-1, 4, 4)
        with np.errstate(invalid="ignore", over="ignore"):
            found = found @ self.to_world
        for number, prim in enumerate(prims):
            if (
                self.problems.unless_refused(lambda n=number, p=prim: check_place(p, found[:, n]))
                is None
            ):
                found[:, number] = np.nan
        for number, imageable in blinking:
            for frame, time in enumerate(self.times.tolist()):
                if imageable.ComputeVisibility(time) == UsdGeom.Tokens.invisible:
                    found[frame, number] = np.nan
        return found

    def _copies(self, instancer: UsdGeom.PointInstancer) -> tuple[Instances, np.ndarray]:
        """Copies, and their (frames, copies, 4, 4) without the prototypes' own transforms.

        Raises:
            ArgumentError: they cannot be shown.
        """
        prim, copies = instancer.GetPrim(), read_instances(instancer, self.times)
        found = np.empty((len(self.times), len(copies.indices), 4, 4))
        cache = UsdGeom.XformCache()
        options = (UsdGeom.PointInstancer.ExcludeProtoXform, UsdGeom.PointInstancer.IgnoreMask)
        for frame, time in enumerate(self.times.tolist() if len(copies.indices) else ()):
            cache.SetTime(time)
            placed = np.array(instancer.ComputeInstanceTransformsAtTime(time, time, *options))
            if placed.size != found[frame].size:
                raise refuse(prim, "its copies have no places")
            found[frame] = placed.reshape(-1, 4, 4) @ np.array(cache.GetLocalToWorldTransform(prim))
        found = check_place(prim, found @ self.to_world)
        for frame, time in enumerate(self.times.tolist()):
            mask = instancer.ComputeMaskAtTime(time)
            if mask:
                found[frame, ~np.array(mask, dtype=bool)] = np.nan
        return copies, found

    # What is drawn ------------------------------------------------------------------------------

    def _add_solid(self, prim: Usd.Prim, mover: Usd.Prim | None, stretch: np.ndarray) -> None:
        cache = UsdGeom.XformCache(self.times[0])
        world = cache.GetLocalToWorldTransform(prim)
        if mover is None:
            placed = check_place(prim, np.array(world) @ self.to_world)
            self._add_part(prim, prim, placed, STATIC)
            return
        number = self.movers[mover]
        inside = np.array(world * cache.GetLocalToWorldTransform(mover).GetInverse())
        self._add_part(prim, prim, check_place(prim, inside @ stretch[number]), number)

    def _add_instances(
        self,
        instancer: UsdGeom.PointInstancer,
        copies: Instances,
        start: int,
        stretch: np.ndarray,
    ) -> None:
        cache = UsdGeom.XformCache(self.times[0])
        models = []
        for root in copies.models:
            above = cache.GetParentToWorldTransform(root).GetInverse()
            parts = list(shown_parts(root))
            places = [np.array(cache.GetLocalToWorldTransform(part) * above) for part in parts]
            models.append(list(zip(parts, places, strict=True)))
        below = instancer.GetPrim()
        for number, index in enumerate(copies.indices.tolist(), start):
            for prim, inside in models[index]:
                place = inside @ stretch[number]
                self.problems.unless_refused(
                    lambda p=prim, m=place, n=number: self._add_part(p, below, check_place(p, m), n)
                )

    def _add_part(self, prim: Usd.Prim, below: Usd.Prim, matrix: np.ndarray, mover: int) -> None:
        shape = _shape(prim, self.times[0])
        tell_changes(prim, self.problems)
        env = STATIC
        for number, root in enumerate(self.envs):
            if below.GetPath().HasPrefix(root.GetPath()):
                env = number
        numbers = (
            _number_of(shape, self.shapes, self.out.shapes),
            _number_of(read_look(prim, self.problems), self.looks, self.out.looks),
        )
        self.out.parts.append(Part(*numbers, mover, env, matrix))

    # What else there is -------------------------------------------------------------------------

    def _read_signals(self) -> None:
        told = Told(self.envs, self.times, self.problems, 2 * self.most_poses)
        self.out.envs = [env.GetName() for env in self.envs]
        self.out.signals = told.signals()
        self.out.terms = told.terms()
        self.out.contacts = told.contacts(self.to_world)

    def _read_camera(self) -> None:
        prim = next((p for p in self.usd.Traverse() if p.IsA(UsdGeom.Camera)), None)
        if prim is None:
            return
        moving = UsdGeom.Xformable(prim).TransformMightBeTimeVarying()
        times = self.times if moving else self.times[:1]
        seen = [UsdGeom.Camera(prim).GetCamera(time) for time in times.tolist()]
        place = np.array([camera.transform for camera in seen]) @ self.to_world
        check_place(prim, place)
        eye = place[:, 3, :3]
        backwards = place[:, 2, :3] / np.linalg.norm(place[:, 2, :3], axis=1, keepdims=True)
        away = np.array([camera.focusDistance for camera in seen])[:, None]
        away = away * np.linalg.norm(self.to_world[0, :3])
        angle = seen[0].GetFieldOfView(seen[0].FOVVertical)
        if not (0.0 < angle < 180.0 and np.isfinite(backwards).all() and np.isfinite(away).all()):
            raise refuse(prim, "its angle of view, direction or distance is none")
        self.out.camera = {"eye": eye, "aim": eye - away * backwards, "angle": angle}


def _upwards(prim: Usd.Prim) -> list[Usd.Prim]:
    """The prim and all above it."""
    return [prim.GetStage().GetPrimAtPath(path) for path in prim.GetPath().GetPrefixes()]


def _comes_and_goes(prim: Usd.Prim) -> bool:
    visibility = UsdGeom.Imageable(prim).GetVisibilityAttr() if prim else None
    return bool(visibility) and visibility.ValueMightBeTimeVarying()


def _number_of(entry: dict[str, Any], known: dict[str, int], entries: list[dict[str, Any]]) -> int:
    """The number of an entry, which is added if it is new."""
    key = repr({k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in entry.items()})
    if key not in known:
        known[key] = len(entries)
        entries.append(entry)
    return known[key]


def _rigid(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses (frames, n, 7) of transforms (frames, n, 4, 4), and what is left of each (n, 4, 4).

    What is left (scales, mirroring) is taken to stay as it is where a thing is first seen.
    """
    linear = matrices[..., :3, :3]
    lengths = np.linalg.norm(linear, axis=-1, keepdims=True)
    rotation = linear / np.maximum(lengths, 1e-12)
    rotation[np.linalg.det(np.nan_to_num(rotation)) < 0.0] *= -1.0
    poses = np.concatenate([matrices[..., 3, :3], _quats(rotation)], axis=-1)
    first = np.isfinite(poses[..., 0]).argmax(axis=0)
    columns = np.arange(matrices.shape[1])
    left = np.tile(np.eye(4), (matrices.shape[1], 1, 1))
    start, turned = linear[first, columns], rotation[first, columns]
    left[:, :3, :3] = np.nan_to_num(start @ np.swapaxes(turned, -1, -2))
    return poses, left


def poses_of(matrices: np.ndarray) -> np.ndarray:
    """Poses (..., 7) of rigid transforms (..., 4, 4) for row vectors."""
    return np.concatenate([matrices[..., 3, :3], _quats(matrices[..., :3, :3])], axis=-1)


def quat_product(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The rotation `two`, then `one`, of quaternions xyzw (..., 4)."""
    a, w = one[..., :3], one[..., 3:]
    b, v = two[..., :3], two[..., 3:]
    vector = w * b + v * a + np.cross(a, b)
    return np.concatenate([vector, w * v - np.sum(a * b, axis=-1, keepdims=True)], axis=-1)


def rotate(quats: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) turned by unit quaternions xyzw (..., 4)."""
    axis, w = quats[..., :3], quats[..., 3:]
    across = 2.0 * np.cross(axis, vectors)
    return vectors + w * across + np.cross(axis, across)


def _quats(rotations: np.ndarray) -> np.ndarray:
    """Unit quaternions xyzw (..., 4) of rotation matrices (..., 3, 3) for row vectors.

    Each row of `products` is the quaternion times four times one of its own components; the one
    of the largest component is the accurate one.
    """
    m = rotations
    x, y, z = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    xy, xz, yz = (
        m[..., 0, 1] + m[..., 1, 0],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
    wx, wy, wz = (
        m[..., 1, 2] - m[..., 2, 1],
        m[..., 2, 0] - m[..., 0, 2],
        m[..., 0, 1] - m[..., 1, 0],
    )
    rows = [
        [1 + x - y - z, xy, xz, wx],
        [xy, 1 - x + y - z, yz, wy],
        [xz, yz, 1 - x - y + z, wz],
        [wx, wy, wz, 1 + x + y + z],
    ]
    products = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    largest = np.argmax(np.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    quats = np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :]
    return quats / np.linalg.norm(quats, axis=-1, keepdims=True)


def _shape(prim: Usd.Prim, time: float) -> dict[str, Any]:
    """A shape's kind and sizes in its prim's units.

    Raises:
        ArgumentError: a kind that is unknown here, or numbers that cannot be drawn.
    """
    if prim.IsA(UsdGeom.Mesh):
        return _mesh(UsdGeom.Mesh(prim), time)
    if prim.IsA(UsdGeom.Cube):
        return {"kind": "box", "size": read_size(prim, UsdGeom.Cube(prim).GetSizeAttr(), time)}
    if prim.IsA(UsdGeom.Sphere):
        radius = read_size(prim, UsdGeom.Sphere(prim).GetRadiusAttr(), time)
        return {"kind": "sphere", "radius": radius}
    for kind, schema in (
        ("capsule", UsdGeom.Capsule),
        ("cylinder", UsdGeom.Cylinder),
        ("cone", UsdGeom.Cone),
    ):
        if prim.IsA(schema):
            found = schema(prim)
            return {
                "kind": kind,
                "radius": read_size(prim, found.GetRadiusAttr(), time),
                "height": read_size(prim, found.GetHeightAttr(), time),
                "axis": read_axis(prim, found.GetAxisAttr(), time),
            }
    raise refuse(prim, f"a {prim.GetTypeName()}, which is not shown")


def _mesh(mesh: UsdGeom.Mesh, time: float) -> dict[str, Any]:
    """Its triangles' corners (n, 3, 3)."""
    points, counts, indices = read_mesh(mesh, time)
    starts = np.repeat(np.cumsum(counts) - counts, np.maximum(counts - 2, 0))
    number = np.concatenate([np.arange(1, max(count - 1, 1)) for count in counts])
    corners = np.stack([starts, starts + number, starts + number + 1], axis=-1)
    if mesh.GetOrientationAttr().Get() == UsdGeom.Tokens.leftHanded:
        corners = corners[:, ::-1]
    return {"kind": "mesh", "corners": points.astype(np.float32)[indices[corners]]}


def _finite(time: float, otherwise: float) -> float:
    """A time code that can be counted from."""
    return float(np.clip(time, -FAR, FAR)) if np.isfinite(time) else otherwise
