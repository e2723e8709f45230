"""A URDF's text for MuJoCo: mesh files found, limits settled, what it drops told."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from warp_envs.checks import ArgumentError
from warp_envs.usd.conversion.urdf_terms import check_mimics, check_terms, settle_limits

_KEEP = {"fusestatic": "false", "discardvisual": "false", "strippath": "false"}
"""Of MuJoCo's compiler: keep every link, what is only drawn, and folders in paths."""

_SHAPES = ("box", "sphere", "cylinder", "capsule", "mesh")
_JOINTS = ("revolute", "continuous", "prismatic", "fixed", "floating", "planar", "spherical")


def prepare_urdf(root: ET.Element, path: Path) -> tuple[str, list[str]]:
    """The text for MuJoCo, and what of the file is left out, one line each.

    Raises:
        ValueError: macros, loops, a kind of joint that no simulation here has, or what `urdf_terms`
            refuses.
    """
    notes = check_terms(root, path)
    for joint in root.iter("joint"):
        kind = joint.get("type")
        if kind is not None and kind not in _JOINTS:
            given = f"joint {joint.get('name')!r} of type {kind!r}"
            raise ArgumentError(str(path), given, f"one of {_JOINTS}")
    check_mimics(root, path)
    notes += settle_limits(root, path)
    for link in root.findall("link"):
        notes += _remove_unknown_shapes(link)
        if link.find("inertial") is None and link.find("collision") is not None:
            name = link.get("name")
            notes.append(f"link {name} has no <inertial>: its shapes' at 1000 kg/m^3, as in MuJoCo")
    extension = root.find("mujoco")
    if extension is None:
        extension = ET.SubElement(root, "mujoco")
    compiler = extension.find("compiler")
    if compiler is None:
        compiler = ET.SubElement(extension, "compiler")
    folder = path.resolve().parent / compiler.attrib.pop("meshdir", "")
    stripped = compiler.get("strippath", "false") == "true"
    compiler.attrib.update(_KEEP)
    if any(joint.get("type") == "floating" for joint in root.findall("joint")):
        compiler.set("fusestatic", "true")  # MuJoCo lets nothing float but below the world itself
    for mesh in root.iter("mesh"):
        mesh.set("filename", str(_find_mesh(mesh.get("filename", ""), folder, path, stripped)))
    return ET.tostring(root, encoding="unicode"), notes


def _remove_unknown_shapes(link: ET.Element) -> list[str]:
    notes = []
    for tag in ("visual", "collision"):
        for element in link.findall(tag):
            geometry = element.find("geometry")
            kinds = [] if geometry is None else [part.tag for part in geometry]
            if len(kinds) == 1 and kinds[0] in _SHAPES:
                continue
            link.remove(element)
            what = f"a <{kinds[0]}>" if kinds else "a shape without geometry"
            notes.append(f"{what} of link {link.get('name')}: left out")
    return notes


def _find_mesh(name: str, folder: Path, path: Path, stripped: bool) -> Path | str:
    """The file that a URDF's mesh names: beside it, or in a package of a folder around it."""
    for scheme in ("package://", "model://", "file://"):
        if name.startswith(scheme):
            name = name.removeprefix(scheme)
            break
    wanted = Path(name)
    candidates = [wanted] if wanted.is_absolute() else []
    if not stripped:
        for around in (folder, *path.resolve().parents):
            candidates += [around / name, around / Path(*wanted.parts[1:])]
    candidates += [folder / wanted.name, path.resolve().parent / wanted.name]
    return next((candidate for candidate in candidates if candidate.is_file()), name)
