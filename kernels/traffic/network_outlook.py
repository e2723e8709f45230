"""How far SUMO's drivers see each lane of their road go where signals differ from lane to lane.

SUMO 1.28 (`MSVehicle::updateBestLanes`): when a vehicle comes to a road, it looks along its route
how far each lane of the road leads it, and keeps to that until the next road. Of lanes that go as
far the best are those whose way into the next road has priority then, by a signal's capital letter
or the right of way; one that has none goes to its own end only. Who waits to enter looks when it
first asks for room. Without such signals all this is the same at all times: `reach` and `better`
of `warp_envs.traffic.network_tables`.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.network_signals import phase_of
from kernels.traffic.network_sumo_habits import NUM_MEMORIES

SEGMENT = wp.constant(NUM_MEMORIES)  # of a driver's memory: 1 + the segment seen, or AS_IT_CAME
LOOKED = wp.constant(NUM_MEMORIES + 1)  # after how many steps
SEEN = NUM_MEMORIES + 2  # then of each lane as `better`, then of each as `reach`
AS_IT_CAME = wp.constant(-1)  # it entered, and looked when it first asked for room

MANY = wp.constant(4)  # roads, after which one looks 3 km at most
FAR = wp.constant(3000.0)
MOST = wp.constant(8)  # roads, after which one looks 200 m at most
NEAR = wp.constant(200.0)


def num_memories(most: int) -> int:
    """How many numbers a driver remembers, with an outlook on up to `most` lanes or, 0, none."""
    return NUM_MEMORIES + (2 + 2 * most if most else 0)


@cache
def lane_outlook(most: int) -> tuple[wp.Function, wp.Function]:
    """Of a lane of a driver's segment: lanes to the one it should take, and how far it goes [m]."""
    if most == 0:

        @wp.func
        def better_of(
            i: wp.int32,
            route: wp.int32,
            lane: wp.int32,
            memory: wp.array2d(dtype=Any),
            lane_place: wp.array(dtype=wp.int32),
            better: wp.array2d(dtype=wp.int32),
        ):
            return better[route, lane]

        @wp.func
        def reach_of(
            i: wp.int32,
            route: wp.int32,
            lane: wp.int32,
            memory: wp.array2d(dtype=Any),
            lane_place: wp.array(dtype=wp.int32),
            reach: wp.array2d(dtype=Any),
        ):
            return reach[route, lane]

        return better_of, reach_of

    @wp.func
    def better_seen(
        i: wp.int32,
        route: wp.int32,
        lane: wp.int32,
        memory: wp.array2d(dtype=Any),
        lane_place: wp.array(dtype=wp.int32),
        better: wp.array2d(dtype=wp.int32),
    ):
        return wp.int32(memory[i, wp.static(SEEN) + lane_place[lane]])

    @wp.func
    def reach_seen(
        i: wp.int32,
        route: wp.int32,
        lane: wp.int32,
        memory: wp.array2d(dtype=Any),
        lane_place: wp.array(dtype=wp.int32),
        reach: wp.array2d(dtype=Any),
    ):
        return memory[i, wp.static(SEEN + most) + lane_place[lane]]

    return better_seen, reach_seen


@wp.func
def last_road(
    start: wp.int32,  # a place in `route_segment`
    end: wp.int32,
    lane_length: wp.array(dtype=Any),
    lane_inner: wp.array(dtype=wp.int32),
    segment_lane: wp.array(dtype=wp.int32),
    route_segment: wp.array(dtype=wp.int32),
):
    """The place of the last road that one looks at, who looks from a place on its route."""
    last = wp.int32(start)
    place = wp.int32(start)
    roads = wp.int32(0)
    far = lane_length[0] * type(lane_length[0])(0.0)
    while place < end:
        lane = segment_lane[route_segment[place]]
        if lane_inner[lane] == 0:
            last = place
            roads += 1
            far = far + lane_length[lane]
            if roads > MANY and far >= type(far)(FAR):
                place = end
            if roads > MOST and far >= type(far)(NEAR):
                place = end
        place += 1
    return last


@cache
def best_lanes(most: int) -> wp.Function:
    """Of the lanes of a road: how many to the one to be taken, and how far each goes [m]."""
    Counts = wp.types.vector(length=most, dtype=wp.int32)

    @wp.func
    def settle(
        count: wp.int32,  # lanes
        road_length: Any,
        off_after: Any,  # of the lane to which each leads, 0 where it leads nowhere
        way: Any,  # how far each leads
        priority: Any,  # of their ways, -1 of none
    ):
        best = wp.int32(0)
        last_best = wp.int32(0)
        for k in range(1, count):
            mine = wp.abs(off_after[k])
            theirs = wp.abs(off_after[best])
            equal = way[k] == way[best] and mine == theirs
            if equal and priority[k] == priority[best]:
                last_best = k
            better = way[k] > way[best] or (way[k] == way[best] and mine < theirs)
            if better or (equal and priority[k] > priority[best]):
                best = k
                last_best = k
        off = Counts()
        own = way
        for k in range(count):
            farther_off = wp.abs(off_after[k]) > wp.abs(off_after[best])
            yields = priority[k] < priority[best]
            if yields or way[k] < way[best] or (way[k] == way[best] and farther_off):
                off[k] = last_best - k
                if wp.abs(best - k) < wp.abs(last_best - k):
                    off[k] = best - k
            if yields:
                own[k] = road_length
        return off, own

    return settle


@cache
def look_out(most: int) -> wp.Kernel:
    """One thread a vehicle: what one that has come to another segment sees of its lanes."""
    Counts = wp.types.vector(length=most, dtype=wp.int32)
    Lengths = wp.types.vector(length=most, dtype=wp.float64)
    settle = best_lanes(most)

    @wp.kernel(module="unique", enable_backward=False)
    def look_out_each(
        # In:
        lane_in: wp.array(dtype=wp.int32),
        route_in: wp.array(dtype=wp.int32),
        clock_in: wp.array(dtype=wp.int64),
        per_network: wp.int32,
        seconds: wp.float64,  # a step [s]
        # Tables:
        lane_length: wp.array(dtype=Any),
        lane_inner: wp.array(dtype=wp.int32),
        lane_segment: wp.array(dtype=wp.int32),
        lane_place: wp.array(dtype=wp.int32),  # in its segment
        next_lane: wp.array2d(dtype=wp.int32),
        has_priority: wp.array2d(dtype=wp.int32),  # of a lane's way, where no signal governs it
        segment_lane: wp.array(dtype=wp.int32),  # [num_segments + 1] its first lane
        route_end: wp.array(dtype=wp.int32),  # [num_routes], of the segments of a route:
        route_segment: wp.array(dtype=wp.int32),
        route_place: wp.array2d(dtype=wp.int32),  # [num_routes, num_segments] where among them
        signal_way: wp.array2d(dtype=wp.int32),
        light_cycle: wp.array(dtype=wp.float64),  # as `network_signals.show_lights`
        light_offset: wp.array(dtype=wp.float64),
        light_start: wp.array(dtype=wp.int32),
        light_until: wp.array(dtype=wp.float64),
        light_first: wp.array(dtype=wp.int32),  # of a phase: 1 where the way has priority
        # In and out:
        memory: wp.array2d(dtype=Any),
    ):
        i = wp.tid()
        here = lane_in[i]
        if here < 0:
            return
        segment = lane_segment[here]
        seen = wp.int32(memory[i, SEGMENT])
        if seen == segment + 1:
            return
        network = i // per_network
        if seen != AS_IT_CAME and (seen == 0 or lane_inner[here] == 0):
            memory[i, LOOKED] = type(memory[i, LOOKED])(clock_in[network])
        memory[i, SEGMENT] = type(memory[i, SEGMENT])(segment + 1)
        step = wp.int64(memory[i, LOOKED])
        route = route_in[i]
        start = route_place[route, segment]
        place = last_road(
            start, route_end[route], lane_length, lane_inner, segment_lane, route_segment
        )
        # From the last road back; `off` and `way` are those of the road before.
        off = Counts()
        way = Lengths()
        first = segment_lane[route_segment[place]]
        count = segment_lane[route_segment[place] + 1] - first
        for k in range(count):
            way[k] = wp.float64(lane_length[first + k])
        while place > start:
            place -= 1
            first = segment_lane[route_segment[place]]
            inside = lane_inner[first] == 1
            if not inside or place == start:
                farthest = wp.float64(-1.0)
                for k in range(count):
                    farthest = wp.max(farthest, way[k])
                count = segment_lane[route_segment[place] + 1] - first
                after = Counts()
                priority = Counts()
                connected = wp.float64(-1.0)
                for k in range(count):
                    there = next_lane[route, first + k]
                    if there >= 0:
                        if lane_inner[there] == 1:
                            there = next_lane[route, there]
                    after[k] = wp.int32(-1)
                    priority[k] = wp.int32(-1)
                    if there >= 0:
                        after[k] = lane_place[there]
                        connected = wp.max(connected, way[lane_place[there]])
                        priority[k] = has_priority[route, first + k]
                        governed = signal_way[route, first + k]
                        if governed >= 0:
                            phase = phase_of(
                                governed, step, seconds,
                                light_cycle, light_offset, light_start, light_until,
                            )  # fmt: skip
                            priority[k] = light_first[phase]
                off_after = Counts()
                leads = Lengths()
                for k in range(count):
                    if after[k] >= 0:
                        leads[k] = way[after[k]]
                        off_after[k] = off[after[k]]
                if inside:  # a junction, where the next road is looked at
                    for k in range(count):
                        off[k] = wp.clamp(off_after[k], -k, count - 1 - k)
                        way[k] = leads[k]
                else:
                    own = wp.float64(lane_length[first])
                    for k in range(count):
                        if after[k] >= 0 and leads[k] == connected:
                            if wp.abs(off_after[k]) < 2:
                                leads[k] = farthest
                        leads[k] = own + leads[k]
                    off, way = settle(count, own, off_after, leads, priority)
        for k in range(count):
            memory[i, wp.static(SEEN) + k] = type(memory[i, LOOKED])(off[k])
            memory[i, wp.static(SEEN + most) + k] = type(memory[i, LOOKED])(way[k])

    return look_out_each
