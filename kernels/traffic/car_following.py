"""What a car-following model is: the names of its parameters and one function of the acceleration.

A model is one file with one `CarFollowing`, in this folder under the name `MODEL`, or anywhere:

    @wp.func
    def acceleration(speed: Any, gap: Any, speed_difference: Any, v0: Any, tau: Any):
        return (wp.min(v0, gap / tau) - speed) / tau

    NEWELL = CarFollowing("newell", (Parameter(...), Parameter(...)), acceleration)

The road's kernels are made for it (`kernels.traffic.road`, `kernels.traffic.mobil`), in single and
double precision, with their adjoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import warp as wp

STATE_NAMES = ("speed", "gap", "speed_difference")
"""What an acceleration depends on beside parameters: v [m/s], s [m], v - v_leader [m/s]."""


@dataclass(frozen=True)
class Parameter:
    """One number of a driver or vehicle.

    Attributes:
        name: keyword by which it is given.
        default: where it is not given.
        unit: as "m/s"; "1" for none.
        meaning: in a few words.
        may_be_zero: it must be positive otherwise.
        may_be_infinite: it must be finite otherwise.
    """

    name: str
    default: float
    unit: str
    meaning: str
    may_be_zero: bool = False
    may_be_infinite: bool = False


VEHICLE = (
    Parameter("length", 5.0, "m", "from bumper to bumper"),
    Parameter("emergency_decel", math.inf, "m/s^2", "hardest braking", may_be_infinite=True),
)
"""What every vehicle has, whoever drives it."""

LENGTH = wp.constant(0)  # places in a vehicle's vector of numbers: `VEHICLE`, then the model's
EMERGENCY_DECEL = wp.constant(1)


@dataclass(frozen=True, eq=False)
class CarFollowing:
    """A car-following model.

    Attributes:
        name: how it is asked for and what errors call it.
        parameters: of its driver, in the order of the acceleration's arguments.
        acceleration: a `wp.func` of `STATE_NAMES` and then the parameters, each `Any`, by the same
            names: dv/dt [m/s^2]. The gap, from bumper to bumper, is infinite without a leader (the
            difference then 0), and of either sign where vehicles overlap.
        sumo_acceleration: what SUMO's model of that name has in its place, where that differs.
    """

    name: str
    parameters: tuple[Parameter, ...]
    acceleration: wp.Function
    sumo_acceleration: wp.Function | None = None

    @property
    def numbers(self) -> tuple[Parameter, ...]:
        """Of a vehicle and its driver, in the order of their vector."""
        return VEHICLE + self.parameters

    def place(self, name: str) -> int:
        """Where in that vector a number is."""
        return [number.name for number in self.numbers].index(name)

    def function(self, sumo: bool) -> wp.Function:
        """Its acceleration; SUMO's if `sumo`."""
        return self.sumo_acceleration or self.acceleration if sumo else self.acceleration
