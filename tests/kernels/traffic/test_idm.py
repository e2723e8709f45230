"""The IDM: values against HighwayEnv and by hand, gradients against central differences."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import warp as wp
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.traffic import idm
from kernels.traffic.car_following import CarFollowing
from warp_envs.traffic.car_following import acceleration

DATA = Path(__file__).parents[2] / "data"
TREIBER = {"v0": 120.0 / 3.6, "T": 1.6, "a": 0.73, "b": 1.67, "s0": 2.0, "delta": 4.0}


@wp.func
def highway_acceleration(
    speed: Any,
    gap: Any,
    speed_difference: Any,
    v0: Any,
    T: Any,  # noqa: N803
    a: Any,
    b: Any,
    s0: Any,
    delta: Any,
):
    """HighwayEnv's: no s* >= 0."""
    least = type(speed)(-wp.inf)
    return idm.acceleration_within(speed, gap, speed_difference, v0, T, a, b, s0, delta, least)


HIGHWAY_IDM = CarFollowing("highway_idm", idm.MODEL.parameters, highway_acceleration)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_highway_env():
    data = np.load(DATA / "highway_idm.npz")
    speed, gap, difference, expected = (
        torch.tensor(data[name]) for name in ("v", "centre_distance", "dv", "accel")
    )
    parameters = {
        "v0": float(data["target_speed"]),
        "T": float(data["T"]),
        "a": float(data["a"]),
        "b": float(data["b"]),
        "s0": float(data["d0_centre"]),
        "delta": float(data["delta"]),
    }
    found = acceleration(HIGHWAY_IDM, speed, gap, difference, **parameters)
    assert ((found / expected - 1.0).abs() <= 1e-9).all()
    clamped = acceleration("idm", speed, gap, difference, **parameters)
    same = (clamped / expected - 1.0).abs() <= 1e-9
    assert int((~same).sum()) == 3  # where s* < 0, which HighwayEnv squares
    assert (clamped[~same] > expected[~same]).all()


def test_by_hand():
    # s* = 2 + 10 * 1.5 + 10 * 2 / (2 sqrt(1 * 4)) = 22; 1 - (1/2)^4 - (22/44)^2 = 0.6875
    found = acceleration("idm", 10.0, 44.0, 2.0, v0=20.0, T=1.5, a=1.0, b=4.0, s0=2.0, delta=4.0)
    assert found.dtype == torch.float32
    assert found.item() == 0.6875


def test_arguments_broadcast_and_keep_the_larger_type():
    found = acceleration(
        "idm", torch.ones(3, 1), 20.0, double(0.0, 1.0), **{**TREIBER, "a": torch.ones(2, 1, 1)}
    )
    assert found.shape == (2, 3, 2)
    assert found.dtype == torch.float64


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1.0, 1.7, 4.0]))
def test_gradients_in_every_argument(seed, delta):
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        sample = torch.rand(*shape, generator=generator, dtype=torch.float64)
        return (low + (high - low) * sample).requires_grad_()

    speed, gap, difference = uniform(1, 20, 4, 1), uniform(5, 50, 3), uniform(-1, 5, 4, 3)
    parameters = {
        "v0": uniform(15, 35, 1),
        "T": uniform(1, 2, 4, 1),
        "a": uniform(0.5, 2, 1),
        "b": uniform(1, 3, 1),
        "s0": uniform(1, 3, 3),
        "delta": double(delta).requires_grad_(),
    }
    assert torch.autograd.gradcheck(
        lambda v, s, dv, *p: acceleration("idm", v, s, dv, **dict(zip(parameters, p, strict=True))),
        (speed, gap, difference, *parameters.values()),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("delta", [0.5, 1.0, 4.0])
def test_finite_at_rest_at_zero_gap_and_without_a_leader(dtype, delta):
    speed = torch.tensor([0.0, 0.0, 5.0, 0.0, -1.0], dtype=dtype, requires_grad=True)
    gap = torch.tensor([0.0, math.inf, -3.0, 10.0, 10.0], dtype=dtype, requires_grad=True)
    exponent = torch.tensor(delta, dtype=dtype, requires_grad=True)
    parameters = {**TREIBER, "delta": exponent}
    found = acceleration("idm", speed, gap, torch.zeros(5, dtype=dtype), **parameters)
    gradients = torch.autograd.grad(found.sum(), (speed, gap, exponent))
    assert torch.isfinite(found).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert found[1].item() == pytest.approx(0.73)  # free road
    assert (gradients[1][:3] == 0.0).all()  # below the least gap, and with no leader


def test_subgradients_at_the_clamps():
    speed = double(10.0).requires_grad_()
    # s* = 2 + 10 (0.1) + 10 dv / 2 = 0 at dv = -0.6: the constant side
    parameters = {"v0": 20.0, "T": 0.1, "a": 1.0, "b": 1.0, "s0": 2.0, "delta": 4.0}
    free = 1.0 - 0.5**4
    for difference in (-0.6, -5.0):
        found = acceleration("idm", speed, double(10.0), double(difference), **parameters)
        (gradient,) = torch.autograd.grad(found.sum(), speed)
        assert found.item() == pytest.approx(free, abs=1e-12)
        assert gradient.item() == pytest.approx(-4.0 * 0.5**3 / 20.0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": 0.0}, "a: 0.0 given"),
        ({"v0": -1.0}, "v0: -1.0 given"),
        ({"delta": torch.tensor(math.nan)}, "delta: nan given"),
        ({"b": torch.tensor([1, 2])}, "b: torch.int64 given"),
        ({"s0": torch.ones(5)}, "shapes"),
    ],
)
def test_what_it_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        acceleration("idm", torch.ones(3), torch.ones(3), torch.zeros(3), **{**TREIBER, **change})
