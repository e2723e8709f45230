"""The Intelligent Driver Model (Treiber, Hennecke and Helbing 2000, Phys. Rev. E 62, 1805).

    dv/dt = a (1 - (v / v0)^delta - (s* / s)^2)
    s*    = s0 + v T + v dv / (2 sqrt(a b))

v is the speed, s the gap to the leader (bumper to bumper), dv the approach rate: own speed minus
the leader's. v0 is the desired speed, T the time headway, a the maximum acceleration, b the
comfortable deceleration, s0 the gap at rest, delta the acceleration exponent.

Clamps, and the subgradient taken at each: s* >= a bound (gradient zero at and below it), s at least
1e-3 m (the same), and (v / v0)^delta = 0 for v <= 0 with gradient zero.
"""

from typing import Any

import warp as wp


@wp.func
def power(base: wp.float32, exponent: wp.float32):
    """base^exponent, zero for base <= 0."""
    if base <= wp.float32(0.0):
        return wp.float32(0.0)
    if exponent == wp.float32(4.0):
        return base * base * base * base
    if exponent == wp.float32(3.0):
        return base * base * base
    return wp.pow(base, exponent)


@wp.func_grad(power)
def adj_power(base: wp.float32, exponent: wp.float32, adj_ret: wp.float32):
    """Its gradient; Warp's own takes the logarithm of zero."""
    if base > wp.float32(0.0):
        lower = power(base, exponent - wp.float32(1.0))
        wp.adjoint[base] += adj_ret * exponent * lower
        wp.adjoint[exponent] += adj_ret * lower * base * wp.log(base)


@wp.func
def power(base: wp.float64, exponent: wp.float64):
    """The same in double precision."""
    if base <= wp.float64(0.0):
        return wp.float64(0.0)
    if exponent == wp.float64(4.0):
        return base * base * base * base
    if exponent == wp.float64(3.0):
        return base * base * base
    return wp.pow(base, exponent)


@wp.func_grad(power)
def adj_power_double(base: wp.float64, exponent: wp.float64, adj_ret: wp.float64):
    """The same in double precision."""
    if base > wp.float64(0.0):
        lower = power(base, exponent - wp.float64(1.0))
        wp.adjoint[base] += adj_ret * exponent * lower
        wp.adjoint[exponent] += adj_ret * lower * base * wp.log(base)


@wp.func
def acceleration(
    speed: Any,  # v [m/s]
    gap: Any,  # s [m], infinite without a leader
    speed_difference: Any,  # v - v_leader [m/s]
    v0: Any,  # [m/s]
    T: Any,  # [s]
    a: Any,  # [m/s^2]
    b: Any,  # [m/s^2]
    s0: Any,  # [m]
    delta: Any,  # [1]
    min_desired_gap: Any,  # lower bound of s* [m]: 0 (the paper), s0 (SUMO), -inf (none)
):
    """The IDM's acceleration [m/s^2], with the clamps of this module."""
    two = type(speed)(2.0)
    dynamic = speed * T + speed * speed_difference / (two * wp.sqrt(a * b))
    desired = wp.max(s0 + dynamic, min_desired_gap)
    interaction = desired / wp.max(gap, type(speed)(1.0e-3))
    return a * (type(speed)(1.0) - power(speed / v0, delta) - interaction * interaction)


@wp.kernel
def accelerate(
    # In, each [n]:
    speed_in: wp.array(dtype=Any),
    gap_in: wp.array(dtype=Any),
    speed_difference_in: wp.array(dtype=Any),
    v0_in: wp.array(dtype=Any),
    T_in: wp.array(dtype=Any),
    a_in: wp.array(dtype=Any),
    b_in: wp.array(dtype=Any),
    s0_in: wp.array(dtype=Any),
    delta_in: wp.array(dtype=Any),
    min_desired_gap_in: wp.array(dtype=Any),
    # Out:
    acceleration_out: wp.array(dtype=Any),  # [n]
):
    """`acceleration`, element by element."""
    i = wp.tid()
    acceleration_out[i] = acceleration(
        speed_in[i],
        gap_in[i],
        speed_difference_in[i],
        v0_in[i],
        T_in[i],
        a_in[i],
        b_in[i],
        s0_in[i],
        delta_in[i],
        min_desired_gap_in[i],
    )
