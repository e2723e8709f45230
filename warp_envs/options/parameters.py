"""What kinds of physical parameters robots have, see `warp_envs.articulation.parameters`."""

from __future__ import annotations

import math


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
