"""A step side by side in vectors, against the kernels that take one vehicle after another."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import warp as wp

from kernels.traffic import idm, mobil_vectors, ovm
from kernels.traffic.car_following import CarFollowing, Parameter
from kernels.traffic.road import BALLISTIC, EULER, SEMI_IMPLICIT
from kernels.traffic.vector_code import elementary, native, vectors
from warp_envs.traffic.movement import Advance
from warp_envs.traffic.programs import PlainStep
from warp_envs.traffic.simulator import Mobil, TrafficSim
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
        torch.testing.assert_close(mine, plain, rtol=1e-14, atol=1e-14)
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


@pytest.mark.parametrize("ring", [True, False])
@pytest.mark.parametrize("differ", [True, False])
@pytest.mark.parametrize(
    ("model", "dtype", "driving", "sizes"),
    [
        ("idm", torch.float64, "sumo", (7, 45, 4)),
        ("idm", torch.float32, "plain", (3, 400, 2)),  # lanes longer than a search begins with
        ("ovm", torch.float64, "plain", (7, 45, 4)),
    ],
)
def test_the_same_lane_changes(monkeypatch, model, dtype, driving, sizes, differ, ring):
    roads, cars, lanes = sizes
    random = torch.Generator().manual_seed(4)

    def draw(*shape):
        return torch.rand(*shape, generator=random, dtype=dtype)

    v0 = 15.0 + 20.0 * draw(roads, cars) if differ else 30.0
    options = {"ring_length": 20.0 * cars} if ring else {}
    state = {
        "x": torch.arange(cars, dtype=dtype) * 19.0 + 8.0 * draw(roads, cars),
        "speed": 20.0 * draw(roads, cars),
        "lane": (lanes * draw(roads, cars)).int(),
    }
    state["lane"][2, 7] = -1
    state["lane"][0] = 1
    state["lane"][1, 1:] = -1  # alone

    def run() -> tuple[list[torch.Tensor], int]:
        traffic = TrafficSim(
            roads, lanes, cars, dtype=dtype, model=model, driving=driving, v0=v0,
            mobil=Mobil(politeness=0.3, threshold=0.05, bias=0.02), **options,
        )  # fmt: skip
        traffic.set_state(state)
        seen = [traffic.step()[name] for _ in range(100) for name in ("x", "lane")]
        changes = sum(int((a != b).sum()) for a, b in itertools.pairwise(seen[1::2]))
        return seen, changes

    mine, changes = run()
    monkeypatch.setattr(mobil_vectors, "change_lanes", lambda *_: None)
    plain, _ = run()
    assert changes > 50
    for a, b in zip(mine, plain, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("scalar", [wp.float32, wp.float64])
def test_a_hyperbolic_tangent_to_the_last_digits(scalar):
    exact = {wp.float32: np.float32, wp.float64: np.float64}[scalar]
    x = np.linspace(-3.0, 3.0, 1600)
    x = np.concatenate([x, 1e-9 * x, 1e3 * x, [0.0, -0.0, np.inf, -np.inf] * 4]).astype(exact)
    kernel = hyperbolic_tangent(scalar)
    given = wp.array(x, dtype=scalar, device="cpu")
    found = wp.zeros_like(given)
    wp.launch(kernel, dim=len(x) // 16, inputs=[given, found], device="cpu")
    unit = np.finfo(exact).eps
    np.testing.assert_allclose(found.numpy(), np.tanh(x.astype(np.float64)), rtol=2.0 * unit)
    assert np.array_equal(np.signbit(found.numpy()), np.signbit(x))


def hyperbolic_tangent(scalar: type) -> wp.Kernel:
    """A kernel of it alone, a task 16 numbers."""
    name = {wp.float32: "float", wp.float64: "double"}[scalar]
    rows = wp.array(dtype=scalar)

    def tangents(x: rows, y: rows, task: int): ...

    tangent = native(
        tangents,
        f"""{vectors(name)}{elementary(name)}
        for (int i = task * 16; i < task * 16 + 16; i += LANES)
            store(y.data + i, Elementary::hyperbolic_tangent(load(x.data + i, LANES)), LANES);
        """,
    )

    @wp.kernel(module="unique", enable_backward=False)
    def each(x: rows, y: rows):
        tangent(x, y, wp.tid())

    return each
