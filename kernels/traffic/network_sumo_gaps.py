"""Room and gaps for those who must change lanes as SUMO's drivers do (`network_sumo_lanes`)."""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.car_following import LENGTH, CarFollowing
from kernels.traffic.network import COMFORT, braking_distance, parameter_or
from kernels.traffic.network_drive import before_a_line, with_limit
from kernels.traffic.network_sumo_habits import (
    ASKED_LEFT,
    ASKED_RIGHT,
    CUT_IN_SPEED,
    FALL_BEHIND,
    IN_SIGHT,
    LONGEST_RAMP,
    OVERTAKING,
    advise,
    flows,
    secure_behind,
    whole_step,
)


@cache
def reserve(model: CarFollowing) -> wp.Function:
    """Keep room at the end of a lane for one who must change the other way, or have it keep some.

    Two who must change places and meet at the ends of their lanes would stand there for ever.
    """
    least_gap = parameter_or(model, "s0", 0.0)
    comfort = parameter_or(model, *COMFORT)

    @wp.func
    def keep_room(
        c: wp.int32,
        blocker: wp.int32,
        counter: wp.int32,  # what it must want
        left: Any,  # of the lane [m]
        dt: Any,
        speed_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        wants: wp.array(dtype=wp.int32),
        space: wp.array(dtype=Any),  # left of everybody's lane [m]
        reserved: wp.array(dtype=Any),  # kept at its end [m]
        relieved: wp.bool,  # the lane goes on, elsewhere
    ):
        """Whether there will be room."""
        if blocker < 0 or (wants[blocker] & counter) == 0:
            return True
        numbers = driver_in[c]
        others = driver_in[blocker]
        room = others[LENGTH] + least_gap(others)
        if room <= left - braking_distance(speed_in[c], comfort(numbers), dt):
            reserved[c] = wp.max(reserved[c], room)
            return True
        mine = numbers[LENGTH] + least_gap(numbers)
        its_speed = speed_in[blocker]
        its_way = braking_distance(its_speed, comfort(others), dt) + its_speed * dt
        if space[blocker] - its_way >= mine or space[blocker] > left:
            reserved[blocker] = wp.max(reserved[blocker], mine)
            return True
        if not relieved:
            reserved[c] = wp.max(reserved[c], room)
        return False

    return keep_room


@cache
def seek_gap(model: CarFollowing, parts: int) -> wp.Function:
    """What one that must change and cannot advises itself, the leader and the follower there."""
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
    def seek(
        c: wp.int32,
        here: wp.int32,
        side: wp.int32,
        left: Any,  # to the end of the lane [m]
        remaining: Any,  # for the change [s]
        leader: wp.int32,  # there, FREE for nobody
        ahead_gap: Any,  # less s0 [m]
        ahead_rate: Any,  # its acceleration [m/s^2]
        by_leader: wp.bool,  # it is in the way
        follower: wp.int32,
        away: Any,
        by_follower: wp.bool,
        dt: Any,
        speed_in: wp.array(dtype=Any),
        driver_in: wp.array(dtype=Any),
        lane_in: wp.array(dtype=wp.int32),
        lane_length: wp.array(dtype=Any),
        lane_limit: wp.array(dtype=Any),
        reserved: wp.array(dtype=Any),
        asked: wp.array(dtype=wp.int32),
        advised_out: wp.array(dtype=Any),
    ):
        zero = type(dt)(0.0)
        one = type(dt)(1.0)
        driver = driver_in[c]
        own = limited(driver, lane_limit[here])
        length = driver[LENGTH]
        rest = least_gap(driver)
        b = comfort(driver)
        speed = speed_in[c]
        usable = left - reserved[c]
        planned = wp.min(speed, follow(speed, usable, zero, facing(own), dt))
        if advised_out[c] < type(dt)(wp.inf):
            planned = wp.min(planned, speed + advised_out[c] * dt)
        if leader >= 0:
            leader_speed = speed_in[leader]
            next_speed = leader_speed - dt * wp.max(one, -ahead_rate)
            next_gap = ahead_gap + dt * (next_speed - planned)
            target = follow(speed, next_gap + rest, next_speed, own, dt)
            target = wp.max(target, wp.max(speed - b * dt, zero))
            if by_leader:
                numbers = driver_in[leader]
                distance = ahead_gap + numbers[LENGTH] + least_gap(numbers) + length
                distance = wp.max(distance + secure(leader_speed, speed, numbers), zero)
                faster = planned - leader_speed
                sight = braking_distance(speed, b, dt) + speed * headway(driver)
                passes = faster > zero and usable - sight >= distance
                passes = passes and faster * remaining >= distance
                if side > 0 and flows(speed, lane_limit[here]):
                    passes = wp.bool(False)
                if passes:  # who is passed should not speed up
                    advise(leader, leader_speed, leader_speed, type(dt)(wp.inf), dt, advised_out)
                    return
                if target < speed:
                    fall = wp.max(type(dt)(FALL_BEHIND), (speed - target) / remaining)
                    behind = wp.max(speed - wp.min(b, fall) * dt, zero)
                    planned = wp.min(planned, behind)
                    advise(c, planned, speed, b, dt, advised_out)
                else:
                    advise(c, target, speed, b, dt, advised_out)
            else:
                advise(c, target, speed, b, dt, advised_out)
                planned = wp.min(planned, target)
        if follower < 0:
            return
        numbers = driver_in[follower]
        its_limit = lane_limit[lane_in[follower]]
        its = limited(numbers, its_limit)
        its_b = comfort(numbers)
        its_rest = least_gap(numbers)
        back_speed = speed_in[follower]
        slower = wp.max(back_speed - its_b * dt, zero)
        if not by_follower:  # it should stay so
            then = away + (planned - back_speed) * dt
            if then >= secure(back_speed, planned, numbers):
                fastest = wp.min(back_speed + rise(numbers) * dt, numbers[v0])
                then = away + (planned - fastest) * dt
                slower = back_speed
            safe = wp.max(follow(back_speed, then + its_rest, planned, its, dt), slower)
            advise(follower, safe, back_speed, its_b, dt, advised_out)
            return
        asked[follower] = asked[follower] | wp.where(side > 0, ASKED_LEFT, ASKED_RIGHT)
        overtaking = type(dt)(OVERTAKING)
        if planned - back_speed >= overtaking:
            helped = secure(back_speed, planned, numbers) - away
            if helped < remaining * (planned - back_speed):
                advise(follower, planned - overtaking, back_speed, its_b, dt, advised_out)
                return
        after = wp.max(back_speed - its_b, zero)
        faster = planned - after
        needed = secure(after, planned, numbers)
        if away + faster > zero and away + faster >= needed:
            safe = follow(back_speed, away + its_rest + planned * dt, planned, its, dt)
            then = away + (planned - wp.max(safe, slower)) * dt
            safe = wp.max(follow(back_speed, then + its_rest, planned, its, dt), slower)
            advise(follower, safe, back_speed, its_b, dt, advised_out)
        elif faster > zero and faster * remaining > needed - away - faster + type(dt)(IN_SIGHT):
            advise(follower, slower, back_speed, its_b, dt, advised_out)
        elif side < 0 and flows(back_speed, its_limit):
            advise(follower, wp.max(slower, overtaking), back_speed, its_b, dt, advised_out)
        else:
            asks = side < 0 or planned > type(dt)(CUT_IN_SPEED)
            asks = asks or lane_length[here] > type(dt)(LONGEST_RAMP)
            asks = asks and back_speed > speed
            theirs = wp.max(back_speed, speed + overtaking)
            if asks:
                theirs = wp.max(slower, speed + overtaking)
            advise(follower, theirs, back_speed, its_b, dt, advised_out)
            if not asks or (back_speed - speed) / its_b >= remaining:
                distance = away + length + rest + numbers[LENGTH]
                distance = wp.max(distance + secure(planned, theirs, driver), zero)
                mine = wp.max(theirs - distance / remaining, speed - b * dt)
                advise(c, mine, speed, b, dt, advised_out)

    return seek
