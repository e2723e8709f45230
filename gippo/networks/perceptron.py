"""The policy and value networks, and the arithmetic of a diagonal Gaussian."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import elu, layer_norm, linear

from gippo.networks.native import LAYER_NORM_EPS, NativeFunction
from warp_envs.checks import ArgumentError, check_integer

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def check_hidden(key: str, value: Any) -> None:
    """Raise ArgumentError unless `value` is a list of sizes of hidden layers."""
    if len(value) == 0:
        raise ArgumentError(key, repr(value), "a list of at least one layer size")
    for size in value:
        check_integer(key, size, 1)


class Mlp(nn.Module):
    """Hidden layers Linear -> ELU -> LayerNorm, then one linear layer.

    Weights start as torch's linear layers do, uniform within 1/sqrt(inputs), biases too; or
    orthogonal with zero biases when `orthogonal_gain` is given. They are drawn from `generator`
    alone.
    """

    def __init__(
        self,
        num_inputs: int,
        hidden: Sequence[int],
        num_outputs: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype,
        orthogonal_gain: float | None = None,
        native: bool = False,
    ) -> None:
        super().__init__()
        self.sizes = (num_inputs, *hidden, num_outputs)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.norm_weights = nn.ParameterList()
        self.norm_biases = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(self.sizes):
            weight = torch.empty(fan_out, fan_in, dtype=dtype)
            bias = torch.zeros(fan_out, dtype=dtype)
            if orthogonal_gain is None:
                bound = 1.0 / math.sqrt(fan_in)
                weight.uniform_(-bound, bound, generator=generator)
                bias.uniform_(-bound, bound, generator=generator)
            else:
                nn.init.orthogonal_(weight, orthogonal_gain, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))
        for size in hidden:
            self.norm_weights.append(nn.Parameter(torch.ones(size, dtype=dtype)))
            self.norm_biases.append(nn.Parameter(torch.zeros(size, dtype=dtype)))
        self._native = NativeFunction(self.sizes, dtype, LAYER_NORM_EPS) if native else None
        self._collect()

    def _collect(self) -> None:
        """Keep the layers' tensors in tuples: looking them up in lists costs as much as a layer."""
        self._hidden = tuple(
            zip(self.weights, self.biases, self.norm_weights, self.norm_biases, strict=False)
        )
        self._output = (self.weights[-1], self.biases[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., num_inputs) to (..., num_outputs)."""
        return _mlp(x, self._hidden, self._output)

    def frozen(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The network as it stands, as a function of its inputs alone.

        A native one is good until the parameters have changed and `frozen` is called again
        (`NativeFunction.freeze`).
        """
        if self._native is not None and self._output[0].device.type == "cpu":
            return self._native.freeze(list(self.parameters()))
        *hidden, output = [
            tuple(p.detach().clone() for p in layer) for layer in (*self._hidden, self._output)
        ]
        return lambda x: _mlp(x, hidden, (output[0], output[1]))

    def forward_with(self, parameters: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """The same with `parameters`, in the module's order, in place of its own."""
        sizes = [len(self.weights), len(self.biases), len(self.norm_weights), len(self.norm_biases)]
        groups = iter(parameters)
        weights, biases, *norms = [list(itertools.islice(groups, size)) for size in sizes]
        hidden = zip(weights, biases, *norms, strict=False)
        return _mlp(x, hidden, (weights[-1], biases[-1]))


def _mlp(
    x: torch.Tensor,
    hidden: Iterable[tuple[torch.Tensor, ...]],
    output: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    for weight, bias, norm_weight, norm_bias in hidden:
        x = elu(linear(x, weight, bias), inplace=True)  # its gradient needs no second exp
        x = layer_norm(x, norm_bias.shape, norm_weight, norm_bias)
    return linear(x, *output)


class GaussianActor(nn.Module):
    """A diagonal Gaussian over actions before the squashing tanh, g(s, eps) = mu(s) + sigma(s) eps.

    mu and log sigma are two linear heads on the same hidden layers (one matrix, two halves).
    """

    def __init__(
        self,
        num_obs: int,
        hidden: Sequence[int],
        num_actions: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype,
        native: bool = False,
    ) -> None:
        super().__init__()
        self.mlp = Mlp(
            num_obs, hidden, 2 * num_actions, generator=generator, dtype=dtype, native=native
        )

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation, (..., num_actions) each, for normalised `obs`."""
        return self.split(self.mlp.forward(obs))

    def frozen(self) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """`forward` for the policy as it stands (`Mlp.frozen`)."""
        function = self.mlp.frozen()
        return lambda obs: self.split(function(obs))

    @staticmethod
    def split(output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation out of the network's output."""
        mu, log_sigma = output.chunk(2, dim=-1)
        return mu, log_sigma

    def forward_with(
        self, parameters: Sequence[torch.Tensor], obs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with `parameters`, in the module's order, in place of its own.

        For `torch.func`, which differentiates functions of their arguments.
        """
        return self.split(self.mlp.forward_with(parameters, obs))


class ValueNetwork(nn.Module):
    """The value of a normalised observation."""

    def __init__(
        self,
        num_obs: int,
        hidden: Sequence[int],
        gain: float,
        *,
        generator: torch.Generator,
        dtype: torch.dtype,
        native: bool = False,
    ) -> None:
        super().__init__()
        self.mlp = Mlp(
            num_obs,
            hidden,
            1,
            generator=generator,
            dtype=dtype,
            orthogonal_gain=gain,
            native=native,
        )

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Map (..., num_obs) to (...)."""
        return self.mlp.forward(obs).squeeze(-1)

    def frozen(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """`forward` for the network as it stands (`Mlp.frozen`)."""
        function = self.mlp.frozen()
        return lambda obs: function(obs).squeeze(-1)


def log_prob(action: torch.Tensor, mu: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """The Gaussian's log density at `action`, summed over the last axis."""
    z = (action - mu) * torch.exp(-log_sigma)
    return -(0.5 * z * z + log_sigma).sum(-1) - action.shape[-1] * _HALF_LOG_TWO_PI


def kl_divergence(
    mu: torch.Tensor,
    log_sigma: torch.Tensor,
    other_mu: torch.Tensor,
    other_log_sigma: torch.Tensor,
) -> torch.Tensor:
    """KL(N(mu, sigma) || N(other_mu, other_sigma)), in nats, summed over the last axis."""
    scaled = torch.exp(2.0 * (log_sigma - other_log_sigma))
    shift = (mu - other_mu) * torch.exp(-other_log_sigma)
    return (other_log_sigma - log_sigma + 0.5 * (scaled + shift * shift - 1.0)).sum(-1)
