"""What the class of an environment has to declare, and whether its kernels agree with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import warp as wp

from warp_envs.bridge.program import Program
from warp_envs.checks import ArgumentError

DECLARED = {
    "name": "a string, as 'ant'",
    "num_obs": "a number of observations",
    "num_actions": "a number of actions",
    "max_episode_steps": "a time limit in steps",
    "state_layout": "a mapping of names to numbers per environment",
    "reward_terms": "the names of the terms whose sum is the reward",
}
"""What an environment has to declare, and what it is."""


UNWRITTEN = 2.0**100
"""What no kernel has written yet, where it is to be seen that one does."""


def check_declared(env: Any, declared: Mapping[str, str]) -> None:
    """Raise ArgumentError for the first attribute of `declared`, name -> what, that `env` lacks."""
    for attribute, what in declared.items():
        if not hasattr(env, attribute):
            raise ArgumentError(f"{type(env).__name__}.{attribute}", "nothing", what)


def check_defined(cls: type) -> None:
    """Raise ArgumentError for the first method that a class was to define and did not."""
    for method in ("record_step", "record_observation", "record_outcome", "record_initial_state"):
        if getattr(getattr(cls, method), "__isabstractmethod__", False):
            raise ArgumentError(f"{cls.__name__}.{method}", "nothing", "a method")


def check_terms(names: Any) -> None:
    """Raise ArgumentError unless `names` can be those of a reward's terms."""
    accepted = "different names, one at least, in a tuple"
    whole = isinstance(names, (tuple, list)) and all(isinstance(name, str) for name in names)
    if not whole or not names or len(set(names)) < len(names):
        raise ArgumentError("reward_terms", repr(names), accepted)


def check_sizes(program: Program, sizes: Mapping[str, wp.array]) -> None:
    """Raise ArgumentError where the kernels, having run once, write more or less than declared.

    Args:
        program: that has run.
        sizes: what declares it -> the array (num_envs, size); of those filled with UNWRITTEN every
            column is to be written.
    """
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
