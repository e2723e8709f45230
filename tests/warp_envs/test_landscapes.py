"""De Jong and Ackley against their formulas, written once more in torch."""

import math
from typing import Any

import pytest
import torch
import warp as wp

import warp_envs
from warp_envs.checks import ArgumentError
from warp_envs.landscapes import LandscapeEnv


def dejong(x):
    return (x * x).sum(1)


def ackley(x):
    radius = (x * x).mean(1).sqrt()
    ripples = torch.cos(2 * math.pi * x).mean(1)
    return -20 * torch.exp(-0.2 * radius) - torch.exp(ripples) + 20 + math.e


@pytest.mark.parametrize(
    ("name", "formula", "width"), [("dejong", dejong, 5.12), ("ackley", ackley, 32.768)]
)
@pytest.mark.parametrize("dim", [1, 3, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reward_and_gradient(name, formula, width, dim, dtype):
    env = warp_envs.make(name, num_envs=5, dim=dim, dtype=dtype)
    actions = (2 * torch.rand(5, dim, dtype=dtype) - 1).requires_grad_()
    obs, reward, terminated, truncated, info = env.step(actions)
    expected = -formula(width * actions)
    tight = 1e-12 if dtype == torch.float64 else 2e-5
    assert torch.allclose(reward, expected, rtol=tight, atol=tight)
    (gradient,) = torch.autograd.grad(reward.sum(), actions)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), actions)
    scale = expected_gradient.abs().max()
    assert torch.allclose(gradient / scale, expected_gradient / scale, atol=10 * tight)
    assert truncated.all() and not terminated.any()
    assert obs.shape == (5, 1) and not obs.any() and not info["final_obs"].any()


@pytest.mark.parametrize("name", ["dejong", "ackley"])
def test_optimum_is_zero_with_a_finite_gradient(name):
    env = warp_envs.make(name, num_envs=2, dim=4, dtype=torch.float64)
    actions = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    reward = env.step(actions)[1]
    assert torch.allclose(reward, torch.zeros_like(reward), atol=1e-13)
    assert torch.autograd.grad(reward.sum(), actions)[0].abs().max() == 0


@pytest.mark.parametrize("dim", [0, -1, 1.5, True])
def test_dimension_out_of_range(dim):
    with pytest.raises(ValueError, match=r"dim: .* given, an integer of at least 1 accepted"):
        warp_envs.make("ackley", num_envs=2, dim=dim)


@wp.func
def ripples(x: wp.array2d(dtype=Any), env: wp.int32):
    """A landscape of one's own: sum_i x_i^4 - cos x_i."""
    height = type(x[env, 0])(0.0)
    for i in range(x.shape[1]):
        height += x[env, i] * x[env, i] * x[env, i] * x[env, i] - wp.cos(x[env, i])
    return height


class Ripples(LandscapeEnv):
    name = "ripples"
    half_width = 2.0
    height = ripples


def test_a_landscape_of_ones_own_is_one_function():
    env = Ripples(num_envs=3, dim=4, dtype=torch.float64)
    actions = (2 * torch.rand(3, 4, dtype=torch.float64) - 1).requires_grad_()
    reward = env.step(actions)[1]
    expected = -((2 * actions) ** 4 - torch.cos(2 * actions)).sum(1)
    assert torch.allclose(reward, expected, rtol=1e-13)
    gradients = [torch.autograd.grad(total.sum(), actions)[0] for total in (reward, expected)]
    assert torch.allclose(*gradients, rtol=1e-12)


def test_a_landscape_without_a_height_is_refused():
    class Flat(LandscapeEnv):
        name = "flat"
        half_width = 1.0

    with pytest.raises(ArgumentError, match=r"^Flat\.height: nothing given, a Warp function"):
        Flat(num_envs=1)
    Flat.height = dejong
    with pytest.raises(ArgumentError, match=r"^height: .* given, a Warp function accepted"):
        Flat(num_envs=1)
