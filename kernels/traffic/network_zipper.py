"""SUMO's zipper: who lets whom go first where two lanes become one, by times of arrival.

What SUMO 1.28 does at a link of state Z. Each who comes tells when it will be at the line before
the junction, and when its rear will be through. From where braking by b takes (100 m at least) on,
it heeds those who come by the other lane, have not crossed their line, and are there first or so
far ahead that a second's braking is enough to stay behind; not one so far behind that it can do
that itself, nor one through 16 s before or there 16 s after it. Who can no longer stop counts on
the other's braking by b. `network_drive.zipper_speed` says how it lets go first, and
`network_merges.await_turn` that those inside the junction do. Nobody changes lanes, so near that it
could not stop, to where others are to pass the junction within that time.

All this is discrete and carries no gradient; within it x and speeds do.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import LENGTH, CarFollowing
from kernels.traffic.network import (
    COMFORT,
    GAP,
    LEADER,
    TAIL,
    braking_distance,
    parameter_or,
)
from kernels.traffic.network_drive import SUMO_EPS, plan_in_parts, with_limit, zipper_speed
from kernels.traffic.network_merges import ZIPPER

SEEN = wp.constant(100.0)  # [m] before its line one heeds the others at least
SPREAD = wp.constant(100.0)  # [m] farther away than oneself nobody is first
APART = wp.constant(16.0)  # [s] between two who do not heed each other
HALTING = wp.constant(0.1)  # [m/s] below which one stands
MILLISECOND = wp.constant(1.0e3)

ARRIVES = wp.constant(0)  # of a passage: in [s], infinite for one that stands
LEAVES = wp.constant(1)  # when its rear is out of the junction [s]
FIRST_SPEED = wp.constant(2)  # at the line [m/s]
LAST_SPEED = wp.constant(3)
PASSAGE = 4


@wp.func
def arrival(distance: Any, speed: Any, highest: Any, rise: Any):
    """The soonest time [s] over a distance, to a millisecond as SUMO's, and the speed then.

    It gets faster by `rise` as far as `highest` and what the distance allows, and stays so.
    """
    two = type(distance)(2.0)
    last = wp.min(wp.sqrt(speed * speed + two * distance * rise), highest)
    last = wp.max(last, speed)
    time = (last - speed) / rise
    rest = wp.max(distance - time * (last + speed) / two, type(distance)(0.0))
    time = time + rest / wp.max(last, type(distance)(HALTING))
    scale = type(distance)(MILLISECOND)
    return wp.floor(time * scale + type(distance)(0.5)) / scale, last


@wp.func
def braked_arrival(away: Any, arrives: Any, others: Any, b: Any, dt: Any):
    """When one would arrive that brakes by b for one who arrives earlier, and its speed then.

    It brakes from the step of the other's arrival on; half a minute later if it can stop.
    """
    zero = type(dt)(0.0)
    eps = type(dt)(1.0e-6)
    two = type(dt)(2.0)
    if wp.floor(others / dt + eps) == wp.floor(arrives / dt + eps):
        return arrives, zero
    start = wp.ceil(others / dt - eps) * dt
    time = arrives - start
    speed = away / arrives
    if speed * speed / (two * b) <= away - speed * (start - dt):
        return arrives + type(dt)(30.0), zero
    slowed = speed - time * b
    under = wp.max(slowed * slowed - time * time * b * b, zero)
    late = (slowed - wp.sqrt(under)) / b
    return arrives + late, speed - (time + late) * b


@wp.func
def stops_too_late(speed: Any, b: Any, others: Any, others_b: Any):
    """Whether one who follows takes more room to stop than one who leads."""
    return others * others / others_b <= speed * speed / b


@cache
def approach_line(model: CarFollowing, parts: int) -> wp.Kernel:
    """One thread a vehicle: where the line before its next zipper is, and when it will pass it.

    Where its lane leads to none, when it will pass its lane's end.
    """
    plan = plan_in_parts(model, True, parts)
    limited = with_limit(model)
    rise = parameter_or(model, "a", 1.0)
    v0 = model.place("v0")

    @wp.kernel(module="unique", enable_backward=False)
    def approach(
        # In, as `kernels.traffic.network.look_ahead` gives them:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        lane_in: wp.array(dtype=wp.int32),
        route_in: wp.array(dtype=wp.int32),
        heeded_in: wp.array2d(dtype=wp.int32),
        offset_in: wp.array2d(dtype=Any),
        limit_in: wp.array(dtype=Any),
        part: Any,
        dt: Any,
        # Tables, as `network_merges.await_turn`:
        lane_length: wp.array(dtype=Any),
        lane_limit: wp.array(dtype=Any),
        lane_inner: wp.array(dtype=wp.int32),
        next_lane: wp.array2d(dtype=wp.int32),
        merge_lane: wp.array2d(dtype=wp.int32),
        merge_distance: wp.array2d(dtype=Any),
        merge_branch: wp.array2d(dtype=wp.int32),
        merge_gives: wp.array2d(dtype=wp.int32),
        # Out:
        line_out: wp.array(dtype=Any),  # its x [m], infinite for none
        nearing_out: wp.array(dtype=Any),  # the speed of the next step as SUMO counts on it [m/s]
        passage_out: wp.array2d(dtype=Any),  # [num_vehicles, PASSAGE]
    ):
        i = wp.tid()
        lane = lane_in[i]
        infinite = type(dt)(wp.inf)
        line_out[i] = infinite
        nearing_out[i] = type(dt)(0.0)
        passage_out[i, ARRIVES] = infinite
        if lane < 0:
            return
        route = route_in[i]
        x = x_in[i]
        speed = speed_in[i]
        driver = limited(driver_in[i], limit_in[i])
        line = type(dt)(lane_length[lane])
        branch = next_lane[route, lane]
        if merge_lane[route, lane] >= 0 and merge_gives[route, lane] == ZIPPER:
            branch = merge_branch[route, lane]
            line = line + merge_distance[route, lane]
            if lane_inner[branch] == 1:
                line = line - lane_length[branch]
            line_out[i] = line
        # What lies beyond the line does not count, nor in the last lane before it the free road.
        planned = wp.min(speed + rise(driver) * dt, driver[v0])
        if line > lane_length[lane]:
            planned = wp.min(planned, plan(speed, infinite, speed, driver, part))
        for slot in range(LEADER, TAIL + 1):
            ahead = heeded_in[i, slot]
            if ahead >= 0:
                numbers = driver_in[ahead]
                rear = x_in[ahead] - numbers[LENGTH] + offset_in[i, slot]
                if rear < line:
                    planned = wp.min(planned, plan(speed, rear - x, speed_in[ahead], driver, part))
        nearing_out[i] = planned
        if branch < 0 or line <= x or planned <= type(dt)(SUMO_EPS):
            return
        arrives, first = arrival(line - x, planned, driver[v0], rise(driver))
        inside = type(dt)(lane_inner[branch]) * lane_length[branch]
        numbers = driver_in[i]
        last = wp.sqrt(first * first + type(dt)(2.0) * inside * rise(driver))
        last = wp.min(last, wp.min(numbers[v0], lane_limit[branch]))
        mean = type(dt)(0.5) * (first + last)
        passage_out[i, ARRIVES] = arrives
        passage_out[i, LEAVES] = arrives + (inside + driver[LENGTH]) / mean
        passage_out[i, FIRST_SPEED] = first
        passage_out[i, LAST_SPEED] = last

    return approach


@cache
def await_zipper(model: CarFollowing, parts: int) -> wp.Kernel:
    """One thread a vehicle: whom of those before the other lane's line it lets go first.

    Of several the one for whom it is to be the slowest.
    """
    zipped = zipper_speed(model, parts)
    limited = with_limit(model)
    comfort = parameter_or(model, *COMFORT)

    @wp.func
    def stays_behind(distance: Any, away: Any, speed: Any, its_speed: Any, driver: Any):
        """Whether braking for a second is enough to stay behind one that is nearer."""
        apart = distance - away
        return apart > type(speed)(0.0) and apart > speed - comfort(driver) - its_speed

    @wp.func
    def conflict(
        i: wp.int32, j: wp.int32, away: Any, driver: Any, its: Any, can_stop: wp.bool, dt: Any,
        passage: wp.array2d(dtype=Any),
    ):  # fmt: skip
        """Whether two would be in the junction within 16 s, or the second is too fast."""
        arrives = passage[i, ARRIVES]
        if passage[j, LEAVES] < arrives:
            too_fast = stops_too_late(
                passage[i, FIRST_SPEED], comfort(driver), passage[j, LAST_SPEED], comfort(its)
            )
            return arrives - passage[j, LEAVES] < type(dt)(APART) or too_fast
        later = type(dt)(passage[j, ARRIVES])
        its_speed = type(dt)(0.0)
        if not can_stop and arrives < later:
            later, its_speed = braked_arrival(away, later, arrives, comfort(its), dt)
        if later > passage[i, LEAVES] + type(dt)(APART):
            return stops_too_late(its_speed, comfort(its), passage[i, LAST_SPEED], comfort(driver))
        return True

    @wp.kernel(module="unique", enable_backward=False)
    def wait(
        # In, as `approach_line`:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        lane_in: wp.array(dtype=wp.int32),
        route_in: wp.array(dtype=wp.int32),
        limit_in: wp.array(dtype=Any),
        line_in: wp.array(dtype=Any),
        nearing_in: wp.array(dtype=Any),
        passage_in: wp.array2d(dtype=Any),
        order_in: wp.array(dtype=wp.int32),
        lane_start_in: wp.array2d(dtype=wp.int32),
        per_network: wp.int32,
        part: Any,
        dt: Any,
        # Tables:
        merge_lane: wp.array2d(dtype=wp.int32),
        merge_branch: wp.array2d(dtype=wp.int32),
        approach_start: wp.array(dtype=wp.int32),
        approach_lane: wp.array(dtype=wp.int32),
        approach_branch: wp.array(dtype=wp.int32),
        # Out:
        heeded_out: wp.array2d(dtype=wp.int32),
        offset_out: wp.array2d(dtype=Any),
    ):
        i = wp.tid()
        line = line_in[i]
        zero = type(dt)(0.0)
        infinite = type(dt)(wp.inf)
        if line == infinite:
            return
        distance = line - x_in[i]
        speed = speed_in[i]
        driver = driver_in[i]
        stopping = braking_distance(speed, comfort(driver), dt)
        if distance <= zero or distance > wp.max(stopping + speed * dt, type(dt)(SEEN)):
            return
        network = i // per_network
        lane = lane_in[i]
        merge = merge_lane[route_in[i], lane]
        branch = merge_branch[route_in[i], lane]
        own = limited(driver, limit_in[i])
        slowest = type(dt)(infinite)
        for entry in range(approach_start[merge], approach_start[merge + 1]):
            other = approach_lane[entry]
            if approach_branch[entry] != branch:
                first = lane_start_in[network, other]
                place = lane_start_in[network, other + 1] - 1
                while place >= first:
                    j = order_in[place]
                    place = place - 1
                    away = line_in[j] - x_in[j]
                    comes = merge_lane[route_in[j], other] == merge and away > zero
                    if comes and away > distance + type(dt)(SPREAD):
                        place = first - 1
                    elif comes and passage_in[j, ARRIVES] < infinite:
                        its_speed = speed_in[j]
                        its = limited(driver_in[j], limit_in[j])
                        after = passage_in[j, ARRIVES] - passage_in[i, ARRIVES]
                        heeds = conflict(i, j, away, own, its, distance > stopping, dt, passage_in)
                        if after > zero:
                            heeds = heeds and stays_behind(distance, away, speed, its_speed, own)
                        if stays_behind(away, distance, its_speed, speed, its):
                            heeds = wp.bool(False)
                        if after == zero and away == distance and lane < other:
                            heeds = wp.bool(False)
                        if heeds:
                            planned = zipped(
                                distance, away, speed, its_speed, nearing_in[i], own, its, part, dt
                            )
                            if planned < slowest:
                                slowest = planned
                                heeded_out[i, GAP] = j
                                offset_out[i, GAP] = line - line_in[j]

    return wait


@cache
def closed_to(model: CarFollowing) -> wp.Function:
    """Whether one so near a zipper may not change to a lane for those who pass it by the other."""
    comfort = parameter_or(model, *COMFORT)

    @wp.func
    def closed(
        network: wp.int32,
        c: wp.int32,
        here: wp.int32,
        there: wp.int32,
        route: wp.int32,
        to_end: Any,  # of the lane [m]
        stopping: Any,  # what braking by b takes [m]
        x_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        route_in: wp.array(dtype=wp.int32),
        previous_in: wp.array(dtype=wp.int32),
        order_in: wp.array(dtype=wp.int32),
        lane_start_in: wp.array2d(dtype=wp.int32),
        passage_in: wp.array2d(dtype=Any),
        lane_length: wp.array(dtype=Any),
        lane_inner: wp.array(dtype=wp.int32),
        merge_lane: wp.array2d(dtype=wp.int32),
        merge_distance: wp.array2d(dtype=Any),
        merge_branch: wp.array2d(dtype=wp.int32),
        merge_gives: wp.array2d(dtype=wp.int32),
        approach_start: wp.array(dtype=wp.int32),
        approach_lane: wp.array(dtype=wp.int32),
        approach_branch: wp.array(dtype=wp.int32),
    ):
        merge = merge_lane[route, there]
        if merge < 0 or merge_gives[route, there] != ZIPPER:
            return False
        branch = merge_branch[route, there]
        away = to_end + merge_distance[route, there]
        away = away - type(away)(lane_inner[branch]) * lane_length[branch]
        if away >= stopping:
            return False
        if merge_lane[route, here] == merge and merge_branch[route, here] != branch:
            return True  # SUMO's driver counts as one of the others itself
        apart = type(away)(APART)
        arrives = passage_in[c, ARRIVES]
        for entry in range(approach_start[merge], approach_start[merge + 1]):
            other = approach_lane[entry]
            if approach_branch[entry] != branch:
                first = lane_start_in[network, other]
                end = lane_start_in[network, other + 1]
                if lane_inner[other] == 1:  # anybody inside, or with the rear there
                    if end > first:
                        return True
                    at = lane_start_in[network, merge]
                    if at < lane_start_in[network, merge + 1]:
                        j = order_in[at]
                        numbers = driver_in[j]
                        if previous_in[j] == other and x_in[j] < numbers[LENGTH]:
                            return True
                place = end - 1
                while place >= first:
                    j = order_in[place]
                    place = place - 1
                    if merge_lane[route_in[j], other] == merge:
                        if passage_in[j, LEAVES] < arrives:
                            too_fast = stops_too_late(
                                passage_in[c, FIRST_SPEED], comfort(driver_in[c]),
                                passage_in[j, LAST_SPEED], comfort(driver_in[j]),
                            )  # fmt: skip
                            if arrives - passage_in[j, LEAVES] < apart or too_fast:
                                return True
                        elif passage_in[j, ARRIVES] <= passage_in[c, LEAVES] + apart:
                            return True
                        else:  # those behind come later
                            place = first - 1
        return False

    return closed
