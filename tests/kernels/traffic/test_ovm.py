"""The OVM: against its paper's V, its equilibria, its linear stability, and central differences."""

import cmath
import math

import pytest
import torch

from warp_envs.traffic.car_following import acceleration
from warp_envs.traffic.simulator import INTEGRATORS, TrafficSim

BANDO = {"v0": 1.0 + math.tanh(2.0), "width": 1.0, "beta": 2.0}
"""The paper's units: V(h) = tanh(h - 2) + tanh 2."""

POINT = 1e-9  # length of a vehicle without one


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_papers_optimal_speed():
    gap = torch.linspace(0.0, 10.0, 101, dtype=torch.float64)
    found = acceleration("ovm", double(0.4), gap, 0.0, kappa=1.5, **BANDO)
    expected = 1.5 * (torch.tanh(gap - 2.0) + math.tanh(2.0) - 0.4)
    assert torch.allclose(found, expected, rtol=0, atol=1e-14)
    assert acceleration("ovm", 0.0, 0.0, 0.0).item() == 0.0  # V(0) = 0


def test_finite_without_a_leader_and_where_vehicles_overlap():
    for dtype in (torch.float32, torch.float64):
        gap = torch.tensor([math.inf, 1e30, -3.0], dtype=dtype, requires_grad=True)
        values = {"kappa": 1.5, "v0": 30.0, "width": 15.0, "beta": 1.5}
        numbers = {k: torch.tensor(v, dtype=dtype, requires_grad=True) for k, v in values.items()}
        found = acceleration("ovm", torch.zeros(3, dtype=dtype), gap, 0.0, **numbers)
        gradients = torch.autograd.grad(found.sum(), [gap, *numbers.values()])
        assert found[0].item() == pytest.approx(45.0, rel=1e-6)
        assert found[2].item() < 0.0
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert gradients[0][:2].tolist() == [0.0, 0.0]


def test_gradients_in_every_argument():
    generator = torch.Generator().manual_seed(0)
    arguments = [
        (low + (high - low) * torch.rand(5, generator=generator, dtype=torch.float64))
        for low, high in ((0, 20), (2, 60), (-2, 2), (0.5, 2), (10, 35), (5, 20), (0.5, 2))
    ]
    names = ("kappa", "v0", "width", "beta")

    def run(speed, gap, difference, *numbers):
        return acceleration("ovm", speed, gap, difference, **dict(zip(names, numbers, strict=True)))

    inputs = [argument.requires_grad_() for argument in arguments]
    assert torch.autograd.gradcheck(run, inputs, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_gradients_through_steps_on_a_ring(integrator):
    x = double(1.0, 12.0, 31.0, 44.0)[None]
    speed = double(9.0, 6.0, 8.0, 4.0)[None]
    names = ("kappa", "v0", "width", "beta")

    def run(x, speed, *numbers):
        traffic = TrafficSim(
            1, 1, 4, model="ovm", ring_length=60.0, dtype=torch.float64, integrator=integrator,
            **dict(zip(names, numbers, strict=True)),
        )  # fmt: skip
        traffic.set_state({"x": x, "speed": speed})
        state = traffic.run(8)
        return state["x"], state["speed"]

    width = double(14.0, 15.0, 16.0, 13.0)[None]
    inputs = [x, speed, double(1.5), double(30.0), width, double(1.2)]
    inputs = [value.clone().requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(run, inputs, rtol=1e-6, atol=1e-6)


def ring(cars: int, headway: float, kappa: float, dt: float) -> TrafficSim:
    """Vehicles of no length in the paper's units, evenly spaced, at rest."""
    return TrafficSim(
        1, 1, cars, model="ovm", ring_length=cars * headway, dt=dt, integrator="ballistic",
        dtype=torch.float64, kappa=kappa, length=POINT, **BANDO,
    )  # fmt: skip


@pytest.mark.parametrize("headway", [1.0, 2.0, 3.5])
def test_a_ring_finds_the_optimal_speed(headway):
    speed = ring(10, headway, kappa=3.0, dt=0.1).run(200)["speed"]
    expected = math.tanh(headway - 2.0) + math.tanh(2.0)
    assert (speed - expected).abs().max().item() < 1e-7


@pytest.mark.parametrize("headway", [2.0, 2.5])
@pytest.mark.parametrize("above", [0.8, 1.25])
def test_uniform_flow_is_unstable_where_v_prime_exceeds_half_of_kappa(headway, above):
    """The longest wave grows or fades, and does so at the rate of the linear theory.

    x_n = h n + V t + e exp(i theta n + z t):  z^2 + kappa z - kappa V' (exp(i theta) - 1) = 0.
    """
    cars, dt, seconds = 40, 0.02, 40.0
    slope = 1.0 - math.tanh(headway - 2.0) ** 2
    kappa = 2.0 * slope / above
    theta = 2.0 * math.pi / cars
    drive = kappa * slope * (cmath.exp(1j * theta) - 1.0)
    root = cmath.sqrt(kappa**2 + 4.0 * drive)
    rate = (root - kappa) / 2.0  # of the two, the one that grows or fades more slowly
    assert (rate.real > 0.0) == (above > 1.0)

    place = torch.arange(cars, dtype=torch.float64)[None]
    wave = 1e-6 * torch.exp(1j * theta * place)
    uniform = math.tanh(headway - 2.0) + math.tanh(2.0)
    traffic = ring(cars, headway, kappa, dt)
    x = (headway * place + wave.real) % (cars * headway)
    traffic.set_state({"x": x, "speed": uniform + (rate * wave).real})
    size = []
    for _ in range(2):
        speed = traffic.speed - uniform
        size.append((speed * torch.exp(-1j * theta * place)).sum().abs().item())
        traffic.run(round(seconds / dt))
    growth = math.log(size[1] / size[0]) / seconds
    assert (growth > 0.0) == (above > 1.0)
    assert growth == pytest.approx(rate.real, rel=0.03)
