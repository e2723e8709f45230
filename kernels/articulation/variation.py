"""The rows of a robot's constants that vary, filled from one row of numbers per environment."""

from typing import Any

import warp as wp


@wp.kernel
def spread_numbers(
    # Model:
    constant: wp.array(dtype=Any),  # [n]
    sign: wp.array(dtype=Any),  # [n], of the numbers added to it
    column: wp.array2d(dtype=wp.int32),  # [n, 2], of these, -1 for none
    # In:
    parameters_in: wp.array2d(dtype=Any),  # [num_envs, count]
    # Out:
    rows_out: wp.array2d(dtype=Any),  # [num_envs, n]
):
    """Each entry = its constant, plus up to two numbers that vary."""
    env, i = wp.tid()
    value = constant[i]
    if column[i, 0] >= 0:
        value = value + sign[i] * parameters_in[env, column[i, 0]]
    if column[i, 1] >= 0:
        value = value + sign[i] * parameters_in[env, column[i, 1]]
    rows_out[env, i] = value


@wp.kernel
def spread_vectors(
    # Model:
    constant: wp.array(dtype=Any),  # [n], three-vectors
    column: wp.array(dtype=wp.int32),  # [n], of the first of three numbers in its place, or -1
    # In:
    parameters_in: wp.array2d(dtype=Any),  # [num_envs, count]
    # Out:
    rows_out: wp.array2d(dtype=Any),  # [num_envs, n], three-vectors
):
    """Each three-vector is constant, or three numbers that vary."""
    env, i = wp.tid()
    value = constant[i]
    if column[i] >= 0:
        value = wp.vector(
            parameters_in[env, column[i]],
            parameters_in[env, column[i] + 1],
            parameters_in[env, column[i] + 2],
        )
    rows_out[env, i] = value


@wp.kernel
def spread_inertias(
    # Model:
    constant: wp.array(dtype=Any),  # [n], (3, 3)
    per_mass: wp.array(dtype=Any),  # [n], 1 by the mass of that inertia, 1/kg
    mass_column: wp.array(dtype=wp.int32),  # [n], of a mass that takes the inertia along, or -1
    scale_column: wp.array(dtype=wp.int32),  # [n], of a factor, or -1
    moment_column: wp.array(dtype=wp.int32),  # [n], of the first of six entries of L, or -1
    # In:
    parameters_in: wp.array2d(dtype=Any),  # [num_envs, count]
    # Out:
    rows_out: wp.array2d(dtype=Any),  # [num_envs, n], (3, 3)
):
    """Each inertia is constant, a constant times mass and a factor, or tr(L L^T) 1 - L L^T."""
    env, i = wp.tid()
    value = constant[i]
    if mass_column[i] >= 0:
        value = value * (parameters_in[env, mass_column[i]] * per_mass[i])
    if scale_column[i] >= 0:
        value = value * parameters_in[env, scale_column[i]]
    first = moment_column[i]
    if first >= 0:
        a = parameters_in[env, first]
        b = parameters_in[env, first + 1]
        c = parameters_in[env, first + 2]
        d = parameters_in[env, first + 3]
        e = parameters_in[env, first + 4]
        f = parameters_in[env, first + 5]
        xx = a * a + b * b + c * c
        yy = d * d + e * e
        zz = f * f
        xy = -(b * d + c * e)
        xz = -(c * f)
        yz = -(e * f)
        value = wp.matrix_from_rows(
            wp.vector(yy + zz, xy, xz), wp.vector(xy, xx + zz, yz), wp.vector(xz, yz, xx + yy)
        )
    rows_out[env, i] = value
