"""Spatial algebra: six-vectors (linear, angular) in world-aligned axes about a common origin.

A motion vector holds the velocity of the body's point at the origin and the angular velocity; a
force vector holds the force and its moment about the origin. Because all bodies of a tree share
axes and origin, vectors and inertias of different bodies simply add. Notation and identities follow
R. Featherstone, Rigid Body Dynamics Algorithms (2008), with linear before angular parts.
"""

from typing import Any

import warp as wp


@wp.func
def spatial(linear: Any, angular: Any):
    """The six-vector of a linear and an angular three-vector."""
    return wp.vector(linear[0], linear[1], linear[2], angular[0], angular[1], angular[2])


@wp.func
def linear(v: Any):
    """The linear part of a six-vector."""
    return wp.vector(v[0], v[1], v[2])


@wp.func
def angular(v: Any):
    """The angular part of a six-vector."""
    return wp.vector(v[3], v[4], v[5])


@wp.func
def zero_motion(scalar: Any):
    """The zero six-vector of a scalar's precision."""
    zero = type(scalar)(0.0)
    return wp.vector(zero, zero, zero, zero, zero, zero)


@wp.func
def unit_motion(k: int, scalar: Any):
    """The six-vector with a one at entry `k`, of a scalar's precision."""
    zero = type(scalar)(0.0)
    one = type(scalar)(1.0)
    return wp.vector(
        wp.where(k == 0, one, zero),
        wp.where(k == 1, one, zero),
        wp.where(k == 2, one, zero),
        wp.where(k == 3, one, zero),
        wp.where(k == 4, one, zero),
        wp.where(k == 5, one, zero),
    )


@wp.func
def cross_motion(v: Any, m: Any):
    """Rate of change of a motion vector `m` that is fixed in a frame moving with `v`."""
    omega = angular(v)
    return spatial(
        wp.cross(omega, linear(m)) + wp.cross(linear(v), angular(m)), wp.cross(omega, angular(m))
    )


@wp.func
def cross_force(v: Any, f: Any):
    """Rate of change of a force vector `f` that is fixed in a frame moving with `v`."""
    omega = angular(v)
    return spatial(
        wp.cross(omega, linear(f)), wp.cross(omega, angular(f)) + wp.cross(linear(v), linear(f))
    )


@wp.func
def solve_spatial(inertia: Any, armature: Any, force: Any):
    """The motion x with (inertia + armature 1) x = force, by the linear block's complement."""
    added = wp.diag(wp.vector(armature, armature, armature))
    A = linear_block(inertia) + added
    B = coupling_block(inertia)
    inverse = wp.inverse(A)
    f = inverse * linear(force)
    X = inverse * B
    schur = angular_block(inertia) + added - wp.transpose(B) * X
    turn = wp.inverse(schur) * (angular(force) - wp.transpose(B) * f)
    return spatial(f - X * turn, turn)


@wp.func
def linear_block(I: Any):
    """The upper left (3, 3) of a spatial inertia."""
    return wp.matrix_from_rows(
        wp.vector(I[0, 0], I[0, 1], I[0, 2]),
        wp.vector(I[1, 0], I[1, 1], I[1, 2]),
        wp.vector(I[2, 0], I[2, 1], I[2, 2]),
    )


@wp.func
def coupling_block(I: Any):
    """The upper right (3, 3) of a spatial inertia; its lower left is the transpose."""
    return wp.matrix_from_rows(
        wp.vector(I[0, 3], I[0, 4], I[0, 5]),
        wp.vector(I[1, 3], I[1, 4], I[1, 5]),
        wp.vector(I[2, 3], I[2, 4], I[2, 5]),
    )


@wp.func
def angular_block(I: Any):
    """The lower right (3, 3) of a spatial inertia."""
    return wp.matrix_from_rows(
        wp.vector(I[3, 3], I[3, 4], I[3, 5]),
        wp.vector(I[4, 3], I[4, 4], I[4, 5]),
        wp.vector(I[5, 3], I[5, 4], I[5, 5]),
    )


@wp.func
def rigid_inertia(mass: Any, com: Any, inertia: Any):
    """Spatial inertia about the origin of a rigid body.

    Args:
        mass: mass [kg].
        com: centre of mass relative to the origin [m].
        inertia: inertia about the centre of mass in world-aligned axes [kg m^2], symmetric.
    """
    zero = type(mass)(0.0)
    x = mass * com[0]
    y = mass * com[1]
    z = mass * com[2]
    # about the origin (parallel axes): inertia + mass (|com|^2 1 - com com^T)
    xx = inertia[0, 0] + y * com[1] + z * com[2]
    yy = inertia[1, 1] + x * com[0] + z * com[2]
    zz = inertia[2, 2] + x * com[0] + y * com[1]
    xy = inertia[0, 1] - x * com[1]
    xz = inertia[0, 2] - x * com[2]
    yz = inertia[1, 2] - y * com[2]
    return wp.matrix_from_rows(
        wp.vector(mass, zero, zero, zero, z, -y),
        wp.vector(zero, mass, zero, -z, zero, x),
        wp.vector(zero, zero, mass, y, -x, zero),
        wp.vector(zero, -z, y, xx, xy, xz),
        wp.vector(z, zero, -x, xy, yy, yz),
        wp.vector(-y, x, zero, xz, yz, zz),
    )
