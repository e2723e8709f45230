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
    NOBODY,
    braking_distance,
    packed,
    parameter_or,
    unpacked,
)
from kernels.traffic.network_drive import plan_in_parts, with_limit

GAIN = wp.constant(0)  # of a driver's memory: speed to be gained, + to the left [1]
KEEP_RIGHT = wp.constant(1)  # how much it should go back to the right [1]
RECENT_SPEED = wp.constant(2)  # the highest of late [m/s]
WAITED = wp.constant(3)  # how long it has stood [s]
NUM_MEMORIES = 4

MOTORWAY = wp.constant(80.0 / 3.6)  # [m/s] above which nobody goes to a lane that ends for gain
FLOWING = wp.constant(60.0 / 3.6)  # [m/s] from which on nobody passes on the right
FASTEST_TOWN = wp.constant(60.1 / 3.6)  # [m/s] a limit below which everybody may
FORWARD = wp.constant(10.0)  # [s] D is that of the speed
LEFT_SOONER = wp.constant(2.0)  # the factor of D to the left
FORGET = wp.constant(0.1)  # [1/s] at which the highest speed of late falls to the speed
HURRY = wp.constant(2.0)  # by which the time left for a change is counted as shorter
TO_LEFT = wp.constant(0.2)  # of GAIN
TO_RIGHT = wp.constant(2.0)
LEAST_SCALE = wp.constant(10.0)  # [m/s] gains are relative to at least that
MUCH_FASTER = wp.constant(5.0 / 3.6)  # [m/s] this lane, for keeping it
FAR = wp.constant(20.0)  # [s] that a lane must go on for a change for gain
KEEP_RIGHT_TIME = wp.constant(5.0)  # [s]
ACCEPTED_TIME = wp.constant(7.0)  # [s] in the right lane, for each m/s
OVERTAKING = wp.constant(10.0 / 3.6)  # [m/s] by which who is to pass should be faster
FALL_BEHIND = wp.constant(7.0 / 3.6)  # [m/s^2] at least, to fall behind a leader
CUT_IN_SPEED = wp.constant(27.0)  # [m/s] above which followers on the left are asked to brake
LONGEST_RAMP = wp.constant(200.0)  # [m] of a lane above which the same
LONGEST = wp.constant(30.0)  # [m] vehicle that is looked for
HALTING = wp.constant(0.1)  # [m/s] below which one stands
PATIENCE = wp.constant(60.0)  # [s] after which those far behind let in who stands and must
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
def occupied(
    network: wp.int32,
    route: wp.int32,
    lane: wp.int32,
    at: wp.int32,  # the first place of `lane` that counts
    room: Any,  # of one vehicle [m]
    lane_start: wp.array2d(dtype=wp.int32),
    next_lane: wp.array2d(dtype=wp.int32),
):
    """What those ahead in a lane and in all after it take up [m], each as much as oneself."""
    count = lane_start[network, lane + 1] - at
    there = next_lane[route, lane]
    while there >= 0:
        count += lane_start[network, there + 1] - lane_start[network, there]
        there = next_lane[route, there]
    return type(room)(count) * room


@wp.func
def leader_within(
    network: wp.int32,
    route: wp.int32,
    lane: wp.int32,
    at: wp.int32,  # as `place_in_lane`
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
):
    """Whom one would follow, FREE for nobody, and what its x lacks to the own [m].

    Beyond the lane's end one who starts within sight, or whose rear is still in the lane.
    """
    if at < lane_start[network, lane + 1]:
        return order[at], type(x)(0.0)
    to_end = lane_length[lane] - x
    seen = type(x)(to_end)
    via = wp.int32(lane)
    there = next_lane[route, lane]
    near = wp.bool(seen <= sight)
    while there >= 0:
        if lane_start[network, there] < lane_start[network, there + 1]:
            j = order[lane_start[network, there]]
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


@wp.kernel(enable_backward=False)
def start_advising(
    # In:
    speed_in: wp.array(dtype=Any),
    dt: Any,
    # In and out:
    memory: wp.array2d(dtype=Any),
    # Out:
    advised_out: wp.array(dtype=Any),
    asked_out: wp.array(dtype=wp.int32),
):
    """Before the first `weigh_lanes` of a step."""
    i = wp.tid()
    waited = memory[i, WAITED] + dt
    if speed_in[i] > type(dt)(HALTING):
        waited = type(dt)(0.0)
    memory[i, WAITED] = waited
    advised_out[i] = type(advised_out[i])(wp.inf)
    asked_out[i] = 0


@wp.kernel(enable_backward=False)
def mark_waiting(
    # In:
    x_in: wp.array(dtype=Any),
    lane_in: wp.array(dtype=wp.int32),
    route_in: wp.array(dtype=wp.int32),
    memory_in: wp.array2d(dtype=Any),
    per_network: wp.int32,
    # Tables:
    better: wp.array2d(dtype=wp.int32),
    # In and out:
    waiting: wp.array2d(dtype=wp.uint64),  # [num_networks, num_lanes] for each lane, `packed`
):
    """One thread a vehicle: who has stood for long beside the lane that it must change to."""
    i = wp.tid()
    here = lane_in[i]
    if here < 0 or memory_in[i, WAITED] < type(memory_in[i, WAITED])(PATIENCE):
        return
    off = better[route_in[i], here]
    if off != 0:
        to = here + wp.where(off > 0, 1, -1)
        wp.atomic_min(waiting, i // per_network, to, packed(x_in[i], i))


@cache
def heed_advice(model: CarFollowing, parts: int) -> wp.Kernel:
    """One thread a vehicle: what it was advised holds for this step; some let in who waits."""
    follow = whole_step(model, True, parts)
    limited = with_limit(model)
    comfort = parameter_or(model, *COMFORT)
    headway = parameter_or(model, "T", 1.0)

    @wp.kernel(module="unique", enable_backward=False)
    def heed(
        # In:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        lane_in: wp.array(dtype=wp.int32),
        route_in: wp.array(dtype=wp.int32),
        advised_in: wp.array(dtype=Any),
        waiting_in: wp.array2d(dtype=wp.uint64),
        per_network: wp.int32,
        dt: Any,
        # Tables:
        lane_length: wp.array(dtype=Any),
        lane_limit: wp.array(dtype=Any),
        next_lane: wp.array2d(dtype=wp.int32),
        # Out:
        speed_before_out: wp.array(dtype=Any),  # for what everybody's acceleration will have been
        advice_out: wp.array(dtype=Any),
    ):
        i = wp.tid()
        speed = speed_in[i]
        speed_before_out[i] = speed
        advice = advised_in[i]
        there = lane_in[i]
        if there >= 0:
            own = limited(driver_in[i], lane_limit[there])
            b = comfort(own)
            sight = speed * dt + braking_distance(speed, b, dt) + speed * headway(own)
            seen = -x_in[i]
            while there >= 0 and seen <= sight:
                key = waiting_in[i // per_network, there]
                if key != NOBODY:
                    j = unpacked(key)
                    numbers = driver_in[j]
                    gap = seen + x_in[j] - numbers[LENGTH]
                    if gap > type(dt)(0.0):
                        slower = follow(speed, gap, type(dt)(0.0), own, dt)
                        rate = (slower - speed) / dt
                        if rate >= -b and rate < advice:
                            advice = rate
                seen = seen + lane_length[there]
                there = next_lane[route_in[i], there]
        advice_out[i] = advice

    return heed


@wp.kernel(enable_backward=False)
def settle_lanes(
    # In:
    target_in: wp.array(dtype=wp.int32),
    # In and out:
    lane: wp.array(dtype=wp.int32),
    previous: wp.array(dtype=wp.int32),
    memory: wp.array2d(dtype=Any),
    advised: wp.array(dtype=Any),
):
    """One thread a vehicle: do what `weigh_lanes` found; who changes forgets."""
    i = wp.tid()
    if lane[i] >= 0 and target_in[i] != lane[i]:
        lane[i] = target_in[i]
        previous[i] = -1
        advised[i] = type(advised[i])(wp.inf)
        for k in range(NUM_MEMORIES):
            memory[i, k] = type(memory[i, k])(0.0)
