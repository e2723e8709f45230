"""Lane changes on road networks as SUMO's drivers make them: its model LC2013.

Erdmann 2015, "SUMO's lane-changing model", in Modeling Mobility with Open Data, Springer, 105, and
what SUMO 1.28 does, with its default numbers. A driver looks to the right and then to the left:

    must        the way it can still go in its lane, less the room that those ahead of it in the
                lane it should be in take up, is below n D, D = 10 s v (to the left 20 s v) + 2 (l +
                s0), n the lanes to cross, v the highest speed of late
    stays       it could not come back in time: below D (|n| + 2); or that lane goes on elsewhere
                within 200 m
    gains       speed in the next lane, weighed over time: the sum of (v_there - v_here) / v_there
                dt reaches 0.2 to the left or 2 to the right, v the speeds that are safe behind the
                leaders there and here
    keeps right (where the lane there goes as far) after some seconds in which it could drive there
    goes over   to the lane it should be in, where that costs no speed
    makes room  whom one that must and cannot has asked, by going the same way, if it may be there

It changes as soon as the gaps are SUMO's secure ones. Who must and cannot yet advises itself, the
leader there and the follower there a speed for the next step (to fall behind, to let in, to go
past), and keeps room at its lane's end for one who must come the other way; an advice is heeded if
it asks for no more braking than b. Who is slow lets in who must. Who is faster than 60 km/h advises
itself not to pass on the right. Advices, like changes, are discrete and carry no gradient.

As in SUMO the drivers of a segment decide from the front to the rear, each knowing what those ahead
of it have done and asked, and segments from where routes end to where they begin.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import LENGTH, CarFollowing
from kernels.traffic.network import COMFORT, FREE, braking_distance, parameter_or
from kernels.traffic.network_drive import with_limit
from kernels.traffic.network_outlook import lane_outlook
from kernels.traffic.network_sumo_habits import (
    FIRST_BLOCKED,
    GAIN,
    HOPPED,
    IN_SIGHT,
    KEEP_RIGHT,
    LAST_BLOCKED,
    LEAD,
    NUM_PASSING,
    RECENT_SPEED,
    UNSEEN,
    WANTS_LEFT,
    WANTS_RIGHT,
    advise,
    leader_of,
    whole_step,
)
from kernels.traffic.network_sumo_side import CHANGES, URGES, WISHES, weigh_side


@cache
def change_lanes(model: CarFollowing, parts: int, most: int) -> wp.Kernel:
    """One thread a network: who moves over to the next lane, and advices.

    Where signals differ from lane to lane, of up to `most` in a segment, each driver has its own
    outlook (`network_outlook`) in the place of `reach` and `better`; else `most` is 0.
    """
    better_of, _ = lane_outlook(most)
    follow = whole_step(model, True, parts)
    limited = with_limit(model)
    weigh = weigh_side(model, parts, most)
    least_gap = parameter_or(model, "s0", 0.0)
    headway = parameter_or(model, "T", 1.0)
    comfort = parameter_or(model, *COMFORT)

    @wp.kernel(module="unique", enable_backward=False)
    def change(
        # In, as `kernels.traffic.network.look_ahead`:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        speed_before_in: wp.array(dtype=Any),  # a step ago
        driver_in: wp.array(dtype=Any),
        route_in: wp.array(dtype=wp.int32),
        order_in: wp.array(dtype=wp.int32),
        lane_start_in: wp.array2d(dtype=wp.int32),
        entering_in: wp.array2d(dtype=wp.uint64),
        dt: Any,
        # Tables:
        wide: wp.array2d(dtype=wp.int32),  # [segments of several lanes, 2] first lane, end
        lane_length: wp.array(dtype=Any),
        lane_limit: wp.array(dtype=Any),
        lane_inner: wp.array(dtype=wp.int32),
        lane_place: wp.array(dtype=wp.int32),
        next_lane: wp.array2d(dtype=wp.int32),
        reach: wp.array2d(dtype=Any),  # how far a lane goes, from its start [m]
        better: wp.array2d(dtype=wp.int32),  # lanes to the one that should be taken, + to the left
        elsewhere: wp.array2d(dtype=wp.int32),  # 1 where its last lane leads on, off the route
        # Of zippers, as `network_zipper.approach_line`:
        passage_in: wp.array2d(dtype=Any),
        merge_lane: wp.array2d(dtype=wp.int32),
        merge_distance: wp.array2d(dtype=Any),
        merge_branch: wp.array2d(dtype=wp.int32),
        merge_gives: wp.array2d(dtype=wp.int32),
        approach_start: wp.array(dtype=wp.int32),
        approach_lane: wp.array(dtype=wp.int32),
        approach_branch: wp.array(dtype=wp.int32),
        # In and out:
        lane: wp.array(dtype=wp.int32),
        previous: wp.array(dtype=wp.int32),
        memory: wp.array2d(dtype=Any),  # [num_vehicles, NUM_MEMORIES]
        # Out, of lanes [num_networks, num_lanes, ...]:
        passing: wp.array3d(dtype=wp.int32),  # NUM_PASSING, see `network_sumo_habits`
        taken: wp.array2d(dtype=Any),  # by those who have decided [m]
        filled: wp.array2d(dtype=Any),  # by everybody [m]
        # Out, of vehicles, from zero:
        wants: wp.array(dtype=wp.int32),  # to change: WANTS_RIGHT, WANTS_LEFT, RELIEVED
        space: wp.array(dtype=Any),  # left of the lane of one that must change [m]
        reserved: wp.array(dtype=Any),  # at its end [m]
        asked: wp.array(dtype=wp.int32),  # to make room: ASKED_RIGHT, ASKED_LEFT
        advised_out: wp.array(dtype=Any),  # at most that acceleration in the next step [m/s^2]
    ):
        network = wp.tid()
        for l in range(lane_length.shape[0]):
            for what in range(NUM_PASSING):
                passing[network, l, what] = FREE
            passing[network, l, UNSEEN] = lane_start_in[network, l + 1] - 1
            taken[network, l] = type(dt)(0.0)
            room = type(dt)(0.0)
            for k in range(lane_start_in[network, l], lane_start_in[network, l + 1]):
                numbers = driver_in[order_in[k]]
                room = room + numbers[LENGTH] + least_gap(numbers)
            filled[network, l] = room
        for s in range(wide.shape[0]):
            first_lane = wide[s, 0]
            end_lane = wide[s, 1]
            count = lane_start_in[network, end_lane] - lane_start_in[network, first_lane]
            for _ in range(count):
                # The foremost of those who have not decided, of several in the rightmost lane.
                here = wp.int32(-1)
                foremost = type(dt)(0.0)
                for l in range(first_lane, end_lane):
                    k = passing[network, l, UNSEEN]
                    if k >= lane_start_in[network, l]:
                        at = x_in[order_in[k]]
                        if here < 0 or at > foremost:
                            here = l
                            foremost = at
                k = passing[network, here, UNSEEN]
                passing[network, here, UNSEEN] = k - 1
                c = order_in[k]
                driver = driver_in[c]
                speed = speed_in[c]
                b = comfort(driver)
                rest = least_gap(driver)
                own = limited(driver, lane_limit[here])
                # Who is slow lets in those who must come into its lane.
                if speed < b:
                    last = passing[network, here, LAST_BLOCKED]
                    for what in range(LAST_BLOCKED, FIRST_BLOCKED + 1):
                        j = passing[network, here, what]
                        if j >= 0 and (what == LAST_BLOCKED or j != last):
                            numbers = driver_in[j]
                            gap = x_in[j] - numbers[LENGTH] - x_in[c] - rest
                            if gap > type(dt)(IN_SIGHT):
                                gap = gap - type(dt)(IN_SIGHT) + rest
                                letting = follow(speed, gap, speed_in[j], own, dt)
                                advise(c, letting, speed, b, dt, advised_out)
                sight = braking_distance(speed, b, dt) + speed * headway(driver) + rest
                leader, offset = leader_of(
                    network, route_in[c], here, x_in[c], sight, x_in, driver_in, previous,
                    order_in, lane_start_in, lane_length, lane_inner, next_lane, passing,
                )  # fmt: skip
                there = wp.int32(here)
                wish = wp.int32(0)
                sides = wp.int32(2)  # not known when compiling, so that the loop stays one
                for turn in range(sides):
                    side = 2 * turn - 1
                    beside = here + side
                    if there == here and beside >= first_lane and beside < end_lane:
                        found = weigh(
                            network, c, here, side, leader, offset, dt,
                            x_in, speed_in, speed_before_in, driver_in, route_in, order_in,
                            lane_start_in, entering_in, lane_length, lane_limit, lane_inner,
                            lane_place, next_lane, reach, better, elsewhere, passage_in, merge_lane,
                            merge_distance, merge_branch, merge_gives, approach_start,
                            approach_lane, approach_branch, lane, previous, memory,
                            passing, taken, filled, wants, space, reserved, asked, advised_out,
                        )  # fmt: skip
                        if found == CHANGES:
                            there = beside
                        elif found == URGES:
                            passing[network, beside, LAST_BLOCKED] = c
                            if passing[network, beside, FIRST_BLOCKED] < 0:
                                passing[network, beside, FIRST_BLOCKED] = c
                        if found == URGES or found == WISHES:
                            wish = wish | wp.where(side > 0, WANTS_LEFT, WANTS_RIGHT)
                room = driver[LENGTH] + rest
                taken[network, there] = taken[network, there] + room
                if there == here:
                    wants[c] = wants[c] | wish
                    passing[network, here, LEAD] = c
                else:  # who changes forgets
                    lane[c] = there
                    previous[c] = -1
                    passing[network, there, HOPPED] = c
                    filled[network, there] = filled[network, there] + room
                    filled[network, here] = filled[network, here] - room
                    memory[c, GAIN] = type(dt)(0.0)
                    memory[c, KEEP_RIGHT] = type(dt)(0.0)
                    memory[c, RECENT_SPEED] = type(dt)(0.0)
                    wants[c] = 0
                    if better_of(c, route_in[c], there, memory, lane_place, better) == 0:
                        reserved[c] = type(dt)(0.0)
                        space[c] = type(dt)(0.0)
                    advised_out[c] = type(dt)(wp.inf)

    return change
