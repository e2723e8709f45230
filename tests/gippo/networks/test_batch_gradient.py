import threading

import pytest
import torch

from gippo.networks import native_gradient
from gippo.networks.adam import ParameterVector
from gippo.networks.batch_gradient import Batch, BatchGradient, helper_thread
from gippo.networks.perceptron import GaussianActor
from gippo.updates.alpha import square_distance
from gippo.updates.surrogate import clipped_surrogate


def make(
    num_obs=5,
    hidden=(19, 8),
    num_actions=2,
    batch=50,
    helper=None,
    dtype=torch.float64,
    native=True,
):
    generator = torch.Generator().manual_seed(0)
    actor = GaussianActor(num_obs, hidden, num_actions, generator=generator, dtype=dtype)
    parameters = ParameterVector(actor, native=native)
    parameters.vector.add_(0.1 * torch.randn(parameters.vector.shape, generator=generator))
    columns = [torch.randn(batch, n, generator=generator) for n in (num_obs, 2, 2)]
    columns = [column.to(dtype) for column in columns]
    return actor, parameters, BatchGradient(actor.mlp, parameters, helper), columns


def plain(output, eps, goal):
    mu, log_sigma = GaussianActor.split(output)
    return (mu + torch.exp(log_sigma) * eps - goal).square().sum(-1)


@pytest.mark.parametrize("way", ["native", "torch", "without a twin"])
@pytest.mark.parametrize("batch, split", [(50, 2048), (50, 50), (51, 7), (1, 2048)])
@pytest.mark.parametrize("num_obs, hidden", [(1, (3,)), (5, (19, 8)), (40, (16, 64, 8))])
def test_losses_outputs_and_gradients_are_autograds(
    monkeypatch, way, batch, split, num_obs, hidden
):
    monkeypatch.setattr(native_gradient, "SPLIT", split)
    actor, parameters, network, columns = make(num_obs, hidden, batch=batch, native=way != "torch")
    assert bool(network._native) == (way != "torch")
    loss_function = plain if way == "without a twin" else square_distance
    expected_output = actor.mlp.forward(columns[0])
    expected_loss = plain(expected_output, *columns[1:]).mean()
    expected = parameters.gradient(expected_loss)
    batch = Batch(columns[0], tuple(columns[1:]))
    for _ in range(2):  # buffers hold what the pass before has left
        loss, output, gradient = network.descent(batch, loss_function)
        torch.testing.assert_close(loss, expected_loss.detach())
        torch.testing.assert_close(output, expected_output.detach())
        torch.testing.assert_close(gradient, expected)
        loss, output = network.evaluate(batch, loss_function)
        torch.testing.assert_close(loss, expected_loss.detach())
        torch.testing.assert_close(output, expected_output.detach())


def test_single_precision_is_as_near_as_autograds():
    actor, parameters, network, columns = make(37, (128, 64), batch=4096, dtype=torch.float32)
    expected = parameters.gradient(plain(actor.mlp.forward(columns[0]), *columns[1:]).mean())
    _, _, gradient = network.descent(Batch(columns[0], tuple(columns[1:])), square_distance)
    assert (gradient - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize("busy", [False, True])
def test_numbers_do_not_depend_on_the_helper(monkeypatch, busy):
    monkeypatch.setattr(native_gradient, "SPLIT", 8)
    _, _, alone, columns = make(dtype=torch.float32)
    loss, output, gradient = alone.descent(Batch(columns[0], tuple(columns[1:])), square_distance)
    done = threading.Event()
    with helper_thread() as pool:
        occupied = pool.submit(done.wait if busy else int)
        _, _, helped, _ = make(dtype=torch.float32, helper=pool)
        results = helped.descent(Batch(columns[0], tuple(columns[1:])), square_distance)
        assert occupied.done() != busy
        done.set()
    for mine, other in zip((loss, output, gradient), results, strict=True):
        assert torch.equal(mine, other)


def test_parameters_are_followed_as_they_move():
    actor, parameters, network, columns = make()
    batch = Batch(columns[0], tuple(columns[1:]))
    network.descent(batch, square_distance)
    parameters.vector.mul_(0.5)
    _, output = network.evaluate(batch, square_distance)
    torch.testing.assert_close(output, actor.mlp.forward(columns[0]).detach())


def test_an_error_in_the_helpers_half_is_raised(monkeypatch):
    monkeypatch.setattr(native_gradient, "SPLIT", 8)
    descend = native_gradient._Worker.descend

    def fails_elsewhere(*args):
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("elsewhere")
        here.wait(5.0)  # so that the helper has begun
        return descend(*args)

    monkeypatch.setattr(native_gradient._Worker, "descend", fails_elsewhere)
    here = threading.Event()
    with helper_thread() as pool:
        _, _, network, columns = make(helper=pool)
        pool.submit(int).result()
        threading.Timer(0.2, here.set).start()
        with pytest.raises(RuntimeError, match="elsewhere"):
            network.descent(Batch(columns[0], tuple(columns[1:])), square_distance)


def test_both_ways_agree_where_the_surrogate_is_clipped_and_where_it_is_not():
    results = []
    for way in (True, False):
        actor, _, network, columns = make(num_actions=3, batch=400, native=way)
        generator = torch.Generator().manual_seed(5)

        def randn(*shape, generator=generator):
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        with torch.no_grad():
            mu, log_sigma = actor.forward(columns[0])
        action = mu + log_sigma.exp() * randn(400, 3)
        policy = torch.distributions.Normal(mu, log_sigma.exp())
        reference = policy.log_prob(action).sum(-1) + 0.5 * randn(400)
        batch = Batch(columns[0], (action, reference, randn(400)))
        results.append(network.descent(batch, clipped_surrogate, 0.2, 0.7))
    for mine, plain_one in zip(*results, strict=True):
        torch.testing.assert_close(mine, plain_one, rtol=1e-10, atol=1e-10)
    output = results[1][1].clone().requires_grad_()
    losses = clipped_surrogate(output, *batch.columns, 0.2, 0.7)
    (gradient,) = torch.autograd.grad(losses.sum(), output)
    still = gradient.eq(0.0).all(-1).double().mean()
    assert 0.1 < still < 0.9, "clipped samples and others"
