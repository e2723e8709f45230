"""The training methods, one file each; a new file here is found by itself.

A method's file defines a subclass of `Method` with its `name` and `config_class`. Names and
settings are read from the files without running them; a method is imported when it is used.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gippo.schema import class_attributes, settings_class, source_of
from warp_envs.checks import ArgumentError, check_callable_with, check_choice, check_name
from warp_envs.registry import is_reference, load_reference

if TYPE_CHECKING:
    from gippo.methods.base import Method

_others: dict[str, type[Method]] = {}
"""Methods from outside this folder, by name or reference: registered ones and those used."""


class _Source(NamedTuple):
    module: str
    name: str
    config: str


@cache
def _built_in() -> dict[str, _Source]:
    """The methods of this folder by name."""
    found: dict[str, _Source] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = f"{__name__}.{module_info.name}"
        for name, attributes in class_attributes(module, "Method"):
            config = attributes["config_class"]
            assert isinstance(config, ast.Name), f"{module}: config_class is the name of a class"
            found[ast.literal_eval(attributes["name"])] = _Source(module, name, config.id)
    return found


def method_names() -> tuple[str, ...]:
    """The names that ``algo=`` accepts, beside references ``module:Class``."""
    return (*_built_in(), *(name for name in _others if not is_reference(name)))


def is_built_in(name: str) -> bool:
    """Whether a method's file lies in this folder."""
    return name in _built_in()


def register_method(name: str, method: type[Method] | str) -> None:
    """Let ``algo=NAME`` in this process, and `Learner`, know a method.

    Without this, ``module:Class`` names it as well, in any process.

    Args:
        name: lower case, digits and underscores, as "evolution_strategies".
        method: the subclass of `Method`, or "module:Class".

    Raises:
        ArgumentError: a name that is taken or not of this form, or no such method, or one without
            settings of its own.
    """
    if not isinstance(name, str) or re.fullmatch(r"[a-z][a-z0-9_]*", name) is None:
        raise ArgumentError("name", repr(name), "lower-case letters, digits and underscores")
    registered = _others.get(name, method)
    if name in _built_in() or (registered is not method and not isinstance(method, str)):
        raise ArgumentError("name", repr(name), "a name that is not taken")
    cls = _check_method("method", method)
    if _others.get(name, cls) is not cls:
        raise ArgumentError("name", repr(name), "a name that is not taken")
    _others[name] = cls


def method_class(name: str) -> type[Method]:
    """The class of a method, imported now if need be.

    Args:
        name: one of `method_names()`, or ``module:Class``.

    Raises:
        ArgumentError: there is none.
    """
    if isinstance(name, str) and is_reference(name):
        _others[name] = _check_method("algo", name)
    if name in _others:
        return _others[name]
    check_choice("algo", name, method_names())
    source = _built_in()[name]
    return getattr(importlib.import_module(source.module), source.name)


def config_class(name: str) -> type:
    """The settings of a method: of a built-in one as `gippo.schema` makes them, without torch.

    Raises:
        ArgumentError: there is no such method.
    """
    if name in _built_in():
        source = _built_in()[name]
        return settings_class(source.module, source.config)
    return method_class(name).config_class


def method_of(config: Any) -> type[Method]:
    """The method that a config belongs to.

    Raises:
        ArgumentError: it belongs to none.
    """
    for method in _others.values():
        if type(config) is method.config_class:
            return method
    for name in _built_in():
        if source_of(config_class(name)) == (type(config).__module__, type(config).__qualname__):
            return method_class(name)
    accepted = [source.config for source in _built_in().values()]
    accepted += [method.config_class.__name__ for method in _others.values()]
    raise ArgumentError("method_config", f"a {type(config).__name__}", f"one of {accepted}")


def _check_method(key: str, given: Any) -> type[Method]:
    from gippo.methods.base import Method  # torch, needed from here on

    cls = load_reference(key, given) if isinstance(given, str) else given
    if not isinstance(cls, type) or not issubclass(cls, Method):
        given = given if isinstance(given, str) else getattr(cls, "__qualname__", cls)
        raise ArgumentError(key, repr(given), "a subclass of gippo.Method")
    _check_defined(cls)
    check_name(f"{cls.__qualname__}.name", getattr(cls, "name", None))
    _check_settings(cls, getattr(cls, "config_class", None))
    return cls


_CALLED = {
    "__init__": "(self, context, config)",
    "update": "(self, window, epoch)",
    "state_dict": "(self)",
    "load_state_dict": "(self, state)",
}
"""What a method defines, and its parameters."""


def _check_defined(cls: type[Method]) -> None:
    for name, parameters in _CALLED.items():
        function, key = getattr(cls, name), f"{cls.__qualname__}.{name}"
        if getattr(function, "__isabstractmethod__", False):
            raise ArgumentError(key, "nothing", f"a method{parameters}")
        check_callable_with(key, function, parameters.count(",") + 1, parameters)


def _check_settings(cls: type[Method], settings: Any) -> None:
    """Raise ArgumentError unless `settings` are a dataclass of the method's own, as YAML has it."""
    key = f"{cls.__qualname__}.config_class"
    if not isinstance(settings, type) or not dataclasses.is_dataclass(settings):
        raise ArgumentError(key, repr(settings), "a dataclass")
    own = (settings.__module__, settings.__qualname__)
    taken = [name for name in _built_in() if source_of(config_class(name)) == own]
    taken += [n for n, m in _others.items() if m is not cls and m.config_class is settings]
    if taken:
        hint = f"; {settings.__name__} is that of {taken[0]!r}: derive one from it"
        raise ArgumentError(key, settings.__name__, "a class of the method's own", hint)
    if "name" in (entry.name for entry in dataclasses.fields(settings)):
        raise ArgumentError(f"{settings.__qualname__}.name", "a setting", "another name for it")
    try:
        OmegaConf.structured(settings)
    except (OmegaConfBaseException, ValueError) as error:
        given = " ".join(str(error).split())
        raise ArgumentError(key, f"{settings.__name__} ({given})", _PLAIN) from error


_PLAIN = "fields of bool, int, float, str, lists and mappings of these, and dataclasses of them"
