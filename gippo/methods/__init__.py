"""The training methods, one file each; a new file here is found by itself.

A method's file defines a subclass of `Method` with its `name` and `config_class`.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from gippo.methods.base import Method
from warp_envs.checks import ArgumentError


@cache
def methods() -> dict[str, type[Method]]:
    """All methods by name."""
    found: dict[str, type[Method]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, Method) and value is not Method:
                found[value.name] = value
    return found


def config_classes() -> dict[str, type]:
    """Each method's config class, by the method's name."""
    return {name: method.config_class for name, method in methods().items()}


def method_of(config: Any) -> type[Method]:
    """The method that a config belongs to.

    Raises:
        ValueError: it belongs to none.
    """
    for method in methods().values():
        if type(config) is method.config_class:
            return method
    accepted = [method.config_class.__name__ for method in methods().values()]
    raise ArgumentError("method_config", f"a {type(config).__name__}", f"one of {accepted}")
