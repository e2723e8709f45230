"""Cars on a ring of one lane (Sugiyama et al. 2008, Wu et al. 2022): step, observation, reward.

Arrays are [num_envs, num_vehicles]: car 0 is the autonomous one, and car i follows car i + 1, the
last one car 0. Nobody passes, so this order never changes and no choice is discrete but the wrap.
x is the position of a car's centre along its ring, in [0, L), L the length of the ring of that
environment. A step is SUMO's: the speed first, x with the new speed.
"""

from typing import Any

import warp as wp

from kernels.traffic.drivers import driver_of
from kernels.traffic.idm import MODEL as IDM
from kernels.traffic.road import driver_acceleration

# s* >= s0, as SUMO and Flow have it
human_acceleration = driver_acceleration(IDM, sumo=True)

LENGTH = wp.constant(IDM.place("length"))


@wp.func
def distance_ahead(x: Any, x_ahead: Any, ring_length: Any):
    """From a car's centre to its leader's [m], in (0, L]."""
    distance = x_ahead - x
    if distance <= type(x)(0.0):
        return distance + ring_length
    return distance


@wp.func
def on_ring(x: Any, ring_length: Any):
    """The place in [0, L) of an x of less than a lap too many."""
    if x >= ring_length:
        return x - ring_length
    return x


@wp.kernel(enable_backward=False)
def draw_noise(
    # In:
    rng_in: wp.array(dtype=wp.uint32),  # [num_envs], of the control step
    substep: wp.int32,  # within it
    deviation: Any,  # [m/s^2]
    # Out:
    noise_out: wp.array2d(dtype=Any),  # [num_envs, num_vehicles], normal [m/s^2]
):
    """What each driver adds to its acceleration in this substep."""
    env, i = wp.tid()
    rng = wp.rand_init(wp.int32(rng_in[env]), substep * noise_out.shape[1] + i)
    noise_out[env, i] = deviation * type(deviation)(wp.randn(rng))


@wp.kernel
def drive(
    # In:
    x_in: wp.array2d(dtype=Any),  # [m]
    speed_in: wp.array2d(dtype=Any),  # [m/s]
    ring_length_in: wp.array2d(dtype=Any),  # [num_envs, 1] [m]
    action_in: wp.array2d(dtype=Any),  # [num_envs, 1]: acceleration / max_acceleration
    noise_in: wp.array2d(dtype=Any),  # [m/s^2]
    drivers: Any,  # numbers of the human drivers, as `driver_of` reads them
    safe_driver: Any,  # of the fail-safe
    max_acceleration: Any,  # [m/s^2]
    autonomous: wp.bool,  # else car 0 is driven as the others
    fail_safe: wp.bool,
    dt: Any,  # [s]
    # Out:
    x_out: wp.array2d(dtype=Any),
    speed_out: wp.array2d(dtype=Any),
    ring_length_out: wp.array2d(dtype=Any),
):
    """One step: v' = max(0, v + (rate + noise) dt), x' = x + v' dt.

    The fail-safe: the rate of the autonomous car, which has no noise, is at most that of the IDM
    with the numbers `safe_driver`.
    """
    env, i = wp.tid()
    ahead = i + 1
    if ahead == x_in.shape[1]:
        ahead = 0
    x = x_in[env, i]
    speed = speed_in[env, i]
    x_ahead = x_in[env, ahead]
    speed_ahead = speed_in[env, ahead]
    ring_length = ring_length_in[env, 0]
    driver = driver_of(drivers, env, i)
    gap = distance_ahead(x, x_ahead, ring_length) - driver[LENGTH]
    difference = speed - speed_ahead
    rate = type(x)(0.0)
    if i == 0 and autonomous:
        commanded = max_acceleration * action_in[env, 0]
        if fail_safe:
            safe = human_acceleration(speed, gap, difference, safe_driver)
            rate = wp.min(commanded, safe)
        else:
            rate = commanded
    else:
        rate = human_acceleration(speed, gap, difference, driver) + noise_in[env, i]
    next_speed = wp.max(speed + rate * dt, type(x)(0.0))
    speed_out[env, i] = next_speed
    x_out[env, i] = on_ring(x + next_speed * dt, ring_length)
    if i == 0:
        ring_length_out[env, 0] = ring_length


@wp.kernel
def observe(
    # In:
    x_in: wp.array2d(dtype=Any),
    speed_in: wp.array2d(dtype=Any),
    ring_length_in: wp.array2d(dtype=Any),
    speed_scale: Any,  # [m/s]
    distance_scale: Any,  # [m]
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, 3]
):
    """Own speed, the leader's less the own, and the distance from centre to centre, scaled."""
    env = wp.tid()
    speed = speed_in[env, 0]
    speed_ahead = speed_in[env, 1]
    distance = distance_ahead(x_in[env, 0], x_in[env, 1], ring_length_in[env, 0])
    obs_out[env, 0] = speed / speed_scale
    obs_out[env, 1] = (speed_ahead - speed) / speed_scale
    obs_out[env, 2] = distance / distance_scale


@wp.kernel(enable_backward=False)
def note_touching(
    # In:
    x_in: wp.array2d(dtype=Any),  # after a substep
    ring_length_in: wp.array2d(dtype=Any),
    car_length: Any,  # [m]
    substep: wp.int32,
    # In and out:
    touching: wp.array(dtype=wp.bool),  # [num_envs], not read at substep 0
):
    """Two cars touch, now or at an earlier substep."""
    env = wp.tid()
    n = x_in.shape[1]
    touch = wp.bool(False)
    if substep > 0:
        touch = touching[env]
    for i in range(n):
        ahead = i + 1
        if ahead == n:
            ahead = 0
        distance = distance_ahead(x_in[env, i], x_in[env, ahead], ring_length_in[env, 0])
        if distance <= car_length:
            touch = True
    touching[env] = touch


@wp.kernel(enable_backward=False)
def terminate(
    # In:
    touching_in: wp.array(dtype=wp.bool),  # [num_envs]
    # Out:
    terminated_out: wp.array(dtype=wp.bool),
):
    """An episode ends when cars touch."""
    env = wp.tid()
    terminated_out[env] = touching_in[env]


@wp.kernel
def reward(
    # In:
    speed_in: wp.array2d(dtype=Any),  # after the step
    action_in: wp.array2d(dtype=Any),  # [num_envs, 1]
    terminated_in: wp.array(dtype=wp.bool),  # [num_envs]
    speed_weight: Any,  # [s/m]
    action_weight: Any,  # [s^2/m]
    max_acceleration: Any,  # [m/s^2]
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 2]: speed, action
):
    """speed_weight mean_i(v_i) - action_weight |commanded acceleration|; 0 on termination."""
    env = wp.tid()
    total = type(speed_weight)(0.0)
    for i in range(speed_in.shape[1]):
        total += speed_in[env, i]
    if terminated_in[env]:
        reward_terms_out[env, 0] = type(speed_weight)(0.0)
        reward_terms_out[env, 1] = type(speed_weight)(0.0)
    else:
        mean = total / type(speed_weight)(speed_in.shape[1])
        reward_terms_out[env, 0] = speed_weight * mean
        reward_terms_out[env, 1] = -action_weight * max_acceleration * wp.abs(action_in[env, 0])


@wp.kernel(enable_backward=False)
def start(
    # In:
    rng_in: wp.array(dtype=wp.uint32),  # [num_envs], 0 where no start is asked for
    shortest: Any,  # ring [m]
    longest: Any,
    bunching: Any,  # [m]
    drivers: Any,  # as in `drive`
    deviation: Any,  # of the noise [m/s^2]
    num_steps: wp.int32,  # of the warm-up
    dt: Any,
    # Out:
    x_out: wp.array2d(dtype=Any),
    speed_out: wp.array2d(dtype=Any),
    ring_length_out: wp.array2d(dtype=Any),
):
    """At rest and evenly spaced but for a hole of `bunching`, then all drive as humans.

    The length of the ring is drawn uniformly.
    """
    env = wp.tid()
    if rng_in[env] == wp.uint32(0):
        return
    rng = rng_in[env]
    n = x_out.shape[1]
    zero = type(dt)(0.0)
    ring_length = shortest + (longest - shortest) * type(dt)(wp.randf(rng))
    ring_length_out[env, 0] = ring_length
    spacing = (ring_length - bunching) / type(dt)(n)
    for i in range(n):
        x_out[env, i] = spacing * type(dt)(i)
        speed_out[env, i] = zero
    for _ in range(num_steps):
        # In place from the rear to the front: a leader is always of the old step.
        first_x = x_out[env, 0]
        first_speed = speed_out[env, 0]
        for i in range(n):
            x_ahead = first_x
            speed_ahead = first_speed
            if i < n - 1:
                x_ahead = x_out[env, i + 1]
                speed_ahead = speed_out[env, i + 1]
            x = x_out[env, i]
            speed = speed_out[env, i]
            driver = driver_of(drivers, env, i)
            gap = distance_ahead(x, x_ahead, ring_length) - driver[LENGTH]
            rate = human_acceleration(speed, gap, speed - speed_ahead, driver)
            rate += deviation * type(dt)(wp.randn(rng))
            next_speed = wp.max(speed + rate * dt, zero)
            speed_out[env, i] = next_speed
            x_out[env, i] = on_ring(x + next_speed * dt, ring_length)
