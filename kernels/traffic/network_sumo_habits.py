"""What SUMO's drivers know and tell each other before `network_sumo_lanes` weighs lanes.

Constants are those of SUMO 1.28's LC2013. An advice is the highest acceleration in the next step;
it is given for a speed that asks for no more braking than b, and the lowest holds.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import LENGTH, CarFollowing
from kernels.traffic.network import (
    COMFORT,
    FREE,
    LARGEST_DECEL,
    LEAST_SIGHT,
    LONGEST,
    braking_distance,
    parameter_or,
)
from kernels.traffic.network_drive import before_a_line, plan_in_parts, with_limit

GAIN = wp.constant(0)  # of a driver's memory: speed to be gained, + to the left [1]
KEEP_RIGHT = wp.constant(1)  # how much it should go back to the right [1]
RECENT_SPEED = wp.constant(2)  # the highest of late [m/s]
WAITED = wp.constant(3)  # how long it has stood [s]
HELP = wp.constant(4)  # 1 + the speed that helps one who waits [m/s], 0 for none
CRAMPED = wp.constant(5)  # 1 where it would make room by a change that its leader there forbids
NUM_MEMORIES = 6

UNSEEN = wp.constant(0)  # of a lane: the place in `order` of the next who decides
LEAD = wp.constant(1)  # the last one who has decided and stayed, -1 for nobody
HOPPED = wp.constant(2)  # the last one who has come in from another lane
LAST_BLOCKED = wp.constant(3)  # of those who must come in and cannot
FIRST_BLOCKED = wp.constant(4)
NUM_PASSING = 5

WANTS_RIGHT = wp.constant(1)  # bits of what a driver wants
WANTS_LEFT = wp.constant(2)
STAYS_FOR_ROUTE = wp.constant(8)  # one side is no lane for it
COOPERATES = wp.constant(16)  # it would change for another's sake, and its leader there forbids
RELIEVED = wp.constant(4)  # it does not brake for a change that its lane lets it do without
ASKED_RIGHT = wp.constant(1)  # bits of what it was asked
ASKED_LEFT = wp.constant(2)

MOTORWAY = wp.constant(80.0 / 3.6)  # [m/s] above which nobody goes to a lane that ends for gain
FLOWING = wp.constant(60.0 / 3.6)  # [m/s] from which on nobody passes on the right
FASTEST_TOWN = wp.constant(60.1 / 3.6)  # [m/s] a limit below which everybody may
FORWARD = wp.constant(10.0)  # [s] D is that of the speed
LEFT_SOONER = wp.constant(2.0)  # the factor of D to the left
FORGET = wp.constant(0.1)  # [1/s] at which the highest speed of late falls to the speed
HURRY = wp.constant(2.0)  # by which the time left for a change is counted as shorter
TO_LEFT = wp.constant(0.2)  # of GAIN
TO_RIGHT = wp.constant(2.0)
URGENT_GAIN = wp.constant(50.0)  # of GAIN, to either side
LEAST_SCALE = wp.constant(10.0)  # [m/s] gains are relative to at least that
MUCH_FASTER = wp.constant(5.0 / 3.6)  # [m/s] this lane, for keeping it
FAR = wp.constant(20.0)  # [s] that a lane must go on for a change for gain
KEEP_RIGHT_TIME = wp.constant(5.0)  # [s]
ACCEPTED_TIME = wp.constant(7.0)  # [s] in the right lane, for each m/s
OVERTAKING = wp.constant(10.0 / 3.6)  # [m/s] by which who is to pass should be faster
FALL_BEHIND = wp.constant(7.0 / 3.6)  # [m/s^2] at least, to fall behind a leader
CUT_IN_SPEED = wp.constant(27.0)  # [m/s] above which followers on the left are asked to brake
LONGEST_RAMP = wp.constant(200.0)  # [m] of a lane above which the same
HALTING = wp.constant(0.1)  # [m/s] below which one stands
PATIENCE = wp.constant(60.0)  # [s] after which those far behind let in who stands and must
ELSEWHERE = wp.constant(200.0)  # [m] before a lane leads on elsewhere nobody enters it for gain
EPS = wp.constant(1.0e-3)  # SUMO's, of speeds and gains
IN_SIGHT = wp.constant(0.1)  # [m], SUMO's eps of positions
AHEAD_SECONDS = wp.constant(8.0)  # how far ahead who may not pass on the right looks


@cache
def whole_step(model: CarFollowing, sumo: bool, parts: int) -> wp.Function:
    """The speed [m/s] that a driver plans for the next step behind a leader at a gap [m]."""
    plan = plan_in_parts(model, sumo, parts)

    @wp.func
    def follow(speed: Any, gap: Any, leader_speed: Any, driver: Any, dt: Any):
        return plan(speed, gap, leader_speed, driver, dt / type(dt)(float(parts)))

    return follow


@cache
def secure_behind(model: CarFollowing) -> wp.Function:
    """SUMO's secure gap of the IDM, but for s0 [m]: max(0, v T + v dv / (2 sqrt(a b)))."""
    headway = parameter_or(model, "T", 1.0)
    rise = parameter_or(model, "a", 1.0)
    comfort = parameter_or(model, *COMFORT)

    @wp.func
    def gap(speed: Any, leader_speed: Any, driver: Any):
        root = type(speed)(2.0) * wp.sqrt(rise(driver) * comfort(driver))
        dynamic = speed * headway(driver) + speed * (speed - leader_speed) / root
        return wp.max(dynamic, type(speed)(0.0))

    return gap


@wp.func
def later_filled(
    route: wp.int32,
    lane: wp.int32,
    network: wp.int32,
    lane_inner: wp.array(dtype=wp.int32),
    next_lane: wp.array2d(dtype=wp.int32),
    filled: wp.array2d(dtype=Any),  # of lanes [m]
):
    """What those in all lanes after one take up, those inside junctions not counted [m]."""
    room = filled[network, lane] * type(filled[network, lane])(0.0)
    there = next_lane[route, lane]
    while there >= 0:
        if lane_inner[there] == 0:
            room = room + filled[network, there]
        there = next_lane[route, there]
    return room


@wp.func
def rearmost_of(
    network: wp.int32,
    lane: wp.int32,
    where: wp.array(dtype=Any),
    order: wp.array(dtype=wp.int32),
    lane_start: wp.array2d(dtype=wp.int32),
    passing: wp.array3d(dtype=wp.int32),
):
    """The last one of another segment's lane now, -1 for nobody."""
    if passing[network, lane, UNSEEN] >= lane_start[network, lane]:
        return order[lane_start[network, lane]]
    last = passing[network, lane, LEAD]
    hopped = passing[network, lane, HOPPED]
    if hopped >= 0 and (last < 0 or where[hopped] < where[last]):
        return hopped
    return last


@wp.func
def leader_of(
    network: wp.int32,
    route: wp.int32,
    lane: wp.int32,  # of the segment whose drivers decide
    x: Any,
    sight: Any,  # [m]
    where: wp.array(dtype=Any),  # everybody's x
    driver: wp.array(dtype=Any),
    previous: wp.array(dtype=wp.int32),
    order: wp.array(dtype=wp.int32),
    lane_start: wp.array2d(dtype=wp.int32),
    lane_length: wp.array(dtype=Any),
    lane_inner: wp.array(dtype=wp.int32),
    next_lane: wp.array2d(dtype=wp.int32),
    passing: wp.array3d(dtype=wp.int32),
):
    """Whom one would follow, FREE for nobody, and what its x lacks to the own [m].

    Beyond the lane's end one who starts within sight, or whose rear is still in the lane.
    """
    lead = passing[network, lane, LEAD]
    hopped = passing[network, lane, HOPPED]
    if hopped >= 0 and where[hopped] > x and (lead < 0 or where[lead] > where[hopped]):
        lead = hopped
    if lead >= 0:
        return lead, type(x)(0.0)
    to_end = lane_length[lane] - x
    seen = type(x)(to_end)
    via = wp.int32(lane)
    there = next_lane[route, lane]
    near = wp.bool(seen <= sight)
    while there >= 0:
        j = rearmost_of(network, there, where, order, lane_start, passing)
        if j >= 0:
            numbers = driver[j]
            inside = seen + where[j] - numbers[LENGTH] < to_end and previous[j] == via
            if near or inside:
                return j, seen + x
            return wp.int32(FREE), seen
        seen = seen + lane_length[there]
        near = near and (seen <= sight or lane_inner[there] == 1)
        via = there
        there = next_lane[route, there]
        if not near and seen - to_end > type(x)(LONGEST):
            there = wp.int32(-1)
    return wp.int32(FREE), seen


@cache
def critical_gap(model: CarFollowing, parts: int) -> wp.Function:
    """Whether the gap is secure to whoever beyond a lane's end asks for the hardest braking."""
    follow = whole_step(model, True, parts)
    secure = secure_behind(model)
    s0 = parameter_or(model, "s0", 0.0)

    @wp.func
    def is_secure(
        network: wp.int32,
        route: wp.int32,
        lane: wp.int32,
        known: wp.int32,  # the leader there, whose gap is
        x: Any,
        sight: Any,
        own: Any,
        speed: Any,
        dt: Any,
        where: wp.array(dtype=Any),
        speeds: wp.array(dtype=Any),
        driver: wp.array(dtype=Any),
        order: wp.array(dtype=wp.int32),
        lane_start: wp.array2d(dtype=wp.int32),
        lane_length: wp.array(dtype=Any),
        lane_inner: wp.array(dtype=wp.int32),
        next_lane: wp.array2d(dtype=wp.int32),
        passing: wp.array3d(dtype=wp.int32),
    ):
        seen = lane_length[lane] - x
        slowest = type(x)(wp.inf)
        critical = wp.int32(FREE)
        its_gap = type(x)(wp.inf)
        there = next_lane[route, lane]
        while there >= 0 and seen <= sight:
            j = rearmost_of(network, there, where, order, lane_start, passing)
            if j >= 0:
                numbers = driver[j]
                gap = seen + where[j] - numbers[LENGTH]
                safe = follow(speed, gap, speeds[j], own, dt)
                if safe < slowest:
                    slowest = safe
                    critical = j
                    its_gap = gap - s0(own)
            seen = seen + lane_length[there]
            there = next_lane[route, there]
        if critical < 0 or critical == known:
            return True
        return its_gap >= secure(speed, speeds[critical], own)

    return is_secure


@wp.func
def advise(
    i: wp.int32,
    planned: Any,  # [m/s]
    speed: Any,
    hardest: Any,  # [m/s^2]
    dt: Any,
    advised: wp.array(dtype=Any),
):
    """Advise a speed for the next step, unless that asks for more braking than `hardest`."""
    rate = (planned - speed) / dt
    if planned >= type(dt)(0.0) and rate >= -hardest * type(dt)(1.0 + 1.0e-6):
        wp.atomic_min(advised, i, rate)


@wp.func
def flows(speed: Any, limit: Any):
    """Whether traffic is not congested (SUMO)."""
    return speed >= type(speed)(FLOWING) and limit >= type(speed)(FASTEST_TOWN)


@wp.func
def rounded_up(value: Any):
    """To a hundred-thousandth, as SUMO keeps what its drivers weigh."""
    scale = type(value)(1.0e5)
    return wp.ceil(value * scale) / scale


@wp.kernel(enable_backward=False)
def start_advising(
    # In:
    speed_in: wp.array(dtype=Any),
    lane_in: wp.array(dtype=wp.int32),
    dt: Any,
    # Tables:
    lane_alone: wp.array(dtype=wp.int32),  # 1 where it is its segment's only one
    # In and out:
    memory: wp.array2d(dtype=Any),
    # Out:
    advised_out: wp.array(dtype=Any),
    asked_out: wp.array(dtype=wp.int32),
    wants_out: wp.array(dtype=wp.int32),
    space_out: wp.array(dtype=Any),
    reserved_out: wp.array(dtype=Any),
):
    """One thread a vehicle, before `network_sumo_lanes.change_lanes`."""
    i = wp.tid()
    zero = type(dt)(0.0)
    waited = memory[i, WAITED] + dt
    if speed_in[i] > type(dt)(HALTING):
        waited = zero
    memory[i, WAITED] = waited
    memory[i, GAIN] = rounded_up(memory[i, GAIN])
    memory[i, KEEP_RIGHT] = rounded_up(memory[i, KEEP_RIGHT])
    here = lane_in[i]
    if here >= 0:
        if lane_alone[here] == 1:
            memory[i, GAIN] = zero
            memory[i, KEEP_RIGHT] = zero
            memory[i, RECENT_SPEED] = zero
    advised_out[i] = type(dt)(wp.inf)
    asked_out[i] = 0
    wants_out[i] = 0
    space_out[i] = zero
    reserved_out[i] = zero


@cache
def settle_advice(model: CarFollowing, parts: int) -> wp.Kernel:
    """One thread a vehicle: what it does of its own, once everybody has decided.

    It stops before the room that it keeps at its lane's end, and behind the foremost of those who
    must come into a lane ahead, once that has stood for a minute, if braking by b is enough.
    """
    follow = whole_step(model, True, parts)
    limited = with_limit(model)
    facing = before_a_line(model, True)
    rise = parameter_or(model, "a", 1.0)
    comfort = parameter_or(model, *COMFORT)
    headway = parameter_or(model, "T", 1.0)
    s0 = parameter_or(model, "s0", 0.0)
    v0 = model.place("v0")

    @wp.kernel(module="unique", enable_backward=False)
    def settle(
        # In:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        lane_in: wp.array(dtype=wp.int32),
        route_in: wp.array(dtype=wp.int32),
        passing_in: wp.array3d(dtype=wp.int32),
        wants_in: wp.array(dtype=wp.int32),
        space_in: wp.array(dtype=Any),
        reserved_in: wp.array(dtype=Any),
        per_network: wp.int32,
        dt: Any,
        # Tables:
        lane_length: wp.array(dtype=Any),
        lane_limit: wp.array(dtype=Any),
        lane_inner: wp.array(dtype=wp.int32),
        next_lane: wp.array2d(dtype=wp.int32),
        # In and out:
        memory: wp.array2d(dtype=Any),
        advised: wp.array(dtype=Any),
    ):
        i = wp.tid()
        memory[i, HELP] = type(dt)(0.0)
        memory[i, CRAMPED] = type(dt)(0.0)
        there = lane_in[i]
        if there < 0:
            return
        network = i // per_network
        zero = type(dt)(0.0)
        speed = speed_in[i]
        own = limited(driver_in[i], lane_limit[there])
        b = comfort(own)
        if (wants_in[i] & (COOPERATES | STAYS_FOR_ROUTE)) == COOPERATES:
            memory[i, CRAMPED] = type(dt)(1.0)
        if (wants_in[i] & RELIEVED) != 0:
            advised[i] = type(dt)(wp.inf)
        elif reserved_in[i] > zero:
            room = space_in[i] - reserved_in[i] - type(dt)(1.0) - s0(own)
            if room > zero:
                slower = follow(speed, room, zero, facing(own), dt)
                if slower < speed - type(dt)(LARGEST_DECEL) * dt:
                    slower = wp.max(slower, speed - b * dt)
                advised[i] = wp.min(advised[i], (slower - speed) / dt)
        fastest = wp.min(speed + rise(own) * dt, own[v0])
        sight = fastest * dt + braking_distance(fastest, b, dt) + fastest * headway(own)
        lowest = type(dt)(wp.inf)
        seen = -x_in[i]
        counted = -lane_length[there]  # of lanes beyond its own, not inside junctions
        near = wp.bool(True)
        while there >= 0 and near:
            j = passing_in[network, there, FIRST_BLOCKED]
            if j >= 0:
                if memory[j, WAITED] >= type(dt)(PATIENCE):
                    numbers = driver_in[j]
                    gap = seen + x_in[j] - numbers[LENGTH] - s0(own) - type(dt)(EPS)
                    slower = follow(speed, gap, zero, facing(own), dt)
                    if gap > zero and slower >= wp.max(speed - b * dt, zero) and slower < lowest:
                        lowest = slower
                        memory[i, HELP] = slower + type(dt)(1.0)
            if there != lane_in[i] or lane_inner[there] == 0:  # SUMO's, seen from inside a junction
                seen = seen + lane_length[there]
            if lane_inner[there] == 0:
                counted = counted + lane_length[there]
            near = seen <= sight or counted <= type(dt)(LEAST_SIGHT)
            there = next_lane[route_in[i], there]

    return settle


@wp.kernel(enable_backward=False)
def heed_advice(
    # In:
    speed_in: wp.array(dtype=Any),
    lane_in: wp.array(dtype=wp.int32),
    memory_in: wp.array2d(dtype=Any),
    advised_in: wp.array(dtype=Any),
    # In and out:
    cap: wp.array(dtype=Any),  # what is not exceeded [m/s]
    # Out:
    speed_before_out: wp.array(dtype=Any),  # for what everybody's acceleration will have been
    advice_out: wp.array(dtype=Any),
    cramped_out: wp.array(dtype=Any),
):
    """One thread a vehicle: what it was advised, and whom it helps, holds for this step."""
    i = wp.tid()
    speed_before_out[i] = speed_in[i]
    advice_out[i] = advised_in[i]
    cramped_out[i] = memory_in[i, CRAMPED]
    helping = memory_in[i, HELP]
    if lane_in[i] >= 0 and helping > type(helping)(0.0):
        cap[i] = wp.min(cap[i], helping - type(helping)(1.0))
