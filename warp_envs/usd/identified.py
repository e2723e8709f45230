"""A robot's identified parameters as a USD layer over its file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom, UsdPhysics

from warp_envs.checks import ArgumentError
from warp_envs.usd.description import Body, RobotDescription
from warp_envs.usd.joints import DRIVES
from warp_envs.usd.loader import load_robot
from warp_envs.usd.shapes import CONTACT_DAMPING, CONTACT_FRICTION_GAIN, CONTACT_STIFFNESS

_JOINTS = {
    "armature": "newton:armature",
    "damping": "newton:damping",
    "limit_ke": "newton:limitStiffness",
    "limit_kd": "newton:limitDamping",
}
_MATERIAL = {
    "friction": "physics:dynamicFriction",
    "contact_ke": CONTACT_STIFFNESS,
    "contact_kd": CONTACT_DAMPING,
    "contact_kf": CONTACT_FRICTION_GAIN,
}
_FIELDS = {"friction": "mu", "contact_ke": "ke", "contact_kd": "kd", "contact_kf": "kf"}
_DRIVES = {"gear": "gear", "servo_kp": "kp", "servo_kd": "kd", "servo_force": "force"}
"""Quantities of what drives joints, and what `env.actuators` calls them."""
_AGREES = 1e-5
"""Relative error up to which what is written is read again: attributes are in single precision."""


def changed_robot(
    description: RobotDescription, values: Mapping[tuple[str, int], np.ndarray]
) -> RobotDescription:
    """The robot with other numbers, by quantity and body as `Columns` keys them.

    A mass takes the inertia along, as everywhere.
    """
    bodies = list(description.bodies)
    contact, gravity = description.contact, description.gravity
    for (quantity, index), value in values.items():
        number = float(value[0])
        if quantity in _FIELDS:
            assert contact is not None
            contact = replace(contact, **{_FIELDS[quantity]: number})
        elif quantity == "gravity":
            gravity = value
        elif quantity not in _DRIVES:
            bodies[index] = _changed_body(bodies[index], quantity, value)
    return replace(description, bodies=tuple(bodies), contact=contact, gravity=gravity)


def _changed_body(body: Body, quantity: str, value: np.ndarray) -> Body:
    number = float(value[0])
    if quantity == "mass":
        inertia = body.inertia * (number / body.mass if body.mass > 0.0 else 1.0)
        return replace(body, mass=number, inertia=inertia)
    if quantity == "com":
        return replace(body, com=value)
    if quantity == "inertia_scale":
        return replace(body, inertia=body.inertia * number)
    if quantity == "second_moment":
        root = np.zeros((3, 3))
        root[np.triu_indices(3)] = value
        moment = root @ root.T
        return replace(body, inertia=np.trace(moment) * np.eye(3) - moment)
    return replace(body, joint=replace(body.joint, **{quantity: number}))


def write_identified(
    source: Path, out: Path, values: Mapping[tuple[str, int], np.ndarray]
) -> list[str]:
    """Write a layer with `source` below it and these numbers above.

    Args:
        source: the robot's USD file.
        out: the layer, .usda or .usd; what is there is replaced.
        values: quantity and index of the body, as `Columns` keys them -> its numbers, SI.

    Returns:
        What a layer cannot say, a sentence each.

    Raises:
        ArgumentError: `out` is `source`, or cannot be written.
    """
    if out.exists() and out.samefile(source):
        raise ArgumentError("out", repr(str(out)), "another file than the robot's own")
    description = load_robot(source)
    wanted = changed_robot(description, values)
    layer = Sdf.Layer.CreateAnonymous(".usda")
    below = os.path.relpath(source.resolve(), out.resolve().parent)
    base = Sdf.Layer.FindOrOpen(str(source))
    layer.pseudoRoot.SetInfo("comment", "Identified parameters over the robot's own file.")
    for key in base.pseudoRoot.ListInfoKeys():
        if key not in ("subLayers", "subLayerOffsets", "comment", "documentation"):
            layer.pseudoRoot.SetInfo(key, base.pseudoRoot.GetInfo(key))
    layer.subLayerPaths.append(str(source.resolve()))
    _Writer(Usd.Stage.Open(layer), description, wanted).write(values)
    layer.subLayerPaths[0] = Path(below).as_posix()
    if not layer.Export(str(out)):
        raise ArgumentError("out", repr(str(out)), "a file that can be written")
    return _unsaid(load_robot(out), wanted, values)


class _Writer:
    """Opinions over a robot's stage."""

    def __init__(
        self, stage: Usd.Stage, description: RobotDescription, wanted: RobotDescription
    ) -> None:
        self._stage, self._description, self._wanted = stage, description, wanted
        self._length = UsdGeom.GetStageMetersPerUnit(stage)
        self._mass = UsdPhysics.GetStageKilogramsPerUnit(stage)

    def write(self, values: Mapping[tuple[str, int], np.ndarray]) -> None:
        """All that there is an attribute for."""
        bodies = {i for q, i in values if q in ("mass", "com", "inertia_scale", "second_moment")}
        for index in bodies:
            self._write_mass(self._wanted.bodies[index])
        for quantity, index in values:
            if quantity in _JOINTS:
                self._write_joint(self._wanted.bodies[index], quantity, index)
            if quantity in _MATERIAL:
                self._write_material(quantity)

    def _write_mass(self, body: Body) -> None:
        api = UsdPhysics.MassAPI.Apply(self._stage.OverridePrim(body.path))
        principal, axes = np.linalg.eigh(body.inertia)
        axes[:, 2] *= np.sign(np.linalg.det(axes))
        turn = Gf.Matrix3d(*axes.T.ravel().tolist()).ExtractRotation().GetQuat()
        scale = self._mass * self._length**2
        api.CreateMassAttr().Set(body.mass / self._mass)
        api.CreateCenterOfMassAttr().Set(Gf.Vec3f(*(body.com / self._length).tolist()))
        api.CreateDiagonalInertiaAttr().Set(Gf.Vec3f(*(principal / scale).tolist()))
        api.CreatePrincipalAxesAttr().Set(Gf.Quatf(turn))

    def _write_joint(self, body: Body, quantity: str, index: int) -> None:
        joint, before = body.joint, self._description.bodies[index].joint
        if not joint.path or joint.path == body.path:
            return
        prim = self._stage.OverridePrim(joint.path)
        unit = self._mass
        if joint.kind != "prismatic":
            unit *= self._length**2
            if quantity != "armature":
                unit *= 180.0 / np.pi  # gains are for each degree
        value = getattr(joint, quantity)
        if quantity == "damping":
            own = prim.GetAttribute(_JOINTS["damping"]).Get() or 0.0
            drive = before.damping - own * unit  # a drive's is added to it
            if value < drive:
                name = f"drive:{DRIVES[joint.kind]}:physics:damping"
                less = prim.CreateAttribute(name, Sdf.ValueTypeNames.Float)
                less.Set(float(value / unit))
                drive = value
            value = value - drive
        attribute = prim.CreateAttribute(_JOINTS[quantity], Sdf.ValueTypeNames.Float)
        attribute.Set(float(value / unit))

    def _write_material(self, quantity: str) -> None:
        contact = self._wanted.contact
        units = {"friction": 1.0, "contact_kd": self._mass / self._length}
        value = getattr(contact, _FIELDS[quantity]) / units.get(quantity, self._mass)
        for prim in self._stage.Traverse():
            if prim.GetAttribute(CONTACT_STIFFNESS).HasAuthoredValue():
                over = self._stage.OverridePrim(prim.GetPath())
                kind = Sdf.ValueTypeNames.Float
                over.CreateAttribute(_MATERIAL[quantity], kind).Set(float(value))


def _unsaid(
    read: RobotDescription,
    wanted: RobotDescription,
    values: Mapping[tuple[str, int], np.ndarray],
) -> list[str]:
    """Which of the numbers are not those of the robot as it is read again."""
    notes = []
    for quantity, index in values:
        pairs = _compared(read, wanted, quantity, index)
        if pairs is None or not _agree(*pairs):
            owner = (
                ""
                if quantity in _FIELDS or quantity == "gravity"
                else _owner(read, quantity, index)
            )
            why = "its file says it in another way"
            if quantity in _DRIVES:
                why = f"env.{'gear' if quantity == 'gear' else 'actuators'} says it"
            notes.append(f"{owner}{_DRIVES.get(quantity, quantity)} is not in the layer: {why}")
    return notes


def _owner(read: RobotDescription, quantity: str, index: int) -> str:
    body = read.bodies[index]
    joint = quantity in (*_JOINTS, *_DRIVES, "stiffness", "rest")
    return f"{body.joint.name if joint else body.name}."


def _compared(
    read: RobotDescription, wanted: RobotDescription, quantity: str, index: int
) -> tuple[Any, Any] | None:
    if quantity in _DRIVES:
        return None
    if quantity in _FIELDS:
        return getattr(read.contact, _FIELDS[quantity]), getattr(wanted.contact, _FIELDS[quantity])
    if quantity == "gravity":
        return read.gravity, wanted.gravity
    bodies = read.bodies[index], wanted.bodies[index]
    if quantity in ("inertia_scale", "second_moment"):
        return bodies[0].inertia, bodies[1].inertia
    if quantity in ("mass", "com"):
        return getattr(bodies[0], quantity), getattr(bodies[1], quantity)
    return getattr(bodies[0].joint, quantity), getattr(bodies[1].joint, quantity)


def _agree(found: Any, wanted: Any) -> bool:
    scale = float(np.abs(wanted).max())
    return bool(np.all(np.abs(np.asarray(found) - wanted) <= _AGREES * scale + 1e-12))
