"""The policy and value networks, and the arithmetic of a diagonal Gaussian."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.functional import elu, layer_norm, linear, silu, softplus

from gippo.networks.native import LAYER_NORM_EPS
from gippo.networks.native_function import NativeFunction
from warp_envs.checks import (
    ArgumentError,
    check_choice,
    check_integer,
    check_number,
    check_positive,
    check_sequence,
)

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def check_hidden(key: str, value: Any) -> None:
    """Raise ArgumentError unless `value` is a list of sizes of hidden layers."""
    accepted = "a list of at least one layer size"
    check_sequence(key, value, accepted)
    if len(value) == 0:
        raise ArgumentError(key, repr(value), accepted)
    for size in value:
        check_integer(key, size, 1)


ACTIVATIONS = ("elu", "relu", "silu", "tanh")
LAYER_NORMS = ("after", "before")
_LOG_SIGMAS = (-20.0, 20.0)
"""Within which its exponential is a number worth calculating with."""


@dataclass
class NetworkConfig:
    """A multilayer perceptron's hidden layers."""

    hidden: list[int] = field(default_factory=lambda: [64, 64])
    """Sizes of the hidden layers."""
    activation: str = "elu"
    """"elu", "relu", "silu" or "tanh"."""
    layer_norm: str = "after"
    """"after": Linear, activation, LayerNorm in each hidden layer; "before": Linear, LayerNorm,
    activation."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        self.check("")

    @property
    def form(self) -> dict[str, Any]:
        """What a network takes beside its sizes."""
        return {"activation": self.activation, "layer_norm": self.layer_norm}

    def check(self, prefix: str) -> None:
        """Raise ValueError naming a key out of range, with `prefix` before it."""
        check_hidden(f"{prefix}hidden", self.hidden)
        check_choice(f"{prefix}activation", self.activation, ACTIVATIONS)
        check_choice(f"{prefix}layer_norm", self.layer_norm, LAYER_NORMS)


@dataclass
class ActorConfig(NetworkConfig):
    """The policy's network: a Gaussian's mean and log standard deviation before the tanh."""

    init_gain: float | None = None
    """Of the orthogonal initialisation of every layer, its biases zero; null: weights and biases
    uniform within 1/sqrt(inputs), as torch's linear layers start."""
    log_sigma: str = "head"
    """"head": a second output of the network; "state_independent": one trained number an action."""
    initial_log_sigma: float = -1.0
    """Of a state-independent one."""
    log_sigma_bounds: list[float] | None = None
    """What it is clamped to; null: nothing."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        self.check("actor.")
        if self.init_gain is not None:
            check_positive("actor.init_gain", self.init_gain)
        check_choice("actor.log_sigma", self.log_sigma, ("head", "state_independent"))
        check_number("actor.initial_log_sigma", self.initial_log_sigma, *_LOG_SIGMAS)
        bounds = self.log_sigma_bounds
        if bounds is not None:
            accepted = "two numbers, the lower one first"
            check_sequence("actor.log_sigma_bounds", bounds, accepted)
            for bound in bounds:
                check_number("actor.log_sigma_bounds", bound, *_LOG_SIGMAS)
            if len(bounds) != 2 or not bounds[0] < bounds[1]:
                raise ArgumentError("actor.log_sigma_bounds", repr(list(bounds)), accepted)

    @property
    def form(self) -> dict[str, Any]:
        """What a network takes beside its sizes."""
        return {
            **super().form,
            "init_gain": self.init_gain,
            "log_sigma": self.log_sigma,
            "initial_log_sigma": self.initial_log_sigma,
            "log_sigma_bounds": self.log_sigma_bounds,
        }


Layer = tuple[torch.Tensor, ...]


class Mlp(nn.Module):
    """Hidden layers of Linear, activation and LayerNorm, then one linear layer.

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
        activation: str = "elu",
        layer_norm: str = "after",
    ) -> None:
        super().__init__()
        self.sizes = (num_inputs, *hidden, num_outputs)
        self.has_native_form = (activation, layer_norm) == ("elu", "after")
        """Whether the native passes know it: Linear, ELU, LayerNorm, and a linear layer."""
        self._activation = activation
        self._norm_first = layer_norm == "before"
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
        native = native and self.has_native_form
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
        return self._run(x, self._hidden, self._output)

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
        return lambda x: self._run(x, hidden, output)

    def forward_with(self, parameters: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """The same with `parameters`, in the module's order, in place of its own."""
        return self._run(x, *self._layers_of(parameters))

    def _layers_of(self, parameters: Sequence[torch.Tensor]) -> tuple[list[Layer], Layer]:
        """The hidden layers and the last one, of tensors in the module's order."""
        sizes = [len(self.weights), len(self.biases), len(self.norm_weights), len(self.norm_biases)]
        groups = iter(parameters)
        weights, biases, *norms = [list(itertools.islice(groups, size)) for size in sizes]
        hidden = list(zip(weights, biases, *norms, strict=False))
        return hidden, (weights[-1], biases[-1])

    def _run(self, x: torch.Tensor, hidden: Iterable[Layer], output: Layer) -> torch.Tensor:
        for weight, bias, norm_weight, norm_bias in hidden:
            x = linear(x, weight, bias)
            if not self._norm_first:
                x = self._activated(x)
            x = layer_norm(x, norm_bias.shape, norm_weight, norm_bias)
            if self._norm_first:
                x = self._activated(x)
        return self._head(x, *output)

    def _activated(self, x: torch.Tensor) -> torch.Tensor:
        if self._activation == "elu":
            return elu(x, inplace=True)  # its gradient needs no second exp
        if self._activation == "silu":
            return silu(x)
        return torch.tanh(x) if self._activation == "tanh" else torch.relu(x)

    def _head(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """The outputs (..., num_outputs) of the last hidden layer's."""
        return self._completed(linear(x, weight, bias[: len(weight)]), bias)

    def _completed(self, output: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """What the last layer gives, with what has no weights, and within bounds."""
        return self._bounded(self._joined(output, bias))

    @staticmethod
    def _joined(output: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """What the last layer gives, with those biases that have no weights behind it."""
        missing = len(bias) - output.shape[-1]
        if missing == 0:
            return output
        return torch.cat([output, bias[-missing:].expand(*output.shape[:-1], -1)], dim=-1)

    def _bounded(self, output: torch.Tensor) -> torch.Tensor:
        return output


class GaussianMlp(Mlp):
    """Outputs mu and log sigma of a diagonal Gaussian, one behind the other.

    They are two linear heads on the same hidden layers, one matrix of two halves. A log sigma that
    is independent of the state has no weights: its half of the last bias is all of it.
    """

    def __init__(
        self,
        num_inputs: int,
        hidden: Sequence[int],
        num_actions: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype,
        init_gain: float | None = None,
        log_sigma: str = "head",
        initial_log_sigma: float = -1.0,
        log_sigma_bounds: Sequence[float] | None = None,
        **form: Any,
    ) -> None:
        shared: dict[str, Any] = {
            "generator": generator,
            "dtype": dtype,
            "orthogonal_gain": init_gain,
        }
        super().__init__(num_inputs, hidden, 2 * num_actions, **shared, **form)
        self._bounds = log_sigma_bounds
        independent = log_sigma == "state_independent"
        self.has_native_form &= log_sigma_bounds is None and not independent
        if self._native is not None and independent:
            self._native = NativeFunction((*self.sizes[:-1], num_actions), dtype, LAYER_NORM_EPS)
        weight, bias = self.weights[-1].data, self.biases[-1].data
        if init_gain is not None:  # each head by itself
            for head in weight.chunk(2):
                nn.init.orthogonal_(head, init_gain, generator=generator)
        if independent:
            self.weights[-1] = nn.Parameter(weight[:num_actions].clone())
            bias[num_actions:] = initial_log_sigma
        self._collect()

    def frozen(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The network as it stands, as a function of its inputs alone (`Mlp.frozen`)."""
        if self._native is None or self._output[0].device.type != "cpu":
            return super().frozen()
        weights, biases = list(self.weights), list(self.biases)
        bias = biases[-1].detach().clone()
        layers = [*weights, *biases[:-1], bias[: len(weights[-1])]]
        function = self._native.freeze([*layers, *self.norm_weights, *self.norm_biases])
        if self._bounds is None and len(bias) == len(weights[-1]):
            return function
        return lambda x: self._completed(function(x), bias)

    def _bounded(self, output: torch.Tensor) -> torch.Tensor:
        """The output with log sigma clamped."""
        if self._bounds is None:
            return output
        mu, log_sigma = output.chunk(2, dim=-1)
        return torch.cat([mu, log_sigma.clamp(*self._bounds)], dim=-1)


class Tangent:
    """What an `Mlp`'s outputs do when its parameters move: J v, J their derivative.

    Forward differentiation written out, layer by layer: a third of the time that dual numbers or
    two backward passes take on a small network.
    """

    def __init__(self, mlp: Mlp, parameters: Sequence[torch.Tensor], x: torch.Tensor) -> None:
        """Pass inputs (n, num_inputs) through, with `parameters` in the module's order."""
        self._mlp = mlp
        hidden, output = mlp._layers_of([p.detach() for p in parameters])
        self._layers: list[tuple[torch.Tensor, ...]] = []
        """Of each hidden one its inputs and matrix; the activation's slope; the normalisation's
        weight, output before weight and bias, and scale."""
        for weight, bias, norm_weight, norm_bias in hidden:
            z = linear(x, weight, bias)
            if mlp._norm_first:
                y, unit, scale = _normalized(z, norm_weight, norm_bias)
                y, slope = _sloped(mlp._activated, y)
            else:
                y, slope = _sloped(mlp._activated, z)
                y, unit, scale = _normalized(y, norm_weight, norm_bias)
            self._layers.append((x, weight, slope, norm_weight, unit, scale))
            x = y
        weight, bias = output
        joined = mlp._joined(linear(x, weight, bias[: len(weight)]), bias)
        self._last = (x, weight, _sloped(mlp._bounded, joined)[1])

    def times(self, changes: Sequence[torch.Tensor]) -> torch.Tensor:
        """The outputs' change (n, num_outputs) for that of the parameters, in their order."""
        hidden, (d_weight, d_bias) = self._mlp._layers_of(changes)
        t: torch.Tensor | None = None  # the inputs stand still
        for layer, change in zip(self._layers, hidden, strict=True):
            t = self._through(t, layer, change)
        x, weight, slope = self._last
        assert t is not None
        t = linear(x, d_weight, d_bias[: len(d_weight)]) + linear(t, weight)
        return slope * self._mlp._joined(t, d_bias)

    def _through(self, t: torch.Tensor | None, layer: Layer, change: Layer) -> torch.Tensor:
        x, weight, slope, norm_weight, unit, scale = layer
        d_weight, d_bias, d_norm_weight, d_norm_bias = change
        z = linear(x, d_weight, d_bias)
        if t is not None:
            z = z + linear(t, weight)
        if not self._mlp._norm_first:
            z = z * slope
        moved = z - z.mean(-1, keepdim=True) - unit * (z * unit).mean(-1, keepdim=True)
        z = norm_weight * (scale * moved) + d_norm_weight * unit + d_norm_bias
        return z * slope if self._mlp._norm_first else z


def _sloped(
    function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A function of single numbers, and its derivative."""
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        y = function(z.clone())  # it may work in place
    return y.detach(), torch.autograd.grad(y.sum(), z)[0]


def _normalized(
    z: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """LayerNorm's output, the same before weight and bias, and the factor that was taken."""
    y, mean, scale = torch.native_layer_norm(z, list(bias.shape), weight, bias, LAYER_NORM_EPS)
    return y, (z - mean) * scale, scale


class GaussianActor(nn.Module):
    """A diagonal Gaussian over actions before the squashing tanh, g(s, eps) = mu(s) + sigma(s) eps.

    mu and log sigma come from one network (`GaussianMlp`).
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
        **form: Any,
    ) -> None:
        """Make the network, of an `ActorConfig.form`."""
        super().__init__()
        shared: dict[str, Any] = {"generator": generator, "dtype": dtype, "native": native}
        self.mlp = GaussianMlp(num_obs, hidden, num_actions, **shared, **form)

    @property
    def num_actions(self) -> int:
        """Length of an action."""
        return self.mlp.sizes[-1] // 2

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


class Ensemble(nn.Module):
    """Networks of one form with weights of their own; their outputs stand side by side."""

    def __init__(self, networks: Sequence[Mlp]) -> None:
        super().__init__()
        self.members = nn.ModuleList(networks)

    @property
    def networks(self) -> list[Mlp]:
        """The networks."""
        return [member for member in self.members if isinstance(member, Mlp)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., num_inputs) to (..., networks)."""
        return torch.cat([network.forward(x) for network in self.networks], dim=-1)

    def frozen(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The networks as they stand, as a function of their inputs alone (`Mlp.frozen`)."""
        functions = [network.frozen() for network in self.networks]
        return lambda x: torch.cat([function(x) for function in functions], dim=-1)


COMBINATIONS = ("min", "mean")


def combined(values: torch.Tensor, how: str) -> torch.Tensor:
    """One value (...) of each of several networks' (..., count): the least one or the mean."""
    if values.shape[-1] == 1:
        return values.squeeze(-1)
    return values.amin(-1) if how == "min" else values.mean(-1)


class ValueNetwork(nn.Module):
    """The value of a normalised observation, by one network or by several independent ones."""

    def __init__(
        self,
        num_obs: int,
        hidden: Sequence[int],
        gain: float,
        *,
        generator: torch.Generator,
        dtype: torch.dtype,
        count: int = 1,
        native: bool = False,
        **form: Any,
    ) -> None:
        """Make `count` networks of a `NetworkConfig.form`."""
        super().__init__()
        shared: dict[str, Any] = {"generator": generator, "dtype": dtype, "native": native}
        members = [
            Mlp(num_obs, hidden, 1, orthogonal_gain=gain, **shared, **form) for _ in range(count)
        ]
        self.mlp: Mlp | Ensemble = members[0] if count == 1 else Ensemble(members)

    def forward(self, obs: torch.Tensor, how: str = "min") -> torch.Tensor:
        """Map (..., num_obs) to (...), several networks' values `combined`."""
        return combined(self.mlp.forward(obs), how)

    def frozen(self, how: str = "min") -> Callable[[torch.Tensor], torch.Tensor]:
        """`forward` for the network as it stands (`Mlp.frozen`)."""
        function = self.mlp.frozen()
        return lambda obs: combined(function(obs), how)


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


def squashed_entropy(
    mu: torch.Tensor, log_sigma: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """-log pi(tanh u) at u = mu + sigma noise, (...), an estimate of the squashed policy's entropy.

    The density of a = tanh u is that of u divided by da/du = 1 - tanh^2 u, whose logarithm is
    2 (log 2 - u - softplus(-2 u)) (Haarnoja et al. 2018, appendix C). Differentiable in both, the
    noise (..., num_actions) being held.
    """
    u = mu + torch.exp(log_sigma) * noise
    gaussian = (0.5 * noise * noise + log_sigma + _HALF_LOG_TWO_PI).sum(-1)
    return gaussian + 2.0 * (math.log(2.0) - u - softplus(-2.0 * u)).sum(-1)
