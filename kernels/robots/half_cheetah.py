"""HalfCheetah: observation. Coordinates: x, z, pitch of the torso, then six hinges."""

from typing import Any

import warp as wp


@wp.kernel
def observe(
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 9]
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, 9]
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, 17]
):
    """All coordinates but x, and all velocities."""
    env = wp.tid()
    for i in range(8):
        obs_out[env, i] = joint_q_in[env, 1 + i]
    for i in range(9):
        obs_out[env, 8 + i] = joint_qd_in[env, i]
