"""Drivers of one's own in one file: python examples/fvdm_drivers.py.

The Full Velocity Difference Model (Jiang, Wu and Zhu 2001, Phys. Rev. E 64, 017101) on a ring: a
car a metre out of place grows into a stop-and-go wave. Then the gradient of the wave's size. The
optimal speed's numbers are those of Helbing and Tilch (1998, Phys. Rev. E 58, 133).
"""

# --8<-- [start:model]
from typing import Any

import torch
import warp as wp

from kernels.traffic.car_following import CarFollowing, Parameter
from warp_envs import TrafficSim


@wp.func
def acceleration(
    speed: Any,  # v [m/s]
    gap: Any,  # s [m], infinite without a leader
    speed_difference: Any,  # v - v_leader [m/s]
    kappa: Any,
    difference_gain: Any,
    V1: Any,  # noqa: N803 (the paper's name)
    V2: Any,  # noqa: N803
    C1: Any,  # noqa: N803
    C2: Any,  # noqa: N803
):
    """dv/dt = kappa (V(s) - v) - lambda (v - v_leader), V = V1 + V2 tanh(C1 s - C2)."""
    near = wp.min(gap, (C2 + type(gap)(20.0)) / C1)  # tanh is 1 there, and nothing infinite
    optimal = V1 + V2 * wp.tanh(C1 * near - C2)
    return kappa * (optimal - speed) - difference_gain * speed_difference


FVDM = CarFollowing(
    "fvdm",
    (
        Parameter("kappa", 0.41, "1/s", "sensitivity"),
        Parameter("difference_gain", 0.5, "1/s", "lambda: of the approach rate", may_be_zero=True),
        Parameter("V1", 6.75, "m/s", "optimal speed at s = C2 / C1"),
        Parameter("V2", 7.91, "m/s", "how far it rises and falls from there"),
        Parameter("C1", 0.13, "1/m", "how steeply"),
        Parameter("C2", 1.57, "1", "and where"),
    ),
    acceleration,
)
# --8<-- [end:model]

CARS, GAP = 60, 12.0


# --8<-- [start:use]
def make_ring(**parameters: float | torch.Tensor) -> TrafficSim:
    """Evenly spaced at about the optimal speed, but for one car a metre ahead."""
    ring = TrafficSim(
        1, 1, CARS, model=FVDM, ring_length=CARS * (GAP + 5.0), dtype=torch.float64, **parameters
    )
    x = ring.x
    x[0, 0] += 1.0
    ring.set_state({"x": x, "speed": torch.full_like(x, 6.7)})
    return ring


def spread_gradient(seconds: float) -> tuple[float, float]:
    """The speeds' standard deviation after a while [m/s], and its derivative in lambda [m]."""
    gain = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    spread = make_ring(difference_gain=gain).run(round(seconds / 0.1))["speed"].std()
    (gradient,) = torch.autograd.grad(spread, gain)
    return spread.item(), gradient.item()


# --8<-- [end:use]


def main() -> None:
    """Print the ring every 100 s, a character for each car, and the gradient."""
    ring = make_ring(difference_gain=0.2)
    for second in range(0, 901, 100):
        speed = ring.speed[0]
        drawn = "".join(" .:-=+*#%@"[int(9.0 * v / 15.0)] for v in speed)
        print(f"{second:4} s |{drawn}| {speed.min():5.2f} to {speed.max():5.2f} m/s")
        ring.run(1000)
    spread, gradient = spread_gradient(30.0)
    print(f"after 30 s: spread {spread:.4f} m/s, its derivative in lambda {gradient:.4f} m")


if __name__ == "__main__":
    main()
