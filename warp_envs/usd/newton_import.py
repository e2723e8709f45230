"""Robots from MJCF and URDF, through the importers of Newton, as the UsdPhysics files used here.

    from warp_envs.usd.newton_import import convert_robot
    left_out = convert_robot("robot.xml", "robot.usda")

Newton (https://github.com/newton-physics/newton), the extra ``gippo[newton]``, reads the file;
bodies, joints and shapes are then written as `warp_envs.usd.loader` reads them: everything that a
robot can be is said in one format, which other programs open, too.

Taken over are bodies with their mass and inertia; fixed, hinge, slide, ball and free joints and
chains of several on one body, with limits, damping, springs and armature; spheres, capsules and
boxes, which touch the ground; other shapes to look at. Limits get this project's stiffness, and the
ground a contact as soft for the robot's weight and size as the Ant's. What is left out is listed;
what cannot be left out (loops, coupled joints) is refused.
"""

from __future__ import annotations

import os
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from pxr import Gf, Sdf, Tf, Usd, UsdGeom, UsdPhysics, UsdShade

from warp_envs.checks import ArgumentError
from warp_envs.usd.loader import load_robot
from warp_envs.usd.scene import Look, add_look, add_mesh, bind
from warp_envs.usd.stage import quat_of_matrix

SOURCES = (".xml", ".mjcf", ".urdf")

_CARRIER = 1e-9  # mass [kg] and inertia [kg m^2] of what parts the joints of one body
_AT_ORIGIN = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
_FAR = 1e6  # limits beyond are none [rad or m]
# Of the ground under the Ant, for each newton of the contact's stiffness.
_PRESSED = 0.02  # how deep the robot's weight on one point goes, of its size
_DAMPING, _FRICTION = 0.25, 0.075  # [s/m]


class Dof(NamedTuple):
    """One degree of freedom of a joint, as Newton has it."""

    name: str
    angular: bool
    axis: np.ndarray
    values: dict[str, float]


def import_newton() -> ModuleType:
    """Newton, if it is installed.

    Raises:
        ValueError: it is not; the message names the extra.
    """
    try:
        import newton  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        hint = f"not installed ({error}); pip install 'gippo[newton]' brings it"
        raise ArgumentError("newton", hint) from error
    return newton


def convert_robot(source: str | os.PathLike[str], usd_path: str | os.PathLike[str]) -> list[str]:
    """Turn an MJCF or URDF file into a UsdPhysics file that `Articulation.from_usd` reads.

    Args:
        source: the robot, ending in .xml or .mjcf (MJCF) or in .urdf.
        usd_path: the file to write, .usda or .usdc.

    Returns:
        What of the source is not in the file, one sentence each.

    Raises:
        ValueError: Newton is not installed, or a robot that cannot be read or simulated.
    """
    source, usd_path = Path(source), Path(usd_path)
    if not source.is_file() or source.suffix.lower() not in SOURCES:
        raise ArgumentError("source", repr(str(source)), f"a file ending in {SOURCES}")
    if usd_path.suffix not in (".usda", ".usdc"):
        raise ArgumentError("usd_path", repr(str(usd_path)), "a .usda or .usdc file")
    builder = _read(source)
    with tempfile.TemporaryDirectory(dir=usd_path.parent) as folder:
        work = Path(folder) / usd_path.name
        writer = _Writer(builder, source, work)
        writer.write()
        try:
            load_robot(work)
        except ValueError as error:
            given, key = (
                text.replace(str(work), str(usd_path)) for text in (error.given, error.key)
            )
            raise ArgumentError(f"{source}: {key}", given, error.accepted, error.hint) from error
        os.replace(work, usd_path)
    return writer.left_out


def _read(source: Path) -> Any:
    """Newton's builder with the robot in it."""
    newton = import_newton()
    builder = newton.ModelBuilder()
    urdf = source.suffix.lower() == ".urdf"
    try:
        tree = ET.parse(source)
        if urdf:
            builder.add_urdf(str(source.resolve()), up_axis=newton.Axis.Z)
        else:
            builder.add_mjcf(str(source.resolve()), up_axis=newton.Axis.Z)
    except (ValueError, KeyError, TypeError, OSError, ImportError, ET.ParseError) as error:
        raise ArgumentError(str(source), f"Newton cannot read it: {error}") from error
    if not urdf:
        _refuse_joints_apart(source, tree)
    if builder.body_count == 0:
        raise ArgumentError(str(source), "no bodies", "one or more")
    return builder


def _refuse_joints_apart(source: Path, tree: ET.ElementTree) -> None:
    """Refuse joints of one body that Newton would put at one place, or in another order."""
    for body in tree.iter("body"):
        joints = body.findall("joint")
        places = {tuple(map(float, joint.get("pos", "0 0 0").split())) for joint in joints}
        kinds = [joint.get("type", "hinge") for joint in joints]
        name = body.get("name", "?")
        if len(places) > 1:
            given = f"body {name!r} with joints at several places"
            raise ArgumentError(str(source), given, "one")
        if "slide" in kinds[1:] and "hinge" in kinds[: len(kinds) - kinds[::-1].index("slide")]:
            given = f"body {name!r} that slides after it turns"
            raise ArgumentError(str(source), given, "the other way")


class _Writer:
    """Writes what a builder holds as one stage, every body below the robot's prim."""

    def __init__(self, builder: Any, source: Path, path: Path) -> None:
        self.newton = import_newton()
        self.builder, self.source = builder, source
        self.left_out: list[str] = []
        self.stage = Usd.Stage.CreateNew(str(path))
        self.root = Sdf.Path("/" + Tf.MakeValidIdentifier(source.stem))
        self.names: set[str] = {"Looks", "Joints"}
        self.bodies: list[Sdf.Path] = []
        self.carriers: dict[int, list[Sdf.Path]] = {}  # of a joint with several coordinates
        self.joint_names = _names_of_joints(source)

    def write(self) -> None:
        """Everything, and save."""
        stage, builder = self.stage, self.builder
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
        stage.SetTimeCodesPerSecond(60.0)
        stage.SetFramesPerSecond(60.0)
        robot = UsdGeom.Xform.Define(stage, self.root).GetPrim()
        stage.SetDefaultPrim(robot)
        Usd.ModelAPI(robot).SetKind("component")
        UsdPhysics.ArticulationRootAPI.Apply(robot)
        UsdGeom.Scope.Define(stage, self.root.AppendChild("Looks"))
        UsdGeom.Scope.Define(stage, self.root.AppendChild("Joints"))
        self.contact = self._add_contact()
        held_by = {child: joint for joint, child in enumerate(builder.joint_child)}
        for body in range(builder.body_count):
            if body in held_by:
                self._add_carriers(held_by[body])
            self._add_body(body)
        for joint in range(builder.joint_count):
            self._add_joint(joint)
        for shape in range(builder.shape_count):
            self._add_shape(shape)
        stage.GetRootLayer().comment = f"{self.source.name}, converted by gippo through Newton"
        stage.Save()

    # Bodies -------------------------------------------------------------------------------------

    def _path(self, label: str, parent: Sdf.Path | None = None) -> Sdf.Path:
        """A path for the last part of a label, unlike all others."""
        name = wanted = Tf.MakeValidIdentifier(label.rsplit("/", 1)[-1] or "unnamed")
        number = 1
        while name in self.names:
            number += 1
            name = f"{wanted}_{number}"
        self.names.add(name)
        return (parent or self.root).AppendChild(name)

    def _add_body(self, body: int) -> None:
        builder = self.builder
        path = self._path(builder.body_label[body])
        self.bodies.append(path)
        inertia = np.array(builder.body_inertia[body], dtype=np.float64).reshape(3, 3)
        place = np.array(builder.body_q[body], dtype=np.float64)
        com = np.array(builder.body_com[body], dtype=np.float64)
        self._write_body(path, place, float(builder.body_mass[body]), com, inertia)

    def _write_body(
        self, path: Sdf.Path, place: np.ndarray, mass: float, com: np.ndarray, inertia: np.ndarray
    ) -> None:
        xform = UsdGeom.Xform.Define(self.stage, path)
        _place(xform, place)
        UsdPhysics.RigidBodyAPI.Apply(xform.GetPrim())
        api = UsdPhysics.MassAPI.Apply(xform.GetPrim())
        diagonal, axes = np.linalg.eigh(0.5 * (inertia + inertia.T))
        if np.linalg.det(axes) < 0.0:
            axes[:, 0] *= -1.0
        api.CreateMassAttr(mass)
        api.CreateCenterOfMassAttr(Gf.Vec3f(*com.tolist()))
        api.CreateDiagonalInertiaAttr(Gf.Vec3f(*diagonal.tolist()))
        api.CreatePrincipalAxesAttr(Gf.Quatf(_quat(quat_of_matrix(axes))))

    # Joints -------------------------------------------------------------------------------------

    def _add_joint(self, joint: int) -> None:
        builder, kinds = self.builder, self.newton.JointType
        label, kind = builder.joint_label[joint], kinds(builder.joint_type[joint])
        parent, child = builder.joint_parent[joint], builder.joint_child[joint]
        if builder.joint_mimic_joint[joint] >= 0:
            given = f"joint {label!r} that follows another"
            raise ArgumentError(str(self.source), given, "one that moves by itself")
        dofs = self._dofs(joint)
        if kind == kinds.FREE:
            return  # what no joint holds is free
        if kind in (kinds.FIXED, kinds.BALL):
            type_name = "PhysicsFixedJoint" if kind == kinds.FIXED else "PhysicsSphericalJoint"
            sides = (self._side(parent, joint), self._child_side(child, joint))
            prim = self._define_joint(type_name, label, *sides)
            if kind == kinds.BALL:
                self._write_ball(prim, dofs)
            return
        if kind not in (kinds.REVOLUTE, kinds.PRISMATIC, kinds.D6) or not dofs:
            given = f"joint {label!r} of the kind {kind.name.lower()}"
            accepted = "fixed, hinge, slide, ball or free ones"
            raise ArgumentError(str(self.source), given, accepted)
        below = self._side(parent, joint)
        for number, dof in enumerate(dofs):
            last = number == len(dofs) - 1
            above = (
                self._child_side(child, joint)
                if last
                else (self.carriers[joint][number], _AT_ORIGIN)
            )
            self._add_axis(dof, below, above)
            below = (above[0], _AT_ORIGIN)

    def _dofs(self, joint: int) -> list[Dof]:
        builder = self.builder
        first, place = builder.joint_qd_start[joint], builder.joint_q_start[joint]
        linear, angular = builder.joint_dof_dim[joint]
        label = builder.joint_label[joint].rsplit("/", 1)[-1]
        child = builder.body_label[builder.joint_child[joint]].rsplit("/", 1)[-1]
        names = self.joint_names.get(child, [])
        if len(names) != linear + angular:
            names = (
                [label]
                if linear + angular == 1
                else [f"{label}_{k}" for k in range(linear + angular)]
            )
        found = []
        for number, name in enumerate(names):
            values = {
                key: float(getattr(builder, f"joint_{key}")[first + number])
                for key in (
                    "armature",
                    "damping",
                    "stiffness",
                    "limit_lower",
                    "limit_upper",
                    "friction",
                    "target_ke",
                    "target_kd",
                )
            }
            values["rest"] = float(builder.joint_rest_q[place + number])
            axis = np.array(builder.joint_axis[first + number], dtype=np.float64)
            found.append(Dof(name, number >= linear, axis, values))
        return found

    def _side(self, body: int, joint: int) -> tuple[Sdf.Path | None, np.ndarray]:
        anchor = np.array(self.builder.joint_X_p[joint], dtype=np.float64)
        return (None if body < 0 else self.bodies[body]), anchor

    def _child_side(self, body: int, joint: int) -> tuple[Sdf.Path, np.ndarray]:
        return self.bodies[body], np.array(self.builder.joint_X_c[joint], dtype=np.float64)

    def _add_carriers(self, joint: int) -> None:
        """Bodies without noticeable mass that part the coordinates of one joint."""
        builder = self.builder
        self.carriers[joint] = []
        if self.newton.JointType(builder.joint_type[joint]) != self.newton.JointType.D6:
            return
        place = _then(builder.body_q[builder.joint_child[joint]], builder.joint_X_c[joint])
        for dof in self._dofs(joint)[:-1]:
            path = self._path(f"{dof.name}_carrier")
            self.carriers[joint].append(path)
            self._write_body(path, place, _CARRIER, np.zeros(3), _CARRIER * np.eye(3))

    def _define_joint(
        self,
        type_name: str,
        label: str,
        side0: tuple[Sdf.Path | None, np.ndarray],
        side1: tuple[Sdf.Path | None, np.ndarray],
        turn: np.ndarray | None = None,
    ) -> Usd.Prim:
        """A joint between two anchors, both turned by the same rotation matrix."""
        prim = self.stage.DefinePrim(self._path(label, self.root.AppendChild("Joints")), type_name)
        joint = UsdPhysics.Joint(prim)
        sides = (
            (side0, joint.CreateBody0Rel(), joint.CreateLocalPos0Attr, joint.CreateLocalRot0Attr),
            (side1, joint.CreateBody1Rel(), joint.CreateLocalPos1Attr, joint.CreateLocalRot1Attr),
        )
        for (body, anchor), relationship, set_position, set_rotation in sides:
            if body is not None:
                relationship.SetTargets([body])
            set_position(Gf.Vec3f(*anchor[:3].tolist()))
            rotation = Gf.Rotation(_quat(anchor[3:]))
            if turn is not None:
                rotation = Gf.Rotation(_quat(quat_of_matrix(turn))) * rotation
            set_rotation(Gf.Quatf(rotation.GetQuat()))
        return prim

    def _add_axis(
        self,
        dof: Dof,
        side0: tuple[Sdf.Path | None, np.ndarray],
        side1: tuple[Sdf.Path, np.ndarray],
    ) -> None:
        """A hinge or slide along x of a frame that is turned so that x is the axis."""
        type_name = "PhysicsRevoluteJoint" if dof.angular else "PhysicsPrismaticJoint"
        prim = self._define_joint(type_name, dof.name, side0, side1, _x_along(dof.axis))
        # UsdPhysics has degrees, also in gains.
        coordinate = np.degrees(1.0) if dof.angular else 1.0
        schema = UsdPhysics.RevoluteJoint(prim) if dof.angular else UsdPhysics.PrismaticJoint(prim)
        schema.CreateAxisAttr("X")
        values = dof.values
        for bound, create in (
            (values["limit_lower"], schema.CreateLowerLimitAttr),
            (values["limit_upper"], schema.CreateUpperLimitAttr),
        ):
            if abs(bound) < _FAR:
                create(bound * coordinate)
        _write_float(prim, "newton:armature", values["armature"])
        _write_float(prim, "newton:damping", values["damping"] / coordinate)
        if values["stiffness"] > 0.0:
            drive = UsdPhysics.DriveAPI.Apply(prim, "angular" if dof.angular else "linear")
            drive.CreateTypeAttr("force")
            drive.CreateStiffnessAttr(values["stiffness"] / coordinate)
            drive.CreateDampingAttr(0.0)
            drive.CreateTargetPositionAttr(values["rest"] * coordinate)
        self._tell_of(dof)

    def _tell_of(self, dof: Dof) -> None:
        if dof.values["friction"] > 0.0:
            self.left_out.append(f"dry friction of joint {dof.name}")
        if dof.values["target_ke"] > 0.0 or dof.values["target_kd"] > 0.0:
            self.left_out.append(f"the servo of joint {dof.name}: actions are torques or forces")

    def _write_ball(self, prim: Usd.Prim, dofs: list[Dof]) -> None:
        _write_float(prim, "newton:armature", dofs[0].values["armature"])
        for key, what in (("damping", "damping"), ("stiffness", "spring")):
            if any(dof.values[key] > 0.0 for dof in dofs):
                self.left_out.append(f"{what} of ball joint {prim.GetName()}")

    # Shapes -------------------------------------------------------------------------------------

    def _add_shape(self, shape: int) -> None:
        builder = self.builder
        body, flags = builder.shape_body[shape], builder.shape_flags[shape]
        kinds, masks = self.newton.GeoType, self.newton.ShapeFlags
        kind = kinds(builder.shape_type[shape])
        label = builder.shape_label[shape].rsplit("/", 1)[-1]
        if body < 0:
            if kind != kinds.PLANE:
                self.left_out.append(f"shape {label} of the world")
            return
        touches = bool(flags & masks.COLLIDE_SHAPES) or bool(flags & masks.COLLIDE_PARTICLES)
        if not touches and not flags & masks.VISIBLE:
            return
        path = self._path(label, self.bodies[body])
        size = np.array(builder.shape_scale[shape], dtype=np.float64)
        made = self._geometry(kind, path, size, builder.shape_source[shape])
        if made is None:
            self.left_out.append(f"shape {label}, a {kind.name.lower()}")
            return
        prim, stretch = made
        place = np.array(builder.shape_transform[shape], dtype=np.float64)
        _place(UsdGeom.Xformable(prim), place, stretch)
        if flags & masks.VISIBLE:
            color = builder.shape_color[shape]
            self._paint(prim, (0.5, 0.5, 0.5) if color is None else tuple(map(float, color)))
        else:  # a body that has shapes to look at hides those that touch
            UsdGeom.Imageable(prim).CreatePurposeAttr(UsdGeom.Tokens.guide)
        if not touches:
            return
        if kind not in (kinds.SPHERE, kinds.CAPSULE, kinds.BOX):
            self.left_out.append(f"contact of shape {label}, a {kind.name.lower()}")
            return
        UsdPhysics.CollisionAPI.Apply(prim)
        binding = UsdShade.MaterialBindingAPI.Apply(prim)
        binding.Bind(self.contact, materialPurpose="physics")

    def _geometry(
        self, kind: Any, path: Sdf.Path, size: np.ndarray, source: Any
    ) -> tuple[Usd.Prim, np.ndarray] | None:
        """A shape's prim and the scale that it needs besides."""
        stage, kinds, one = self.stage, self.newton.GeoType, np.ones(3)
        if kind == kinds.SPHERE or kind == kinds.ELLIPSOID:
            sphere = UsdGeom.Sphere.Define(stage, path)
            radius = float(size[0])
            sphere.CreateRadiusAttr(radius)
            sphere.CreateExtentAttr([(-radius,) * 3, (radius,) * 3])
            return sphere.GetPrim(), one if kind == kinds.SPHERE else size / radius
        if kind == kinds.BOX:
            cube = UsdGeom.Cube.Define(stage, path)
            cube.CreateSizeAttr(2.0)
            cube.CreateExtentAttr([(-1.0,) * 3, (1.0,) * 3])
            return cube.GetPrim(), size
        if kind in (kinds.CAPSULE, kinds.CYLINDER):
            schema = UsdGeom.Capsule if kind == kinds.CAPSULE else UsdGeom.Cylinder
            tube = schema.Define(stage, path)
            radius, half = float(size[0]), float(size[1])
            tube.CreateAxisAttr("Z")
            tube.CreateRadiusAttr(radius)
            tube.CreateHeightAttr(2.0 * half)
            reach = half + (radius if kind == kinds.CAPSULE else 0.0)
            tube.CreateExtentAttr([(-radius, -radius, -reach), (radius, radius, reach)])
            return tube.GetPrim(), one
        if kind in (kinds.MESH, kinds.CONVEX_MESH) and source is not None:
            points = np.asarray(source.vertices, dtype=np.float32).reshape(-1, 3)
            indices = np.asarray(source.indices).reshape(-1)
            mesh = add_mesh(stage, path, points, np.full(len(indices) // 3, 3), indices)
            return mesh.GetPrim(), size
        return None

    def _paint(self, prim: Usd.Prim, color: tuple[float, ...]) -> None:
        number = "_".join(f"{round(255 * part):02x}" for part in color)
        path = self.root.AppendPath(f"Looks/color_{number}")
        if not self.stage.GetPrimAtPath(path):
            add_look(self.stage, path.name, Look(color, 0.45), path.GetParentPath())
        bind(prim, UsdShade.Material.Get(self.stage, path))

    def _add_contact(self) -> UsdShade.Material:
        """The one material of all that touches the ground."""
        builder = self.builder
        weight = 9.81 * sum(builder.body_mass)
        stiffness = weight / (_PRESSED * _size(builder))
        material = UsdShade.Material.Define(self.stage, self.root.AppendPath("Looks/contact"))
        prim = material.GetPrim()
        physics = UsdPhysics.MaterialAPI.Apply(prim)
        touching = [b >= 0 for b in builder.shape_body]
        friction = next((builder.shape_material_mu[s] for s, t in enumerate(touching) if t), 1.0)
        physics.CreateDynamicFrictionAttr(float(friction))
        physics.CreateStaticFrictionAttr(float(friction))
        physics.CreateRestitutionAttr(0.0)
        _write_float(prim, "newton:contactStiffness", stiffness)
        _write_float(prim, "newton:contactFrictionGain", _FRICTION * stiffness)
        _write_float(prim, "gippo:contactDampingPerDepth", _DAMPING * stiffness)
        return material


def _names_of_joints(source: Path) -> dict[str, list[str]]:
    """Of each body of an MJCF file the names of its joints, in their order."""
    if source.suffix.lower() == ".urdf":
        return {}
    found = {}
    for body in ET.parse(source).iter("body"):
        names = [joint.get("name") for joint in body.findall("joint")]
        if body.get("name") and all(names):
            found[body.get("name")] = names
    return found


def _size(builder: Any) -> float:
    """The longest edge of the box around the shapes' centres and ends [m]."""
    lower, upper = np.full(3, np.inf), np.full(3, -np.inf)
    for shape, body in enumerate(builder.shape_body):
        if body < 0:
            continue
        centre = _then(builder.body_q[body], builder.shape_transform[shape])[:3]
        reach = float(np.max(np.abs(np.array(builder.shape_scale[shape]))))
        lower, upper = np.minimum(lower, centre - reach), np.maximum(upper, centre + reach)
    return float(np.max(upper - lower)) if np.all(upper > lower) else 1.0


def _then(outer: Any, inner: Any) -> np.ndarray:
    """The pose (7,) that `inner`, given in `outer`, has where that is given."""
    one, two = np.array(outer, dtype=np.float64), np.array(inner, dtype=np.float64)
    turn = Gf.Rotation(_quat(one[3:]))
    position = one[:3] + np.array(turn.TransformDir(Gf.Vec3d(*two[:3].tolist())))
    quat = (Gf.Rotation(_quat(two[3:])) * turn).GetQuat()
    return np.array([*position, *quat.GetImaginary(), quat.GetReal()])


def _place(xform: UsdGeom.Xformable, place: np.ndarray, scale: np.ndarray | None = None) -> None:
    """Translate, orient and scale of a pose (7,)."""
    xform.AddTranslateOp().Set(Gf.Vec3d(*place[:3].tolist()))
    xform.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(_quat(place[3:]))
    if scale is not None and not np.allclose(scale, 1.0):
        xform.AddScaleOp().Set(Gf.Vec3f(*scale.tolist()))


def _quat(xyzw: np.ndarray) -> Gf.Quatd:
    x, y, z, w = (xyzw / np.linalg.norm(xyzw)).tolist()
    return Gf.Quatd(w, x, y, z)


def _x_along(axis: np.ndarray) -> np.ndarray:
    """A rotation matrix that turns x into an axis."""
    x = axis / np.linalg.norm(axis)
    other = np.eye(3)[int(np.argmin(np.abs(x)))]
    y = np.cross(other, x)
    y /= np.linalg.norm(y)
    return np.column_stack([x, y, np.cross(x, y)])


def _write_float(prim: Usd.Prim, name: str, value: float) -> None:
    prim.CreateAttribute(name, Sdf.ValueTypeNames.Float, custom=False).Set(float(value))
