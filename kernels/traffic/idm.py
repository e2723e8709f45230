"""The Intelligent Driver Model (Treiber, Hennecke and Helbing 2000, Phys. Rev. E 62, 1805).

    dv/dt = a (1 - (v / v0)^delta - (s* / s)^2)
    s*    = s0 + v T + v dv / (2 sqrt(a b))

v is the speed, s the gap to the leader (bumper to bumper), dv the approach rate: own speed minus
the leader's. v0 is the desired speed, T the time headway, a the maximum acceleration, b the
comfortable deceleration, s0 the gap at rest, delta the acceleration exponent.

Clamps, and the subgradient taken at each: s* >= a bound (gradient zero at and below it), s at least
1e-3 m (the same), and (v / v0)^delta = 0 for v <= 0 with gradient zero. With v0 = 0, at a speed
limit of zero, it is 1 at rest and so large a constant else that a vehicle stops as hard as it may.
"""

from typing import Any

import warp as wp

from kernels.traffic.car_following import CarFollowing, Parameter

STOP = wp.constant(1.0e9)  # for (v / v0)^delta at v0 = 0: beyond any braking, and finite


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
def acceleration_within(
    speed: Any,  # v [m/s]
    gap: Any,  # s [m], infinite without a leader
    speed_difference: Any,  # v - v_leader [m/s]
    v0: Any,  # [m/s]
    T: Any,  # [s]
    a: Any,  # [m/s^2]
    b: Any,  # [m/s^2]
    s0: Any,  # [m]
    delta: Any,  # [1]
    min_desired_gap: Any,  # lower bound of s* [m]: 0 (the paper), s0 (SUMO), -inf (HighwayEnv)
):
    """The IDM's acceleration [m/s^2], with the clamps of this module."""
    two = type(speed)(2.0)
    dynamic = speed * T + speed * speed_difference / (two * wp.sqrt(a * b))
    desired = wp.max(s0 + dynamic, min_desired_gap)
    interaction = desired / wp.max(gap, type(speed)(1.0e-3))
    zero = type(speed)(0.0)
    one = type(speed)(1.0)
    moves = v0 > zero
    limited = power(speed / wp.where(moves, v0, one), delta)
    free = wp.where(moves, limited, wp.where(speed > zero, type(speed)(STOP), one))
    return a * (one - free - interaction * interaction)


@wp.func
def acceleration(
    speed: Any,
    gap: Any,
    speed_difference: Any,
    v0: Any,
    T: Any,
    a: Any,
    b: Any,
    s0: Any,
    delta: Any,
):
    """The paper's: s* >= 0."""
    least = type(speed)(0.0)
    return acceleration_within(speed, gap, speed_difference, v0, T, a, b, s0, delta, least)


@wp.func
def sumo_acceleration(
    speed: Any,
    gap: Any,
    speed_difference: Any,
    v0: Any,
    T: Any,
    a: Any,
    b: Any,
    s0: Any,
    delta: Any,
):
    """SUMO's: s* >= s0."""
    return acceleration_within(speed, gap, speed_difference, v0, T, a, b, s0, delta, s0)


MODEL = CarFollowing(
    "idm",
    (  # Table I of the paper
        Parameter("v0", 120.0 / 3.6, "m/s", "desired speed", may_be_zero=True),
        Parameter("T", 1.6, "s", "time headway", may_be_zero=True),
        Parameter("a", 0.73, "m/s^2", "maximum acceleration"),
        Parameter("b", 1.67, "m/s^2", "comfortable deceleration"),
        Parameter("s0", 2.0, "m", "gap at rest", may_be_zero=True),
        Parameter("delta", 4.0, "1", "acceleration exponent"),
    ),
    acceleration,
    sumo_acceleration,
)
