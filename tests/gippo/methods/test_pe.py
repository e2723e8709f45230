import math

import pytest
import torch

from gippo.methods.pe import enhanced
from gippo.networks.perceptron import log_prob
from tests.gippo.policies import make_context, make_samples


def test_an_extrapolated_advantage_by_hand():
    samples = make_samples(make_context().actor, batch=2)
    samples.eps[:] = torch.tensor([[1.0, 0.0], [0.0, -2.0]])
    samples.mu[:] = 0.5
    samples.log_sigma[:] = math.log(2.0)
    samples.action[:] = torch.tensor([[2.5, 0.5], [0.5, -3.5]])
    samples.advantage[:] = torch.tensor([10.0, 20.0])
    samples.action_gradient[:] = torch.tensor([[1.0, 3.0], [-2.0, 0.5]])
    noise = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]], dtype=torch.float64)
    grown = enhanced(samples, noise, 0.6)
    # eps' = 0.6 eps + 0.8 xi: (0.6, 0.8) and (0.8, -1.2); d = 2 (eps' - eps)
    assert grown.action.tolist() == [
        [2.5, 0.5],
        pytest.approx([2.5 - 0.8, 0.5 + 1.6]),
        [0.5, -3.5],
        pytest.approx([0.5 + 1.6, -3.5 + 1.6]),
    ]
    first, second = -0.8 * 1.0 + 1.6 * 3.0, 1.6 * -2.0 + 1.6 * 0.5
    assert grown.advantage.tolist() == pytest.approx([10.0, 10.0 + first, 20.0, 20.0 + second])
    expected = log_prob(grown.action, grown.mu, grown.log_sigma)
    torch.testing.assert_close(grown.log_prob, expected)
    torch.testing.assert_close(grown.action, grown.mu + 2.0 * grown.eps)


def test_extrapolation_is_exact_for_an_advantage_linear_in_the_action():
    samples = make_samples(make_context().actor, batch=64)
    slope = torch.tensor([1.5, -0.7], dtype=torch.float64)
    samples.advantage = samples.action @ slope
    samples.action_gradient = slope.expand(64, 2).clone()
    noise = torch.randn(64, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grown = enhanced(samples, noise, 0.3)
    assert len(grown.obs) == 4 * 64
    torch.testing.assert_close(grown.advantage, grown.action @ slope)
    torch.testing.assert_close(grown.obs[::4], samples.obs)
    torch.testing.assert_close(grown.action[::4], samples.action)


def test_new_actions_are_draws_of_the_policy_that_acted():
    samples = make_samples(make_context().actor, batch=20_000)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 1, 2, generator=generator, dtype=torch.float64)
    eps = enhanced(samples, noise, 0.9).eps[1::2]
    assert eps.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=0.03)
    assert eps.var(0).tolist() == pytest.approx([1.0, 1.0], abs=0.03)
    assert (eps * samples.eps).mean(0).tolist() == pytest.approx([0.9, 0.9], abs=0.03)
