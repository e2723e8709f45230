"""Cartpole swing-up: observation and reward.

Coordinates: x of the cart [m] and theta of the pole [rad], zero when upright.
"""

from typing import Any

import warp as wp


@wp.func
def wrap_angle(theta: Any):
    """The same angle in (-pi, pi]; its gradient is one."""
    tau = type(theta)(wp.TAU)
    return theta - tau * wp.ceil((theta - type(theta)(wp.PI)) / tau)


@wp.kernel
def observe(
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 2]: x, theta
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, 2]
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, 5]: x, x', sin theta, cos theta, theta'
):
    """The pole's angle by its sine and cosine."""
    env = wp.tid()
    theta = joint_q_in[env, 1]
    obs_out[env, 0] = joint_q_in[env, 0]
    obs_out[env, 1] = joint_qd_in[env, 0]
    obs_out[env, 2] = wp.sin(theta)
    obs_out[env, 3] = wp.cos(theta)
    obs_out[env, 4] = joint_qd_in[env, 1]


@wp.kernel
def reward(
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 2], after the step
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, 2]
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 4]: angle, spin, position, speed
    terminated_out: wp.array(dtype=wp.bool),  # [num_envs]
):
    """-theta^2 - 0.1 theta'^2 - 0.05 x^2 - 0.1 x'^2; never terminates."""
    env = wp.tid()
    x = joint_q_in[env, 0]
    theta = wrap_angle(joint_q_in[env, 1])
    x_dot = joint_qd_in[env, 0]
    theta_dot = joint_qd_in[env, 1]
    reward_terms_out[env, 0] = -theta * theta
    reward_terms_out[env, 1] = type(x)(-0.1) * theta_dot * theta_dot
    reward_terms_out[env, 2] = type(x)(-0.05) * x * x
    reward_terms_out[env, 3] = type(x)(-0.1) * x_dot * x_dot
    terminated_out[env] = False
