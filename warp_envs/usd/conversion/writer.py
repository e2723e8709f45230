"""A compiled MuJoCo model as one UsdPhysics file, every body below the robot's prim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pxr import Gf, Sdf, Tf, Usd, UsdGeom, UsdPhysics, UsdShade, Vt

from warp_envs.usd.conversion import joints, passive
from warp_envs.usd.conversion.actuators import read_actuators
from warp_envs.usd.conversion.frames import frame_of, place, quat_of
from warp_envs.usd.conversion.ground import (
    ground_geoms,
    is_ground,
    sliding_friction,
    touching_geoms,
)
from warp_envs.usd.conversion.mujoco_model import import_mujoco, joint_kind
from warp_envs.usd.conversion.shapes import visible_geoms, write_geom, write_ground
from warp_envs.usd.conversion.source import Source
from warp_envs.usd.conversion.tree import WORLD, Place, place_bodies
from warp_envs.usd.mass import MassProperties
from warp_envs.usd.passive import Coupling
from warp_envs.usd.passive_reading import (
    CORD_BODIES,
    CORD_NUMBERS,
    CORD_POINTS,
    COUPLED,
    DAMPING,
    DRAG,
    LIFT_MASS,
    LIFT_POSITION,
    RANGE,
    STIFFNESS,
    WEIGHTS,
)
from warp_envs.usd.stage import NAME, Frame

_BETWEEN = 1e-9  # mass and inertia of what parts the joints of one body, of that body's
_EARTH = (0.0, 0.0, -9.81)
# Of the ground under the Ant, for each newton of the contact's stiffness.
_PRESSED = 0.02  # how deep the robot's weight on one point goes, of its size
_DAMPING, _FRICTION = 0.25, 0.075  # [s/m]


def write_robot(source: Source, path: Path, ground: bool | None) -> None:
    """Write the file.

    Args:
        source: the robot.
        path: the file, .usda or .usdc.
        ground: as of `convert_robot`.

    Raises:
        ValueError: a robot without bodies that move.
    """
    _Writer(source, path, ground).write()


class _Writer:
    """One writing of one stage."""

    def __init__(self, source: Source, path: Path, ground: bool | None) -> None:
        self.source, self.model = source, source.model
        self.touching = touching_geoms(source, ground)
        self.stage = Usd.Stage.CreateNew(str(path))
        self.root = Sdf.Path("/" + Tf.MakeValidIdentifier(source.path.stem))
        self.taken: set[Sdf.Path] = set()
        self.places: list[Place] = place_bodies(self.model)
        self.paths: dict[int, Sdf.Path] = {WORLD: self.root}  # of bodies
        self.joints: dict[int, Sdf.Path] = {}

    def write(self) -> None:
        """Everything, and save."""
        self._begin()
        data = import_mujoco().MjData(self.model)
        import_mujoco().mj_kinematics(self.model, data)
        for body in range(1, self.model.nbody):
            where = self.places[body]
            if where.holder != body:
                parent = self.paths[where.holder]
                self.paths[body] = self._path(parent, self.source.name("body", body))
                place(UsdGeom.Xform.Define(self.stage, self.paths[body]).GetPrim(), where.frame)
            else:
                self._add_body(body, frame_of(data.xpos[body], data.xquat[body]))
        self._add_shapes()
        self._add_passive_forces()
        for coupling in passive.couplings_of(self.source):
            self._add_coupling(coupling)
        for cord in passive.cords_of(self.source):
            self._add_cord(cord)
        grounds = ground_geoms(self.model) if self.touching else []
        if grounds and is_ground(self.model, grounds[0]):
            path = self._path(self.root, self.source.name("geom", grounds[0]))
            write_ground(self.stage, path, self.model, grounds[0])
        scope = self.root.AppendChild("Actuators")
        for joint, actuator in read_actuators(self.source):
            UsdGeom.Scope.Define(self.stage, scope)
            path = self._path(scope, actuator.name)
            joints.write_actuator(self.stage, path, self.joints[joint], actuator)
            self._keep_name(path, actuator.name)
        self.stage.GetRootLayer().comment = f"{self.source.path.name}, converted by gippo"
        self.stage.Save()

    def _begin(self) -> None:
        stage = self.stage
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
        stage.SetTimeCodesPerSecond(60.0)
        stage.SetFramesPerSecond(60.0)
        robot = UsdGeom.Xform.Define(stage, self.root).GetPrim()
        stage.SetDefaultPrim(robot)
        Usd.ModelAPI(robot).SetKind("component")
        UsdPhysics.ArticulationRootAPI.Apply(robot)
        for name in ("Looks", "Joints"):
            self.taken.add(self.root.AppendChild(name))
            UsdGeom.Scope.Define(stage, self.root.AppendChild(name))
        for name in ("Actuators", "Couplings"):
            self.taken.add(self.root.AppendChild(name))
        gravity = np.zeros(3) if self.source.is_off("GRAVITY") else np.array(self.model.opt.gravity)
        if not np.allclose(gravity, _EARTH, rtol=0.0, atol=1e-12):
            scene = UsdPhysics.Scene.Define(stage, self.root.AppendChild("PhysicsScene"))
            self.taken.add(scene.GetPath())
            size = float(np.linalg.norm(gravity))
            scene.CreateGravityMagnitudeAttr(size)
            direction = gravity / size if size else np.array([0.0, 0.0, -1.0])
            scene.CreateGravityDirectionAttr(Gf.Vec3f(*direction.tolist()))

    def _path(self, parent: Sdf.Path, name: str) -> Sdf.Path:
        """A path of a prim with this name, or of one like it that no other has."""
        wanted = Tf.MakeValidIdentifier(name or "unnamed")
        path, number = parent.AppendChild(wanted), 1
        while path in self.taken:
            number += 1
            path = parent.AppendChild(f"{wanted}_{number}")
        self.taken.add(path)
        return path

    def _keep_name(self, path: Sdf.Path, name: str) -> None:
        """Note a name of the source that USD does not allow, or that another prim has."""
        if path.name != name:
            prim = self.stage.GetPrimAtPath(path)
            prim.CreateAttribute(NAME, Sdf.ValueTypeNames.String, custom=False).Set(name)

    # Bodies and joints --------------------------------------------------------------------------

    def _add_body(self, body: int, frame: Frame) -> None:
        """A body, what stands between its joints, and these."""
        model, source = self.model, self.source
        name, mass = source.name("body", body), self.places[body].mass
        held = range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body])
        between = [
            self._add_rigid(f"{source.name('joint', joint)}_between", frame, _trace_of(mass, at))
            for joint in held[:-1]
            for at in [np.array(model.jnt_pos[joint])]
        ]
        path = self.paths[body] = self._add_rigid(name, frame, mass)
        parent, side = self._holder_of(body)
        if not held:
            joint = self._path(self.root.AppendChild("Joints"), f"{name}_fixed")
            here = Frame(np.zeros(3), np.eye(3))
            sides = ((parent, side), (path, here))
            joints.define_joint(self.stage, joint, "PhysicsFixedJoint", *sides)
            return
        if joint_kind(model, held[0]) == "free":
            prim = self.stage.GetPrimAtPath(path)  # what no joint holds is free
            joints.write_keyframes(prim, source, held[0])
            self._add_armature(body, frame)
            return
        for joint, child in zip(held, [*between, path], strict=True):
            self._add_joint(joint, (parent, side), child)
            parent, side = child, Frame(np.zeros(3), np.eye(3))

    def _add_armature(self, body: int, frame: Frame) -> None:
        """A free joint's armature: a body without weight, welded on at its body's origin."""
        armature = passive.free_armature(self.source, body)
        if not armature:
            return
        here = Frame(np.zeros(3), np.eye(3))
        name = f"{self.source.name('body', body)}_armature"
        path = self._add_rigid(
            name, frame, MassProperties(armature, np.zeros(3), armature * np.eye(3))
        )
        joints.write_doubles(self.stage.GetPrimAtPath(path), LIFT_MASS, np.array([armature]))
        joint = self._path(self.root.AppendChild("Joints"), f"{name}_fixed")
        sides = ((self.paths[body], here), (path, here))
        joints.define_joint(self.stage, joint, "PhysicsFixedJoint", *sides)

    def _add_passive_forces(self) -> None:
        """Drag and lift of the bodies."""
        for body, drags in passive.drags_of(self.source, self.places).items():
            prim = self.stage.GetPrimAtPath(self.paths[body])
            joints.write_doubles(prim, DRAG, np.concatenate([drag.numbers() for drag in drags]))
        for body, lift in passive.lifts_of(self.source, self.places).items():
            prim = self.stage.GetPrimAtPath(self.paths[body])
            joints.write_doubles(prim, LIFT_MASS, np.array([lift.mass]))
            joints.write_doubles(prim, LIFT_POSITION, lift.position)

    def _add_coupling(self, coupling: Coupling) -> None:
        scope = self.root.AppendChild("Couplings")
        UsdGeom.Scope.Define(self.stage, scope)
        path = self._path(scope, coupling.name)
        prim = self.stage.DefinePrim(path, "Scope")
        named = {self.source.name("joint", index): path for index, path in self.joints.items()}
        targets = [named[name] for name in coupling.joints]
        prim.CreateRelationship(COUPLED, custom=False).SetTargets(targets)
        self._write_spring(prim, coupling)

    def _add_cord(self, cord: passive.Line) -> None:
        """A cord through places in MuJoCo's bodies."""
        scope = self.root.AppendChild("Couplings")
        UsdGeom.Scope.Define(self.stage, scope)
        prim = self.stage.DefinePrim(self._path(scope, cord.name), "Scope")
        holders, points = [], []
        for body, point in zip(cord.bodies, cord.points, strict=True):
            place = self.places[body]
            holders.append(place.holder)
            points.append(place.frame.position + place.frame.rotation @ point)
        bodies = sorted({holder for holder in holders if holder != WORLD})
        targets = [self.paths[body] for body in bodies]
        prim.CreateRelationship(CORD_BODIES, custom=False).SetTargets(targets)
        numbers = prim.CreateAttribute(CORD_NUMBERS, Sdf.ValueTypeNames.IntArray, custom=False)
        numbers.Set(Vt.IntArray([-1 if h == WORLD else bodies.index(h) for h in holders]))
        joints.write_doubles(prim, CORD_POINTS, np.concatenate(points))
        self._write_spring(prim, cord)

    def _write_spring(self, prim: Usd.Prim, spring: Coupling | passive.Line) -> None:
        for name, values in (
            (WEIGHTS, spring.weights),
            (STIFFNESS, [spring.stiffness]),
            (DAMPING, [spring.damping]),
            (RANGE, [spring.low, spring.high]),
        ):
            joints.write_doubles(prim, name, np.asarray(values))
        self._keep_name(prim.GetPath(), spring.name)

    def _holder_of(self, body: int) -> joints.Side:
        """What a body hangs on, and its frame there before its joints move it."""
        model, parent = self.model, int(self.model.body_parentid[body])
        where = self.places[parent]
        local = frame_of(model.body_pos[body], model.body_quat[body])
        path = None if where.holder == WORLD else self.paths[where.holder]
        return path, where.frame.then(local)

    def _add_joint(self, joint: int, side: joints.Side, child: Sdf.Path) -> None:
        """A joint from a frame of the parent, in which the child's frame lies at q = ref."""
        model, source = self.model, self.source
        name, anchors = source.name("joint", joint), joints.anchors_of(model, joint)
        path = self.joints[joint] = self._path(self.root.AppendChild("Joints"), name)
        type_name = joints.TYPES[joint_kind(model, joint)]
        parent = (side[0], side[1].then(anchors.parent))
        prim = joints.define_joint(self.stage, path, type_name, parent, (child, anchors.child))
        self._keep_name(path, name)
        if type_name == "PhysicsSphericalJoint":
            dof = int(model.jnt_dofadr[joint])
            joints.write_float(prim, "newton:armature", float(model.dof_armature[dof]))
            if passive.acts(source, "DAMPER"):
                damping = float(model.dof_damping[dof]) * np.pi / 180.0  # for each degree
                joints.write_float(prim, "newton:damping", damping)
            joints.write_ball(prim, source, joint)
        else:
            joints.write_axis(prim, source, joint)
        joints.write_keyframes(prim, source, joint)

    def _add_rigid(self, name: str, frame: Frame, mass: MassProperties) -> Sdf.Path:
        path = self._path(self.root, name)
        xform = UsdGeom.Xform.Define(self.stage, path)
        place(xform.GetPrim(), frame)
        UsdPhysics.RigidBodyAPI.Apply(xform.GetPrim())
        api = UsdPhysics.MassAPI.Apply(xform.GetPrim())
        diagonal, axes = np.linalg.eigh(0.5 * (mass.inertia + mass.inertia.T))
        if np.linalg.det(axes) < 0.0:
            axes[:, 0] *= -1.0
        api.CreateMassAttr(mass.mass)
        api.CreateCenterOfMassAttr(Gf.Vec3f(*mass.com.tolist()))
        api.CreateDiagonalInertiaAttr(Gf.Vec3f(*diagonal.tolist()))
        api.CreatePrincipalAxesAttr(Gf.Quatf(quat_of(axes)))
        self._keep_name(path, name)
        return path

    # Shapes -------------------------------------------------------------------------------------

    def _add_shapes(self) -> None:
        model, source = self.model, self.source
        contact = self._add_contact() if self.touching else None
        visible = visible_geoms(source, self.touching)
        for geom in range(model.ngeom):
            body, touches = int(model.geom_bodyid[geom]), geom in self.touching
            if body == WORLD or not (touches or geom in visible):
                continue
            path = self._path(self.paths[body], source.name("geom", geom))
            material = contact if touches else None
            write_geom(self.stage, path, source, geom, visible=geom in visible, contact=material)

    def _add_contact(self) -> UsdShade.Material:
        """The one material of all that touches the ground."""
        model = self.model
        moving = model.body_weldid > 0
        weight = 9.81 * float(model.body_mass[moving].sum())
        stiffness = weight / (_PRESSED * _size(model))
        material = UsdShade.Material.Define(self.stage, self.root.AppendPath("Looks/contact"))
        prim = material.GetPrim()
        physics = UsdPhysics.MaterialAPI.Apply(prim)
        frictions = sliding_friction(self.source, self.touching)
        friction = max(frictions, key=lambda value: len(frictions[value]))
        physics.CreateDynamicFrictionAttr(friction)
        physics.CreateStaticFrictionAttr(friction)
        physics.CreateRestitutionAttr(0.0)
        joints.write_float(prim, "newton:contactStiffness", stiffness)
        joints.write_float(prim, "newton:contactFrictionGain", _FRICTION * stiffness)
        joints.write_float(prim, "gippo:contactDampingPerDepth", _DAMPING * stiffness)
        return material


def _trace_of(mass: MassProperties, at: np.ndarray) -> MassProperties:
    """Next to no mass, at a point: of what stands between two joints of one body."""
    reach = float(np.linalg.eigvalsh(mass.inertia)[-1])
    return MassProperties(_BETWEEN * mass.mass, at, _BETWEEN * reach * np.eye(3))


def _size(model: Any) -> float:
    """The longest edge of the box around the moving geoms' bounding spheres [m]."""
    data = import_mujoco().MjData(model)
    import_mujoco().mj_kinematics(model, data)
    moving = [g for g in range(model.ngeom) if model.body_weldid[model.geom_bodyid[g]] > 0]
    reach = np.array(model.geom_rbound[moving])[:, None]
    centres = np.array(data.geom_xpos[moving])
    return float(np.max((centres + reach).max(axis=0) - (centres - reach).min(axis=0)))
