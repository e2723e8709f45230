"""What the class of an environment declares and defines, and whether its kernels agree with it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import warp as wp

from warp_envs.bridge.building import nothing_runs
from warp_envs.bridge.program import Program
from warp_envs.checks import (
    ArgumentError,
    check_callable_with,
    check_integer,
    check_name,
    near_matches,
)


class Quantity(NamedTuple):
    """Numbers that stand beside each other in an observation or an action, and are of one kind."""

    name: str
    unit: str
    """SI; "1": none. Of an action what it is at 1, as "200 N m"."""
    count: int = 1


DECLARED = {
    "name": "a string, as 'ant'",
    "num_obs": "a number of observations",
    "num_actions": "a number of actions",
    "max_episode_steps": "a time limit in steps",
    "state_layout": "a mapping of names to numbers per environment",
    "reward_terms": "the names of the terms whose sum is the reward",
}
"""What an environment has to declare, and what it is."""

_METHODS = {
    "record_step": "(self, program, state, action, next_state)",
    "record_observation": "(self, program, state, obs)",
    "record_outcome": "(self, program, state, action, next_state, reward_terms, terminated)",
    "record_initial_state": "(self, program, rng, state)",
}
"""What an environment has to define, and its parameters."""
_SHARED = ("num_envs", "device", "dtype", "seed")
"""Options that every environment is made with."""

UNWRITTEN = 2.0**100
"""What no kernel has written yet, where it is to be seen that one does."""


class Arrays(dict[str, wp.array]):
    """Arrays by name; a name that there is not is told with those that there are."""

    parameters: wp.array | None = None
    """The numbers that vary from environment to environment, (num_envs, n), where any do."""

    def __init__(self, key: str) -> None:
        """No arrays yet; `key` is what they are called in errors."""
        super().__init__()
        self._key = key

    def __missing__(self, name: object) -> wp.array:
        hint = near_matches(str(name), self)
        raise ArgumentError(self._key, repr(name), f"one of {list(self)}", hint)


def check_declared(env: Any, declared: Mapping[str, str]) -> None:
    """Raise ArgumentError for the first attribute of `declared`, name -> what, that `env` lacks."""
    for attribute, what in declared.items():
        if not hasattr(env, attribute):
            raise ArgumentError(f"{type(env).__name__}.{attribute}", "nothing", what)


def check_widths(key: str, layout: Any) -> None:
    """Raise ArgumentError unless `layout` maps names to numbers per environment, 1 or more each."""
    if not isinstance(layout, Mapping):
        raise ArgumentError(key, repr(layout), DECLARED["state_layout"])
    for name, width in layout.items():
        check_integer(f"{key}[{name!r}]", width, 1)


def check_class(cls: Any) -> None:
    """Raise ArgumentError for the first fault that an environment's class shows before it is made.

    That is a method that it was to define and did not, or with other parameters; options that do
    not reach the base; and, of a class that leaves `__init__` to one of this package, what it was
    to declare. Whoever calls it need not wait for a compiler.
    """
    for method, parameters in _METHODS.items():
        function = getattr(cls, method)
        if getattr(function, "__isabstractmethod__", False):
            raise ArgumentError(f"{cls.__name__}.{method}", "nothing", f"a method{parameters}")
        count = parameters.count(",") + 1
        check_callable_with(f"{cls.__name__}.{method}", function, count, parameters)
    _check_options(cls)
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    for attribute, what in vars(owner).get("declares", {}).items():
        if not hasattr(cls, attribute):
            raise ArgumentError(f"{cls.__name__}.{attribute}", "nothing", what)
    if isinstance(getattr(cls, "name", None), str):
        check_name(f"{cls.__name__}.name", cls.name)


def _check_options(cls: Any) -> None:
    key = f"{cls.__name__}.__init__"
    as_in = ", as in __init__(self, *, size=1, **options) with super().__init__(**options)"
    _, *parameters = inspect.signature(cls.__init__).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    for parameter in parameters:
        by_position = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        if by_position and parameter.name not in _SHARED:
            given = f"the option {parameter.name!r} by position"
            raise ArgumentError(key, given, f"keyword-only ones{as_in}")
    names = {parameter.name for parameter in parameters}
    missing = [name for name in _SHARED if name not in names]
    if missing and inspect.Parameter.VAR_KEYWORD not in kinds:
        raise ArgumentError(key, f"no {missing[0]!r}", f"the options of all environments{as_in}")


def check_terms(names: Any) -> None:
    """Raise ArgumentError unless `names` can be those of a reward's terms."""
    accepted = "different names, one at least, in a tuple"
    whole = isinstance(names, (tuple, list)) and all(isinstance(name, str) for name in names)
    if not whole or not names or len(set(names)) < len(names):
        raise ArgumentError("reward_terms", repr(names), accepted)


def check_sizes(program: Program, sizes: Mapping[str, wp.array]) -> None:
    """Raise ArgumentError where the kernels, having run once, write more or less than declared.

    Args:
        program: that has run, unless `nothing_runs`.
        sizes: what declares it -> the array (num_envs, size); of those filled with UNWRITTEN every
            column is to be written.
    """
    if nothing_runs():
        return
    overrun = program.overrun()
    for name, array in sizes.items():
        given = str(array.shape[1])
        if any(array is other for other in overrun):
            raise ArgumentError(name, given, "as many as the kernels write, which is more,")
        left = np.flatnonzero(np.all(array.numpy() == UNWRITTEN, axis=0)).tolist()
        if left:
            given += f", of which the kernels leave {left} unwritten,"
            raise ArgumentError(name, given, "as many as they write")
    if overrun:
        shapes = ", ".join(str(array.shape) for array in overrun)
        raise ArgumentError("kernels", f"a write past the end of an array {shapes}", "none")


def signature_of(cls: type) -> inspect.Signature:
    """Every option of a class: its own first, then those that its ``**options`` pass on."""
    options: dict[str, inspect.Parameter] = {}
    for owner in cls.__mro__:
        if "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(vars(owner)["__init__"]).parameters.values()
        for parameter in parameters:
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                options.setdefault(parameter.name, parameter)
        if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    limit = options.get("max_episode_steps")
    if limit is not None and limit.default is None and hasattr(cls, "max_episode_steps"):
        options["max_episode_steps"] = limit.replace(default=cls.max_episode_steps)
    return inspect.Signature(list(options.values()))
