"""Vehicles on batches of straight multi-lane roads: who follows whom, and one step of time.

Arrays are flat, [num_vehicles] over all roads, unless told otherwise: the vehicles of one road lie
side by side, the same number on each, and an index is that of a vehicle among all. x is the
position of a vehicle's centre along the road [m], `lane` the index of its lane in its road, -1 for
a vehicle in no lane (or not on the road), `leader` the index of the vehicle it follows: `FREE`
without one, `ABSENT` for a vehicle in no lane. `driver` holds the numbers of each vehicle and its
driver, in the order of `kernels.traffic.car_following.CarFollowing.numbers`.

What depends on the car-following model is made for it, once for each: `plan_speed` and `move`.

Who leads whom is discrete and carries no gradient; all else is differentiable.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import EMERGENCY_DECEL, LENGTH, CarFollowing

FREE = wp.constant(-1)
ABSENT = wp.constant(-2)

EULER = wp.constant(0)
SEMI_IMPLICIT = wp.constant(1)
BALLISTIC = wp.constant(2)

SUMO_NAMES = ("v0", "a", "b")
"""Parameters that SUMO's speed bounds read."""


# Who follows whom ---------------------------------------------------------------------------------


@wp.func
def is_behind(x: wp.array(dtype=Any), i: wp.int32, j: wp.int32):
    """The order of the road: by position, ties by index."""
    xi = x[i]
    xj = x[j]
    return xi < xj or (xi == xj and i < j)


@wp.func
def insertion_sort(
    x: wp.array(dtype=Any), order: wp.array(dtype=wp.int32), first: wp.int32, end: wp.int32
):
    """Sort order[first:end] from the rear to the front; False if that takes too many exchanges.

    Linear where little changed since the last step: cars pass each other only between lanes.
    """
    budget = 8 * (end - first)
    for k in range(first + 1, end):
        i = order[k]
        at = wp.int32(k)
        searching = wp.bool(True)
        while searching:
            searching = False
            if at > first:
                other = order[at - 1]
                if is_behind(x, i, other):
                    order[at] = other
                    at -= 1
                    searching = True
        order[at] = i
        budget -= k - at
        if budget < 0:
            return False
    return True


@wp.func
def merge_sort(
    x: wp.array(dtype=Any),
    order: wp.array(dtype=wp.int32),
    scratch: wp.array(dtype=wp.int32),
    first: wp.int32,
    end: wp.int32,
):
    """Sort order[first:end] from the rear to the front, bottom up: n log n for any order."""
    width = wp.int32(1)
    while width < end - first:
        start = wp.int32(first)
        while start < end:
            left_end = wp.min(start + width, end)
            right_end = wp.min(start + 2 * width, end)
            left = wp.int32(start)
            right = wp.int32(left_end)
            for k in range(start, right_end):
                take_left = left < left_end
                if take_left and right < right_end:
                    take_left = is_behind(x, order[left], order[right])
                if take_left:
                    scratch[k] = order[left]
                    left += 1
                else:
                    scratch[k] = order[right]
                    right += 1
            start = right_end
        for k in range(first, end):
            order[k] = scratch[k]
        width = 2 * width


@wp.kernel(enable_backward=False)
def find_stale_roads(
    # In:
    x_in: wp.array(dtype=Any),
    lane_in: wp.array(dtype=wp.int32),
    seen_lane_in: wp.array(dtype=wp.int32),  # as `order_vehicles` left it
    next_in: wp.array(dtype=wp.int32),
    per_road: wp.int32,
    # Out, set where it is so:
    stale_out: wp.array(dtype=wp.int32),  # [num_roads]
):
    """One thread a vehicle: has it changed lanes, or passed the next one in its lane?"""
    i = wp.tid()
    ahead = next_in[i]
    stale = wp.bool(lane_in[i] != seen_lane_in[i])
    if ahead >= 0:
        stale = stale or is_behind(x_in, ahead, i)
    if stale:
        stale_out[i // per_road] = 1


@wp.kernel(enable_backward=False)
def order_vehicles(
    # In:
    x_in: wp.array(dtype=Any),
    lane_in: wp.array(dtype=wp.int32),
    per_road: wp.int32,
    ring: wp.bool,
    # In and out:
    stale: wp.array(dtype=wp.int32),  # [num_roads], where there is something to do; 0 then
    order: wp.array(dtype=wp.int32),  # each road's vehicles, in any order in, rear to front out
    # Scratch:
    scratch: wp.array(dtype=wp.int32),
    # Out, and kept from the run before where nothing has changed:
    seen_lane: wp.array(dtype=wp.int32),  # what `lane_in` was; at first of no lane there is
    next_out: wp.array(dtype=wp.int32),  # as the leader, but FREE for the foremost of a lane
    lane_start_out: wp.array2d(dtype=wp.int32),  # [num_roads, num_lanes + 2]
    lane_order_out: wp.array(dtype=wp.int32),  # lane by lane, each from the rear to the front
    leader_out: wp.array(dtype=wp.int32),
):
    """One thread a road: sort along the road, group by lane, name the leaders.

    Lane l of a road is ``lane_order[lane_start[road, l] : lane_start[road, l + 1]]``; the vehicles
    in no lane come last. The result depends on x and lane alone, not on the order found; so where
    nobody has changed lanes or passed the next one, all is as it was.
    """
    road = wp.tid()
    first = road * per_road
    end = first + per_road
    if stale[road] == 0:
        return
    stale[road] = 0
    if not insertion_sort(x_in, order, first, end):
        merge_sort(x_in, order, scratch, first, end)

    num_lanes = lane_start_out.shape[1] - 2
    for bucket in range(num_lanes + 1):
        lane_start_out[road, bucket] = 0
    for i in range(first, end):
        seen_lane[i] = lane_in[i]
        lane_start_out[road, bucket_of(lane_in[i], num_lanes)] += 1
    # From numbers to ends; filling each lane from its front moves its end back to its start.
    total = wp.int32(first)
    for bucket in range(num_lanes + 1):
        total += lane_start_out[road, bucket]
        lane_start_out[road, bucket] = total
    lane_start_out[road, num_lanes + 1] = end
    for back in range(per_road):
        i = order[end - 1 - back]
        bucket = bucket_of(lane_in[i], num_lanes)
        at = lane_start_out[road, bucket] - 1
        lane_order_out[at] = i
        lane_start_out[road, bucket] = at

    for lane in range(num_lanes):
        start = lane_start_out[road, lane]
        stop = lane_start_out[road, lane + 1]
        for k in range(start, stop - 1):
            leader_out[lane_order_out[k]] = lane_order_out[k + 1]
            next_out[lane_order_out[k]] = lane_order_out[k + 1]
        if stop > start:
            foremost = lane_order_out[stop - 1]
            leader_out[foremost] = FREE
            next_out[foremost] = FREE
            if ring:  # a lone vehicle follows itself
                leader_out[foremost] = lane_order_out[start]
    for k in range(lane_start_out[road, num_lanes], end):
        leader_out[lane_order_out[k]] = ABSENT
        next_out[lane_order_out[k]] = FREE


@wp.func
def bucket_of(lane: wp.int32, num_lanes: wp.int32):
    """The lane; for no lane the bucket after the last."""
    return wp.where(lane < 0, num_lanes, lane)


# One step -----------------------------------------------------------------------------------------


@wp.func
def distance_ahead(
    x_behind: Any, x_ahead: Any, behind: wp.int32, ahead: wp.int32, ring_length: Any
):
    """From centre to centre [m], once around a ring where need be (ring_length 0: an open road)."""
    distance = x_ahead - x_behind
    zero = type(distance)(0.0)
    if ring_length > zero and (distance < zero or (distance == zero and ahead <= behind)):
        return distance + ring_length
    return distance


@wp.kernel
def measure_gap(
    # In:
    x_in: wp.array(dtype=Any),
    speed_in: wp.array(dtype=Any),
    leader_in: wp.array(dtype=wp.int32),
    driver_in: wp.array(dtype=Any),
    ring_length: Any,
    # Out:
    gap_out: wp.array(dtype=Any),  # bumper to bumper [m], infinite without a leader
    leader_speed_out: wp.array(dtype=Any),  # [m/s], the own speed without a leader
):
    """Gap and leader's speed of every vehicle."""
    i = wp.tid()
    x = x_in[i]
    ahead = leader_in[i]
    if ahead < 0:
        gap_out[i] = type(x)(wp.inf)
        leader_speed_out[i] = speed_in[i]
    else:
        distance = distance_ahead(x, x_in[ahead], i, ahead, ring_length)
        driver = driver_in[i]
        driver_ahead = driver_in[ahead]
        gap_out[i] = distance - type(x)(0.5) * (driver[LENGTH] + driver_ahead[LENGTH])
        leader_speed_out[i] = speed_in[ahead]


# What depends on the model ------------------------------------------------------------------------


@cache
def driver_acceleration(model: CarFollowing, sumo: bool) -> wp.Function:
    """The acceleration [m/s^2] of a model, or of SUMO's version of it, for a vector `driver`."""
    function = model.function(sumo)

    @wp.func
    def accelerate(speed: Any, gap: Any, speed_difference: Any, driver: Any):
        return function(speed, gap, speed_difference, *driver[2:])

    return accelerate


@cache
def accelerate(model: CarFollowing) -> wp.Kernel:
    """The acceleration of a model, element by element."""
    acceleration = model.acceleration

    @wp.kernel(module="unique")
    def accelerate_each(
        # In:
        speed_in: wp.array(dtype=Any),  # [m/s]
        gap_in: wp.array(dtype=Any),
        speed_difference_in: wp.array(dtype=Any),  # own minus leader's [m/s]
        parameters_in: wp.array(dtype=Any),  # of the driver, the vehicle's not among them
        # Out:
        acceleration_out: wp.array(dtype=Any),  # [m/s^2]
    ):
        i = wp.tid()
        parameters = parameters_in[i]
        acceleration_out[i] = acceleration(
            speed_in[i], gap_in[i], speed_difference_in[i], *parameters
        )

    return accelerate_each


@cache
def speed_bounds(model: CarFollowing, sumo: bool) -> wp.Function:
    """The speed within the vehicle's means [m/s], never negative: at least v - emergency_decel dt.

    SUMO: also at most v + a dt and v0, and at least v - b dt; harder than b, up to the emergency
    deceleration, only if the plan brakes so.
    """
    if not sumo:

        @wp.func
        def bound(speed: Any, planned: Any, driver: Any, dt: Any):
            hardest = wp.max(planned, speed - driver[EMERGENCY_DECEL] * dt)
            return wp.max(hardest, type(speed)(0.0))

        return bound

    v0, a, b = (model.place(name) for name in SUMO_NAMES)

    @wp.func
    def bound_as_sumo(speed: Any, planned: Any, driver: Any, dt: Any):
        hardest = wp.max(planned, speed - driver[EMERGENCY_DECEL] * dt)
        upper = wp.min(planned, wp.min(speed + driver[a] * dt, driver[v0]))
        lower = wp.min(speed - driver[b] * dt, hardest)
        return wp.max(wp.max(upper, lower), type(speed)(0.0))

    return bound_as_sumo


@cache
def planned_speed(model: CarFollowing, sumo: bool) -> wp.Function:
    """Where a driver would take the speed [m/s] in dt, and the gap [m] it would have then.

    The gap is that to a leader of constant speed, and never wider than before (SUMO).
    """
    acceleration = driver_acceleration(model, sumo)

    @wp.func
    def plan(speed: Any, gap: Any, leader_speed: Any, driver: Any, dt: Any):
        zero = type(speed)(0.0)
        rate = acceleration(speed, gap, speed - leader_speed, driver)
        planned = wp.max(speed + rate * dt, zero)
        return planned, gap - wp.max((planned - leader_speed) * dt, zero)

    return plan


@cache
def driven_speed(model: CarFollowing, sumo: bool) -> wp.Function:
    """The speed [m/s] after dt: as planned, within bounds, or as commanded, never negative."""
    bounded_speed = speed_bounds(model, sumo)

    @wp.func
    def drive(speed: Any, planned: Any, command: Any, driver: Any, dt: Any):
        own = bounded_speed(speed, planned, driver, dt)
        commanded = wp.max(speed + command * dt, type(speed)(0.0))
        return wp.where(wp.isnan(command), own, commanded)

    return drive


@cache
def plan_speed(model: CarFollowing, sumo: bool) -> wp.Kernel:
    """`planned_speed` of every vehicle."""
    plan_one = planned_speed(model, sumo)

    @wp.kernel(module="unique")
    def plan(
        # In:
        speed_in: wp.array(dtype=Any),  # [m/s]
        gap_in: wp.array(dtype=Any),
        leader_speed_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        dt: Any,  # [s]
        # Out:
        speed_out: wp.array(dtype=Any),  # [m/s], never negative
        gap_out: wp.array(dtype=Any),  # for a leader of constant speed; never wider (SUMO)
    ):
        i = wp.tid()
        speed, gap = plan_one(speed_in[i], gap_in[i], leader_speed_in[i], driver_in[i], dt)
        speed_out[i] = speed
        gap_out[i] = gap

    return plan


@cache
def move(model: CarFollowing, sumo: bool) -> wp.Kernel:
    """Speed and position after dt; nobody reverses.

    euler: x + v dt; semi_implicit: x + v' dt; ballistic: x + (v + v') dt / 2.
    """
    driven = driven_speed(model, sumo)

    @wp.kernel(module="unique")
    def move_vehicle(
        # In:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        planned_speed_in: wp.array(dtype=Any),
        command_in: wp.array(dtype=Any),  # acceleration [m/s^2], NaN for the driver's own
        leader_in: wp.array(dtype=wp.int32),
        driver_in: wp.array(dtype=Any),
        integrator: wp.int32,
        ring_length: Any,
        dt: Any,
        # Out, may be x_in and speed_in where no gradient is wanted:
        x_out: wp.array(dtype=Any),
        speed_out: wp.array(dtype=Any),
    ):
        i = wp.tid()
        x = x_in[i]
        speed = speed_in[i]
        zero = type(x)(0.0)
        if leader_in[i] == ABSENT:
            x_out[i] = x
            speed_out[i] = speed
        else:
            next_speed = driven(speed, planned_speed_in[i], command_in[i], driver_in[i], dt)
            mean_speed = speed
            if integrator == SEMI_IMPLICIT:
                mean_speed = next_speed
            if integrator == BALLISTIC:
                mean_speed = type(x)(0.5) * (speed + next_speed)
            next_x = x + mean_speed * dt
            if ring_length > zero and next_x >= ring_length:
                next_x = next_x - ring_length * wp.floor(next_x / ring_length)
                # Of more than one lap the product is rounded, either way.
                if next_x < zero:
                    next_x = next_x + ring_length
                if next_x >= ring_length:
                    next_x = next_x - ring_length
            x_out[i] = next_x
            speed_out[i] = next_speed

    return move_vehicle
