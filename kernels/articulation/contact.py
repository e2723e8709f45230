"""Penalty contact of bodies with the ground, a plane or a height field z = H(x, y).

A body touches at points of its own: balls around fixed points (radius 0: the points themselves),
an ellipsoid at the point farthest against the ground's normal, a cylinder at three points of each
end's rim, a third of a turn apart, the first of them the lowest. Where a cylinder stands upright
the first could be any, and neither force nor moment depends on it: three points a third of a turn
apart see depths, and speeds, that are linear over the end as the whole rim would.

The law is that of Xu et al. 2022 (DiffRL); per point: depth d > 0 along the ground's normal n, and
velocity v of the touching point:

    normal force  ke d - kd min(v_n, 0) d
    friction      -v_t / |v_t| min(kf |v_t|, mu ke d)

The force jumps in its first derivative at d = 0, at v_n = 0 and where sticking turns into sliding.

A height field is given by heights and slopes at the points of a grid, both interpolated bilinearly:
the normal, and so the force, is continuous, where the bilinear surface itself has creases.
"""

from typing import Any

import warp as wp

from kernels.articulation.data import ELLIPSOID, RIM
from kernels.articulation.spatial import angular, linear, spatial
from kernels.precision import stores_only

UPRIGHT = wp.constant(1e-8)  # square of the tilt [rad] below which a cylinder counts as upright


@wp.func
def contact_force(depth: Any, velocity: Any, ke: Any, kd: Any, kf: Any, mu: Any):
    """Force of the ground on a touching point [N], in axes of which the third is its normal.

    Args:
        depth: penetration [m], positive.
        velocity: velocity of the touching point in these axes [m/s].
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


@wp.func
def cell_of(u: Any, count: int):
    """The cell (from 0 to `count` - 2) of a place among the grid's points, itself in range."""
    return wp.min(int(u), count - 2)


@wp.func
def surface(model: Any, x: Any, y: Any):
    """Height of the ground at a place [m], and its slopes along x and y."""
    plane = model.ground_plane
    found = wp.vector(plane[0] + plane[1] * x + plane[2] * y, plane[1], plane[2])
    if model.ground_rows > 0:
        zero = type(x)(0.0)
        one = type(x)(1.0)
        columns = model.ground_columns
        # zero comes first: it is what remains of a place that is not a number
        u = wp.max(zero, (x - model.ground_corner[0]) / model.ground_cell[0])
        v = wp.max(zero, (y - model.ground_corner[1]) / model.ground_cell[1])
        u = wp.min(u, type(x)(model.ground_rows - 1))
        v = wp.min(v, type(x)(columns - 1))
        i = cell_of(u, model.ground_rows)
        j = cell_of(v, columns)
        a = u - type(x)(i)
        b = v - type(x)(j)
        near = model.ground[i, j] * (one - a) + model.ground[i + 1, j] * a
        far = model.ground[i, j + 1] * (one - a) + model.ground[i + 1, j + 1] * a
        found = near * (one - b) + far * b
    return found


@wp.func
def ground_axes(slopes: Any):
    """Axes of the ground as columns, along it and up from it, given (height, slope, slope)."""
    one = type(slopes[0])(1.0)
    zero = type(slopes[0])(0.0)
    gx = slopes[1]
    gy = slopes[2]
    normal = wp.vector(-gx, -gy, one) * (one / wp.sqrt(one + gx * gx + gy * gy))
    along = wp.vector(one, zero, gx) * (one / wp.sqrt(one + gx * gx))
    return wp.matrix_from_cols(along, wp.cross(normal, along), normal)


@wp.func
def reach(kind: int, radius: Any, frame: Any, rotation: Any, normal: Any):
    """From a contact's place to where it touches the ground first, world axes [m].

    Args:
        kind: of the contact.
        radius: of its ball, or of a rim [m].
        frame: of an ellipsoid, what makes it of the unit ball; of a rim, as columns, its axis, the
            cosine and sine of how far round from the lowest point, a direction across the axis.
        rotation: of the body.
        normal: of the ground.
    """
    offset = -radius * normal
    if kind == ELLIPSOID:
        stretch = rotation * frame
        across = wp.transpose(stretch) * normal
        offset = (stretch * across) * (type(radius)(-1.0) / wp.sqrt(wp.dot(across, across)))
    if kind == RIM:
        axis = rotation * wp.vector(frame[0, 0], frame[1, 0], frame[2, 0])
        upward = normal - wp.dot(normal, axis) * axis
        square = wp.dot(upward, upward)
        out = rotation * wp.vector(frame[0, 2], frame[1, 2], frame[2, 2])
        if square > type(radius)(UPRIGHT):
            out = upward * (type(radius)(-1.0) / wp.sqrt(square))
        offset = radius * (frame[0, 1] * out + frame[1, 1] * wp.cross(axis, out))
    return offset


@wp.func
def touch(model: Any, scratch: Any, env: int, step: int, contact: int):
    """Where a contact touches first, from its tree's origin [m], the ground's axes, and the depth.

    The axes are columns; the depth [m] is negative above the ground.
    """
    body = model.contact_body[contact]
    rotation = scratch.rotation[env, step, body]
    origin = scratch.origin[env, step, body]
    arm = scratch.position[env, step, body] + rotation * model.contact_position[contact]
    below = ground_axes(surface(model, origin[0] + arm[0], origin[1] + arm[1]))
    offset = reach(
        model.contact_kind[contact],
        model.contact_radius[contact],
        model.contact_frame[contact],
        rotation,
        wp.vector(below[0, 2], below[1, 2], below[2, 2]),
    )
    touching = arm + offset
    ground = surface(model, origin[0] + touching[0], origin[1] + touching[1])
    axes = ground_axes(ground)
    # the sum in this order loses nothing far above the ground
    depth = axes[2, 2] * (ground[0] - (origin[2] + arm[2])) - axes[2, 2] * offset[2]
    return touching, axes, depth


@wp.func
def touching_force(
    model: Any, scratch: Any, env: int, step: int, body: int, touching: Any, axes: Any, depth: Any
):
    """Force of the ground on a body where it touches, in the ground's axes [N]; see `touch`."""
    row = env * model.stride
    v = scratch.velocity[env, step, body]
    velocity = linear(v) + wp.cross(angular(v), touching)
    return contact_force(
        depth,
        wp.transpose(axes) * velocity,
        model.contact_material[row, 0],
        model.contact_material[row, 1],
        model.contact_material[row, 2],
        model.contact_material[row, 3],
    )


@stores_only
@wp.func
def apply_ground_contact(model: Any, scratch: Any, env: int, step: int):
    """Subtract the ground's forces from the bias forces of the touching bodies."""
    for contact in range(model.num_contacts):
        body = model.contact_body[contact]
        touching, axes, depth = touch(model, scratch, env, step, contact)
        if depth > type(depth)(0.0):
            force = axes * touching_force(model, scratch, env, step, body, touching, axes, depth)
            slot = model.slot[body + 1] - 1
            scratch.bias_force[env, step, slot] -= spatial(force, wp.cross(touching, force))
