"""What acts on bodies and joints by itself: weight taken off, drag, cords, couplings of joints."""

from typing import Any

import warp as wp

from kernels.articulation.spatial import angular, linear, spatial
from kernels.precision import stores_only


@stores_only
@wp.func
def apply_lifts(model: Any, scratch: Any, env: int, step: int):
    """Subtract from the bias forces what carries a body against gravity."""
    row = env * model.stride
    for i in range(model.num_lifts):
        body = model.lift_body[i]
        arm = scratch.position[env, step, body] + (
            scratch.rotation[env, step, body] * model.lift_position[i]
        )
        force = -model.lift_mass[i] * model.gravity[row, 0]
        slot = model.slot[body + 1] - 1
        scratch.bias_force[env, step, slot] -= spatial(force, wp.cross(arm, force))


@wp.func
def drag_along(rate: Any, viscous: Any, square: Any):
    """Resistance to a velocity by components: -(viscous v + square |v| v)."""
    return wp.vector(
        -(viscous + square[0] * wp.abs(rate[0])) * rate[0],
        -(viscous + square[1] * wp.abs(rate[1])) * rate[1],
        -(viscous + square[2] * wp.abs(rate[2])) * rate[2],
    )


@stores_only
@wp.func
def apply_drags(model: Any, scratch: Any, env: int, step: int):
    """Subtract drag of bodies, `warp_envs.usd.passive.Drag`, from their bias forces."""
    for i in range(model.num_drags):
        body = model.drag_body[i]
        rotation = scratch.rotation[env, step, body]
        arm = scratch.position[env, step, body] + rotation * model.drag_position[i]
        axes = rotation * model.drag_axes[i]
        v = scratch.velocity[env, step, body]
        speed = linear(v) + wp.cross(angular(v), arm) - model.drag_wind[i]
        force = axes * drag_along(
            wp.transpose(axes) * speed, model.drag_linear[i], model.drag_linear_square[i]
        )
        torque = axes * drag_along(
            wp.transpose(axes) * angular(v), model.drag_angular[i], model.drag_angular_square[i]
        )
        slot = model.slot[body + 1] - 1
        scratch.bias_force[env, step, slot] -= spatial(force, wp.cross(arm, force) + torque)


@stores_only
@wp.func
def apply_couplings(model: Any, scratch: Any, env: int, step: int):
    """Add the pull of couplings, `warp_envs.usd.passive.Coupling`, to the joint forces."""
    for i in range(model.num_couplings):
        # summed in arrays, see `kernels.articulation.dynamics.move_bodies`
        scratch.stretch[env, step, i] = type(model.coupling_stiffness[i])(0.0)
        scratch.stretch_rate[env, step, i] = type(model.coupling_stiffness[i])(0.0)
        for k in range(model.coupling_start[i], model.coupling_start[i + 1]):
            weight = model.coupling_weight[k]
            dof = model.coupling_dof[k]
            q = scratch.joint_q[env, step, model.coordinate[dof]]
            qd = scratch.joint_qd[env, step, dof]
            scratch.stretch[env, step, i] += weight * q
            scratch.stretch_rate[env, step, i] += weight * qd
        for k in range(model.coupling_start[i], model.coupling_start[i + 1]):
            zero = type(model.coupling_stiffness[i])(0.0)
            length = scratch.stretch[env, step, i]
            beyond = wp.max(length - model.coupling_high[i], zero)
            beyond = beyond + wp.min(length - model.coupling_low[i], zero)
            pull = (
                -model.coupling_stiffness[i] * beyond
                - model.coupling_damping[i] * scratch.stretch_rate[env, step, i]
            )
            scratch.joint_force[env, step, model.coupling_dof[k]] += model.coupling_weight[k] * pull


@wp.func
def cord_arm(model: Any, scratch: Any, env: int, step: int, point: int):
    """A point of a cord relative to its tree's origin, in the world where it is the world's."""
    body = model.cord_body[point]
    arm = model.cord_position[point]
    if body >= 0:
        arm = scratch.position[env, step, body] + scratch.rotation[env, step, body] * arm
    return arm


@wp.func
def cord_piece(model: Any, scratch: Any, env: int, step: int, point: int):
    """From a point of a cord to the next [m]."""
    first = model.cord_body[point]
    second = model.cord_body[point + 1]
    origin = model.cord_position[point] * type(model.cord_weight[point])(0.0)
    start = origin
    end = origin
    if first >= 0:
        start = scratch.origin[env, step, first]
    if second >= 0:
        end = scratch.origin[env, step, second]
    # points of one tree lose nothing far from the world's origin
    return (end - start) + (
        cord_arm(model, scratch, env, step, point + 1) - cord_arm(model, scratch, env, step, point)
    )


@wp.func
def cord_speed(model: Any, scratch: Any, env: int, step: int, point: int):
    """Velocity of a point of a cord."""
    body = model.cord_body[point]
    speed = model.cord_position[point] * type(model.cord_weight[point])(0.0)
    if body >= 0:
        v = scratch.velocity[env, step, body]
        speed = linear(v) + wp.cross(angular(v), cord_arm(model, scratch, env, step, point))
    return speed


@stores_only
@wp.func
def apply_cords(model: Any, scratch: Any, env: int, step: int):
    """Subtract the pull of cords, `warp_envs.usd.passive.Cord`, from their bodies' bias forces."""
    for i in range(model.num_cords):
        zero = type(model.cord_stiffness[i])(0.0)
        at = model.num_couplings + i
        scratch.stretch[env, step, at] = zero
        scratch.stretch_rate[env, step, at] = zero
        for k in range(model.cord_start[i], model.cord_start[i + 1] - 1):
            piece = cord_piece(model, scratch, env, step, k)
            square = wp.dot(piece, piece)
            if square > zero:
                length = wp.sqrt(square)
                speed = cord_speed(model, scratch, env, step, k + 1)
                speed = speed - cord_speed(model, scratch, env, step, k)
                weight = model.cord_weight[k]
                scratch.stretch[env, step, at] += weight * length
                scratch.stretch_rate[env, step, at] += weight * wp.dot(piece, speed) / length
        for k in range(model.cord_start[i], model.cord_start[i + 1] - 1):
            piece = cord_piece(model, scratch, env, step, k)
            square = wp.dot(piece, piece)
            if square > zero:
                length = scratch.stretch[env, step, at]
                beyond = wp.max(length - model.cord_high[i], zero)
                beyond = beyond + wp.min(length - model.cord_low[i], zero)
                pull = (
                    -model.cord_stiffness[i] * beyond
                    - model.cord_damping[i] * scratch.stretch_rate[env, step, at]
                )
                force = piece * (pull * model.cord_weight[k] / wp.sqrt(square))
                first = model.cord_body[k]
                second = model.cord_body[k + 1]
                if first >= 0:
                    arm = cord_arm(model, scratch, env, step, k)
                    slot = model.slot[first + 1] - 1
                    scratch.bias_force[env, step, slot] += spatial(force, wp.cross(arm, force))
                if second >= 0:
                    arm = cord_arm(model, scratch, env, step, k + 1)
                    slot = model.slot[second + 1] - 1
                    scratch.bias_force[env, step, slot] -= spatial(force, wp.cross(arm, force))


@wp.func
def ball_pull(quaternion: Any, stiffness: Any, limit_ke: Any, most: Any):
    """Torque of a ball's spring and limit at a unit quaternion, in the parent anchor's axes.

    With the rotation vector r = angle * axis, the angle from 0 to pi:
    -(stiffness + limit_ke max(angle - most, 0) / angle) r.

    r = 2 atan2(|v|, w) v / |v| of the quaternion (v, w). It is halved three times, by
    cos(a / 2) = sqrt((1 + cos a) / 2), to where the arc sine's series holds to rounding, and has no
    pole at angle zero.
    """
    one = type(stiffness)(1.0)
    half = type(stiffness)(0.5)
    v = wp.vector(quaternion[0], quaternion[1], quaternion[2])
    sign = one
    if quaternion[3] < type(stiffness)(0.0):
        sign = -one
    square = wp.dot(v, v)
    first = wp.sqrt(half + half * sign * quaternion[3])
    second = wp.sqrt(half + half * first)
    third = wp.sqrt(half + half * second)
    cosines = first * second * third
    x = square / (type(stiffness)(64.0) * cosines * cosines)
    ratio = type(stiffness)(2.0) * arc_sine_ratio(x) / cosines  # of the angle to |v|
    gain = stiffness
    if ratio * ratio * square > most * most:
        gain = gain + limit_ke * (one - most / (ratio * wp.sqrt(square)))
    return v * (-(gain * ratio * sign))


@wp.func
def arc_sine_ratio(x: Any):
    """asin(s) / s as a series in x = s^2, for x up to 0.04."""
    one = type(x)(1.0)
    y = one + x * (type(x)(225.0) / type(x)(272.0))
    y = one + x * (type(x)(169.0) / type(x)(210.0)) * y
    y = one + x * (type(x)(121.0) / type(x)(156.0)) * y
    y = one + x * (type(x)(81.0) / type(x)(110.0)) * y
    y = one + x * (type(x)(49.0) / type(x)(72.0)) * y
    y = one + x * (type(x)(25.0) / type(x)(42.0)) * y
    y = one + x * (type(x)(9.0) / type(x)(20.0)) * y
    return one + x * (type(x)(1.0) / type(x)(6.0)) * y
