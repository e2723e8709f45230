"""Lane changes on road networks as SUMO's drivers make them: its model LC2013.

Erdmann 2015, "SUMO's lane-changing model", in Modeling Mobility with Open Data, Springer, 105, and
what SUMO 1.28 does, with its default numbers. A driver looks to the right and then to the left:

    must        the way it can still go in its lane, less the room that those ahead of it in the
                lane it should be in take up, is below n D, D = 10 s v (to the left 20 s v) + 2 (l +
                s0), n the lanes to cross, v the highest speed of late
    stays       it could not come back in time: below D (|n| + 2)
    gains       speed in the next lane, weighed over time: the sum of (v_there - v_here) / v_there
                dt reaches 0.2 to the left or 2 to the right, v the speeds that are safe behind the
                leaders there and here
    keeps right (where the lane there goes as far) after some seconds in which it could drive there
    goes over   to the lane it should be in, where that costs no speed
    makes room  whom one that must and cannot has asked, by going the same way, if it may be there

Who has stood for a minute and must is let in by those who still can brake for it by b, from afar.

It changes as soon as the gaps are SUMO's secure ones. Who must and cannot yet advises itself, the
leader there and the follower there a speed for the next step (to fall behind, to let in, to go
past); an advice is heeded if it asks for no more braking than b. Who is faster than 60 km/h advises
itself not to pass on the right. Advices, like changes, are discrete and carry no gradient.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import LENGTH, CarFollowing
from kernels.traffic.network import COMFORT, FREE, braking_distance, parameter_or, stopping_speed
from kernels.traffic.network_drive import before_a_line, with_limit
from kernels.traffic.network_lanes import follower_in, place_in_lane
from kernels.traffic.network_sumo_habits import (
    ACCEPTED_TIME,
    AHEAD_SECONDS,
    CUT_IN_SPEED,
    FALL_BEHIND,
    FAR,
    FORGET,
    FORWARD,
    GAIN,
    HURRY,
    KEEP_RIGHT,
    KEEP_RIGHT_TIME,
    LEAST_SCALE,
    LEFT_SOONER,
    LONGEST_RAMP,
    MOTORWAY,
    MUCH_FASTER,
    OVERTAKING,
    RECENT_SPEED,
    TO_LEFT,
    TO_RIGHT,
    advise,
    flows,
    leader_within,
    occupied,
    secure_behind,
    whole_step,
)


@cache
def weigh_lanes(model: CarFollowing, parts: int) -> wp.Kernel:
    """One thread a place of `order`: whether its vehicle moves over to `side`, and advices.

    Those who must first, then the others, who know whom they were asked to make room.
    """
    follow = whole_step(model, True, parts)
    secure = secure_behind(model)
    limited = with_limit(model)
    facing = before_a_line(model, True)
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

    @wp.kernel(module="unique", enable_backward=False)
    def weigh(
        # In, as `kernels.traffic.network.look_ahead`:
        x_in: wp.array(dtype=Any),
        speed_in: wp.array(dtype=Any),
        speed_before_in: wp.array(dtype=Any),  # a step ago
        driver_in: wp.array(dtype=Any),
        route_in: wp.array(dtype=wp.int32),
        previous_in: wp.array(dtype=wp.int32),
        lane_in: wp.array(dtype=wp.int32),
        order_in: wp.array(dtype=wp.int32),
        lane_start_in: wp.array2d(dtype=wp.int32),
        entering_in: wp.array2d(dtype=wp.uint64),
        per_network: wp.int32,
        side: wp.int32,  # +1: to the left, -1: to the right
        first: wp.bool,  # those who must
        dt: Any,
        # Tables:
        lane_length: wp.array(dtype=Any),
        lane_limit: wp.array(dtype=Any),
        lane_inner: wp.array(dtype=wp.int32),
        lane_right: wp.array(dtype=wp.int32),  # the next lane on a side, -1 for none
        lane_left: wp.array(dtype=wp.int32),
        next_lane: wp.array2d(dtype=wp.int32),
        reach: wp.array2d(dtype=Any),  # how far a lane goes, from its start [m]
        better: wp.array2d(dtype=wp.int32),  # lanes to the one that should be taken, + to the left
        # In and out:
        memory: wp.array2d(dtype=Any),  # [num_vehicles, NUM_MEMORIES]
        # Out:
        target_out: wp.array(dtype=wp.int32),  # the lane where each vehicle is now
        advised_out: wp.array(dtype=Any),  # at most that acceleration in the next step [m/s^2]
        asked: wp.array(dtype=wp.int32),  # to make room: 1 to the right, 2 to the left
    ):
        k = wp.tid()
        network = k // per_network
        c = order_in[k]
        here = lane_in[c]
        if first:
            target_out[c] = here
        if here < 0:
            return
        there = lane_left[here]
        if side < 0:
            there = lane_right[here]
        if there < 0:
            return
        driver = driver_in[c]
        x = x_in[c]
        zero = type(x)(0.0)
        one = type(x)(1.0)
        two = type(x)(2.0)
        infinite = type(x)(wp.inf)
        route = route_in[c]
        speed = speed_in[c]
        limit = lane_limit[here]
        own = limited(driver, limit)
        highest = own[v0]
        highest_there = wp.min(driver[v0], lane_limit[there])
        length = driver[LENGTH]
        rest = least_gap(driver)
        b = comfort(driver)
        sight = braking_distance(speed, b, dt) + speed * headway(driver) + rest

        recent = memory[c, RECENT_SPEED]
        if first:
            recent = wp.max(recent - type(x)(FORGET) * dt * (recent - speed), speed)
            memory[c, RECENT_SPEED] = recent
        forward = recent * type(x)(FORWARD)
        if side > 0:
            forward = forward * type(x)(LEFT_SOONER)
        forward = forward + two * (length + rest)
        off = better[route, here]
        to_best = wp.bool(off * side > 0)
        if first and not to_best:
            return
        if off == 0 and better[route, there] == 0:
            off = side
        to_better = off * side > 0
        lanes = type(x)(wp.max(wp.abs(off), 1))
        room = length + rest
        left = reach[route, here] - x
        must = wp.bool(False)
        if to_best:
            best = here + off
            from_best = place_in_lane(network, best, c, x_in, order_in, lane_start_in)
            filled = occupied(network, route, best, from_best, room, lane_start_in, next_lane)
            must = (left - filled) / lanes < forward
        if must != first:
            return

        # Who is there.
        at = place_in_lane(network, there, c, x_in, order_in, lane_start_in)
        leader, offset = leader_within(
            network, route, here, k + 1, x, sight, x_in, driver_in, previous_in,
            order_in, lane_start_in, lane_length, lane_inner, next_lane,
        )  # fmt: skip
        lead_gap = type(x)(infinite)
        lead_speed = type(x)(zero)
        speeding = wp.bool(False)
        if leader >= 0:
            numbers = driver_in[leader]
            lead_gap = x_in[leader] - numbers[LENGTH] + offset - x - rest
            lead_speed = speed_in[leader]
            speeding = lead_speed > speed_before_in[leader]
        new_leader, ahead = leader_within(
            network, route, there, at, x, sight, x_in, driver_in, previous_in,
            order_in, lane_start_in, lane_length, lane_inner, next_lane,
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
        new_follower, back = follower_in(
            network, there, at, x_in, lane_in, route_in,
            order_in, lane_start_in, entering_in, lane_length, next_lane,
        )  # fmt: skip
        if new_follower == new_leader:
            new_follower = wp.int32(FREE)
        away = type(x)(infinite)
        back_speed = type(x)(zero)
        by_follower = wp.bool(False)
        if new_follower >= 0:
            numbers = driver_in[new_follower]
            away = x - length + back - x_in[new_follower] - least_gap(numbers)
            back_speed = speed_in[new_follower]
            by_follower = away < secure(back_speed, speed, numbers) or away < zero
        blocked = by_leader or by_follower

        if must:
            if not blocked:
                target_out[c] = there
                return
            # Room for those that it cannot see yet, where it has several lanes to cross.
            kept = type(x)(zero)
            if wp.abs(off) > 1:
                kept = type(x)(wp.where(side > 0, 40.0, 20.0))
                space = left - kept - one - rest
                if space > zero:
                    slow = follow(speed, space, zero, facing(own), dt)
                    advise(c, slow, speed, b, dt, advised_out)
            remaining = wp.max(dt, left / wp.max(recent, type(x)(1.0e-3)) / lanes / type(x)(HURRY))
            planned = wp.min(speed, follow(speed, left - kept, zero, facing(own), dt))
            passes = wp.bool(False)
            if new_leader >= 0:
                next_speed = ahead_speed - dt * wp.max(one, -ahead_rate)
                next_gap = ahead_gap + dt * (next_speed - planned)
                target = follow(speed, next_gap + rest, next_speed, own, dt)
                target = wp.max(target, speed - b * dt)
                if by_leader:
                    numbers = driver_in[new_leader]
                    distance = ahead_gap + numbers[LENGTH] + least_gap(numbers) + length
                    distance = distance + secure(ahead_speed, speed, numbers)
                    faster = planned - ahead_speed
                    fits = left - kept - sight + rest >= distance
                    passes = faster > zero and fits and faster * remaining >= distance
                    if side > 0 and flows(speed, limit):
                        passes = wp.bool(False)
                    if passes:  # who is passed should not speed up
                        advise(new_leader, ahead_speed, ahead_speed, infinite, dt, advised_out)
                    elif target < speed:
                        fall = wp.max(type(x)(FALL_BEHIND), (speed - target) / remaining)
                        behind = wp.max(speed - wp.min(b, fall) * dt, zero)
                        planned = wp.min(planned, behind)
                        advise(c, planned, speed, b, dt, advised_out)
                    else:
                        advise(c, target, speed, b, dt, advised_out)
                else:
                    advise(c, target, speed, b, dt, advised_out)
                    planned = wp.min(planned, target)
            if new_follower >= 0 and not passes:
                numbers = driver_in[new_follower]
                its_limit = lane_limit[lane_in[new_follower]]
                its = limited(numbers, its_limit)
                its_b = comfort(numbers)
                its_rest = least_gap(numbers)
                slower = wp.max(back_speed - its_b * dt, zero)
                after = wp.max(back_speed - its_b, zero)
                faster = planned - after
                needed = secure(after, planned, numbers)
                safe = follow(back_speed, away + its_rest + planned * dt, planned, its, dt)
                safe = wp.max(safe, type(x)(wp.where(by_follower, slower, back_speed)))
                then = away + (planned - safe) * dt
                unchanged = then >= secure(safe, planned, numbers)
                safe = follow(back_speed, then + its_rest, planned, its, dt)
                if unchanged and not by_follower:
                    safe = wp.max(safe, back_speed)
                helped = secure(back_speed, planned, numbers) - away
                overtaking = type(x)(OVERTAKING)
                ahead_of_it = planned - back_speed >= overtaking
                if by_follower:
                    wp.atomic_max(asked, new_follower, wp.where(side > 0, 2, 1))
                if not by_follower:
                    advise(new_follower, safe, back_speed, its_b, dt, advised_out)
                elif ahead_of_it and helped < remaining * (planned - back_speed):
                    advise(new_follower, planned - overtaking, back_speed, its_b, dt, advised_out)
                elif away + faster > zero and away + faster >= needed:
                    advise(new_follower, wp.max(safe, slower), back_speed, its_b, dt, advised_out)
                elif faster > zero and faster * remaining > needed - away - faster:
                    advise(new_follower, slower, back_speed, its_b, dt, advised_out)
                elif side < 0 and flows(back_speed, its_limit):
                    slower = wp.max(slower, overtaking)
                    advise(new_follower, slower, back_speed, its_b, dt, advised_out)
                else:
                    asks = side < 0 or planned > type(x)(CUT_IN_SPEED)
                    asks = asks or lane_length[here] > type(x)(LONGEST_RAMP)
                    asks = asks and back_speed > speed
                    theirs = wp.max(back_speed, speed + overtaking)
                    if asks:
                        theirs = wp.max(slower, speed + overtaking)
                    advise(new_follower, theirs, back_speed, its_b, dt, advised_out)
                    if not asks or (back_speed - speed) / its_b >= remaining:
                        distance = away + length + rest + numbers[LENGTH]
                        distance = wp.max(distance + secure(planned, theirs, driver), zero)
                        mine = wp.max(theirs - distance / remaining, speed - b * dt)
                        advise(c, mine, speed, b, dt, advised_out)
                # In a queue one is let in.
                if back_speed < its_b and away > type(x)(0.1):
                    letting = follow(back_speed, away + its_rest - type(x)(0.1), speed, its, dt)
                    advise(new_follower, letting, back_speed, its_b, dt, advised_out)
            return

        gain = memory[c, GAIN]
        here_speed = type(x)(highest)
        impelled = wp.bool(False)
        avoids = flows(speed, limit)
        if side > 0 and avoids and new_leader >= 0:
            numbers = driver_in[new_leader]
            faster = wp.max(highest - wp.min(numbers[v0], lane_limit[there]), speed - ahead_speed)
            if faster > zero:
                lowest = speed - b * dt
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
        from_here = occupied(network, route, here, k + 1, room, lane_start_in, next_lane)
        from_there = occupied(network, route, there, at, room, lane_start_in, next_lane)
        way = reach[route, there]
        place = wp.max(way - x - wp.max(from_here, from_there), zero)
        if not to_better and place / type(x)(wp.abs(off) + 2) < forward:
            return
        there_speed = anticipated(
            speed, ahead_gap, new_leader, ahead_speed, way, highest_there, speeding, own, dt
        )
        here_speed = wp.min(
            here_speed,
            anticipated(
                speed, lead_gap, leader, lead_speed, reach[route, here], highest, speeding, own, dt
            ),
        )
        if side < 0 and off == 0 and limit > type(x)(MOTORWAY) and recent > type(x)(0.1):
            return
        if asked[c] == wp.where(side > 0, 2, 1):
            if to_better or way / type(x)(wp.abs(off) + 1) > forward:
                if not blocked:
                    target_out[c] = there
                return
        relative = (there_speed - here_speed) / wp.max(there_speed, type(x)(LEAST_SCALE))
        goes = wp.bool(False)
        lasts = way > type(x)(FAR) * wp.max(speed, type(x)(0.1))
        if side < 0:
            if here_speed - type(x)(MUCH_FASTER) > there_speed:
                if gain < zero:
                    gain = gain * wp.pow(type(x)(0.5), dt)
            else:
                if gain < zero or relative > zero:
                    gain = gain - dt * relative
                share = highest / limit
                accepted = type(x)(ACCEPTED_TIME) * share * wp.max(speed, one)
                full = way - braking_distance(highest, b, dt) - highest * headway(driver)
                full = wp.max(full, zero)
                driven = wp.min(accepted, full / wp.max(highest, type(x)(1.0e-3)))
                if new_leader >= 0 and ahead_speed < highest:
                    free = ahead_gap - secure(highest, ahead_speed, driver)
                    full = wp.max(wp.min(full, free), zero)
                    driven = wp.min(driven, full / (highest - ahead_speed))
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
            goes = gain > type(x)(TO_LEFT) and (relative > zero or impelled) and lasts
        memory[c, GAIN] = gain
        if to_best and relative >= zero and gain * type(x)(side) > zero:
            goes = wp.bool(True)
        if goes and not blocked:
            target_out[c] = there

    return weigh
