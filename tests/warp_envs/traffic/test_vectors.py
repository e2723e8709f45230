"""A step side by side in vectors, against the kernels that take one vehicle after another."""

from typing import Any

import pytest
import torch
import warp as wp

from kernels.traffic import idm, ovm
from kernels.traffic.car_following import CarFollowing, Parameter
from kernels.traffic.road import BALLISTIC, EULER, SEMI_IMPLICIT
from warp_envs.traffic.movement import Advance
from warp_envs.traffic.programs import PlainStep
from warp_envs.traffic.simulator import TrafficSim
from warp_envs.traffic.vectors import vector_step

ROADS, CARS = 5, 7  # 35 vehicles: some vectors, and a part of one
LENGTH = 200.0


def state(seed: int, ring: bool):
    """A lane of cars on each road, two of which are in no lane; a car alone on the first road."""
    random = torch.Generator().manual_seed(seed)
    x = torch.sort(LENGTH * torch.rand(ROADS, CARS, generator=random, dtype=torch.float64))[0]
    speed = 20.0 * torch.rand(ROADS, CARS, generator=random, dtype=torch.float64)
    index = torch.arange(ROADS * CARS, dtype=torch.int32).view(ROADS, CARS)
    leader = index + 1
    leader[:, -1] = index[:, 0] if ring else -1
    leader[2, 3] = leader[3, 0] = -2
    leader[2, 2] = index[2, 4]
    leader[3, -1] = index[3, 1] if ring else -1
    leader[0] = -2
    leader[0, 2] = index[0, 2] if ring else -1
    return x, speed, leader


def drivers(model: CarFollowing, differ: bool):
    numbers = torch.tensor([number.default for number in model.numbers], dtype=torch.float64)
    numbers[1] = 9.0
    rows = numbers.expand(ROADS, CARS, -1).clone()
    if differ:
        rows *= 1.0 + 0.1 * torch.rand(rows.shape, generator=torch.Generator().manual_seed(1))
        rows[1:, :, -1] = numbers[-1]  # the IDM's delta: all alike in some vectors
    return rows


@pytest.mark.parametrize(
    ("model", "sumo", "integrator", "parts", "ring", "commanded"),
    [
        (idm.MODEL, True, SEMI_IMPLICIT, 2, True, True),
        (idm.MODEL, True, BALLISTIC, 1, False, False),
        (ovm.MODEL, False, EULER, 1, False, True),
    ],
)
@pytest.mark.parametrize("differ", [True, False])
def test_the_same_step_and_the_same_gradient(
    model, sumo, integrator, parts, ring, commanded, differ
):
    advance = Advance(model, sumo, int(integrator), parts, LENGTH if ring else 0.0, 0.5)
    settings = ((ROADS, CARS), torch.float64)
    steps = [
        vector_step(*settings, advance, alike=not differ, learned=True),
        PlainStep(*settings, "cpu", advance),
    ]
    x, speed, leader = state(3, ring)
    command = torch.full_like(x, torch.nan)
    command[1] = torch.linspace(-9.0, 3.0, CARS)
    results = []
    for step in steps:
        inputs = [t.clone().requires_grad_() for t in (x, speed, drivers(model, differ), command)]
        next_x, next_speed = step(
            inputs[0], inputs[1], leader, inputs[2], inputs[3] if commanded else None
        )
        weights = torch.linspace(1.0, 2.0, CARS)
        loss = (next_x * weights).sum() + 3.0 * (next_speed * weights).sum()
        found = torch.autograd.grad(loss, inputs, allow_unused=True)
        results.append([next_x, next_speed, *found[: 4 if commanded else 3]])
    for mine, plain in zip(*results, strict=True):
        assert torch.isfinite(plain).all()
        assert torch.allclose(mine, plain, rtol=1e-9, atol=1e-9)
    assert (results[0][2] != 1.0).any()


def test_one_gradient_alone_may_be_asked_for():
    traffic = TrafficSim(2, 1, 5, dtype=torch.float64)
    x = traffic.x.requires_grad_()
    traffic.set_state({"x": x})
    speed = traffic.step()["speed"]
    (found,) = torch.autograd.grad(speed.sum(), x)
    assert (found[:, 0] != 0.0).all()


@wp.func
def branching(speed: Any, gap: Any, speed_difference: Any, v0: Any):
    if gap < type(speed)(10.0):
        return -speed
    return v0 - speed


def test_a_model_that_branches_is_driven_one_by_one():
    model = CarFollowing("branching", (Parameter("v0", 20.0, "m/s", "desired"),), branching)
    advance = Advance(model, False, int(EULER), 1, 0.0, 0.1)
    assert vector_step((1, 2), torch.float64, advance, alike=True, learned=False) is None
    road = TrafficSim(1, 1, 2, model=model, dtype=torch.float64, dt=0.1, v0=30.0)
    x = torch.tensor([[0.0, 14.0]], dtype=torch.float64)
    road.set_state({"x": x, "speed": torch.full_like(x, 10.0)})
    assert road.step()["speed"][0].tolist() == pytest.approx([9.0, 12.0])
