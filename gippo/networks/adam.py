"""Parameters as one vector, their Adam steps, and the rates that these may have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gippo.networks import graphs
from gippo.networks.native import AdamSettings, NativeAdam, NativeFit
from warp_envs.checks import ArgumentError, check_number, check_sequence

GRAD_NORM_EPS = 1e-6
ADAM_EPS = 1e-8


def check_betas(key: str, value: Any) -> None:
    """Raise ArgumentError unless `value` is two numbers that Adam's moments may decay by."""
    accepted = "two numbers in [0, 1)"
    check_sequence(key, value, accepted)
    if len(value) != 2:
        raise ArgumentError(key, repr(value), accepted)
    for beta in value:
        check_number(key, beta, 0.0, 1.0, open_high=True)


class ParameterVector:
    """A module's parameters laid into one tensor, of which they become views.

    Clipping, Adam, keeping a copy and going back to it are then one operation each instead of one
    per parameter, and small networks spend their time on arithmetic.
    """

    def __init__(self, module: nn.Module, *, native: bool = True) -> None:
        """Lay them out.

        Args:
            module: whose parameters move into the vector.
            native: let native passes work on them where they lie on a CPU.
        """
        self.names, parameters = zip(*module.named_parameters(), strict=True)
        self.parameters: tuple[nn.Parameter, ...] = parameters
        self.vector = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.native = native and self.vector.device.type == "cpu"
        """Whether native passes work on them, in the place of torch's operations."""
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

    Kingma & Ba 2015, Algorithm 1; the parameters decay by themselves, at the learning rate times
    `weight_decay`, as in AdamW (Loshchilov & Hutter 2019). Written out, because on a small vector
    torch's own spends ten times as long around the arithmetic as in it. On a GPU it is torch's
    fused kernel, with the rate and the number of steps on the device, for graphs of it.
    """

    def __init__(
        self,
        parameters: ParameterVector,
        betas: Sequence[float],
        max_grad_norm: float | None,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = parameters
        self.max_grad_norm = max_grad_norm
        self.weight_decay = weight_decay
        self._betas = (betas[0], betas[1])
        self._steps = 0
        self._mean = torch.zeros_like(self.parameters.vector)
        self._square = torch.zeros_like(self.parameters.vector)
        self._steps_on_gpu: torch.Tensor | None = None
        """Their number, of single precision, where they are taken on a GPU."""
        if graphs.on_gpu(parameters.vector):
            device = parameters.vector.device
            self._steps_on_gpu = torch.zeros((), dtype=torch.float32, device=device)
        self._native: NativeAdam | None = None
        if parameters.native:
            self._native = NativeAdam(parameters.vector, self._mean, self._square)

    def step_along(self, gradient: torch.Tensor, learning_rate: float | torch.Tensor) -> None:
        """Descend once along `gradient`; on a GPU the rate may be a 0-d tensor there."""
        if self._steps_on_gpu is not None:
            self._step_on_gpu(self._clipped(gradient), learning_rate, self._steps_on_gpu)
            return
        rate = float(learning_rate)
        if self.weight_decay > 0.0:
            self.parameters.vector.mul_(1.0 - rate * self.weight_decay)
        if self._native is None:
            self._step(self._clipped(gradient), rate)
        else:
            self._native.step(gradient, self._settings(rate))
        self._steps += 1

    def _clipped(self, gradient: torch.Tensor) -> torch.Tensor:
        if self.max_grad_norm is None:
            return gradient
        norm = torch.linalg.vector_norm(gradient)
        return gradient * (self.max_grad_norm / (norm + GRAD_NORM_EPS)).clamp_(max=1.0)

    def _step_on_gpu(
        self, gradient: torch.Tensor, learning_rate: float | torch.Tensor, steps: torch.Tensor
    ) -> None:
        beta_1, beta_2 = self._betas
        if not isinstance(learning_rate, torch.Tensor):
            learning_rate = torch.tensor(learning_rate).item()  # rounded as the tensor would be
        steps.add_(1.0)
        torch._fused_adamw_(  # pyright: ignore[reportPrivateImportUsage]
            [self.parameters.vector],
            [gradient],
            [self._mean],
            [self._square],
            [],
            [steps],
            lr=learning_rate,
            beta1=beta_1,
            beta2=beta_2,
            weight_decay=self.weight_decay,
            eps=ADAM_EPS,
            amsgrad=False,
            maximize=False,
        )

    def _step(self, gradient: torch.Tensor, learning_rate: float) -> None:
        beta_1, beta_2 = self._betas
        steps = self._steps + 1
        self._mean.lerp_(gradient, 1.0 - beta_1)
        self._square.mul_(beta_2).addcmul_(gradient, gradient, value=1.0 - beta_2)
        # Section 2's order: both bias corrections in the rate, and epsilon scaled to suit.
        correction = math.sqrt(1.0 - beta_2**steps)
        step = learning_rate * correction / (1.0 - beta_1**steps)
        deviation = self._square.sqrt().add_(ADAM_EPS * correction)
        self.parameters.vector.addcdiv_(self._mean, deviation, value=-step)

    def _settings(self, learning_rate: float) -> AdamSettings:
        """Of the next step."""
        most = math.inf if self.max_grad_norm is None else self.max_grad_norm
        return AdamSettings(learning_rate, self._steps, *self._betas, ADAM_EPS, most, GRAD_NORM_EPS)

    def native_fit(
        self, sizes: Sequence[int], rows: int, num_minibatches: int, iterations: int
    ) -> NativeFit:
        """Prepare fits by mean squared error of the parameters, a network's of these sizes.

        They know of no weight decay.
        """
        state = (self.parameters.vector, self._mean, self._square)
        return NativeFit(sizes, rows, num_minibatches, iterations, *state)

    def fit_natively(
        self,
        fit: NativeFit,
        inputs: torch.Tensor,
        target: torch.Tensor,
        learning_rate: float,
        unit: float,
        offset: float,
    ) -> torch.Tensor:
        """Take all steps of a fit, as `step_along` would.

        Args:
            fit: from `native_fit`.
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
        return losses

    def state_dict(self) -> dict[str, Any]:
        """A copy of Adam's moments and step count."""
        steps = self._steps_on_gpu
        moments = {
            "step": torch.tensor(float(self._steps)) if steps is None else steps.clone(),
            "exp_avg": self._mean.clone(),
            "exp_avg_sq": self._square.clone(),
        }
        return {"moments": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        moments = state["moments"]
        if self._steps_on_gpu is None:
            self._steps = int(moments["step"])
        else:
            self._steps_on_gpu.copy_(moments["step"])
        self._mean.copy_(moments["exp_avg"])
        self._square.copy_(moments["exp_avg_sq"])


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each epoch."""

    kind: str
    """"linear": falls from `first` to `final` over training; any other: `first` throughout."""
    first: float
    final: float
    num_epochs: int
    """Of the whole training."""

    def rate(self, epoch: int) -> float:
        """Of an epoch, counted from zero; a `final` above `first` raises nothing."""
        if self.kind != "linear":
            return self.first
        progress = min(epoch / self.num_epochs, 1.0)
        return self.first + (min(self.first, self.final) - self.first) * progress
