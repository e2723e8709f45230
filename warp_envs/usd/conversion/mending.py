"""Changes to a specification that MuJoCo cannot compile as it stands, each of them told.

Meshes that MuJoCo cannot read are read by trimesh, or their shapes go; pairs and excludes of what
other files hold go; links without mass get next to none; an inertia that no solid has is put back
afterwards.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from warp_envs.checks import ArgumentError
from warp_envs.usd.conversion.mujoco_model import import_mujoco, refusals
from warp_envs.usd.description import rotation_matrix
from warp_envs.usd.stage import quat_of_matrix

_NEXT_TO_NOTHING = 1e-9  # [kg and kg m^2]
_GONE = "not found"


class Mended:
    """What was changed, and what remains to be done to the compiled model."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self.massless: list[str] = []  # names of bodies
        self.inertias: dict[str, np.ndarray] = {}  # name of a body -> principal moments (3,)

    def finish(self, model: Any) -> None:
        """Put inertias back.

        Raises:
            ValueError: a moving body without mass, on which none hangs.
        """
        for name in self.massless:
            if model.body(name).subtreemass[0] < 1e3 * _NEXT_TO_NOTHING:
                given = f"body {name!r}, which moves without mass and with none below it"
                raise ArgumentError(str(self.path), given, "mass, or a fixed joint")
        for name, moments in self.inertias.items():
            model.body_inertia[model.body(name).id] = moments


def mend(spec: Any, path: Path) -> Mended:
    """Change what MuJoCo refuses.

    Raises:
        ValueError: a mesh that gives a body its mass and cannot be read.
    """
    mended = Mended(path)
    mended.notes += _free_pairs(spec) + _drop_excludes(spec)
    mended.notes += _replace_meshes(spec, path) + _drop_hfields(spec)
    _lighten(spec, mended)
    _keep_inertias(spec, mended)
    return mended


def drop_what_moves_nothing(spec: Any) -> None:
    """Remove textures and skins, whose files may be missing, and what names things that may be."""
    for material in spec.materials:
        material.textures = [""] * len(material.textures)
    for items in (spec.textures, spec.skins, spec.sensors, spec.tuples):
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


def _drop_excludes(spec: Any) -> list[str]:
    """Remove excludes of bodies that another file holds: here nothing of theirs can touch."""
    bodies, notes = {body.name for body in spec.bodies}, []
    for exclude in list(spec.excludes):
        names = (exclude.bodyname1, exclude.bodyname2)
        missing = [name for name in names if name not in bodies]
        if missing:
            what = f"exclude of {names[0]} and {names[1]}: {missing[0]} is not in the file"
            notes.append(f"{what}, so it excludes nothing")
            spec.delete(exclude)
    return notes


def _lighten(spec: Any, mended: Mended) -> None:
    """Give links without mass, which MuJoCo refuses, next to none."""
    for body in spec.bodies[1:]:
        empty = body.explicitinertial or not body.geoms
        if body.joints and empty and not body.mass > 0.0:
            body.explicitinertial, body.mass = True, _NEXT_TO_NOTHING
            body.inertia = np.full(3, _NEXT_TO_NOTHING)
            body.fullinertia = np.full(6, np.nan)
            mended.massless.append(body.name)
    if mended.massless:
        what = f"{_NEXT_TO_NOTHING:g} kg and kg m^2 in their place"
        mended.notes.append(f"bodies without mass, {', '.join(mended.massless)}: {what}")


def _keep_inertias(spec: Any, mended: Mended) -> None:
    """Put a sphere's inertia in place of one that no solid has: one moment above the others' sum.

    These dynamics take any inertia that is positive, MuJoCo's compiler does not.
    """
    for body in spec.bodies[1:]:
        xx, yy, zz, xy, xz, yz = np.array(body.fullinertia, dtype=np.float64)
        inertia = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        if not body.explicitinertial or not np.all(np.isfinite(inertia)):
            continue
        moments = np.linalg.eigvalsh(inertia)
        if moments[0] > 0.0 and moments[0] + moments[1] < moments[2]:
            turn = rotation_matrix(np.roll(np.array(body.iquat), -1))
            moments, axes = np.linalg.eigh(turn @ inertia @ turn.T)
            axes[:, 0] *= np.sign(np.linalg.det(axes))
            mended.inertias[body.name] = moments
            body.fullinertia = np.full(6, np.nan)
            body.inertia = np.full(3, moments[2])
            # not put back later: MuJoCo notes while compiling whether a body has axes of its own
            body.iquat = np.roll(quat_of_matrix(axes), 1)
    if mended.inertias:
        what = "no solid has it (one moment is above the sum of the others); it is used as it is"
        mended.notes.append(f"inertia of bodies {', '.join(mended.inertias)}: {what}")


# Meshes -----------------------------------------------------------------------------------------


def _replace_meshes(spec: Any, path: Path) -> list[str]:
    """Read with trimesh what MuJoCo cannot; remove the shapes of what neither can, and say so."""
    lost: dict[tuple[str, str], list[str]] = {}
    for mesh in list(spec.meshes):
        if _compiles(spec, mesh):
            continue
        reason = _read_with_trimesh(spec, mesh)
        if reason is None and _compiles(spec, mesh):
            continue
        name = mesh.name or Path(mesh.file).stem
        for geom in [geom for geom in spec.geoms if geom.meshname == name]:
            body, reason = geom.parent.name, reason or "MuJoCo makes no solid of it"
            effect = _remove_geom(spec, geom, f"mesh {name} ({reason})", path)
            lost.setdefault((reason, effect), []).append(f"{name} of {body}")
        spec.delete(mesh)
    return [
        f"mesh {', '.join(dict.fromkeys(names))} ({reason}): {effect}"
        for (reason, effect), names in lost.items()
    ]


def _drop_hfields(spec: Any) -> list[str]:
    """Remove height fields whose file is missing."""
    notes = []
    for hfield in list(spec.hfields):
        if hfield.file and not _file_of(spec, hfield).is_file():
            for geom in [geom for geom in spec.geoms if geom.hfieldname == hfield.name]:
                spec.delete(geom)
            notes.append(f"height field {hfield.name} ({_GONE}): nothing touches it")
            spec.delete(hfield)
    return notes


def _file_of(spec: Any, asset: Any) -> Path:
    """Where an asset's file lies, as MuJoCo looks for it."""
    folder = Path(spec.modelfiledir or ".") / (spec.compiler.meshdir or "")
    return folder / (Path(asset.file).name if spec.strippath else asset.file)


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
    except refusals():
        return False
    return True


def _read_with_trimesh(spec: Any, mesh: Any) -> str | None:
    """Put a mesh file's points and triangles into the specification; what went wrong, or None."""
    file = _file_of(spec, mesh)
    if not mesh.file or not file.is_file():
        return _GONE
    try:
        import trimesh  # pyright: ignore[reportMissingImports]

        loaded = trimesh.load(file, force="mesh")
        points = np.asarray(loaded.vertices, dtype=np.float64)
        faces = np.asarray(loaded.faces, dtype=np.int32)
    except ImportError as error:
        return f"{file.suffix} needs {error.name}: pip install '.[convert]'"
    except Exception as error:  # a reader of other people's files raises whatever it likes
        return f"unreadable: {' '.join(str(error).split())[:100]}"
    if len(points) < 4 or len(faces) < 1:
        return "without triangles"
    mesh.uservert, mesh.userface = points.reshape(-1).tolist(), faces.reshape(-1).tolist()
    mesh.name, mesh.file = mesh.name or os.path.splitext(file.name)[0], ""
    return None


def _remove_geom(spec: Any, geom: Any, what: str, path: Path) -> str:
    """Remove a shape; what that means.

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
    return "left out, it touches nothing" if touches else "not drawn"
