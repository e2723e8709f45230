"""Which ground an option names: by kind with numbers, or a file of heights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warp_envs.checks import ArgumentError, check_integer, check_number, check_positive
from warp_envs.usd.ground import LARGEST_GRID

DEFAULTS: dict[str, dict[str, float]] = {
    "flat": {},
    "rough": {"height": 0.05, "spacing": 0.3, "seed": 0, "size": 40.0, "cell": 0.1},
    "slope": {"angle": 10.0, "size": 40.0, "cell": 0.1},
    "stairs": {"height": 0.1, "length": 0.5, "size": 40.0, "cell": 0.1},
}
"""Kind -> its options: height [m] of hills and hollows or of a step, spacing [m] of hills, seed of
their random numbers, angle [deg], length of a step [m], size and cell [m]."""
FILE = "file"
"""What a ground from a file has for a kind."""


def read_ground(given: Any) -> tuple[str, dict[str, Any]]:
    """The kind that `warp_envs.robots.terrain.make_ground` is given, and all options of it.

    Raises:
        ArgumentError: naming the option, its value and what is accepted.
    """
    if isinstance(given, str):
        given = {"file": given} if given.endswith(".npy") else {"kind": given}
    if not isinstance(given, Mapping):
        raise ArgumentError("ground", repr(given), f"one of {list(DEFAULTS)} or an .npy file")
    options = {str(name): value for name, value in given.items()}
    if FILE in options:
        options = _known(options, {FILE: None, "cell": 0.1, "corner": None})
        check_positive("ground.cell", options["cell"])
        return FILE, options
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in DEFAULTS:
        raise ArgumentError("ground.kind", repr(kind), f"one of {list(DEFAULTS)}")
    options = _known(options, DEFAULTS[kind])
    for name, value in options.items():
        if name == "seed":
            check_integer("ground.seed", value, 0)
        elif name in ("size", "cell", "spacing", "length"):
            check_positive(f"ground.{name}", value)
        else:
            check_number(f"ground.{name}", value, -80.0, 80.0)
    if options and not 2 <= points(**options) <= LARGEST_GRID**0.5:
        accepted = f"from 2 to {LARGEST_GRID**0.5:.0f} points along an edge"
        given = f"{options['size']} at cells of {options['cell']}"
        raise ArgumentError("ground.size", given, accepted)
    return kind, options


def points(size: float, cell: float, **_: float) -> int:
    """Heights along an edge."""
    return round(size / cell) + 1


def _known(options: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in defaults:
            raise ArgumentError(f"ground.{name}", "no option of this ground", f"{list(defaults)}")
    return {**defaults, **options}
