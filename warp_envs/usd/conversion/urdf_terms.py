"""What the URDF specification calls things, and what it says of a joint's limits.

MuJoCo reads the attributes that it knows and passes over all others: a misspelt ``lowr`` would free
a joint without a word. Names are those of http://wiki.ros.org/urdf/XML that MuJoCo reads, too.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from warp_envs.checks import ArgumentError, near_matches

_PARTS = {
    "robot": ("link", "joint", "material", "mujoco"),
    "link": ("inertial", "visual", "collision"),
    "joint": ("origin", "parent", "child", "axis", "limit", "dynamics", "mimic"),
    "inertial": ("origin", "mass", "inertia"),
    "visual": ("origin", "geometry", "material"),
    "collision": ("origin", "geometry", "material"),
}
"""Elements that are honoured: inside of what, which. Of shapes `urdf` tells itself."""

_ATTRIBUTES = {
    "robot": ("name", "version"),
    "link": ("name", "type"),
    "joint": ("name", "type"),
    "inertial": (),
    "mass": ("value",),
    "inertia": ("ixx", "iyy", "izz", "ixy", "ixz", "iyz"),
    "origin": ("xyz", "rpy"),
    "visual": ("name",),
    "collision": ("name",),
    "geometry": (),
    "box": ("size",),
    "sphere": ("radius",),
    "cylinder": ("radius", "length"),
    "capsule": ("radius", "length"),
    "mesh": ("filename", "scale"),
    "parent": ("link",),
    "child": ("link",),
    "axis": ("xyz",),
    "limit": ("lower", "upper", "effort", "velocity"),
    "dynamics": ("damping", "friction"),
    "mimic": ("joint", "multiplier", "offset"),
}
"""Attributes of what carries physics."""

_AT_LEAST_ZERO = {
    ("mass", "value"),
    ("limit", "effort"),
    ("limit", "velocity"),
    ("dynamics", "damping"),
    ("dynamics", "friction"),
}
_OF_ANY_SIGN = {("limit", "lower"), ("limit", "upper"), ("mimic", "multiplier"),
                ("mimic", "offset")}  # fmt: skip
"""Single numbers; where several stand in one attribute, MuJoCo itself counts and reads them."""

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

FOLLOWERS = ("revolute", "continuous", "prismatic")
"""Kinds of joints that may follow another, and be followed."""


def check_terms(root: ET.Element, path: Path) -> list[str]:
    """What of elements and attributes means something and is not used, one line each.

    Raises:
        ValueError: macros, loops, a name that is misspelt by all appearance, a number that is none
            or has the wrong sign, joints with one name.
    """
    parts: dict[str, None] = {}
    unused: dict[tuple[str, str], list[str]] = {}
    for owner, element in _physics(root):
        parts |= dict.fromkeys(_parts(element, owner, path))
        for name in _unknown_attributes(element, owner, path):
            unused.setdefault((name, element.tag), []).append(owner or "the robot")
        _check_numbers(element, owner, path)
    names = [joint.get("name", "") for joint in root.findall("joint")]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ArgumentError(str(path), f"{names.count(twice)} joints {twice!r}", "one of each name")
    return [*parts, *(
        f"attribute {name} of <{tag}> of {', '.join(dict.fromkeys(owners))}: unknown, not used"
        for (name, tag), owners in unused.items()
    )]  # fmt: skip


def _physics(root: ET.Element) -> Iterator[tuple[str, ET.Element]]:
    """Elements in the tables, each with the link or joint that it describes ("link 'arm'")."""
    yield "", root
    for owner in (*root.findall("link"), *root.findall("joint")):
        whose = f"{owner.tag} {owner.get('name')!r}"
        ahead = [owner]
        for element in ahead:
            if element.tag in _ATTRIBUTES:
                yield whose, element
                ahead += [part for part in element if isinstance(part.tag, str)]


def _place(tag: str, owner: str) -> str:
    return f"<{tag}>" if not owner or owner.startswith(f"{tag} ") else f"<{tag}> of {owner}"


def _parts(element: ET.Element, owner: str, path: Path) -> Iterator[str]:
    """What of an element's parts is told and not used."""
    known = _PARTS.get(element.tag)
    if known is None:
        return
    there = {part.tag for part in element}
    for part in element:
        if not isinstance(part.tag, str) or part.tag in known:
            continue
        name = part.tag.rpartition("}")[2]
        meaning = _DROPPED.get(name, f"<{name}> in a <{element.tag}>: unknown, not used")
        if meaning == "" or "www.ros.org/wiki/xacro" in part.tag:
            how = "; run xacro first" if "xacro" in part.tag else ""
            raise ArgumentError(str(path), f"<{name}>", "links and joints of a tree", how)
        if name not in _DROPPED and (hint := near_matches(name, set(known) - there)):
            given = f"<{name}> in {owner or f'<{element.tag}>'}"
            raise ArgumentError(str(path), given, f"one of {known}", hint)
        if meaning is not None:
            yield meaning


def _unknown_attributes(element: ET.Element, owner: str, path: Path) -> Iterator[str]:
    known = _ATTRIBUTES[element.tag]
    for name, value in element.attrib.items():
        if name in known:
            continue
        hint = near_matches(name, set(known) - set(element.attrib))
        if hint:
            given = f"{name}={value!r} of {_place(element.tag, owner)}"
            raise ArgumentError(str(path), given, f"one of {known}", hint)
        yield name.rpartition("}")[2]


def _check_numbers(element: ET.Element, owner: str, path: Path) -> None:
    for name, value in element.attrib.items():
        bounded = (element.tag, name) in _AT_LEAST_ZERO
        if not bounded and (element.tag, name) not in _OF_ANY_SIGN:
            continue
        accepted = "a number of at least 0" if bounded else "a number"
        given = f"{name}={value!r} of {_place(element.tag, owner)}"
        try:
            number = float(value)
        except ValueError:
            raise ArgumentError(str(path), given, accepted) from None
        if bounded and number < 0.0:
            raise ArgumentError(str(path), given, accepted)


# Limits -----------------------------------------------------------------------------------------


def settle_limits(root: ET.Element, path: Path) -> list[str]:
    """Write out a limit of which half is left out; what limits mean here, one line each.

    Raises:
        ValueError: a lower limit above the upper one.
    """
    found: dict[str, list[str]] = {}
    for joint in root.findall("joint"):
        limit, kind, name = joint.find("limit"), joint.get("type"), joint.get("name", "?")
        if kind == "fixed":
            continue  # it has nothing to limit
        said = {} if limit is None else limit.attrib
        ends = [end for end in ("lower", "upper") if end in said]
        unlimited = kind in ("continuous", "floating")
        if unlimited:
            if ends:
                meaning = f"limits of {kind} joints {{}}: they move without, as in MuJoCo"
                found.setdefault(meaning, []).append(name)
        elif not ends and kind in ("revolute", "prismatic"):
            meaning = "joints {} have neither lower nor upper limit: they move freely, as in MuJoCo"
            found.setdefault(meaning, []).append(name)
        elif len(ends) == 1:
            missing = "upper" if ends == ["lower"] else "lower"
            said[missing] = "0"
            meaning = f"{missing} limit of joints {{}}, which is not told: 0, URDF's default"
            found.setdefault(meaning, []).append(name)
        if not unlimited and ends and float(said["lower"]) > float(said["upper"]):
            given = f"lower={said['lower']!r} above upper={said['upper']!r} of joint {name!r}"
            accepted = "limits in order, or neither for a joint that moves freely"
            raise ArgumentError(str(path), given, accepted)
        if float(said.get("velocity", "0")) > 0.0:
            found.setdefault("limits of speed of joints {}: they may turn faster", []).append(name)
        if float(said.get("effort", "1")) == 0.0:
            meaning = "effort of 0 of joints {}: nothing bounds what drives them, as in MuJoCo"
            found.setdefault(meaning, []).append(name)
    return [meaning.format(", ".join(names)) for meaning, names in found.items()]


# Joints that follow others ----------------------------------------------------------------------


def check_mimics(root: ET.Element, path: Path) -> None:
    """Refuse what MuJoCo passes over.

    Raises:
        ValueError: a joint that cannot follow, or follows none that moves.
    """
    kinds = {joint.get("name", ""): joint.get("type") for joint in root.findall("joint")}
    for joint in root.findall("joint"):
        mimic, name = joint.find("mimic"), joint.get("name")
        if mimic is None:
            continue
        if joint.get("type") not in FOLLOWERS:
            given = f"joint {name!r} of type {joint.get('type')!r} that follows another"
            raise ArgumentError(str(path), given, "one that moves by itself")
        leader = mimic.get("joint", "")
        leaders = [other for other, kind in kinds.items() if kind in FOLLOWERS and other != name]
        if leader not in leaders:
            given = f"joint={leader!r} of <mimic> of joint {name!r}"
            accepted = f"the name of another joint that is one of {FOLLOWERS}"
            raise ArgumentError(str(path), given, accepted, near_matches(leader, leaders))
