"""Actions that reach a robot some control steps late."""

from typing import Any

import warp as wp


@wp.kernel
def delay_actions(
    # In:
    action_in: wp.array2d(dtype=Any),  # [num_envs, num_actions]
    queue_in: wp.array2d(dtype=Any),  # [num_envs, longest * num_actions], the latest first
    delay_in: wp.array2d(dtype=Any),  # [num_envs, 1], control steps, a whole number
    # Out:
    action_out: wp.array2d(dtype=Any),  # [num_envs, num_actions]
):
    """The action of `delay` steps ago."""
    env, i = wp.tid()
    late = wp.int32(delay_in[env, 0])
    if late > 0:
        action_out[env, i] = queue_in[env, (late - 1) * action_in.shape[1] + i]
    else:
        action_out[env, i] = action_in[env, i]


@wp.kernel
def queue_actions(
    # In:
    action_in: wp.array2d(dtype=Any),  # [num_envs, num_actions]
    queue_in: wp.array2d(dtype=Any),  # [num_envs, longest * num_actions]
    delay_in: wp.array2d(dtype=Any),  # [num_envs, 1]
    # Out:
    queue_out: wp.array2d(dtype=Any),
    delay_out: wp.array2d(dtype=Any),
):
    """The queue after a step, the action first and the oldest dropped."""
    env, i = wp.tid()
    if i < action_in.shape[1]:
        queue_out[env, i] = action_in[env, i]
    else:
        queue_out[env, i] = queue_in[env, i - action_in.shape[1]]
    if i == 0:
        delay_out[env, 0] = delay_in[env, 0]


@wp.kernel(enable_backward=False)
def draw_delay(
    # Model:
    least: wp.int32,
    most: wp.int32,
    stream: wp.int32,
    # In:
    rng_in: wp.array(dtype=wp.uint32),  # [num_envs]
    # Out:
    queue_out: wp.array2d(dtype=Any),
    delay_out: wp.array2d(dtype=Any),
):
    """An episode's delay, a whole number from `least` to `most`, and a queue of zeros."""
    env = wp.tid()
    rng = wp.rand_init(wp.int32(rng_in[env]), stream)
    zero = type(delay_out[env, 0])(0.0)
    delay_out[env, 0] = type(delay_out[env, 0])(wp.randi(rng, least, most + 1))
    for i in range(queue_out.shape[1]):
        queue_out[env, i] = zero
