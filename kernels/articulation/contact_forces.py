"""The ground's force on each body in a state, as the control step has it there."""

from typing import Any

import warp as wp

from kernels.articulation.contact import apply_ground_contact
from kernels.articulation.dynamics import enter_state, move_bodies, place_axes, place_bodies
from kernels.precision import by_precision


@by_precision
def contact_forces(
    # Model:
    model: Any,
    # In:
    joint_q: wp.array2d(dtype=Any),
    joint_qd: wp.array2d(dtype=Any),
    # Out:
    scratch: Any,
    bias: wp.array2d(dtype=Any),  # [num_envs, bodies], spatial vectors
    force: wp.array3d(dtype=Any),  # [num_envs, bodies, 3], world axes, N
):
    """What `apply_ground_contact` takes off each body's bias force."""
    env = wp.tid()
    enter_state(model, scratch, joint_q, joint_qd, env)
    place_bodies(model, scratch, env, 0)
    place_axes(model, scratch, env, 0)
    move_bodies(model, scratch, env, 0)
    for body in range(model.num_bodies):
        bias[env, body] = scratch.bias_force[env, 0, model.slot[body + 1] - 1]
    apply_ground_contact(model, scratch, env, 0)
    for body in range(model.num_bodies):
        change = bias[env, body] - scratch.bias_force[env, 0, model.slot[body + 1] - 1]
        for i in range(3):
            force[env, body, i] = change[i]
