"""What every environment's step shares: admission, divergence, episode ends and reset.

The state and the observation of an environment are rows: arrays of shape (num_envs, n). An
environment that diverges (a non-finite number in its action, state, observation or reward) is ended
and starts anew; `gate` keeps its gradient at zero, whatever its adjoint arithmetic gave.
"""

from typing import Any

import warp as wp


@wp.func
def gate(x: wp.float32, shut: wp.int32):
    """Pass `x` on; pass its adjoint back only if not shut. One overload for each precision."""
    return x


@wp.func_grad(gate)
def adj_gate(x: wp.float32, shut: wp.int32, adj_ret: wp.float32):
    """Adjoint of `gate`, single precision."""
    if shut == 0:
        wp.adjoint[x] += adj_ret


@wp.func
def gate(x: wp.float64, shut: wp.int32):
    """Pass `x` on; pass its adjoint back only if not shut."""
    return x


@wp.func_grad(gate)
def adj_gate_double(x: wp.float64, shut: wp.int32, adj_ret: wp.float64):
    """Adjoint of `gate`, double precision."""
    if shut == 0:
        wp.adjoint[x] += adj_ret


@wp.kernel
def pass_rows(
    # In:
    rows_in: wp.array2d(dtype=Any),  # [num_envs, >= from_column + count]
    from_column: wp.int32,
    count: wp.int32,
    shut_in: wp.array(dtype=wp.int32),  # [num_envs], may be known only when the step has run
    # Out:
    rows_out: wp.array2d(dtype=Any),  # [num_envs, >= to_column + count]
    to_column: wp.int32,
):
    """Copy columns; backward, pass no gradient to an environment that is shut."""
    env = wp.tid()
    for i in range(count):
        rows_out[env, to_column + i] = gate(rows_in[env, from_column + i], shut_in[env])


@wp.kernel
def admit_action(
    # In:
    action_in: wp.array2d(dtype=Any),  # [num_envs, num_actions]
    diverged_in: wp.array(dtype=wp.int32),
    # Out:
    action_out: wp.array2d(dtype=Any),  # [num_envs, num_actions], in [-1, 1]
):
    """Clip the action to [-1, 1]; the gradient is one inside, both ends included, zero outside."""
    env = wp.tid()
    for i in range(action_in.shape[1]):
        a = gate(action_in[env, i], diverged_in[env])
        one = type(a)(1.0)
        if a > one:
            action_out[env, i] = one
        elif a < -one:
            action_out[env, i] = -one
        else:
            action_out[env, i] = a


@wp.kernel(enable_backward=False)
def flag_nonfinite_action(
    # In:
    action_in: wp.array2d(dtype=Any),  # [num_envs, num_actions]
    # Out:
    diverged_out: wp.array(dtype=wp.int32),  # [num_envs]
):
    """Set the flag of every environment anew: 1 where its action is not finite."""
    env = wp.tid()
    flag = wp.int32(0)
    for i in range(action_in.shape[1]):
        if not wp.isfinite(action_in[env, i]):
            flag = 1
    diverged_out[env] = flag


@wp.kernel(enable_backward=False)
def flag_nonfinite(
    # In:
    rows_in: wp.array2d(dtype=Any),  # [num_envs, n]
    # Out:
    diverged_out: wp.array(dtype=wp.int32),  # [num_envs]
):
    """Raise the flag of environments with a non-finite number in their row."""
    env = wp.tid()
    for i in range(rows_in.shape[1]):
        if not wp.isfinite(rows_in[env, i]):
            diverged_out[env] = 1


@wp.kernel(enable_backward=False)
def flag_beyond(
    # In:
    rows_in: wp.array2d(dtype=Any),  # [num_envs, n]
    bound: Any,
    # Out:
    diverged_out: wp.array(dtype=wp.int32),  # [num_envs]
):
    """Raise the flag of environments with a number beyond a bound, either way, in their row."""
    env = wp.tid()
    for i in range(rows_in.shape[1]):
        if wp.abs(rows_in[env, i]) > bound:
            diverged_out[env] = 1


@wp.kernel
def sum_reward(
    # In:
    reward_terms_in: wp.array2d(dtype=Any),  # [num_envs, num_terms]
    last_reward_in: wp.array(dtype=Any),  # [num_envs], of the last finite step
    diverged_in: wp.array(dtype=wp.int32),
    # Out:
    reward_out: wp.array(dtype=Any),  # [num_envs]
):
    """The reward is the sum of its terms; after a divergence, the last finite one."""
    env = wp.tid()
    if diverged_in[env] != 0:
        reward_out[env] = last_reward_in[env]
    else:
        total = reward_terms_in[env, 0]
        for k in range(1, reward_terms_in.shape[1]):
            total += reward_terms_in[env, k]
        reward_out[env] = total


@wp.kernel(enable_backward=False)
def end_episode(
    # In:
    diverged_in: wp.array(dtype=wp.int32),  # [num_envs]
    own_terminated_in: wp.array(dtype=wp.bool),  # [num_envs], the environment's own verdict
    reward_in: wp.array(dtype=Any),  # [num_envs]
    max_episode_steps: wp.int32,
    # In and out:
    step_count: wp.array(dtype=wp.int32),  # [num_envs], steps of the episode so far
    last_reward: wp.array(dtype=Any),  # [num_envs]
    # Out:
    terminated_out: wp.array(dtype=wp.bool),
    truncated_out: wp.array(dtype=wp.bool),
    diverged_out: wp.array(dtype=wp.bool),
    done_out: wp.array(dtype=wp.int32),
):
    """Termination (also by divergence) and truncation at the time limit."""
    env = wp.tid()
    diverged = diverged_in[env] != 0
    terminated = own_terminated_in[env] or diverged
    steps = step_count[env] + 1
    truncated = steps >= max_episode_steps
    step_count[env] = steps
    last_reward[env] = reward_in[env]
    terminated_out[env] = terminated
    truncated_out[env] = truncated
    diverged_out[env] = diverged
    done_out[env] = wp.where(terminated or truncated, 1, 0)


@wp.kernel(enable_backward=False)
def replace_rows(
    # In:
    rows_in: wp.array2d(dtype=Any),  # [num_envs, n]
    replaced_in: wp.array(dtype=wp.int32),  # [num_envs]
    # Out:
    rows_out: wp.array2d(dtype=Any),  # [num_envs, >= to_column + n]
    to_column: wp.int32,
):
    """Overwrite the rows of some environments: after a reset, for instance.

    No gradient passes, so these rows' gradient must be shut off where they came from.
    """
    env = wp.tid()
    if replaced_in[env] != 0:
        for i in range(rows_in.shape[1]):
            rows_out[env, to_column + i] = rows_in[env, i]


@wp.kernel(enable_backward=False)
def begin_episode(
    # In:
    done_in: wp.array(dtype=wp.int32),  # [num_envs]
    # In and out:
    step_count: wp.array(dtype=wp.int32),
    reset_count: wp.array(dtype=wp.int32),
):
    """Count the resets of ended environments, and their steps anew."""
    env = wp.tid()
    if done_in[env] != 0:
        step_count[env] = 0
        reset_count[env] += 1


@wp.func
def random_numbers_of(seed: wp.int32, env_index: wp.int32, reset_count: wp.int32):
    """A random-number state of its own for every environment and every reset of it."""
    own = wp.rand_init(seed, env_index)
    return wp.rand_init(wp.int32(own), reset_count)


@wp.kernel(enable_backward=False)
def start_random_numbers(
    # In:
    seed_in: wp.array(dtype=wp.int32),  # [1]
    env_index_in: wp.array(dtype=wp.int32),  # [num_envs]
    reset_count_in: wp.array(dtype=wp.int32),  # [num_envs]
    wanted_in: wp.array(dtype=wp.int32),  # [num_envs]
    # Out:
    rng_out: wp.array(dtype=wp.uint32),  # [num_envs], 0 where not wanted and only there
):
    """The random-number states that starts are drawn from."""
    env = wp.tid()
    rng = random_numbers_of(seed_in[0], env_index_in[env], reset_count_in[env])
    rng_out[env] = wp.where(wanted_in[env] != 0, wp.max(rng, wp.uint32(1)), wp.uint32(0))


@wp.kernel(enable_backward=False)
def step_random_numbers(
    # In:
    seed_in: wp.array(dtype=wp.int32),  # [1]
    env_index_in: wp.array(dtype=wp.int32),  # [num_envs]
    reset_count_in: wp.array(dtype=wp.int32),  # [num_envs]
    step_count_in: wp.array(dtype=wp.int32),  # [num_envs], steps of the episode so far
    # Out:
    rng_out: wp.array(dtype=wp.uint32),  # [num_envs]
):
    """The same for every step: of the counters alone, so that a state set again draws it again."""
    env = wp.tid()
    rng = random_numbers_of(seed_in[0], env_index_in[env], reset_count_in[env])
    rng_out[env] = wp.rand_init(wp.int32(rng), step_count_in[env])
