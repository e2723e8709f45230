"""The one error for what a caller gave, and the checks that raise it."""

from __future__ import annotations

import difflib
import inspect
import math
import operator
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

LARGEST = 1e30
"""Of any number: with room below single precision's limit, where torch refuses it."""


class ArgumentError(ValueError):
    """An argument, setting or file was refused. Its text is "key: given given, accepted accepted".

    Where nothing short would be accepted, as of a damaged file, it is "key: given".

    Whoever knows more of where a value came from raises it anew under the name that its user
    knows (`renamed`); nobody has to read the text for that.
    """

    def __init__(self, key: str, given: str, accepted: str = "", hint: str = "") -> None:
        """Say what was wrong.

        Args:
            key: the argument's name, or the file and the place in it.
            given: the value as it is shown: `repr` of it, or a description.
            accepted: what would have been; empty if `given` says it all.
            hint: what else helps, as "; did you mean 'ant'?".
        """
        said = f"{given} given, {accepted} accepted" if accepted else given
        super().__init__(f"{key}: {said}{hint}")
        self.key = key
        self.given = given
        self.accepted = accepted
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors pass between processes."""
        return type(self), (self.key, self.given, self.accepted, self.hint)

    def renamed(self, key: str) -> ArgumentError:
        """The same of another key."""
        return type(self)(key, self.given, self.accepted, self.hint)


def check_integer(key: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """The value as an int; True and False are none, numpy's integers are.

    Raises:
        ArgumentError: no integer, or not from `low` to `high`.
    """
    accepted = "an integer"
    if low is not None and high is not None:
        accepted = f"an integer from {low} to {high}"
    elif low is not None:
        accepted = f"an integer of at least {low}"
    try:
        number = operator.index(value)
    except TypeError:
        raise ArgumentError(key, repr(value), accepted) from None
    below, above = low is not None and number < low, high is not None and number > high
    if isinstance(value, bool) or below or above:
        raise ArgumentError(key, repr(value), accepted)
    return number


def check_number(
    key: str,
    value: Any,
    low: float = 0.0,
    high: float = LARGEST,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise ArgumentError unless `value` is a finite number in the interval; a bool is none."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    good = good and (low < value if open_low else low <= value)
    good = good and (value < high if open_high else value <= high)
    if not good:
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ArgumentError(key, repr(value), f"a number in {interval}")


def check_positive(key: str, value: Any) -> None:
    """Raise ArgumentError unless `value` is a finite number above zero."""
    check_number(key, value, 0.0, open_low=True)


def check_choice(key: str, value: Any, choices: Collection[str]) -> None:
    """Raise ArgumentError, which asks for the nearest, unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        hint = near_matches(value, choices) if isinstance(value, str) else ""
        raise ArgumentError(key, repr(value), f"one of {list(choices)}", hint)


def check_sequence(key: str, value: Any, accepted: str = "a list") -> None:
    """Raise ArgumentError unless `value` is a list or another sequence, which text is not."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentError(key, repr(value), accepted)


def check_flag(key: str, value: Any) -> None:
    """Raise ArgumentError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(key, repr(value), "true or false")


def check_device_name(key: str, value: Any) -> None:
    """Raise ArgumentError unless `value` can name a device; whether it is there, torch tells."""
    if not isinstance(value, str) or re.fullmatch(r"cpu|cuda(:\d+)?", value) is None:
        raise ArgumentError(key, repr(value), "cpu, cuda or cuda:N")


def check_name(key: str, value: Any) -> None:
    """Raise ArgumentError unless `value` names a class's kind, as 'ant' or 'my_robot-2'."""
    if not isinstance(value, str) or re.fullmatch(r"[A-Za-z][\w.-]*", value, re.ASCII) is None:
        raise ArgumentError(key, repr(value), "a name of letters, digits and any of '_-.'")


def check_callable_with(key: str, function: Any, count: int, accepted: str) -> None:
    """Raise ArgumentError unless `function` can be called with `count` arguments by position.

    Args:
        key: its name.
        function: what should be one.
        count: of arguments.
        accepted: the parameters, for the error.
    """
    try:
        signature = inspect.signature(function)
        signature.bind(*range(count))
    except (TypeError, ValueError):
        given = str(signature) if callable(function) else repr(function)
        raise ArgumentError(key, given, accepted) from None


def near_matches(name: str, known: Iterable[str]) -> str:
    """Ask for up to three names like `name`: "; did you mean ...?", or nothing if none is.

    Dotted keys are compared by their last part, those of the same section first, so that
    ``algo.alhpa_0`` and ``alpha_0`` both lead to ``algo.alpha.alpha_0``.
    """
    section, _, tail = name.rpartition(".")

    def likeness(candidate: str) -> tuple[float, float]:
        head, _, end = candidate.rpartition(".")
        return (
            difflib.SequenceMatcher(None, tail, end).ratio(),
            difflib.SequenceMatcher(None, section, head).ratio(),
        )

    near = sorted((c for c in known if likeness(c)[0] >= 0.65), key=likeness, reverse=True)[:3]
    return f"; did you mean {' or '.join(repr(match) for match in near)}?" if near else ""
