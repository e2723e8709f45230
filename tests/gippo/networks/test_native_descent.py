import itertools
import math

import pytest
import torch
from torch.nn.functional import elu, layer_norm, linear

from gippo.networks.native import NativeDescent
from kernels.perceptron.passes import COLUMNS, plan_pass

TOLERANCE = {torch.float64: {"rtol": 1e-10, "atol": 1e-10}, torch.float32: {}}


class Network:
    """Parameters laid out as a descent wants them, and the network in torch's operations."""

    def __init__(self, sizes, dtype=torch.float64, seed=0):
        self.sizes = sizes
        layers = list(itertools.pairwise(sizes))
        hidden = layers[:-1]
        shapes = [(o, i) for i, o in layers] + [(o,) for _, o in layers]
        shapes += 2 * [(o,) for _, o in hidden]
        counts = [math.prod(shape) for shape in shapes]
        self.generator = torch.Generator().manual_seed(seed)
        self.vector = 0.3 * self.randn(sum(counts), dtype=dtype)
        self.views = [v.view(s) for v, s in zip(self.vector.split(counts), shapes, strict=True)]
        self.totals = self.randn(sum(counts), dtype=dtype)

    def randn(self, *shape, dtype):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(dtype)

    def plain(self, parameters, x):
        n = len(self.sizes) - 2
        weights, biases, norms = (
            parameters[: n + 1],
            parameters[n + 1 : 2 * n + 2],
            parameters[-2 * n :],
        )
        for i in range(n):
            x = elu(linear(x, weights[i], biases[i]))
            x = layer_norm(x, x.shape[-1:], norms[i], norms[n + i])
        return linear(x, weights[n], biases[n])

    def descent(self, rows, loss="square_distance", num_columns=None, num_settings=0):
        columns = self.sizes[-1] if num_columns is None else num_columns
        return NativeDescent(
            self.sizes, rows, columns, loss, num_settings, self.vector, self.totals
        )


def square_distance(output, columns):
    mu, log_sigma = output.chunk(2, dim=-1)
    eps, goal = columns.chunk(2, dim=-1)
    return (mu + torch.exp(log_sigma) * eps - goal).square().sum(-1)


def clipped_surrogate(output, columns, clip, most):
    mu, log_sigma = output.chunk(2, dim=-1)
    action, reference, advantage = columns[:, :-2], columns[:, -2], columns[:, -1]
    log_prob = torch.distributions.Normal(mu, torch.exp(log_sigma)).log_prob(action).sum(-1)
    ratio = torch.exp((log_prob - reference).clamp(-most, most))
    return -torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def square_error(output, columns, unit, offset):
    return (unit * output + offset - columns).square().squeeze(-1)


LOSSES = {
    "square_distance": (square_distance, ()),
    "clipped_surrogate": (clipped_surrogate, (0.2, 3.0)),
    "square_error": (square_error, (3.0, -2.0)),
}


def near_present_policy(network, x, columns):
    """Reference log-probabilities of which some lie within each branch of the clipped loss."""
    mu, log_sigma = network.plain([v.double() for v in network.views], x.double()).chunk(2, dim=-1)
    policy = torch.distributions.Normal(mu, torch.exp(log_sigma))
    action = mu + torch.exp(log_sigma) * columns[:, :-2]
    columns[:, :-2] = action
    columns[:, -2] = policy.log_prob(action).sum(-1) + columns[:, -2]
    return columns


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [1, 7, 96, 97, 200])
@pytest.mark.parametrize(
    ("sizes", "loss"),
    [
        ((1, 2, 1), "square_error"),
        ((5, 16, 64, 2), "square_distance"),
        ((37, 33, 31, 9, 16), "square_distance"),
        ((70, 128, 6), "square_distance"),
        ((5, 16, 8, 6), "clipped_surrogate"),
        ((20, 33, 2), "clipped_surrogate"),
    ],
)
def test_a_descent_is_autograds(sizes, loss, rows, dtype):
    network = Network(sizes, dtype)
    function, settings = LOSSES[loss]
    num_columns = sizes[-1] // 2 + 2 if loss == "clipped_surrogate" else sizes[-1]
    x = network.randn(rows, sizes[0], dtype=dtype)
    columns = network.randn(rows, num_columns, dtype=torch.float64)
    if loss == "clipped_surrogate":
        columns = near_present_policy(network, x, columns)
    columns = columns.to(dtype)
    leaves = [view.double().requires_grad_() for view in network.views]
    expected_output = network.plain(leaves, x.double())
    expected = function(expected_output, columns.double(), *settings)
    gradients = torch.autograd.grad(0.3 * expected.sum(), leaves)

    once = network.descent(rows, loss, num_columns, len(settings))
    before = network.totals.clone()
    # Two outputs of a LayerNorm of nearly equal numbers differ by more than their rounding
    tolerance = TOLERANCE[dtype] or {"rtol": 2e-3, "atol": 5e-4 * math.sqrt(rows)}
    for _ in range(2):  # the workspace holds what the call before has left
        network.totals.copy_(before)
        losses, output = once.evaluate(x, columns, settings)
        torch.testing.assert_close(losses.double(), expected.detach(), **tolerance)
        assert torch.equal(network.totals, before)
        losses, output = once.descend(x, columns, settings, 0.3)
        torch.testing.assert_close(losses.double(), expected.detach(), **tolerance)
        torch.testing.assert_close(output.double(), expected_output.detach(), **tolerance)
    found = network.totals.split([g.numel() for g in gradients])
    for mine, theirs in zip(found, gradients, strict=True):
        torch.testing.assert_close(mine.double(), theirs.flatten(), **tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_elu_is_exact_to_rounding_everywhere(dtype):
    z = -torch.logspace(-9, 3, 4001, dtype=torch.float64)
    z = torch.cat([z, -z]).to(dtype)
    expected = elu(z.double())
    network = Network((1, len(z), 1), dtype)
    zeros, ones, zero = torch.zeros_like(z), torch.ones_like(z), torch.zeros(1, dtype=dtype)
    # The hidden layer's biases are z
    network.vector.copy_(torch.cat([zeros, zeros, z, zero, ones, zeros]))
    once = network.descent(1, "square_error", num_settings=2)
    once.evaluate(torch.zeros(1, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype), (1.0, 0.0))
    start = plan_pass(network.sizes).layers[0][COLUMNS.index("z")]
    found = once.workspace[start : start + len(z)].double()
    assert ((found - expected) / expected).abs().max() < 3.0 * torch.finfo(dtype).eps


def test_what_is_not_a_number_stays_none_and_spoils_its_row_alone():
    network = Network((3, 8, 2))
    x = network.randn(3, 3, dtype=torch.float64)
    columns = network.randn(3, 2, dtype=torch.float64)
    expected = network.plain(network.views, x)
    x[0, 1], x[2, 0] = math.nan, math.inf
    losses, output = network.descent(3).descend(x, columns, (), 1.0)
    assert bool(output[[0, 2]].isnan().all())
    assert bool(losses[[0, 2]].isnan().all())
    torch.testing.assert_close(output[1], expected[1])
    torch.testing.assert_close(losses[1], square_distance(expected, columns)[1])


@pytest.mark.parametrize("column", range(4))
def test_a_surrogate_of_what_is_not_a_number_is_none(column):
    network = Network((3, 8, 4))
    x, columns = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    columns[1, column] = math.nan
    once = network.descent(2, "clipped_surrogate", 4, 2)
    losses, _ = once.descend(x, columns, (0.2, 16.0), 1.0)
    assert losses.isnan().tolist() == [False, True]
    assert not bool(network.totals.isfinite().all())
