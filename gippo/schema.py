"""Settings classes read from their source, without the modules they lie in.

Settings lie beside what they configure, in modules that import torch and Warp, which takes seconds.
A command line must be read, checked and explained without. So a settings class is made here a
second time from its source: of its module the class alone is run, with the constants, check
functions, base classes and parts that it names, which are found the same way. What lies outside of
`gippo` (dataclasses, math, `warp_envs.checks`) is imported as the module imports it.

`real` turns an object of such a class into one of the class itself, where training begins.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

from warp_envs.checks import ArgumentError

_PACKAGE = "gippo"
_MARK = "~"  # parts a module's dotted name and a class in a name without dots, which pickle needs


def settings_class(module: str, name: str) -> Any:
    """The settings dataclass `name` of `module`, made from its source.

    Raises:
        KeyError: the module defines or imports no such name.
    """
    return _value(module, name)


def source_of(settings: type) -> tuple[str, str]:
    """The module and the name that a class made here is a second edition of; else its own."""
    module, separator, name = settings.__qualname__.partition(_MARK)
    if settings.__module__ == __name__ and separator:
        return module.replace("/", "."), name
    return settings.__module__, settings.__qualname__


def real(settings: Any) -> Any:
    """The same settings, parts included, as objects of the classes that the code itself has."""
    module, name = source_of(type(settings))
    cls = getattr(importlib.import_module(module), name)
    values = {entry.name: getattr(settings, entry.name) for entry in dataclasses.fields(settings)}
    return cls(**{k: real(v) if dataclasses.is_dataclass(v) else v for k, v in values.items()})


def check_sections(key: str, settings: Any) -> None:
    """Raise ArgumentError if a part of some settings is not of the class that its default is of."""
    for entry in dataclasses.fields(settings):
        if entry.default_factory is dataclasses.MISSING:
            continue
        default, value = entry.default_factory(), getattr(settings, entry.name)
        if not dataclasses.is_dataclass(default):
            continue
        name = f"{key}.{entry.name}"
        if not isinstance(value, type(default)):
            raise ArgumentError(name, repr(value), f"an object of {type(default).__name__}")
        check_sections(name, value)


def documentation(settings: type) -> dict[str, str]:
    """The string that follows each attribute in the source, its base classes' included."""
    found: dict[str, str] = {}
    for cls in reversed(settings.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        module, name = source_of(cls)
        tree = _definitions(module).get(name) if find_spec(module) else None
        if not isinstance(tree, ast.ClassDef):  # made at run time
            continue
        for statement, following in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                found[statement.target.id] = " ".join(str(following.value.value).split())
    return found


def option_meanings(module: str, name: str) -> dict[str, str]:
    """What the "Args:" of a class's `__init__`, and of its bases', say of each option."""
    statement = _definitions(module).get(name) if _has_source(module) else None
    if isinstance(statement, ast.ImportFrom):
        (alias,) = (a for a in statement.names if (a.asname or a.name) == name)
        package = module.rpartition(".")[0]
        relative = "." * statement.level + (statement.module or "")
        return option_meanings(resolve_name(relative, package), alias.name)
    found: dict[str, str] = {}
    if isinstance(statement, ast.ClassDef):
        for base in reversed(statement.bases):
            if isinstance(base, ast.Name):
                found.update(option_meanings(module, base.id))
        for part in statement.body:
            if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                found.update(_arguments(ast.get_docstring(part) or ""))
    return found


def _arguments(docstring: str) -> dict[str, str]:
    """The entries below "Args:", a line each."""
    found: dict[str, str] = {}
    section = docstring.partition("Args:\n")[2].splitlines()
    indents = [len(line) - len(line.lstrip()) for line in section if line.strip()]
    name = ""
    for line in filter(str.strip, section):
        indent = len(line) - len(line.lstrip())
        entry = re.match(r"(\w+)(?: \(.*?\))?: *(.*)", line.strip())
        if indent == indents[0] and entry is not None:
            name, found[entry[1]] = entry.groups()
        elif indent > indents[0] and name:
            found[name] += f" {line.strip()}"
        else:
            break
    return found


def class_attributes(module: str, base: str) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    """The classes of a module whose base is named `base`, with what their attributes are set to."""
    for name, tree in _definitions(module).items():
        if not isinstance(tree, ast.ClassDef):
            continue
        if any(isinstance(b, ast.Name) and b.id == base for b in tree.bases):
            yield name, dict(_assignments(tree.body))


def __getattr__(name: str) -> Any:
    """The class of this name, for a pickle that names one.

    Launchers pass configurations between processes. A class that a pickle cannot name it carries
    along, and the copy that comes back would not be the class that is here.
    """
    module, separator, own = name.partition(_MARK)
    if not separator:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return settings_class(module.replace("/", "."), own)


def _has_source(module: str) -> bool:
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return False
    return spec is not None and str(spec.origin).endswith(".py")


@cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """What a module's top level defines or imports, by name; nothing of it is run."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, f"{module} has no source"
    found: dict[str, ast.stmt] = {}
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    inner = [part for statement in body if isinstance(statement, ast.If) for part in statement.body]
    for statement in [*inner, *body]:  # first, as what stands under "if TYPE_CHECKING" yields
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            found.update((a.asname or a.name.partition(".")[0], statement) for a in statement.names)
        else:
            found.update((name, statement) for name, _ in _assignments([statement]))
    return found


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for statement in body:
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))


@cache
def _value(module: str, name: str) -> Any:
    """What `name` stands for in a module."""
    statement = _definitions(module)[name]
    if isinstance(statement, ast.ImportFrom):
        (alias,) = (a for a in statement.names if (a.asname or a.name) == name)
        assert statement.module is not None and statement.level == 0
        if statement.module.partition(".")[0] == _PACKAGE:
            return _value(statement.module, alias.name)
        return getattr(importlib.import_module(statement.module), alias.name)
    if isinstance(statement, ast.Import):
        return importlib.import_module(name)
    return _run(module, name, statement)


def _run(module: str, name: str, statement: ast.stmt) -> Any:
    """Run one statement of a module, with what it names, and return what it defined."""
    known = _definitions(module)
    # A field may be called as something that its module imports: what is assigned is not needed.
    nodes = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    named = {node.id for node in nodes if isinstance(node.ctx, ast.Load)} - {name}
    # Annotations are never evaluated there: a part's class is also named by its default's factory.
    needed = {n for n in named if n in known and not _only_annotates(statement, n)}
    namespace: dict[str, Any] = {n: _value(module, n) for n in sorted(needed)}
    namespace["__name__"] = __name__
    future = ast.parse("from __future__ import annotations").body
    tree = ast.Module([*future, statement], type_ignores=[])
    exec(compile(tree, f"<settings of {module}>", "exec"), namespace)
    made = namespace[name]
    if isinstance(made, type):
        made.__qualname__ = f"{module.replace('.', '/')}{_MARK}{name}"
        _resolve_annotations(made, namespace)
    return made


def _only_annotates(statement: ast.stmt, name: str) -> bool:
    """Whether a statement names something in annotations only."""
    annotations = [
        n.annotation for n in ast.walk(statement) if isinstance(n, ast.AnnAssign | ast.arg)
    ]
    annotations += [n.returns for n in ast.walk(statement) if isinstance(n, ast.FunctionDef)]
    inside = {id(n) for a in annotations if a is not None for n in ast.walk(a)}
    nodes = (n for n in ast.walk(statement) if isinstance(n, ast.Name) and n.id == name)
    return all(id(n) in inside for n in nodes if isinstance(n.ctx, ast.Load))


def _resolve_annotations(cls: type, namespace: dict[str, Any]) -> None:
    """Give the fields types in place of strings, which would be looked up in this module."""
    for key, text in list(vars(cls).get("__annotations__", {}).items()):
        cls.__annotations__[key] = eval(text, dict(namespace))
    for entry in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        if isinstance(entry.type, str):
            entry.type = cls.__annotations__.get(entry.name, entry.type)
