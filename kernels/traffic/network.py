"""Vehicles on batches of road networks: their order, and what each of them sees ahead.

Arrays of vehicles are flat, [num_vehicles] over all networks, unless told otherwise: those of one
network lie side by side, and an index is that of a vehicle among all. x is the position of a
vehicle's front along its lane [m], as SUMO's; `lane` the index of its lane among all lanes of a
network, -1 for a free slot; `route` that of its route, `previous` the lane that its front came
from, -1 where its rear cannot lie there. Lanes of a segment are neighbours, counted from the right.

All networks of a batch have the same lanes, in tables over them ([num_lanes]) and over routes and
lanes ([num_routes, num_lanes]), which `warp_envs.traffic.network_tables` makes.

A driver heeds up to five vehicles (`LEADER`, `TAIL`, `BEYOND`, `MERGING`, `GAP`), the end of the
lane, a slower limit ahead and its turn at a merge. Who and what that is, is discrete and carries no
gradient; it is found here, and the differentiable step (`network_drive`) drives by it.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import EMERGENCY_DECEL, LENGTH, CarFollowing
from kernels.traffic.network_signals import GREEN, YELLOW
from kernels.traffic.road import (
    ABSENT,
    BALLISTIC,
    FREE,
    bucket_of,
    driver_acceleration,
    insertion_sort,
    merge_sort,
)

LEADER = wp.constant(0)  # the next vehicle on the driver's way
TAIL = wp.constant(1)  # one that has left this lane another way, with its rear still in it
BEYOND = wp.constant(2)  # a slow one beyond the lane's end, whoever is in between (SUMO's)
MERGING = wp.constant(3)  # the one before it in the order of a merge, in another branch
GAP = wp.constant(4)  # one in another lane, to which it opens or finds a gap; SUMO's: at a zipper
NUM_HEEDED = 5

LONGEST = wp.constant(30.0)  # [m] vehicle whose rear is looked for in lanes that it has left
LEAST_SIGHT = wp.constant(25.0)  # [m], five lengths of SUMO's passenger car
NOBODY = wp.constant(wp.uint64(0xFFFFFFFFFFFFFFFF))
LARGEST_DECEL = wp.constant(9.0)  # of an emergency [m/s^2], SUMO's, where the driver's is infinite
FIRM_DECEL = wp.constant(3.0)  # [m/s^2] for a light, where b is less, SUMO's


# Order --------------------------------------------------------------------------------------------


@wp.kernel(enable_backward=False)
def order_by_lane(
    # In:
    x_in: wp.array(dtype=Any),
    lane_in: wp.array(dtype=wp.int32),
    per_network: wp.int32,
    # In and out:
    order: wp.array(dtype=wp.int32),  # each network's vehicles, in any order in; out as below
    # Scratch:
    scratch: wp.array(dtype=wp.int32),
    # Out:
    lane_start_out: wp.array2d(dtype=wp.int32),  # [num_networks, num_lanes + 2]
    next_out: wp.array(dtype=wp.int32),  # of each vehicle the next one in its lane, FREE for nobody
):
    """One thread a network: group by lane, sort each lane from the rear to the front.

    Lane l is ``order[lane_start[network, l] : lane_start[network, l + 1]]``; free slots come last.
    A counting sort keeps the order found within a lane, so that what an insertion sort has to
    repair is who came in from another lane; where that is much, it merges.
    """
    network = wp.tid()
    first = network * per_network
    end = first + per_network
    num_lanes = lane_start_out.shape[1] - 2
    for bucket in range(num_lanes + 1):
        lane_start_out[network, bucket] = 0
    for i in range(first, end):
        lane_start_out[network, bucket_of(lane_in[i], num_lanes)] += 1
    # From numbers to ends; filling each lane from its front moves its end back to its start.
    total = wp.int32(first)
    for bucket in range(num_lanes + 1):
        total += lane_start_out[network, bucket]
        lane_start_out[network, bucket] = total
    lane_start_out[network, num_lanes + 1] = end
    for k in range(first, end):
        scratch[k] = order[k]
    for back in range(per_network):
        i = scratch[end - 1 - back]
        bucket = bucket_of(lane_in[i], num_lanes)
        at = lane_start_out[network, bucket] - 1
        order[at] = i
        lane_start_out[network, bucket] = at
    for lane in range(num_lanes):
        start = lane_start_out[network, lane]
        stop = lane_start_out[network, lane + 1]
        if not insertion_sort(x_in, order, start, stop):
            merge_sort(x_in, order, scratch, start, stop)
        for k in range(start, stop - 1):
            next_out[order[k]] = order[k + 1]
        if stop > start:
            next_out[order[stop - 1]] = FREE


# Ahead --------------------------------------------------------------------------------------------


@wp.func
def rearmost_beyond(
    network: wp.int32,
    route: wp.int32,
    lane: wp.int32,
    to_end: Any,  # from where one looks to the end of `lane` [m]
    sight: Any,  # [m]
    lane_start: wp.array2d(dtype=wp.int32),
    order: wp.array(dtype=wp.int32),
    lane_length: wp.array(dtype=Any),
    lane_inner: wp.array(dtype=wp.int32),
    next_lane: wp.array2d(dtype=wp.int32),
):
    """The rearmost vehicle of the first occupied lane after `lane` on a route, FREE if none.

    One looks into the lanes that start within sight and, as SUMO, at any distance into the next
    `LEAST_SIGHT` metres of road, those inside junctions not counted.

    Returns:
        The vehicle, and how far from where one looks its lane starts [m].
    """
    seen = type(to_end)(to_end)
    counted = type(to_end)(0.0)
    there = next_lane[route, lane]
    while there >= 0:
        start = lane_start[network, there]
        if start < lane_start[network, there + 1]:
            return order[start], seen
        seen = seen + lane_length[there]
        if lane_inner[there] == 0:
            counted = counted + lane_length[there]
        if seen > sight and counted > type(to_end)(LEAST_SIGHT):
            return wp.int32(FREE), seen
        there = next_lane[route, there]
    return wp.int32(FREE), seen


@wp.func
def safe_speed(distance: Any, decel: Any, dt: Any):
    """The speed from which one can stop within a distance: v dt + v^2 / (2 decel) = distance."""
    step = decel * dt
    two = type(distance)(2.0)
    room = wp.max(distance, type(distance)(0.0))
    return wp.sqrt(step * step + two * decel * room) - step


@cache
def place_of(model: CarFollowing, name: str) -> int:
    """Where in a driver's vector a parameter is, -1 if the model has none of that name."""
    names = [number.name for number in model.numbers]
    return names.index(name) if name in names else -1


@cache
def parameter_or(model: CarFollowing, name: str, default: float) -> wp.Function:
    """A parameter of a driver, a number where the model has none of that name."""
    place = place_of(model, name)
    if place < 0:

        @wp.func
        def given(driver: Any):
            return type(driver[0])(default)

        return given

    @wp.func
    def read(driver: Any):
        return driver[place]

    return read


@wp.func
def braking_distance(speed: Any, decel: Any, dt: Any):
    """What is driven in steps each of which is decel dt slower than the last [m], SUMO's."""
    loss = decel * dt
    steps = wp.floor(speed / loss)
    one = type(speed)(1.0)
    return dt * (steps * speed - type(speed)(0.5) * loss * steps * (steps + one))


@wp.func
def stopping_speed(gap: Any, decel: Any, headway: Any, dt: Any):
    """The speed [m/s] from which one stops within a gap: T, then steps each decel dt slower."""
    zero = type(gap)(0.0)
    two = type(gap)(2.0)
    if gap <= zero:
        return zero
    b = decel * dt
    under = dt * dt + type(gap)(4.0) * (dt * (two * gap / b - headway) + headway * headway)
    root = wp.sqrt(wp.max(under, zero))
    n = wp.max(wp.floor(type(gap)(0.5) - (headway - root / two) / dt), zero)
    driven = type(gap)(0.5) * n * (n - type(gap)(1.0)) * b * dt + n * b * headway
    return n * b + (gap - driven) / (n * dt + headway)


COMFORT = ("b", 2.0)
"""Of a driver's comfortable deceleration the name and what counts where a model has none."""


@cache
def sight_of(model: CarFollowing, sumo: bool) -> wp.Function:
    """How far a driver looks [m]: `look_ahead`, or SUMO's distance.

    SUMO's is that of one step and then of braking by b from the highest speed of this step, and
    what is driven in the time headway (1 s where a model has none).
    """
    if not sumo:

        @wp.func
        def look(speed: Any, driver: Any, look_ahead: Any, integrator: wp.int32, dt: Any):
            return look_ahead

        return look

    v0, a, b = (model.place(name) for name in ("v0", "a", "b"))
    headway = parameter_or(model, "T", 1.0)

    @wp.func
    def look_as_sumo(speed: Any, driver: Any, look_ahead: Any, integrator: wp.int32, dt: Any):
        fastest = wp.min(speed + driver[a] * dt, driver[v0])
        braking = type(speed)(0.5) * fastest * fastest / driver[b]
        if integrator != BALLISTIC:
            braking = braking_distance(fastest, driver[b], dt)
        return fastest * dt + braking + fastest * headway(driver)

    return look_as_sumo


@cache
def secure_gap(model: CarFollowing) -> wp.Function:
    """SUMO's: v T + v^2 / (2 sqrt(a b)), the IDM's desired gap to who stands, but for s0 [m]."""
    headway = parameter_or(model, "T", 1.0)
    rise = parameter_or(model, "a", 1.0)
    comfort = parameter_or(model, *COMFORT)

    @wp.func
    def gap(speed: Any, driver: Any):
        two = type(speed)(2.0)
        return speed * headway(driver) + speed * speed / (
            two * wp.sqrt(rise(driver) * comfort(driver))
        )

    return gap


@cache
def firm_braking(model: CarFollowing, sumo: bool) -> wp.Function:
    """For a light: the deceleration [m/s^2] that a driver is ready for, and its way to a stop [m].

    SUMO's: by b, or by 3 m/s^2 if that is more and the vehicle can.
    """
    comfort = parameter_or(model, *COMFORT)

    @wp.func
    def brake(speed: Any, driver: Any, integrator: wp.int32, dt: Any):
        least = wp.min(type(speed)(FIRM_DECEL), driver[EMERGENCY_DECEL])
        decel = wp.max(comfort(driver), least)
        way = type(speed)(0.5) * speed * speed / decel
        if wp.static(sumo):
            if integrator != BALLISTIC:
                way = braking_distance(speed, decel, dt)
        return decel, way

    return brake


@cache
def held_by_light(model: CarFollowing, sumo: bool) -> wp.Function:
    """Whether a driver stops for a light: at yellow if firm braking is enough.

    At red one stops, too, who has to brake harder. SUMO's (1.28, `MSVehicle::planMoveInternal`)
    tries to in any case; a plain driver, whose braking may have no bound, drives on if an
    emergency's were not enough.
    """
    firm = firm_braking(model, sumo)

    @wp.func
    def held(
        speed: Any, distance: Any, colour: wp.int32, driver: Any, integrator: wp.int32, dt: Any
    ):
        if colour == GREEN:
            return False
        _, way = firm(speed, driver, integrator, dt)
        if distance >= way:
            return True
        if colour == YELLOW:
            return False
        if wp.static(sumo):
            return True
        hardest = wp.min(type(speed)(LARGEST_DECEL), driver[EMERGENCY_DECEL])
        return speed * speed <= type(speed)(2.0) * hardest * distance

    return held


@cache
def look_ahead(model: CarFollowing, sumo: bool, signals: bool) -> wp.Kernel:
    """One thread a vehicle: leaders, the lane's end, slower limits and lights ahead.

    In the order in which they lie in memory, and not that of the road: most look nobody up here but
    the next one's index, and what they write lies together. What is beyond the line of a light that
    holds a driver it does not look at, as SUMO's.
    """
    look = sight_of(model, sumo)
    held = held_by_light(model, sumo)
    desired = secure_gap(model)
    acceleration = driver_acceleration(model, sumo)
    v0 = model.place("v0")
    comfort = parameter_or(model, *COMFORT)

    @wp.kernel(module="unique", enable_backward=False)
    def look_ahead_each(
        # In:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        lane_in: wp.array(dtype=wp.int32),
        route_in: wp.array(dtype=wp.int32),
        previous_in: wp.array(dtype=wp.int32),
        order_in: wp.array(dtype=wp.int32),
        next_in: wp.array(dtype=wp.int32),
        lane_start_in: wp.array2d(dtype=wp.int32),
        per_network: wp.int32,
        integrator: wp.int32,
        look_ahead: Any,  # [m]
        dt: Any,
        # Tables:
        lane_length: wp.array(dtype=Any),
        lane_limit: wp.array(dtype=Any),  # [m/s]
        lane_inner: wp.array(dtype=wp.int32),  # 1 inside junctions
        next_lane: wp.array2d(dtype=wp.int32),  # on a route, -1 at its end and where it dead-ends
        usable: wp.array2d(dtype=Any),  # [m] from a lane's start to where it dead-ends, or infinite
        tail_start: wp.array(dtype=wp.int32),  # [num_lanes + 1], of what lies near a lane's end:
        tail_lane: wp.array(dtype=wp.int32),
        tail_via: wp.array(dtype=wp.int32),  # the lane before it on the way there
        tail_distance: wp.array(dtype=Any),  # from the end to its start [m]
        signal_way: wp.array2d(dtype=wp.int32),  # what governs the lane's end on a route, or -1
        light_in: wp.array2d(dtype=wp.int32),  # [num_networks, num_ways], see `network_signals`
        # Out:
        heeded_out: wp.array2d(dtype=wp.int32),  # [num_vehicles, NUM_HEEDED], FREE for nobody
        offset_out: wp.array2d(dtype=Any),  # what a heeded's x lacks to the driver's own [m]
        stop_out: wp.array(dtype=Any),  # x of the lane's dead end [m], or infinite
        limit_out: wp.array(dtype=Any),  # here [m/s]
        slower_at_out: wp.array(dtype=Any),  # x where a slower limit holds from [m], or infinite
        slower_out: wp.array(dtype=Any),  # that limit [m/s]
        cap_out: wp.array(dtype=Any),  # what SUMO's does not exceed so near a slower limit [m/s]
        merge_at_out: wp.array(dtype=Any),  # infinite; see `network_merges.await_turn`
        hold_out: wp.array(dtype=Any),  # the same
        advice_out: wp.array(dtype=Any),  # infinite; see `network_sumo_habits.heed_advice`
        light_at_out: wp.array(dtype=Any),  # x of a line whose light holds it [m], or infinite
    ):
        i = wp.tid()
        network = i // per_network
        lane = lane_in[i]
        x = x_in[i]
        infinite = type(x)(wp.inf)
        for slot in range(NUM_HEEDED):
            heeded_out[i, slot] = FREE
            offset_out[i, slot] = type(x)(0.0)
        stop_out[i] = infinite
        slower_at_out[i] = infinite
        slower_out[i] = infinite
        cap_out[i] = infinite
        merge_at_out[i] = infinite
        hold_out[i] = infinite
        advice_out[i] = infinite
        limit_out[i] = infinite
        if wp.static(signals):
            light_at_out[i] = infinite
        if lane < 0:
            heeded_out[i, LEADER] = ABSENT
            return
        route = route_in[i]
        speed = speed_in[i]
        driver = driver_in[i]
        limit_out[i] = lane_limit[lane]
        sight = look(speed, driver, look_ahead, integrator, dt)
        to_end = lane_length[lane] - x

        following = next_in[i]
        if following >= 0:
            heeded_out[i, LEADER] = following
        else:
            ahead, distance = rearmost_beyond(
                network, route, lane, to_end, sight, lane_start_in, order_in,
                lane_length, lane_inner, next_lane,
            )  # fmt: skip
            heeded_out[i, LEADER] = ahead
            offset_out[i, LEADER] = x + distance
            nearest = type(x)(infinite)
            for entry in range(tail_start[lane], tail_start[lane + 1]):
                other = tail_lane[entry]
                at = lane_start_in[network, other]
                if at < lane_start_in[network, other + 1]:
                    j = order_in[at]
                    numbers = driver_in[j]
                    rear = x_in[j] - numbers[LENGTH] + tail_distance[entry]
                    inside = rear < type(x)(0.0) and previous_in[j] == tail_via[entry]
                    if inside and j != ahead and rear < nearest:
                        nearest = rear
                        heeded_out[i, TAIL] = j
                        offset_out[i, TAIL] = lane_length[lane] + tail_distance[entry]

        # The end of the way, and limits on it.
        seen = type(x)(to_end)
        counted = type(x)(0.0)
        here = wp.int32(lane)
        tightest = type(x)(infinite)
        own_limit = wp.min(driver[v0], lane_limit[lane])
        looking = wp.bool(True)
        near = wp.bool(True)  # the end of `here`; it starts in sight
        hardest = type(x)(infinite)
        there = wp.int32(-1)
        while looking:
            there = next_lane[route, here]
            if wp.static(signals):
                way = signal_way[route, here]
                if way >= 0:
                    if held(speed, seen, light_in[network, way], driver, integrator, dt):
                        light_at_out[i] = x + seen
                        there = wp.int32(-1)
                        leader = heeded_out[i, LEADER]
                        if leader >= 0:
                            numbers = driver_in[leader]
                            rear = x_in[leader] - numbers[LENGTH] + offset_out[i, LEADER]
                            if rear >= x + seen:
                                heeded_out[i, LEADER] = FREE
                        break
            if wp.static(sumo):
                # Of those who are last in the lanes ahead the one for whom it brakes hardest.
                if there >= 0 and near:
                    start = lane_start_in[network, there]
                    if start < lane_start_in[network, there + 1]:
                        j = order_in[start]
                        if j != heeded_out[i, LEADER]:
                            numbers = driver_in[j]
                            gap = seen + x_in[j] - numbers[LENGTH]
                            rate = acceleration(speed, gap, speed - speed_in[j], driver)
                            if rate < hardest:
                                hardest = rate
                                heeded_out[i, BEYOND] = j
                                offset_out[i, BEYOND] = x + seen
            if there < 0:
                looking = False
                if usable[route, here] < infinite:
                    stop_out[i] = x + seen
            elif not near:
                looking = False
            else:
                slower = lane_limit[there]
                if slower < own_limit:
                    # Which of several binds: SUMO's nearest obstacle, else the lowest speed.
                    tight = slower * slower + type(x)(2.0) * comfort(driver) * seen
                    matters = wp.bool(True)
                    if wp.static(sumo):
                        tight = wp.max(seen, desired(slower, driver))
                        matters = speed > slower
                        if seen < tight:
                            cap_out[i] = wp.min(cap_out[i], slower)
                    if matters and tight < tightest:
                        tightest = tight
                        slower_at_out[i] = x + seen
                        slower_out[i] = slower
                here = there
                seen = seen + lane_length[there]
                if lane_inner[there] == 0:
                    counted = counted + lane_length[there]
                near = seen <= sight or counted <= type(x)(LEAST_SIGHT)
        if wp.static(sumo):
            # One farther away whose rear is still in the last of these lanes, as its last one.
            past = type(x)(0.0)
            if here == lane:
                if following >= 0:
                    there = wp.int32(-1)
            elif lane_start_in[network, here] < lane_start_in[network, here + 1]:
                there = wp.int32(-1)
            via = wp.int32(here)
            while there >= 0 and past < type(x)(LONGEST):
                start = lane_start_in[network, there]
                if start < lane_start_in[network, there + 1]:
                    j = order_in[start]
                    numbers = driver_in[j]
                    rear = past + x_in[j] - numbers[LENGTH]
                    if rear < type(x)(0.0) and previous_in[j] == via:
                        rate = acceleration(speed, seen + rear, speed - speed_in[j], driver)
                        if heeded_out[i, LEADER] == FREE:
                            heeded_out[i, LEADER] = j
                            offset_out[i, LEADER] = x + seen + past
                        elif j != heeded_out[i, LEADER] and rate < hardest:
                            heeded_out[i, BEYOND] = j
                            offset_out[i, BEYOND] = x + seen + past
                    there = wp.int32(-1)
                else:
                    past = past + lane_length[there]
                    via = there
                    there = next_lane[route, there]

    return look_ahead_each


@wp.func
def packed(distance: Any, i: wp.int32):
    """A key that sorts by distance >= 0, ties by index."""
    bits = wp.cast(wp.float32(distance), wp.uint32)
    return (wp.uint64(bits) << wp.uint64(32)) | wp.uint64(i)


@wp.func
def unpacked(key: wp.uint64):
    """The vehicle of such a key."""
    return wp.int32(key & wp.uint64(0x7FFFFFFF))


@wp.kernel(enable_backward=False)
def clear_entering(entering_out: wp.array2d(dtype=wp.uint64)):  # noqa: D103
    network, lane = wp.tid()
    entering_out[network, lane] = NOBODY


@wp.kernel(enable_backward=False)
def mark_entering(
    # In, as `look_ahead`:
    x_in: wp.array(dtype=Any),
    route_in: wp.array(dtype=wp.int32),
    order_in: wp.array(dtype=wp.int32),
    lane_start_in: wp.array2d(dtype=wp.int32),
    look_ahead: Any,
    # Tables:
    lane_length: wp.array(dtype=Any),
    next_lane: wp.array2d(dtype=wp.int32),
    # In and out:
    entering: wp.array2d(dtype=wp.uint64),  # who is next to come in over a lane's start, `packed`
):
    """One thread a lane of a network: its foremost vehicle tells the lanes on its way."""
    network, lane = wp.tid()
    end = lane_start_in[network, lane + 1]
    if end == lane_start_in[network, lane]:
        return
    i = order_in[end - 1]
    route = route_in[i]
    seen = wp.max(lane_length[lane] - x_in[i], type(look_ahead)(0.0))
    there = next_lane[route, lane]
    while there >= 0 and seen <= look_ahead:
        wp.atomic_min(entering, network, there, packed(seen, i))
        if lane_start_in[network, there] < lane_start_in[network, there + 1]:
            there = wp.int32(-1)
        else:
            seen = seen + lane_length[there]
            there = next_lane[route, there]
