"""What robot environments share: actuation, joint-space observation, random starts."""

from typing import Any

import warp as wp


@wp.kernel
def drive_joints(
    # Model:
    actuator: wp.array(dtype=wp.int32),  # [nv], the action that drives a degree of freedom, or -1
    slope: wp.array(dtype=Any),  # [nv], N or N m per unit of action
    bias: wp.array(dtype=Any),  # [nv], N or N m at no action
    # In:
    action_in: wp.array2d(dtype=Any),  # [num_envs, num_actions], in [-1, 1]
    # Out:
    joint_f_out: wp.array2d(dtype=Any),  # [num_envs, nv], N or N m
):
    """joint_f = bias + slope * action on driven degrees of freedom, zero elsewhere."""
    env, dof = wp.tid()
    a = actuator[dof]
    if a >= 0:
        joint_f_out[env, dof] = slope[dof] * action_in[env, a] + bias[dof]
    else:
        joint_f_out[env, dof] = type(slope[dof])(0.0)


@wp.kernel
def drive_joints_by_gain(
    # Model:
    actuator: wp.array(dtype=wp.int32),  # [nv], the action that drives a degree of freedom, or -1
    slope: wp.array(dtype=Any),  # [nv], N or N m per unit of action, of gain 1 where it varies
    bias: wp.array(dtype=Any),  # [nv], N or N m at no action, the same
    column: wp.array(dtype=wp.int32),  # [nv], of the gear or gain that varies, or -1
    # In:
    parameters_in: wp.array2d(dtype=Any),  # [num_envs, n]
    action_in: wp.array2d(dtype=Any),  # [num_envs, num_actions], in [-1, 1]
    # Out:
    joint_f_out: wp.array2d(dtype=Any),  # [num_envs, nv], N or N m
):
    """As `drive_joints`, times a gear, or a servo's gain, of each environment's own."""
    env, dof = wp.tid()
    a = actuator[dof]
    force = type(slope[dof])(0.0)
    if a >= 0:
        force = slope[dof] * action_in[env, a] + bias[dof]
        if column[dof] >= 0:
            force = force * parameters_in[env, column[dof]]
    joint_f_out[env, dof] = force


@wp.kernel
def copy_rows(
    # In:
    rows_in: wp.array2d(dtype=Any),  # [num_envs, n]
    # Out:
    rows_out: wp.array2d(dtype=Any),  # [num_envs, m >= offset + n]
    offset: wp.int32,
):
    """Copy rows into the columns from `offset` on."""
    env, i = wp.tid()
    rows_out[env, offset + i] = rows_in[env, i]


@wp.kernel
def effort_and_progress(
    # Model:
    progress_dof: wp.int32,  # the degree of freedom whose velocity is rewarded, or -1
    effort_weight: Any,
    # In:
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, nv], after the step
    action_in: wp.array2d(dtype=Any),  # [num_envs, num_actions]
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 2]: progress, effort
    terminated_out: wp.array(dtype=wp.bool),  # [num_envs]
):
    """Velocity along x, and effort = -weight * |action|^2. Never terminates."""
    env = wp.tid()
    squares = type(effort_weight)(0.0)
    for i in range(action_in.shape[1]):
        a = action_in[env, i]
        squares -= effort_weight * a * a
    reward_terms_out[env, 1] = squares
    if progress_dof >= 0:
        reward_terms_out[env, 0] = joint_qd_in[env, progress_dof]
    else:
        reward_terms_out[env, 0] = type(effort_weight)(0.0)
    terminated_out[env] = False


@wp.kernel
def actuator_forces(
    # Model:
    driven: wp.array(dtype=wp.int32),  # [num_actions], degree of freedom
    coordinate: wp.array(dtype=wp.int32),  # [num_actions], in joint_q
    servo: wp.array2d(dtype=Any),  # [rows, 4 num_actions]: kp, kd, least and greatest force
    stride: wp.int32,  # 0: one row for all environments, 1: a row each
    # In:
    joint_f_in: wp.array2d(dtype=Any),  # [num_envs, nv], what actions ask for
    joint_q_in: wp.array2d(dtype=Any),
    joint_qd_in: wp.array2d(dtype=Any),
    # Out:
    force_out: wp.array2d(dtype=Any),  # [num_envs, num_actions], N or N m
):
    """Force of each actuator: clip(joint_f - kp q - kd qd), as the dynamics have it."""
    env, i = wp.tid()
    dof = driven[i]
    row = env * stride
    force = (
        joint_f_in[env, dof]
        - servo[row, 4 * i] * joint_q_in[env, coordinate[i]]
        - servo[row, 4 * i + 1] * joint_qd_in[env, dof]
    )
    force_out[env, i] = wp.clamp(force, servo[row, 4 * i + 2], servo[row, 4 * i + 3])


@wp.kernel(enable_backward=False)
def scatter_coordinates(
    # Model:
    rest: wp.array(dtype=Any),  # [n]
    spread: wp.array(dtype=Any),  # [n]
    stream: wp.int32,  # keeps the draws of two launches apart
    # In:
    rng_in: wp.array(dtype=wp.uint32),  # [num_envs]
    # Out:
    rows_out: wp.array2d(dtype=Any),  # [num_envs, n]
):
    """Each coordinate = rest + spread * U(-1, 1)."""
    env = wp.tid()
    rng = wp.rand_init(wp.int32(rng_in[env]), stream)
    for i in range(rows_out.shape[1]):
        draw = type(rest[i])(2.0) * type(rest[i])(wp.randf(rng)) - type(rest[i])(1.0)
        rows_out[env, i] = rest[i] + spread[i] * draw


@wp.kernel(enable_backward=False)
def tilt_root(
    # Model:
    largest_angle: Any,
    stream: wp.int32,
    # In:
    rng_in: wp.array(dtype=wp.uint32),  # [num_envs]
    # Out:
    joint_q_out: wp.array2d(dtype=Any),  # [num_envs, nq], of a free first body
):
    """Turn the root by U(-1, 1) * largest_angle about an axis drawn uniformly from the sphere."""
    env = wp.tid()
    rng = wp.rand_init(wp.int32(rng_in[env]), stream)
    axis = wp.sample_unit_sphere_surface(rng)
    half = type(largest_angle)(0.5 * (2.0 * wp.randf(rng) - 1.0)) * largest_angle
    sine = wp.sin(half)
    for i in range(3):
        joint_q_out[env, 3 + i] = sine * type(largest_angle)(axis[i])
    joint_q_out[env, 6] = wp.cos(half)
