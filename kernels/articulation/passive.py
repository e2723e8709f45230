"""What acts on bodies and joints by itself: weight taken off, drag, couplings of joints."""

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
