"""The keys of a command, told from the dataclass that holds them."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from omegaconf import MISSING

from gippo.schema import documentation

_COLUMN = 21
_WIDTH = 96


def describe_keys(
    schema: type,
    *,
    skip: Collection[str] = (),
    prefix: str = "",
    values: Mapping[str, Any] | None = None,
) -> str:
    """One paragraph per key: its name, what it is, and its default.

    Args:
        schema: a configuration dataclass; its keys' strings are their explanation.
        skip: keys left out.
        prefix: of the names.
        values: shown as ``name=value`` in place of the defaults.
    """
    lines: list[str] = []
    for entry in dataclasses.fields(schema):
        if entry.name in skip:
            continue
        name, default = f"{prefix}{entry.name}", _default(entry)
        given = None if values is None else values[entry.name]
        if dataclasses.is_dataclass(default):
            lines.append(describe_keys(type(default), prefix=f"{name}.", values=given))
            continue
        text = documentation(schema).get(entry.name, "")
        if values is not None:
            lines.append(_paragraph(f"{name}={_plain(given)}", text))
        elif default is MISSING:
            lines.append(_paragraph(name, text))
        else:
            lines.append(_paragraph(name, f"{text} Default {_plain(default)}."))
    return "\n".join(lines)


def describe_values(values: Mapping[str, Any], meanings: Mapping[str, str], prefix: str) -> str:
    """One paragraph per key: ``prefix name=value`` and what it is, if that is known."""
    return "\n".join(
        _paragraph(f"{prefix}{name}={_plain(value)}", _sentence(meanings.get(name, "")))
        for name, value in values.items()
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def listed(name: str, values: Iterable[str]) -> str:
    """A name with what it may be, as one of the paragraphs above."""
    return _paragraph(name, ", ".join(values))


def _paragraph(name: str, text: str) -> str:
    head = f"  {name}"
    indent = " " * _COLUMN
    body = textwrap.wrap(text.strip(), _WIDTH, initial_indent=indent, subsequent_indent=indent)
    if body and len(head) < _COLUMN - 1:
        body[0] = head.ljust(_COLUMN) + body[0].lstrip()
        return "\n".join(body)
    return "\n".join([head, *body])


def _default(entry: dataclasses.Field[Any]) -> Any:
    if entry.default_factory is not dataclasses.MISSING:
        return entry.default_factory()
    return MISSING if entry.default is dataclasses.MISSING else entry.default


def _plain(value: Any) -> str:
    """As the command line has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_plain(part)}" for name, part in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_plain, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    text = str(value)
    bare = re.fullmatch(r"[\w./:+*-]+", text) or not isinstance(value, str)
    return text if bare else f'"{text}"'
