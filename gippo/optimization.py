"""Parameters as one vector, their Adam steps, and the rule of restoring and retrying."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gippo.config import RetryConfig
from gippo.networks import LAYER_NORM_EPS
from warp_envs.adam import AdamSettings, AdamStep
from warp_envs.mlp_fit import MlpFit

GRAD_NORM_EPS = 1e-6
ADAM_EPS = 1e-8


class ParameterVector:
    """A module's parameters laid into one tensor, of which they become views.

    Clipping, Adam, keeping a copy and going back to it are then one operation each instead of one
    per parameter, and small networks spend their time on arithmetic.
    """

    def __init__(self, module: nn.Module) -> None:
        self.names, parameters = zip(*module.named_parameters(), strict=True)
        self.parameters: tuple[nn.Parameter, ...] = parameters
        self.vector = torch.cat([p.detach().reshape(-1) for p in parameters])
        for parameter, view in zip(parameters, self.views(self.vector), strict=True):
            parameter.data = view

    def views(self, vector: torch.Tensor) -> list[torch.Tensor]:
        """The parts of a tensor laid out as `vector`, shaped as the parameters."""
        parts = vector.split([p.numel() for p in self.parameters])
        return [part.view(p.shape) for part, p in zip(parts, self.parameters, strict=True)]

    def gradient(self, loss: torch.Tensor) -> torch.Tensor:
        """The gradient of a scalar, laid out as `vector`."""
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, self.parameters)])

    def state_dict(self) -> dict[str, torch.Tensor]:
        """A copy of the parameters by name."""
        return {
            name: parameter.detach().clone()
            for name, parameter in zip(self.names, self.parameters, strict=True)
        }

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the parameters that `state_dict` returned.

        Raises:
            ValueError: a parameter is missing, unknown or of another shape; nothing has changed.
        """
        given = {name: tuple(value.shape) for name, value in state.items()}
        accepted = {
            name: tuple(parameter.shape)
            for name, parameter in zip(self.names, self.parameters, strict=True)
        }
        if given != accepted:
            raise ValueError(f"parameters: shapes {given} given, {accepted} accepted")
        with torch.no_grad():
            for name, parameter in zip(self.names, self.parameters, strict=True):
                parameter.copy_(state[name])

    def nonfinite(self) -> str | None:
        """The name of a parameter that is not finite, None if all are."""
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if not bool(torch.isfinite(parameter).all()):
                return name
        return None


class Optimizer:
    """Adam on a parameter vector, with a bound on the gradient's norm or without (None).

    Kingma & Ba 2015, Algorithm 1. Written out, because on a small vector torch's own spends ten
    times as long around the arithmetic as in it.
    """

    def __init__(
        self, parameters: ParameterVector, betas: Sequence[float], max_grad_norm: float | None
    ) -> None:
        self.parameters = parameters
        self.max_grad_norm = max_grad_norm
        self._betas = (betas[0], betas[1])
        self._steps = 0
        self._mean = torch.zeros_like(self.parameters.vector)
        self._square = torch.zeros_like(self.parameters.vector)
        self._learning_rate = 0.0
        self._on_cpu = self.parameters.vector.device.type == "cpu"
        self._native: AdamStep | None = None

    def step_along(self, gradient: torch.Tensor, learning_rate: float) -> None:
        """Descend once along `gradient`, which may be scaled in place."""
        if self._on_cpu:
            self._step_at_once(gradient, learning_rate)
        else:
            self._step_plainly(gradient, learning_rate)

    def _step_at_once(self, gradient: torch.Tensor, learning_rate: float) -> None:
        if self._native is None:
            self._native = AdamStep(self.parameters.vector, self._mean, self._square)
        self._native.step(gradient, self._settings(learning_rate))
        self._steps += 1
        self._learning_rate = learning_rate

    def _settings(self, learning_rate: float) -> AdamSettings:
        """Of the next step."""
        most = math.inf if self.max_grad_norm is None else self.max_grad_norm
        return AdamSettings(learning_rate, self._steps, *self._betas, ADAM_EPS, most, GRAD_NORM_EPS)

    def _step_plainly(self, gradient: torch.Tensor, learning_rate: float) -> None:
        if self.max_grad_norm is not None:
            norm = torch.linalg.vector_norm(gradient)
            gradient.mul_((self.max_grad_norm / (norm + GRAD_NORM_EPS)).clamp_(max=1.0))
        beta_1, beta_2 = self._betas
        self._steps += 1
        self._learning_rate = learning_rate
        self._mean.lerp_(gradient, 1.0 - beta_1)
        self._square.mul_(beta_2).addcmul_(gradient, gradient, value=1.0 - beta_2)
        # Section 2's order: both bias corrections in the rate, and epsilon scaled to suit.
        correction = math.sqrt(1.0 - beta_2**self._steps)
        step = learning_rate * correction / (1.0 - beta_1**self._steps)
        deviation = self._square.sqrt().add_(ADAM_EPS * correction)
        self.parameters.vector.addcdiv_(self._mean, deviation, value=-step)

    def square_fit(
        self, sizes: Sequence[int], rows: int, num_minibatches: int, iterations: int
    ) -> MlpFit:
        """Prepare fits of the parameters, a network's of these sizes, by mean squared error."""
        state = (self.parameters.vector, self._mean, self._square)
        return MlpFit(sizes, rows, num_minibatches, iterations, *state, LAYER_NORM_EPS)

    def fit_squares(
        self,
        fit: MlpFit,
        inputs: torch.Tensor,
        target: torch.Tensor,
        learning_rate: float,
        unit: float,
        offset: float,
    ) -> torch.Tensor:
        """Take all steps of a fit, on a CPU, as `step_along` would.

        Args:
            fit: from `square_fit`.
            inputs: (rows, num_inputs).
            target: of ``unit * output + offset``, (rows,).
            learning_rate: of all steps.
            unit: of the network's output.
            offset: of the network's output.

        Returns:
            Each minibatch's mean loss before its last step, (minibatches,).
        """
        losses = fit.fit(inputs, target, self._settings(learning_rate), unit, offset)
        self._steps += fit.num_descents
        self._learning_rate = learning_rate
        return losses

    def state_dict(self) -> dict[str, Any]:
        """A copy of Adam's moments and step count, and the last rate."""
        moments = {
            "step": torch.tensor(float(self._steps)),
            "exp_avg": self._mean.clone(),
            "exp_avg_sq": self._square.clone(),
        }
        return {"learning_rate": self._learning_rate, "moments": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        moments = state["moments"]
        self._learning_rate = float(state["learning_rate"])
        self._steps = int(moments["step"])
        self._mean.copy_(moments["exp_avg"])
        self._square.copy_(moments["exp_avg_sq"])


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


def scheduled_rate(schedule: str, first: float, final: float, epoch: int, num_epochs: int) -> float:
    """The learning rate of an epoch: `first` throughout, or falling linearly from it to `final`."""
    if schedule != "linear":
        return first
    progress = min(epoch / num_epochs, 1.0)
    return first + (min(first, final) - first) * progress


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
