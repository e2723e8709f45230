import math

import pytest
import torch
from torch import nn

from gippo.networks.adam import Optimizer, ParameterVector, Schedule
from gippo.updates.retries import RateControl, RetryConfig, Trial, Verdict

WORSE, BETTER = (0.0, 1.0), (1.0, 0.0)


class Scripted:
    """An update whose losses are given: each attempt changes the weights and records its rate."""

    def __init__(self, losses, retry, kind="constant", first=1.0, final=0.01, least=0.0):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        self.optimizer = Optimizer(ParameterVector(network), (0.9, 0.999), 1.0)
        self.vector = self.optimizer.parameters.vector
        self.start = self.vector.clone()
        self.losses = iter(losses)
        self.rates = []
        schedule = Schedule(kind, first, final, 10)
        self.control = RateControl(self.optimizer, "test loss", schedule, retry, least=least)

    def attempt(self, rate):
        assert torch.equal(self.vector, self.start), "every attempt starts from the old parameters"
        first, last, *others = next(self.losses)
        self.rates.append(rate)
        self.optimizer.step_along(torch.ones_like(self.vector), rate)
        if last != last:
            self.vector.fill_(torch.nan)
        return Trial(torch.tensor(first), torch.tensor(last), *others)

    def run(self, epoch=0):
        return self.control.update(self.attempt, epoch)

    def run_epochs(self, epochs):
        """The rates of all attempts of so many epochs."""
        for epoch in range(epochs):
            self.start = self.vector.clone()
            self.run(epoch)
        return self.rates

    @property
    def adam_steps(self):
        return int(self.optimizer.state_dict()["moments"]["step"])


def test_a_fallen_loss_is_kept_at_once():
    update = Scripted([(1.0, 1.0)], RetryConfig(), first=0.3)
    outcome = update.run()
    assert (outcome.verdict, outcome.retries, outcome.problem) == (Verdict.IMPROVED, 0, None)
    assert update.rates == [0.3]
    assert not torch.equal(update.vector, update.start)


def test_retries_take_a_rate_lowered_each_time():
    update = Scripted([WORSE, WORSE, BETTER], RetryConfig(), first=0.3)
    outcome = update.run()
    assert (outcome.succeeded, outcome.retries) == (True, 2)
    assert update.rates == pytest.approx([0.3, 0.2, 0.2 / 1.5])
    assert update.adam_steps == 3, "Adam's moments are kept over attempts"


def test_after_the_last_failure_the_parameters_are_the_old_ones():
    update = Scripted([WORSE] * 9, RetryConfig())
    outcome = update.run()
    assert (outcome.verdict, outcome.retries, outcome.problem) == (Verdict.WORSE, 8, None)
    assert len(update.rates) == 9
    assert torch.equal(update.vector, update.start)
    assert update.adam_steps == 9


def test_a_non_finite_attempt_takes_its_moments_back():
    update = Scripted([(1.0, math.nan), BETTER], RetryConfig())
    outcome = update.run()
    assert (outcome.succeeded, outcome.retries, outcome.problem) == (True, 1, None)
    assert update.adam_steps == 1


def test_a_loss_that_is_not_finite_to_begin_with_ends_it_and_is_named():
    update = Scripted([(math.inf, 1.0)], RetryConfig())
    outcome = update.run()
    assert outcome.verdict is Verdict.NOT_FINITE_BEFORE
    assert outcome.problem == "the test loss is inf before its first step"
    assert torch.equal(update.vector, update.start)
    assert update.adam_steps == 0
    assert update.control.start(1) == 1.0, "the rate is not at fault"


@pytest.mark.parametrize(
    ("losses", "problem"),
    [
        ((1.0, math.nan), "the parameter '0.weight' is not finite after descending the test loss"),
        ((1.0, math.inf), "the test loss is inf after its last step"),
        (
            (1.0, 1.0, (torch.ones(3), torch.tensor(math.inf))),
            "the policy's output is not finite after descending the test loss",
        ),
    ],
)
def test_what_is_not_finite_is_named_and_undone(losses, problem):
    update = Scripted([losses] * 2, RetryConfig(1))
    outcome = update.run()
    assert (outcome.verdict, outcome.problem) == (Verdict.NOT_FINITE, problem)
    assert torch.equal(update.vector, update.start)
    assert update.adam_steps == 0


# Where the next epoch begins --------------------------------------------------------------------


def test_above_the_last_rate_a_higher_one_is_tried_every_epoch():
    losses = [WORSE, WORSE, BETTER, WORSE, BETTER, BETTER, BETTER, *[WORSE] * 3, BETTER]
    rates = Scripted(losses, RetryConfig(2, 3.0, "above"), first=0.9).run_epochs(6)
    assert rates[:5] == pytest.approx([0.9, 0.3, 0.1, 0.3, 0.1]), "one factor above the last"
    assert rates[5:7] == pytest.approx([0.3, 0.9]), "two above what came at once, to the base"
    assert rates[7:] == pytest.approx([0.9, 0.3, 0.1, 0.3]), "one below where all has failed"


def test_from_the_last_rate_a_higher_one_is_tried_every_second_epoch():
    losses = [WORSE, WORSE, BETTER, BETTER, WORSE, BETTER, BETTER, BETTER]
    rates = Scripted(losses, RetryConfig(8, 2.0, "last")).run_epochs(5)
    assert rates == pytest.approx([1.0, 0.5, 0.25, 0.25, 0.5, 0.25, 0.25, 0.5])


@pytest.mark.parametrize(
    ("start", "expected"),
    [("base", [1.0, 0.5, 0.5, 0.25, 1.0, 1.0]), ("lowered", [1.0, 0.5, 0.5, 0.25, 0.25, 0.25])],
)
def test_failures_lower_the_base_rate_for_good_or_until_a_success(start, expected):
    losses = [*[WORSE] * 4, BETTER, BETTER]
    update = Scripted([*losses[:4], BETTER, BETTER], RetryConfig(1, 2.0, start))
    rates = update.run_epochs(4)
    assert rates[:4] == expected[:4]
    assert rates[4:] == ([0.25, 1.0] if start == "base" else [0.25, 0.25])


def test_failures_lower_the_rate_no_further_than_to_the_least():
    rates = Scripted([WORSE] * 3, RetryConfig(0, 2.0, "lowered"), least=0.4).run_epochs(3)
    assert rates == [1.0, 0.5, 0.4]


def test_below_the_floor_an_update_is_left_out_and_begins_there_again():
    retry = RetryConfig(2, 2.0, "last", floor=True)
    losses = [WORSE, WORSE, WORSE, WORSE, BETTER, WORSE, BETTER]
    rates = Scripted(losses, retry).run_epochs(4)
    assert rates == pytest.approx([1.0, 0.5, 0.25, 0.5, 0.25, 0.25, 0.25][: len(rates)])


def test_the_floor_is_reached_but_for_rounding():
    retry = RetryConfig(8, 1.5, "last", floor=True)
    update = Scripted([*[WORSE] * 8, BETTER, WORSE, BETTER], retry, first=1e-4)
    rates = update.run_epochs(3)
    assert rates[8:] == pytest.approx([1e-4 / 1.5**8] * 2 + [1e-4 / 1.5**8])


def test_a_remembered_rate_never_exceeds_a_falling_one():
    update = Scripted([BETTER] * 4, RetryConfig(start="above"), "linear", first=0.9, final=1e-5)
    assert update.run_epochs(4) == pytest.approx([0.9, 0.81, 0.72, 0.63], rel=1e-4)


def test_an_adaptive_rate_goes_on_from_where_it_has_arrived():
    arrives = (*BETTER, (), 0.7)
    update = Scripted([arrives, arrives, WORSE, BETTER], RetryConfig(0, 2.0), "adaptive", least=0.5)
    assert update.run_epochs(4) == [1.0, 0.7, 0.7, 0.5]


def test_a_controls_state_continues_exactly():
    retry = RetryConfig(8, 2.0, "last")
    first, second = Scripted([WORSE, WORSE, BETTER], retry), Scripted([], retry)
    first.run()
    second.control.load_state_dict(first.control.state_dict())
    assert second.control.start(1) == first.control.start(1) == 0.25
    assert second.adam_steps == 3
