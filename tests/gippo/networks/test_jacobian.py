import pytest
import torch

from gippo.networks.adam import ParameterVector
from gippo.networks.jacobian import TorchJacobian, jacobian_of
from gippo.networks.native_function import NativeJacobian
from gippo.networks.perceptron import GaussianActor
from warp_envs.bridge.threads import get_num_threads, set_num_threads


def make_actor(num_obs=5, hidden=(8, 7), num_actions=3, *, native=True, **form):
    generator = torch.Generator().manual_seed(0)
    actor = GaussianActor(
        num_obs, hidden, num_actions, generator=generator, dtype=torch.float32, **form
    )
    for parameter in actor.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return actor, ParameterVector(actor, native=native)


def randn(*shape, dtype=torch.float64, seed=1):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"activation": "tanh", "layer_norm": "before"},
        {"log_sigma": "state_independent", "log_sigma_bounds": [-2.0, 0.0]},
    ],
)
@pytest.mark.parametrize("native", [True, False])
def test_products_are_the_outputs_differences_and_each_others_transpose(form, native):
    actor, parameters = make_actor(native=native, **form)
    jacobian = jacobian_of(actor.mlp, parameters, torch.float64)
    assert isinstance(jacobian, NativeJacobian) == (native and not form)
    vector, x = parameters.vector.double(), randn(9, 5)
    v, u, h = randn(len(vector)), randn(9, 6, seed=2), 1e-6
    ends = [jacobian.at(vector + sign * h * v, x) for sign in (1.0, -1.0)]
    output = jacobian.at(vector, x)
    assert not output.requires_grad
    torch.testing.assert_close(output.float(), actor.mlp.forward(x.float()).detach())
    along = jacobian.times(v)
    torch.testing.assert_close(along, (ends[0] - ends[1]) / (2.0 * h), rtol=1e-6, atol=1e-6)
    assert (u * along).sum().item() == pytest.approx((jacobian.transposed(u) @ v).item())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-4)])
@pytest.mark.parametrize("rows", [1, 2, 97, 300])
@pytest.mark.parametrize("sizes", [(1, (2,), 1), (37, (33, 31, 9), 8), (70, (128, 64), 3)])
def test_native_products_are_torchs(sizes, rows, dtype, tolerance):
    num_obs, hidden, num_actions = sizes
    actor, parameters = make_actor(num_obs, hidden, num_actions)
    ours = NativeJacobian(actor.mlp.sizes, dtype)
    theirs = TorchJacobian(actor.mlp, parameters, dtype)
    for seed in (2, 3):  # the workspace holds what the call before has left
        x = randn(rows, num_obs, dtype=dtype, seed=seed)
        v = randn(len(parameters.vector), dtype=dtype, seed=seed)
        u = randn(rows, 2 * num_actions, dtype=dtype, seed=seed)
        found, expected = (
            [j.at(parameters.vector, x), j.times(v), j.transposed(u), j.times(2.0 * v)]
            for j in (ours, theirs)
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * 10)


def test_products_do_not_depend_on_the_number_of_threads():
    actor, parameters = make_actor(37, (128, 64, 32), 8)
    x, u = randn(500, 37), randn(500, 16, seed=2)
    before, results = get_num_threads(), []
    try:
        for count in (1, 2, 5):
            set_num_threads(count)
            jacobian = NativeJacobian(actor.mlp.sizes, torch.float64)
            jacobian.at(parameters.vector, x)
            results.append(jacobian.transposed(u))
    finally:
        set_num_threads(before)
    for result in results[1:]:
        assert torch.equal(result, results[0])
