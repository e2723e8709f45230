"""The bottleneck of Vinitsky et al. (2018): cells of lanes, what is seen there, the outflow.

A lane is cut into cells of equal length. `cell_first[lane]` is the index of its first one, -1 for
none, the next ones are `cell_stride[lane]` further on each, `cell_count[lane]` of them.
"""

from typing import Any

import warp as wp

from kernels.traffic.network_env import as_integer


@wp.func
def cell_of(
    lane: wp.int32,
    x: Any,
    lane_length: wp.array(dtype=Any),
    cell_first: wp.array(dtype=wp.int32),
    cell_stride: wp.array(dtype=wp.int32),
    cell_count: wp.array(dtype=wp.int32),
):
    """The cell at a place, -1 where there is none."""
    if lane < 0:
        return wp.int32(-1)
    if cell_first[lane] < 0:
        return wp.int32(-1)
    count = cell_count[lane]
    along = wp.int32(x / lane_length[lane] * type(x)(count))
    return cell_first[lane] + cell_stride[lane] * wp.min(along, count - 1)


@wp.kernel(enable_backward=False)
def find_commander(
    # In, flat:
    x_in: wp.array(dtype=Any),
    lane_in: wp.array(dtype=wp.int32),
    flow_in: wp.array(dtype=wp.int32),
    autonomous: wp.int32,  # which flow is
    # Tables:
    lane_length: wp.array(dtype=Any),
    cell_first: wp.array(dtype=wp.int32),
    cell_stride: wp.array(dtype=wp.int32),
    cell_count: wp.array(dtype=wp.int32),
    # Out:
    who_out: wp.array(dtype=wp.int32),
):
    """Whose action an autonomous vehicle obeys: that of its cell; -1 for others."""
    i = wp.tid()
    who_out[i] = -1
    if flow_in[i] == autonomous:
        who_out[i] = cell_of(lane_in[i], x_in[i], lane_length, cell_first, cell_stride, cell_count)


@wp.kernel(enable_backward=False)
def find_cells(
    # In:
    x_in: wp.array2d(dtype=Any),
    lane_in: wp.array2d(dtype=Any),
    flow_in: wp.array2d(dtype=Any),
    autonomous: wp.int32,
    num_cells: wp.int32,
    # Tables:
    lane_length: wp.array(dtype=Any),
    cell_first: wp.array(dtype=wp.int32),
    cell_stride: wp.array(dtype=wp.int32),
    cell_count: wp.array(dtype=wp.int32),
    # Out:
    cell_out: wp.array2d(dtype=wp.int32),  # [num_envs, vehicles], num_cells more if autonomous
):
    """In which cell each vehicle is, -1 for none."""
    env, v = wp.tid()
    lane = as_integer(lane_in[env, v])
    cell = cell_of(lane, x_in[env, v], lane_length, cell_first, cell_stride, cell_count)
    if cell >= 0 and as_integer(flow_in[env, v]) == autonomous:
        cell += num_cells
    cell_out[env, v] = cell


@wp.kernel(enable_backward=False)
def count(
    # In:
    cell_in: wp.array2d(dtype=wp.int32),
    count_scale: Any,
    # Out:
    count_out: wp.array2d(dtype=wp.int32),  # [num_envs, 2 num_cells]
    obs_out: wp.array2d(dtype=Any),  # [num_envs, >= 2 num_cells]
):
    """One thread a network: how many there are in a cell, of either kind."""
    env = wp.tid()
    for cell in range(count_out.shape[1]):
        count_out[env, cell] = 0
    for v in range(cell_in.shape[1]):
        cell = cell_in[env, v]
        if cell >= 0:
            count_out[env, cell] += 1
    for cell in range(count_out.shape[1]):
        obs_out[env, cell] = type(count_scale)(count_out[env, cell]) / count_scale


@wp.kernel
def observe(
    # In:
    speed_in: wp.array2d(dtype=Any),
    cell_in: wp.array2d(dtype=wp.int32),
    count_in: wp.array2d(dtype=wp.int32),  # [num_envs, 2 num_cells]
    speed_scale: Any,  # [m/s]
    # Out:
    total_out: wp.array2d(dtype=Any),  # [num_envs, 2 num_cells] [m/s]
    obs_out: wp.array2d(dtype=Any),  # [num_envs, >= 4 num_cells]
):
    """One thread a network: the mean speeds of its cells, 0 of nobody; after the counts.

    Vehicle by vehicle, each into the sum of its cell: in one order on any device.
    """
    env = wp.tid()
    for cell in range(count_in.shape[1]):
        total_out[env, cell] = type(speed_scale)(0.0)
    for v in range(speed_in.shape[1]):
        cell = cell_in[env, v]
        if cell >= 0:
            total_out[env, cell] += speed_in[env, v]
    for cell in range(count_in.shape[1]):
        among = type(speed_scale)(wp.max(count_in[env, cell], 1))
        obs_out[env, count_in.shape[1] + cell] = total_out[env, cell] / (among * speed_scale)


@wp.func
def flow_through(
    env: wp.int32,
    speed: wp.array2d(dtype=Any),
    lane: wp.array2d(dtype=Any),
    first_lane: wp.int32,
    end_lane: wp.int32,
    length: Any,
):
    """Vehicles an hour through a road of a length, by Edie's definition: all speeds over it."""
    total = type(length)(0.0)
    for v in range(speed.shape[1]):
        index = as_integer(lane[env, v])
        inside = index >= first_lane and index < end_lane
        total += wp.where(inside, type(length)(1.0), type(length)(0.0)) * speed[env, v]
    return type(length)(3600.0) * total / length


@wp.kernel
def observe_outflow(
    # In:
    speed_in: wp.array2d(dtype=Any),
    lane_in: wp.array2d(dtype=Any),
    first_lane: wp.int32,
    end_lane: wp.int32,
    length: Any,  # [m]
    scale: Any,  # [vehicles/h]
    column: wp.int32,
    # Out:
    out: wp.array2d(dtype=Any),  # [num_envs, > column]
):
    """Of the last road, into a column: of an observation or of rewards."""
    env = wp.tid()
    flow = flow_through(env, speed_in, lane_in, first_lane, end_lane, length)
    out[env, column] = flow / scale
