"""Lane changes by MOBIL (Kesting, Treiber and Helbing 2007, Transp. Res. Rec. 1999, 86).

A driver c considers the next lane on one side. With a the accelerations now, a~ those after the
change, n the follower there and o the follower here:

    safety      a~_n >= -b_safe
    incentive   a~_c - a_c + p (a~_n - a_n + a~_o - a_o) > threshold +- bias

The bias favours lanes of lower index: + for a change to a higher lane, - to a lower one. Beyond the
paper, the gaps ahead and behind in the new lane must be positive and the driver's own deceleration
there within b_safe as well.

In one step every second driver of each lane decides, all looking to the same side; four steps let
everybody look to both. Were neighbours to decide at once, each by what the other did before, a
polite leader would swerve together with its follower. Two who pick the same gap come from the same
lane and stay in their order, so they cannot meet in it.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import LENGTH, CarFollowing
from kernels.traffic.road import FREE, distance_ahead, driver_acceleration, is_behind


@wp.func
def first_ahead(
    x: wp.array(dtype=Any),
    lane_order: wp.array(dtype=wp.int32),
    i: wp.int32,
    start: wp.int32,
    end: wp.int32,
):
    """The first place in [start, end) of a lane whose vehicle is ahead of vehicle i, or `end`."""
    low = wp.int32(start)
    high = wp.int32(end)
    while low < high:
        middle = (low + high) // 2
        if is_behind(x, lane_order[middle], i):
            low = middle + 1
        else:
            high = middle
    return low


@wp.func
def first_ahead_near(
    x: wp.array(dtype=Any),
    lane_order: wp.array(dtype=wp.int32),
    i: wp.int32,
    start: wp.int32,
    end: wp.int32,
    guess: wp.int32,  # any place: it changes no result
):
    """What `first_ahead` finds, in about 2 log2 of the distance to a guess."""
    at = wp.clamp(guess, start, end)
    low = wp.int32(start)
    high = wp.int32(end)
    step = wp.int32(1)
    onward = wp.bool(False)
    if at < end:
        onward = is_behind(x, lane_order[at], i)
    searching = wp.bool(True)
    while searching:
        probe = at - step
        if onward:
            low = at + 1
            probe = at + step
        else:
            high = at
        searching = wp.bool(False)
        if probe >= start and probe < end:
            behind = is_behind(x, lane_order[probe], i)
            if behind == onward:
                searching = wp.bool(True)
                at = probe
                step = 2 * step
            elif onward:
                high = probe
            else:
                low = probe + 1
    return first_ahead(x, lane_order, i, low, high)


@wp.func
def gap_between(
    x: wp.array(dtype=Any),
    driver: wp.array(dtype=Any),
    behind: wp.int32,
    ahead: wp.int32,
    ring_length: Any,
):
    """Bumper to bumper [m]; infinite where either is missing."""
    if behind < 0 or ahead < 0:
        return type(ring_length)(wp.inf)
    driver_behind = driver[behind]
    driver_ahead = driver[ahead]
    distance = distance_ahead(x[behind], x[ahead], behind, ahead, ring_length)
    return distance - type(ring_length)(0.5) * (driver_behind[LENGTH] + driver_ahead[LENGTH])


@cache
def acceleration_behind(model: CarFollowing, sumo: bool) -> wp.Function:
    """What a model [m/s^2] would have vehicle i do behind `ahead`; zero if there is no i."""
    acceleration = driver_acceleration(model, sumo)

    @wp.func
    def accelerate_behind(
        x: wp.array(dtype=Any),
        speed: wp.array(dtype=Any),
        driver: wp.array(dtype=Any),
        i: wp.int32,
        ahead: wp.int32,
        ring_length: Any,
    ):
        difference = type(ring_length)(0.0)
        if i < 0:
            return difference
        if ahead >= 0:
            difference = speed[i] - speed[ahead]
        gap = gap_between(x, driver, i, ahead, ring_length)
        return acceleration(speed[i], gap, difference, driver[i])

    return accelerate_behind


@cache
def change_lanes(model: CarFollowing, sumo: bool) -> wp.Kernel:
    """One thread a place of `lane_order`: move its vehicle over where MOBIL says so."""
    behind = acceleration_behind(model, sumo)

    @wp.kernel(module="unique", enable_backward=False)
    def change_lane(
        # In, laid out as in `kernels.traffic.road`:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        lane_start_in: wp.array2d(dtype=wp.int32),
        lane_order_in: wp.array(dtype=wp.int32),
        leader_in: wp.array(dtype=wp.int32),
        per_road: wp.int32,
        ring_length: Any,
        side: wp.int32,  # +1: to the lane of next higher index, -1: lower
        turn: wp.int32,  # 0: drivers at even places of their lane, counted from the rear, 1: odd
        politeness: Any,
        safe_decel: Any,
        threshold: Any,
        bias: Any,
        # In and out:
        lane: wp.array(dtype=wp.int32),
    ):
        k = wp.tid()
        road = k // per_road
        c = lane_order_in[k]
        here = lane[c]
        there = here + side
        if here < 0 or there < 0 or there >= lane_start_in.shape[1] - 2:
            return
        rearmost = lane_start_in[road, here]
        if (k - rearmost) % 2 != turn:
            return
        zero = type(ring_length)(0.0)
        ring = ring_length > zero

        start = lane_start_in[road, there]
        end = lane_start_in[road, there + 1]
        new_leader = wp.int32(FREE)
        new_follower = wp.int32(FREE)
        if end > start:
            at = first_ahead(x_in, lane_order_in, c, start, end)
            if at < end:
                new_leader = lane_order_in[at]
            elif ring:
                new_leader = lane_order_in[start]
            if at > start:
                new_follower = lane_order_in[at - 1]
            elif ring:
                new_follower = lane_order_in[end - 1]
        elif ring:
            new_leader = c  # alone it follows itself, there as here
        old_leader = leader_in[c]
        old_follower = wp.int32(FREE)
        foremost = lane_start_in[road, here + 1] - 1
        if k > rearmost:
            old_follower = lane_order_in[k - 1]
        elif ring and foremost > k:
            old_follower = lane_order_in[foremost]

        # Room there?
        if gap_between(x_in, driver_in, c, new_leader, ring_length) <= zero:
            return
        if gap_between(x_in, driver_in, new_follower, c, ring_length) <= zero:
            return
        # Safe?
        own_new = behind(x_in, speed_in, driver_in, c, new_leader, ring_length)
        new = behind(x_in, speed_in, driver_in, new_follower, c, ring_length)
        if own_new < -safe_decel or new < -safe_decel:
            return
        # Worth it?
        own = behind(x_in, speed_in, driver_in, c, old_leader, ring_length)
        now = behind(x_in, speed_in, driver_in, new_follower, new_leader, ring_length)
        left = behind(x_in, speed_in, driver_in, old_follower, c, ring_length)
        left_new = behind(x_in, speed_in, driver_in, old_follower, old_leader, ring_length)
        gain = own_new - own + politeness * (new - now + left_new - left)
        if gain > threshold + type(bias)(side) * bias:
            lane[c] = there

    return change_lane
