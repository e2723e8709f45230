"""Physical parameters: what kinds robots have, and what may be said of how they vary.

See `warp_envs.articulation.parameters` and `randomization`, which drivers share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from warp_envs.checks import ArgumentError, check_flag, check_sequence, near_matches

SPREADS = ("range", "scale", "add")
"""How a parameter may be drawn: in place of the value, as a factor of it, or added to it."""
_SPREAD = "[low, high], or one of {range: [low, high]}, {scale: ...}, {add: ...}"


class Kind:
    """Unit, shape and least value of parameters."""

    def __init__(
        self, unit: str, shape: tuple[int, ...] = (), low: float = 0.0, positive: bool = False
    ) -> None:
        self.unit, self.shape, self.low, self.positive = unit, shape, low, positive


_ANY = -math.inf
PARAMETERS = {
    "gravity": Kind("m/s^2", (3,), _ANY),
    "friction": Kind("1"),
    "contact_ke": Kind("N/m", positive=True),
    "contact_kd": Kind("N s/m^2"),
    "contact_kf": Kind("N s/m"),
    "mass": Kind("kg", positive=True),
    "com": Kind("m", (3,), _ANY),
    "inertia_scale": Kind("1", positive=True),
    "log_cholesky": Kind("see Rucker and Wensing 2022", (10,), _ANY),
    "armature": Kind("kg m^2 or kg"),
    "damping": Kind("N m s/rad or N s/m"),
    "stiffness": Kind("N m/rad or N/m"),
    "rest": Kind("rad or m", low=_ANY),
    "limit_ke": Kind("N m/rad or N/m"),
    "limit_kd": Kind("N m s/rad or N s/m"),
    "gear": Kind("N m or N", low=_ANY),
    "kp": Kind("N m/rad or N/m"),
    "kd": Kind("N m s/rad or N s/m"),
    "force": Kind("N m or N", positive=True),
}
"""Last part of a parameter's name -> what all of it have in common."""


def check_varying(*, parameters: Any, randomize: Any) -> None:
    """Raise ArgumentError naming a list of names, or a spread, that is none of anything."""
    check_sequence("parameters", parameters, "a list of names")
    if randomize is not None and not isinstance(randomize, Mapping):
        raise ArgumentError("randomize", repr(randomize), "a mapping of parameters to spreads")
    for name, spread in (randomize or {}).items():
        read_spread(f"randomize.{name}", spread)


def read_spread(key: str, given: Any) -> tuple[str, Any, bool]:
    """Of `SPREADS` which one, its ends, and whether they are drawn once.

    Raises:
        ArgumentError: it is none.
    """
    settings = dict(given) if isinstance(given, Mapping) else {"range": given}
    once = settings.pop("once", False)
    check_flag(f"{key}.once", once)
    if len(settings) != 1 or next(iter(settings)) not in SPREADS:
        hint = near_matches(str(next(iter(settings), "")), [*SPREADS, "once"])
        raise ArgumentError(key, repr(given), _SPREAD, hint)
    ((kind, pair),) = settings.items()
    if isinstance(pair, (str, Mapping)) or not isinstance(pair, Sequence) or len(pair) != 2:
        where = f"{key}.{kind}" if isinstance(given, Mapping) else key
        raise ArgumentError(where, repr(pair), "[low, high]")
    return kind, pair, once
