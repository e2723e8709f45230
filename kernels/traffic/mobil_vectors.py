"""Lane changes by MOBIL, many drivers side by side in a processor's vectors: for a CPU.

What `kernels.traffic.mobil` does for one driver after another. A task has some whole roads; it
goes from lane to lane, gathers those whose turn it is until a vector is full, and weighs them
together: the search for the gap (by halves, each driver its own), the gaps, and the model's
accelerations, traced as in `kernels.traffic.vectors`. Whoever has no room or no safety there does
not hold up the others; where nobody has, incentives are not weighed.
"""

from functools import cache

import warp as wp

from kernels.compiled.cpp import straight_line
from kernels.compiled.tracer import Trace
from kernels.traffic import traced
from kernels.traffic.car_following import LENGTH, CarFollowing
from kernels.traffic.road import driver_acceleration
from kernels.traffic.vector_code import elementary, native, stored, vectors

NEAR = 16
"""Places from that of the driver before, within which one looks by halves at once."""


@cache
def change_lanes(model: CarFollowing, sumo: bool, scalar: type) -> wp.Kernel | None:
    """What `kernels.traffic.mobil.change_lanes` does, a task some roads; None if not traceable.

    Args:
        model: of car-following.
        sumo: whether its acceleration is SUMO's.
        scalar: wp.float32 or wp.float64.
    """
    name = {wp.float32: "float", wp.float64: "double"}[scalar]
    try:
        source = _source(model, sumo, name)
    except traced.UntraceableError:
        return None
    rows, places = wp.array(dtype=scalar), wp.array(dtype=wp.int32)
    drivers = wp.array(dtype=wp.types.vector(len(model.numbers), scalar))

    def change_lanes_vectors(
        x: rows,
        speed: rows,
        driver: drivers,
        lane_start: wp.array2d(dtype=wp.int32),
        lane_order: places,
        leader: places,
        per_road: int,
        roads_per_task: int,
        uniform: int,
        ring_length: scalar,
        side: int,
        turn: int,
        politeness: scalar,
        safe_decel: scalar,
        threshold: scalar,
        bias: scalar,
        lane: places,
        task: int,
    ): ...

    change = native(change_lanes_vectors, source)

    @wp.kernel(module="unique", enable_backward=False)
    def change_lanes_side_by_side(
        # In, as `kernels.traffic.mobil.change_lanes`:
        x: rows,
        speed: rows,
        driver: drivers,
        lane_start: wp.array2d(dtype=wp.int32),
        lane_order: places,
        leader: places,
        per_road: int,
        roads_per_task: int,
        uniform: int,  # 1: the first driver's numbers are everybody's
        ring_length: scalar,
        side: int,
        turn: int,
        politeness: scalar,
        safe_decel: scalar,
        threshold: scalar,
        bias: scalar,
        # In and out:
        lane: places,
    ):
        change(
            x, speed, driver, lane_start, lane_order, leader, per_road, roads_per_task, uniform,
            ring_length, side, turn, politeness, safe_decel, threshold, bias, lane, wp.tid(),
        )  # fmt: skip

    return change_lanes_side_by_side


def _source(model: CarFollowing, sumo: bool, scalar: str) -> str:
    """The task in C++."""
    trace = Trace()
    number = traced.scalars(trace)
    numbers = len(model.numbers)
    state, driver = trace.inputs("s", 3), trace.inputs("p", numbers)
    arguments = [number(value) for value in state]
    rate = traced.run(
        driver_acceleration(model, sumo), *arguments, [number(value) for value in driver]
    )
    acceleration = straight_line(stored([rate.value]), "f" if scalar == "float" else "")
    return f"""{vectors(scalar)}{elementary(scalar)}
    const T infinite = __builtin_inf();
    const T* const drivers = (const T*)driver.data;
    const int buckets = lane_start.shape[1], roads = lane_start.shape[0];
    const bool ring = ring_length > T(0);
    typedef decltype(V(T(0)) < V(T(0))) M;  // what chooses between numbers
    auto chooses = [](I mask) -> M {{ return __builtin_convertvector(mask, M); }};
    // A driver's numbers, those of vehicle at.
    struct Numbers {{
        V values[{numbers}];
    }};
    auto read = [&](I at) -> Numbers {{
        Numbers row;
        for (int k = 0; k < {numbers}; ++k)
            row.values[k] = uniform ? V(drivers[k]) : look_up(drivers + k, at * {numbers});
        return row;
    }};
    // Vehicles as they are looked at, none where known is 0.
    struct Seen {{
        I at, known;
        V x, speed, length;
    }};
    auto see = [&](I at, I instead) -> Seen {{
        Seen seen;
        seen.known = at >= 0;
        seen.at = (at >= 0) ? at : instead;
        seen.x = look_up(x.data, seen.at);
        seen.speed = look_up(speed.data, seen.at);
        seen.length = uniform ? V(drivers[{int(LENGTH)}])
            : look_up(drivers + {int(LENGTH)}, seen.at * {numbers});
        return seen;
    }};
    // Bumper to bumper, infinite where either is missing.
    auto gap_between = [&](const Seen& behind, const Seen& ahead) -> V {{
        V distance = ahead.x - behind.x;
        if (ring) {{
            const M tied = (distance == V(T(0))) & chooses(ahead.at <= behind.at);
            const M round = (distance < V(T(0))) | tied;
            distance = round ? distance + V(ring_length) : distance;
        }}
        const V gap = distance - V(T(0.5)) * (behind.length + ahead.length);
        return chooses(behind.known & ahead.known) ? gap : V(infinite);
    }};
    // What a driver would do behind another at a gap; 0 of nobody.
    auto acceleration = [&](const Seen& own, const Seen& ahead, V gap, const Numbers& of) -> V {{
        const V* const p = of.values;
        const V difference = chooses(ahead.known) ? own.speed - ahead.speed : V(T(0));
        V s[3] = {{own.speed, gap, difference}}, o[1];
        (void)p;
{acceleration}
        return chooses(own.known) ? o[0] : V(T(0));
    }};

    // Of those who decide: who, their place, its lane's first and last, the next lane's bounds
    I who, place, rear, front, start, end, from;
    int to[LANES], filled = 0, found = 0;
    auto decide = [&]() {{
        for (int l = filled; l < LANES; ++l) {{  // to fill up, the first once more
            who[l] = who[0], place[l] = place[0], rear[l] = rear[0], front[l] = front[0];
            start[l] = start[0], end[l] = end[0], from[l] = from[0];
        }}
        const Seen own = see(who, who);
        // The first in the next lane that is ahead, near the place that the one before found, as
        // a rule; else twice as far each time.
        auto behind_at = [&](I valid, I where) -> I {{
            const I other = look_up_indices(lane_order.data, valid ? where : place);
            const V there = look_up(x.data, other);
            const M before = (there < own.x) | ((there == own.x) & chooses(other < who));
            return valid & __builtin_convertvector(before, I);
        }};
        I low = from, high = end;
        I far = I({NEAR}), open = low + far < high;
        while (__builtin_reduce_or(open)) {{
            const I onward = behind_at(open, low + far);
            high = (open & ~onward) ? low + far : high;
            low = onward ? low + far + 1 : low;
            far = far + far;
            open = onward & (low + far < high);
        }}
        while (__builtin_reduce_or(low < high)) {{
            const I valid = low < high, middle = (low + high) >> 1;
            const I onward = behind_at(valid, middle);
            low = onward ? middle + 1 : low;
            high = (valid & ~onward) ? middle : high;
        }}
        found = low[filled - 1];
        auto at_place = [&](I valid, I where) -> I {{
            return valid ? look_up_indices(lane_order.data, valid ? where : place) : I(-1);
        }};
        const I some = end > start;
        I ahead = at_place(low < end, low), behind = at_place(low > start, low - 1);
        I last = at_place(place > rear, place - 1);
        if (ring) {{  // one alone follows itself, there as here
            ahead = (low < end) ? ahead : (some ? at_place(some, start) : who);
            behind = (low > start) ? behind : at_place(some, end - 1);
            last = (place > rear) ? last : at_place(front > place, front);
        }}
        const Seen new_leader = see(ahead, who), new_follower = see(behind, who);
        const V room = gap_between(own, new_leader), room_behind = gap_between(new_follower, own);
        const Numbers mine = read(own.at), its = read(new_follower.at);
        const V own_new = acceleration(own, new_leader, room, mine);
        const V new_new = acceleration(new_follower, own, room_behind, its);
        const V safe = V(-safe_decel);
        M good = (room > V(T(0))) & (room_behind > V(T(0)))
            & ~((own_new < safe) | (new_new < safe));
        const int taken = filled;
        filled = 0;
        if (!__builtin_reduce_or(good))
            return;
        const Seen old_leader = see(look_up_indices(leader.data, who), who);
        const Seen old_follower = see(last, who);
        const Numbers theirs = read(old_follower.at);
        auto follow = [&](const Seen& one, const Seen& next, const Numbers& of) -> V {{
            return acceleration(one, next, gap_between(one, next), of);
        }};
        const V own_old = follow(own, old_leader, mine);
        const V now = follow(new_follower, new_leader, its);
        const V left = follow(old_follower, own, theirs);
        const V left_new = follow(old_follower, old_leader, theirs);
        const V others = new_new - now + left_new - left;
        const V gain = own_new - own_old + V(politeness) * others;
        good &= gain > V(threshold + T(side) * bias);
        for (int l = 0; l < taken; ++l)
            if (good[l])
                lane.data[who[l]] = to[l];
    }};
    const int first = task * roads_per_task;
    for (int road = first; road < roads && road < first + roads_per_task; ++road) {{
        const int* const starts = lane_start.data + (size_t)road * buckets;
        for (int here = 0; here < buckets - 2; ++here) {{
            const int there = here + side;
            if (there < 0 || there >= buckets - 2)
                continue;
            found = starts[there];  // nobody who decides later finds a place before
            for (int k = starts[here] + turn; k < starts[here + 1]; k += 2) {{
                who[filled] = lane_order.data[k], place[filled] = k;
                rear[filled] = starts[here], front[filled] = starts[here + 1] - 1;
                start[filled] = starts[there], end[filled] = starts[there + 1];
                from[filled] = found, to[filled] = there;
                if (++filled == LANES)
                    decide();
            }}
        }}
    }}
    if (filled)
        decide();
"""
