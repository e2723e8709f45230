import math

import pytest
import torch

from gippo.networks.adam import ParameterVector
from gippo.networks.perceptron import (
    ActorConfig,
    GaussianActor,
    Tangent,
    ValueNetwork,
    combined,
    kl_divergence,
    log_prob,
    squashed_entropy,
)


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


def make_actor(native=False, **options):
    config = ActorConfig([6, 5], **options)
    shared = {"generator": generator(), "dtype": torch.float64, "native": native}
    return GaussianActor(3, config.hidden, 2, **shared, **config.form)


@pytest.mark.parametrize("activation", ["elu", "relu", "silu", "tanh"])
def test_the_norm_may_come_before_the_activation(activation):
    actor = make_actor(activation=activation, layer_norm="before")
    mlp, functional = actor.mlp, torch.nn.functional
    x = torch.randn(6, 3, dtype=torch.float64, generator=generator(1))
    hidden = x
    for i, size in enumerate((6, 5)):
        hidden = functional.linear(hidden, mlp.weights[i], mlp.biases[i])
        hidden = getattr(functional, activation)(functional.layer_norm(hidden, (size,)))
    head = functional.linear(hidden, mlp.weights[2], mlp.biases[2])
    torch.testing.assert_close(torch.cat(actor.forward(x), -1), head)
    torch.testing.assert_close(torch.cat(actor.frozen()(x), -1), head)


@pytest.mark.parametrize("native", [True, False])
def test_a_log_sigma_without_state_is_one_trained_number_an_action(native):
    options = {"log_sigma": "state_independent", "initial_log_sigma": -0.7}
    actor = make_actor(native, **options)
    x = torch.randn(4, 6, 3, dtype=torch.float64, generator=generator(1)).requires_grad_()
    mu, log_sigma = actor.forward(x)
    assert mu.shape == log_sigma.shape == (4, 6, 2)
    assert bool((log_sigma == -0.7).all())
    assert actor.mlp.weights[-1].shape == (2, 5)
    plain = make_actor()
    with torch.no_grad():
        for own, other in zip(actor.mlp.weights, plain.mlp.weights, strict=True):
            other[: len(own)] = own
    torch.testing.assert_close(mu, plain.forward(x)[0])
    torch.testing.assert_close(actor.frozen()(x)[0], mu)
    assert torch.equal(actor.frozen()(x)[1], log_sigma)
    (own,) = torch.autograd.grad(actor.frozen()(x)[0].sum(), x)
    torch.testing.assert_close(own, torch.autograd.grad(mu.sum(), x, retain_graph=True)[0])
    parameters = ParameterVector(actor)
    gradient = parameters.views(parameters.gradient(log_sigma.sum()))
    bias = gradient[list(parameters.names).index("mlp.biases.2")]
    assert bias.tolist() == [0.0, 0.0, 24.0, 24.0]
    torch.testing.assert_close(actor.forward_with(list(actor.parameters()), x), (mu, log_sigma))


def test_log_sigma_stays_within_its_bounds_and_has_no_gradient_beyond():
    actor = make_actor(log_sigma_bounds=[-0.1, 0.2])
    free = make_actor()
    x = 3.0 * torch.randn(50, 3, dtype=torch.float64, generator=generator(1))
    (mu, log_sigma), (same, wide) = actor.forward(x), free.forward(x)
    torch.testing.assert_close(mu, same)
    torch.testing.assert_close(log_sigma, wide.clamp(-0.1, 0.2))
    assert bool((wide < -0.1).any()) and bool((wide > 0.2).any())
    torch.testing.assert_close(actor.frozen()(x)[1], log_sigma)


def test_an_orthogonal_actor_s_heads_are_each_so():
    actor = make_actor(init_gain=1.0)
    for head in actor.mlp.weights[-1].detach().chunk(2):
        torch.testing.assert_close(head @ head.T, torch.eye(2, dtype=torch.float64))
    assert all(bool((bias == 0).all()) for bias in actor.mlp.biases)


def test_several_value_networks_are_independent_and_combined():
    options = {"generator": generator(), "dtype": torch.float64}
    several = ValueNetwork(3, [8], 1.5, count=3, **options)
    first = ValueNetwork(3, [8], 1.5, generator=generator(), dtype=torch.float64)
    x = torch.randn(7, 4, 3, dtype=torch.float64, generator=generator(1))
    values = several.mlp.forward(x)
    assert values.shape == (7, 4, 3)
    torch.testing.assert_close(values[..., 0], first.forward(x))
    assert not torch.allclose(values[..., 0], values[..., 1])
    assert torch.equal(several.forward(x), values.min(-1).values)
    assert torch.equal(several.frozen("mean")(x), values.mean(-1))
    assert {int(i) for i in values.argmin(-1).flatten()} == {0, 1, 2}
    one = torch.tensor([[1.0, 3.0], [5.0, 2.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(combined(one, "min").sum(), one)
    assert gradient.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_squashed_entropy_is_minus_torchs_log_density():
    mu, log_sigma, noise = (
        torch.randn(50, 3, dtype=torch.float64, generator=generator(i)).requires_grad_(i < 2)
        for i in range(3)
    )
    squash = torch.distributions.TanhTransform(cache_size=1)
    squashed = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mu, log_sigma.exp()), [squash]
    )
    expected = -squashed.log_prob(squash(mu + log_sigma.exp() * noise)).sum(-1)
    found = squashed_entropy(mu, log_sigma, noise)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(x.sum(), (mu, log_sigma)) for x in (found, expected)]
    torch.testing.assert_close(*gradients)
    far = squashed_entropy(torch.tensor([80.0]), torch.tensor([0.0]), torch.tensor([0.0]))
    assert far.item() == pytest.approx(2 * math.log(2) - 160 + 0.5 * math.log(2 * math.pi))


@pytest.mark.parametrize("activation", ["elu", "relu", "silu", "tanh"])
@pytest.mark.parametrize("layer_norm", ["after", "before"])
@pytest.mark.parametrize(
    "output",
    [
        {},
        {"log_sigma": "state_independent"},
        {"log_sigma_bounds": [-0.3, 0.1]},
        {"log_sigma": "state_independent", "log_sigma_bounds": [-2.0, 0.0]},
    ],
)
def test_the_tangent_is_the_outputs_derivative(activation, layer_norm, output):
    draws = generator()
    form = {"activation": activation, "layer_norm": layer_norm, **output}
    actor = GaussianActor(5, [8, 7], 3, generator=draws, dtype=torch.float64, **form)
    parameters = [p.detach() for p in actor.parameters()]

    def randn(*shape):
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    x, changes, h = randn(9, 5), [randn(*p.shape) for p in parameters], 1e-6
    ends = [
        actor.mlp.forward_with(
            [p + sign * h * d for p, d in zip(parameters, changes, strict=True)], x
        )
        for sign in (1.0, -1.0)
    ]
    found = Tangent(actor.mlp, parameters, x).times(changes)
    torch.testing.assert_close(found, (ends[0] - ends[1]) / (2.0 * h), rtol=1e-6, atol=1e-6)
