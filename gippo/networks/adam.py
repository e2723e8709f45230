"""Parameters as one vector, their Adam steps, and the rule of restoring and retrying."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from gippo.networks.native_adam import AdamSettings, AdamStep
from gippo.networks.native_fit import MlpFit
from gippo.networks.perceptron import LAYER_NORM_EPS
from warp_envs.checks import ArgumentError, check_number

GRAD_NORM_EPS = 1e-6
ADAM_EPS = 1e-8


def check_betas(key: str, value: Any) -> None:
    """Raise ArgumentError unless `value` is two numbers that Adam's moments may decay by."""
    if len(value) != 2:
        raise ArgumentError(key, repr(value), "two numbers in [0, 1)")
    for beta in value:
        check_number(key, beta, 0.0, 1.0, open_high=True)


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
            raise ArgumentError("parameters", f"shapes {given}", str(accepted))
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


def scheduled_rate(schedule: str, first: float, final: float, epoch: int, num_epochs: int) -> float:
    """The learning rate of an epoch: `first` throughout, or falling linearly from it to `final`."""
    if schedule != "linear":
        return first
    progress = min(epoch / num_epochs, 1.0)
    return first + (min(first, final) - first) * progress
