"""A road network's vehicles as the state of an environment: rows of numbers, in and out.

An environment's state is rows of real numbers, [num_envs, n]; the kernels of a step read flat
arrays over all vehicles, integers among them. Lanes, flows and counts are integers also as reals:
both precisions hold them exactly up to 16 million.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.traffic.network_inflow import number_due


@wp.func
def as_integer(value: Any):
    """The integer that a real number is, which may have lost a little on its way."""
    return wp.int32(wp.round(value))


@wp.kernel
def take_motion(
    # In:
    x_in: wp.array2d(dtype=Any),  # [num_envs, vehicles]
    speed_in: wp.array2d(dtype=Any),
    # Out:
    x_out: wp.array(dtype=Any),  # [num_envs * vehicles]
    speed_out: wp.array(dtype=Any),
):
    """What is differentiable, flat."""
    env, v = wp.tid()
    i = env * x_in.shape[1] + v
    x_out[i] = x_in[env, v]
    speed_out[i] = speed_in[env, v]


@wp.kernel(enable_backward=False)
def take_vehicles(
    # In:
    lane_in: wp.array2d(dtype=Any),  # [num_envs, vehicles]; so are all of In
    previous_in: wp.array2d(dtype=Any),
    aside_in: wp.array2d(dtype=Any),
    flow_in: wp.array2d(dtype=Any),
    number_in: wp.array2d(dtype=Any),
    # Tables:
    flow_route: wp.array(dtype=wp.int32),
    flow_driver: wp.array(dtype=Any),
    # Out, flat:
    lane_out: wp.array(dtype=wp.int32),
    previous_out: wp.array(dtype=wp.int32),
    aside_out: wp.array(dtype=wp.int32),
    flow_out: wp.array(dtype=wp.int32),
    number_out: wp.array(dtype=wp.int32),
    route_out: wp.array(dtype=wp.int32),
    driver_out: wp.array(dtype=Any),
    order_out: wp.array(dtype=wp.int32),
):
    """The rest of the vehicles, and what follows from their flow; `order` as they are numbered."""
    env, v = wp.tid()
    i = env * lane_in.shape[1] + v
    flow = as_integer(flow_in[env, v])
    known = wp.max(flow, 0)
    lane_out[i] = as_integer(lane_in[env, v])
    previous_out[i] = as_integer(previous_in[env, v])
    aside_out[i] = as_integer(aside_in[env, v])
    flow_out[i] = flow
    number_out[i] = as_integer(number_in[env, v])
    route_out[i] = flow_route[known]
    driver_out[i] = flow_driver[known]
    order_out[i] = i


@wp.kernel(enable_backward=False)
def take_counts(
    # In:
    clock_in: wp.array2d(dtype=Any),  # [num_envs, 1] steps since the flows began
    departed_in: wp.array2d(dtype=Any),  # [num_envs, num_flows]
    # Out:
    clock_out: wp.array(dtype=wp.int64),
    departed_out: wp.array2d(dtype=wp.int32),
):
    """What the flows count."""
    env = wp.tid()
    clock_out[env] = wp.int64(wp.round(clock_in[env, 0]))
    for f in range(departed_in.shape[1]):
        departed_out[env, f] = as_integer(departed_in[env, f])


@wp.kernel(enable_backward=False)
def copy_drivers(driver_in: wp.array(dtype=Any), driver_out: wp.array(dtype=Any)):
    """As they are before somebody enters."""
    i = wp.tid()
    driver_out[i] = driver_in[i]


@cache
def take_drivers(count: int) -> wp.Kernel:
    """One thread a vehicle: its flow's numbers, `count` of them, its slot's where these are NaN."""

    @wp.kernel(module="unique")
    def take_each(
        # In, flat:
        flow_in: wp.array(dtype=wp.int32),  # [num_envs * vehicles], which stay
        slot_driver_in: wp.array2d(dtype=Any),  # [num_envs, vehicles]
        # Tables:
        flow_driver: wp.array(dtype=Any),
        # Out:
        driver_out: wp.array(dtype=Any),
    ):
        i = wp.tid()
        per_network = slot_driver_in.shape[1]
        given = flow_driver[wp.max(flow_in[i], 0)]
        own = slot_driver_in[i // per_network, i % per_network]
        numbers = type(own)()
        for k in range(wp.static(count)):
            value = own[k]
            if not wp.isnan(given[k]):
                value = given[k]
            numbers[k] = value
        driver_out[i] = numbers

    return take_each


@wp.kernel(enable_backward=False)
def hold_flows(flow_in: wp.array(dtype=wp.int32), flow_out: wp.array(dtype=wp.int32)):
    """A copy for the adjoint to read."""
    i = wp.tid()
    flow_out[i] = flow_in[i]


@wp.kernel(enable_backward=False)
def lay_flat(driver_in: wp.array2d(dtype=Any), driver_out: wp.array(dtype=Any)):
    """The numbers of each slot's driver, over all vehicles."""
    env, v = wp.tid()
    driver_out[env * driver_in.shape[1] + v] = driver_in[env, v]


@wp.kernel
def command_headway(
    # In:
    driver_in: wp.array(dtype=Any),
    action_in: wp.array2d(dtype=Any),  # [num_envs, num_actions]
    who_in: wp.array(dtype=wp.int32),  # [num_envs * vehicles] whose action, -1 for nobody's
    per_network: wp.int32,
    place: wp.int32,  # of T among a driver's numbers
    least: Any,  # what an action of -1 asks for [s]
    most: Any,  # what one of 1 asks for
    # Out:
    driver_out: wp.array(dtype=Any),
    command_out: wp.array(dtype=Any),  # NaN: everybody drives by its numbers
):
    """The time headway T that is wanted, in place of the driver's own."""
    i = wp.tid()
    who = who_in[i]
    driver = driver_in[i]
    command_out[i] = type(most)(wp.nan)
    if who >= 0:
        share = type(most)(0.5) * (action_in[i // per_network, who] + type(most)(1.0))
        wanted = least + share * (most - least)
        only = type(driver)()
        only[place] = type(most)(1.0)
        # A sum, as the adjoint of an overwritten component would be that of both.
        driver_out[i] = driver + only * (wanted - driver[place])
    else:
        driver_out[i] = driver


@wp.kernel
def settle(
    # In, of `network_drive.drive`:
    new_x_in: wp.array(dtype=Any),  # counted on beyond the lane's end
    new_speed_in: wp.array(dtype=Any),
    # In, of `network_drive.cross` and `network_inflow.insert`:
    passed_in: wp.array(dtype=Any),
    stopped_in: wp.array(dtype=wp.bool),
    inserted_in: wp.array(dtype=wp.bool),
    placed_x_in: wp.array(dtype=Any),  # of those who have just entered or were stopped
    placed_speed_in: wp.array(dtype=Any),
    # Out:
    x_out: wp.array(dtype=Any),
    speed_out: wp.array(dtype=Any),
):
    """Positions in the lanes where vehicles are now; who enters or stops has no gradient."""
    i = wp.tid()
    if inserted_in[i] or stopped_in[i]:
        x_out[i] = placed_x_in[i]
        speed_out[i] = placed_speed_in[i]
    else:
        x_out[i] = new_x_in[i] - passed_in[i]
        speed_out[i] = new_speed_in[i]


@wp.kernel
def put_motion(
    # In:
    x_in: wp.array(dtype=Any),  # [num_envs * vehicles]
    speed_in: wp.array(dtype=Any),
    # Out:
    x_out: wp.array2d(dtype=Any),  # [num_envs, vehicles]
    speed_out: wp.array2d(dtype=Any),
):
    """The reverse of `take_motion`."""
    env, v = wp.tid()
    i = env * x_out.shape[1] + v
    x_out[env, v] = x_in[i]
    speed_out[env, v] = speed_in[i]


@wp.kernel(enable_backward=False)
def put_vehicles(
    # In, flat:
    lane_in: wp.array(dtype=wp.int32),
    previous_in: wp.array(dtype=wp.int32),
    aside_in: wp.array(dtype=wp.int32),
    flow_in: wp.array(dtype=wp.int32),
    number_in: wp.array(dtype=wp.int32),
    # Out:
    lane_out: wp.array2d(dtype=Any),
    previous_out: wp.array2d(dtype=Any),
    aside_out: wp.array2d(dtype=Any),
    flow_out: wp.array2d(dtype=Any),
    number_out: wp.array2d(dtype=Any),
):
    """The reverse of `take_vehicles`."""
    env, v = wp.tid()
    i = env * lane_out.shape[1] + v
    lane_out[env, v] = lane_out.dtype(lane_in[i])
    previous_out[env, v] = previous_out.dtype(previous_in[i])
    aside_out[env, v] = aside_out.dtype(aside_in[i])
    flow_out[env, v] = flow_out.dtype(flow_in[i])
    number_out[env, v] = number_out.dtype(number_in[i])


@wp.kernel(enable_backward=False)
def put_counts(
    # In:
    clock_in: wp.array(dtype=wp.int64),
    departed_in: wp.array2d(dtype=wp.int32),
    # Out:
    clock_out: wp.array2d(dtype=Any),
    departed_out: wp.array2d(dtype=Any),
):
    """The reverse of `take_counts`."""
    env = wp.tid()
    clock_out[env, 0] = clock_out.dtype(clock_in[env])
    for f in range(departed_out.shape[1]):
        departed_out[env, f] = departed_out.dtype(departed_in[env, f])


@wp.kernel(enable_backward=False)
def start_empty(
    # In:
    rng_in: wp.array(dtype=wp.uint32),  # [num_envs], 0 where no start is asked for
    period: wp.int32,  # [steps]
    rate_in: wp.array2d(dtype=wp.float64),  # [num_envs, num_flows] vehicles an hour
    flow_begin: wp.array(dtype=wp.float64),
    flow_end: wp.array(dtype=wp.float64),
    seconds: wp.float64,  # a step [s]
    # Out:
    x_out: wp.array2d(dtype=Any),
    speed_out: wp.array2d(dtype=Any),
    lane_out: wp.array2d(dtype=Any),
    previous_out: wp.array2d(dtype=Any),
    aside_out: wp.array2d(dtype=Any),
    flow_out: wp.array2d(dtype=Any),
    number_out: wp.array2d(dtype=Any),
    departed_out: wp.array2d(dtype=Any),
    clock_out: wp.array2d(dtype=Any),
):
    """Empty roads at a random time within `period`; who would have entered before is not there."""
    env = wp.tid()
    if rng_in[env] == wp.uint32(0):
        return
    rng = rng_in[env]
    for v in range(x_out.shape[1]):
        x_out[env, v] = x_out.dtype(0.0)
        speed_out[env, v] = speed_out.dtype(0.0)
        lane_out[env, v] = lane_out.dtype(-1.0)
        previous_out[env, v] = previous_out.dtype(-1.0)
        aside_out[env, v] = aside_out.dtype(-1.0)
        flow_out[env, v] = flow_out.dtype(-1.0)
        number_out[env, v] = number_out.dtype(-1.0)
    clock = wp.randi(rng, 0, period)
    clock_out[env, 0] = clock_out.dtype(clock)
    now = wp.float64(clock) * seconds
    for f in range(departed_out.shape[1]):
        due = number_due(now, flow_begin[f], flow_end[f], rate_in[env, f])
        departed_out[env, f] = departed_out.dtype(due)


# Commands -----------------------------------------------------------------------------------------


@wp.kernel
def command_acceleration(
    # In:
    action_in: wp.array2d(dtype=Any),  # [num_envs, num_actions]
    who_in: wp.array(dtype=wp.int32),  # [num_envs * vehicles] whose action, -1 for nobody's
    per_network: wp.int32,
    most: Any,  # of an action of 1 [m/s^2]
    # Out:
    command_out: wp.array(dtype=Any),  # [m/s^2], NaN for a driver's own
):
    """Accelerate those whom an action is for."""
    i = wp.tid()
    who = who_in[i]
    if who >= 0:
        command_out[i] = most * action_in[i // per_network, who]
    else:
        command_out[i] = type(most)(wp.nan)


@wp.kernel
def command_speed(
    # In:
    action_in: wp.array2d(dtype=Any),  # [num_envs, num_actions]
    who_in: wp.array(dtype=wp.int32),  # [num_envs * vehicles] whose action, -1 for nobody's
    speed_in: wp.array(dtype=Any),
    per_network: wp.int32,
    top: Any,  # what an action of 1 asks for [m/s]; -1 asks for a standstill
    most: Any,  # of the acceleration [m/s^2]
    time: Any,  # to reach a speed not far from the own [s]
    # Out:
    command_out: wp.array(dtype=Any),  # [m/s^2], NaN for a driver's own
):
    """Accelerate by most tanh((wanted - v) / (most time)) towards the speed that is wanted."""
    i = wp.tid()
    who = who_in[i]
    one = type(most)(1.0)
    if who >= 0:
        wanted = type(most)(0.5) * top * (action_in[i // per_network, who] + one)
        command_out[i] = most * wp.tanh((wanted - speed_in[i]) / (most * time))
    else:
        command_out[i] = type(most)(wp.nan)
