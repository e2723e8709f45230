"""Dynamics of trees of rigid bodies: kinematics, articulated-body algorithm, control step.

One thread simulates one environment. All spatial quantities of a tree are in world-aligned axes
about one origin, the centre of mass of the tree's root (see `kernels.articulation.spatial`), so
children add to parents without transforms and nothing loses digits far from the world's origin.

The articulated-body algorithm (Featherstone 2008, chapter 7) eliminates one degree of freedom at a
time, which is exact for joints with any number of them and needs no block inverse; a free root,
above which nothing is left, is solved at once. With I the inertia and p the bias force of what
hangs on a joint, s a motion axis and c the joint's velocity-product bias:

    inward    U = I s    d = s.U + armature (+ h damping)    u = tau - s.p
              I <- I - U U^T / d    p <- p + U u / d
              and, after the joint's last axis,  I_parent += I    p_parent += p + I c
    outward   a = a_parent + c    then per axis    qdd = (u - U.a) / d    a <- a + s qdd

Every substep and every elimination has its own array elements: nothing that was read is
overwritten, accumulators are complete before they are read, and Warp's adjoint is exact.
"""

from typing import Any

import warp as wp

from kernels.articulation.contact import apply_ground_contact
from kernels.articulation.data import FIXED, FREE, PRISMATIC, REVOLUTE, SPHERICAL
from kernels.articulation.passive import (
    apply_cords,
    apply_couplings,
    apply_drags,
    apply_lifts,
    ball_pull,
)
from kernels.articulation.spatial import (
    angular,
    cross_force,
    cross_motion,
    linear,
    rigid_inertia,
    solve_spatial,
    spatial,
    unit_motion,
    zero_motion,
)
from kernels.precision import by_precision, stores_only


@wp.func
def read_quaternion(joint_q: Any, env: int, step: int, start: int):
    """The unit quaternion along four coordinates; its gradient is tangent to the sphere."""
    return wp.normalize(
        wp.quaternion(
            joint_q[env, step, start],
            joint_q[env, step, start + 1],
            joint_q[env, step, start + 2],
            joint_q[env, step, start + 3],
        )
    )


@wp.func
def read_vector(values: Any, env: int, step: int, start: int):
    """The three-vector along three entries."""
    return wp.vector(
        values[env, step, start], values[env, step, start + 1], values[env, step, start + 2]
    )


@wp.func
def joint_turn(kind: int, axis: Any, frame: Any, joint_q: Any, env: int, step: int, start: int):
    """Rotation of a body by its joint, in the body's axes, a unit quaternion.

    Args:
        kind: kind of joint.
        axis: of a hinge, in the body's axes.
        frame: orientation of a ball's frame in the body's axes.
        joint_q: coordinates.
        env: environment.
        step: substep.
        start: first coordinate of the joint.
    """
    zero = type(axis[0])(0.0)
    turn = wp.quaternion(zero, zero, zero, type(axis[0])(1.0))
    if kind == REVOLUTE:
        half = type(axis[0])(0.5) * joint_q[env, step, start]
        sine = wp.sin(half)
        turn = wp.quaternion(sine * axis[0], sine * axis[1], sine * axis[2], wp.cos(half))
    if kind == SPHERICAL:
        turn = frame * read_quaternion(joint_q, env, step, start) * wp.quat_inverse(frame)
    if kind == FREE:
        turn = read_quaternion(joint_q, env, step, start + 3)
    return turn


@stores_only
@wp.func
def place_bodies(model: Any, scratch: Any, env: int, step: int):
    """Poses and rigid inertias of all bodies, roots to leaves."""
    row = env * model.stride
    for body in range(model.num_bodies):
        kind = model.joint_kind[body]
        parent = model.parent[body]
        q = model.q_start[body]
        axis = model.axis[body]
        com = model.com[row, body]
        turn = joint_turn(kind, axis, model.child_rotation[body], scratch.joint_q, env, step, q)
        orientation = model.rest_rotation[body] * turn
        # where the joint's anchor is: relative to the origin, or in the world for a root
        anchor = model.parent_position[body]
        arm = -model.child_position[body]
        if kind == PRISMATIC:
            arm = arm + axis * scratch.joint_q[env, step, q]
        if kind == FREE:
            anchor = read_vector(scratch.joint_q, env, step, q)
        if parent >= 0:
            orientation = scratch.orientation[env, step, parent] * orientation
            anchor = (
                scratch.position[env, step, parent] + scratch.rotation[env, step, parent] * anchor
            )
        rotation = wp.quat_to_matrix(orientation)
        center = rotation * com
        position = anchor + rotation * arm
        if parent < 0:
            scratch.origin[env, step, body] = position + center
            position = -center
        if parent >= 0:
            scratch.origin[env, step, body] = scratch.origin[env, step, parent]
        scratch.orientation[env, step, body] = orientation
        scratch.rotation[env, step, body] = rotation
        scratch.position[env, step, body] = position
        scratch.inertia[env, step, model.slot[body + 1] - 1] = rigid_inertia(
            model.mass[row, body],
            position + center,
            rotation * model.inertia[row, body] * wp.transpose(rotation),
        )


@stores_only
@wp.func
def place_axes(model: Any, scratch: Any, env: int, step: int):
    """Motion axes s: the spatial velocity of a joint's body per unit speed of each axis."""
    for body in range(model.num_bodies):
        kind = model.joint_kind[body]
        dof = model.qd_start[body]
        rotation = scratch.rotation[env, step, body]
        anchor = scratch.position[env, step, body] + rotation * model.child_position[body]
        direction = rotation * model.axis[body]
        if kind == REVOLUTE:
            scratch.axis[env, step, dof] = spatial(wp.cross(anchor, direction), direction)
        if kind == PRISMATIC:
            scratch.axis[env, step, dof] = spatial(direction, angular(zero_motion(direction[0])))
        if kind == SPHERICAL:
            # the frame on the parent: the body's, turned back
            frame = model.child_rotation[body]
            q = read_quaternion(scratch.joint_q, env, step, model.q_start[body])
            frame = scratch.orientation[env, step, body] * frame * wp.quat_inverse(q)
            axes = wp.quat_to_matrix(frame)
            for k in range(3):
                pivot = wp.vector(axes[0, k], axes[1, k], axes[2, k])
                scratch.axis[env, step, dof + k] = spatial(wp.cross(anchor, pivot), pivot)
        if kind == FREE:
            for k in range(6):
                scratch.axis[env, step, dof + k] = unit_motion(k, direction[0])


@stores_only
@wp.func
def move_bodies(model: Any, scratch: Any, env: int, step: int):
    """Velocities of all bodies, velocity products c and bias forces p = v x* (I v)."""
    row = env * model.stride
    for body in range(model.num_bodies):
        parent = model.parent[body]
        carried = zero_motion(model.mass[row, body])
        if parent >= 0:
            carried = scratch.velocity[env, step, parent]
        # summed in an array: an adjoint does not run a loop of unknown length again, so a local
        # would have its first value where the products below are differentiated
        scratch.velocity[env, step, body] = carried
        for dof in range(model.qd_start[body], model.qd_start[body + 1]):
            scratch.velocity[env, step, body] += (
                scratch.axis[env, step, dof] * scratch.joint_qd[env, step, dof]
            )
        velocity = scratch.velocity[env, step, body]
        # axes fixed in the parent turn with it; those of a free joint keep their directions while
        # their origin, the centre of mass, moves on
        product = cross_motion(carried, velocity)
        if model.joint_kind[body] == FREE:
            product = spatial(
                wp.cross(linear(velocity), angular(velocity)),
                angular(zero_motion(model.mass[row, body])),
            )
        slot = model.slot[body + 1] - 1
        # not read from scratch.inertia, which holds articulated inertias when an adjoint reads it
        rotation = scratch.rotation[env, step, body]
        own_inertia = rigid_inertia(
            model.mass[row, body],
            scratch.position[env, step, body] + rotation * model.com[row, body],
            rotation * model.inertia[row, body] * wp.transpose(rotation),
        )
        momentum = own_inertia * velocity
        scratch.velocity_product[env, step, body] = product
        scratch.bias_force[env, step, slot] = cross_force(velocity, momentum)


@stores_only
@wp.func
def apply_joint_forces(model: Any, scratch: Any, joint_f: Any, env: int, step: int):
    """Forces on the joints' axes: applied, servo (hinges and slides), damping, spring, limits."""
    row = env * model.stride
    for dof in range(model.num_dofs):
        applied = joint_f[env, dof]
        coordinate = model.coordinate[dof]
        if coordinate >= 0:
            applied = wp.clamp(
                applied
                - model.servo_kp[row, dof] * scratch.joint_q[env, step, coordinate]
                - model.servo_kd[row, dof] * scratch.joint_qd[env, step, dof],
                model.servo_least[row, dof],
                model.servo_most[row, dof],
            )
        force = applied - model.damping[row, dof] * scratch.joint_qd[env, step, dof]
        if coordinate >= 0:
            q = scratch.joint_q[env, step, coordinate]
            force = force - model.stiffness[row, dof] * (q - model.rest[row, dof])
            if q < model.lower[dof]:
                force = force + model.limit_ke[row, dof] * (model.lower[dof] - q)
            if q > model.upper[dof]:
                force = force + model.limit_ke[row, dof] * (model.upper[dof] - q)
        scratch.joint_force[env, step, dof] = force
    for body in range(model.num_bodies):
        if model.joint_kind[body] == SPHERICAL:
            dof = model.qd_start[body]
            pull = ball_pull(
                read_quaternion(scratch.joint_q, env, step, model.q_start[body]),
                model.stiffness[row, dof],
                model.limit_ke[row, dof],
                model.upper[dof],
            )
            for k in range(3):
                scratch.joint_force[env, step, dof + k] += pull[k]


@stores_only
@wp.func
def eliminate_axes(model: Any, scratch: Any, env: int, step: int, lag: Any):
    """Leaves to roots: articulated inertias and bias forces, one axis after the other.

    `lag` is how much later the joints' damping acts than the other forces [s].
    """
    row = env * model.stride
    for i in range(model.num_bodies):
        body = model.num_bodies - 1 - i
        parent = model.parent[body]
        first = model.qd_start[body]
        slot = model.slot[body]
        # where this body's articulated inertia is added; a root adds to nothing
        target = model.slot[parent + 1] - 1
        if model.joint_kind[body] == FIXED:
            if parent >= 0:
                scratch.inertia[env, step, target] += scratch.inertia[env, step, slot]
                scratch.bias_force[env, step, target] += scratch.bias_force[env, step, slot]
        axes = model.qd_start[body + 1] - first
        if model.joint_kind[body] == FREE:
            axes = 0  # nothing above takes its inertia: solved at once on the way out
        for j in range(axes):
            k = axes - 1 - j
            dof = first + k
            inertia = scratch.inertia[env, step, slot + k]
            bias_force = scratch.bias_force[env, step, slot + k]
            axis = scratch.axis[env, step, dof]
            axis_force = inertia * axis
            axis_inertia = wp.dot(axis, axis_force) + model.armature[row, dof]
            axis_inertia = axis_inertia + lag * model.damping[row, dof]
            free_force = scratch.joint_force[env, step, dof] - wp.dot(axis, bias_force)
            scaled = axis_force * (type(axis_inertia)(1.0) / axis_inertia)
            rest_inertia = inertia - wp.outer(axis_force, scaled)
            rest_force = bias_force + scaled * free_force
            scratch.axis_force[env, step, dof] = axis_force
            scratch.axis_inertia[env, step, dof] = axis_inertia
            scratch.free_force[env, step, dof] = free_force
            if k > 0:
                scratch.inertia[env, step, slot + k - 1] = rest_inertia
                scratch.bias_force[env, step, slot + k - 1] = rest_force
            if k == 0:
                if parent >= 0:
                    product = scratch.velocity_product[env, step, body]
                    scratch.inertia[env, step, target] += rest_inertia
                    scratch.bias_force[env, step, target] += rest_force + rest_inertia * product


@stores_only
@wp.func
def accelerate_bodies(model: Any, scratch: Any, env: int, step: int):
    """Roots to leaves: joint accelerations."""
    row = env * model.stride
    for body in range(model.num_bodies):
        parent = model.parent[body]
        first = model.qd_start[body]
        # the root accelerates against gravity, which spares every body its weight
        acceleration = scratch.velocity_product[env, step, body]
        if parent >= 0:
            acceleration = (
                acceleration + scratch.acceleration[env, step, model.qd_start[parent + 1] + parent]
            )
        if parent < 0:
            acceleration = acceleration - spatial(
                model.gravity[row, 0], angular(zero_motion(model.mass[row, body]))
            )
        scratch.acceleration[env, step, first + body] = acceleration
        axes = model.qd_start[body + 1] - first
        if model.joint_kind[body] == FREE:
            axes = 0
            joint_force = spatial(
                read_vector(scratch.joint_force, env, step, first),
                read_vector(scratch.joint_force, env, step, first + 3),
            )
            inertia = scratch.inertia[env, step, model.slot[body]]
            bias_force = scratch.bias_force[env, step, model.slot[body]]
            free_qdd = solve_spatial(
                inertia,
                model.armature[row, first],
                joint_force - bias_force - inertia * acceleration,
            )
            for i in range(6):
                scratch.joint_qdd[env, step, first + i] = free_qdd[i]
            scratch.acceleration[env, step, first + 6 + body] = acceleration + free_qdd
        for dof in range(first, first + axes):
            before = scratch.acceleration[env, step, dof + body]
            qdd = (
                scratch.free_force[env, step, dof]
                - wp.dot(scratch.axis_force[env, step, dof], before)
            ) / scratch.axis_inertia[env, step, dof]
            scratch.joint_qdd[env, step, dof] = qdd
            scratch.acceleration[env, step, dof + body + 1] = (
                before + scratch.axis[env, step, dof] * qdd
            )


@wp.func
def turned(orientation: Any, omega: Any, dt: Any):
    """The unit quaternion `orientation` after `dt` at angular velocity `omega` (outer axes)."""
    half = dt * type(dt)(0.5)
    rate = wp.quaternion(half * omega[0], half * omega[1], half * omega[2], type(dt)(0.0))
    return wp.normalize(orientation + rate * orientation)


@stores_only
@wp.func
def integrate(model: Any, scratch: Any, env: int, step: int, dt: Any):
    """Semi-implicit Euler: qd' = qd + dt qdd, then q' = q + dt qd' in the joint's own terms."""
    row = env * model.stride
    for dof in range(model.num_dofs):
        scratch.joint_qd[env, step + 1, dof] = (
            scratch.joint_qd[env, step, dof] + dt * scratch.joint_qdd[env, step, dof]
        )
        coordinate = model.coordinate[dof]
        if coordinate >= 0:
            scratch.joint_q[env, step + 1, coordinate] = (
                scratch.joint_q[env, step, coordinate] + dt * scratch.joint_qd[env, step + 1, dof]
            )
    for body in range(model.num_bodies):
        kind = model.joint_kind[body]
        first = model.qd_start[body]
        q = model.q_start[body]
        if kind == SPHERICAL:
            omega = read_vector(scratch.joint_qd, env, step + 1, first)
            orientation = turned(read_quaternion(scratch.joint_q, env, step, q), omega, dt)
            for i in range(4):
                scratch.joint_q[env, step + 1, q + i] = orientation[i]
        if kind == FREE:
            speed = read_vector(scratch.joint_qd, env, step + 1, first)
            omega = read_vector(scratch.joint_qd, env, step + 1, first + 3)
            orientation = turned(read_quaternion(scratch.joint_q, env, step, q + 3), omega, dt)
            # the centre of mass moves with `speed`; put the frame back onto it
            com = model.com[row, body]
            location = read_vector(scratch.joint_q, env, step, q) + (
                speed * dt
                + scratch.rotation[env, step, body] * com
                - wp.quat_to_matrix(orientation) * com
            )
            for i in range(3):
                scratch.joint_q[env, step + 1, q + i] = location[i]
            for i in range(4):
                scratch.joint_q[env, step + 1, q + 3 + i] = orientation[i]


@stores_only
@wp.func
def enter_state(model: Any, scratch: Any, joint_q: Any, joint_qd: Any, env: int):
    """Copy a state into the first substep."""
    for i in range(model.num_coordinates):
        scratch.joint_q[env, 0, i] = joint_q[env, i]
    for i in range(model.num_dofs):
        scratch.joint_qd[env, 0, i] = joint_qd[env, i]


@by_precision
def control_step(
    # Model:
    model: Any,
    dt: Any,
    substeps: int,
    # In:
    joint_q: wp.array2d(dtype=Any),
    joint_qd: wp.array2d(dtype=Any),
    joint_f: wp.array2d(dtype=Any),
    # Out:
    scratch: Any,
    next_joint_q: wp.array2d(dtype=Any),
    next_joint_qd: wp.array2d(dtype=Any),
):
    """Simulate `substeps` steps of `dt` [s] under constant joint forces."""
    env = wp.tid()
    enter_state(model, scratch, joint_q, joint_qd, env)
    for step in range(substeps):
        place_bodies(model, scratch, env, step)
        place_axes(model, scratch, env, step)
        move_bodies(model, scratch, env, step)
        apply_lifts(model, scratch, env, step)
        apply_drags(model, scratch, env, step)
        apply_cords(model, scratch, env, step)
        apply_ground_contact(model, scratch, env, step)
        apply_joint_forces(model, scratch, joint_f, env, step)
        apply_couplings(model, scratch, env, step)
        eliminate_axes(model, scratch, env, step, dt * model.implicit_damping)
        accelerate_bodies(model, scratch, env, step)
        integrate(model, scratch, env, step, dt)
    for i in range(model.num_coordinates):
        next_joint_q[env, i] = scratch.joint_q[env, substeps, i]
    for i in range(model.num_dofs):
        next_joint_qd[env, i] = scratch.joint_qd[env, substeps, i]


@by_precision
def forward_dynamics(
    # Model:
    model: Any,
    # In:
    joint_q: wp.array2d(dtype=Any),
    joint_qd: wp.array2d(dtype=Any),
    joint_f: wp.array2d(dtype=Any),
    # Out:
    scratch: Any,
    joint_qdd: wp.array2d(dtype=Any),
):
    """Joint accelerations: M qdd + c(q, qd) = joint_f + gravity."""
    env = wp.tid()
    enter_state(model, scratch, joint_q, joint_qd, env)
    place_bodies(model, scratch, env, 0)
    place_axes(model, scratch, env, 0)
    move_bodies(model, scratch, env, 0)
    apply_lifts(model, scratch, env, 0)
    for dof in range(model.num_dofs):
        scratch.joint_force[env, 0, dof] = joint_f[env, dof]
    eliminate_axes(model, scratch, env, 0, type(model.implicit_damping)(0.0))
    accelerate_bodies(model, scratch, env, 0)
    for dof in range(model.num_dofs):
        joint_qdd[env, dof] = scratch.joint_qdd[env, 0, dof]


@by_precision
def mass_matrix(
    # Model:
    model: Any,
    # In:
    joint_q: wp.array2d(dtype=Any),
    # Out:
    scratch: Any,
    matrix: wp.array3d(dtype=Any),
):
    """Joint-space inertia by composite rigid bodies (Featherstone 2008, section 6.2)."""
    env = wp.tid()
    own = env * model.stride
    for i in range(model.num_coordinates):
        scratch.joint_q[env, 0, i] = joint_q[env, i]
    place_bodies(model, scratch, env, 0)
    place_axes(model, scratch, env, 0)
    for i in range(model.num_bodies):
        body = model.num_bodies - 1 - i
        parent = model.parent[body]
        if parent >= 0:
            scratch.inertia[env, 0, model.slot[parent + 1] - 1] += scratch.inertia[
                env, 0, model.slot[body + 1] - 1
            ]
    for body in range(model.num_bodies):
        composite = scratch.inertia[env, 0, model.slot[body + 1] - 1]
        for column in range(model.qd_start[body], model.qd_start[body + 1]):
            momentum = composite * scratch.axis[env, 0, column]
            for row in range(column + 1):
                entry = wp.dot(scratch.axis[env, 0, row], momentum)
                entry = entry * type(entry)(model.moves[row, body])
                if row == column:
                    entry = entry + model.armature[own, row]
                matrix[env, row, column] = entry
                if row != column:
                    matrix[env, column, row] = entry


@by_precision
def body_kinematics(
    # Model:
    model: Any,
    # In:
    joint_q: wp.array2d(dtype=Any),
    joint_qd: wp.array2d(dtype=Any),
    # Out:
    scratch: Any,
    body_q: wp.array3d(dtype=Any),
    body_qd: wp.array3d(dtype=Any),
):
    """World poses (x, y, z, qx, qy, qz, qw) and velocities (of the centre of mass, angular)."""
    env = wp.tid()
    row = env * model.stride
    enter_state(model, scratch, joint_q, joint_qd, env)
    place_bodies(model, scratch, env, 0)
    place_axes(model, scratch, env, 0)
    move_bodies(model, scratch, env, 0)
    for body in range(model.num_bodies):
        position = scratch.position[env, 0, body]
        location = scratch.origin[env, 0, body] + position
        orientation = scratch.orientation[env, 0, body]
        velocity = scratch.velocity[env, 0, body]
        com = position + scratch.rotation[env, 0, body] * model.com[row, body]
        speed = linear(velocity) + wp.cross(angular(velocity), com)
        for i in range(3):
            body_q[env, body, i] = location[i]
            body_qd[env, body, i] = speed[i]
            body_qd[env, body, i + 3] = velocity[i + 3]
        for i in range(4):
            body_q[env, body, i + 3] = orientation[i]
