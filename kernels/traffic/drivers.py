"""Drivers that differ from each other, beside those who are all alike.

A kernel that takes a driver's numbers as `Any` and reads them by `driver_of` is given one vector of
them for everybody, a constant of its launch, or an array with a vector for every vehicle.
"""

from functools import cache
from typing import Any

import warp as wp


@wp.func
def driver_of(drivers: wp.array2d(dtype=Any), env: wp.int32, i: wp.int32):
    """The numbers of a vehicle, of an array [num_envs, num_vehicles]."""
    return drivers[env, i]


@wp.func
def driver_of(driver: Any, env: wp.int32, i: wp.int32):
    """The numbers of everybody."""
    return driver


@cache
def vary_drivers(count: int) -> wp.Kernel:
    """One thread a vehicle: its numbers, `count` of them, a parameter where there is one."""

    @wp.kernel(module="unique")
    def vary_each(
        # Model:
        driver: Any,  # the numbers of who does not vary
        column: wp.array2d(dtype=wp.int32),  # [num_vehicles, count] of the parameters, -1: none
        # In:
        parameters_in: wp.array2d(dtype=Any),  # [num_envs, n]
        # Out:
        drivers_out: wp.array2d(dtype=Any),  # [num_envs, num_vehicles]
    ):
        env, i = wp.tid()
        numbers = type(driver)()
        for k in range(wp.static(count)):
            value = driver[k]
            if column[i, k] >= 0:
                value = parameters_in[env, column[i, k]]
            numbers[k] = value
        drivers_out[env, i] = numbers

    return vary_each
