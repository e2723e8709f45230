"""The rule of rates and retries: where an update begins, when it is undone, what follows.

An update begins at the rate that its schedule allows and its past has shown to work. If it has made
things worse it is undone and tried again at lower rates; the rate that worked tells where the next
epoch begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch

from gippo.networks.adam import Optimizer, Schedule
from warp_envs.checks import check_choice, check_flag, check_integer, check_number

ADAPTIVE = "adaptive"
"""A kind of schedule whose attempts move the rate themselves."""
STARTS = ("base", "lowered", "last", "above")
ROUNDING = 1e-6
"""Relative; what `factor` is taken to a power by may miss the floor."""


@dataclass
class RetryConfig:
    """What follows when an update has raised its loss: back, and again at a lower rate."""

    retries: int = 8
    """Further attempts at most."""
    factor: float = 1.5
    """Each retry takes the rate before it divided by this."""
    start: str = "base"
    """Of the next epoch, after a success. "base": the base rate, as the authors' PPO; "lowered":
    the base rate divided by `factor` for each failed epoch so far, as their alpha-policy; "last":
    the rate that succeeded, which tries a higher one every second epoch; "above": one `factor`
    above it, which tries one every epoch. The latter two rise by one factor more after a success at
    once, and never above the base rate."""
    floor: bool = False
    """No attempt goes below the base rate divided by `factor` for each of the `retries`: an update
    that fails there is left out of its epoch. With "last" and "above", where rates otherwise may
    fall until a step is lost in rounding."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("retry.retries", self.retries, 0)
        check_number("retry.factor", self.factor, 1.0, open_low=True)
        check_choice("retry.start", self.start, STARTS)
        check_flag("retry.floor", self.floor)


class Verdict(Enum):
    """What an attempt has come to."""

    IMPROVED = "the loss has not risen"
    WORSE = "the loss has risen"
    NOT_FINITE = "a number at its end is not finite"
    NOT_FINITE_BEFORE = "the loss was not finite to begin with, which no smaller step mends"


class Trial(NamedTuple):
    """What an attempt tells of itself."""

    before: torch.Tensor
    """The loss at its start, 0-d."""
    after: torch.Tensor
    """The loss at its end, 0-d."""
    outputs: tuple[torch.Tensor, ...] = ()
    """What the parameters lead to, to be finite as well; finite parameters may be too large."""
    rate: float | None = None
    """That it has arrived at, if it moves the rate itself."""


@dataclass
class Outcome:
    """How an update went, all its attempts together."""

    verdict: Verdict
    """On the last attempt."""
    retries: int
    rate: float
    """Of the last attempt, where it has arrived."""
    problem: str | None
    """A sentence on what was not finite in the last attempt, None if everything was."""

    @property
    def succeeded(self) -> bool:
        """Whether the parameters have moved."""
        return self.verdict is Verdict.IMPROVED


class RateControl:
    """Makes attempts at an update, judges them, and keeps the rate from epoch to epoch."""

    def __init__(
        self,
        optimizer: Optimizer,
        what: str,
        schedule: Schedule,
        retry: RetryConfig,
        *,
        least: float = 0.0,
    ) -> None:
        """Begin at the schedule's first rate.

        Args:
            optimizer: takes the attempts' steps.
            what: names the loss in `Outcome.problem`.
            schedule: of the base rate; of the kind "adaptive", a success hands on where it arrived.
            retry: how many further attempts, at which rates.
            least: failed epochs do not lower the next one's rate below this.
        """
        self._optimizer = optimizer
        self._what = what
        self._schedule = schedule
        self._retry = retry
        lowest = schedule.first / retry.factor**retry.retries
        self._floor = lowest * (1.0 - ROUNDING) if retry.floor else 0.0
        self._least = max(least, self._floor)
        self._remembered = schedule.first

    def start(self, epoch: int) -> float:
        """The rate of an epoch's first attempt: the one remembered, or less by the schedule."""
        if self._schedule.kind == ADAPTIVE:
            return self._remembered
        return min(self._schedule.rate(epoch), self._remembered)

    def update(self, attempt: Callable[[float], Trial], epoch: int) -> Outcome:
        """Update until the loss has not risen; go back to the old parameters after each failure.

        Adam's moments are kept over attempts: an attempt that overshot has left large second
        moments, and the next one's steps are shorter for it. Only numbers that are not finite take
        the moments back with the parameters.

        Args:
            attempt: updates the parameters at the given rate.
            epoch: counted from zero.
        """
        parameters = self._optimizer.parameters
        weights, moments = parameters.vector.clone(), self._optimizer.state_dict()
        first = self.start(epoch)
        outcome = Outcome(Verdict.WORSE, 0, first, None)
        for number, rate in enumerate(self._rates(first)):
            trial = attempt(rate)
            verdict, problem = self._judge(trial)
            arrived = rate if trial.rate is None else trial.rate
            outcome = Outcome(verdict, number, arrived, problem)
            if verdict is Verdict.IMPROVED:
                break
            parameters.vector.copy_(weights)
            if problem is not None:
                self._optimizer.load_state_dict(moments)
            if verdict is Verdict.NOT_FINITE_BEFORE:
                break
        if outcome.problem is None:
            self._remembered = self._next(first, outcome)
        return outcome

    def _rates(self, first: float) -> Iterator[float]:
        """Of an epoch's attempts, as many as it may take."""
        yield first
        for power in range(1, self._retry.retries + 1):
            rate = first / self._retry.factor**power
            if rate < self._floor:
                return
            yield rate

    def _judge(self, trial: Trial) -> tuple[Verdict, str | None]:
        """The verdict, and what was not finite."""
        told = (trial.before, trial.after, self._optimizer.parameters.vector, *trial.outputs)
        # The attempt's only wait for the device. A sum is finite only if all its numbers are.
        before, after, *sums = torch.stack([x.sum() for x in told]).tolist()
        if not all(map(math.isfinite, (before, after, *sums))):
            finite = [bool(torch.isfinite(x).all()) for x in told]
            if not all(finite):
                return self._problem(trial, *finite[:3])
        return (Verdict.IMPROVED if after <= before else Verdict.WORSE), None

    def _problem(
        self, trial: Trial, before: bool, after: bool, parameters: bool
    ) -> tuple[Verdict, str]:
        """The verdict on an attempt and the first that is not finite, given what is."""
        what = self._what
        if not before:
            text = f"the {what} is {trial.before.item()} before its first step"
            return Verdict.NOT_FINITE_BEFORE, text
        if not parameters:
            name = self._optimizer.parameters.nonfinite()
            text = f"the parameter {name!r} is not finite after descending the {what}"
        elif not after:
            text = f"the {what} is {trial.after.item()} after its last step"
        else:
            text = f"the policy's output is not finite after descending the {what}"
        return Verdict.NOT_FINITE, text

    def _next(self, first: float, outcome: Outcome) -> float:
        """The rate to remember. A failed epoch's falls, so that failures end.

        The fall ends at the floor: a policy of standard deviation 1e-5, as De Jong's function ends
        with, bears no step of 1e-6 in every weight.
        """
        retry, base = self._retry, self._schedule.first
        if not outcome.succeeded:
            if outcome.retries < retry.retries:
                return outcome.rate  # the floor has ended it
            return min(first, max(first / retry.factor, self._least))
        if self._schedule.kind == ADAPTIVE:
            return outcome.rate
        if retry.start == "base":
            return base
        if retry.start == "lowered":
            return self._remembered
        rise = int(retry.start == "above") + int(outcome.retries == 0)
        return min(base, max(outcome.rate * retry.factor**rise, self._floor))

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimiser's state and the rate remembered."""
        return {"optimizer": self._optimizer.state_dict(), "learning_rate": self._remembered}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._remembered = float(state["learning_rate"])
