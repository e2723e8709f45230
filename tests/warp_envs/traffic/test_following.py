"""Drivers behind leaders whose motion is given: as TrafficSim drives them, and differentiable."""

import pytest
import torch

from warp_envs.checks import ArgumentError
from warp_envs.traffic import Following, TrafficSim, read_drivers

STEPS, WINDOWS = 40, 3
OPTIONS = [
    {"driving": "sumo", "integrator": "semi_implicit"},
    {"driving": "plain", "integrator": "ballistic"},
    {"driving": "plain", "integrator": "euler", "planning_step": 0.1},
]
NUMBERS = {
    "length": [4.0, 5.0, 6.0],
    "emergency_decel": [9.0] * 3,
    "v0": [25.0, 30.0, 20.0],
    "T": [1.0, 1.5, 2.0],
    "a": [1.0, 1.4, 0.8],
    "b": [1.5, 2.0, 1.2],
    "s0": [2.0, 3.0, 1.5],
    "delta": [4.0, 4.0, 2.5],
}


def motion(options, dt=0.25):
    """Cars that follow another on roads of their own, which waves along."""
    shape = (WINDOWS, 1)
    numbers = {
        name: torch.cat([torch.tensor(v, dtype=torch.float64).view(shape)] * 2, dim=1)
        for name, v in NUMBERS.items()
    }
    traffic = TrafficSim(WINDOWS, 1, 2, dtype=torch.float64, dt=dt, **options, **numbers)
    start = torch.tensor([[0.0, 25.0]], dtype=torch.float64).repeat(WINDOWS, 1)
    speed = torch.tensor([[12.0, 10.0]], dtype=torch.float64).repeat(WINDOWS, 1)
    traffic.set_state({"x": start, "speed": speed, "lane": torch.zeros(WINDOWS, 2).int()})
    states = [traffic.get_state()]
    for k in range(STEPS):
        command = torch.full((WINDOWS, 2), torch.nan, dtype=torch.float64)
        command[:, 1] = -2.0 if k < 15 else 1.5
        states.append(traffic.step(command))
    x, v = (torch.stack([s[name] for s in states], dim=2) for name in ("x", "speed"))
    half = 0.5 * numbers["length"][:, :1]
    rear = (x[:, 1] - half)[:, :-1]
    driver = torch.stack([numbers[n.name][:, 0] for n in traffic.model.numbers], dim=1)
    following = Following("idm", rear, v[:, 1, :-1], dt=dt, **options)
    return following, x[:, 0] + half, v[:, 0], driver[None]


@pytest.mark.parametrize("options", OPTIONS)
def test_drivers_do_what_the_simulator_has_them_do(options):
    following, x, v, driver = motion(options)
    found = following.simulate(x[None, :, 0], v[None, :, 0], driver)
    torch.testing.assert_close(found[0][0], x, rtol=0.0, atol=1e-10)
    torch.testing.assert_close(found[1][0], v, rtol=0.0, atol=1e-10)
    assert v.min() < 5.0  # they braked


@pytest.mark.parametrize("options", OPTIONS)
def test_derivatives_are_those_of_differences(options):
    following, x, v, driver = motion(options)
    first = torch.stack([x[:, 0], v[:, 0]], dim=1)[None]
    point = torch.cat([driver, first], dim=2)

    def simulated(point):
        return torch.stack(following.simulate(point[..., 8], point[..., 9], point[..., :8]), dim=3)

    found = following.derivatives(*simulated(point).unbind(3), driver)
    for column in range(2, 10):  # length and emergency braking do not act here
        step = torch.zeros_like(point)
        step[..., column] = 1e-6
        difference = (simulated(point + step) - simulated(point - step)) / 2e-6
        scale = difference.abs().max().clamp(min=1e-3)
        assert (found[..., column] - difference).abs().max() < 1e-6 * scale
    assert not found[..., :2].any()


def test_drivers_from_a_file(tmp_path):
    path = tmp_path / "drivers.yaml"
    path.write_text("model: idm\nparameters: {T: [1.0, 1.5], emergency_decel: [.inf, 9.0]}\n")
    numbers = read_drivers(path)
    assert TrafficSim(1, 1, 2, **numbers).parameters["T"].tolist() == [[1.0, 1.5]]
    for text, said in (
        ("parameters: {T: [0.0], tau: [1.0]}", "tau"),
        ("parameters: {a: [-1.0]}", "positive"),
        ("parameters: {a: [[1.0], 2]}", "a list of numbers"),
        ("- 1", "model and parameters"),
        ("a: [", "no YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ArgumentError, match=said):
            read_drivers(path)
    with pytest.raises(ArgumentError, match="No such file"):
        read_drivers(tmp_path / "none.yaml")
