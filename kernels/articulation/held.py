"""A control step whose mass matrix is that of some of its substeps only, held in between.

The simulator of Xu et al. (2022) takes the mass matrix M of a substep through the following ones,
while all forces are those of each substep:

    M(q_0) a_t = tau(q_t, qd_t) - c(q_t, qd_t)

Of a floating body a is the acceleration of its twist, about the point at which its centre of mass
was at q_0: there M is constant. In the coordinates of this package, the velocity v of the centre of
mass, which has moved on by d, and the angular velocity omega, with the force f and the moment m
about the centre of mass and a = (a_v, a_omega),

    moment about the point  m + d x f          v' = a_v + a_omega x d + omega x v
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.articulation.contact import apply_ground_contact
from kernels.articulation.data import FREE
from kernels.articulation.dynamics import (
    apply_joint_forces,
    enter_state,
    integrate,
    move_bodies,
    place_axes,
    place_bodies,
    read_vector,
)
from kernels.articulation.passive import apply_cords, apply_couplings, apply_drags, apply_lifts
from kernels.articulation.spatial import angular, linear, rigid_inertia, spatial, zero_motion
from kernels.precision import by_precision, precision_of, stores_only


@cache
def held_type(scalar: type) -> Any:
    """The struct of what a held matrix adds to a run's intermediates, on one scalar type.

    Indices are (environment, renewal or substep, item); a matrix's entry is row * num_dofs +
    column.
    """
    types = precision_of(scalar)

    class Held:
        # per renewal
        composite: wp.array3d(dtype=types.mat66)  # per body: what it carries included
        matrix: wp.array3d(dtype=scalar)  # M, at and above the diagonal
        rest: wp.array3d(dtype=scalar)  # M less the columns of its factor before
        lower: wp.array3d(dtype=scalar)  # L, M = L L^T
        # per substep
        wrench: wp.array3d(dtype=types.vec6)  # per body: what moves it and what it carries
        force: wp.array3d(dtype=scalar)  # tau - c
        forward_rest: wp.array3d(dtype=scalar)  # per dof, as the following
        forward: wp.array3d(dtype=scalar)  # L^-1 force
        backward_rest: wp.array3d(dtype=scalar)
        acceleration: wp.array3d(dtype=scalar)  # a

    Held.__name__ = Held.__qualname__ = f"Held_{scalar.__name__}"
    return wp.struct(Held)


@wp.func
def own_inertia(model: Any, scratch: Any, env: int, step: int, body: int):
    """A body's spatial inertia."""
    row = env * model.stride
    rotation = scratch.rotation[env, step, body]
    return rigid_inertia(
        model.mass[row, body],
        scratch.position[env, step, body] + rotation * model.com[row, body],
        rotation * model.inertia[row, body] * wp.transpose(rotation),
    )


@stores_only
@wp.func
def renew_matrix(model: Any, scratch: Any, held: Any, env: int, step: int, at: int, lag: Any):
    """The mass matrix by composite bodies, and its Cholesky factor.

    `lag` is how much later the joints' damping acts than the other forces [s].
    """
    row = env * model.stride
    size = model.num_dofs
    for body in range(model.num_bodies):
        held.composite[env, at, body] = own_inertia(model, scratch, env, step, body)
    for i in range(model.num_bodies):
        body = model.num_bodies - 1 - i
        parent = model.parent[body]
        if parent >= 0:
            held.composite[env, at, parent] += held.composite[env, at, body]
    for body in range(model.num_bodies):
        for column in range(model.qd_start[body], model.qd_start[body + 1]):
            momentum = held.composite[env, at, body] * scratch.axis[env, step, column]
            for k in range(column + 1):
                entry = wp.dot(scratch.axis[env, step, k], momentum)
                entry = entry * type(entry)(model.moves[k, body])
                if k == column:
                    entry = entry + model.armature[row, k] + lag * model.damping[row, k]
                held.matrix[env, at, k * size + column] = entry
    for i in range(size):
        for j in range(i + 1):
            here = i * size + j
            held.rest[env, at, here] = held.matrix[env, at, j * size + i]
            for k in range(j):
                left = held.lower[env, at, i * size + k]
                right = held.lower[env, at, j * size + k]
                held.rest[env, at, here] -= left * right
            rest = held.rest[env, at, here]
            if j == i:
                held.lower[env, at, here] = wp.sqrt(rest)
            if j < i:
                pivot = held.lower[env, at, j * size + j]
                held.lower[env, at, here] = rest / pivot


@stores_only
@wp.func
def free_forces(model: Any, scratch: Any, held: Any, env: int, step: int, start: int):
    """What is left of all forces to accelerate the joints, tau - c; renewed in substep `start`."""
    row = env * model.stride
    for body in range(model.num_bodies):
        parent = model.parent[body]
        last = model.qd_start[body + 1] + body
        product = scratch.velocity_product[env, step, body]
        if model.joint_kind[body] == FREE:
            product = zero_motion(model.mass[row, body])
        if parent >= 0:
            above = scratch.acceleration[env, step, model.qd_start[parent + 1] + parent]
            scratch.acceleration[env, step, last] = above + product
        if parent < 0:
            scratch.acceleration[env, step, last] = product - spatial(
                model.gravity[row, 0], angular(zero_motion(model.mass[row, body]))
            )
        inertia = own_inertia(model, scratch, env, step, body)
        held.wrench[env, step, body] = (
            inertia * scratch.acceleration[env, step, last]
            + scratch.bias_force[env, step, model.slot[body + 1] - 1]
        )
    for i in range(model.num_bodies):
        body = model.num_bodies - 1 - i
        parent = model.parent[body]
        if parent >= 0:
            held.wrench[env, step, parent] += held.wrench[env, step, body]
    for body in range(model.num_bodies):
        first = model.qd_start[body]
        wrench = held.wrench[env, step, body]
        if model.joint_kind[body] != FREE:
            for dof in range(first, model.qd_start[body + 1]):
                held.force[env, step, dof] = scratch.joint_force[env, step, dof] - wp.dot(
                    scratch.axis[env, step, dof], wrench
                )
        if model.joint_kind[body] == FREE:
            arm = scratch.origin[env, step, body] - scratch.origin[env, start, body]
            push = read_vector(scratch.joint_force, env, step, first) - linear(wrench)
            turn = read_vector(scratch.joint_force, env, step, first + 3) - angular(wrench)
            turn = turn + wp.cross(arm, push)
            for k in range(3):
                held.force[env, step, first + k] = push[k]
                held.force[env, step, first + 3 + k] = turn[k]


@stores_only
@wp.func
def accelerate(model: Any, scratch: Any, held: Any, env: int, step: int, start: int, at: int):
    """Joint accelerations by the factor that was made in substep `start`."""
    size = model.num_dofs
    for i in range(size):
        held.forward_rest[env, step, i] = held.force[env, step, i]
        for k in range(i):
            entry = held.lower[env, at, i * size + k]
            before = held.forward[env, step, k]
            held.forward_rest[env, step, i] -= entry * before
        rest = held.forward_rest[env, step, i]
        pivot = held.lower[env, at, i * size + i]
        held.forward[env, step, i] = rest / pivot
    for j in range(size):
        i = size - 1 - j
        held.backward_rest[env, step, i] = held.forward[env, step, i]
        for k in range(i + 1, size):
            entry = held.lower[env, at, k * size + i]
            before = held.acceleration[env, step, k]
            held.backward_rest[env, step, i] -= entry * before
        rest = held.backward_rest[env, step, i]
        pivot = held.lower[env, at, i * size + i]
        held.acceleration[env, step, i] = rest / pivot
    for body in range(model.num_bodies):
        first = model.qd_start[body]
        for dof in range(first, model.qd_start[body + 1]):
            if model.joint_kind[body] != FREE:
                scratch.joint_qdd[env, step, dof] = held.acceleration[env, step, dof]
        if model.joint_kind[body] == FREE:
            arm = scratch.origin[env, step, body] - scratch.origin[env, start, body]
            push = read_vector(held.acceleration, env, step, first)
            turn = read_vector(held.acceleration, env, step, first + 3)
            speed = read_vector(scratch.joint_qd, env, step, first)
            omega = read_vector(scratch.joint_qd, env, step, first + 3)
            push = push + wp.cross(turn, arm) + wp.cross(omega, speed)
            for k in range(3):
                scratch.joint_qdd[env, step, first + k] = push[k]
                scratch.joint_qdd[env, step, first + 3 + k] = turn[k]


@by_precision
def held_control_step(
    # Model:
    model: Any,
    dt: Any,
    substeps: int,
    every: int,
    # In:
    joint_q: wp.array2d(dtype=Any),
    joint_qd: wp.array2d(dtype=Any),
    joint_f: wp.array2d(dtype=Any),
    # Out:
    scratch: Any,
    held: Any,
    next_joint_q: wp.array2d(dtype=Any),
    next_joint_qd: wp.array2d(dtype=Any),
):
    """As `kernels.articulation.dynamics.control_step`, M renewed in every `every`-th substep."""
    env = wp.tid()
    enter_state(model, scratch, joint_q, joint_qd, env)
    for step in range(substeps):
        at = step // every
        start = at * every
        place_bodies(model, scratch, env, step)
        place_axes(model, scratch, env, step)
        move_bodies(model, scratch, env, step)
        apply_lifts(model, scratch, env, step)
        apply_drags(model, scratch, env, step)
        apply_cords(model, scratch, env, step)
        apply_ground_contact(model, scratch, env, step)
        apply_joint_forces(model, scratch, joint_f, env, step)
        apply_couplings(model, scratch, env, step)
        if step == start:
            renew_matrix(model, scratch, held, env, step, at, dt * model.implicit_damping)
        free_forces(model, scratch, held, env, step, start)
        accelerate(model, scratch, held, env, step, start, at)
        integrate(model, scratch, env, step, dt)
    for i in range(model.num_coordinates):
        next_joint_q[env, i] = scratch.joint_q[env, substeps, i]
    for i in range(model.num_dofs):
        next_joint_qd[env, i] = scratch.joint_qd[env, substeps, i]
