"""The Warp types of one precision, so that one generic kernel source serves float32 and float64.

Kernels take their structs and arrays as ``Any``; a struct class exists once per scalar type and is
made by a factory (see `kernels.articulation.dynamics`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import warp as wp


@dataclass(frozen=True)
class Precision:
    """A scalar type with the vectors, quaternion and matrices built on it."""

    scalar: Any
    vec3: Any
    vec6: Any
    quat: Any
    mat33: Any
    mat66: Any


@cache
def precision_of(scalar: type) -> Precision:
    """The types on ``wp.float32`` or ``wp.float64``.

    Raises:
        ValueError: another scalar type is given.
    """
    if scalar not in (wp.float32, wp.float64):
        raise ValueError(f"scalar: {scalar} given, wp.float32 or wp.float64 accepted")
    return Precision(
        scalar=scalar,
        vec3=wp.types.vector(3, scalar),
        vec6=wp.types.vector(6, scalar),
        quat=wp.types.quaternion(scalar),
        mat33=wp.types.matrix((3, 3), scalar),
        mat66=wp.types.matrix((6, 6), scalar),
    )


def by_precision(function: Callable, enable_backward: bool | None = None) -> dict[type, wp.Kernel]:
    """A generic kernel for each scalar type, in a module of its own.

    A module is compiled as a whole and again whenever one of its generic kernels meets new types;
    alone in its module, a large kernel is compiled when it is first run and never again. Without
    an adjoint, as `enable_backward` may say, that takes a fraction of the time.
    """
    name = f"{function.__module__}.{function.__name__}"
    return {
        scalar: wp.kernel(
            module=wp.get_module(f"{name}.{scalar.__name__}"), enable_backward=enable_backward
        )(function)
        for scalar in (wp.float32, wp.float64)
    }


def stores_only(function: wp.Function) -> wp.Function:
    """Mark a Warp function that returns nothing and whose stores need no replay.

    An adjoint kernel runs the primal code again before it differentiates it; plain array stores are
    left out of that, because every array already holds its final value. A function that only stores
    deserves the same: it would otherwise run twice more, and add to its accumulators each time.
    """
    function.skip_replay = True
    for overload in (*function.user_overloads.values(), *function.user_templates.values()):
        overload.skip_replay = True
    return function
