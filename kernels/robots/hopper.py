"""Hopper: observation and reward. Coordinates: x, z, pitch of the torso, then thigh, leg, foot."""

from typing import Any

import warp as wp


@wp.kernel
def observe(
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 6]
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, 6]
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, 11]: z, pitch, three hinges, six velocities
):
    """All coordinates but x, and all velocities."""
    env = wp.tid()
    for i in range(5):
        obs_out[env, i] = joint_q_in[env, 1 + i]
    for i in range(6):
        obs_out[env, 5 + i] = joint_qd_in[env, i]


@wp.kernel
def reward(
    # Model:
    least_height: Any,
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 6], after the step
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, 6]
    action_in: wp.array2d(dtype=Any),  # [num_envs, 3]
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 4]: progress, height, pitch, effort
    terminated_out: wp.array(dtype=wp.bool),  # [num_envs]
):
    """v_x + height term + 1 - (pitch / 30 deg)^2 - 0.1 |a|^2; terminates below `least_height`.

    The height term, of h = z - (least_height + 0.15) clipped to [-1, 0.3], is -200 h^2 below zero
    and h above; outside the clip its gradient is zero.
    """
    env = wp.tid()
    z = joint_q_in[env, 1]
    pitch = joint_q_in[env, 2]
    h = wp.clamp(z - least_height - type(z)(0.15), type(z)(-1.0), type(z)(0.3))
    reward_terms_out[env, 0] = joint_qd_in[env, 0]
    if h < type(z)(0.0):
        reward_terms_out[env, 1] = type(z)(-200.0) * h * h
    else:
        reward_terms_out[env, 1] = h
    tilt = pitch / type(z)(wp.PI / 6.0)
    reward_terms_out[env, 2] = type(z)(1.0) - tilt * tilt
    squares = action_in[env, 0] * action_in[env, 0]
    squares += action_in[env, 1] * action_in[env, 1]
    squares += action_in[env, 2] * action_in[env, 2]
    reward_terms_out[env, 3] = type(z)(-0.1) * squares
    terminated_out[env] = z < least_height
