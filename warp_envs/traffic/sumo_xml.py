"""SUMO's XML files, read without document types, and what their elements may say.

Of each element that is read a table (`Attributes`) tells what becomes of its attributes; one that
is in none is refused.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warp_envs.checks import LARGEST, ArgumentError, near_matches

_SCHEMA = "{http://www.w3.org/2001/XMLSchema-instance}"
"""Of attributes that tell of a file's schema, at its top."""

TRUE = ("1", "true", "yes", "on", "x", "True")
FALSE = ("0", "false", "no", "off", "-", "False")
"""How SUMO writes flags."""

_CLASSES = frozenset(
    (
        *("all", "passenger", "private", "emergency", "authority", "army", "vip", "hov", "taxi"),
        *("bus", "coach", "delivery", "truck", "trailer", "motorcycle", "moped", "evehicle"),
        *("bicycle", "pedestrian", "wheelchair", "scooter", "custom1", "custom2"),
        *("tram", "rail_urban", "rail", "rail_electric", "rail_fast", "subway", "cable_car"),
        *("ship", "container", "aircraft", "drone"),
    )
)
"""SUMO's classes of vehicles, all of them together and those that a lane may be open to."""

CARS = frozenset({"passenger", "all"})
"""Of them those that passenger cars are of."""


class _WithoutDoctype(ET.TreeBuilder):
    """Elements alone: no document type, so no entities that grow."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse it."""
        raise ArgumentError(name, "a document type declaration", "none")


@dataclass(frozen=True)
class Attributes:
    """What becomes of an element's attributes and children; all others are refused.

    Attributes:
        read: attributes that are read.
        idle: those that change nothing here, nor what vehicles do in SUMO.
        fixed: those that would change something, with the values of which all mean SUMO's default.
        classes: lists of classes of vehicles, which must be open to passenger cars: all but
            "disallow" name those that may.
        children: tags of the elements that may lie in it.
    """

    read: Collection[str] = ()
    idle: Collection[str] = ()
    fixed: Mapping[str, float | tuple[str, ...]] = field(default_factory=dict)
    classes: Collection[str] = ()
    children: Collection[str] = ()

    def check(self, key: str, element: ET.Element) -> None:
        """Refuse what an element says beyond them.

        Raises:
            ArgumentError: an attribute or a child that is not known, or a value that would change
                what vehicles do in a way that is not driven here.
        """
        for name, text in element.items():
            if name in self.fixed:
                _check_fixed(f"{key}: {name}", text, self.fixed[name])
            elif name in self.classes:
                _check_classes(f"{key}: {name}", text, barred=name == "disallow")
            elif not (name in self.read or name in self.idle or name.startswith(_SCHEMA)):
                known = [*self.read, *self.idle, *self.fixed, *self.classes]
                hint = near_matches(name, known)
                raise ArgumentError(f"{key}: {name}", repr(text), "no such attribute", hint)
        for child in element:
            if child.tag not in self.children:
                place = " ".join(filter(None, (child.tag, child.get("id"))))
                accepted = ", ".join(self.children) or "attributes alone"
                raise ArgumentError(f"{key}: {place}", "that", accepted)


def _check_fixed(key: str, text: str, wanted: float | tuple[str, ...]) -> None:
    if isinstance(wanted, tuple):
        if text not in wanted:
            raise ArgumentError(key, repr(text), repr(wanted[0]))
        return
    if _as_float(text) != wanted:
        raise ArgumentError(key, repr(text), f"{wanted:g}")


def _check_classes(key: str, text: str, *, barred: bool) -> None:
    names = set(text.split())
    unknown = sorted(names - _CLASSES)
    if unknown:
        hint = near_matches(unknown[0], _CLASSES)
        raise ArgumentError(key, repr(text), "classes of vehicles as SUMO has them", hint)
    if barred == bool(names & CARS):
        accepted = f"{'none' if barred else 'one'} of {sorted(CARS)} in it"
        raise ArgumentError(key, repr(text), accepted)


def parse(path: Path, tag: str) -> ET.Element:
    """The top element of a file.

    Raises:
        ArgumentError: a file that cannot be read, is no XML, declares a document type or has
            another element at its top.
    """
    try:
        root = ET.parse(path, parser=ET.XMLParser(target=_WithoutDoctype())).getroot()
    except ArgumentError as error:
        raise error.renamed(str(path)) from None
    except OSError as error:
        raise ArgumentError(str(path), error.strerror or str(error)) from error
    except (ET.ParseError, ValueError) as error:
        raise ArgumentError(str(path), f"no XML: {error}") from error
    if root is None or root.tag != tag:
        found = "nothing" if root is None else f"<{root.tag}>"
        raise ArgumentError(str(path), f"{found} at its top", f"<{tag}>")
    return root


def elements(root: ET.Element) -> Iterator[ET.Element]:
    """What lies right below the top, comments left out."""
    return (element for element in root if isinstance(element.tag, str))


def identify(path: Path, element: ET.Element, taken: Collection[str]) -> str:
    """The id of an element.

    Raises:
        ArgumentError: it has none, or one that is taken.
    """
    name = element.get("id", "")
    if not name:
        raise ArgumentError(f"{path}: {element.tag}: id", shown(element, "id"), "a name")
    if name in taken:
        given = f"{name!r} a second time"
        raise ArgumentError(f"{path}: {element.tag} {name}: id", given, "each once")
    return name


def by_id(path: Path, group: Iterable[ET.Element]) -> dict[str, ET.Element]:
    """Elements by their ids.

    Raises:
        ArgumentError: one has none, or two have the same.
    """
    found: dict[str, ET.Element] = {}
    for element in group:
        found[identify(path, element, found)] = element
    return found


def shown(element: ET.Element, name: str) -> str:
    """An attribute as errors show it."""
    text = element.get(name)
    return "none" if text is None else repr(text)


def number(
    key: str,
    element: ET.Element,
    name: str,
    default: float | None = None,
    low: float = -math.inf,
    *,
    above: bool = False,
) -> float:
    """An attribute as a finite number of at least `low`, or above it.

    Raises:
        ArgumentError: none is given and there is no default, or it is no such number.
    """
    text = element.get(name)
    if text is None and default is not None:
        return default
    value = _as_float(text or "")
    if not abs(value) <= LARGEST or value < low or (above and value == low):
        bound = f" {'above' if above else 'of at least'} {low:g}" if math.isfinite(low) else ""
        raise ArgumentError(f"{key}: {name}", shown(element, name), f"a number{bound}")
    return value


def whole(key: str, element: ET.Element, name: str, high: int | None = None) -> int:
    """An attribute as a whole number from 0 to `high`.

    Raises:
        ArgumentError: it is none.
    """
    value = as_whole(element.get(name, ""))
    if value is None or (high is not None and value > high):
        accepted = "a whole number" if high is None else f"a whole number from 0 to {high}"
        raise ArgumentError(f"{key}: {name}", shown(element, name), accepted)
    return value


def seconds(key: str, element: ET.Element, name: str, default: float | None = None) -> float:
    """An attribute as a time [s] of at least 0: a number, or hours:minutes:seconds.

    Raises:
        ArgumentError: none is given and there is no default, or it is none.
    """
    text = element.get(name)
    if text is None and default is not None:
        return default
    parts = [_as_float(part) for part in (text or "").split(":")]
    value = math.nan
    if len(parts) in (1, 3):
        value = sum(
            part * unit for part, unit in zip(parts[::-1], (1.0, 60.0, 3600.0), strict=False)
        )
    if not 0.0 <= value <= LARGEST:
        accepted = "a time of at least 0: seconds, or hours:minutes:seconds"
        raise ArgumentError(f"{key}: {name}", shown(element, name), accepted)
    return value


def as_whole(text: str) -> int | None:
    """A whole number of up to nine digits, or None for another text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def lane_of(text: str) -> tuple[str, int] | None:
    """Edge and index of a lane's name, as SUMO's ``edge_index``, or None for another text."""
    edge, _, index = text.rpartition("_")
    lane = as_whole(index)
    return None if lane is None or not edge else (edge, lane)


def _as_float(text: str) -> float:
    try:
        return math.nan if "_" in text else float(text)  # Python reads 1_000
    except ValueError:
        return math.nan
