"""The ground's forces on the bodies in a state, as the control step has them there."""

from functools import partial
from typing import Any

import warp as wp

from kernels.articulation.contact import apply_ground_contact, touch, touching_force
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


@partial(by_precision, enable_backward=False)
def touching_points(
    # Model:
    model: Any,
    # In:
    joint_q: wp.array2d(dtype=Any),
    joint_qd: wp.array2d(dtype=Any),
    # Out:
    scratch: Any,
    force: wp.array3d(dtype=Any),  # [num_envs, contacts, 3], world axes, N
    point: wp.array3d(dtype=Any),  # [num_envs, contacts, 3], world, m
    pressure: wp.array2d(dtype=Any),  # [num_envs, contacts], the force along the ground's normal, N
):
    """The ground's force at each contact, and where; no force where it does not touch."""
    env = wp.tid()
    enter_state(model, scratch, joint_q, joint_qd, env)
    place_bodies(model, scratch, env, 0)
    place_axes(model, scratch, env, 0)
    move_bodies(model, scratch, env, 0)
    for contact in range(model.num_contacts):
        body = model.contact_body[contact]
        touching, axes, depth = touch(model, scratch, env, 0, contact)
        zero = type(depth)(0.0)
        there = scratch.origin[env, 0, body] + touching
        of_ground = wp.vector(zero, zero, zero)
        if depth > zero:
            of_ground = touching_force(model, scratch, env, 0, body, touching, axes, depth)
        found = axes * of_ground
        pressure[env, contact] = of_ground[2]
        for i in range(3):
            force[env, contact, i] = found[i]
            point[env, contact, i] = there[i]
