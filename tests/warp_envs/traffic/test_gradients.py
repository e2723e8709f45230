"""What the gradients of TrafficSim are: exact along the lane, zero through who follows whom."""

import math

import pytest
import torch

from warp_envs.traffic.simulator import DRIVING, INTEGRATORS, TrafficSim


def double(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def simulate(x, speed, *, steps=8, command=None, lane=None, **options):
    """Positions and speeds of cars on one road after some steps."""
    traffic = TrafficSim(1, 2, x.shape[1], dtype=torch.float64, **options)
    state = {"x": x, "speed": speed}
    traffic.set_state(state if lane is None else {**state, "lane": lane})
    for _ in range(steps):
        state = traffic.step(command)
    return state["x"], state["speed"]


X = double(1.0, 13.0, 30.0, 41.0, 3.0, 22.0)
SPEED = double(8.0, 7.0, 9.0, 6.0, 5.0, 7.5)
LANE = torch.tensor([[0, 0, 0, 0, 1, 1]])
CHOICES = [{"driving": d, "integrator": i} for d in DRIVING for i in INTEGRATORS]


@pytest.mark.parametrize("ring_length", [None, 60.0])
@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("driving", DRIVING)
def test_along_the_lane_against_central_differences(driving, integrator, ring_length):
    dt = 0.6 if driving == "sumo" else 0.1  # SUMO plans 0.6 s in two parts
    command = torch.full_like(X, math.nan)
    command[0, 2] = -0.5

    def run(x, speed, push, v0, T):  # noqa: N803
        asked = torch.where(torch.isnan(command), command, command + push)
        return simulate(
            x,
            speed,
            command=asked,
            lane=LANE,
            v0=v0,
            T=T,
            dt=dt,
            driving=driving,
            integrator=integrator,
            ring_length=ring_length,
        )

    parameters = [torch.tensor(v, dtype=torch.float64) for v in (0.1, 20.0)]
    headway = torch.linspace(1.0, 1.5, 6, dtype=torch.float64)[None]
    arguments = [X, SPEED, *parameters, headway]
    assert torch.autograd.gradcheck(
        run, [argument.clone().requires_grad_() for argument in arguments], rtol=1e-6, atol=1e-6
    )


def test_steps_with_and_without_gradient_agree_bit_for_bit():
    for options in CHOICES:
        plain = simulate(X, SPEED, lane=LANE, **options)
        x, speed = X.clone().requires_grad_(), SPEED.clone().requires_grad_()
        recorded = simulate(x, speed, lane=LANE, **options)
        assert recorded[0].requires_grad
        assert all(torch.equal(p, r) for p, r in zip(plain, recorded, strict=True))
        with torch.no_grad():
            silent = simulate(x, speed, lane=LANE, **options)
        assert not silent[0].requires_grad


def test_no_gradient_between_lanes_though_lanes_matter():
    x = X.clone().requires_grad_()
    final, _ = simulate(x, SPEED, lane=LANE)
    (gradient,) = torch.autograd.grad(final[0, :4].sum(), x)
    assert (gradient[0, :4] != 0.0).all()
    assert (gradient[0, 4:] == 0.0).all()
    moved = LANE.clone()
    moved[0, 5] = 0  # now between the second and the third car
    assert (simulate(X, SPEED, lane=moved)[0][0, :2] < final[0, :2] - 1e-3).all()


def test_the_gradient_does_not_see_a_change_of_leader():
    # Side by side but for 1 mm: the car behind follows the nearer, whichever that is.
    def follower(x_second):
        x = torch.cat([double(0.0, 30.0), x_second], dim=1)
        lane = torch.zeros(1, 3, dtype=torch.int32)
        return simulate(x, double(10.0, 10.0, 2.0), lane=lane, steps=1)[1][0, 0]

    x_second = double(30.0005).requires_grad_()
    speed = follower(x_second)
    (gradient,) = torch.autograd.grad(speed, x_second)
    difference = (follower(double(30.0005)) - follower(double(29.9995))) / 1e-3
    assert gradient.item() == 0.0
    assert difference.item() > 1.0


def test_no_nan_at_rest_at_zero_gap_and_without_a_leader():
    for options in CHOICES:
        x = double(0.0, 5.0, 5.0, 9.0).requires_grad_()  # touching, overlapping, free
        speed = double(0.0, 0.0, 0.0, 0.0).requires_grad_()
        lane = torch.zeros(1, 4, dtype=torch.int32)
        outputs = simulate(x, speed, lane=lane, **options)
        gradients = torch.autograd.grad(sum(o.sum() for o in outputs), (x, speed))
        assert all(torch.isfinite(value).all() for value in (*outputs, *gradients))


def test_nobody_reverses_and_a_stopped_car_passes_no_gradient():
    x, speed = double(0.0, 5.5).requires_grad_(), double(4.0, 0.0).requires_grad_()
    lane = torch.zeros(1, 2, dtype=torch.int32)
    final, stopped = simulate(x, speed, steps=1, lane=lane, dt=0.1)
    assert stopped[0, 0] == 0.0
    through_speed = torch.autograd.grad(stopped[0, 0], (x, speed), retain_graph=True)
    assert all((gradient == 0.0).all() for gradient in through_speed)
    (along,) = torch.autograd.grad(final[0, 0], speed)
    assert along.tolist() == [[0.1, 0.0]]  # Euler: x + v dt


def test_windows():
    x = X.clone().requires_grad_()
    traffic = TrafficSim(1, 2, 6, dtype=torch.float64)
    traffic.set_state({"x": x, "speed": SPEED, "lane": LANE})
    first = traffic.step()["x"]
    traffic.detach()
    second = traffic.step()["x"]
    assert first.requires_grad
    assert not second.requires_grad
    gradients = [torch.autograd.grad(first.sum(), x, retain_graph=True)[0] for _ in range(2)]
    assert torch.equal(*gradients)


def test_learned_parameters_are_read_at_every_step():
    v0 = torch.tensor(20.0, dtype=torch.float64, requires_grad=True)
    traffic = TrafficSim(1, 1, 1, dtype=torch.float64, v0=v0)
    with torch.no_grad():
        v0.fill_(5.0)
        fast = traffic.run(600)["speed"]
    assert fast.item() == pytest.approx(5.0, abs=1e-3)
    (gradient,) = torch.autograd.grad(traffic.step()["speed"].sum(), v0)
    assert gradient.item() > 0.0
