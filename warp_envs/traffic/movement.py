"""How vehicles move in a step."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.traffic.car_following import CarFollowing


@dataclass(frozen=True)
class Advance:
    """How vehicles move in one step.

    Attributes:
        model: of the drivers.
        sumo: whether its acceleration and the bounds of the speed are SUMO's.
        integrator: EULER, SEMI_IMPLICIT or BALLISTIC of `kernels.traffic.road`.
        parts: into how many parts the drivers' planning splits dt.
        ring_length: [m], 0 for an open road.
        dt: [s].
    """

    model: CarFollowing
    sumo: bool
    integrator: int
    parts: int
    ring_length: float
    dt: float
