"""Penalty contact of body points with the ground plane z = 0.

Xu et al. 2022 (DiffRL); per point with radius r: depth d = r - height > 0, velocity v of the
touching point, normal n = +z:

    normal force  ke d - kd min(v_n, 0) d
    friction      -v_t / |v_t| min(kf |v_t|, mu ke d)

The force jumps in its first derivative at d = 0, at v_n = 0 and where sticking turns into sliding.
"""

from typing import Any

import warp as wp

from kernels.articulation.spatial import angular, linear, spatial
from kernels.precision import stores_only


@wp.func
def contact_force(depth: Any, velocity: Any, ke: Any, kd: Any, kf: Any, mu: Any):
    """Force of the ground on a touching point [N].

    Args:
        depth: penetration [m], positive.
        velocity: velocity of the touching point [m/s].
        ke: stiffness [N/m].
        kd: damping per depth [N s/m^2].
        kf: friction's viscosity [N s/m].
        mu: friction coefficient.
    """
    zero = type(depth)(0.0)
    normal = ke * depth - kd * wp.min(velocity[2], zero) * depth
    sliding = mu * ke * depth
    speed_squared = velocity[0] * velocity[0] + velocity[1] * velocity[1]
    friction = kf
    if kf * kf * speed_squared > sliding * sliding:  # the root is never taken at zero speed
        friction = sliding / wp.sqrt(speed_squared)
    return wp.vector(-friction * velocity[0], -friction * velocity[1], normal)


@stores_only
@wp.func
def apply_ground_contact(model: Any, scratch: Any, env: int, step: int):
    """Subtract the ground's forces from the bias forces of the touching bodies."""
    for contact in range(model.num_contacts):
        body = model.contact_body[contact]
        rotation = scratch.rotation[env, step, body]
        point = model.contact_position[contact]
        radius = model.contact_radius[contact]
        origin = scratch.origin[env, step, body]
        arm = scratch.position[env, step, body] + rotation * point
        depth = radius - (origin[2] + arm[2])
        if depth > type(depth)(0.0):
            touching = wp.vector(arm[0], arm[1], arm[2] - radius)
            v = scratch.velocity[env, step, body]
            velocity = linear(v) + wp.cross(angular(v), touching)
            force = contact_force(
                depth,
                velocity,
                model.contact_ke,
                model.contact_kd,
                model.contact_kf,
                model.contact_mu,
            )
            slot = model.slot[body + 1] - 1
            scratch.bias_force[env, step, slot] -= spatial(force, wp.cross(touching, force))
