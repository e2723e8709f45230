"""The merge of Vinitsky et al. (2018): whom actions are for, what is seen and rewarded.

The state is rows, [num_envs, vehicles], as in `network_env`. Autonomous vehicles come by one flow
and one lane, in the order of their numbers; the k-th of those on the road is the k-th that entered.
A place along the main road is `path_start[lane] + x`, with a negative start off it.
"""

from typing import Any

import warp as wp

from kernels.traffic.network_env import as_integer


@wp.kernel(enable_backward=False)
def rank(
    # In, flat:
    lane_in: wp.array(dtype=wp.int32),
    flow_in: wp.array(dtype=wp.int32),
    number_in: wp.array(dtype=wp.int32),
    per_network: wp.int32,
    autonomous: wp.int32,  # which flow is
    most: wp.int32,
    # Out:
    who_out: wp.array(dtype=wp.int32),
):
    """Which of the autonomous vehicles on the road each is, -1 from `most` on and for others."""
    i = wp.tid()
    who_out[i] = -1
    if lane_in[i] < 0 or flow_in[i] != autonomous:
        return
    first = (i // per_network) * per_network
    before = wp.int32(0)
    for j in range(first, first + per_network):
        if lane_in[j] >= 0 and flow_in[j] == autonomous and number_in[j] < number_in[i]:
            before += 1
    if before < most:
        who_out[i] = before


@wp.func
def place_on_path(lane: Any, x: Any, path_start: wp.array(dtype=Any)):
    """Along the main road [m], negative off it."""
    index = as_integer(lane)
    if index < 0:
        return type(x)(-1.0)
    if path_start[index] < type(x)(0.0):
        return type(x)(-1.0)
    return path_start[index] + x


@wp.func
def next_by_number(
    env: wp.int32,
    last: wp.int32,
    lane: wp.array2d(dtype=Any),
    flow: wp.array2d(dtype=Any),
    number: wp.array2d(dtype=Any),
    autonomous: wp.int32,
):
    """The autonomous vehicle on the road with the least number above `last`, -1 for none."""
    found = wp.int32(-1)
    least = wp.int32(0x7FFFFFFF)
    for i in range(lane.shape[1]):
        if as_integer(flow[env, i]) == autonomous and as_integer(lane[env, i]) >= 0:
            its = as_integer(number[env, i])
            if its > last and its < least:
                least = wp.int32(its)
                found = wp.int32(i)
    return found


@wp.kernel(enable_backward=False)
def find_neighbours(
    # In:
    x_in: wp.array2d(dtype=Any),
    lane_in: wp.array2d(dtype=Any),
    flow_in: wp.array2d(dtype=Any),
    number_in: wp.array2d(dtype=Any),
    autonomous: wp.int32,
    path_start: wp.array(dtype=Any),  # [num_lanes]
    # Out:
    seen_out: wp.array3d(dtype=wp.int32),  # [num_envs, actions, 3] own, ahead, behind; -1: nobody
):
    """One thread an action: its vehicle, and the next ones before and behind on the main road."""
    env, k = wp.tid()
    n = x_in.shape[1]
    own = wp.int32(-1)
    last = wp.int32(-1)
    for _ in range(k + 1):
        own = next_by_number(env, last, lane_in, flow_in, number_in, autonomous)
        if own >= 0:
            last = as_integer(number_in[env, own])
    ahead = wp.int32(-1)
    behind = wp.int32(-1)
    if own >= 0:
        here = place_on_path(lane_in[env, own], x_in[env, own], path_start)
        nearest = type(here)(wp.inf)
        following = type(here)(-0.5)
        for j in range(n):
            place = place_on_path(lane_in[env, j], x_in[env, j], path_start)
            if place > here and place < nearest:
                nearest = place
                ahead = j
            if j != own and place >= type(here)(0.0) and place <= here and place > following:
                following = place
                behind = j
    seen_out[env, k, 0] = own
    seen_out[env, k, 1] = ahead
    seen_out[env, k, 2] = behind


@wp.func
def gap_between(
    env: wp.int32,
    rear: wp.int32,
    front: wp.int32,
    x: wp.array2d(dtype=Any),
    lane: wp.array2d(dtype=Any),
    path_start: wp.array(dtype=Any),
    length: Any,
):
    """From bumper to bumper along the main road [m]."""
    start = path_start[as_integer(lane[env, front])] - path_start[as_integer(lane[env, rear])]
    return start + x[env, front] - x[env, rear] - length


@wp.kernel
def observe(
    # In:
    x_in: wp.array2d(dtype=Any),
    speed_in: wp.array2d(dtype=Any),
    lane_in: wp.array2d(dtype=Any),
    seen_in: wp.array3d(dtype=wp.int32),
    path_start: wp.array(dtype=Any),
    length: Any,  # of a vehicle [m]
    speed_scale: Any,  # [m/s]
    distance_scale: Any,  # [m]
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, 5 actions]
):
    """One thread an action: what its vehicle sees, zeros without one."""
    env, k = wp.tid()
    zero = type(length)(0.0)
    one = type(length)(1.0)
    own = seen_in[env, k, 0]
    ahead = seen_in[env, k, 1]
    behind = seen_in[env, k, 2]
    at = 5 * k
    if own < 0:
        for column in range(5):
            obs_out[env, at + column] = zero
        return
    speed = speed_in[env, own]
    obs_out[env, at] = speed / speed_scale
    if ahead >= 0:
        gap = gap_between(env, own, ahead, x_in, lane_in, path_start, length)
        obs_out[env, at + 1] = (speed_in[env, ahead] - speed) / speed_scale
        obs_out[env, at + 2] = gap / distance_scale
    else:
        obs_out[env, at + 1] = (speed_scale - speed) / speed_scale
        obs_out[env, at + 2] = one
    if behind >= 0:
        gap = gap_between(env, behind, own, x_in, lane_in, path_start, length)
        obs_out[env, at + 3] = (speed - speed_in[env, behind]) / speed_scale
        obs_out[env, at + 4] = gap / distance_scale
    else:
        obs_out[env, at + 3] = speed / speed_scale
        obs_out[env, at + 4] = one


@wp.kernel(enable_backward=False)
def count_vehicles(
    # In:
    lane_in: wp.array2d(dtype=Any),
    # Out:
    count_out: wp.array(dtype=Any),  # [num_envs]
):
    """On the roads."""
    env = wp.tid()
    count = wp.int32(0)
    for i in range(lane_in.shape[1]):
        if as_integer(lane_in[env, i]) >= 0:
            count += 1
    count_out[env] = count_out.dtype(count)


@wp.kernel
def spread(
    # In:
    speed_in: wp.array2d(dtype=Any),
    lane_in: wp.array2d(dtype=Any),
    target: Any,  # [m/s]
    # Out:
    squares_out: wp.array(dtype=Any),  # [num_envs] [m^2/s^2]
):
    """The sum of (v - target)^2: what is made of it is another kernel's, see `reward`."""
    env = wp.tid()
    zero = type(target)(0.0)
    one = type(target)(1.0)
    squares = type(target)(0.0)
    for i in range(speed_in.shape[1]):
        there = wp.where(as_integer(lane_in[env, i]) >= 0, one, zero)
        off = speed_in[env, i] - target
        squares += there * off * off
    squares_out[env] = squares


@wp.kernel
def headways(
    # In:
    x_in: wp.array2d(dtype=Any),
    speed_in: wp.array2d(dtype=Any),
    lane_in: wp.array2d(dtype=Any),
    seen_in: wp.array3d(dtype=wp.int32),
    path_start: wp.array(dtype=Any),
    length: Any,
    least_headway: Any,  # [s]
    # Out:
    short_out: wp.array2d(dtype=Any),  # [num_envs, actions] [s]
):
    """One thread an action: min(0, gap / v - least_headway), 0 at rest or without a leader."""
    env, k = wp.tid()
    zero = type(length)(0.0)
    own = seen_in[env, k, 0]
    ahead = seen_in[env, k, 1]
    short_out[env, k] = zero
    if own >= 0 and ahead >= 0:
        speed = speed_in[env, own]
        if speed > zero:
            gap = gap_between(env, own, ahead, x_in, lane_in, path_start, length)
            short_out[env, k] = wp.min(wp.max(gap, zero) / speed - least_headway, zero)


@wp.kernel
def reward(
    # In:
    count_in: wp.array(dtype=Any),  # [num_envs]
    squares_in: wp.array(dtype=Any),
    short_in: wp.array2d(dtype=Any),
    target: Any,  # [m/s]
    headway_weight: Any,  # [1/s]
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 2]
):
    """Nearness of all speeds to the target, and time headways too short.

    Warp's adjoint does not run a loop over an array's length again: only linear functions of a sum
    made by one are right in the same kernel.
    """
    env = wp.tid()
    zero = type(target)(0.0)
    one = type(target)(1.0)
    if count_in[env] > zero:
        # The root has no derivative where everybody has the target.
        mean = wp.max(squares_in[env] / count_in[env], type(target)(1.0e-6))
        reward_terms_out[env, 0] = wp.max(one - wp.sqrt(mean) / target, zero)
    else:
        reward_terms_out[env, 0] = zero
    short = type(target)(0.0)
    for k in range(short_in.shape[1]):
        short += short_in[env, k]
    reward_terms_out[env, 1] = headway_weight * short
