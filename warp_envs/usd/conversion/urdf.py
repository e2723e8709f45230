"""A URDF's text for MuJoCo: mesh files found, and what it drops in silence told."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from warp_envs.checks import ArgumentError

_KEEP = {"fusestatic": "false", "discardvisual": "false", "strippath": "false"}
"""Of MuJoCo's compiler: keep every link, what is only drawn, and folders in paths."""

_SHAPES = ("box", "sphere", "cylinder", "capsule", "mesh")
_JOINTS = ("revolute", "continuous", "prismatic", "fixed", "floating", "planar", "spherical")

_PARTS = {
    "robot": {"link", "joint", "material", "mujoco"},
    "link": {"inertial", "visual", "collision"},
    "joint": {"origin", "parent", "child", "axis", "limit", "dynamics", "mimic"},
}
"""Elements that are honoured: inside of what, which."""

_DROPPED = {
    "transmission": None,
    "ros2_control": None,
    "sensor": None,
    "calibration": None,
    "verbose": None,
    "gazebo": "settings of Gazebo: friction, damping and contact told there are not used",
    "safety_controller": "safety controllers: joints stop at their limits alone",
    "contact": "contact parameters: this project's own are used",
    "contact_coefficients": "contact coefficients: this project's own are used",
    "self_collision_checking": None,
    "audio_source": None,
    "physics": "settings of a physics engine: not used",
    "loop_joint": "",
    "plugin": None,
}
"""Elements without effect on the motion (None), listed (what that means), or refused ("")."""


def prepare_urdf(root: ET.Element, path: Path) -> tuple[str, list[str]]:
    """The text for MuJoCo, and what of the file is left out, one line each.

    Raises:
        ValueError: macros, loops, or a kind of joint that no simulation here has.
    """
    notes = _tell(root, path)
    for joint in root.iter("joint"):
        kind = joint.get("type")
        if kind is not None and kind not in _JOINTS:
            given = f"joint {joint.get('name')!r} of type {kind!r}"
            raise ArgumentError(str(path), given, f"one of {_JOINTS}")
        if joint.find("mimic") is not None and kind not in ("revolute", "continuous", "prismatic"):
            given = f"joint {joint.get('name')!r} of type {kind!r} that follows another"
            raise ArgumentError(str(path), given, "one that moves by itself")
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


def _tell(root: ET.Element, path: Path) -> list[str]:
    """What of the elements means something and is not used."""
    notes = []
    for element in [root, *root.findall("link"), *root.findall("joint")]:
        for part in element:
            if not isinstance(part.tag, str) or part.tag in _PARTS[element.tag]:
                continue
            name = part.tag.rpartition("}")[2]
            meaning = _DROPPED.get(name, f"<{name}> in a <{element.tag}>: unknown, not used")
            if meaning == "" or "www.ros.org/wiki/xacro" in part.tag:
                how = "; run xacro first" if "xacro" in part.tag else ""
                raise ArgumentError(str(path), f"<{name}>", "links and joints of a tree", how)
            if meaning is not None and meaning not in notes:
                notes.append(meaning)
    fast = [joint.get("name", "?") for joint in root.findall("joint") if _speed(joint) > 0.0]
    if fast:
        notes.append(f"limits of speed of joints {', '.join(fast)}: they may turn faster")
    return notes


def _speed(joint: ET.Element) -> float:
    limit = joint.find("limit")
    try:
        return float(limit.get("velocity", "0")) if limit is not None else 0.0
    except ValueError:
        return 0.0


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
