"""Numbers that no robot can have: not finite in the text, or of the wrong sign, each by its name.

MuJoCo takes NaN for "not given" and compiles negative dampers, which would drive.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from warp_envs.checks import ArgumentError
from warp_envs.usd.conversion.fields import CARRIED, HONOURED

_NOT_FINITE = re.compile(r"[+-]?(nan(\(\w*\))?|inf(inity)?)", re.IGNORECASE)
_NAMING = re.compile(
    r"name|class|childclass|file|filename|model|prefix|target|link|mode|role|layer|subtree|root|"
    r"(obj|ref)(type|name)|(body|joint|geom|site|tendon)[12]?|jointinparent|actuator|sensor|"
    r"(ref|crank|slider|side)site|mesh|material|texture|hfield|skin|flex|camera|light|instance"
)
"""Attributes of MJCF and URDF that hold names or words: something may be called "inf"."""

_DROPPED = ("text", "gazebo", "transmission", "ros2_control", "plugin")
"""Elements that do nothing here, with all that is in them."""


def refuse_not_finite(root: ET.Element, path: Path, read: Callable[[Path], ET.Element]) -> None:
    """Refuse NaN and infinities in a file and in those that it includes.

    Args:
        root: its top element.
        path: of the file.
        read: the top element of another file.

    Raises:
        ValueError: one, by element and attribute.
    """
    seen, ahead = {path.resolve()}, [(root, path)]
    for top, file in ahead:
        for element, owner in _elements(top, ""):
            for name, value in element.attrib.items():
                if not _NAMING.fullmatch(name) and any(map(_NOT_FINITE.fullmatch, value.split())):
                    own = element.get("name")
                    where = f"<{element.tag}> {own!r}" if own else f"<{element.tag}>{owner}"
                    given = f"{name}={value!r} of {where}"
                    raise ArgumentError(str(file), given, "finite numbers")
            if element.tag in ("include", "model") and element.get("file"):
                for folder in (path.parent, file.parent):
                    other = (folder / element.get("file", "")).resolve()
                    if other.is_file() and other not in seen:
                        seen.add(other)
                        with suppress(ArgumentError):  # MuJoCo says what it cannot read
                            ahead.append((read(other), other))


def _elements(element: ET.Element, owner: str) -> Iterator[tuple[ET.Element, str]]:
    """Elements that may do something, each with the nearest one around it that has a name."""
    if not isinstance(element.tag, str) or element.tag in _DROPPED:
        return
    yield element, owner
    name = element.get("name")
    for part in element:
        yield from _elements(part, f" in <{element.tag}> {name!r}" if name else owner)


# Of a specification -----------------------------------------------------------------------------


def refuse_negative_masses(spec: Any, path: Path) -> None:
    """Refuse masses and moments below zero, which MuJoCo takes for none on bodies that are welded.

    Raises:
        ValueError: one, by its body.
    """
    for body in spec.bodies[1:]:
        if not body.explicitinertial:
            continue
        full = np.array(body.fullinertia)
        moments = full[:3] if np.all(np.isfinite(full)) else np.array(body.inertia)
        for what, numbers in (("mass", [body.mass]), ("moments of inertia", moments)):
            if np.any(np.less(numbers, 0.0)):
                said = ", ".join(f"{number:g}" for number in numbers)
                given = f"{what} {said} of body {body.name!r}"
                raise ArgumentError(str(path), given, "no negative number")


# Of a compiled model ----------------------------------------------------------------------------

_KINDS = {
    "body": "body", "jnt": "joint", "dof": "joint", "geom": "geom", "pair": "pair",
    "tendon": "tendon", "actuator": "actuator", "eq": "equality", "key": "key", "site": "site",
}  # fmt: skip
"""What the beginnings of `MjModel`'s arrays stand for."""

_NEVER_NEGATIVE = {
    "jnt_stiffness": "stiffness",
    "dof_damping": "damping",
    "dof_armature": "armature",
    "dof_frictionloss": "frictionloss",
    "tendon_stiffness": "stiffness",
    "tendon_damping": "damping",
    "tendon_armature": "armature",
    "tendon_frictionloss": "frictionloss",
    "actuator_armature": "armature",
    "actuator_damping": "damping",
    "geom_friction": "friction",
    "pair_friction": "friction",
    "opt.density": "density of the <option>",
    "opt.viscosity": "viscosity of the <option>",
}
"""Coefficients of what resists or draws back, by MJCF's names."""

_RANGES = {
    "jnt_range": ("jnt_limited", "range"),
    "jnt_actfrcrange": ("jnt_actfrclimited", "actuatorfrcrange"),
    "tendon_range": ("tendon_limited", "range"),
    "actuator_ctrlrange": ("actuator_ctrllimited", "ctrlrange"),
    "actuator_forcerange": ("actuator_forcelimited", "forcerange"),
}


def refuse_bad_numbers(source: Any) -> None:
    """Refuse coefficients below zero, and numbers that are not finite once compiled.

    Args:
        source: a `warp_envs.usd.conversion.source.Source`.

    Raises:
        ValueError: one, by its element.
    """
    for field, what in _NEVER_NEGATIVE.items():
        for index in _rows_with(_values(source.model, field) < 0.0):
            least = np.min(_values(source.model, field)[index])
            given = f"{what} {least:g}{_of(source, field, index)}"
            raise ArgumentError(str(source.path), given, "no negative number")
    for field in sorted(HONOURED | CARRIED):
        values = _values(source.model, field)
        for index in _rows_with(~np.isfinite(values)):
            given = f"{field}{_of(source, field, index)}, {values[index].tolist()} once compiled,"
            raise ArgumentError(str(source.path), given, "finite numbers")


def reversed_ranges(source: Any) -> Iterator[str]:
    """Ranges whose ends are one, or the wrong way round, and which MuJoCo then leaves out."""
    for field, (flag, what) in _RANGES.items():
        limited = np.asarray(getattr(source.model, flag))
        for index, ends in enumerate(_values(source.model, field)):
            if not limited[index] and ends[0] >= ends[1] and np.any(ends != 0.0):
                low, high = map(float, ends)
                given = f"{what} {low:g} to {high:g}{_of(source, field, index)}"
                yield f"{given}, which nothing is between: it bounds nothing, as in MuJoCo"


def _values(model: Any, field: str) -> np.ndarray:
    """An array of a model, a row for each thing, or a setting of its options ("opt.density")."""
    owner, name = (model.opt, field[4:]) if field.startswith("opt.") else (model, field)
    return np.atleast_1d(np.array(getattr(owner, name), dtype=np.float64))


def _rows_with(bad: np.ndarray) -> list[int]:
    """Rows in which something is bad."""
    return np.unique(np.nonzero(bad)[0]).tolist()


def _of(source: Any, field: str, index: int) -> str:
    """To which thing a row of an array belongs, as in "of joint 'knee'"."""
    prefix = field.partition("_")[0]
    if prefix not in _KINDS or field.startswith("opt."):
        return ""
    if prefix == "dof":
        index = int(source.model.dof_jntid[index])
    return f" of {_KINDS[prefix]} {source.name(_KINDS[prefix], index)!r}"
