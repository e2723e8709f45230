import math

import pytest
import torch

from gippo.networks.perceptron import GaussianActor, ValueNetwork, kl_divergence, log_prob


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_layers_are_linear_elu_layernorm_and_a_linear_head():
    actor = GaussianActor(3, [5, 4], 2, generator=generator(), dtype=torch.float64)
    mlp = actor.mlp
    x = torch.randn(6, 3, dtype=torch.float64, generator=generator(1))
    hidden = x
    for i in range(2):
        hidden = hidden @ mlp.weights[i].T + mlp.biases[i]
        hidden = torch.where(hidden > 0, hidden, torch.expm1(hidden))
        hidden = hidden - hidden.mean(-1, keepdim=True)
        hidden = hidden / torch.sqrt((hidden * hidden).mean(-1, keepdim=True) + 1e-5)
    head = hidden @ mlp.weights[2].T + mlp.biases[2]
    mu, log_sigma = actor.forward(x)
    torch.testing.assert_close(mu, head[:, :2])
    torch.testing.assert_close(log_sigma, head[:, 2:])


def test_the_critic_starts_orthogonal_with_the_gain_asked_for():
    network = ValueNetwork(3, [8, 8], 1.5, generator=generator(), dtype=torch.float64)
    weight = network.mlp.weights[1].detach()
    torch.testing.assert_close(weight @ weight.T, 2.25 * torch.eye(8, dtype=torch.float64))
    assert network.mlp.weights[2].norm().item() == pytest.approx(1.5)
    assert all(bool((bias == 0).all()) for bias in network.mlp.biases)
    assert network.forward(torch.zeros(4, 5, 3, dtype=torch.float64)).shape == (4, 5)


def test_initial_weights_depend_on_the_generator_alone():
    def weights(seed):
        actor = GaussianActor(3, [5], 2, generator=generator(seed), dtype=torch.float32)
        return torch.cat([p.flatten() for p in actor.parameters()])

    torch.manual_seed(1)
    first = weights(0)
    torch.manual_seed(2)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))


def test_log_prob_and_divergence_are_torchs():
    shape = (5, 3)
    mu, log_sigma, other_mu, other_log_sigma, action = (
        torch.randn(shape, dtype=torch.float64, generator=generator(i)) for i in range(5)
    )
    one = torch.distributions.Normal(mu, log_sigma.exp())
    other = torch.distributions.Normal(other_mu, other_log_sigma.exp())
    torch.testing.assert_close(log_prob(action, mu, log_sigma), one.log_prob(action).sum(-1))
    torch.testing.assert_close(
        kl_divergence(mu, log_sigma, other_mu, other_log_sigma),
        torch.distributions.kl_divergence(one, other).sum(-1),
    )
    assert log_prob(torch.zeros(1), torch.zeros(1), torch.zeros(1)).item() == pytest.approx(
        -0.5 * math.log(2 * math.pi)
    )
