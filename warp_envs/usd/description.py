"""What a robot is, as plain numbers: bodies, joints, shapes and their mass, in SI units.

Everything is float64 and cannot be changed after construction; every class checks its values when
it is made. Quaternions are (x, y, z, w) of unit length, frames are right-handed, z points up.

Conventions, for body `i` with parent `p` (-1: the world):

    X_i = X_p * (parent_position, parent_rotation) * J(q) * inverse(child_position, child_rotation)

where `J(q)` turns about, or slides along, `Joint.axis`, given in the joint's own frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from warp_envs.checks import ArgumentError
from warp_envs.usd.ground import Ground, Plane
from warp_envs.usd.passive import Cord, Coupling, Drag

SHAPE_KINDS = ("sphere", "capsule", "box", "cylinder", "ellipsoid", "mesh")
JOINT_KINDS = ("fixed", "revolute", "prismatic", "spherical", "free")

# Numbers of coordinates and of degrees of freedom of each kind of joint (Newton's layout).
JOINT_NQ = {"fixed": 0, "revolute": 1, "prismatic": 1, "spherical": 4, "free": 7}
JOINT_NV = {"fixed": 0, "revolute": 1, "prismatic": 1, "spherical": 3, "free": 6}


def _origin() -> np.ndarray:
    return np.zeros(3)


def _identity_quat() -> np.ndarray:
    return np.array([0.0, 0.0, 0.0, 1.0])


def _everything() -> np.ndarray:
    return np.array([-np.inf, np.inf])


def _unit_x() -> np.ndarray:
    return np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True, eq=False)
class Shape:
    """A solid of uniform density, fixed to a body.

    Attributes:
        kind: "sphere", "capsule" (a cylinder along local z with half-sphere ends), "box",
            "cylinder" (along local z), "ellipsoid" or "mesh" (the convex hull of its points).
        position: centre in the body's frame [m], shape (3,).
        rotation: orientation in the body's frame, unit quaternion xyzw, shape (4,).
        radius: of the sphere, capsule or cylinder [m].
        half_length: of the capsule's axis, without its ends, or of the cylinder's [m].
        half_extents: of the box or ellipsoid along its own axes [m], shape (3,).
        points: of the mesh along its own axes [m], shape (n, 3).
        density: [kg/m^3]; zero for a shape that adds no mass.
        collides: whether it touches the ground.
        path: of the prim it was read from.
    """

    kind: str
    position: np.ndarray = field(default_factory=_origin)
    rotation: np.ndarray = field(default_factory=_identity_quat)
    radius: float = 0.0
    half_length: float = 0.0
    half_extents: np.ndarray = field(default_factory=_origin)
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    density: float = 1000.0
    collides: bool = True
    path: str = ""

    def __post_init__(self) -> None:
        """Check and freeze.

        Raises:
            ValueError: naming the field, its value and what is accepted.
        """
        _choice(self, "kind", SHAPE_KINDS)
        count = len(self.points)
        _freeze(self, position=(3,), rotation=(4,), half_extents=(3,), points=(count, 3))
        _number(self, "density", low=0.0)
        _number(self, "radius", low=0.0, strict=self.kind in ("sphere", "capsule", "cylinder"))
        _number(self, "half_length", low=0.0, strict=self.kind == "cylinder")
        _unit(self, "rotation")
        if self.kind in ("box", "ellipsoid") and not np.all(self.half_extents > 0.0):
            raise _error(self, "half_extents", f"three positive lengths of the {self.kind}")
        if self.kind == "mesh" and count == 0:
            raise _error(self, "points", "at least one point of a mesh")


@dataclass(frozen=True, eq=False)
class Joint:
    """What holds a body to its parent, and the passive torques or forces of it.

    On revolute and prismatic joints acts
    ``-damping qd - stiffness (q - rest) + limit_ke * violation - limit_kd qd`` (the last always),
    beside the applied force f, of which a servo makes ``clip(f - servo_kp q - servo_kd qd)``. On a
    spherical joint, with r the rotation vector of the child's anchor against the parent's, acts
    ``-damping qd - (stiffness + limit_ke max(|r| - upper, 0) / |r|) r``.

    Attributes:
        name: last part of the prim's path, unique among siblings.
        path: of the joint's prim; of the body's for a free joint.
        kind: "fixed", "revolute", "prismatic", "spherical" or "free".
        parent_position: anchor in the parent body's frame, or the world's [m], shape (3,).
        parent_rotation: its orientation there, unit quaternion xyzw, shape (4,).
        child_position: the same anchor in the child body's frame [m], shape (3,).
        child_rotation: its orientation there, unit quaternion xyzw, shape (4,).
        axis: of rotation or sliding, in the joint's frame, unit, shape (3,).
        lower: least coordinate [rad or m], -inf if none.
        upper: greatest coordinate [rad or m], of a spherical joint greatest |r|, +inf if none.
        armature: added to the mass matrix's diagonal for each degree of freedom [kg m^2 or kg].
        damping: [N m s/rad or N s/m].
        stiffness: of a spring towards `rest` [N m/rad or N/m].
        rest: coordinate at which that spring is slack [rad or m].
        limit_ke: spring outside the range [N m/rad or N/m].
        limit_kd: damping that goes with the limits and acts always [N m s/rad or N s/m].
        force_range: least and greatest force of all actuators together [N or N m], shape (2,).
        keyframes: name of a pose -> the joint's coordinates in it, shape (nq,).
        servo_kp: what a servo takes off the applied force for each coordinate [N m/rad or N/m].
        servo_kd: the same for each velocity [N m s/rad or N s/m].
        servo_range: least and greatest of the applied force less that [N m or N], shape (2,).
    """

    name: str
    path: str = ""
    kind: str = "free"
    parent_position: np.ndarray = field(default_factory=_origin)
    parent_rotation: np.ndarray = field(default_factory=_identity_quat)
    child_position: np.ndarray = field(default_factory=_origin)
    child_rotation: np.ndarray = field(default_factory=_identity_quat)
    axis: np.ndarray = field(default_factory=_unit_x)
    lower: float = -np.inf
    upper: float = np.inf
    armature: float = 0.0
    damping: float = 0.0
    stiffness: float = 0.0
    rest: float = 0.0
    limit_ke: float = 0.0
    limit_kd: float = 0.0
    force_range: np.ndarray = field(default_factory=_everything)
    keyframes: Mapping[str, np.ndarray] = field(default_factory=dict)
    servo_kp: float = 0.0
    servo_kd: float = 0.0
    servo_range: np.ndarray = field(default_factory=_everything)

    def __post_init__(self) -> None:
        """Check and freeze.

        Raises:
            ValueError: naming the field, its value and what is accepted.
        """
        _choice(self, "kind", JOINT_KINDS)
        _freeze(self, parent_position=(3,), parent_rotation=(4,))
        _freeze(self, child_position=(3,), child_rotation=(4,), axis=(3,))
        for name in ("parent_rotation", "child_rotation", "axis"):
            _unit(self, name)
        for name in ("armature", "damping", "stiffness", "limit_ke", "limit_kd"):
            _number(self, name, low=0.0)
        _number(self, "rest")
        if np.isnan(self.lower) or np.isnan(self.upper) or self.lower > self.upper:
            raise _error(self, "lower", f"a number not above upper ({self.upper!r})")
        if self.lower == np.inf or self.upper == -np.inf:
            raise _error(self, "lower", "a range with a number in it")
        object.__setattr__(self, "lower", float(self.lower))
        object.__setattr__(self, "upper", float(self.upper))
        for name in ("force_range", "servo_range"):
            object.__setattr__(self, name, _range(self, name))
        for name in ("servo_kp", "servo_kd"):
            _number(self, name)

    @property
    def nq(self) -> int:
        """Number of coordinates: 1 of a hinge or slide, 4 of a ball, 7 of a free joint."""
        return JOINT_NQ[self.kind]

    @property
    def nv(self) -> int:
        """Number of degrees of freedom: 1 of a hinge or slide, 3 of a ball, 6 of a free joint."""
        return JOINT_NV[self.kind]


@dataclass(frozen=True, eq=False)
class Body:
    """A rigid body and the joint that holds it.

    Attributes:
        name: last part of the prim's path.
        path: of the prim.
        parent: index of the parent in `RobotDescription.bodies`, -1 for the world.
        joint: the joint to the parent.
        mass: [kg]; zero only when welded to the parent by a fixed joint.
        com: centre of mass in the body's frame [m], shape (3,).
        inertia: about the centre of mass, body axes [kg m^2], symmetric, shape (3, 3). No triangle
            inequality is asked of its eigenvalues: the paper's Ant does not keep it.
        shapes: solids fixed to the body.
        position: of the body's frame in the world at rest, as authored [m], shape (3,).
        rotation: its orientation there, unit quaternion xyzw, shape (4,).
        drags: what resists its motion.
        lift_mass: mass whose weight something takes off it [kg].
        lift_position: where that pulls, in the body's frame [m], shape (3,).
    """

    name: str
    path: str
    parent: int
    joint: Joint
    mass: float
    com: np.ndarray
    inertia: np.ndarray
    shapes: tuple[Shape, ...] = ()
    position: np.ndarray = field(default_factory=_origin)
    rotation: np.ndarray = field(default_factory=_identity_quat)
    drags: tuple[Drag, ...] = ()
    lift_mass: float = 0.0
    lift_position: np.ndarray = field(default_factory=_origin)

    def __post_init__(self) -> None:
        """Check and freeze.

        Raises:
            ValueError: naming the field, its value and what is accepted.
        """
        _freeze(self, com=(3,), inertia=(3, 3), position=(3,), rotation=(4,), lift_position=(3,))
        _number(self, "lift_mass")
        object.__setattr__(self, "drags", tuple(self.drags))
        _unit(self, "rotation")
        object.__setattr__(self, "shapes", tuple(self.shapes))
        _number(self, "mass", low=0.0, strict=self.joint.kind != "fixed")
        scale = float(np.abs(self.inertia).max())
        symmetric = np.allclose(self.inertia, self.inertia.T, rtol=0.0, atol=1e-9 * scale)
        if not symmetric or np.linalg.eigvalsh(self.inertia).min() < -1e-12 * scale:
            raise _error(self, "inertia", "a symmetric tensor without negative eigenvalue")
        if self.joint.kind in ("free", "spherical") and np.linalg.eigvalsh(self.inertia)[0] <= 0.0:
            raise _error(self, "inertia", f"a positive tensor on a {self.joint.kind} joint")


@dataclass(frozen=True, eq=False)
class Actuator:
    """What drives one hinge or slide.

    At control u it pulls at a joint of coordinate q with

        gear * clip(gain u + bias_0 + bias_1 gear q + bias_2 gear qd)

    clipped to `force_range`, and all of a joint together to `Joint.force_range` (MuJoCo's
    documentation, "Computation", Actuation model). A motor has gain 1 and no bias, a position servo
    gain kp and bias (0, -kp, -kv), a velocity servo gain kv and bias (0, 0, -kv).

    Attributes:
        name: as its file has it.
        joint: name of the joint.
        gear: joint force for each newton (metre) of the actuator.
        gain: force for each unit of control.
        bias: force, force for each coordinate, force for each velocity, shape (3,).
        control_range: least and greatest control, infinite where there is none, shape (2,).
        force_range: the same of the force before the gear, shape (2,).
        armature: inertia of its rotor, which the joint feels gear^2 times [kg m^2 or kg]; what a
            file says of it is in its joint's already.
    """

    name: str
    joint: str
    gear: float = 1.0
    gain: float = 1.0
    bias: np.ndarray = field(default_factory=_origin)
    control_range: np.ndarray = field(default_factory=_everything)
    force_range: np.ndarray = field(default_factory=_everything)
    armature: float = 0.0

    def __post_init__(self) -> None:
        """Check and freeze.

        Raises:
            ValueError: naming the field, its value and what is accepted.
        """
        _number(self, "armature", low=0.0)
        _number(self, "gear")
        _number(self, "gain")
        _freeze(self, bias=(3,))
        for name in ("control_range", "force_range"):
            object.__setattr__(self, name, _range(self, name))

    @property
    def kind(self) -> str:
        """One of "motor", "position" and "velocity" (servos) and "general"."""
        if not np.any(self.bias):
            return "motor"
        if self.bias[0] == 0.0 and self.bias[1] == -self.gain:
            return "position"
        if not np.any(self.bias[:2]) and self.bias[2] == -self.gain:
            return "velocity"
        return "general"


@dataclass(frozen=True)
class ContactMaterial:
    """Penalty contact with the ground.

    Attributes:
        ke: normal stiffness [N/m].
        kd: normal damping for each metre of depth [N s/m^2].
        kf: friction force for each speed of sliding, below the Coulomb bound [N s/m].
        mu: Coulomb friction coefficient.
    """

    ke: float
    kd: float
    kf: float
    mu: float

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: naming the field, its value and what is accepted.
        """
        _number(self, "ke", low=0.0, strict=True)
        for name in ("kd", "kf", "mu"):
            _number(self, name, low=0.0)


@dataclass(frozen=True, eq=False)
class RobotDescription:
    """A tree of bodies, or several.

    Attributes:
        name: of the file's default prim.
        path: of the file.
        bodies: parents before children, siblings in the file's order.
        gravity: acceleration [m/s^2], world axes, shape (3,).
        contact: with the ground, None where nothing touches it.
        actuators: what the file says drives the joints, in its order.
        ground: what it is.
        notes: what of the file plays no part, a sentence each.
        couplings: of hinges and slides with each other.
        cords: springs from point to point of bodies.
        implicit_damping: whether the joints' damping, that of their limits included, acts at the
            velocity after a substep instead of the one before.
    """

    name: str
    path: str
    bodies: tuple[Body, ...]
    gravity: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0, -9.81]))
    contact: ContactMaterial | None = None
    actuators: tuple[Actuator, ...] = ()
    ground: Ground = field(default_factory=Plane)
    notes: tuple[str, ...] = ()
    couplings: tuple[Coupling, ...] = ()
    cords: tuple[Cord, ...] = ()
    implicit_damping: bool = False

    def __post_init__(self) -> None:
        """Check and freeze.

        Raises:
            ValueError: no bodies, a parent that does not come before its child, a coupling of
                what is no hinge or slide, or a cord at a body that is none of them.
        """
        _freeze(self, gravity=(3,))
        object.__setattr__(self, "bodies", tuple(self.bodies))
        if not self.bodies:
            raise ArgumentError("bodies", "none", "at least one")
        for index, body in enumerate(self.bodies):
            if not -1 <= body.parent < index:
                raise ArgumentError(
                    f"bodies[{index}].parent ({body.path or body.name})",
                    repr(body.parent),
                    "-1 or the index of an earlier body",
                )
        object.__setattr__(self, "couplings", tuple(self.couplings))
        single = ("revolute", "prismatic")
        names = [body.joint.name for body in self.bodies if body.joint.kind in single]
        for coupling in self.couplings:
            for name in coupling.joints:
                if name not in names:
                    raise ArgumentError(f"coupling {coupling.name}", repr(name), f"of {names}")
        object.__setattr__(self, "cords", tuple(self.cords))
        paths = ["", *(body.path for body in self.bodies)]
        for cord in self.cords:
            for path in cord.bodies:
                if path not in paths:
                    raise ArgumentError(f"cord {cord.name}", repr(path), f"of {paths}")

    @property
    def touches_ground(self) -> bool:
        """Whether anything of it touches the ground."""
        shapes = (shape for body in self.bodies for shape in body.shapes)
        return self.contact is not None and any(shape.collides for shape in shapes)

    @property
    def nq(self) -> int:
        """Number of coordinates."""
        return sum(body.joint.nq for body in self.bodies)

    @property
    def nv(self) -> int:
        """Number of degrees of freedom."""
        return sum(body.joint.nv for body in self.bodies)


def rotation_matrix(quat: ArrayLike) -> np.ndarray:
    """The (3, 3) matrix of a unit quaternion (x, y, z, w)."""
    x, y, z, w = np.asarray(quat, dtype=np.float64)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _error(owner: Any, name: str, accepted: str) -> ArgumentError:
    """The error for a field: its owner's prim, the field, its value, what is accepted."""
    prim = getattr(owner, "path", "") or getattr(owner, "name", "")
    value = getattr(owner, name)
    shown = value.tolist() if isinstance(value, np.ndarray) else value
    return ArgumentError(f"{prim}: {name}" if prim else name, repr(shown), accepted)


def _choice(owner: Any, name: str, accepted: Sequence[str]) -> None:
    if getattr(owner, name) not in accepted:
        raise _error(owner, name, f"one of {list(accepted)}")


def _number(owner: Any, name: str, *, low: float = -np.inf, strict: bool = False) -> None:
    """Turn a field into a float; refuse one that is not finite or below (or at) `low`."""
    value = getattr(owner, name)
    bound = "a finite number" if low == -np.inf else f"a finite number {'>' if strict else '>='} 0"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _error(owner, name, bound) from None
    if not np.isfinite(number) or number < low or (strict and number <= low):
        raise _error(owner, name, bound)
    object.__setattr__(owner, name, number)


def _freeze(owner: Any, **shapes: tuple[int, ...]) -> None:
    """Replace array fields by read-only float64 copies; refuse a wrong shape or a non-number."""
    assert set(shapes) <= {f.name for f in fields(owner)}
    for name, shape in shapes.items():
        accepted = f"finite numbers of shape {shape}"
        try:
            array = np.array(getattr(owner, name), dtype=np.float64)
        except (TypeError, ValueError):
            raise _error(owner, name, accepted) from None
        if array.shape != shape or not np.all(np.isfinite(array)):
            raise _error(owner, name, accepted)
        array.setflags(write=False)
        object.__setattr__(owner, name, array)


def _range(owner: Any, name: str) -> np.ndarray:
    """A field of two numbers, the first not above the second, as a read-only array."""
    array = np.array(getattr(owner, name), dtype=np.float64)
    if array.shape != (2,) or np.any(np.isnan(array)) or array[0] > array[1]:
        raise _error(owner, name, "two numbers, the lesser first")
    array.setflags(write=False)
    return array


def _unit(owner: Any, name: str) -> None:
    """Refuse a vector or quaternion whose length is not one (to 1e-6), then make it exact."""
    array = getattr(owner, name)
    length = float(np.linalg.norm(array))
    if abs(length - 1.0) > 1e-6:
        raise _error(owner, name, "one of unit length")
    array = array / length
    array.setflags(write=False)
    object.__setattr__(owner, name, array)
