import math

import pytest
import torch
from torch import nn

from gippo.networks.adam import Optimizer, ParameterVector, scheduled_rate
from gippo.updates.retries import RetryConfig, step_once, update_with_retries


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


@pytest.mark.parametrize("max_norm", [1.0, 1e9, None])
@pytest.mark.parametrize("at_once", [True, False])
def test_steps_are_adams_with_the_gradient_norm_bounded(at_once, max_norm):
    ours, theirs = small_network(), small_network()
    optimizer = Optimizer(ParameterVector(ours), (0.7, 0.95), max_norm)
    optimizer._on_cpu = at_once  # False: as on other devices
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


@pytest.mark.parametrize("max_norm", [1.0, None])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_step_along_what_is_not_finite_shows(number, max_norm):
    network = small_network()
    optimizer = Optimizer(ParameterVector(network), (0.7, 0.95), max_norm)
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


class Scripted:
    """An update whose losses are given: each attempt changes the weights and records its rate."""

    def __init__(self, losses):
        self.optimizer = Optimizer(ParameterVector(small_network()), (0.9, 0.999), 1.0)
        self.start = self.optimizer.parameters.vector.clone()
        self.losses = iter(losses)
        self.rates = []

    def attempt(self, rate):
        vector = self.optimizer.parameters.vector
        assert torch.equal(vector, self.start), "every attempt starts from the old parameters"
        first, last = next(self.losses)
        self.rates.append(rate)
        self.optimizer.step_along(torch.ones_like(vector), rate)
        if last != last:
            vector.fill_(torch.nan)
        return torch.tensor(first), torch.tensor(last)

    def run(self, retries=8, compounding=False, lowest=0.0):
        return update_with_retries(
            self.attempt,
            "test loss",
            self.optimizer,
            learning_rate=0.3,
            base_rate=0.6,
            config=RetryConfig(retries, 1.5, compounding, lowest=lowest),
        )

    @property
    def adam_steps(self):
        return int(self.optimizer.state_dict()["moments"].get("step", 0))


def test_a_fallen_loss_is_kept_at_once():
    update = Scripted([(1.0, 1.0)])
    outcome = update.run()
    assert (outcome.succeeded, outcome.retries, outcome.problem) == (True, 0, None)
    assert update.rates == [0.3]
    assert not torch.equal(update.optimizer.parameters.vector, update.start)


@pytest.mark.parametrize("compounding", [False, True])
def test_retries_take_a_lowered_rate(compounding):
    update = Scripted([(1.0, 2.0), (1.0, 1.5), (1.0, 0.5)])
    outcome = update.run(compounding=compounding)
    assert (outcome.succeeded, outcome.retries) == (True, 2)
    assert update.rates == pytest.approx([0.3, 0.2, 0.2 / 1.5 if compounding else 0.2])
    assert update.adam_steps == 3, "Adam's moments are kept over attempts"


def test_no_attempt_goes_below_the_lowest_rate():
    update = Scripted([(0.0, 1.0)] * 3)
    outcome = update.run(compounding=True, lowest=0.2)
    assert update.rates == pytest.approx([0.3, 0.2, 0.4 / 3.0])
    assert not outcome.succeeded
    assert outcome.retries == 2
    assert torch.equal(update.optimizer.parameters.vector, update.start)


def test_after_the_last_failure_the_parameters_are_the_old_ones():
    update = Scripted([(1.0, 2.0)] * 9)
    outcome = update.run()
    assert (outcome.succeeded, outcome.retries, outcome.problem) == (False, 8, None)
    assert len(update.rates) == 9
    assert torch.equal(update.optimizer.parameters.vector, update.start)
    assert update.adam_steps == 9


def test_a_non_finite_attempt_takes_its_moments_back():
    update = Scripted([(1.0, float("nan")), (1.0, 0.5)])
    outcome = update.run()
    assert (outcome.succeeded, outcome.retries, outcome.problem) == (True, 1, None)
    assert update.adam_steps == 1


def test_a_non_finite_loss_ends_it_and_is_named():
    update = Scripted([(float("inf"), 1.0)])
    outcome = update.run()
    assert not outcome.succeeded
    assert outcome.problem == "the test loss is inf before its first step"
    assert torch.equal(update.optimizer.parameters.vector, update.start)
    assert update.adam_steps == 0


def test_a_non_finite_parameter_is_named():
    outcome = Scripted([(1.0, float("nan"))] * 2).run(retries=1)
    assert outcome.problem is not None
    assert (
        outcome.problem == "the parameter '0.weight' is not finite after descending the test loss"
    )


def test_a_single_step_is_undone_when_not_finite():
    update = Scripted([])
    vector = update.optimizer.parameters.vector
    bad = torch.full_like(vector, torch.nan)
    loss = torch.tensor(1.0)
    finite, infinite = (torch.ones(3),), (torch.ones(3), torch.tensor(math.inf))
    problem = step_once(update.optimizer, loss, bad, "test loss", 0.1, lambda: finite)
    assert problem is not None and "'0.weight'" in problem
    assert torch.equal(vector, update.start)
    assert update.adam_steps == 0
    good = torch.ones_like(vector)
    problem = step_once(update.optimizer, loss, good, "test loss", 0.1, lambda: infinite)
    assert problem == "the policy's output is not finite after descending the test loss"
    assert torch.equal(vector, update.start)
    assert update.adam_steps == 0
    assert step_once(update.optimizer, loss, good, "test loss", 0.1, lambda: finite) is None
    assert update.adam_steps == 1


def test_rates_fall_linearly_to_their_end():
    assert [scheduled_rate("linear", 1e-3, 1e-5, e, 100) for e in (0, 50, 100, 200)] == (
        pytest.approx([1e-3, 5.05e-4, 1e-5, 1e-5])
    )
    assert scheduled_rate("constant", 1e-3, 1e-5, 50, 100) == 1e-3
    assert scheduled_rate("linear", 1e-6, 1e-5, 50, 100) == 1e-6, "never rises"
