import copy

import pytest
import torch

from gippo.networks.native import LAYER_NORM_EPS
from gippo.networks.native_function import SHARE
from gippo.networks.perceptron import Mlp
from warp_envs.bridge.threads import get_num_threads, set_num_threads

TOLERANCE = {
    torch.float64: {"rtol": 1e-11, "atol": 1e-11},
    torch.float32: {"rtol": 1e-4, "atol": 1e-4},
}


def make_mlp(sizes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mlp = Mlp(sizes[0], sizes[1:-1], sizes[-1], generator=generator, dtype=dtype, native=True)
    for parameter in (*mlp.norm_weights, *mlp.norm_biases, *mlp.biases):
        noise = torch.randn(parameter.shape, generator=generator, dtype=dtype)
        parameter.data.add_(noise, alpha=0.3)
    return mlp


def randn(*shape, dtype=torch.float64, seed=1):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(1,), (7,), (96,), (97,), (3, 65)])
@pytest.mark.parametrize("sizes", [(1, 2, 1), (37, 33, 31, 9, 16), (5, 16, 64, 2), (70, 128, 6)])
def test_output_and_gradient_are_autograds(sizes, shape, dtype):
    mlp = make_mlp(sizes, dtype)
    x = randn(*shape, sizes[0], dtype=dtype).requires_grad_()
    for seed in (2, 3):  # the workspace holds what the call before has left
        along = randn(*shape, sizes[-1], dtype=dtype, seed=seed)
        expected = mlp.forward(x)
        found = mlp.frozen()(x)
        torch.testing.assert_close(found, expected, **TOLERANCE[dtype])
        gradients = [torch.autograd.grad(y, x, along)[0] for y in (found, expected)]
        torch.testing.assert_close(*gradients, **TOLERANCE[dtype])


def test_the_gradient_is_that_of_finite_differences():
    mlp = make_mlp((4, 16, 8, 3))
    x = randn(5, 4).requires_grad_()
    assert torch.autograd.gradcheck(mlp.frozen(), x)


def test_without_a_gradient_wanted_no_graph_is_kept():
    function = make_mlp((4, 8, 3)).frozen()
    assert not function(randn(5, 4)).requires_grad
    with torch.no_grad():
        assert not function(randn(5, 4).requires_grad_()).requires_grad


def test_calls_in_a_chain_are_differentiated_through_all_of_them():
    mlp = make_mlp((4, 8, 4))
    x = randn(5, 4).requires_grad_()
    results = []
    for function in (mlp.frozen(), mlp.forward):
        y = function(function(function(x)) + x)
        results.append(torch.autograd.grad(y.square().sum(), x)[0])
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)


def test_results_do_not_depend_on_the_number_of_threads():
    sizes = (12, 128, 64, 6)
    rows = 3 * SHARE // make_mlp(sizes).weights[0].numel() // 6
    x = randn(rows, 12).requires_grad_()
    along = randn(rows, 6)
    before, found = get_num_threads(), []
    try:
        for count in (1, 2, 3):
            set_num_threads(count)
            y = make_mlp(sizes).frozen()(x)
            found.append((y, *torch.autograd.grad(y, x, along)))
    finally:
        set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_a_function_of_parameters_that_have_changed_is_refused():
    mlp = make_mlp((4, 8, 3))
    x = randn(5, 4).requires_grad_()
    function = mlp.frozen()
    y = function(x)
    mlp.frozen()  # nothing has changed
    torch.autograd.grad(y.sum(), x, retain_graph=True)
    mlp.biases[0].data += 0.1
    torch.testing.assert_close(function(x), y, rtol=0.0, atol=0.0)  # still as it stood
    changed = mlp.frozen()
    torch.testing.assert_close(changed(x), mlp.forward(x), rtol=1e-11, atol=1e-11)
    with pytest.raises(RuntimeError, match="parameters have changed"):
        function(x)
    with pytest.raises(RuntimeError, match="parameters have changed"):
        torch.autograd.grad(y.sum(), x)


def test_a_copy_of_a_network_has_a_function_of_its_own():
    mlp = make_mlp((4, 8, 3))
    x = randn(5, 4)
    function = mlp.frozen()
    before = function(x)
    other = copy.deepcopy(mlp)
    other.biases[-1].data += 1.0
    torch.testing.assert_close(other.frozen()(x), before + 1.0)
    torch.testing.assert_close(function(x), before, rtol=0.0, atol=0.0)


def test_what_is_not_a_number_stays_none_and_spoils_its_row_alone():
    function = make_mlp((4, 8, 3)).frozen()
    x = randn(5, 4)
    expected = function(x)
    x[2, 1] = torch.nan
    found = function(x)
    assert found[2].isnan().all()
    torch.testing.assert_close(found[[0, 1, 3, 4]], expected[[0, 1, 3, 4]], rtol=0.0, atol=0.0)


def test_the_normalisation_is_torchs():
    mlp = make_mlp((1, 2, 1))
    assert torch.nn.LayerNorm(2).eps == LAYER_NORM_EPS
    nearly_equal = torch.full((3, 1), 1e-7, dtype=torch.float64)
    torch.testing.assert_close(mlp.frozen()(nearly_equal), mlp.forward(nearly_equal))
