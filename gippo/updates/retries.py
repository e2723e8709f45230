"""The rule of restoring and retrying an update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from gippo.networks.adam import Optimizer, ParameterVector
from warp_envs.checks import check_flag, check_integer, check_number


@dataclass
class RetryConfig:
    """What follows when an update has raised its loss: back, and again at a lower rate."""

    retries: int = 8
    """Further attempts at most."""
    factor: float = 1.5
    """The first retry takes the rate divided by this."""
    compounding: bool = True
    """Divide again for each further retry."""
    rise: int | None = None
    """Start the next epoch so many factors above the rate that has succeeded, one more if it did at
    once, but never above the base rate: 0 tries a higher rate every second epoch, 1 every epoch.
    null: at the base rate, as the authors' runs do."""
    lowest: float = 0.0
    """Share of the base rate below which no attempt goes: an update that fails there is left out of
    its epoch. With `rise`, where rates otherwise may fall until a step is lost in rounding."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("retry.retries", self.retries, 0)
        check_number("retry.factor", self.factor, 1.0, open_low=True)
        check_flag("retry.compounding", self.compounding)
        if self.rise is not None:
            check_integer("retry.rise", self.rise, 0)
        check_number("retry.lowest", self.lowest, 0.0, 1.0)


@dataclass
class Outcome:
    """How an update that may be retried went."""

    succeeded: bool
    retries: int
    rate: float
    """Of the last attempt."""
    problem: str | None
    """A sentence on what was not finite in the last attempt, None if everything was."""

    def next_rate(self, base: float, config: RetryConfig) -> float:
        """Where the next epoch's first attempt starts after this success (`RetryConfig.rise`)."""
        if config.rise is None:
            return base
        rise = config.rise if self.retries else config.rise + 1
        return min(base, max(self.rate * config.factor**rise, base * config.lowest))


def update_with_retries(
    attempt: Callable[[float], tuple[torch.Tensor, torch.Tensor]],
    what: str,
    optimizer: Optimizer,
    *,
    learning_rate: float,
    base_rate: float,
    config: RetryConfig,
) -> Outcome:
    """Update until the loss has not risen; go back to the old parameters after each failure.

    The first retry takes ``learning_rate / factor``, the further ones the same or, compounding,
    each the last one's divided again. Adam's moments are kept over attempts: an attempt that
    overshot has left large second moments, and the next one's steps are shorter for it. Only
    non-finite numbers take the moments back with the parameters.

    Args:
        attempt: updates the parameters at the given rate and returns the loss (0-d) before and
            after.
        what: names the loss in `Outcome.problem`.
        optimizer: the attempt's.
        learning_rate: of the first attempt.
        base_rate: what `config.lowest` is a share of.
        config: how many attempts, at which rates.
    """
    parameters = optimizer.parameters
    weights_before = parameters.vector.clone()
    moments_before = optimizer.state_dict()
    problem, rate = None, learning_rate
    for retry in range(config.retries + 1):
        power = retry if config.compounding else min(retry, 1)
        next_rate = learning_rate / config.factor**power
        if retry and next_rate < base_rate * config.lowest * (1.0 - 1e-6):  # but for rounding
            return Outcome(False, retry - 1, rate, problem)
        rate = next_rate
        first, last = attempt(rate)
        weights_finite = torch.isfinite(parameters.vector).all()
        first_finite, last_finite = torch.isfinite(first), torch.isfinite(last)
        first_ok, last_ok, weights_ok, improved = torch.stack(
            [first_finite, last_finite, weights_finite, last <= first]
        ).tolist()  # the attempt's only wait for the device
        if first_ok and last_ok and weights_ok:
            if improved:
                return Outcome(True, retry, rate, None)
            problem = None
            parameters.vector.copy_(weights_before)
            continue
        problem = _problem(what, first_ok, parameters, first, last)
        parameters.vector.copy_(weights_before)
        optimizer.load_state_dict(moments_before)
        if not first_ok:  # the data are at fault, which no smaller step mends
            return Outcome(False, retry, rate, problem)
    return Outcome(False, config.retries, rate, problem)


def step_once(
    optimizer: Optimizer,
    loss: torch.Tensor,
    gradient: torch.Tensor,
    what: str,
    rate: float,
    outputs: Callable[[], tuple[torch.Tensor, ...]],
) -> str | None:
    """One step along `gradient`, undone if the loss, a parameter or an output is not finite then.

    Args:
        optimizer: takes the step.
        loss: what descends, 0-d, from before the step.
        gradient: laid out as the parameter vector.
        what: names the loss in the answer.
        rate: of learning.
        outputs: what the parameters lead to; finite parameters may be too large for it.

    Returns:
        A sentence that says what was not finite, None if everything was.
    """
    parameters = optimizer.parameters
    weights_before = parameters.vector.clone()
    moments_before = optimizer.state_dict()
    optimizer.step_along(gradient, rate)
    with torch.no_grad():
        finite = [loss, parameters.vector, *outputs()]
    loss_ok, *rest_ok = torch.stack([torch.isfinite(x).all() for x in finite]).tolist()
    if loss_ok and all(rest_ok):
        return None
    if loss_ok and rest_ok[0]:
        problem = f"the policy's output is not finite after descending the {what}"
    else:
        problem = _problem(what, loss_ok, parameters, loss, loss)
    parameters.vector.copy_(weights_before)
    optimizer.load_state_dict(moments_before)
    return problem


def _problem(
    what: str,
    first_ok: bool,
    parameters: ParameterVector,
    first: torch.Tensor,
    last: torch.Tensor,
) -> str:
    if not first_ok:
        return f"the {what} is {first.item()} before its first step"
    name = parameters.nonfinite()
    if name is not None:
        return f"the parameter {name!r} is not finite after descending the {what}"
    return f"the {what} is {last.item()} after its last step"
