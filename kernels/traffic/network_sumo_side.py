"""What a driver of SUMO's makes of the lane beside its own (`network_sumo_lanes`)."""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import LENGTH, CarFollowing
from kernels.traffic.network import COMFORT, FREE, braking_distance, parameter_or, stopping_speed
from kernels.traffic.network_drive import with_limit
from kernels.traffic.network_lanes import follower_in
from kernels.traffic.network_outlook import lane_outlook
from kernels.traffic.network_sumo_gaps import reserve, seek_gap
from kernels.traffic.network_sumo_habits import (
    ACCEPTED_TIME,
    AHEAD_SECONDS,
    ASKED_LEFT,
    ASKED_RIGHT,
    COOPERATES,
    ELSEWHERE,
    EPS,
    FAR,
    FIRST_BLOCKED,
    FORGET,
    FORWARD,
    GAIN,
    HOPPED,
    HURRY,
    KEEP_RIGHT,
    KEEP_RIGHT_TIME,
    LEAST_SCALE,
    LEFT_SOONER,
    MOTORWAY,
    MUCH_FASTER,
    OVERTAKING,
    RECENT_SPEED,
    RELIEVED,
    STAYS_FOR_ROUTE,
    TO_LEFT,
    TO_RIGHT,
    UNSEEN,
    URGENT_GAIN,
    WANTS_LEFT,
    WANTS_RIGHT,
    advise,
    critical_gap,
    flows,
    later_filled,
    leader_of,
    secure_behind,
    whole_step,
)
from kernels.traffic.network_zipper import closed_to

STAYS = wp.constant(0)  # what a driver makes of the lane beside it
CHANGES = wp.constant(1)
WISHES = wp.constant(2)  # to change, and cannot
URGES = wp.constant(3)  # and others should know


@cache
def weigh_side(model: CarFollowing, parts: int, most: int) -> wp.Function:
    """What a driver makes of the lane to one side; advices and its memory are written."""
    better_of, reach_of = lane_outlook(most)
    follow = whole_step(model, True, parts)
    secure = secure_behind(model)
    limited = with_limit(model)
    keep_room = reserve(model)
    seek = seek_gap(model, parts)
    critical = critical_gap(model, parts)
    closed = closed_to(model)
    least_gap = parameter_or(model, "s0", 0.0)
    headway = parameter_or(model, "T", 1.0)
    rise = parameter_or(model, "a", 1.0)
    comfort = parameter_or(model, *COMFORT)
    v0 = model.place("v0")

    @wp.func
    def anticipated(
        speed: Any, gap: Any, leader: wp.int32, leader_speed: Any, way: Any, highest: Any,
        accelerating: wp.bool, driver: Any, dt: Any,
    ):  # fmt: skip
        """The speed [m/s] that is safe behind a leader, or in a lane of length `way`."""
        rest = least_gap(driver)
        soon = speed + rise(driver) * (type(dt)(1.0) - dt)
        future = type(speed)(highest)
        if accelerating:
            if leader >= 0:
                future = follow(soon, gap + rest, leader_speed, driver, dt)
            else:
                future = follow(soon, way + rest, type(speed)(0.0), driver, dt)
        elif leader >= 0:
            b = comfort(driver)
            braking = braking_distance(leader_speed, b, dt)
            future = stopping_speed(gap + braking, b, headway(driver), dt)
        else:
            future = stopping_speed(way, comfort(driver), headway(driver), dt)
        return wp.min(future, highest)

    @wp.func
    def weigh(
        network: wp.int32,
        c: wp.int32,
        here: wp.int32,
        side: wp.int32,  # +1: to the left, -1: to the right
        leader: wp.int32,  # in its lane, FREE for nobody
        offset: Any,  # what its x lacks to the own [m]
        dt: Any,
        # As `change_lanes`:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        speed_before_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        route_in: wp.array(dtype=wp.int32),
        order_in: wp.array(dtype=wp.int32),
        lane_start_in: wp.array2d(dtype=wp.int32),
        entering_in: wp.array2d(dtype=wp.uint64),
        lane_length: wp.array(dtype=Any),
        lane_limit: wp.array(dtype=Any),
        lane_inner: wp.array(dtype=wp.int32),
        lane_place: wp.array(dtype=wp.int32),
        next_lane: wp.array2d(dtype=wp.int32),
        reach: wp.array2d(dtype=Any),
        better: wp.array2d(dtype=wp.int32),
        elsewhere: wp.array2d(dtype=wp.int32),
        passage_in: wp.array2d(dtype=Any),
        merge_lane: wp.array2d(dtype=wp.int32),
        merge_distance: wp.array2d(dtype=Any),
        merge_branch: wp.array2d(dtype=wp.int32),
        merge_gives: wp.array2d(dtype=wp.int32),
        approach_start: wp.array(dtype=wp.int32),
        approach_lane: wp.array(dtype=wp.int32),
        approach_branch: wp.array(dtype=wp.int32),
        lane_in: wp.array(dtype=wp.int32),
        previous_in: wp.array(dtype=wp.int32),
        memory: wp.array2d(dtype=Any),
        passing: wp.array3d(dtype=wp.int32),
        taken: wp.array2d(dtype=Any),
        filled: wp.array2d(dtype=Any),
        wants: wp.array(dtype=wp.int32),
        space: wp.array(dtype=Any),
        reserved: wp.array(dtype=Any),
        asked: wp.array(dtype=wp.int32),
        advised_out: wp.array(dtype=Any),
    ):
        there = here + side
        x = x_in[c]
        driver = driver_in[c]
        route = route_in[c]
        speed = speed_in[c]
        zero = type(x)(0.0)
        one = type(x)(1.0)
        two = type(x)(2.0)
        infinite = type(x)(wp.inf)
        limit = lane_limit[here]
        own = limited(driver, limit)
        highest = own[v0]
        highest_there = wp.min(driver[v0], lane_limit[there])
        length = driver[LENGTH]
        rest = least_gap(driver)
        b = comfort(driver)
        sight = braking_distance(speed, b, dt) + speed * headway(driver) + rest

        recent = memory[c, RECENT_SPEED]
        recent = wp.max(recent - type(x)(FORGET) * dt * (recent - speed), speed)
        memory[c, RECENT_SPEED] = recent
        forward = recent * type(x)(FORWARD)
        if side > 0:
            forward = forward * type(x)(LEFT_SOONER)
        forward = forward + two * (length + rest)
        own_off = better_of(c, route, here, memory, lane_place, better)
        off = wp.int32(own_off)
        to_best = wp.bool(off * side > 0)
        if off == 0 and better_of(c, route, there, memory, lane_place, better) == 0:
            off = side
        to_better = off * side > 0
        lanes = type(x)(wp.max(wp.abs(off), 1))
        way = reach_of(c, route, there, memory, lane_place, reach)
        own_way = reach_of(c, route, here, memory, lane_place, reach)
        left = own_way - x

        # Who is there.
        lead_gap = type(x)(infinite)
        lead_speed = type(x)(zero)
        speeding = wp.bool(False)
        if leader >= 0:
            numbers = driver_in[leader]
            lead_gap = x_in[leader] - numbers[LENGTH] + offset - x - rest
            lead_speed = speed_in[leader]
            speeding = lead_speed > speed_before_in[leader]
        new_leader, ahead = leader_of(
            network, route, there, x, sight, x_in, driver_in, previous_in,
            order_in, lane_start_in, lane_length, lane_inner, next_lane, passing,
        )  # fmt: skip
        ahead_gap = type(x)(infinite)
        ahead_speed = type(x)(zero)
        ahead_rate = type(x)(zero)
        by_leader = wp.bool(False)
        if new_leader >= 0:
            numbers = driver_in[new_leader]
            ahead_gap = x_in[new_leader] - numbers[LENGTH] + ahead - x - rest
            ahead_speed = speed_in[new_leader]
            ahead_rate = (ahead_speed - speed_before_in[new_leader]) / dt
            speeding = speeding or ahead_rate > zero
            by_leader = ahead_gap < secure(speed, ahead_speed, driver) or ahead_gap < zero
        at = passing[network, there, UNSEEN] + 1
        new_follower, back = follower_in(
            network, there, at, x_in, lane_in, route_in,
            order_in, lane_start_in, entering_in, lane_length, next_lane,
        )  # fmt: skip
        hopped = passing[network, there, HOPPED]
        if hopped >= 0 and x_in[hopped] <= x:
            new_follower = hopped
            back = zero
        elif at == lane_start_in[network, there] and new_leader >= 0:
            # SUMO's finds the leader again in the lane before, as long as its rear is there.
            numbers = driver_in[new_leader]
            if ahead == zero and previous_in[new_leader] >= 0:
                if x_in[new_leader] < numbers[LENGTH]:
                    new_follower = wp.int32(FREE)
        if new_follower == new_leader:
            new_follower = wp.int32(FREE)
        away = type(x)(infinite)
        by_follower = wp.bool(False)
        if new_follower >= 0:
            numbers = driver_in[new_follower]
            away = x - length + back - x_in[new_follower] - least_gap(numbers)
            by_follower = away < secure(speed_in[new_follower], speed, numbers) or away < zero
        blocked = by_leader or by_follower
        if not blocked and new_leader >= 0 and lane_length[here] - x < sight:
            blocked = not critical(
                network, route, there, new_leader, x, sight, own, speed, dt,
                x_in, speed_in, driver_in, order_in, lane_start_in, lane_length, lane_inner,
                next_lane, passing,
            )  # fmt: skip
        if not blocked:
            blocked = closed(
                network, c, here, there, route, lane_length[here] - x,
                braking_distance(speed, b, dt), x_in, driver_in, route_in, previous_in, order_in,
                lane_start_in, passage_in, lane_length, lane_inner, merge_lane, merge_distance,
                merge_branch, merge_gives, approach_start, approach_lane, approach_branch,
            )  # fmt: skip

        if to_best:
            best = here + off
            later = later_filled(route, best, network, lane_inner, next_lane, filled)
            if (left - taken[network, best] - later) / lanes < forward:
                space[c] = left
                if wp.abs(off) > 1:  # for those that it cannot see yet
                    unseen = type(x)(wp.where(side > 0, 40.0, 20.0))
                    reserved[c] = wp.max(reserved[c], unseen)
                counter = wp.where(side > 0, WANTS_RIGHT, WANTS_LEFT)
                relief = next_lane[route, here] >= 0
                first = passing[network, here, FIRST_BLOCKED]
                fits = keep_room(
                    c, new_leader, counter, left, dt, speed_in, driver_in, wants, space,
                    reserved, relief,
                )  # fmt: skip
                if first != new_leader:
                    also = keep_room(
                        c, first, counter, left, dt, speed_in, driver_in, wants, space,
                        reserved, relief,
                    )  # fmt: skip
                    fits = fits and also
                if relief and not fits:
                    wants[c] = wants[c] | RELIEVED
                if not by_leader and not by_follower:
                    if blocked:
                        return URGES
                    return CHANGES
                remaining = left / wp.max(recent, type(x)(EPS)) / lanes / type(x)(HURRY)
                seek(
                    c, here, side, left, wp.max(remaining, dt * type(x)(EPS)),  # as SUMO bounds it
                    new_leader, ahead_gap, ahead_rate,
                    by_leader, new_follower, away, by_follower, dt, speed_in, driver_in, lane_in,
                    lane_length, lane_limit, reserved, asked, advised_out,
                )  # fmt: skip
                return URGES

        gain = memory[c, GAIN]
        here_speed = type(x)(highest)
        impelled = wp.bool(False)
        avoids = flows(speed, limit)
        if side > 0 and avoids and new_leader >= 0:
            numbers = driver_in[new_leader]
            faster = wp.max(highest - wp.min(numbers[v0], lane_limit[there]), speed - ahead_speed)
            if faster > zero:
                lowest = wp.max(speed - b * dt, zero)
                safe = follow(speed, ahead_gap + rest, ahead_speed, own, dt)
                stay_behind = safe
                if safe < lowest:
                    stay_behind = wp.max(lowest, ahead_speed - type(x)(OVERTAKING))
                if gain < type(x)(TO_LEFT):
                    stay_behind = wp.max(stay_behind, ahead_speed)
                here_speed = wp.min(here_speed, stay_behind)
                advise(c, stay_behind, speed, b, dt, advised_out)
                soon = ahead_gap - faster * type(x)(AHEAD_SECONDS)
                if follow(speed, soon + rest, ahead_speed, own, dt) < stay_behind:
                    gain = gain + dt * faster / wp.max(highest, type(x)(LEAST_SCALE))
                    impelled = wp.bool(True)
        memory[c, GAIN] = gain
        from_here = taken[network, here]
        from_here = from_here + later_filled(route, here, network, lane_inner, next_lane, filled)
        from_there = taken[network, there]
        from_there = from_there + later_filled(route, there, network, lane_inner, next_lane, filled)
        place = wp.max(way - x - wp.max(from_here, from_there), zero)
        if not to_better and place / type(x)(wp.abs(off) + 2) < forward:
            wants[c] = wants[c] | STAYS_FOR_ROUTE
            return STAYS
        if off == 0 and way < type(x)(ELSEWHERE) and elsewhere[route, there] == 1:
            wants[c] = wants[c] | STAYS_FOR_ROUTE
            return STAYS
        there_speed = anticipated(
            speed, ahead_gap, new_leader, ahead_speed, way, highest_there, speeding, own, dt
        )
        here_speed = wp.min(
            here_speed,
            anticipated(speed, lead_gap, leader, lead_speed, own_way, highest, speeding, own, dt),
        )
        if side < 0 and off == 0 and limit > type(x)(MOTORWAY) and recent > type(x)(0.1):
            wants[c] = wants[c] | STAYS_FOR_ROUTE
            return STAYS
        if (asked[c] & wp.where(side > 0, ASKED_LEFT, ASKED_RIGHT)) != 0:
            if to_better or way / type(x)(wp.abs(off) + 1) > forward:
                if blocked:
                    if by_leader:
                        wants[c] = wants[c] | COOPERATES
                    return URGES
                return CHANGES
        relative = (there_speed - here_speed) / wp.max(there_speed, type(x)(LEAST_SCALE))
        goes = wp.bool(False)
        lasts = way > type(x)(FAR) * wp.max(speed, type(x)(0.1))
        if side < 0:
            if here_speed - type(x)(MUCH_FASTER) > there_speed:
                if gain < zero:
                    gain = gain * wp.pow(type(x)(0.5), dt)
            else:
                if (gain < zero or relative > zero) and own_off <= 0:
                    gain = gain - dt * relative
                share = highest / limit
                accepted = type(x)(ACCEPTED_TIME) * share * wp.max(speed, one)
                full = way - braking_distance(highest, b, dt) - highest * headway(driver)
                full = wp.max(full, zero)
                driven = wp.min(accepted, full / wp.max(highest, type(x)(EPS)))
                # Who drives as fast as it may is a little slower: SUMO's never quite get there.
                if new_leader >= 0 and ahead_speed <= highest:
                    free = ahead_gap - secure(highest, ahead_speed, driver)
                    full = wp.max(wp.min(full, free), zero)
                    driven = wp.min(driven, full / wp.max(highest - ahead_speed, type(x)(1.0e-9)))
                if avoids and leader >= 0:
                    numbers = driver_in[leader]
                    its_highest = wp.min(numbers[v0], lane_limit[lane_in[leader]])
                    if its_highest < highest:
                        full = wp.min(full, lead_gap)
                        driven = wp.min(driven, full / (highest - lead_speed))
                        gain = gain + dt * (highest - its_highest) / wp.max(
                            highest, type(x)(LEAST_SCALE)
                        )
                keep = memory[c, KEEP_RIGHT]
                keep = keep - dt * type(x)(TO_RIGHT) * driven / accepted / type(x)(KEEP_RIGHT_TIME)
                memory[c, KEEP_RIGHT] = keep
                goes = keep < -type(x)(TO_RIGHT)
            goes = goes or (gain < -type(x)(TO_RIGHT) and lasts)
        else:
            if here_speed >= there_speed:
                if gain > zero:
                    slack = type(x)(wp.where(here_speed > there_speed, 0.5, 0.8))
                    gain = gain * wp.pow(slack, dt)
            else:
                gain = gain + dt * relative
            goes = gain > type(x)(TO_LEFT) and (relative > type(x)(EPS) or impelled) and lasts
        memory[c, GAIN] = gain
        if to_best and relative >= zero and gain * type(x)(side) > zero:
            goes = wp.bool(True)
        if not goes:
            return STAYS
        if not blocked:
            return CHANGES
        if wp.abs(gain) <= type(x)(URGENT_GAIN):
            return WISHES
        if by_follower:  # who has been kept waiting for long has it brake
            numbers = driver_in[new_follower]
            its_speed = speed_in[new_follower]
            slower = wp.max(its_speed - comfort(numbers) * dt, zero)
            asked[new_follower] = asked[new_follower] | wp.where(side > 0, ASKED_LEFT, ASKED_RIGHT)
            advise(new_follower, slower, its_speed, comfort(numbers), dt, advised_out)
        return URGES

    return weigh
