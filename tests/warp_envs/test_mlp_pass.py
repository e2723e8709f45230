import itertools
import math

import pytest
import torch
from torch.nn.functional import elu, layer_norm, linear

from kernels.mlp_pass import COLUMNS, plan_pass
from warp_envs.mlp_pass import MlpPass

TOLERANCE = {torch.float64: {"rtol": 1e-12, "atol": 1e-12}, torch.float32: {}}


class Network:
    """Parameters laid out as a pass wants them, and the network in torch's operations."""

    def __init__(self, sizes, dtype=torch.float64, seed=0):
        self.sizes = sizes
        layers = list(itertools.pairwise(sizes))
        hidden = layers[:-1]
        shapes = [(o, i) for i, o in layers] + [(o,) for _, o in layers]
        shapes += 2 * [(o,) for _, o in hidden]
        counts = [math.prod(shape) for shape in shapes]
        self.generator = torch.Generator().manual_seed(seed)
        self.vector = self.randn(sum(counts), dtype=dtype)
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


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [1, 7, 96, 97, 200])
@pytest.mark.parametrize("sizes", [(1, 2, 1), (5, 16, 64, 2), (37, 33, 31, 9, 16), (70, 128, 3)])
def test_a_pass_is_torchs(sizes, rows, dtype):
    network = Network(sizes, dtype)
    x = network.randn(rows, sizes[0], dtype=dtype)
    seed = network.randn(rows, sizes[-1], dtype=dtype)
    leaves = [view.double().requires_grad_() for view in network.views]
    expected = network.plain(leaves, x.double())
    gradients = torch.autograd.grad(expected, leaves, seed.double())

    before = network.totals.clone()
    once = MlpPass(sizes, rows, network.vector, network.totals, 1e-5)
    for _ in range(2):  # the workspace holds what the pass before has left
        network.totals.copy_(before)
        output = once.forward(x)
        once.backward(seed)
    # Two outputs of a LayerNorm of nearly equal numbers differ by more than their rounding
    tolerance = TOLERANCE[dtype] or {"rtol": 1e-3, "atol": 2e-4 * math.sqrt(rows)}
    torch.testing.assert_close(output.double(), expected.detach(), **tolerance)
    found = (network.totals - before).split([g.numel() for g in gradients])
    for mine, theirs in zip(found, gradients, strict=True):
        torch.testing.assert_close(mine.double(), theirs.flatten(), **tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_elu_is_exact_to_rounding_everywhere(dtype):
    z = -torch.logspace(-9, 3, 4001, dtype=torch.float64)
    z = torch.cat([z, -z]).to(dtype)
    expected = elu(z.double())
    sizes = (1, len(z), 1)
    zeros, ones, zero = torch.zeros_like(z), torch.ones_like(z), torch.zeros(1, dtype=dtype)
    vector = torch.cat([zeros, zeros, z, zero, ones, zeros])  # the hidden layer's biases are z
    once = MlpPass(sizes, 1, vector, torch.zeros_like(vector), 1e-5)
    once.forward(torch.zeros(1, 1, dtype=dtype))
    plan, _ = plan_pass(sizes, 1)
    start = plan[0][COLUMNS.index("z")]
    found = once.workspace[start : start + len(z)].double()
    assert ((found - expected) / expected).abs().max() < 3.0 * torch.finfo(dtype).eps


def test_what_is_not_a_number_stays_none_and_spoils_its_row_alone():
    network = Network((3, 8, 2))
    x = network.randn(3, 3, dtype=torch.float64)
    expected = network.plain(network.views, x)
    x[0, 1], x[2, 0] = math.nan, math.inf
    output = MlpPass(network.sizes, 3, network.vector, network.totals, 1e-5).forward(x)
    assert bool(output[[0, 2]].isnan().all())
    torch.testing.assert_close(output[1], expected[1])
