"""The pace-car problem (paper, section 7.5.2): one step, observation, termination and reward.

Arrays are [num_envs, 1 + num_vehicles]: the autonomous car first, then the human vehicles. Lanes
run along x; the centre line of lane i is at y = i * lane_width.

Lane membership and the choice of the leader are discrete: no gradient passes through them.
"""

from typing import Any

import warp as wp

from kernels.traffic.drivers import driver_of
from kernels.traffic.idm import MODEL as IDM
from kernels.traffic.road import FREE, driver_acceleration, speed_bounds

NO_LANE = wp.constant(-1)

human_acceleration = driver_acceleration(IDM, sumo=False)
bounded_speed = speed_bounds(IDM, sumo=False)


@wp.func
def lane_at(y: Any, lane_width: Any, num_lanes: wp.int32):
    """The lane of the nearest centre line if it is within half a lane width, else `NO_LANE`."""
    half = type(y)(0.5)
    nearest = wp.clamp(wp.int32(wp.floor(y / lane_width + half)), 0, num_lanes - 1)
    if wp.abs(y - type(y)(nearest) * lane_width) <= half * lane_width:
        return nearest
    return NO_LANE


@wp.kernel(enable_backward=False)
def find_leaders(
    # In:
    x_in: wp.array2d(dtype=Any),
    y_in: wp.array2d(dtype=Any),
    lane_width: Any,
    num_lanes: wp.int32,
    # Out:
    leader_out: wp.array2d(dtype=wp.int32),
):
    """The nearest vehicle ahead in the same lane, the autonomous car included."""
    env, i = wp.tid()
    lane = lane_at(y_in[env, i], lane_width, num_lanes)
    leader = wp.int32(FREE)
    own = x_in[env, i]
    nearest = type(own)(wp.inf)
    for j in range(x_in.shape[1]):
        x = x_in[env, j]
        if x >= own and x < nearest and (x > own or j > i):
            if lane_at(y_in[env, j], lane_width, num_lanes) == lane:
                leader = j
                nearest = x
    leader_out[env, i] = leader


@wp.func
def limited_speed(speed: Any, change: Any, lowest: Any, highest: Any):
    """The speed after a change [m/s], of which only the part that leads out of the limits is cut.

    Gradient: one within the limits, zero in a change where it is cut.
    """
    return wp.clamp(speed + change, wp.min(speed, lowest), wp.max(speed, highest))


@wp.kernel
def drive(
    # In:
    x_in: wp.array2d(dtype=Any),  # [m]
    y_in: wp.array2d(dtype=Any),  # [m]
    speed_in: wp.array2d(dtype=Any),  # [m/s]
    heading_in: wp.array2d(dtype=Any),  # [rad]
    action_in: wp.array2d(dtype=Any),  # [num_envs, 2]: acceleration, steering, in [-1, 1]
    leader_in: wp.array2d(dtype=wp.int32),
    drivers: Any,  # numbers of the human vehicles, as `driver_of` reads them
    max_acceleration: Any,  # [m/s^2]
    max_steering: Any,  # [rad]
    lowest_speed: Any,  # of the autonomous car [m/s]
    highest_speed: Any,
    car_length: Any,  # [m]
    along_lane: wp.bool,  # followers see a leader's velocity along the lane, not its speed
    dt: Any,  # [s]
    # Out:
    x_out: wp.array2d(dtype=Any),
    y_out: wp.array2d(dtype=Any),
    speed_out: wp.array2d(dtype=Any),
    heading_out: wp.array2d(dtype=Any),
):
    """Explicit Euler for all: every rate is that of the old state.

    The autonomous car is a kinematic bicycle with its centre of mass half way between the axles,
    half a car length from each: with beta = atan(tan(steering) / 2),

        x' = v cos(heading + beta), y' = v sin(heading + beta),
        heading' = v sin(beta) / (length / 2), v' = acceleration.

    Human vehicles keep their lane and follow the IDM.
    """
    env, i = wp.tid()
    x = x_in[env, i]
    y = y_in[env, i]
    v = speed_in[env, i]
    psi = heading_in[env, i]
    half = type(x)(0.5)
    zero = type(x)(0.0)
    if i == 0:
        steering = max_steering * action_in[env, 1]
        beta = wp.atan(half * wp.tan(steering))
        change = max_acceleration * action_in[env, 0] * dt
        x_out[env, i] = x + v * wp.cos(psi + beta) * dt
        y_out[env, i] = y + v * wp.sin(psi + beta) * dt
        heading_out[env, i] = psi + v * wp.sin(beta) / (half * car_length) * dt
        speed_out[env, i] = limited_speed(v, change, lowest_speed, highest_speed)
    else:
        ahead = leader_in[env, i]
        gap = type(x)(wp.inf)
        leader_speed = v
        if ahead >= 0:
            gap = x_in[env, ahead] - x - car_length
            leader_speed = speed_in[env, ahead]
            if along_lane:
                leader_speed = speed_in[env, ahead] * wp.cos(heading_in[env, ahead])
        driver = driver_of(drivers, env, i)
        rate = human_acceleration(v, gap, v - leader_speed, driver)
        x_out[env, i] = x + v * dt
        y_out[env, i] = y
        heading_out[env, i] = psi
        speed_out[env, i] = bounded_speed(v, wp.max(v + rate * dt, zero), driver, dt)


@wp.kernel
def observe(
    # In:
    x_in: wp.array2d(dtype=Any),
    y_in: wp.array2d(dtype=Any),
    speed_in: wp.array2d(dtype=Any),
    heading_in: wp.array2d(dtype=Any),
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, 4 (1 + num_vehicles)]
):
    """For every vehicle x and y from the autonomous car, and its velocity; quantity by quantity."""
    env, i = wp.tid()
    n = x_in.shape[1]
    v = speed_in[env, i]
    psi = heading_in[env, i]
    obs_out[env, i] = x_in[env, i] - x_in[env, 0]
    obs_out[env, n + i] = y_in[env, i] - y_in[env, 0]
    obs_out[env, 2 * n + i] = v * wp.cos(psi)
    obs_out[env, 3 * n + i] = v * wp.sin(psi)


@wp.func
def boxes_overlap(dx: Any, dy: Any, psi: Any, length: Any, width: Any):
    """Whether a box along x at the origin touches an equal one at (dx, dy) turned by psi.

    Separating axes (Gottschalk et al. 1996): convex shapes are apart if and only if their
    projections on the normal of one of their sides are.
    """
    half = type(dx)(0.5)
    cos = wp.cos(psi)
    sin = wp.sin(psi)
    reach_long = half * (length + wp.abs(cos) * length + wp.abs(sin) * width)
    reach_wide = half * (width + wp.abs(sin) * length + wp.abs(cos) * width)
    along = wp.abs(cos * dx + sin * dy)
    across = wp.abs(cos * dy - sin * dx)
    return (
        wp.abs(dx) <= reach_long
        and wp.abs(dy) <= reach_wide
        and along <= reach_long
        and across <= reach_wide
    )


@wp.kernel(enable_backward=False)
def terminate(
    # In:
    x_in: wp.array2d(dtype=Any),  # after the step
    y_in: wp.array2d(dtype=Any),
    heading_in: wp.array2d(dtype=Any),
    lane_width: Any,
    num_lanes: wp.int32,
    collision_distance: Any,  # between centres [m]
    boxes: wp.bool,  # collide as boxes of the following size instead
    car_length: Any,
    car_width: Any,
    max_distance: Any,  # [m]
    # Out:
    terminated_out: wp.array(dtype=wp.bool),  # [num_envs]
):
    """The autonomous car collides, is in no lane, is too far from all, or is not ahead of all."""
    env = wp.tid()
    x = x_in[env, 0]
    y = y_in[env, 0]
    over = lane_at(y, lane_width, num_lanes) == NO_LANE
    nearest = type(x)(wp.inf)
    for i in range(1, x_in.shape[1]):
        dx = x - x_in[env, i]
        dy = y - y_in[env, i]
        distance = wp.sqrt(dx * dx + dy * dy)
        nearest = wp.min(nearest, distance)
        if dx < type(x)(0.0):
            over = True
        if boxes:
            if boxes_overlap(dx, dy, heading_in[env, 0], car_length, car_width):
                over = True
        elif distance <= collision_distance:
            over = True
    terminated_out[env] = over or nearest > max_distance


@wp.kernel
def reward(
    # In:
    speed_in: wp.array2d(dtype=Any),  # after the step
    terminated_in: wp.array(dtype=wp.bool),  # [num_envs]
    target_speed: Any,  # [m/s]
    clip_each: wp.bool,
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 2]: speed, terminated
):
    """1 - mean_i min(|v_i - target| / target, 1) over human vehicles; -1 on termination instead.

    `clip_each` False: 1 - min(mean_i |v_i - target| / target, 1).
    """
    env = wp.tid()
    one = type(target_speed)(1.0)
    zero = type(target_speed)(0.0)
    total = type(target_speed)(0.0)
    for i in range(1, speed_in.shape[1]):
        deviation = wp.abs(speed_in[env, i] - target_speed) / target_speed
        if clip_each:
            deviation = wp.min(deviation, one)
        total += deviation
    mean = wp.min(total / type(target_speed)(speed_in.shape[1] - 1), one)
    if terminated_in[env]:
        reward_terms_out[env, 0] = zero
        reward_terms_out[env, 1] = -one
    else:
        reward_terms_out[env, 0] = one - mean
        reward_terms_out[env, 1] = zero


@wp.kernel(enable_backward=False)
def start(
    # In:
    rng_in: wp.array(dtype=wp.uint32),  # [num_envs]
    num_lanes: wp.int32,
    lane_width: Any,
    spacing: Any,  # of the human vehicles in their lane [m]
    lead: Any,  # of the autonomous car over the foremost vehicle of its lane [m]
    # Out:
    x_out: wp.array2d(dtype=Any),
    y_out: wp.array2d(dtype=Any),
    speed_out: wp.array2d(dtype=Any),
    heading_out: wp.array2d(dtype=Any),
):
    """All at rest; vehicles spread evenly over the lanes, the remainder to the first lanes.

    The autonomous car's lane is drawn uniformly; in an empty lane it leads x = 0.
    """
    env = wp.tid()
    rng = rng_in[env]
    num_vehicles = x_out.shape[1] - 1
    zero = type(lead)(0.0)
    drawn = wp.min(wp.int32(wp.randf(rng) * wp.float32(num_lanes)), num_lanes - 1)
    i = wp.int32(1)
    for lane in range(num_lanes):
        count = num_vehicles // num_lanes
        if lane < num_vehicles % num_lanes:
            count = count + 1
        for place in range(count):
            x_out[env, i] = spacing * type(lead)(place)
            y_out[env, i] = lane_width * type(lead)(lane)
            i += 1
        if lane == drawn:
            x_out[env, 0] = spacing * type(lead)(wp.max(count - 1, 0)) + lead
            y_out[env, 0] = lane_width * type(lead)(lane)
    for k in range(num_vehicles + 1):
        speed_out[env, k] = zero
        heading_out[env, k] = zero
