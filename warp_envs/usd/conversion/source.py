"""An MJCF or URDF file as MuJoCo compiles it, with meshes that MuJoCo cannot read or find."""

from __future__ import annotations

import os
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from warp_envs.checks import ArgumentError
from warp_envs.usd.conversion.urdf import prepare_urdf

SOURCES = (".xml", ".mjcf", ".urdf")

_NEXT_TO_NOTHING = 1e-9  # [kg and kg m^2]


@dataclass
class Source:
    """A compiled robot.

    Attributes:
        path: of the file.
        model: MuJoCo's `MjModel` of it.
        urdf: whether it is a URDF.
        notes: what reading it left out, one line each.
    """

    path: Path
    model: Any
    urdf: bool
    notes: list[str] = field(default_factory=list)

    def name(self, kind: str, index: int) -> str:
        """The name of a body, joint, geom, actuator ... as the source has it, or one made up."""
        import mujoco

        number = getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
        found = mujoco.mj_id2name(self.model, number, index)
        if found:
            return found
        model = self.model
        if kind in ("joint", "geom"):
            body = int(getattr(model, "jnt_bodyid" if kind == "joint" else "geom_bodyid")[index])
            first = getattr(model, "body_jntadr" if kind == "joint" else "body_geomadr")[body]
            count = getattr(model, "body_jntnum" if kind == "joint" else "body_geomnum")[body]
            number = f"_{index - first}" if count > 1 else ""
            return f"{self.name('body', body)}_{kind}{number}"
        return f"{kind}_{index}"

    def is_off(self, *flags: str) -> bool:
        """Whether the options disable one of these."""
        bits = import_mujoco().mjtDisableBit
        known = [getattr(bits, f"mjDSBL_{flag}", None) for flag in flags]  # versions differ
        return any(self.model.opt.disableflags & int(bit) for bit in known if bit is not None)


def joint_kind(model: Any, joint: int) -> str:
    """One of "free", "ball", "slide" and "hinge"."""
    return ("free", "ball", "slide", "hinge")[int(model.jnt_type[joint])]  # mjtJoint


def import_mujoco() -> ModuleType:
    """MuJoCo, if it is installed.

    Raises:
        ValueError: it is not; the message names the extra.
    """
    try:
        import mujoco
    except ImportError as error:
        hint = f"not installed ({error}); pip install 'gippo[convert]' brings it"
        raise ArgumentError("mujoco", hint) from error
    return mujoco


def read_source(path: Path, *, floating: bool) -> Source:
    """Read and compile a file.

    Raises:
        ValueError: a file that MuJoCo cannot compile, with what it says; a mesh that gives a body
            its mass and cannot be read; `floating` of a robot that floats.
    """
    root = _root_of(path)
    if root.tag not in ("mujoco", "robot"):
        raise ArgumentError(str(path), f"<{root.tag}> at its top", "<mujoco> or <robot>")
    notes: list[str] = []
    with _warnings_noted(notes):
        model, more = _compile(root, path, floating=floating)
    return Source(path, model, root.tag == "robot", [*more, *notes])


def _root_of(path: Path) -> ET.Element:
    """The top element of a file, read as forgivingly as MuJoCo reads it.

    Raises:
        ValueError: not XML.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        # declarations of no version that there is, and comments with "--" in them
        text = re.sub(r"<\?xml.*?\?>|<!--.*?-->", "", text, flags=re.DOTALL)
        return ET.fromstring(text)
    except (ET.ParseError, OSError) as error:
        raise ArgumentError(str(path), f"not a readable XML file: {error}") from error


def _compile(root: ET.Element, path: Path, *, floating: bool) -> tuple[Any, list[str]]:
    """MuJoCo's model, and what had to be left out for it."""
    mujoco, notes = import_mujoco(), []
    refusals = (ValueError, RuntimeError, OSError, mujoco.FatalError)
    text = None
    if root.tag == "robot":
        text, notes = prepare_urdf(root, path)

    def parse() -> Any:
        whole = str(path.resolve())
        spec = mujoco.MjSpec.from_file(whole) if text is None else mujoco.MjSpec.from_string(text)
        _drop_what_moves_nothing(spec)
        return spec

    try:
        spec = parse()
        if floating:
            _let_float(spec, path)
        return spec.compile(), notes
    except ArgumentError:
        raise
    except refusals:
        pass  # a specification that did not compile cannot be mended
    try:
        spec = parse()
        notes += _free_pairs(spec)
        notes += _replace_meshes(spec, path) + _lighten(spec)
        if floating:
            _let_float(spec, path)
        return spec.compile(), notes
    except ArgumentError:
        raise
    except refusals as error:
        said = " ".join(str(error).split()).removeprefix("Error: ")
        raise ArgumentError(str(path), f"MuJoCo cannot read it: {said}") from error


@contextmanager
def _warnings_noted(notes: list[str]) -> Iterator[None]:
    """Note what MuJoCo warns of, instead of printing it and writing it to a file of its own."""
    mujoco, said = import_mujoco(), []
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(said.append)
    try:
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            yield
    finally:
        mujoco.set_mju_user_warning(before)
    said += [str(warning.message) for warning in raised]
    texts = dict.fromkeys(" ".join(text.split()) for text in said)
    # what MuJoCo deprecates, it still does
    notes += [f"MuJoCo: {text}" for text in texts if "deprecated" not in text]


def _drop_what_moves_nothing(spec: Any) -> None:
    """Remove textures and skins, whose files may be missing, and what names things that may be."""
    for material in spec.materials:
        material.textures = [""] * len(material.textures)
    for items in (spec.textures, spec.skins, spec.sensors, spec.excludes, spec.tuples):
        for item in list(items):
            spec.delete(item)


def _free_pairs(spec: Any) -> list[str]:
    """Remove pairs with shapes that another file holds, as a scene the floor; the others touch."""
    geoms, notes = {geom.name: geom for geom in spec.geoms}, []
    for pair in list(spec.pairs):
        names = (pair.geomname1, pair.geomname2)
        missing = [name for name in names if name not in geoms]
        if not missing:
            continue
        for name in set(names) - set(missing):
            geoms[name].conaffinity = 1
            geoms[name].friction[0] = pair.friction[0]
            what = f"pair of {name} with {missing[0]}, which is not in the file"
            notes.append(f"{what}: {name} touches the ground")
        spec.delete(pair)
    return notes


def _lighten(spec: Any) -> list[str]:
    """Give links without mass, which MuJoCo refuses, next to none; say so."""
    names = []
    for body in spec.bodies[1:]:
        if body.joints and not body.geoms and not body.mass > 0.0:
            body.explicitinertial, body.mass = True, _NEXT_TO_NOTHING
            body.inertia = np.full(3, _NEXT_TO_NOTHING)
            body.fullinertia = np.full(6, np.nan)
            names.append(body.name)
    what = f"{_NEXT_TO_NOTHING:g} kg and kg m^2 in their place"
    return [f"bodies without mass, {', '.join(names)}: {what}"] if names else []


def _let_float(spec: Any, path: Path) -> None:
    """Put a free joint on the first body below the world."""
    body = spec.worldbody.first_body()
    if body is None or body.joints:
        given = "floating=true of a robot whose first body has joints"
        raise ArgumentError(str(path), given, "one that is fixed to the world")
    body.add_freejoint(name=f"{body.name}_free")


# Meshes -----------------------------------------------------------------------------------------


def _replace_meshes(spec: Any, path: Path) -> list[str]:
    """Read with trimesh what MuJoCo cannot; remove the shapes of what neither can, and say so."""
    notes = []
    for mesh in list(spec.meshes):
        if _compiles(spec, mesh):
            continue
        reason = _read_with_trimesh(spec, mesh)
        if reason is None and _compiles(spec, mesh):
            continue
        reason = reason or "MuJoCo cannot compile it"
        name = mesh.name or Path(mesh.file).stem
        geoms = [geom for geom in spec.geoms if geom.meshname == name]
        notes += [_remove_geom(spec, geom, f"mesh {name} ({reason})", path) for geom in geoms]
        spec.delete(mesh)
    for hfield in list(spec.hfields):
        if hfield.file and not _file_of(spec, hfield).is_file():
            for geom in [geom for geom in spec.geoms if geom.hfieldname == hfield.name]:
                spec.delete(geom)
            notes.append(f"heightfield {hfield.name}, whose file is missing: nothing touches it")
            spec.delete(hfield)
    return notes


def _file_of(spec: Any, asset: Any) -> Path:
    """Where an asset's file lies, as MuJoCo looks for it."""
    folder = Path(spec.modelfiledir or ".")
    return folder / (spec.compiler.meshdir or "") / asset.file


def _compiles(spec: Any, mesh: Any) -> bool:
    """Whether MuJoCo can make a shape of this mesh alone."""
    mujoco = import_mujoco()
    trial = mujoco.MjSpec()
    copy = trial.add_mesh(name="mesh", inertia=mesh.inertia, scale=mesh.scale)
    if mesh.file:
        copy.file = str(_file_of(spec, mesh).resolve())
    else:
        copy.uservert, copy.userface = mesh.uservert, mesh.userface
    trial.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="mesh")
    try:
        trial.compile()
    except (ValueError, RuntimeError, OSError, mujoco.FatalError):
        return False
    return True


def _read_with_trimesh(spec: Any, mesh: Any) -> str | None:
    """Put a mesh file's points and triangles into the specification; what went wrong, or None."""
    file = _file_of(spec, mesh)
    if not mesh.file or not file.is_file():
        return f"{mesh.file or 'its file'} not found"
    try:
        import trimesh  # pyright: ignore[reportMissingImports]

        loaded = trimesh.load(file, force="mesh")
        points = np.asarray(loaded.vertices, dtype=np.float64)
        faces = np.asarray(loaded.faces, dtype=np.int32)
    except ImportError as error:
        return f"{file.name} needs {error.name}: pip install 'gippo[convert]'"
    except Exception as error:  # a reader of other people's files raises whatever it likes
        return f"{file.name} cannot be read: {' '.join(str(error).split())[:100]}"
    if len(points) < 4 or len(faces) < 1:
        return f"{file.name} has no triangles"
    mesh.uservert, mesh.userface = points.reshape(-1).tolist(), faces.reshape(-1).tolist()
    mesh.name, mesh.file = mesh.name or os.path.splitext(file.name)[0], ""
    return None


def _remove_geom(spec: Any, geom: Any, what: str, path: Path) -> str:
    """Remove a shape and say what that means.

    Raises:
        ValueError: the body's mass comes from it.
    """
    body, choices = geom.parent, import_mujoco().mjtInertiaFromGeom
    never, always = choices.mjINERTIAFROMGEOM_FALSE, choices.mjINERTIAFROMGEOM_TRUE
    choice = int(spec.compiler.inertiafromgeom)
    inferred = choice == int(always) or (choice != int(never) and not body.explicitinertial)
    heavy = geom.mass > 0.0 or (np.isnan(geom.mass) and geom.density > 0.0)
    if inferred and heavy and body.id != 0:
        given = f"body {body.name!r}, whose mass comes from {what}"
        raise ArgumentError(str(path), given, "an <inertial> of its own, or the file")
    touches = geom.contype or geom.conaffinity
    spec.delete(geom)
    of = f"{what} of body {body.name}"
    return f"{of}: left out, it touches nothing" if touches else f"{of}: not drawn"
