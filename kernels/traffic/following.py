"""Drivers behind leaders whose motion is known, window by window, and its derivatives.

A window is a driver's motion over a number of steps, from a state of its own. The leader is given
by the position of its rear and its speed at the start of each step. Arrays are [starts, windows,
...]: `starts` sets of parameters drive the same windows side by side. Positions are of the front.

`follow` simulates all windows. `follow_step` takes all their steps at once, each from where the
simulation was, and its adjoint gives each step's derivatives, from which `carry` makes those of the
windows: with A and B the derivatives of a step's result in state and driver, S' = A S + B.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import CarFollowing
from kernels.traffic.network_drive import plan_in_parts
from kernels.traffic.road import BALLISTIC, SEMI_IMPLICIT, speed_bounds


@cache
def drive_behind(model: CarFollowing, sumo: bool, parts: int) -> wp.Function:
    """The change of position [m] and the speed [m/s] after dt, as `kernels.traffic.road` has it."""
    plan = plan_in_parts(model, sumo, parts)
    bounded = speed_bounds(model, sumo)

    @wp.func
    def drive(
        speed: Any,
        gap: Any,  # bumper to bumper [m]
        leader_speed: Any,
        driver: Any,
        integrator: wp.int32,
        dt: Any,
    ):
        planned = plan(speed, gap, leader_speed, driver, dt / type(dt)(parts))
        next_speed = bounded(speed, planned, driver, dt)
        mean_speed = speed
        if integrator == SEMI_IMPLICIT:
            mean_speed = next_speed
        if integrator == BALLISTIC:
            mean_speed = type(dt)(0.5) * (speed + next_speed)
        return mean_speed * dt, next_speed

    return drive


@cache
def follow(model: CarFollowing, sumo: bool, parts: int) -> wp.Kernel:
    """One thread a window: simulate it."""
    drive = drive_behind(model, sumo, parts)

    @wp.kernel(module="unique", enable_backward=False)
    def follow_window(
        # In:
        rear_in: wp.array2d(dtype=Any),  # of the leader [windows, steps] [m]
        leader_speed_in: wp.array2d(dtype=Any),
        driver_in: wp.array2d(dtype=Any),  # [starts, windows], as in `kernels.traffic.road`
        integrator: wp.int32,
        dt: Any,
        # In and out:
        x: wp.array3d(dtype=Any),  # [starts, windows, steps + 1], the first given [m]
        speed: wp.array3d(dtype=Any),
    ):
        start, window = wp.tid()
        driver = driver_in[start, window]
        x_now = x[start, window, 0]
        speed_now = speed[start, window, 0]
        for k in range(rear_in.shape[1]):
            gap = rear_in[window, k] - x_now
            leader_speed = leader_speed_in[window, k]
            change, speed_next = drive(speed_now, gap, leader_speed, driver, integrator, dt)
            x_now = x_now + change
            speed_now = speed_next
            x[start, window, k + 1] = x_now
            speed[start, window, k + 1] = speed_now

    return follow_window


@cache
def follow_step(model: CarFollowing, sumo: bool, parts: int) -> wp.Kernel:
    """One thread a step of a window: from where it was simulated to be."""
    drive = drive_behind(model, sumo, parts)

    @wp.kernel(module="unique")
    def follow_each(
        # In:
        x_in: wp.array3d(dtype=Any),  # [starts, windows, steps]
        speed_in: wp.array3d(dtype=Any),
        driver_in: wp.array3d(dtype=Any),  # for each step, as its adjoint is the step's own
        rear_in: wp.array2d(dtype=Any),  # [windows, steps]
        leader_speed_in: wp.array2d(dtype=Any),
        integrator: wp.int32,
        dt: Any,
        # Out:
        x_out: wp.array3d(dtype=Any),
        speed_out: wp.array3d(dtype=Any),
    ):
        start, window, k = wp.tid()
        x = x_in[start, window, k]
        speed = speed_in[start, window, k]
        driver = driver_in[start, window, k]
        gap = rear_in[window, k] - x
        leader_speed = leader_speed_in[window, k]
        change, next_speed = drive(speed, gap, leader_speed, driver, integrator, dt)
        x_out[start, window, k] = x + change
        speed_out[start, window, k] = next_speed

    return follow_each


@wp.kernel(enable_backward=False)
def carry(
    # In:
    by_state_in: wp.array4d(dtype=Any),  # A: [starts x windows, steps, result, state]
    by_driver_in: wp.array4d(dtype=Any),  # B: [starts x windows, steps, result, numbers]
    # Out:
    by_out: wp.array4d(dtype=Any),  # S: [starts x windows, steps + 1, state, numbers + 2]
):
    """One thread a window and column: numbers of the driver, then the window's first state."""
    row, column = wp.tid()
    numbers = by_driver_in.shape[3]
    zero = by_state_in[row, 0, 0, 0] * type(by_state_in[row, 0, 0, 0])(0.0)
    x = type(zero)(zero)
    speed = type(zero)(zero)
    if column == numbers:
        x = x + type(zero)(1.0)
    if column == numbers + 1:
        speed = speed + type(zero)(1.0)
    by_out[row, 0, 0, column] = x
    by_out[row, 0, 1, column] = speed
    for k in range(by_state_in.shape[1]):
        x_next = by_state_in[row, k, 0, 0] * x + by_state_in[row, k, 0, 1] * speed
        speed_next = by_state_in[row, k, 1, 0] * x + by_state_in[row, k, 1, 1] * speed
        if column < numbers:
            x_next = x_next + by_driver_in[row, k, 0, column]
            speed_next = speed_next + by_driver_in[row, k, 1, column]
        x = x_next
        speed = speed_next
        by_out[row, k + 1, 0, column] = x
        by_out[row, k + 1, 1, column] = speed
