"""Vehicles that enter road networks: queues before the roads, insertion where it is safe (SUMO's).

A flow sends a vehicle every 3600 / rate seconds, the first at its begin. Whoever is due waits, in
the order of departure, until there is room: each flow tries once a step, SUMO's in no lane where
one that is due earlier has found none. As in SUMO a vehicle
comes in with its rear at the start of its lane, with the speed it asked for or, of "max", the
highest safe one up to the limit. Safe is a speed w behind a leader at gap s where the driver would
not brake by more than a beyond what it would do on a free road (of the IDM: where its desired gap
is at most s), and s >= s0. SUMO's goes down to it by planning a step again and again, and stops
once one takes less than 1 m/s^2 off. Who comes from behind must not have to brake harder than b
for it. Before a light that is not green it is one from which the driver can stop by b.

All of it is discrete and carries no gradient: a vehicle starts anew.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import LENGTH, CarFollowing
from kernels.traffic.network import (
    COMFORT,
    NOBODY,
    parameter_or,
    rearmost_beyond,
    sight_of,
    stopping_speed,
    unpacked,
)
from kernels.traffic.network_drive import SUMO_LINE_GAP, plan_in_parts, with_limit
from kernels.traffic.network_outlook import AS_IT_CAME, LOOKED, SEGMENT
from kernels.traffic.network_signals import GREEN
from kernels.traffic.road import driver_acceleration

BASE = wp.constant(0.1)  # between a lane's start and the rear of who enters [m], SUMO's
SLOTS_SHORT = wp.constant(0)  # of a network's counts: insertions put off for want of a free slot


@wp.kernel(enable_backward=False)
def tick(clock: wp.array(dtype=wp.int64)):
    """One more step."""
    network = wp.tid()
    clock[network] = clock[network] + wp.int64(1)


@wp.func
def number_due(now: wp.float64, begin: wp.float64, end: wp.float64, per_hour: wp.float64):
    """How many vehicles of a flow should have departed by now [s]; as many as before its end."""
    if per_hour <= wp.float64(0.0) or now < begin:
        return wp.int32(0)
    # The k-th is due at begin + k 3600 / rate; a nanosecond stands for the rounding of sums.
    elapsed = (now - begin + wp.float64(1.0e-9)) * per_hour / wp.float64(3600.0)
    due = wp.floor(elapsed) + wp.float64(1.0)
    most = wp.ceil((end - begin) * per_hour / wp.float64(3600.0) - wp.float64(1.0e-9))
    return wp.int32(wp.min(wp.min(due, most), wp.float64(2.0e9)))


@cache
def insertion_speed(model: CarFollowing, sumo: bool, parts: int) -> wp.Function:
    """The highest safe speed [m/s] up to `wanted` behind a leader: SUMO's rule, for any model."""
    acceleration = driver_acceleration(model, sumo)
    plan = plan_in_parts(model, sumo, parts)
    rise = parameter_or(model, "a", 1.0)

    @wp.func
    def speed_for(wanted: Any, gap: Any, leader_speed: Any, driver: Any, part: Any):
        speed = type(wanted)(wanted)
        zero = type(wanted)(0.0)
        infinite = type(wanted)(wp.inf)
        trying = wp.bool(True)
        while trying:
            free = acceleration(speed, infinite, zero, driver)
            behind = acceleration(speed, gap, speed - leader_speed, driver)
            if behind >= free - rise(driver) or speed <= zero:
                trying = False
            else:
                speed = plan(speed, gap, leader_speed, driver, part)
                if wp.static(sumo):
                    further = plan(speed, gap, leader_speed, driver, part)
                    trying = speed - further >= part * type(wanted)(float(parts))
        return speed

    return speed_for


@wp.func
def way_to_light(
    network: wp.int32,
    route: wp.int32,
    lane: wp.int32,
    to_end: Any,  # of that lane [m]
    look_ahead: Any,
    lane_length: wp.array(dtype=Any),
    next_lane: wp.array2d(dtype=wp.int32),
    signal_way: wp.array2d(dtype=wp.int32),
    light: wp.array2d(dtype=wp.int32),
):
    """The way to the first line whose light is not green [m], infinite if none is in sight."""
    seen = type(to_end)(to_end)
    here = wp.int32(lane)
    while here >= 0 and seen <= wp.max(look_ahead, to_end):
        way = signal_way[route, here]
        if way >= 0:
            if light[network, way] != GREEN:
                return seen
        here = next_lane[route, here]
        if here >= 0:
            seen = seen + lane_length[here]
    return type(to_end)(wp.inf)


@cache
def insert(
    model: CarFollowing, sumo: bool, parts: int, *, signals: bool, outlook: bool
) -> wp.Kernel:
    """One thread a network: let in who is due and has room.

    With an `outlook` it is told when each has first asked for room.
    """
    acceleration = driver_acceleration(model, sumo)
    highest_safe = insertion_speed(model, sumo, parts)
    limited = with_limit(model)
    look = sight_of(model, sumo)
    least_gap = parameter_or(model, "s0", 0.0)
    comfort = parameter_or(model, *COMFORT)
    v0 = model.place("v0")

    @wp.kernel(module="unique", enable_backward=False)
    def insert_each(
        # In, as `kernels.traffic.network.look_ahead`:
        order_in: wp.array(dtype=wp.int32),
        lane_start_in: wp.array2d(dtype=wp.int32),
        entering_in: wp.array2d(dtype=wp.uint64),
        clock_in: wp.array(dtype=wp.int64),
        rate_in: wp.array2d(dtype=wp.float64),  # [num_networks, num_flows] vehicles an hour
        per_network: wp.int32,
        integrator: wp.int32,
        look_ahead: Any,
        part: Any,
        dt: Any,
        # Tables:
        lane_length: wp.array(dtype=Any),
        lane_limit: wp.array(dtype=Any),
        lane_inner: wp.array(dtype=wp.int32),
        next_lane: wp.array2d(dtype=wp.int32),
        signal_way: wp.array2d(dtype=wp.int32),
        light_in: wp.array2d(dtype=wp.int32),
        flow_route: wp.array(dtype=wp.int32),  # [num_flows]
        flow_start: wp.array(dtype=wp.int32),  # [num_flows + 1], of the lanes it may take:
        flow_lane: wp.array(dtype=wp.int32),
        flow_speed: wp.array(dtype=Any),  # [m/s], infinite for "max"
        flow_begin: wp.array(dtype=wp.float64),  # [s]
        flow_end: wp.array(dtype=wp.float64),
        flow_driver: wp.array(dtype=Any),  # its drivers' numbers, NaN for those of the slot
        slot_driver: wp.array(dtype=Any),
        seconds: wp.float64,  # dt in double precision
        # In and out:
        x: wp.array(dtype=Any),
        speed: wp.array(dtype=Any),
        driver: wp.array(dtype=Any),
        lane: wp.array(dtype=wp.int32),
        route: wp.array(dtype=wp.int32),
        previous: wp.array(dtype=wp.int32),
        flow: wp.array(dtype=wp.int32),  # a vehicle came with
        number: wp.array(dtype=wp.int32),  # of the flow's vehicles it is
        entered: wp.array(dtype=Any),  # [s]
        departed: wp.array2d(dtype=wp.int32),  # [num_networks, num_flows]
        counts: wp.array2d(dtype=wp.int32),  # [num_networks, 1], see `SLOTS_SHORT`
        inserted_out: wp.array(dtype=wp.bool),
        refused: wp.array2d(dtype=wp.int32),  # [num_networks, num_lanes] 1: one found no room here
        asked_at: wp.array2d(dtype=wp.int32),  # steps before a flow's next first asked, -1: has not
        memory_out: wp.array2d(dtype=Any),  # of who comes in, see `network_sumo_habits`
        advised_out: wp.array(dtype=Any),
    ):
        network = wp.tid()
        num_lanes = lane_start_in.shape[1] - 2
        first_free = lane_start_in[network, num_lanes]
        free = wp.int32(first_free)
        end = lane_start_in[network, num_lanes + 1]
        now = wp.float64(clock_in[network]) * seconds
        for k in range(network * per_network, end):
            inserted_out[k] = False
        for l in range(num_lanes):
            refused[network, l] = 0
        # As SUMO: whoever has waited longest tries first, so that no flow keeps another out.
        last_due = wp.float64(-wp.inf)
        f = wp.int32(-1)
        for _ in range(flow_route.shape[0]):
            earliest = wp.float64(wp.inf)
            following = wp.int32(-1)
            for g in range(flow_route.shape[0]):
                rate = wp.max(rate_in[network, g], wp.float64(1.0e-9))
                since = wp.float64(departed[network, g]) * wp.float64(3600.0) / rate
                due_at = flow_begin[g] + since
                untried = due_at > last_due or (due_at == last_due and g > f)
                for k in range(first_free, free):
                    if flow[order_in[k]] == g:
                        untried = wp.bool(False)
                if untried and due_at < earliest:
                    earliest = due_at
                    following = g
            f = following
            last_due = earliest
            if f < 0:
                break
            due = number_due(now, flow_begin[f], flow_end[f], rate_in[network, f])
            waiting = departed[network, f] < due
            if waiting and free == end:
                counts[network, SLOTS_SHORT] += 1
                waiting = False
            # The emptiest lane, as SUMO's "best"; not one just taken by another flow.
            target = wp.int32(-1)
            fewest = wp.int32(per_network + 1)
            if waiting:
                for entry in range(flow_start[f], flow_start[f + 1]):
                    l = flow_lane[entry]
                    taken = wp.bool(False)
                    for k in range(first_free, free):
                        if lane[order_in[k]] == l:
                            taken = True
                    present = lane_start_in[network, l + 1] - lane_start_in[network, l]
                    if not taken and present < fewest:
                        fewest = present
                        target = l
            if wp.static(sumo):
                if target >= 0:
                    if refused[network, target] == 1:
                        target = -1
            if target >= 0:
                if wp.static(outlook):
                    if asked_at[network, f] < 0:
                        asked_at[network, f] = wp.int32(clock_in[network])
                i = order_in[free]
                own = slot_driver[i]
                given = flow_driver[f]
                for place in range(wp.static(len(model.numbers))):
                    if not wp.isnan(given[place]):
                        own[place] = given[place]
                zero = type(look_ahead)(0.0)
                at = wp.min(own[LENGTH] + type(look_ahead)(BASE), lane_length[target])
                eased = limited(own, lane_limit[target])
                wanted = wp.min(flow_speed[f], eased[v0])
                r = flow_route[f]
                leader = wp.int32(-1)
                offset = type(look_ahead)(0.0)
                if lane_start_in[network, target] < lane_start_in[network, target + 1]:
                    leader = order_in[lane_start_in[network, target]]
                else:
                    sight = look(wanted, own, look_ahead, integrator, dt)
                    leader, offset = rearmost_beyond(
                        network, r, target, lane_length[target] - at, sight,
                        lane_start_in, order_in, lane_length, lane_inner, next_lane,
                    )  # fmt: skip
                    offset = offset + at
                safe = wp.bool(True)
                fastest = type(look_ahead)(wanted)
                if leader >= 0:
                    numbers = driver[leader]
                    gap = x[leader] - numbers[LENGTH] + offset - at
                    safe = gap > zero and gap >= least_gap(own)
                    if safe:
                        fastest = highest_safe(wanted, gap, speed[leader], eased, part)
                        if fastest < wanted and flow_speed[f] < type(look_ahead)(wp.inf):
                            safe = False
                if wp.static(signals):
                    room = way_to_light(
                        network, r, target, lane_length[target] - at, look_ahead,
                        lane_length, next_lane, signal_way, light_in,
                    )  # fmt: skip
                    if room < type(look_ahead)(wp.inf):
                        room = room - type(look_ahead)(SUMO_LINE_GAP)
                        slower = stopping_speed(room, comfort(own), dt, dt)
                        if slower < fastest:
                            fastest = slower
                            if flow_speed[f] < type(look_ahead)(wp.inf):
                                safe = False
                key = entering_in[network, target]
                if safe and key != NOBODY:
                    j = unpacked(key)
                    behind = driver[j]
                    away = lane_length[lane[j]] - x[j]
                    step = next_lane[route[j], lane[j]]
                    while step >= 0 and step != target:
                        away = away + lane_length[step]
                        step = next_lane[route[j], step]
                    gap = away + at - own[LENGTH]
                    braking = acceleration(speed[j], gap, speed[j] - fastest, behind)
                    safe = gap > zero and gap >= least_gap(behind) and braking >= -comfort(behind)
                refused[network, target] = wp.where(safe, 0, 1)
                if safe:
                    x[i] = at
                    speed[i] = fastest
                    driver[i] = own
                    lane[i] = target
                    route[i] = r
                    previous[i] = -1
                    flow[i] = f
                    number[i] = departed[network, f]
                    entered[i] = type(look_ahead)(now)
                    departed[network, f] += 1
                    inserted_out[i] = True
                    advised_out[i] = type(look_ahead)(wp.inf)
                    for place in range(memory_out.shape[1]):
                        memory_out[i, place] = zero
                    if wp.static(outlook):
                        memory_out[i, SEGMENT] = type(zero)(float(AS_IT_CAME))
                        memory_out[i, LOOKED] = type(zero)(asked_at[network, f])
                        # The next one asks at once, in vain.
                        asked_at[network, f] = wp.where(
                            departed[network, f] < due, wp.int32(clock_in[network]), -1
                        )
                    free += 1

    return insert_each
