"""Ant: observation and reward. Coordinates: free torso (7), eight hinges in leg order."""

from typing import Any

import warp as wp


@wp.func
def torso_orientation(joint_q: wp.array2d(dtype=Any), env: wp.int32):
    """The torso's quaternion (x, y, z, w)."""
    return wp.quaternion(joint_q[env, 3], joint_q[env, 4], joint_q[env, 5], joint_q[env, 6])


@wp.kernel
def observe(
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 15]
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, 14]
    action_in: wp.array2d(dtype=Any),  # [num_envs, 8], the one just applied
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, 37]
):
    """Height, orientation, velocities, hinges, uprightness, heading, action."""
    env = wp.tid()
    rotation = wp.quat_to_matrix(torso_orientation(joint_q_in, env))
    obs_out[env, 0] = joint_q_in[env, 2]
    for i in range(4):
        obs_out[env, 1 + i] = joint_q_in[env, 3 + i]
    for i in range(6):
        obs_out[env, 5 + i] = joint_qd_in[env, i]
    for i in range(8):
        obs_out[env, 11 + i] = joint_q_in[env, 7 + i]
        obs_out[env, 19 + i] = type(joint_qd_in[env, 6 + i])(0.1) * joint_qd_in[env, 6 + i]
        obs_out[env, 29 + i] = action_in[env, i]
    obs_out[env, 27] = rotation[2, 2]
    obs_out[env, 28] = rotation[0, 0]


@wp.kernel
def reward(
    # Model:
    least_height: Any,
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 15], after the step
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, 14]
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 4]: progress, up, heading, height
    terminated_out: wp.array(dtype=wp.bool),  # [num_envs]
):
    """v_x + 0.1 up + heading + (height - 0.27); terminates below that height.

    up is the vertical part of the torso's up axis, heading the part along x of its forward axis:
    the target lies infinitely far along x.
    """
    env = wp.tid()
    rotation = wp.quat_to_matrix(torso_orientation(joint_q_in, env))
    height = joint_q_in[env, 2]
    reward_terms_out[env, 0] = joint_qd_in[env, 0]
    reward_terms_out[env, 1] = type(height)(0.1) * rotation[2, 2]
    reward_terms_out[env, 2] = rotation[0, 0]
    reward_terms_out[env, 3] = height - least_height
    terminated_out[env] = height < least_height
