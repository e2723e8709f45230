"""Lane changes on road networks: MOBIL where a driver may, and before a dead end because it must.

MOBIL as in `kernels.traffic.mobil` (Kesting, Treiber and Helbing 2007, Transp. Res. Rec. 1999, 86),
with leaders and followers also beyond the ends of the lanes. For changes that must be, MOBIL's
authors give the target lane an overwhelming bias and keep the safety criterion, with the lane's end
a standing vehicle (Treiber and Kesting, Traffic Flow Dynamics, Springer 2013, chapter 14). Here:

    D = horizon min(v0, limit) |n|,   u = 1 - distance / D,   b_u = b_safe + u (b_max - b_safe)

with n the number of lanes to cross, distance that to the dead end and b_max an emergency's braking.
From u > 0 on the driver changes towards its lane as soon as nobody has to brake harder than b_u,
asks for no advantage and makes no change away from it. Nobody changes for its advantage to
where it would have to change back within D.

Who must change and cannot yet follows the vehicle that would lead it in the next lane (braking
by b at most), and the one that would follow it there leaves it a gap if b is enough for that.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import LENGTH, CarFollowing
from kernels.traffic.mobil import first_ahead, first_ahead_near
from kernels.traffic.network import (
    FREE,
    GAP,
    LARGEST_DECEL,
    LEADER,
    NOBODY,
    packed,
    parameter_or,
    rearmost_beyond,
    unpacked,
)
from kernels.traffic.network_drive import with_limit
from kernels.traffic.prefetch import later, prefetch
from kernels.traffic.road import driver_acceleration

MOST_SEGMENTS = wp.constant(8)  # to one that is heeded in another lane
LEFT_SOONER = wp.constant(2.0)  # the factor of `horizon` for changes to the left, as SUMO's


@wp.func
def urgency(
    route: wp.int32,
    lane: wp.int32,
    x: Any,
    reach: Any,  # D of one lane [m]
    usable: wp.array2d(dtype=Any),
    changes: wp.array2d(dtype=wp.int32),
):
    """u: 0 where no change is due, 1 at the dead end."""
    needed = wp.abs(changes[route, lane])
    zero = type(x)(0.0)
    if needed == 0:
        return zero
    one = type(x)(1.0)
    remaining = usable[route, lane] - x
    return wp.clamp(one - remaining / (reach * type(x)(needed)), zero, one)


@wp.func
def place_in_lane(
    network: wp.int32,
    lane: wp.int32,
    i: wp.int32,
    x: wp.array(dtype=Any),
    order: wp.array(dtype=wp.int32),
    lane_start: wp.array2d(dtype=wp.int32),
):
    """The first place of a lane whose vehicle is ahead of vehicle i, or the lane's end."""
    return first_ahead(x, order, i, lane_start[network, lane], lane_start[network, lane + 1])


@wp.func
def leader_in(
    network: wp.int32,
    route: wp.int32,
    lane: wp.int32,
    at: wp.int32,  # as `place_in_lane`
    x: Any,
    look_ahead: Any,
    order: wp.array(dtype=wp.int32),
    lane_start: wp.array2d(dtype=wp.int32),
    lane_length: wp.array(dtype=Any),
    lane_inner: wp.array(dtype=wp.int32),
    next_lane: wp.array2d(dtype=wp.int32),
):
    """Whom one would follow there, FREE for nobody, and what its x lacks to the own [m]."""
    if at < lane_start[network, lane + 1]:
        return order[at], type(x)(0.0)
    ahead, distance = rearmost_beyond(
        network, route, lane, lane_length[lane] - x, look_ahead,
        lane_start, order, lane_length, lane_inner, next_lane,
    )  # fmt: skip
    return ahead, distance + x


@wp.func
def follower_in(
    network: wp.int32,
    lane: wp.int32,
    at: wp.int32,
    x: wp.array(dtype=Any),
    lane_in: wp.array(dtype=wp.int32),
    route: wp.array(dtype=wp.int32),
    order: wp.array(dtype=wp.int32),
    lane_start: wp.array2d(dtype=wp.int32),
    entering: wp.array2d(dtype=wp.uint64),
    lane_length: wp.array(dtype=Any),
    next_lane: wp.array2d(dtype=wp.int32),
):
    """Who would follow there, FREE for nobody, and what the own x lacks to its [m]."""
    offset = type(lane_length[0])(0.0)
    if at > lane_start[network, lane]:
        return order[at - 1], offset
    key = entering[network, lane]
    if key == NOBODY:
        return wp.int32(FREE), offset
    j = unpacked(key)
    here = lane_in[j]
    while here >= 0 and here != lane:
        offset = offset + lane_length[here]
        here = next_lane[route[j], here]
    return j, offset


@cache
def acceleration_behind(model: CarFollowing) -> wp.Function:
    """What a model [m/s^2] would have vehicle i do behind `ahead`, whose x lacks `offset` to its.

    Zero if there is no i. The driver heeds its lane's limit, and `stop` [m], the end of its lane.
    """
    acceleration = driver_acceleration(model, False)
    limited = with_limit(model)

    @wp.func
    def accelerate_behind(
        x: wp.array(dtype=Any),
        speed: wp.array(dtype=Any),
        driver: wp.array(dtype=Any),
        i: wp.int32,
        ahead: wp.int32,
        offset: Any,
        limit: Any,
        stop: Any,
    ):
        zero = type(offset)(0.0)
        if i < 0:
            return zero
        own = limited(driver[i], limit)
        infinite = type(offset)(wp.inf)
        rate = acceleration(speed[i], infinite, zero, own)
        if ahead >= 0:
            numbers = driver[ahead]
            gap = x[ahead] - numbers[LENGTH] + offset - x[i]
            rate = acceleration(speed[i], gap, speed[i] - speed[ahead], own)
        if stop < infinite:
            rate = wp.min(rate, acceleration(speed[i], stop - x[i], speed[i], own))
        return rate

    return accelerate_behind


@cache
def change_lanes(model: CarFollowing) -> wp.Kernel:
    """One thread a place of `order`: move its vehicle over to `side`, or have room made for it.

    In one step every second driver of each lane decides, for the reasons in
    `kernels.traffic.mobil`; one that must change does not wait for its turn. A step looks to the
    left first and then to the right, so that nobody meets another in the lane between.
    """
    behind = acceleration_behind(model)
    least_gap = parameter_or(model, "s0", 0.0)
    v0 = model.place("v0")

    @wp.kernel(module="unique", enable_backward=False)
    def change_lane(
        # In, as `kernels.traffic.network.look_ahead`:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        route_in: wp.array(dtype=wp.int32),
        previous_in: wp.array(dtype=wp.int32),
        lane_in: wp.array(dtype=wp.int32),
        order_in: wp.array(dtype=wp.int32),
        lane_start_in: wp.array2d(dtype=wp.int32),
        entering_in: wp.array2d(dtype=wp.uint64),
        clock_in: wp.array(dtype=wp.int64),
        per_network: wp.int32,
        side: wp.int32,  # +1: to the left, -1: to the right
        look_ahead: Any,
        horizon: Any,  # [s]
        politeness: Any,
        safe_decel: Any,
        threshold: Any,
        bias: Any,
        # Tables:
        lane_length: wp.array(dtype=Any),
        lane_limit: wp.array(dtype=Any),
        lane_inner: wp.array(dtype=wp.int32),
        lane_right: wp.array(dtype=wp.int32),  # the next lane on a side, -1 for none
        lane_left: wp.array(dtype=wp.int32),
        next_lane: wp.array2d(dtype=wp.int32),
        usable: wp.array2d(dtype=Any),
        changes: wp.array2d(dtype=wp.int32),  # lanes to cross before the dead end, + to the left
        # Scratch:
        found_last: wp.array(dtype=wp.int32),  # [num_networks] a place in `order`
        # Out:
        target_out: wp.array(dtype=wp.int32),  # the lane where each vehicle is now
        gap_out: wp.array(dtype=wp.uint64),  # for whom to open a gap, `packed`
        toward_out: wp.array(dtype=wp.int32),  # whom to follow into the next lane, FREE for nobody
    ):
        k = wp.tid()
        soon = later(order_in, k)
        prefetch(x_in, soon)
        prefetch(speed_in, soon)
        prefetch(driver_in, soon)
        prefetch(route_in, soon)
        prefetch(lane_in, soon)
        prefetch(previous_in, soon)
        prefetch(target_out, soon)
        network = k // per_network
        c = order_in[k]
        here = lane_in[c]
        target_out[c] = here
        if here < 0:
            return
        turn = wp.int32(clock_in[network] % wp.int64(2))
        route = route_in[c]
        x = x_in[c]
        zero = type(x)(0.0)
        infinite = type(x)(wp.inf)
        driver = driver_in[c]
        reach = horizon * wp.min(driver[v0], lane_limit[here])
        if changes[route, here] > 0:
            reach = type(x)(LEFT_SOONER) * reach
        u = urgency(route, here, x, reach, usable, changes)
        must = u > zero
        if must:
            if (changes[route, here] > 0) != (side > 0):
                return
        elif (k - lane_start_in[network, here]) % 2 != turn:
            return
        there = lane_left[here]
        if side < 0:
            there = lane_right[here]
        if there < 0:
            return
        # Not with the rear in the lane before, which may have no neighbour.
        if previous_in[c] >= 0 and x < driver[LENGTH]:
            return
        if not must and urgency(route, there, x, reach, usable, changes) > zero:
            return

        # On a CPU whoever decided last looked nearby; on a GPU it is some place or other.
        at = first_ahead_near(
            x_in, order_in, c, lane_start_in[network, there], lane_start_in[network, there + 1],
            found_last[network],
        )  # fmt: skip
        found_last[network] = at
        new_leader, ahead = leader_in(
            network, route, there, at, x, look_ahead,
            order_in, lane_start_in, lane_length, lane_inner, next_lane,
        )  # fmt: skip
        new_follower, back = follower_in(
            network, there, at, x_in, lane_in, route_in,
            order_in, lane_start_in, entering_in, lane_length, next_lane,
        )  # fmt: skip
        limit = lane_limit[there]
        follower_limit = type(x)(limit)
        if new_follower >= 0:
            follower_limit = lane_limit[lane_in[new_follower]]
        stop = wp.where(must, infinite, usable[route, there])
        own_new = behind(x_in, speed_in, driver_in, c, new_leader, ahead, limit, stop)
        new = behind(x_in, speed_in, driver_in, new_follower, c, back, follower_limit, infinite)
        allowed = safe_decel
        if must:
            hardest = wp.max(type(x)(LARGEST_DECEL), safe_decel)
            allowed = safe_decel + u * (hardest - safe_decel)
        possible = own_new >= -wp.max(allowed, zero)
        if new_leader >= 0:
            numbers = driver_in[new_leader]
            possible = possible and x_in[new_leader] - numbers[LENGTH] + ahead > x
        away = type(x)(infinite)
        if new_follower >= 0:
            away = x - driver[LENGTH] + back - x_in[new_follower]
            possible = possible and new >= -allowed and away > zero
        if must:
            if possible:
                target_out[c] = there
            else:
                toward_out[c] = new_leader
                # Nearer than its gap at rest it had better pass: it could never make room.
                if new_follower >= 0 and away >= least_gap(driver_in[new_follower]):
                    wp.atomic_min(gap_out, new_follower, packed(away, c))
            return
        if not possible:
            return
        # Worth it?
        old_at = k + 1
        old_leader, old_ahead = leader_in(
            network, route, here, old_at, x, look_ahead,
            order_in, lane_start_in, lane_length, lane_inner, next_lane,
        )  # fmt: skip
        old_follower, old_back = follower_in(
            network, here, k, x_in, lane_in, route_in,
            order_in, lane_start_in, entering_in, lane_length, next_lane,
        )  # fmt: skip
        old_limit = lane_limit[here]
        if old_follower >= 0:
            old_limit = lane_limit[lane_in[old_follower]]
        own_stop = usable[route, here]
        own = behind(
            x_in, speed_in, driver_in, c, old_leader, old_ahead, lane_limit[here], own_stop
        )
        now = behind(
            x_in, speed_in, driver_in, new_follower, new_leader, back + ahead,
            follower_limit, infinite,
        )  # fmt: skip
        left = behind(x_in, speed_in, driver_in, old_follower, c, old_back, old_limit, infinite)
        left_new = behind(
            x_in, speed_in, driver_in, old_follower, old_leader, old_back + old_ahead,
            old_limit, infinite,
        )  # fmt: skip
        gain = own_new - own + politeness * (new - now + left_new - left)
        if gain > threshold + type(x)(side) * bias:
            target_out[c] = there

    return change_lane


@wp.kernel(enable_backward=False)
def ask_nobody(gap_out: wp.array(dtype=wp.uint64), toward_out: wp.array(dtype=wp.int32)):
    """Before the first `change_lanes` of a step."""
    i = wp.tid()
    gap_out[i] = NOBODY
    toward_out[i] = FREE


@wp.kernel(enable_backward=False)
def move_over(
    # In:
    target_in: wp.array(dtype=wp.int32),
    gap_in: wp.array(dtype=wp.uint64),
    toward_in: wp.array(dtype=wp.int32),
    per_network: wp.int32,
    # In and out:
    lane: wp.array(dtype=wp.int32),
    previous: wp.array(dtype=wp.int32),
    # Out:
    aside_out: wp.array(dtype=wp.int32),  # whom it heeds in another lane, counted in its network
):
    """One thread a vehicle: do what `change_lanes` found."""
    i = wp.tid()
    if lane[i] >= 0 and target_in[i] != lane[i]:
        lane[i] = target_in[i]
        previous[i] = -1
    other = toward_in[i]
    if gap_in[i] != NOBODY:
        other = unpacked(gap_in[i])
    if other >= 0:
        other = other % per_network
    aside_out[i] = other


@wp.kernel(enable_backward=False)
def heed_aside(
    # In:
    lane_in: wp.array(dtype=wp.int32),
    route_in: wp.array(dtype=wp.int32),
    aside_in: wp.array(dtype=wp.int32),
    per_network: wp.int32,
    # Tables:
    lane_length: wp.array(dtype=Any),
    lane_segment: wp.array(dtype=wp.int32),
    next_lane: wp.array2d(dtype=wp.int32),
    # Out:
    heeded_out: wp.array2d(dtype=wp.int32),
    offset_out: wp.array2d(dtype=Any),
):
    """One thread a vehicle: heed (`GAP`) whom `change_lanes` named, if it is still on the way."""
    i = wp.tid()
    here = lane_in[i]
    if here < 0 or aside_in[i] < 0:
        return
    other = aside_in[i] + per_network * (i // per_network)
    if other == heeded_out[i, LEADER] or lane_in[other] < 0:
        return
    offset = type(lane_length[0])(0.0)
    goal = lane_segment[lane_in[other]]
    steps = wp.int32(0)
    while here >= 0 and lane_segment[here] != goal and steps < MOST_SEGMENTS:
        offset = offset + lane_length[here]
        here = next_lane[route_in[i], here]
        steps += 1
    if here < 0 or lane_segment[here] != goal:
        return
    heeded_out[i, GAP] = other
    offset_out[i, GAP] = offset
