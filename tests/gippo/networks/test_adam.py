import math

import pytest
import torch
from torch import nn

from gippo.networks.adam import Optimizer, ParameterVector, Schedule


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


@pytest.mark.parametrize("max_norm", [1.0, 1e9, None])
@pytest.mark.parametrize("native", [True, False])
def test_steps_are_adams_with_the_gradient_norm_bounded(native, max_norm):
    ours, theirs = small_network(), small_network()
    optimizer = Optimizer(ParameterVector(ours, native=native), (0.7, 0.95), max_norm)
    adam = torch.optim.Adam(theirs.parameters(), lr=0.1, betas=(0.7, 0.95))
    x = torch.randn(5, 3, dtype=torch.float64)
    for rate in (0.1, 0.02, 0.3):
        gradient = optimizer.parameters.gradient((ours(x) - 7.0).square().mean())
        optimizer.step_along(gradient, rate)
        adam.param_groups[0]["lr"] = rate
        adam.zero_grad()
        (theirs(x) - 7.0).square().mean().backward()
        assert nn.utils.clip_grad_norm_(theirs.parameters(), max_norm or math.inf) > 1.0
        adam.step()
    for mine, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, their)


@pytest.mark.parametrize("native", [True, False])
def test_with_a_weight_decay_steps_are_adamws(native):
    ours, theirs = small_network(), small_network()
    optimizer = Optimizer(ParameterVector(ours, native=native), (0.7, 0.95), 0.5, 0.3)
    adam = torch.optim.AdamW(theirs.parameters(), lr=0.1, betas=(0.7, 0.95), weight_decay=0.3)
    x = torch.randn(5, 3, dtype=torch.float64)
    for rate in (0.1, 0.02, 0.3):
        optimizer.step_along(optimizer.parameters.gradient((ours(x) - 7.0).square().mean()), rate)
        adam.param_groups[0]["lr"] = rate
        adam.zero_grad()
        (theirs(x) - 7.0).square().mean().backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        adam.step()
    for mine, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, their)


@pytest.mark.parametrize("max_norm", [1.0, None])
def test_native_steps_are_torchs(max_norm):
    optimizers = [
        Optimizer(ParameterVector(small_network(), native=native), (0.7, 0.95), max_norm)
        for native in (True, False)
    ]
    generator = torch.Generator().manual_seed(1)
    for rate in (0.1, 0.02, 0.3):
        gradient = torch.randn(
            optimizers[0].parameters.vector.shape, dtype=torch.float64, generator=generator
        )
        given = gradient.clone()
        for optimizer in optimizers:
            optimizer.step_along(gradient, rate)
            assert torch.equal(gradient, given), "another attempt may begin along it"
    states = [
        (optimizer.parameters.vector, *optimizer.state_dict()["moments"].values())
        for optimizer in optimizers
    ]
    for mine, plain in zip(*states, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-10, atol=1e-10, check_dtype=False)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("max_norm", [1.0, None])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_step_along_what_is_not_finite_shows(number, max_norm, native):
    network = small_network()
    optimizer = Optimizer(ParameterVector(network, native=native), (0.7, 0.95), max_norm)
    gradient = torch.ones_like(optimizer.parameters.vector)
    gradient[3] = number
    optimizer.step_along(gradient, 0.1)
    assert not bool(optimizer.parameters.vector.isfinite().all())


def test_an_optimizers_state_continues_exactly():
    first, second = small_network(), small_network()
    one = Optimizer(ParameterVector(first), (0.7, 0.95), 1.0)
    x = torch.randn(5, 3, dtype=torch.float64)
    one.step_along(one.parameters.gradient(first(x).square().mean()), 0.1)
    parameters = ParameterVector(second)
    other = Optimizer(parameters, (0.7, 0.95), 1.0)
    parameters.load_state_dict(one.parameters.state_dict())
    other.load_state_dict(one.state_dict())
    one.step_along(one.parameters.gradient(first(x).square().mean()), 0.1)
    other.step_along(other.parameters.gradient(second(x).square().mean()), 0.1)
    assert torch.equal(one.parameters.vector, other.parameters.vector)


def test_parameters_of_another_shape_are_refused():
    parameters = ParameterVector(small_network())
    state = parameters.state_dict()
    state["0.bias"] = torch.zeros(7)
    before = parameters.vector.clone()
    with pytest.raises(ValueError, match=r"0\.bias.*\(7,\).*given.*\(4,\).*accepted"):
        parameters.load_state_dict(state)
    assert torch.equal(before, parameters.vector)


def test_rates_fall_linearly_to_their_end():
    rates = [Schedule("linear", 1e-3, 1e-5, 100).rate(epoch) for epoch in (0, 50, 100, 200)]
    assert rates == pytest.approx([1e-3, 5.05e-4, 1e-5, 1e-5])
    assert Schedule("constant", 1e-3, 1e-5, 100).rate(50) == 1e-3
    assert Schedule("linear", 1e-6, 1e-5, 100).rate(50) == 1e-6, "never rises"
