"""Who goes first where lanes of a road network merge.

Everybody within `zone` of a merge stands in one order and heeds the vehicle before it in that order
which comes by another branch, as if both were in one lane (a virtual leader, at the difference of
their distances to the merge). The order is that of the distances. Where some branches give way,
vehicles of the others count as nearer by what they drive in `head_start` seconds, so that one that
gives way lets go first whoever would be there within that time; one that can no longer stop is not
asked to. The order is discrete and carries no gradient; within it x and speeds do. Whom a light
keeps from the merge is not in it.
"""

from typing import Any

import warp as wp

from kernels.traffic.car_following import LENGTH
from kernels.traffic.network import FREE, LARGEST_DECEL, MERGING, safe_speed
from kernels.traffic.network_signals import GREEN, RED

YIELDS = wp.constant(1)  # how a branch comes to a merge, where others do otherwise
YIELDED_TO = wp.constant(0)
NEARER_FIRST = wp.constant(-1)
ZIPPER = wp.constant(2)  # SUMO's: only those inside the junction go first here


@wp.func
def turn_key(distance: Any, speed: Any, yields: wp.bool, decel: Any, head_start: Any, dt: Any):
    """A vehicle's place in the order of a merge: less is earlier.

    The distance to the merge [m]. Where some branches yield, those that do not have a head start
    [s]: their vehicles count as nearer by what they drive in it. A yielding vehicle that can no
    longer stop before the merge has it too.
    """
    if yields and speed <= safe_speed(distance, decel, dt):
        return distance
    return distance - speed * head_start


@wp.func
def kept_away(
    network: wp.int32,
    route: wp.int32,
    lane: wp.int32,
    merge: wp.int32,
    held: wp.bool,  # by a light on its way
    signal_way: wp.array2d(dtype=wp.int32),
    light: wp.array2d(dtype=wp.int32),
    next_lane: wp.array2d(dtype=wp.int32),
):
    """Whether a light between a lane and the merge after it stops a vehicle.

    Of those farther away than it looks, a red one does.
    """
    here = wp.int32(lane)
    while here >= 0 and here != merge:
        way = signal_way[route, here]
        if way >= 0:
            colour = light[network, way]
            if colour != GREEN and (held or (colour == RED and here != lane)):
                return True
        here = next_lane[route, here]
    return False


@wp.kernel(enable_backward=False)
def await_turn(
    # In, as `look_ahead`:
    x_in: wp.array(dtype=Any),
    speed_in: wp.array(dtype=Any),
    driver_in: wp.array(dtype=Any),
    lane_in: wp.array(dtype=wp.int32),
    route_in: wp.array(dtype=wp.int32),
    order_in: wp.array(dtype=wp.int32),
    lane_start_in: wp.array2d(dtype=wp.int32),
    per_network: wp.int32,
    zone: Any,  # [m]
    head_start: Any,  # [s]
    dt: Any,
    signals: wp.bool,  # whether there are any; else the next three are not read
    light_at_in: wp.array(dtype=Any),
    signal_way: wp.array2d(dtype=wp.int32),
    light_in: wp.array2d(dtype=wp.int32),
    # Tables:
    next_lane: wp.array2d(dtype=wp.int32),
    lane_length: wp.array(dtype=Any),
    lane_inner: wp.array(dtype=wp.int32),  # 1 inside junctions
    merge_lane: wp.array2d(dtype=wp.int32),  # [num_routes, num_lanes] the next merge, or -1
    merge_distance: wp.array2d(dtype=Any),  # from the lane's end to it [m]
    merge_branch: wp.array2d(dtype=wp.int32),  # the lane by which the route comes to it
    merge_gives: wp.array2d(dtype=wp.int32),  # how that one comes, see above
    approach_start: wp.array(dtype=wp.int32),  # [num_lanes + 1], of what leads to a merge:
    approach_lane: wp.array(dtype=wp.int32),
    approach_branch: wp.array(dtype=wp.int32),
    approach_distance: wp.array(dtype=Any),  # from its end to the merge [m]
    approach_gives: wp.array(dtype=wp.int32),  # as `merge_gives`
    # Out:
    heeded_out: wp.array2d(dtype=wp.int32),
    offset_out: wp.array2d(dtype=Any),
    merge_at_out: wp.array(dtype=Any),  # x of the merge [m]
    hold_out: wp.array(dtype=Any),  # the same, where one must be able to stop before it
):
    """One thread a vehicle: whom it lets go first where lanes merge.

    Everybody within `zone` of a merge stands in one order (`turn_key`, ties by lane) and heeds the
    vehicle before it in that order which comes by another branch, as if both were in one lane. The
    braking for it is bounded, by b far from the merge up to an emergency's at it. One whose
    foe is not a vehicle's length ahead keeps able to stop before the merge.
    """
    i = wp.tid()
    lane = lane_in[i]
    if lane < 0:
        return
    route = route_in[i]
    merge = merge_lane[route, lane]
    if merge < 0:
        return
    x = x_in[i]
    at = lane_length[lane] + merge_distance[route, lane]
    distance = at - x
    if distance > zone:
        return
    network = i // per_network
    infinite = type(x)(wp.inf)
    if signals:
        if kept_away(
            network, route, lane, merge, light_at_in[i] < infinite, signal_way, light_in, next_lane
        ):
            return
    branch = merge_branch[route, lane]
    hardest = type(x)(LARGEST_DECEL)
    zero = type(x)(0.0)
    gives = merge_gives[route, lane]
    own_yields = gives == YIELDS
    own_start = wp.where(own_yields or gives == YIELDED_TO, head_start, zero)
    own_key = turn_key(distance, speed_in[i], own_yields, hardest, own_start, dt)
    foe = wp.int32(FREE)
    best = type(x)(-wp.inf)
    for entry in range(approach_start[merge], approach_start[merge + 1]):
        other = approach_lane[entry]
        other_branch = approach_branch[entry]
        if other_branch != branch:
            other_yields = approach_gives[entry] == YIELDS
            other_start = own_start
            first = lane_start_in[network, other]
            place = lane_start_in[network, other + 1] - 1
            if gives == ZIPPER and (other != other_branch or lane_inner[other] == 0):
                place = first - 1
            while place >= first:
                j = order_in[place]
                other_at = lane_length[other] + approach_distance[entry]
                away = other_at - x_in[j]
                place = place - 1
                if away > zone:
                    place = first - 1
                elif merge_lane[route_in[j], other] == merge:
                    if signals:
                        if kept_away(
                            network, route_in[j], other, merge, light_at_in[j] < infinite,
                            signal_way, light_in, next_lane,
                        ):  # fmt: skip
                            continue
                    key = turn_key(away, speed_in[j], other_yields, hardest, other_start, dt)
                    earlier = key < own_key or (key == own_key and other_branch < branch)
                    if earlier and key > best:
                        best = key
                        foe = j
                        offset_out[i, MERGING] = at - other_at
    if foe >= 0:
        heeded_out[i, MERGING] = foe
        merge_at_out[i] = at
        numbers = driver_in[foe]
        if x_in[foe] - numbers[LENGTH] + offset_out[i, MERGING] - x < zero:
            hold_out[i] = at
