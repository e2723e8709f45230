"""Numbers that are drawn for every episode: what is drawn, and what is made of it."""

from typing import Any

import warp as wp

FIXED = wp.constant(0)
RANGE = wp.constant(1)
SCALE = wp.constant(2)
ADD = wp.constant(3)


@wp.kernel(enable_backward=False)
def draw_numbers(
    # Model:
    low: wp.array(dtype=Any),  # [n]
    high: wp.array(dtype=Any),  # [n]
    once: wp.array(dtype=wp.int32),  # [n], 1: the same in every episode
    stream: wp.int32,  # keeps these draws apart from others
    # In:
    rng_in: wp.array(dtype=wp.uint32),  # [num_envs], of the episode
    first_rng_in: wp.array(dtype=wp.uint32),  # [num_envs], of the first episode
    # Out:
    draws_out: wp.array2d(dtype=Any),  # [num_envs, n]
):
    """Each number = low + (high - low) * U(0, 1), from a stream of its own."""
    env, i = wp.tid()
    seed = rng_in[env]
    if once[i] != 0:
        seed = first_rng_in[env]
    rng = wp.rand_init(wp.int32(seed), stream + i)
    draws_out[env, i] = low[i] + (high[i] - low[i]) * type(low[i])(wp.randf(rng))


@wp.kernel(enable_backward=False)
def hold_draws(
    # In:
    draws_in: wp.array2d(dtype=Any),  # [num_envs, n], which the end of the step may renew
    # Out:
    draws_out: wp.array2d(dtype=Any),  # [num_envs, n]
):
    """A copy for the adjoint to read."""
    env, i = wp.tid()
    draws_out[env, i] = draws_in[env, i]


@wp.kernel
def apply_draws(
    # Model:
    kind: wp.array(dtype=wp.int32),  # [count], FIXED, RANGE, SCALE or ADD
    draw: wp.array(dtype=wp.int32),  # [count], which of the draws
    # In:
    given_in: wp.array2d(dtype=Any),  # [num_envs, count]
    draws_in: wp.array2d(dtype=Any),  # [num_envs, n]
    # Out:
    numbers_out: wp.array2d(dtype=Any),  # [num_envs, count]
):
    """The number in force: what was given, what was drawn, their product or their sum."""
    env, i = wp.tid()
    value = given_in[env, i]
    if kind[i] == RANGE:
        value = draws_in[env, draw[i]]
    if kind[i] == SCALE:
        value = given_in[env, i] * draws_in[env, draw[i]]
    if kind[i] == ADD:
        value = given_in[env, i] + draws_in[env, draw[i]]
    numbers_out[env, i] = value
