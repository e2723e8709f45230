import math

import pytest
import torch
from torch.nn.functional import elu, layer_norm

from warp_envs.hidden_layer import EluLayerNorm

TOLERANCE = {torch.float64: {"rtol": 1e-12, "atol": 1e-12}, torch.float32: {}}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("width", [2, 5, 16, 37, 64])
def test_it_is_torchs_elu_and_layer_norm(dtype, width):
    generator = torch.Generator().manual_seed(width)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    z, weight, bias, seed = 3.0 * randn(9, width), randn(width), randn(width), randn(9, width)
    leaves = [x.clone().requires_grad_() for x in (z, weight, bias)]
    expected = layer_norm(elu(leaves[0]), (width,), *leaves[1:])
    of_z, of_weight, of_bias = torch.autograd.grad(expected, leaves, seed)

    linear, gradient, sums = z.clone(), seed.clone(), randn(3, width)
    before = sums.clone()
    layer = EluLayerNorm(linear, weight, bias, gradient, sums.unbind(), 1e-5)
    output = layer.forward()
    layer.backward()
    for mine, theirs in (
        (output, expected.detach()),
        (gradient, of_z),
        (sums - before, torch.stack([of_weight, of_bias, of_z.sum(0)])),
    ):
        torch.testing.assert_close(mine, theirs, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_elu_is_exact_to_rounding_everywhere(dtype):
    z = -torch.logspace(-9, 3, 4001, dtype=torch.float64)
    linear = torch.cat([z, -z]).to(dtype)
    expected = elu(linear.double())
    one = torch.ones(len(linear), dtype=dtype)
    row = linear.unsqueeze(0)
    EluLayerNorm(row, one, one, one.unsqueeze(0).clone(), [one.clone()] * 3, 1e-5).forward()
    error = ((row[0].double() - expected) / expected).abs().max()
    assert error < 3.0 * torch.finfo(dtype).eps


def test_what_is_not_a_number_stays_none_and_spoils_its_row_alone():
    z = torch.tensor([[1.0, math.nan, 2.0], [-1e30, 0.0, 5.0], [math.inf, 1.0, 1.0]])
    one = torch.ones(3)
    output = EluLayerNorm(z, one, one, z.clone(), [one.clone()] * 3, 1e-5).forward()
    assert bool(output[[0, 2]].isnan().all())
    torch.testing.assert_close(
        output[1], layer_norm(torch.tensor([-1.0, 0.0, 5.0]), (3,), one, one)
    )
