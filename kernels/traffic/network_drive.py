"""One step of the vehicles of road networks: the differentiable motion, then who went where.

`drive` moves everybody along its lane's line, beyond its end if need be; `cross` then says which
lane that is and takes the lengths of those left behind off x, which is a constant to the gradient.

A driver plans the lowest of the speeds that it would have behind each vehicle it heeds, before the
end of its lane or a light that holds it (a standing vehicle), before a slower limit and at a merge.
The gradient is that of the lowest.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import EMERGENCY_DECEL, LENGTH, CarFollowing
from kernels.traffic.network import (
    COMFORT,
    GAP,
    LARGEST_DECEL,
    LEADER,
    MERGING,
    NUM_HEEDED,
    TAIL,
    firm_braking,
    parameter_or,
    place_of,
    safe_speed,
    secure_gap,
    stopping_speed,
)
from kernels.traffic.network_signals import RED
from kernels.traffic.prefetch import AHEAD, prefetch
from kernels.traffic.road import (
    ABSENT,
    BALLISTIC,
    SEMI_IMPLICIT,
    driver_acceleration,
    speed_bounds,
)

MARGIN = wp.constant(0.5)  # between who waits and the merge [m]
SUMO_ARRIVES = 0.1
"""[m] before the end of its route a vehicle of SUMO has arrived."""
AT_END = wp.constant(1.0e-3)  # [m] beyond a dead end that is none
SUMO_AT_REST = wp.constant(0.01)  # [m] before a line, to which SUMO's drivers come up at last
SUMO_LINE_GAP = wp.constant(1.0)  # [m] that SUMO's drivers keep to the line of a light
SUMO_LEAST_LINE_GAP = wp.constant(0.1)  # [m] where that would be hard braking
SUMO_EPS = wp.constant(0.001)  # [m/s] at rest; by which SUMO may brake harder than b for a limit

MOST_PARTS = 16
"""Of a step that can be planned apart: what Warp unrolls."""


@cache
def plan_in_parts(model: CarFollowing, sumo: bool, parts: int) -> wp.Function:
    """The speed [m/s] that a driver plans for the end of `parts` of `part` seconds each."""
    acceleration = driver_acceleration(model, sumo)

    @wp.func
    def plan(speed: Any, gap: Any, leader_speed: Any, driver: Any, part: Any):
        planned = speed
        room = gap
        zero = type(speed)(0.0)
        for _ in range(wp.static(parts)):
            rate = acceleration(planned, room, planned - leader_speed, driver)
            planned = wp.max(planned + rate * part, zero)
            room = room - wp.max((planned - leader_speed) * part, zero)
        return planned

    return plan


@cache
def with_limit(model: CarFollowing) -> wp.Function:
    """A driver whose desired speed is at most a limit."""
    v0 = model.place("v0")

    @wp.func
    def limited(driver: Any, limit: Any):
        only = type(driver)()
        only[v0] = type(limit)(1.0)
        # A sum, as the adjoint of an overwritten component would be that of both.
        return driver + only * (wp.min(driver[v0], limit) - driver[v0])

    return limited


@cache
def before_a_line(model: CarFollowing, sumo: bool) -> wp.Function:
    """A driver as before a line on the road: SUMO's goes up to it, without s0."""
    s0 = place_of(model, "s0") if sumo else -1

    if s0 < 0:

        @wp.func
        def itself(driver: Any):
            return driver

        return itself

    @wp.func
    def without_gap(driver: Any):
        only = type(driver)()
        only[s0] = type(driver[0])(1.0)
        return driver - only * driver[s0]

    return without_gap


@cache
def approach_stop(model: CarFollowing, sumo: bool, parts: int) -> wp.Function:
    """The speed [m/s] with which a driver comes up to a place on the road where it must stand."""
    plan = plan_in_parts(model, sumo, parts)
    facing = before_a_line(model, sumo)

    @wp.func
    def approach(
        speed: Any, room: Any, decel: Any, driver: Any, integrator: wp.int32, part: Any, dt: Any
    ):
        zero = type(speed)(0.0)
        planned = plan(speed, room, zero, facing(driver), part)
        if wp.static(sumo):
            if room < type(speed)(SUMO_AT_REST):
                planned = zero
            elif speed < type(speed)(SUMO_EPS) and planned < type(speed)(SUMO_EPS):
                planned = stopping_speed(room, decel, dt, dt)
            if integrator == SEMI_IMPLICIT:
                planned = wp.min(planned, wp.max(room, zero) / dt)
        return planned

    return approach


@cache
def room_to_line(sumo: bool) -> wp.Function:
    """How far [m] a driver that a light holds goes: to its line.

    SUMO's stops 1 m before it, but no sooner than firm braking takes it there.
    """

    @wp.func
    def room(distance: Any, way: Any):
        if wp.static(sumo):
            short = distance - type(distance)(SUMO_LINE_GAP)
            if distance >= way:
                nearest = distance - type(distance)(SUMO_LEAST_LINE_GAP)
                short = wp.max(short, wp.min(nearest, way))
            return wp.max(short, type(distance)(0.0))
        return distance

    return room


@wp.func
def gentlest(speed: Any, comfort: Any, dt: Any):
    """The least speed [m/s] to which SUMO brakes for a limit."""
    return wp.max(speed - comfort * dt - type(speed)(SUMO_EPS), type(speed)(0.0))


@cache
def slow_down(model: CarFollowing, sumo: bool, parts: int) -> wp.Function:
    """The speed [m/s] with which a driver goes towards a slower limit.

    v'^2 <= limit^2 + 2 b distance. SUMO's IDM, as long as it is faster than the limit, brakes as if
    a vehicle stood there, or at the desired gap of the limit if that is farther.
    """
    comfort = parameter_or(model, *COMFORT)
    plan = plan_in_parts(model, sumo, parts)
    desired = secure_gap(model)
    facing = before_a_line(model, sumo)

    if not sumo:

        @wp.func
        def slow(speed: Any, distance: Any, limit: Any, driver: Any, part: Any, dt: Any):
            room = wp.max(distance, type(speed)(0.0))
            return wp.sqrt(limit * limit + type(speed)(2.0) * comfort(driver) * room)

        return slow

    @wp.func
    def slow_as_sumo(speed: Any, distance: Any, limit: Any, driver: Any, part: Any, dt: Any):
        zero = type(speed)(0.0)
        room = wp.max(distance, desired(limit, driver))
        planned = plan(speed, room, zero, facing(driver), part)
        return wp.max(planned, gentlest(speed, comfort(driver), dt))

    return slow_as_sumo


@wp.func
def braking_for_turn(share: Any, comfort: Any):
    """The most [m/s^2] for who goes first at a merge: b at the zone's start to an emergency's."""
    near = type(share)(1.0) - share
    return comfort + near * wp.max(type(share)(LARGEST_DECEL) - comfort, type(share)(0.0))


@cache
def zipper_speed(model: CarFollowing, parts: int) -> wp.Function:
    """The speed [m/s] planned for one who goes first at SUMO's zipper.

    SUMO 1.28: the driver is to be at its line T after the other is at its own, t, as if it braked
    evenly from the speed that it would have else: v' = v + 2 (distance - v_else (t + T)) dt /
    (t + T)^2. It need not be slower than behind it, and brakes by at most b from 10 s before the
    line on, up to an emergency's at it.
    """
    plan = plan_in_parts(model, True, parts)
    headway = parameter_or(model, "T", 1.0)
    rise = parameter_or(model, "a", 1.0)
    comfort = parameter_or(model, *COMFORT)
    v0 = model.place("v0")

    @wp.func
    def speed_after(distance: Any, speed: Any, rate: Any):
        squared = speed * speed + type(speed)(2.0) * rate * distance
        return wp.sqrt(wp.max(squared, type(speed)(SUMO_EPS * SUMO_EPS)))

    @wp.func
    def whole_steps(distance: Any, speed: Any, last: Any, dt: Any):
        """For a distance at the mean of two speeds, a second at least [s]."""
        mean = wp.max(type(speed)(0.5) * (speed + last), type(speed)(SUMO_EPS))
        return wp.max(wp.ceil(distance / mean / dt) * dt, type(dt)(1.0))

    @wp.func
    def zipped(
        distance: Any,  # to the line [m]
        away: Any,  # of the other to its line [m]
        speed: Any,
        its_speed: Any,
        otherwise: Any,  # the speed planned without it
        driver: Any,  # with its lane's limit
        its: Any,
        part: Any,
        dt: Any,
    ):
        one = type(speed)(1.0)
        b = comfort(driver)
        its_last = wp.min(speed_after(away, its_speed, rise(its)), its[v0])
        turn = whole_steps(away, its_speed, its_last, dt) + headway(driver)
        rate = type(speed)(2.0) * (distance - otherwise * turn) / (turn * turn)
        gap = distance - away - its[LENGTH]
        following = plan(speed, gap, its_speed, driver, part)
        last = wp.max(its_last, speed_after(distance, speed, -b))
        last = wp.min(last, wp.min(speed_after(distance, speed, rise(driver)), driver[v0]))
        early = wp.min(whole_steps(distance, speed, last, dt) / type(dt)(10.0), one)
        hardest = driver[EMERGENCY_DECEL]
        if hardest == type(speed)(wp.inf):
            hardest = type(speed)(LARGEST_DECEL)
        hardest = early * b + (one - early) * hardest
        return wp.max(wp.max(speed + rate * dt, speed - hardest * dt), following)

    return zipped


@wp.func
def leader_later(heeded: wp.array2d(dtype=wp.int32), i: wp.int32):
    """Whom vehicle i + `AHEAD` follows, -1 for nobody."""
    if i + AHEAD < heeded.shape[0]:
        return heeded[i + AHEAD, LEADER]
    return wp.int32(-1)


@cache
def drive(model: CarFollowing, sumo: bool, parts: int, signals: bool) -> wp.Kernel:
    """Speed and position after dt, x counted on beyond the lane's end; nobody reverses."""
    plan = plan_in_parts(model, sumo, parts)
    limited = with_limit(model)
    approach = approach_stop(model, sumo, parts)
    firm = firm_braking(model, sumo)
    room_before = room_to_line(sumo)
    slow = slow_down(model, sumo, parts)
    zipped: Any = zipper_speed(model, parts) if sumo else None
    rise = parameter_or(model, "a", 1.0)
    v0 = place_of(model, "v0")
    slots = int(GAP) if sumo else NUM_HEEDED
    bounded_speed = speed_bounds(model, sumo)
    comfort = parameter_or(model, *COMFORT)

    @wp.kernel(module="unique")
    def drive_each(
        # In, as `kernels.traffic.network.look_ahead` gives them:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        command_in: wp.array(dtype=Any),  # acceleration [m/s^2], NaN for the driver's own
        driver_in: wp.array(dtype=Any),
        heeded_in: wp.array2d(dtype=wp.int32),
        offset_in: wp.array2d(dtype=Any),
        stop_in: wp.array(dtype=Any),
        limit_in: wp.array(dtype=Any),
        slower_at_in: wp.array(dtype=Any),
        slower_in: wp.array(dtype=Any),
        cap_in: wp.array(dtype=Any),
        merge_at_in: wp.array(dtype=Any),
        hold_in: wp.array(dtype=Any),
        line_in: wp.array(dtype=Any),
        nearing_in: wp.array(dtype=Any),
        advice_in: wp.array(dtype=Any),
        cramped_in: wp.array(dtype=Any),
        light_at_in: wp.array(dtype=Any),  # read where there are signals
        zone: Any,  # before a merge [m]
        integrator: wp.int32,
        fail_safe: wp.bool,  # who is commanded goes no faster than its driver would
        part: Any,
        dt: Any,
        # Out:
        x_out: wp.array(dtype=Any),
        speed_out: wp.array(dtype=Any),
    ):
        i = wp.tid()
        soon = leader_later(heeded_in, i)
        prefetch(x_in, soon)
        prefetch(speed_in, soon)
        prefetch(driver_in, soon)
        x = x_in[i]
        speed = speed_in[i]
        zero = type(x)(0.0)
        infinite = type(x)(wp.inf)
        if heeded_in[i, LEADER] == ABSENT:
            x_out[i] = x
            speed_out[i] = speed
        else:
            driver = limited(driver_in[i], limit_in[i])
            planned = plan(speed, infinite, speed, driver, part)
            # Towards a zipper: of the speeds that may count there the lowest, which `nearing` is.
            otherwise = speed
            if wp.static(sumo):
                otherwise = wp.min(speed + rise(driver) * dt, driver[v0])
                if planned >= nearing_in[i] - type(x)(SUMO_EPS):
                    otherwise = wp.min(otherwise, planned)
            for slot in range(wp.static(slots)):
                ahead = heeded_in[i, slot]
                if ahead >= 0:
                    numbers = driver_in[ahead]
                    gap = x_in[ahead] - numbers[LENGTH] + offset_in[i, slot] - x
                    behind = plan(speed, gap, speed_in[ahead], driver, part)
                    if slot >= MERGING:
                        hardest = comfort(driver)
                        if slot == MERGING:
                            hardest = braking_for_turn((merge_at_in[i] - x) / zone, hardest)
                        behind = wp.max(behind, speed - hardest * dt)
                    planned = wp.min(planned, behind)
                    if wp.static(sumo):
                        if slot <= TAIL and behind >= nearing_in[i] - type(x)(SUMO_EPS):
                            otherwise = wp.min(otherwise, behind)
            if wp.static(sumo):
                other = heeded_in[i, GAP]
                if other >= 0:
                    away = line_in[i] - x_in[other] - offset_in[i, GAP]
                    its = limited(driver_in[other], limit_in[other])
                    turn = zipped(
                        line_in[i] - x, away, speed, speed_in[other], otherwise, driver, its,
                        part, dt,
                    )  # fmt: skip
                    planned = wp.min(planned, turn)
            if stop_in[i] < infinite:
                to_end = stop_in[i] - x
                at_end = approach(speed, to_end, comfort(driver), driver, integrator, part, dt)
                planned = wp.min(planned, at_end)
            if wp.static(signals):
                if light_at_in[i] < infinite:
                    decel, way = firm(speed, driver, integrator, dt)
                    to_line = room_before(light_at_in[i] - x, way)
                    at_line = approach(speed, to_line, decel, driver, integrator, part, dt)
                    planned = wp.min(planned, at_line)
            if hold_in[i] < infinite:
                # What the old speed adds to this step, and the new one again in the next.
                room = hold_in[i] - x - type(x)(MARGIN)
                if integrator != SEMI_IMPLICIT:
                    room = room - speed * dt
                planned = wp.min(planned, wp.max(safe_speed(room, comfort(driver), dt), zero))
            if slower_at_in[i] < infinite:
                distance = slower_at_in[i] - x
                slowed = slow(speed, distance, slower_in[i], driver, part, dt)
                planned = wp.min(planned, slowed)
            if cap_in[i] < infinite:
                capped = wp.max(cap_in[i], gentlest(speed, comfort(driver), dt))
                planned = wp.min(planned, capped)
            cramped = cramped_in[i] > zero
            if advice_in[i] < infinite:
                advised = wp.max(speed + advice_in[i] * dt, zero)
                if advised <= planned:
                    planned = advised
                    cramped = False
            if cramped:  # SUMO's falls behind, by half of what braking by b would be
                slowest = wp.max(speed - comfort(driver) * dt, zero)
                if slowest < planned:
                    planned = type(x)(0.5) * (slowest + planned)
            command = command_in[i]
            next_speed = wp.max(speed + command * dt, zero)
            if wp.isnan(command):
                next_speed = bounded_speed(speed, planned, driver, dt)
            elif fail_safe:
                next_speed = wp.min(next_speed, bounded_speed(speed, planned, driver, dt))
            mean_speed = speed
            if integrator == SEMI_IMPLICIT:
                mean_speed = next_speed
            if integrator == BALLISTIC:
                mean_speed = type(x)(0.5) * (speed + next_speed)
            x_out[i] = x + mean_speed * dt
            speed_out[i] = next_speed

    return drive_each


@wp.func
def count_passing(
    network: wp.int32,
    lane: wp.int32,
    start: Any,
    end: Any,
    speed: Any,
    length: Any,
    loop_start: wp.array(dtype=wp.int32),
    loop_x: wp.array(dtype=Any),
    loop_index: wp.array(dtype=wp.int32),
    loops: wp.array3d(dtype=Any),
):
    """Add to the loops in (start, end] of a lane: one, its speed, 1 / speed, the time above it."""
    slow = wp.max(speed, type(speed)(0.1))
    for entry in range(loop_start[lane], loop_start[lane + 1]):
        if start < loop_x[entry] and loop_x[entry] <= end:
            loop = loop_index[entry]
            wp.atomic_add(loops, network, loop, 0, type(speed)(1.0))
            wp.atomic_add(loops, network, loop, 1, speed)
            wp.atomic_add(loops, network, loop, 2, type(speed)(1.0) / slow)
            wp.atomic_add(loops, network, loop, 3, length / slow)


@wp.kernel(enable_backward=False)
def cross(
    # In:
    x_before_in: wp.array(dtype=Any),  # may be x_out
    x_in: wp.array(dtype=Any),  # after `drive`
    speed_in: wp.array(dtype=Any),
    driver_in: wp.array(dtype=Any),
    route_in: wp.array(dtype=wp.int32),
    entered_in: wp.array(dtype=Any),  # when [s]
    clock_in: wp.array(dtype=wp.int64),  # [num_networks] steps so far
    per_network: wp.int32,
    dt: Any,
    early: Any,  # before the end of its route a vehicle has arrived [m]
    signals: wp.bool,  # whether there are any; else the next three are not read
    light_at_in: wp.array(dtype=Any),  # as `look_ahead` gives it
    signal_way: wp.array2d(dtype=wp.int32),
    light_in: wp.array2d(dtype=wp.int32),
    # Tables:
    lane_length: wp.array(dtype=Any),
    next_lane: wp.array2d(dtype=wp.int32),
    usable: wp.array2d(dtype=Any),
    loop_start: wp.array(dtype=wp.int32),  # [num_lanes + 1], of the loops of a lane:
    loop_x: wp.array(dtype=Any),
    loop_index: wp.array(dtype=wp.int32),
    # In and out:
    lane: wp.array(dtype=wp.int32),
    previous: wp.array(dtype=wp.int32),
    loops: wp.array3d(dtype=Any),  # [num_networks, num_loops, 4], as `count_passing` adds them
    trips: wp.array3d(dtype=Any),  # [num_networks, num_routes, 2] arrived, sum of travel times [s]
    # Out:
    x_out: wp.array(dtype=Any),  # in the lane where the front is now
    speed_out: wp.array(dtype=Any),
    passed_out: wp.array(dtype=Any),  # the lengths taken off [m]
    stopped_out: wp.array(dtype=wp.bool),  # whether it ran into its lane's dead end or a red light
):
    """One thread a vehicle: which lane its front is in now; at the end of its route it is gone.

    As in SUMO nobody whom a red light holds gets over its line, however hard that stop is.
    """
    i = wp.tid()
    here = lane[i]
    x = x_in[i]
    passed_out[i] = type(x)(0.0)
    stopped_out[i] = False
    speed_out[i] = speed_in[i]
    if here < 0:
        x_out[i] = x
        return
    network = i // per_network
    route = route_in[i]
    speed = speed_in[i]
    driver = driver_in[i]
    start = x_before_in[i]
    passed = type(x)(0.0)
    came_from = previous[i]
    crossing = wp.bool(True)
    while crossing:
        length = lane_length[here]
        there = next_lane[route, here]
        end = type(x)(length)
        if there < 0 and usable[route, here] == type(x)(wp.inf):
            end = length - early
        crossing = x - passed >= end
        if not crossing:
            break
        barred = wp.bool(False)
        if signals:
            way = signal_way[route, here]
            if way >= 0:
                barred = light_in[network, way] == RED and light_at_in[i] < type(x)(wp.inf)
        if not barred and (there >= 0 or usable[route, here] == type(x)(wp.inf)):
            count_passing(
                network, here, start, length, speed, driver[LENGTH],
                loop_start, loop_x, loop_index, loops,
            )  # fmt: skip
            start = type(x)(-1.0)  # who crosses the border passes a loop at x = 0, too
            passed = passed + length
            came_from = here
            here = there
            if there < 0:
                crossing = False
                now = type(x)(clock_in[network] + wp.int64(1)) * dt
                wp.atomic_add(trips, network, route, 0, type(x)(1.0))
                wp.atomic_add(trips, network, route, 1, now - entered_in[i])
        else:  # a dead end or a red light; drivers stop before it, SUMO's at a dead end
            beyond = x - passed - length
            passed = x - length
            if beyond > type(x)(AT_END):
                stopped_out[i] = True
                speed_out[i] = type(x)(0.0)
            crossing = False
    if here >= 0:
        count_passing(
            network, here, start, x - passed, speed, driver[LENGTH],
            loop_start, loop_x, loop_index, loops,
        )  # fmt: skip
    lane[i] = here
    previous[i] = came_from
    passed_out[i] = passed
    x_out[i] = x - passed
