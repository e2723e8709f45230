"""Recorded robots in a scene: copies of an asset whose bodies move by time samples.

The asset is copied once into the scene, as the class prim /World/Prototypes/Robot that every
environment's robot references, so that the file opens wherever it is taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pxr import Gf, Kind, Sdf, Tf, Usd, UsdGeom, UsdPhysics, UsdUtils, Vt

from warp_envs.checks import ArgumentError
from warp_envs.usd.samples import continuous_quats, write_constant, write_samples
from warp_envs.usd.scene import WORLD, Box
from warp_envs.usd.stage import AT_REST, FAR, Stage, quat_of_matrix

PROTOTYPE = WORLD.AppendPath("Prototypes/Robot")
ENVS = WORLD.AppendChild("envs")
VARIANT_SET, RECORDED, SIMULATE = "playback", "recorded", "simulate"

# A scene has one of each of these, whatever number of robots stand in it.
_OF_THE_SCENE = ("PhysicsScene", "Camera")


@dataclass(frozen=True)
class BodyPrim:
    """A body of the asset and how its prim is moved.

    Attributes:
        path: of the prim, from the asset's root ("." for the root itself).
        in_place: whether the prim's transform is its pose in the environment. If not (a body below
            another, below a transform, in other units), it is its pose in the world, after a
            reset of the transform stack.
        scale: (3,) that turns the prim's units into metres.
        center: of the box around its geometry, in the body's frame [m], shape (3,).
        half: half the edges of that box [m], shape (3,).
    """

    path: str
    in_place: bool
    scale: np.ndarray
    center: np.ndarray
    half: np.ndarray


class RobotAsset:
    """A robot's USD file, ready to be copied into scenes."""

    def __init__(self, path: str | os.PathLike[str], body_paths: Sequence[str]) -> None:
        """Read the file.

        Args:
            path: of the USD file.
            body_paths: prim paths of the bodies whose poses are recorded, in their order.

        Raises:
            ValueError: a file that cannot be read, or bodies that lie under several root prims.
        """
        self.stage = Stage(Path(path))
        usd = self.stage.usd
        self.root = _root(usd, body_paths)
        _drop_ground(usd)
        self.bounds = UsdGeom.BBoxCache(AT_REST, [UsdGeom.Tokens.default_, UsdGeom.Tokens.render])
        prims = list(Usd.PrimRange(self.root, Usd.TraverseInstanceProxies()))
        self.rigid = [p for p in prims if p.HasAPI(UsdPhysics.RigidBodyAPI)]
        self.joints = [p for p in prims if p.IsA(UsdPhysics.Joint)]
        self.articulations = [p for p in prims if p.HasAPI(UsdPhysics.ArticulationRootAPI)]
        moved = [self._prim(usd, body) for body in body_paths]
        self.bodies = [self._body(prim, {*moved, *self.rigid}) for prim in moved]
        self.rest_box = self._rest_box()

    @property
    def name(self) -> str:
        """The name of the asset's root prim."""
        return self.root.GetName()

    def relative(self, prim: Usd.Prim) -> str:
        """A prim's path from the asset's root."""
        return str(prim.GetPath().MakeRelativePath(self.root.GetPath()))

    def gravity(self) -> float:
        """Of its PhysicsScene [m/s^2], 9.81 without one."""
        for prim in self.stage.prims():
            if prim.IsA(UsdPhysics.Scene):
                magnitude = UsdPhysics.Scene(prim).GetGravityMagnitudeAttr().Get()
                if magnitude is not None and np.isfinite(magnitude) and magnitude >= 0.0:
                    return float(magnitude) * self.stage.units.length
        return 9.81

    def corners(self, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest corners (..., 3) of the boxes around posed bodies.

        Args:
            poses: (..., bodies, 7), position [m] and unit quaternion xyzw.
        """
        cx, cy, cz = np.array([body.center for body in self.bodies], dtype=poses.dtype).T
        hx, hy, hz = np.array([body.half for body in self.bodies], dtype=poses.dtype).T
        lower = np.empty((*poses.shape[:-2], 3), dtype=poses.dtype)
        upper = np.empty_like(lower)
        for i, (rx, ry, rz) in enumerate(_rotation_rows(poses[..., 3:])):
            middle = poses[..., i] + rx * cx + ry * cy + rz * cz
            reach = np.abs(rx) * hx + np.abs(ry) * hy + np.abs(rz) * hz
            (middle - reach).min(axis=-1, out=lower[..., i])
            (middle + reach).max(axis=-1, out=upper[..., i])
        return lower, upper

    def prototype(self, folder: Path) -> Sdf.Layer:
        """A layer with the robot as the prototype; texture paths are relative to `folder`."""
        source = _flatten(self.stage.usd)

        def relocate(asset: str) -> str:
            return os.path.relpath(asset, folder) if os.path.isabs(asset) else asset

        UsdUtils.ModifyAssetPaths(source, relocate)
        layer = Sdf.Layer.CreateAnonymous(".usda")
        parent = Sdf.CreatePrimInLayer(layer, PROTOTYPE.GetParentPath())
        parent.specifier, parent.typeName = Sdf.SpecifierClass, "Scope"
        Sdf.CreatePrimInLayer(layer, PROTOTYPE)
        Sdf.CopySpec(source, self.root.GetPath(), layer, PROTOTYPE)
        prototype = layer.GetPrimAtPath(PROTOTYPE)
        prototype.SetInfo("assetInfo", {"name": self.name})
        prototype.SetInfo("kind", Kind.Tokens.component)
        _drop_scene_prims(layer)
        _drop_outside_targets(layer)
        for body in self.bodies:
            _drop_transform(layer.GetPrimAtPath(PROTOTYPE.AppendPath(body.path)))
        return layer

    def _prim(self, usd: Usd.Stage, body: str) -> Usd.Prim:
        path = Sdf.Path(body) if body.startswith("/") else self.root.GetPath().AppendPath(body)
        prim = usd.GetPrimAtPath(path)
        if not prim:
            raise ArgumentError("body_paths", repr(body), f"prims of {self.stage.path}")
        return prim

    def _body(self, prim: Usd.Prim, rigid: set[Usd.Prim]) -> BodyPrim:
        units = self.stage.units
        scale = np.abs(self.stage.world_frame(prim)[1])
        lower, upper = _corners(lambda: self.bounds.ComputeUntransformedBound(prim))
        to_metres = scale * units.length
        return BodyPrim(
            path=self.relative(prim),
            in_place=units.length == 1.0
            and np.array_equal(units.up, np.eye(3))
            and self._stands_free(prim, rigid),
            scale=np.where(np.isclose(to_metres, 1.0, rtol=1e-6), 1.0, to_metres),
            center=0.5 * (lower + upper) * to_metres,
            half=0.5 * (upper - lower) * to_metres,
        )

    def _stands_free(self, prim: Usd.Prim, rigid: set[Usd.Prim]) -> bool:
        """Whether nothing above a body, up to the asset's root, moves or places it."""
        if prim == self.root or UsdGeom.Xformable(prim).GetResetXformStack():
            return False
        above = prim.GetParent()
        while above != self.root.GetParent():
            local = UsdGeom.Xformable(above)
            if above in rigid or (local and local.GetLocalTransformation(AT_REST) != Gf.Matrix4d()):
                return False
            above = above.GetParent()
        return True

    def _rest_box(self) -> Box:
        units = self.stage.units
        box = Box(*_corners(lambda: self.bounds.ComputeWorldBound(self.root)))
        corners = units.length * (box.corners() @ units.up.T)
        return Box(corners.min(axis=0), corners.max(axis=0))


def _corners(bound: Callable[[], Gf.BBox3d]) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest corner (3,) of what is drawn, for the camera to have in view.

    Zero where nothing is, or something that has no place: whoever shows the recording tells of it.
    """
    try:
        box = bound().ComputeAlignedRange()
    except Tf.ErrorException:  # an instancer whose prototype is not there
        return np.zeros(3), np.zeros(3)
    corners = np.array([box.GetMin(), box.GetMax()])
    if box.IsEmpty() or not (np.abs(corners) <= FAR).all():
        corners = np.zeros((2, 3))
    return corners[0], corners[1]


class RobotWriter:
    """Writes environments with a robot each into a scene's layer."""

    def __init__(self, layer: Sdf.Layer, asset: RobotAsset) -> None:
        """Write what all environments share: the prototype's scope and the variants."""
        self.layer, self.asset = layer, asset
        envs = _define(layer, ENVS, "Scope")
        envs.SetInfo("kind", Kind.Tokens.group)
        world = layer.GetPrimAtPath(WORLD)
        variants = Sdf.VariantSetSpec(world, VARIANT_SET)
        world.variantSetNameList.prependedItems = [VARIANT_SET]
        world.variantSelections[VARIANT_SET] = RECORDED
        for name in (RECORDED, SIMULATE):
            Sdf.VariantSpec(variants, name)

    def write(self, name: str, offset: np.ndarray, poses: np.ndarray) -> Iterator[int]:
        """Write one environment; gives back the number of samples written after each body.

        Args:
            name: of its prim below /World/envs.
            offset: where its origin stands in the scene [m], shape (3,).
            poses: (frames, bodies, 7), position [m] and quaternion xyzw in the environment.
        """
        path = ENVS.AppendChild(name)
        self._write_frame(path, offset)
        for body, pose in zip(self.asset.bodies, poses.swapaxes(0, 1), strict=True):
            yield self._write_body(path, body, offset, pose)
        for prim in self.asset.rigid:
            over = self._over(RECORDED, path, self.asset.relative(prim))
            write_constant(over, "physics:rigidBodyEnabled", "bool", False)
        for prim in self.asset.joints:
            # There is no joint between bodies that are off.
            self._over(RECORDED, path, self.asset.relative(prim)).SetInfo("active", False)
            self._tie_to_env(path, prim)
        for prim in self.asset.articulations:
            over = self._over(RECORDED, path, self.asset.relative(prim))
            removed = Sdf.TokenListOp()
            removed.deletedItems = ["PhysicsArticulationRootAPI"]
            over.SetInfo("apiSchemas", removed)

    def _write_frame(self, path: Sdf.Path, offset: np.ndarray) -> None:
        """The environment's prim, which carries the asset's units, and the robot in it."""
        units = self.asset.stage.units
        env = _define(self.layer, path, "Xform")
        env.SetInfo("kind", Kind.Tokens.group)
        _write_pose(env, offset[None], quat_of_matrix(units.up)[None], np.full(3, units.length))
        robot = Sdf.CreatePrimInLayer(self.layer, path.AppendChild("Robot"))
        robot.specifier = Sdf.SpecifierDef
        robot.referenceList.prependedItems = [Sdf.Reference(primPath=PROTOTYPE)]

    def _write_body(
        self, path: Sdf.Path, body: BodyPrim, offset: np.ndarray, pose: np.ndarray
    ) -> int:
        position = pose[:, :3]
        if not body.in_place:
            position = position + offset.astype(np.float64)
        quats = continuous_quats(pose[:, 3:])
        moving, still = (self._over(name, path, body.path) for name in (RECORDED, SIMULATE))
        _write_pose(still, position[:1], quats[:1], body.scale, reset=not body.in_place)
        return _write_pose(moving, position, quats, body.scale, reset=not body.in_place)

    def _tie_to_env(self, path: Sdf.Path, prim: Usd.Prim) -> None:
        """Tie that end of a joint which is tied to the world to the environment instead."""
        joint = UsdPhysics.Joint(prim)
        for relationship in (joint.GetBody0Rel(), joint.GetBody1Rel()):
            if not relationship.GetTargets():
                placed = Sdf.CreatePrimInLayer(
                    self.layer, path.AppendChild("Robot").AppendPath(self.asset.relative(prim))
                )
                spec = Sdf.RelationshipSpec(placed, relationship.GetName(), custom=False)
                spec.targetPathList.explicitItems = [path]

    def _over(self, variant: str, env: Sdf.Path, relative: str) -> Sdf.PrimSpec:
        """The opinion of a variant about a prim of an environment's robot."""
        robot = env.AppendChild("Robot").AppendPath(relative)
        return Sdf.CreatePrimInLayer(
            self.layer,
            robot.ReplacePrefix(WORLD, WORLD.AppendVariantSelection(VARIANT_SET, variant)),
        )


def _write_pose(
    prim: Sdf.PrimSpec,
    positions: np.ndarray,
    quats: np.ndarray,
    scale: np.ndarray,
    reset: bool = False,
) -> int:
    """Write translate, orient and scale of a prim; returns the number of samples."""
    # Single precision where that is all there is: half the room.
    translate = "float3" if positions.dtype == np.float32 else "double3"
    written = write_samples(prim, "xformOp:translate", translate, positions)
    written += write_samples(prim, "xformOp:orient", "quatd", quats)
    order = ["xformOp:translate", "xformOp:orient"]
    if not np.array_equal(scale, np.ones(3)):
        write_constant(prim, "xformOp:scale", "float3", Gf.Vec3f(*scale.tolist()))
        order.append("xformOp:scale")
    if reset:
        order.insert(0, "!resetXformStack!")
    write_constant(prim, "xformOpOrder", "token[]", Vt.TokenArray(order), uniform=True)
    return written


def _define(layer: Sdf.Layer, path: Sdf.Path, type_name: str) -> Sdf.PrimSpec:
    prim = Sdf.CreatePrimInLayer(layer, path)
    prim.specifier, prim.typeName = Sdf.SpecifierDef, type_name
    return prim


def _root(usd: Usd.Stage, body_paths: Sequence[str]) -> Usd.Prim:
    """The root prim that holds all bodies."""
    roots = {Sdf.Path(path).GetPrefixes()[0] for path in body_paths if path.startswith("/")}
    if not roots and usd.GetDefaultPrim():
        return usd.GetDefaultPrim()
    if len(roots) != 1:
        names = sorted(map(str, roots))
        raise ArgumentError("body_paths", f"bodies under the root prims {names}", "one")
    return usd.GetPrimAtPath(roots.pop())


def _drop_ground(usd: Usd.Stage) -> None:
    """Take what is the ground out of the asset: a scene has one of its own."""
    rigid = [prim.GetPath() for prim in usd.Traverse() if prim.HasAPI(UsdPhysics.RigidBodyAPI)]
    usd.SetEditTarget(usd.GetSessionLayer())
    for prim in list(usd.Traverse()):
        solid = prim.IsA(UsdGeom.Plane) or prim.IsA(UsdGeom.Mesh)
        of_world = not any(prim.GetPath().HasPrefix(path) for path in rigid)
        if solid and of_world and prim.HasAPI(UsdPhysics.CollisionAPI):
            prim.SetActive(False)


def _flatten(usd: Usd.Stage) -> Sdf.Layer:
    """A stage as one layer, its instances turned into ordinary prims."""
    copy = Usd.Stage.Open(usd.GetRootLayer(), Sdf.Layer.CreateAnonymous(".usda"))
    copy.SetEditTarget(copy.GetSessionLayer())
    while instances := [prim for prim in copy.Traverse() if prim.IsInstance()]:
        for prim in instances:
            prim.SetInstanceable(False)
    return copy.Flatten(addSourceFileComment=False)


def _prototype_prims(layer: Sdf.Layer) -> list[Sdf.PrimSpec]:
    paths: list[Sdf.Path] = []
    layer.Traverse(PROTOTYPE, paths.append)
    return [layer.GetPrimAtPath(path) for path in paths if path.IsPrimPath()]


def _drop_scene_prims(layer: Sdf.Layer) -> None:
    for prim in _prototype_prims(layer):
        if not prim.expired and (prim.typeName in _OF_THE_SCENE or prim.typeName.endswith("Light")):
            del prim.nameParent.nameChildren[prim.name]


def _drop_outside_targets(layer: Sdf.Layer) -> None:
    """Remove targets outside the prototype, which no reference to it could follow."""
    for prim in _prototype_prims(layer):
        for prop in prim.properties:
            is_relationship = isinstance(prop, Sdf.RelationshipSpec)
            targets = prop.targetPathList if is_relationship else prop.connectionPathList
            kept = [path for path in targets.explicitItems if path.HasPrefix(PROTOTYPE)]
            if len(kept) != len(targets.explicitItems):
                targets.explicitItems = kept


def _drop_transform(prim: Sdf.PrimSpec) -> None:
    """Remove a body's rest pose, in whose place every environment has its own."""
    for name in [prop.name for prop in prim.properties if prop.name.startswith("xformOp")]:
        prim.RemoveProperty(prim.properties[name])


def _rotation_rows(quats: np.ndarray) -> list[list[np.ndarray]]:
    """The entries (...), row by row, of the rotation matrices of unit quaternions xyzw (..., 4)."""
    x, y, z, w = np.ascontiguousarray(np.moveaxis(quats, -1, 0))
    return [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
