"""Robots from USD files: every rigid body and joint of UsdPhysics that this project can simulate.

What is read
    Rigid bodies anywhere in the file, nested or referenced, with any rigid transform and scale;
    fixed, revolute, prismatic and spherical joints between them or to the world; colliders
    (Sphere, Capsule, Cylinder, Cube, and Mesh as its convex hull); mass as
    `warp_envs.usd.shapes` tells and the ground as `warp_envs.usd.ground_reading` does; the stage's
    units and up axis; gravity of the PhysicsScene; and on a joint:

    - limits, and drives as passive springs (stiffness, damping, target);
    - `newton:armature`, else `physxJoint:armature`, else `mjc:armature`;
    - `newton:damping`, added to the drive's; `newton:limitStiffness`, `newton:limitDamping`.

    Drag, lift, cords and couplings of joints are as `warp_envs.usd.passive_reading` tells; a body
    of `physxRigidBody:disableGravity` or `mjc:gravcomp` is lifted, and gravity is none where
    `newton:gravityEnabled` or `mjc:flag:gravity` of the scene is false. Filtered pairs and
    collision groups count between a collider and the ground; bodies do not touch each other.

    As in UsdPhysics and Newton's published schema, angular limits, gains and damping are authored
    for each degree and come out for each radian; armature has no angle in it. A joint with limits
    but without a limit stiffness gets `warp_envs.usd.joints.DEFAULT_LIMIT_KE`.

How the tree is rooted
    A joint's side that names no body, or a prim outside the bodies, is the world: so is a body that
    is disabled or kinematic. A tree without joint to the world floats: its root is the body with
    the ArticulationRootAPI, else the first that no joint names as body 1. Joints that then run from
    child to parent are turned around; their coordinates keep sign and meaning. Joints that are
    disabled or join two things of the world are left out.

What else a file says of bodies, joints and contact is refused with the prim's path and the reason
where the robot would be another, or stands in `RobotDescription.notes`: `warp_envs.usd.unread`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pxr import Sdf, Tf, Usd, UsdPhysics, UsdShade

from warp_envs.checks import ArgumentError
from warp_envs.usd.actuators import read_actuator
from warp_envs.usd.description import (
    Actuator,
    Body,
    ContactMaterial,
    Joint,
    RobotDescription,
    rotation_matrix,
)
from warp_envs.usd.filters import parted_colliders
from warp_envs.usd.ground_reading import read_ground
from warp_envs.usd.joints import read_keyframes, read_kind, read_parameters
from warp_envs.usd.passive import Cord, Coupling
from warp_envs.usd.passive_reading import read_cord, read_coupling, read_drags, read_lift
from warp_envs.usd.shapes import (
    CONTACT_STIFFNESS,
    physics_material,
    read_contact,
    read_mass,
    read_shape,
)
from warp_envs.usd.stage import (
    IDENTITY,
    Frame,
    Stage,
    read_axis,
    read_flag,
    read_name,
    read_numbers,
    read_quat,
    read_vector,
    refuse,
    unreadable,
)
from warp_envs.usd.unread import IDLE, STILL, unread_notes

EARTH_GRAVITY = 9.81  # [m/s^2]

WORLD = -1

WEIGHT = ("newton:gravityEnabled", "mjc:flag:gravity")
"""Attributes of a PhysicsScene that can switch gravity off."""


def load_robot(path: str | Path) -> RobotDescription:
    """Read a robot from a USD file (.usd, .usda, .usdc, .usdz).

    Args:
        path: of the file.

    Returns:
        The robot in SI units with z up, its bodies' frames free of scale.

    Raises:
        ValueError: a file that is missing, damaged or not USD, or content that cannot be
            simulated, by the file and the prim's path with the reason.
    """
    stage = Stage(path)
    try:
        return _Loader(stage).load()
    except ArgumentError as error:
        of_file = error.key == str(stage.path)
        raise error if of_file else error.renamed(f"{stage.path}: {error.key}") from None
    except (Tf.ErrorException, RuntimeError) as error:
        raise unreadable(stage.path, error) from None


@dataclass
class _Link:
    """A joint between two sides, each a body (or `WORLD`) and the anchor in its frame."""

    prim: Usd.Prim
    kind: str
    bodies: tuple[int, int]
    anchors: tuple[Frame, Frame]

    def other(self, body: int) -> int:
        return self.bodies[0] if self.bodies[1] == body else self.bodies[1]


class _Loader:
    """One reading of one stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.prims: list[Usd.Prim] = []  # of the bodies, in the file's order
        self.index: dict[Sdf.Path, int] = {}
        self.frames: list[Frame] = []
        self.scales: list[np.ndarray] = []
        self.colliders: list[list[Usd.Prim]] = []
        self.parted: set[Sdf.Path] = set()  # colliders that do not touch the ground

    def load(self) -> RobotDescription:
        """Read everything."""
        scenes, joints, colliders = self._sort_prims()
        if not self.prims:
            accepted = "a prim with PhysicsRigidBodyAPI, enabled and not kinematic,"
            raise ArgumentError(str(self.stage.path), "no rigid bodies", accepted)
        for prim in self.prims:
            frame, scale = self.stage.world_frame(prim)
            if scale[0] < 0.0:
                raise refuse(prim, "its transform is mirrored, rotation and scale are accepted")
            self.frames.append(frame)
            self.scales.append(scale)
            self.colliders.append([])
        of_world = []
        for prim in colliders:
            body = self._body_of(prim)
            (of_world if body == WORLD else self.colliders[body]).append(prim)
        ground, notes = read_ground(self.stage, of_world)
        grounds = self._grounds(of_world)
        self.parted = parted_colliders(self.stage, grounds, self._of_robot())
        contact, untouched = self._contact()
        links = [link for prim in joints if (link := self._read_link(prim)) is not None]
        order = _order(links, self.prims)
        place = {body: position for position, (body, _) in enumerate(order)}
        place[WORLD] = WORLD
        bodies = tuple(self._body(body, link, place) for body, link in order)
        sorts = self._sorts(joints, links, order, of_world, grounds)
        for prim in scenes:
            sorts[prim.GetPath()].add("scene")
        default = self.stage.usd.GetDefaultPrim()
        return RobotDescription(
            name=str(default.GetName()) if default else self.stage.path.stem,
            path=str(self.stage.path),
            bodies=bodies,
            gravity=self._gravity(scenes),
            contact=contact,
            actuators=self._actuators(links),
            ground=ground,
            notes=(*self.stage.notes, *notes, *untouched, *unread_notes(self.stage, sorts)),
            couplings=self._couplings(links),
            cords=self._cords(),
        )

    def _of_robot(self) -> list[Usd.Prim]:
        """The colliders of all bodies."""
        return [prim for colliders in self.colliders for prim in colliders]

    def _grounds(self, of_world: list[Usd.Prim]) -> list[Usd.Prim]:
        """The prim that is the ground, if the file has one: no note says that it is none."""
        return [
            prim
            for prim in of_world
            if read_flag(prim, "physics:collisionEnabled", True)
            and not read_ground(self.stage, [prim])[1]
        ]

    def _sorts(
        self,
        joints: list[Usd.Prim],
        links: list[_Link],
        order: list[tuple[int, _Link | None]],
        of_world: list[Usd.Prim],
        grounds: list[Usd.Prim],
    ) -> dict[Sdf.Path, set[str]]:
        """What each prim is read as, for `unread_notes`."""
        sorts: dict[Sdf.Path, set[str]] = defaultdict(set)
        kinds = {link.prim.GetPath(): link.kind for link in links}
        for prim in joints:
            sorts[prim.GetPath()].add(kinds.get(prim.GetPath(), IDLE))
        for body, link in order:
            sorts[self.prims[body].GetPath()].add("body" if link else "free")
        for prim in of_world:
            sorts[prim.GetPath()].add("ground" if prim in grounds else IDLE)
        for prim in self._of_robot():
            sorts[prim.GetPath()].add("collider")
        materials = {m.GetPath() for m in map(physics_material, self._of_robot()) if m}
        under = {m.GetPath() for m in map(physics_material, grounds) if m}
        for prim in self.stage.prims():
            path = prim.GetPath()
            if prim.HasAPI(UsdPhysics.RigidBodyAPI) and path not in self.index:
                sorts[path].add(STILL)
            if prim.IsA(UsdShade.Material):
                used = "material" if path in materials else "ground material"
                sorts[path].add(used if path in materials | under else IDLE)
        return sorts

    def _actuators(self, links: list[_Link]) -> tuple[Actuator, ...]:
        """What drives the hinges and slides, in the file's order."""
        names = _single(links)
        found = (read_actuator(prim, names) for prim in self.stage.prims())
        return tuple(actuator for actuator in found if actuator is not None)

    def _couplings(self, links: list[_Link]) -> tuple[Coupling, ...]:
        """What couples hinges and slides, in the file's order."""
        names = _single(links)
        found = (read_coupling(prim, names) for prim in self.stage.prims())
        return tuple(coupling for coupling in found if coupling is not None)

    def _cords(self) -> tuple[Cord, ...]:
        """What pulls at points of bodies, in the file's order."""
        found = (read_cord(prim, self.index) for prim in self.stage.prims())
        return tuple(cord for cord in found if cord is not None)

    def _sort_prims(self) -> tuple[list[Usd.Prim], list[Usd.Prim], list[Usd.Prim]]:
        """Find the bodies; return scenes, joints and colliders."""
        scenes, joints, colliders = [], [], []
        for prim in self.stage.prims():
            type_name = str(prim.GetTypeName())
            if prim.HasAPI(UsdPhysics.RigidBodyAPI) and self._moves(prim):
                self.index[prim.GetPath()] = len(self.prims)
                self.prims.append(prim)
            if prim.HasAPI(UsdPhysics.CollisionAPI):
                colliders.append(prim)
            if prim.IsA(UsdPhysics.Scene):
                scenes.append(prim)
            if prim.IsA(UsdPhysics.Joint) or type_name.endswith("Joint"):
                joints.append(prim)
        return scenes, joints, colliders

    def _moves(self, prim: Usd.Prim) -> bool:
        """Whether a body is simulated; one that is disabled or kinematic belongs to the world."""
        if not read_flag(prim, "physics:rigidBodyEnabled", True):
            return False
        if read_flag(prim, "physics:kinematicEnabled", False):
            return False
        if prim.IsInstance() or prim.IsInstanceProxy():
            raise refuse(prim, "an instanced rigid body; one that is not instanced is accepted")
        return True

    def _body_of(self, prim: Usd.Prim) -> int:
        """The body that a prim is, or is nested in; `WORLD` where there is none."""
        while prim and not prim.IsPseudoRoot():
            if prim.GetPath() in self.index:
                return self.index[prim.GetPath()]
            prim = prim.GetParent()
        return WORLD

    def _read_link(self, prim: Usd.Prim) -> _Link | None:
        """A joint's two sides, None for a joint that does nothing."""
        if not read_flag(prim, "physics:jointEnabled", True):
            return None
        kind = read_kind(prim)
        (body0, anchor0), (body1, anchor1) = (self._side(prim, side) for side in (0, 1))
        if body0 == WORLD and body1 == WORLD:
            return None
        if body0 == body1:
            raise refuse(
                prim, f"joins {self.prims[body0].GetPath()} to itself; two bodies are accepted"
            )
        return _Link(prim, kind, (body0, body1), (anchor0, anchor1))

    def _side(self, prim: Usd.Prim, side: int) -> tuple[int, Frame]:
        """Body and anchor in its frame of a joint's side 0 or 1."""
        name = f"physics:body{side}"
        relationship = prim.GetRelationship(name)
        targets = relationship.GetForwardedTargets() if relationship else []
        if len(targets) > 1:
            raise refuse(prim, f"{name} has {len(targets)} targets, one or none accepted")
        position = read_vector(prim, f"physics:localPos{side}")
        quat = read_quat(prim, f"physics:localRot{side}")
        position = np.zeros(3) if position is None else position
        turn = IDENTITY.rotation if quat is None else rotation_matrix(quat)
        length = self.stage.units.length
        if not targets:
            up = self.stage.units.up
            return WORLD, Frame(length * (up @ position), up @ turn)
        target = self.stage.usd.GetPrimAtPath(targets[0])
        if not target:
            raise refuse(prim, f"{name} names {targets[0]}, which does not exist")
        frame, scale = self.stage.world_frame(target)
        anchor = Frame(position * scale * length, turn)
        body = self._body_of(target)
        if body == WORLD:
            return WORLD, frame.then(anchor)
        if target == self.prims[body]:
            return body, anchor
        return body, self.frames[body].inverse().then(frame).then(anchor)

    def _body(self, body: int, link: _Link | None, place: dict[int, int]) -> Body:
        """The description of a body held by a joint (None: free)."""
        prim, frame = self.prims[body], self.frames[body]
        name = read_name(prim)
        if link is None:
            keyframes = read_keyframes(prim, "free")
            path = str(prim.GetPath())
            parent, joint = WORLD, Joint(name=name, path=path, kind="free", keyframes=keyframes)
        else:
            parent, joint = link.other(body), self._joint(link, body)
        shapes = [read_shape(self.stage, c, prim, frame) for c in self.colliders[body]]
        shapes = [
            replace(shape, collides=False) if Sdf.Path(shape.path) in self.parted else shape
            for shape in shapes
        ]
        mass = read_mass(self.stage, prim, shapes, self.scales[body])
        if mass.mass <= 0.0 and joint.kind != "fixed":
            raise refuse(
                prim,
                "a moving body without mass; physics:mass with physics:diagonalInertia, or "
                "colliders to compute them from, are accepted",
            )
        return Body(
            name=name,
            path=str(prim.GetPath()),
            parent=place[parent],
            joint=joint,
            mass=mass.mass,
            com=mass.com,
            inertia=mass.inertia,
            shapes=tuple(shapes),
            position=frame.position,
            rotation=frame.quat(),
            drags=read_drags(prim),
            **read_lift(prim, mass),
        )

    def _joint(self, link: _Link, child: int) -> Joint:
        """The description of a joint, turned around where body 0 is the child."""
        prim, kind = link.prim, link.kind
        forward = link.bodies[1] == child
        parent_anchor, child_anchor = link.anchors if forward else link.anchors[::-1]
        # X1 = X0 A0 J(q) A1^-1  <=>  X0 = X1 A1 J(q)^-1 A0^-1, and J(q)^-1 has the opposite axis.
        axis = read_axis(prim, "physics:axis", "X") * (1.0 if forward else -1.0)
        return Joint(
            name=read_name(prim),
            path=str(prim.GetPath()),
            kind=kind,
            parent_position=parent_anchor.position,
            parent_rotation=parent_anchor.quat(),
            child_position=child_anchor.position,
            child_rotation=child_anchor.quat(),
            axis=axis,
            keyframes=read_keyframes(prim, kind),
            **read_parameters(prim, kind, self.stage.units),
        )

    def _gravity(self, scenes: list[Usd.Prim]) -> np.ndarray:
        """Gravity of the file's scene in the z-up world [m/s^2], the Earth's where none is told.

        A negative magnitude asks for the Earth's in any unit, as the schema of UsdPhysics says.
        """
        values = [self._scene_gravity(prim) for prim in scenes]
        for prim, value in zip(scenes[1:], values[1:], strict=True):
            if not np.allclose(value, values[0]):
                raise refuse(prim, "a second PhysicsScene with another gravity; one is accepted")
        return values[0] if values else np.array([0.0, 0.0, -EARTH_GRAVITY])

    def _scene_gravity(self, prim: Usd.Prim) -> np.ndarray:
        magnitude = read_numbers(prim, "physics:gravityMagnitude", 1)
        size = EARTH_GRAVITY
        if not all(read_flag(prim, name, True) for name in WEIGHT):
            size = 0.0
        elif magnitude is not None and magnitude[0] >= 0.0:
            size = float(magnitude[0]) * self.stage.units.length
            if not np.isfinite(size):
                raise refuse(prim, f"physics:gravityMagnitude is {size}, a finite one is accepted")
        direction = read_vector(prim, "physics:gravityDirection")
        if direction is None or not np.any(direction):
            return np.array([0.0, 0.0, -size])
        return size * (self.stage.units.up @ (direction / np.linalg.norm(direction)))

    def _contact(self) -> tuple[ContactMaterial | None, list[str]]:
        """The contact material of all colliders that touch the ground, None where none does.

        Beside it a sentence on those that do not, though others do and collision is enabled.
        """
        found: ContactMaterial | None = None
        without: list[Usd.Prim] = []
        for prim in self._of_robot():
            if not read_flag(prim, "physics:collisionEnabled", True):
                continue
            if prim.GetPath() in self.parted:
                continue
            material = read_contact(self.stage, prim)
            if material is None:
                without.append(prim)
            elif found is not None and material != found:
                raise refuse(
                    prim, f"a second contact material, {material} beside {found}; one is accepted"
                )
            found = found or material
        if found is None or not without:
            return found, []
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        return found, [
            f"{without[0].GetPath()}{more}, collision enabled, touch nothing: no physics material "
            f"with {CONTACT_STIFFNESS}, which other colliders have"
        ]


def _single(links: list[_Link]) -> dict[Sdf.Path, str]:
    """Names of the hinges and slides by their prims' paths."""
    kinds = ("revolute", "prismatic")
    return {link.prim.GetPath(): read_name(link.prim) for link in links if link.kind in kinds}


def _order(links: list[_Link], prims: list[Usd.Prim]) -> list[tuple[int, _Link | None]]:
    """Bodies with the joint that holds each: parents first, siblings and roots in file order.

    Raises:
        ValueError: joints that close a loop, through the world or without it.
    """
    joined: dict[int, list[_Link]] = {body: [] for body in range(len(prims))}
    for link in links:
        for body in link.bodies:
            if body != WORLD:
                joined[body].append(link)
    order: list[tuple[int, _Link | None]] = []
    seen: set[int] = set()
    for body in range(len(prims)):
        if body not in seen:
            root, link = _root(_component(body, joined), joined, prims)
            order += _descend(root, link, joined, seen)
    return order


def _component(start: int, joined: dict[int, list[_Link]]) -> list[int]:
    """All bodies connected to one, in file order."""
    found, todo = {start}, [start]
    while todo:
        body = todo.pop()
        for link in joined[body]:
            other = link.other(body)
            if other != WORLD and other not in found:
                found.add(other)
                todo.append(other)
    return sorted(found)


def _root(
    component: list[int], joined: dict[int, list[_Link]], prims: list[Usd.Prim]
) -> tuple[int, _Link | None]:
    """The body a tree starts from and its joint to the world, None where the tree floats."""
    anchors = [(body, link) for body in component for link in joined[body] if WORLD in link.bodies]
    if len(anchors) > 1:
        raise refuse(
            anchors[1][1].prim,
            f"closes a loop through the world, to which {anchors[0][1].prim.GetPath()} joins the "
            f"same bodies; one joint to the world for each tree is accepted",
        )
    if anchors:
        return anchors[0]
    tagged = [body for body in component if prims[body].HasAPI(UsdPhysics.ArticulationRootAPI)]
    if len(tagged) > 1:
        raise refuse(
            prims[tagged[1]],
            f"a second ArticulationRootAPI beside {prims[tagged[0]].GetPath()}; one for each tree "
            f"is accepted",
        )
    first = [body for body in component if all(link.bodies[1] != body for link in joined[body])]
    return (tagged or first or component)[0], None


def _descend(
    root: int, held_by: _Link | None, joined: dict[int, list[_Link]], seen: set[int]
) -> list[tuple[int, _Link | None]]:
    """A tree from its root down, depth first."""
    order: list[tuple[int, _Link | None]] = []
    todo: list[tuple[int, _Link | None]] = [(root, held_by)]
    while todo:
        body, link = todo.pop()
        if body in seen:
            assert link is not None
            raise refuse(link.prim, "closes a loop of joints; trees of bodies are accepted")
        seen.add(body)
        order.append((body, link))
        below = [(other.other(body), other) for other in joined[body] if other is not link]
        # The last pushed comes first: reversed, siblings come in the file's order.
        todo += sorted(below, key=lambda item: item[0], reverse=True)
    return order
