"""Landscapes of function optimisation, in any dimension (Molga and Smutnicki 2005).

The optimum of both is zero at the origin; the environments' reward is minus the landscape.
"""

from typing import Any

import warp as wp


@wp.kernel
def scale_point(
    # In:
    action_in: wp.array2d(dtype=Any),  # [num_envs, dim], in [-1, 1]
    scale: Any,
    # Out:
    x_out: wp.array2d(dtype=Any),  # [num_envs, dim]
):
    """Point = scale * action."""
    env, i = wp.tid()
    x_out[env, i] = scale * action_in[env, i]


@wp.kernel
def dejong_reward(
    # In:
    x_in: wp.array2d(dtype=Any),  # [num_envs, dim]
    # Out:
    reward_out: wp.array2d(dtype=Any),  # [num_envs, 1]
):
    """-F(x) with De Jong's F(x) = sum_i x_i^2."""
    env = wp.tid()
    squares = type(x_in[env, 0])(0.0)
    for i in range(x_in.shape[1]):
        x = x_in[env, i]
        squares += x * x
    reward_out[env, 0] = -squares


@wp.kernel
def ackley_moments(
    # In:
    x_in: wp.array2d(dtype=Any),  # [num_envs, dim]
    # Out:
    moments_out: wp.array2d(dtype=Any),  # [num_envs, 2]: mean of x^2, mean of cos 2 pi x
):
    """The two means in Ackley's function.

    A kernel of its own, because Warp's adjoint does not re-run a loop of unknown length: what such
    a loop sums may be stored, but not used in a product or a function afterwards.
    """
    env = wp.tid()
    weight = type(x_in[env, 0])(1.0) / type(x_in[env, 0])(x_in.shape[1])
    tau = type(weight)(wp.TAU)
    squares = type(weight)(0.0)
    cosines = type(weight)(0.0)
    for i in range(x_in.shape[1]):
        x = x_in[env, i]
        squares += weight * x * x
        cosines += weight * wp.cos(tau * x)
    moments_out[env, 0] = squares
    moments_out[env, 1] = cosines


@wp.kernel
def ackley_reward(
    # In:
    moments_in: wp.array2d(dtype=Any),  # [num_envs, 2], as `ackley_moments` writes them
    # Out:
    reward_out: wp.array2d(dtype=Any),  # [num_envs, 1]
):
    """-F(x) with Ackley's F(x) = -20 exp(-0.2 sqrt(mean x^2)) - exp(mean cos 2 pi x) + 20 + e.

    F has a kink at the origin; the gradient there is zero, one of its subgradients.
    """
    env = wp.tid()
    squares = moments_in[env, 0]
    cosines = moments_in[env, 1]
    radius = wp.sqrt(wp.max(squares, type(squares)(1.0e-30)))
    one = type(squares)(1.0)
    well = type(squares)(20.0) * (wp.exp(type(squares)(-0.2) * radius) - one)
    ripples = wp.exp(cosines) - wp.exp(one)
    reward_out[env, 0] = well + ripples


@wp.kernel(enable_backward=False)
def blind(
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, 1]
):
    """The observation is always zero."""
    env = wp.tid()
    obs_out[env, 0] = type(obs_out[env, 0])(0.0)


@wp.kernel(enable_backward=False)
def never_terminate(
    # Out:
    terminated_out: wp.array(dtype=wp.bool),  # [num_envs]
):
    """No environment terminates of itself."""
    terminated_out[wp.tid()] = False


@wp.kernel(enable_backward=False)
def start_at_origin(
    # Out:
    x_out: wp.array2d(dtype=Any),  # [num_envs, dim]
):
    """Start at zero."""
    env, i = wp.tid()
    x_out[env, i] = type(x_out[env, i])(0.0)
