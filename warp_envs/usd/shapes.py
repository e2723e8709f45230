"""Colliders of a USD body as shapes, its mass by the rules of UsdPhysics, its contact material.

Mass comes from the colliders (with collision disabled too), each at the first density authored of:
its own MassAPI (mass, then density), its body's MassAPI, its physics material, 1000 kg/m^3. The
body's MassAPI then overrides, each on its own: mass (a computed inertia is scaled with it), centre
of mass (a computed inertia is taken about it), and inertia (`newton:inertia` before diagonal
inertia with principal axes). OpenUSD's own computation gives the same, in float32, except that it
leaves colliders with collision disabled out, against the advice of its own warning.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pxr import Usd, UsdShade

from warp_envs.usd.description import ContactMaterial, Shape, rotation_matrix
from warp_envs.usd.hull import convex_hull
from warp_envs.usd.mass import MassProperties, combine_mass_properties, shape_mass_properties
from warp_envs.usd.stage import (
    SCALE_TOLERANCE,
    Frame,
    Stage,
    read_array,
    read_axis,
    read_flag,
    read_gain,
    read_numbers,
    read_points,
    read_quat,
    read_vector,
    refuse,
)

DEFAULT_DENSITY = 1000.0  # [kg/m^3], as UsdPhysics has it

# Contact gains on a physics material. The first two are those of Newton's published USD schema.
# Its damping has another unit (N s/m) than this contact model's (N s/m for each metre of depth).
CONTACT_STIFFNESS = "newton:contactStiffness"
CONTACT_FRICTION_GAIN = "newton:contactFrictionGain"
CONTACT_DAMPING = "gippo:contactDampingPerDepth"

COLLIDERS = ("Sphere", "Capsule", "Cylinder", "Cube", "Mesh")
"""What can be a collider of a robot; a Mesh counts as its convex hull."""

# For each direction of a capsule or cylinder, a rotation that turns z into it.
_FROM_Z = {
    0: np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]),
    1: np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
    2: np.eye(3),
}


def read_shape(stage: Stage, prim: Usd.Prim, body: Usd.Prim, frame: Frame) -> Shape:
    """The shape of a collider.

    Args:
        stage: its file.
        prim: the collider.
        body: the rigid body it belongs to (may be the same prim).
        frame: of the body in the world.

    Raises:
        ValueError: a geometry other than `COLLIDERS`, a capsule scaled unevenly or a cylinder
            across its axis, a size or density that is not positive.
    """
    world, scale = stage.world_frame(prim)
    kind, turn, sizes = _geometry(prim, scale * stage.units.length)
    local = frame.inverse().then(world).then(Frame(np.zeros(3), turn))
    touches = read_flag(prim, "physics:collisionEnabled", True)
    solid = Shape(
        kind=kind,
        position=local.position,
        rotation=local.quat(),
        density=1.0,
        collides=touches and read_contact(stage, prim) is not None,
        path=str(prim.GetPath()),
        **sizes,
    )
    volume = shape_mass_properties(solid).mass
    return replace(solid, density=_density(stage, prim, body, volume))


def _geometry(prim: Usd.Prim, scale: np.ndarray) -> tuple[str, np.ndarray, dict[str, Any]]:
    """Kind, rotation from the shape's axes to the prim's, and sizes [m], given metres per unit."""
    type_name = str(prim.GetTypeName())
    if type_name == "Mesh":
        return "mesh", np.eye(3), {"points": convex_hull(_points(prim) * scale)[0]}
    scale = np.abs(scale)  # a mirror image of what follows is the same solid
    if type_name == "Cube":
        return "box", np.eye(3), {"half_extents": _size(prim, "size", 2.0) * scale / 2.0}
    if type_name not in COLLIDERS:
        raise refuse(
            prim,
            f"a {type_name or 'prim without type'} cannot be a collider of a robot, "
            f"{', '.join(COLLIDERS)} are accepted",
        )
    if type_name == "Sphere":
        radius = _size(prim, "radius", 1.0)
        if np.ptp(scale) > SCALE_TOLERANCE * scale.max():
            return "ellipsoid", np.eye(3), {"half_extents": radius * scale}
        return "sphere", np.eye(3), {"radius": radius * float(scale.mean())}
    return _tube(prim, type_name, scale)


def _tube(
    prim: Usd.Prim, type_name: str, scale: np.ndarray
) -> tuple[str, np.ndarray, dict[str, Any]]:
    """As `_geometry`, of a Capsule or Cylinder."""
    axis = int(np.argmax(read_axis(prim, "axis", "Z")))
    across = np.delete(scale, axis)
    even = scale if type_name == "Capsule" else across
    if np.ptp(even) > SCALE_TOLERANCE * even.max():
        where = "" if type_name == "Capsule" else " across its axis"
        raise refuse(
            prim, f"a {type_name} scaled unevenly{where}, scale {scale}; an even scale is accepted"
        )
    along = float(scale.mean()) if type_name == "Capsule" else float(scale[axis])
    radius = _size(prim, "radius", 0.5 if type_name == "Capsule" else 1.0)
    height = _size(prim, "height", 1.0 if type_name == "Capsule" else 2.0)
    sizes = {"radius": radius * float(even.mean()), "half_length": height * along / 2.0}
    return type_name.lower(), _FROM_Z[axis], sizes


def _points(prim: Usd.Prim) -> np.ndarray:
    """The points of a mesh (n, 3) in its units."""
    points = read_points(prim)
    if not len(points) or not np.all(np.isfinite(points)):
        raise refuse(
            prim, "a Mesh without points or with some that are not finite; others accepted"
        )
    return points


def _size(prim: Usd.Prim, name: str, default: float) -> float:
    """An authored length in the prim's units, or the schema's default."""
    value = read_numbers(prim, name, 1)
    return default if value is None else float(value[0])


def _density(stage: Stage, prim: Usd.Prim, body: Usd.Prim, volume: float) -> float:
    """The density of a collider of a given volume [kg/m^3]; an authored zero means none."""
    for name in ("physics:centerOfMass", "physics:diagonalInertia"):
        if prim != body and read_vector(prim, name) is not None:
            raise refuse(prim, f"{name} on a collider; it is accepted on the body itself")
    mass = read_gain(prim, "physics:mass") if prim != body else None
    if mass:
        if volume <= 0.0:
            raise refuse(prim, "a mass on a flat Mesh; one on its body is accepted")
        return mass * stage.units.mass / volume
    for source in (prim, body, physics_material(prim)):
        density = read_gain(source, "physics:density") if source else None
        if density:
            return density * stage.units.density
    return DEFAULT_DENSITY


def read_mass(
    stage: Stage, body: Usd.Prim, shapes: list[Shape], scale: np.ndarray
) -> MassProperties:
    """Mass properties of a body in its own frame: its shapes', overridden by its MassAPI.

    Args:
        stage: its file.
        body: the rigid body's prim.
        shapes: of its colliders.
        scale: of the body's transform, by which an authored centre of mass is multiplied.

    Raises:
        ValueError: an inertia with a negative or missing number, or a mass without inertia and
            without colliders to take it from.
    """
    total = combine_mass_properties([shape_mass_properties(shape) for shape in shapes])
    inertia = _explicit_inertia(stage, body)
    mass = read_gain(body, "physics:mass")
    if mass:
        mass *= stage.units.mass
        if inertia is None and total.mass <= 0.0:
            raise refuse(
                body,
                "a mass without inertia; physics:diagonalInertia or colliders to compute it "
                "from are accepted",
            )
        ratio = mass / total.mass if total.mass > 0.0 else 0.0
        total = MassProperties(mass, total.com, ratio * total.inertia)
    com = read_vector(body, "physics:centerOfMass")
    if com is not None:
        total = _about(total, com * scale * stage.units.length)
    if inertia is not None:
        total = replace(total, inertia=inertia)
    return total


def _about(part: MassProperties, com: np.ndarray) -> MassProperties:
    """The same mass with another centre, its inertia that of the shapes about that point.

    So has OpenUSD's own `UsdPhysicsRigidBodyAPI::ComputeMassProperties`.
    """
    d = com - part.com
    moved = part.inertia + part.mass * (d @ d * np.eye(3) - np.outer(d, d))
    return MassProperties(part.mass, com, moved)


def _explicit_inertia(stage: Stage, body: Usd.Prim) -> np.ndarray | None:
    """The authored inertia in body axes [kg m^2], None where there is none (zeros mean none)."""
    six = read_array(body, "newton:inertia")
    if six is not None and len(six):  # an empty array means none
        return stage.units.inertia * _tensor(body, six)
    diagonal = read_vector(body, "physics:diagonalInertia")
    axes = read_numbers(body, "physics:principalAxes", 4)
    if axes is None or not np.any(axes):
        axes = np.array([0.0, 0.0, 0.0, 1.0])
    turned = bool(np.any(axes[:3]))
    if diagonal is None or not np.any(diagonal):
        if turned:
            raise refuse(
                body, "physics:principalAxes without physics:diagonalInertia; both are accepted"
            )
        return None
    if np.any(diagonal <= 0.0):
        raise refuse(
            body, f"physics:diagonalInertia is {diagonal}, three positive numbers accepted"
        )
    quat = read_quat(body, "physics:principalAxes") if turned else None
    turn = np.eye(3) if quat is None else rotation_matrix(quat)
    return stage.units.inertia * (turn @ np.diag(diagonal) @ turn.T)


def _tensor(body: Usd.Prim, six: np.ndarray) -> np.ndarray:
    """The inertia (3, 3) of xx, yy, zz, xy, xz, yz in the stage's units."""
    if six.shape == (6,) and np.all(np.isfinite(six)):
        xx, yy, zz, xy, xz, yz = six
        tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        if np.linalg.eigvalsh(tensor)[0] >= -1e-12 * np.abs(six).max():
            return tensor
    accepted = "xx, yy, zz, xy, xz, yz of a tensor without negative eigenvalue accepted"
    raise refuse(body, f"newton:inertia is {six.tolist()}, {accepted}")


def read_contact(stage: Stage, prim: Usd.Prim) -> ContactMaterial | None:
    """The contact gains of a collider's physics material, None where it has none.

    Raises:
        ValueError: a gain that is negative or not finite.
    """
    material = physics_material(prim)
    stiffness = read_gain(material, CONTACT_STIFFNESS) if material else None
    if not material or not stiffness:
        return None
    units = stage.units
    return ContactMaterial(
        ke=stiffness * units.mass,
        kd=(read_gain(material, CONTACT_DAMPING) or 0.0) * units.mass / units.length,
        kf=(read_gain(material, CONTACT_FRICTION_GAIN) or 0.0) * units.mass,
        mu=read_gain(material, "physics:dynamicFriction") or 0.0,
    )


def physics_material(prim: Usd.Prim) -> Usd.Prim | None:
    """The material bound for physics, or for all purposes, None where there is none."""
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial("physics")
    return material.GetPrim() if material else None
