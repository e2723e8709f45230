"""Which numbers of a robot vary from environment to environment, and where in a row each lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

WIDTHS = {
    "gravity": 3,
    "friction": 1,
    "contact_ke": 1,
    "contact_kd": 1,
    "contact_kf": 1,
    "mass": 1,
    "com": 3,
    "inertia_scale": 1,
    "second_moment": 6,
    "armature": 1,
    "damping": 1,
    "stiffness": 1,
    "rest": 1,
    "limit_ke": 1,
    "limit_kd": 1,
    "gear": 1,
}
"""Quantity -> how many numbers one is.

``second_moment`` are the six entries (by rows) of an upper triangular L, [kg^1/2 m]: the integral
of x x^T over the body's mass about its centre of mass is L L^T, its inertia tr(L L^T) 1 - L L^T.
"""

GLOBAL = ("gravity", "friction", "contact_ke", "contact_kd", "contact_kf")
OF_BODIES = ("mass", "com", "inertia_scale", "second_moment")
OF_JOINTS = ("armature", "damping", "stiffness", "rest", "limit_ke", "limit_kd")


@dataclass(frozen=True)
class Columns:
    """The numbers of a row, in order.

    Attributes:
        keys: quantity and whose it is: the index of the body, of the body that a joint carries, or
            of the action; 0 of what the robot has one of.
    """

    keys: tuple[tuple[str, int], ...] = ()

    @cached_property
    def start(self) -> dict[tuple[str, int], int]:
        """First column of each."""
        starts, at = {}, 0
        for key in self.keys:
            starts[key] = at
            at += WIDTHS[key[0]]
        return starts

    @cached_property
    def count(self) -> int:
        """Numbers in all."""
        return sum(WIDTHS[quantity] for quantity, _ in self.keys)

    def of(self, quantity: str, index: int = 0) -> range | None:
        """The columns of one quantity, None if it does not vary."""
        first = self.start.get((quantity, index))
        return None if first is None else range(first, first + WIDTHS[quantity])

    def any_of(self, *quantities: str) -> bool:
        """Whether any of these varies."""
        return any(quantity in quantities for quantity, _ in self.keys)

    def __iter__(self) -> Iterator[tuple[str, int, range]]:
        """Quantity, index and columns of each."""
        for quantity, index in self.keys:
            first = self.start[quantity, index]
            yield quantity, index, range(first, first + WIDTHS[quantity])


NOTHING = Columns()
"""Where every environment has the same robot."""
