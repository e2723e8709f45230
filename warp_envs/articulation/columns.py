"""Which numbers of a robot vary from environment to environment, and where in a row each lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

WIDTHS = {"gravity": 3, "com": 3, "second_moment": 6}
"""Quantity -> how many numbers one is, where it is not one.

``second_moment`` are the six entries (by rows) of an upper triangular L, [kg^1/2 m]: the integral
of x x^T over the body's mass about its centre of mass is L L^T, its inertia tr(L L^T) 1 - L L^T.
"""


def width_of(quantity: str) -> int:
    """How many numbers a quantity is."""
    return WIDTHS.get(quantity, 1)


GLOBAL = ("gravity", "friction", "contact_ke", "contact_kd", "contact_kf")
OF_BODIES = ("mass", "com", "inertia_scale", "second_moment")
SERVO = ("servo_kp", "servo_kd", "servo_force")
OF_JOINTS = ("armature", "damping", "stiffness", "rest", "limit_ke", "limit_kd", *SERVO)


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
            at += width_of(key[0])
        return starts

    @cached_property
    def count(self) -> int:
        """Numbers in all."""
        return sum(width_of(quantity) for quantity, _ in self.keys)

    def of(self, quantity: str, index: int = 0) -> range | None:
        """The columns of one quantity, None if it does not vary."""
        first = self.start.get((quantity, index))
        return None if first is None else range(first, first + width_of(quantity))

    def any_of(self, *quantities: str) -> bool:
        """Whether any of these varies."""
        return any(quantity in quantities for quantity, _ in self.keys)

    def __iter__(self) -> Iterator[tuple[str, int, range]]:
        """Quantity, index and columns of each."""
        for quantity, index in self.keys:
            first = self.start[quantity, index]
            yield quantity, index, range(first, first + width_of(quantity))


NOTHING = Columns()
"""Where every environment has the same robot."""
