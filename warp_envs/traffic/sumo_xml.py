"""SUMO's XML files, read without document types."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator
from pathlib import Path

from warp_envs.checks import ArgumentError, near_matches


class _WithoutDoctype(ET.TreeBuilder):
    """Elements alone: no document type, so no entities that grow."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse it."""
        raise ArgumentError(name, "a document type declaration", "none")


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


def number(key: str, element: ET.Element, name: str, default: float | None = None) -> float:
    """An attribute as a finite number.

    Raises:
        ArgumentError: none is given and there is no default, or it is no number.
    """
    text = element.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text if text is not None else "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentError(f"{key}: {name}", repr(text), "a number")
    return value


def seconds(key: str, element: ET.Element, name: str, default: float) -> float:
    """An attribute as a time [s]: a number, or hours:minutes:seconds.

    Raises:
        ArgumentError: it is none.
    """
    text = element.get(name)
    parts = [] if text is None else text.split(":")
    if len(parts) == 3:
        try:
            hours, minutes, rest = (float(part) for part in parts)
            return 3600.0 * hours + 60.0 * minutes + rest
        except ValueError:
            pass
    return number(key, element, name, default)


def refuse_others(key: str, element: ET.Element, known: Collection[str]) -> None:
    """Raise an ArgumentError at an attribute that is not known."""
    for name in element.keys():  # noqa: SIM118, an element iterates over its children
        if name not in known:
            hint = near_matches(name, known)
            raise ArgumentError(
                f"{key}: {name}", repr(element.get(name)), "no such attribute", hint
            )
