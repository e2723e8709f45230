"""What robots on a free base observe and earn. Coordinates: base (7), then hinges.

Position and velocity of the base are those of its frame's origin, not of its centre of mass.
"""

from typing import Any

import warp as wp


@wp.func
def base_rotation(joint_q: wp.array2d(dtype=Any), env: wp.int32):
    """The base's rotation matrix."""
    return wp.quat_to_matrix(
        wp.quaternion(joint_q[env, 3], joint_q[env, 4], joint_q[env, 5], joint_q[env, 6])
    )


@wp.func
def origin_velocity(joint_qd: wp.array2d(dtype=Any), rotation: Any, com: Any, env: wp.int32):
    """The origin's v_com - omega x (R com); joint_qd starts with the centre of mass's v_com."""
    omega = wp.vector(joint_qd[env, 3], joint_qd[env, 4], joint_qd[env, 5])
    return wp.vector(joint_qd[env, 0], joint_qd[env, 1], joint_qd[env, 2]) - wp.cross(
        omega, rotation * com
    )


@wp.func
def heading(joint_q: wp.array2d(dtype=Any), rotation: Any, target: Any, env: wp.int32):
    """Cosine between the base's forward axis and the horizontal direction to (target, 0).

    At the target itself, where there is no direction, it is zero.
    """
    x = target - joint_q[env, 0]
    y = -joint_q[env, 1]
    distance = wp.sqrt(wp.max(x * x + y * y, type(x)(1.0e-12)))
    return (rotation[0, 0] * x + rotation[1, 0] * y) / distance


@wp.kernel
def observe(
    # Model:
    com: Any,  # vec3, the base's centre of mass in its frame [m]
    target: Any,  # x of the place to go to [m]
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 7 + n]
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, 6 + n]
    action_in: wp.array2d(dtype=Any),  # [num_envs, n], the one just applied
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, 13 + 3 n]
):
    """Height, orientation, velocities, hinges, uprightness, heading, action."""
    env = wp.tid()
    n = joint_q_in.shape[1] - 7
    rotation = base_rotation(joint_q_in, env)
    velocity = origin_velocity(joint_qd_in, rotation, com, env)
    obs_out[env, 0] = joint_q_in[env, 2]
    for i in range(4):
        obs_out[env, 1 + i] = joint_q_in[env, 3 + i]
    for i in range(3):
        obs_out[env, 5 + i] = velocity[i]
        obs_out[env, 8 + i] = joint_qd_in[env, 3 + i]
    for i in range(n):
        obs_out[env, 11 + i] = joint_q_in[env, 7 + i]
        obs_out[env, 11 + n + i] = type(joint_qd_in[env, 6 + i])(0.1) * joint_qd_in[env, 6 + i]
        obs_out[env, 13 + 2 * n + i] = action_in[env, i]
    obs_out[env, 11 + 2 * n] = rotation[2, 2]
    obs_out[env, 12 + 2 * n] = heading(joint_q_in, rotation, target, env)


@wp.kernel
def reward(
    # Model:
    com: Any,  # vec3, the base's centre of mass in its frame [m]
    target: Any,  # x of the place to go to [m]
    effort_weight: Any,
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 7 + n], after the step
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, 6 + n]
    action_in: wp.array2d(dtype=Any),  # [num_envs, n]
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 5]: progress, up, heading, -, effort
):
    """v_x, 0.1 up, heading and -weight |action|^2; the term of the height is each robot's own."""
    env = wp.tid()
    rotation = base_rotation(joint_q_in, env)
    velocity = origin_velocity(joint_qd_in, rotation, com, env)
    reward_terms_out[env, 0] = velocity[0]
    reward_terms_out[env, 1] = type(target)(0.1) * rotation[2, 2]
    reward_terms_out[env, 2] = heading(joint_q_in, rotation, target, env)
    squares = type(effort_weight)(0.0)
    for i in range(action_in.shape[1]):
        squares -= effort_weight * action_in[env, i] * action_in[env, i]
    reward_terms_out[env, 4] = squares


@wp.kernel
def above(
    # Model:
    least_height: Any,
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 7 + n], after the step
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 5]
    terminated_out: wp.array(dtype=wp.bool),  # [num_envs]
):
    """Height term h - least_height; terminates below that."""
    env = wp.tid()
    height = joint_q_in[env, 2]
    reward_terms_out[env, 3] = height - least_height
    terminated_out[env] = height < least_height


@wp.kernel
def upright_above(
    # Model:
    least_height: Any,
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 7 + n], after the step
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 5]
    terminated_out: wp.array(dtype=wp.bool),  # [num_envs]
):
    """Height term of d = h - (least_height + 0.1) clipped to [-1, 0.1]; terminates below the least.

    -200 d^2 where d is negative, 10 d elsewhere; outside the clip its gradient is zero.
    """
    env = wp.tid()
    height = joint_q_in[env, 2]
    d = wp.clamp(height - (least_height + type(height)(0.1)), type(height)(-1.0), type(height)(0.1))
    if d < type(d)(0.0):
        reward_terms_out[env, 3] = type(d)(-200.0) * d * d
    else:
        reward_terms_out[env, 3] = type(d)(10.0) * d
    terminated_out[env] = height < least_height


@wp.kernel(enable_backward=False)
def carry_with_twist(
    # Model:
    com: Any,  # vec3, the base's centre of mass in its frame [m]
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 7 + n]
    # Out:
    joint_qd_out: wp.array2d(dtype=Any),  # [num_envs, 6 + n]
):
    """From the velocity of the base's point at the world's origin to that of its centre of mass."""
    env = wp.tid()
    omega = wp.vector(joint_qd_out[env, 3], joint_qd_out[env, 4], joint_qd_out[env, 5])
    place = wp.vector(joint_q_in[env, 0], joint_q_in[env, 1], joint_q_in[env, 2])
    turning = wp.cross(omega, place + base_rotation(joint_q_in, env) * com)
    for i in range(3):
        joint_qd_out[env, i] = joint_qd_out[env, i] + turning[i]
