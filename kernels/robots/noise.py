"""Noise of what is observed, drawn anew in every step."""

from typing import Any

import warp as wp


@wp.kernel
def add_noise(
    # Model:
    spread: wp.array(dtype=Any),  # [num_obs], either way
    # In:
    key_in: wp.array2d(dtype=Any),  # [num_envs, 2], of random numbers, and steps so far
    obs_in: wp.array2d(dtype=Any),  # [num_envs, num_obs]
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, num_obs]
):
    """Each number, and spread * U(-1, 1)."""
    env, i = wp.tid()
    own = wp.rand_init(wp.int32(key_in[env, 0]), wp.int32(key_in[env, 1]))
    rng = wp.rand_init(wp.int32(own), i)
    draw = type(spread[i])(2.0) * type(spread[i])(wp.randf(rng)) - type(spread[i])(1.0)
    obs_out[env, i] = obs_in[env, i] + spread[i] * draw


@wp.kernel
def next_noise(
    # In:
    key_in: wp.array2d(dtype=Any),  # [num_envs, 2]
    # Out:
    key_out: wp.array2d(dtype=Any),  # [num_envs, 2]
):
    """One step more."""
    env = wp.tid()
    key_out[env, 0] = key_in[env, 0]
    key_out[env, 1] = key_in[env, 1] + type(key_in[env, 1])(1.0)


@wp.kernel(enable_backward=False)
def draw_key(
    # Model:
    stream: wp.int32,
    # In:
    rng_in: wp.array(dtype=wp.uint32),  # [num_envs]
    # Out:
    key_out: wp.array2d(dtype=Any),  # [num_envs, 2]
):
    """The key of an episode's noise."""
    env = wp.tid()
    rng = wp.rand_init(wp.int32(rng_in[env]), stream)
    key_out[env, 0] = type(key_out[env, 0])(wp.randi(rng, 0, 8388608))  # single precision holds it
    key_out[env, 1] = type(key_out[env, 1])(0.0)
