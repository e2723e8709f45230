"""Which code made a run: a hash of the sources that decide its numbers."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from warp_envs.registry import is_reference

_ROOTS = ("gippo", "warp_envs", "kernels")
_STARTS = ("gippo.learner", "gippo.environment")
_LEFT_OUT = (
    "warp_envs.viewing.preview",
    "warp_envs.recording.scenes",
    "warp_envs.recording.recorder",
)
"""They write pictures and files of motion."""


@cache
def code_version(method: str) -> str:
    """Of the learner, one method, the environments, their kernels and assets: 8 hex digits.

    It covers whatever `gippo.learner`, `gippo.environment` and the method's own file import from
    this project, without comments and docstrings: a change to a plot or to an explanation leaves
    runs as they are, one to a kernel does not.
    """
    return digest_of_sources(method)


def digest_of_sources(method: str) -> str:
    """The same, read anew."""
    digest = hashlib.sha256()
    for path in _sources(method):
        text = path.read_text(encoding="utf-8")
        digest.update(path.name.encode())
        digest.update((_bare(text) if path.suffix == ".py" else text).encode())
    return digest.hexdigest()[:8]


@cache  # all is read anew with each run that begins, and parsed where it has changed: that is slow
def _bare(source: str) -> str:
    """A module without comments, layout and strings that stand by themselves."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _sources(method: str) -> list[Path]:
    pending = [*_STARTS, f"gippo.methods.{method}"]
    found: dict[str, Path] = {}
    while pending:
        name = pending.pop()
        if name in found or name in _LEFT_OUT:
            continue
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        found[name] = Path(spec.origin)
        package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        pending += [package, *_imports(found[name].read_text(encoding="utf-8"), package)]
    return [*(found[name] for name in sorted(found)), *_assets()]


@cache
def _imports(source: str, package: str) -> tuple[str, ...]:
    """The modules of this project that a file imports or names as "module:Class".

    Inside functions too, but not for type checkers alone.
    """
    names: list[str] = []
    for node in _walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                module = f"{base}.{module}".rstrip(".")
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names += [node.value.partition(":")[0]] if is_reference(node.value) else []
    own = (name for name in dict.fromkeys(names) if name.split(".")[0] in _ROOTS)
    return tuple(name for name in own if _is_module(name))


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a file that runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield from _walk(other)
            continue
        yield node
        yield from _walk(node)


@cache
def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # an attribute of a module that is no package
        return False


def _assets() -> list[Path]:
    spec = find_spec("warp_envs")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    folders = (package / "assets", package.parent / "assets")
    return sorted(path for folder in folders for path in folder.glob("*.usd*"))
