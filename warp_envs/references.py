"""Classes named ``module:Class``, as ``my_pkg.robots:PlanarEnv``."""

from __future__ import annotations

import importlib
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from warp_envs.checks import ArgumentError, near_matches

_IN_PACKAGE = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*):([^/\\:][^:]*)")


def is_reference(name: str) -> bool:
    """Whether `name` is of the form ``module:Class``, as ``my_pkg.robots:PlanarEnv``."""
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name) is not None


def load_reference(key: str, reference: str) -> Any:
    """What ``module:Class`` names, its module imported.

    Args:
        key: the argument that named it, for the error.
        reference: the module's dotted name and the class's.

    Raises:
        ArgumentError: there is no such module, or nothing of the name in it. What else goes wrong
            while the module is imported is the module's own error.
    """
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; one that it imports is not
        hint = "; the folder that commands are started from is searched, and the installed packages"
        if module_name.endswith(".py"):
            hint = f"; a module is named without .py: {module_name.removesuffix('.py')}:{name}"
        accepted = f"a module that can be imported (there is no {error.name!r})"
        raise ArgumentError(key, repr(reference), accepted, hint) from error
    if not hasattr(module, name):
        classes = [n for n, value in vars(module).items() if isinstance(value, type)]
        hint = near_matches(name, classes)
        raise ArgumentError(key, repr(reference), f"a class of {module_name}", hint)
    return getattr(module, name)


def file_of(asset: str | os.PathLike[str]) -> Path:
    """The file that an asset names; ``package:path`` is one in an installed Python package.

    Raises:
        ValueError: no such package, or no path.
    """
    if not isinstance(asset, str | os.PathLike):
        raise ArgumentError("asset", repr(asset), "the path of a robot's file")
    found = _IN_PACKAGE.fullmatch(os.fspath(asset))
    if found is None or Path(asset).exists():
        return Path(asset)
    package, inside = found.groups()
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        spec = None
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise ArgumentError("asset", repr(os.fspath(asset)), "a file, or one of a Python package")
    return Path(folders[0]) / inside
