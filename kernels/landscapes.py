"""Landscapes of function optimisation, in any dimension (Molga and Smutnicki 2005).

A landscape is one Warp function of x [num_envs, dim] and the row to look at. The optimum of both is
zero at the origin; the environments' reward is minus the landscape.
"""

from collections.abc import Callable
from functools import cache
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


@wp.func
def dejong(x: wp.array2d(dtype=Any), env: wp.int32):
    """De Jong's F(x) = sum_i x_i^2."""
    squares = type(x[env, 0])(0.0)
    for i in range(x.shape[1]):
        x_i = x[env, i]
        squares += x_i * x_i
    return squares


@wp.func
def ackley(x: wp.array2d(dtype=Any), env: wp.int32):
    """Ackley's F(x) = -20 exp(-0.2 sqrt(mean x^2)) - exp(mean cos 2 pi x) + 20 + e.

    F has a kink at the origin; the gradient there is zero, one of its subgradients.
    """
    squares, cosines = ackley_means(x, env)
    radius = wp.sqrt(wp.max(squares, type(squares)(1.0e-30)))
    one = type(squares)(1.0)
    well = type(squares)(20.0) * (wp.exp(type(squares)(-0.2) * radius) - one)
    ripples = wp.exp(cosines) - wp.exp(one)
    return -(well + ripples)


@wp.func
def ackley_means(x: wp.array2d(dtype=Any), env: wp.int32):
    """Mean of x^2 and mean of cos 2 pi x: sums, and so in a function of their own."""
    weight = type(x[env, 0])(1.0) / type(x[env, 0])(x.shape[1])
    tau = type(weight)(wp.TAU)
    squares = type(weight)(0.0)
    cosines = type(weight)(0.0)
    for i in range(x.shape[1]):
        x_i = x[env, i]
        squares += weight * x_i * x_i
        cosines += weight * wp.cos(tau * x_i)
    return squares, cosines


@cache
def reward_kernel(height: Callable[..., Any]):
    """The kernel whose reward is minus `height`, a Warp function of all points and a row's number.

    Warp's adjoint does not re-run a loop of unknown length: a function may return what such a loop
    sums, but not use it in a product or a function; it calls a function of its own for the sum.
    """

    @wp.kernel(module="unique")
    def reward(
        # In:
        x_in: wp.array2d(dtype=Any),  # [num_envs, dim]
        # Out:
        reward_out: wp.array2d(dtype=Any),  # [num_envs, 1]
    ):
        """-F(x)."""
        env = wp.tid()
        reward_out[env, 0] = -height(x_in, env)

    return reward


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
