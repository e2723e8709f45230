"""The Optimal Velocity Model (Bando, Hasebe et al. 1995, Phys. Rev. E 51, 1035).

    dv/dt = kappa (V(s) - v)
    V(s)  = v0 (tanh(s / width - beta) + tanh(beta)) / (1 + tanh(beta))

v is the speed, V the optimal speed at the gap s to the leader (bumper to bumper), v0 its limit at a
wide gap, kappa the sensitivity (their a, the inverse of an adaptation time), width the range of
gaps over which V rises, beta where it does: V' is largest at s = beta width, and V(0) = 0. This
is their V in units of metres and seconds; with v0 = 1 + tanh 2, width = 1 and beta = 2 it is
theirs, V(h) = tanh(h - 2) + tanh 2, whose h is the distance of vehicles of no length. The form and
its numbers for a motorway are those of Treiber and Kesting (Traffic Flow Dynamics, Springer 2013,
chapter 10).

A uniform flow on a long ring is unstable if and only if V' > kappa / 2, they find. The
model does not look at the leader's speed: where it is very unstable, vehicles collide.

s / width - beta is cut at 20, where tanh is 1 to the last digit and its derivative 0: so nothing is
infinite without a leader. Below a gap of zero V is negative.
"""

from typing import Any

import warp as wp

from kernels.traffic.car_following import CarFollowing, Parameter


@wp.func
def optimal_speed(gap: Any, v0: Any, width: Any, beta: Any):
    """V(s) [m/s]."""
    one = type(gap)(1.0)
    near = wp.min(gap, width * (beta + type(gap)(20.0)))
    rise = wp.tanh(near / width - beta) + wp.tanh(beta)
    return v0 * rise / (one + wp.tanh(beta))


@wp.func
def acceleration(
    speed: Any,  # v [m/s]
    gap: Any,  # s [m], infinite without a leader
    speed_difference: Any,  # v - v_leader [m/s], not used
    kappa: Any,  # [1/s]
    v0: Any,  # [m/s]
    width: Any,  # [m]
    beta: Any,  # [1]
):
    """The OVM's acceleration [m/s^2]."""
    return kappa * (optimal_speed(gap, v0, width, beta) - speed)


MODEL = CarFollowing(
    "ovm",
    (
        Parameter("kappa", 1.0 / 0.65, "1/s", "sensitivity"),
        Parameter("v0", 120.0 / 3.6, "m/s", "desired speed"),
        Parameter("width", 15.0, "m", "range of gaps over which the optimal speed rises"),
        Parameter("beta", 1.5, "1", "gap of the steepest rise, in widths", may_be_zero=True),
    ),
    acceleration,
)
