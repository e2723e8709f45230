"""Functions of Warp as traced programs: the same equations, for vectors of vehicles on a CPU.

A `wp.func` is a Python function; it is run here on `Scalar`s, which write down what it does
(`kernels.compiled.tracer`), with stand-ins for Warp's functions. What cannot be written down as a
straight line (branches on numbers, loops, arrays, other functions of Warp) is not traceable, and
neither is what Warp would not translate: a literal that is not of a number's type.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import warp as wp

from kernels.compiled import tracer
from kernels.compiled.tracer import Expression, Trace
from kernels.traffic import idm


class UntraceableError(Exception):
    """A function that is no straight line of the operations known here."""


class Condition:
    """A comparison, of use to `wp.where` only."""

    def __init__(self, less: Expression, holds: bool = True) -> None:
        """`less` if it `holds`, else its contrary."""
        self.less, self.holds = less, holds

    def __bool__(self) -> bool:
        raise UntraceableError("a branch on a number")


class Scalar:
    """A number of Warp's: takes part in arithmetic with its like alone.

    A trace has a class of its own, so that `type(x)(0.5)` is a number there.
    """

    trace: Trace
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any) -> None:
        """A number, another scalar or an expression."""
        if isinstance(value, Scalar):
            value = value.value
        self.value = value if isinstance(value, Expression) else self.trace.constant(value)

    def _with(self, function: Callable[..., Expression], *others: Any) -> Any:
        if any(type(other) is not type(self) for other in others):
            raise UntraceableError(f"{others} with a number of another type")
        return type(self)(function(self.value, *(other.value for other in others)))

    def __add__(self, other: Any) -> Any:
        return self._with(lambda a, b: a + b, other)

    def __sub__(self, other: Any) -> Any:
        return self._with(lambda a, b: a - b, other)

    def __mul__(self, other: Any) -> Any:
        return self._with(lambda a, b: a * b, other)

    def __truediv__(self, other: Any) -> Any:
        return self._with(lambda a, b: a / b, other)

    def __neg__(self) -> Any:
        return self._with(lambda a: -a)

    def __lt__(self, other: Any) -> Condition:
        return Condition(self._with(lambda a, b: a < b, other).value)

    def __gt__(self, other: Any) -> Condition:
        return Condition(self._with(lambda a, b: b < a, other).value)

    def _refuse(self, *others: Any) -> Any:
        raise UntraceableError("an operation of which no straight line is known")

    __eq__ = __ne__ = __le__ = __ge__ = __bool__ = __float__ = __int__ = __index__ = _refuse
    __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __pow__ = __mod__ = __floordiv__ = _refuse
    __iter__ = __getitem__ = __abs__ = __round__ = _refuse


def scalars(trace: Trace) -> type[Scalar]:
    """The numbers of a trace."""
    return type("Scalar", (Scalar,), {"trace": trace})


def run(function: wp.Function, *arguments: Any) -> Any:
    """What a function returns for scalars of one trace, and sequences of them.

    Raises:
        UntraceableError: it is no straight line.
    """
    try:
        return _python(function)(*arguments)
    except UntraceableError:
        raise
    except Exception as error:  # whatever Python makes of code that is Warp's
        raise UntraceableError(str(error)) from error


def _where(condition: Any, a: Any, b: Any) -> Any:
    if not isinstance(condition, Condition):
        raise UntraceableError("where of no comparison of numbers")
    pair = (a, b) if condition.holds else (b, a)
    return pair[0]._with(lambda a, b: tracer.select(condition.less, a, b), pair[1])


def _isnan(a: Scalar) -> Condition:
    """Not below infinity: of numbers that are never infinite."""
    return Condition(a.value < float("inf"), holds=False)


_BUILTINS: dict[str, Callable[..., Any]] = {
    "min": lambda a, b: a._with(tracer.minimum, b),
    "max": lambda a, b: a._with(tracer.maximum, b),
    "sqrt": lambda a: a._with(tracer.sqrt),
    "tanh": lambda a: a._with(tracer.tanh),
    "where": _where,
    "isnan": _isnan,
}
"""Warp's functions by name."""

_PRIMITIVES: dict[str, Callable[..., Any]] = {
    idm.power.key: lambda a, b: a._with(tracer.power, b),
}
"""Functions with an adjoint of their own, by key."""


class _Warp:
    """Stands in for the module."""

    def __getattr__(self, name: str) -> Any:
        if name not in _BUILTINS:
            raise UntraceableError(f"wp.{name}")
        return _BUILTINS[name]


def _python(function: wp.Function) -> Callable[..., Any]:
    """The Python of a function, with stand-ins for what is Warp's in it."""
    if function.key in _PRIMITIVES and function.module is idm.power.module:
        return _PRIMITIVES[function.key]
    source = function.func
    own = (function.custom_grad_func, function.custom_replay_func, function.native_snippet)
    if source is None or any(part is not None for part in own):
        raise UntraceableError(f"{function.key} has code of its own")
    known = {
        name: _stand_in(source.__globals__[name])
        for name in source.__code__.co_names
        if name in source.__globals__
    }
    cells = tuple(types.CellType(_stand_in(c.cell_contents)) for c in source.__closure__ or ())
    return types.FunctionType(source.__code__, known, source.__name__, source.__defaults__, cells)


def _stand_in(value: Any) -> Any:
    if isinstance(value, wp.Function):
        return _python(value)
    return _Warp() if value is wp else value
