"""The critic: a value network, its slowly following target, and their fit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gippo.distributed import SINGLE, Ranks
from gippo.networks.adam import Optimizer, ParameterVector, Schedule, check_betas
from gippo.networks.batch_gradient import Batch, BatchGradient
from gippo.networks.graphs import Graphed
from gippo.networks.native import NativeFit, native_twin
from gippo.networks.normalization import RunningStatistics, identity
from gippo.networks.perceptron import COMBINATIONS, Mlp, NetworkConfig, ValueNetwork
from warp_envs.checks import check_choice, check_flag, check_integer, check_number, check_positive


@dataclass
class CriticConfig(NetworkConfig):
    """The critic's network and its fit, once per epoch."""

    learning_rate: float = 1e-3
    """At the start; it falls linearly to `final_learning_rate` over training."""
    final_learning_rate: float = 1e-5
    iterations: int = 16
    """Passes over the window, at most."""
    tolerance: float | None = None
    """After six passes and more the fit ends if the mean losses of the last five but one changed
    by less than this from pass to pass, in units of the squared reward; null: it makes them all."""
    num_minibatches: int = 4
    """Per pass, contiguous in time, in order."""
    betas: list[float] = field(default_factory=lambda: [0.7, 0.95])
    """Adam's."""
    max_grad_norm: float | None = 1.0
    """Null: the gradient is taken as it is."""
    weight_decay: float = 0.0
    """AdamW's, times the learning rate."""
    target: bool = True
    """Bootstrap from a target critic, which follows; false: from the critic itself."""
    target_rate: float = 0.8
    """Share of the critic in the new target critic; the rest is the old target."""
    terminal_share: float = 0.0
    """Of the fit's samples that are states in which episodes terminated, drawn from the last 256,
    whose value is 0. 0: none."""
    init_gain: float = math.sqrt(2.0)
    """Of the orthogonal initialisation of every layer."""
    count: int = 1
    """Independent value networks, all fit to the same targets."""
    combine: str = "min"
    """What the targets bootstrap from where there are several: "min" or "mean" of their values."""
    actor_combine: str = "min"
    """What the actor's objective bootstraps from."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        self.check("critic.")
        check_positive("critic.learning_rate", self.learning_rate)
        check_positive("critic.final_learning_rate", self.final_learning_rate)
        check_integer("critic.iterations", self.iterations, 1)
        check_integer("critic.num_minibatches", self.num_minibatches, 1)
        check_betas("critic.betas", self.betas)
        if self.tolerance is not None:
            check_positive("critic.tolerance", self.tolerance)
        if self.max_grad_norm is not None:
            check_positive("critic.max_grad_norm", self.max_grad_norm)
        check_number("critic.weight_decay", self.weight_decay, 0.0)
        check_flag("critic.target", self.target)
        check_number("critic.target_rate", self.target_rate, 0.0, 1.0, open_low=True)
        check_number("critic.terminal_share", self.terminal_share, 0.0, 0.5)
        check_positive("critic.init_gain", self.init_gain)
        check_integer("critic.count", self.count, 1)
        check_choice("critic.combine", self.combine, COMBINATIONS)
        check_choice("critic.actor_combine", self.actor_combine, COMBINATIONS)


@native_twin("square_error")
def square_error(
    output: torch.Tensor,
    target: torch.Tensor,
    unit: torch.Tensor | float,
    offset: torch.Tensor | float,
) -> torch.Tensor:
    """(unit output + offset - target)^2 of each sample (B,), for the network's output (B, 1).

    Of several networks' outputs (B, count) it is the mean.
    """
    return (unit * output + offset - target.unsqueeze(-1)).square().mean(-1)


class Critic:
    """Estimates values of normalised observations, in units of the reward.

    An observation is here what the critic sees, with all that it alone is told.
    """

    def __init__(
        self,
        network: ValueNetwork,
        config: CriticConfig,
        *,
        normalize_value: bool,
        num_epochs: int,
        native: bool = True,
        graphs: bool = True,
        ranks: Ranks = SINGLE,
    ) -> None:
        """Own `network` and start the target as its copy.

        Args:
            network: of values.
            config: its fit.
            normalize_value: fit in units of the targets' running statistics.
            num_epochs: of the whole training.
            native: as in `ParameterVector`.
            graphs: let a GPU capture a fit; not one with a tolerance, for which the host looks on.
            ranks: the processes.
        """
        self.config = config
        self._schedule = Schedule(
            "linear", config.learning_rate, config.final_learning_rate, num_epochs
        )
        self.network = network
        self.target = copy.deepcopy(network)
        self._parameters = ParameterVector(self.network, native=native)
        self._target_parameters = ParameterVector(self.target)
        self._gradient = BatchGradient(network.mlp, self._parameters, ranks=ranks)
        self._fits: dict[int, NativeFit] = {}
        self._all_passes = Graphed(self._make_all_passes, enabled=graphs)
        self._ranks = ranks
        self._optimizer = Optimizer(
            self._parameters, config.betas, config.max_grad_norm, config.weight_decay
        )
        vector = self._parameters.vector
        self._statistics = RunningStatistics((), vector.device) if normalize_value else None
        self._normalizer = identity(vector.dtype, vector.device)
        self._refresh()

    @property
    def has_two_values(self) -> bool:
        """Whether targets and the actor's objective bootstrap from different values."""
        return self.config.count > 1 and self.config.combine != self.config.actor_combine

    def target_value(self, combine: str = "min") -> Callable[[torch.Tensor], torch.Tensor]:
        """The target critic as it stands: normalised observations (..., num_obs) -> values (...).

        Several networks' values are combined to their "min" or "mean". The fit changes the
        statistics of the values beside whoever uses this function; it goes on with those from
        before.
        """
        value = self.target.frozen(combine)
        if self._statistics is None:
            return value
        normalizer = self._normalizer
        return lambda obs: normalizer.denormalize(value(obs))

    def fit(
        self, obs: torch.Tensor, target: torch.Tensor, epoch: int
    ) -> tuple[dict[str, torch.Tensor | float], str | None]:
        """Fit `target` by mean squared error, then move the target critic towards the critic.

        Args:
            obs: normalised, time-major, (H, N, num_obs).
            target: advantage + value, (H, N).
            epoch: counted from zero, for the learning rate.

        Returns:
            Metrics, and a sentence on what was not finite: then nothing has changed. None: all was.
        """
        config = self.config
        before = self.state_dict()
        if self._statistics is not None:
            self._statistics.update(target.reshape(-1), self._ranks)
            self._refresh()
        rate = self._schedule.rate(epoch)
        loss, passes = self._descend(obs.flatten(0, 1), target.flatten(), rate)
        share = config.target_rate if config.target else 1.0
        self._target_parameters.vector.lerp_(self._parameters.vector, share)
        metrics: dict[str, torch.Tensor | float] = {
            "critic_loss": loss,
            "critic_learning_rate": rate,
        }
        if config.tolerance is not None:
            metrics["critic_passes"] = float(passes)
        finite = torch.isfinite(self._parameters.vector).all() & torch.isfinite(loss)
        if bool(finite):
            return metrics, None
        name = self._parameters.nonfinite()
        problem = f"the critic's loss is {loss.item()}"
        if name is not None:
            problem += f" and its parameter {name!r} is not finite"
        self.load_state_dict(before)
        return metrics, problem

    def _descend(
        self, obs: torch.Tensor, target: torch.Tensor, rate: float
    ) -> tuple[torch.Tensor, int]:
        """Passes over contiguous minibatches: the mean loss over the last one, and their number."""
        config, normalizer = self.config, self._normalizer
        plain = config.tolerance is None and config.weight_decay == 0.0
        if self._parameters.native and plain and self._ranks.size == 1:
            mlp = self.network.mlp
            if isinstance(mlp, Mlp) and mlp.has_native_form:
                return self._descend_natively(mlp, obs, target, rate).mean(), config.iterations
        unit, offset = normalizer.scale, normalizer.mean
        if config.tolerance is None:
            (loss,) = self._all_passes(obs, target, unit, offset, rate)
            return loss, config.iterations
        minibatches = self._minibatches(obs, target)
        means: list[torch.Tensor] = []
        loss = torch.zeros(())
        for number in range(config.iterations):
            loss = torch.stack(self._make_pass(minibatches, unit, offset, rate)).mean()
            if _settled(means[-5:], config.tolerance):
                return loss, number + 1
            means.append(loss)
        return loss, config.iterations

    def _make_all_passes(
        self,
        obs: torch.Tensor,
        target: torch.Tensor,
        unit: torch.Tensor,
        offset: torch.Tensor,
        rate: float | torch.Tensor,
    ) -> tuple[torch.Tensor]:
        """The mean loss over the last one."""
        minibatches = self._minibatches(obs, target)
        losses: list[torch.Tensor] = []
        for _ in range(self.config.iterations):
            losses = self._make_pass(minibatches, unit, offset, rate)
        return (torch.stack(losses).mean(),)

    def _make_pass(
        self,
        minibatches: Sequence[Batch],
        unit: torch.Tensor,
        offset: torch.Tensor,
        rate: float | torch.Tensor,
    ) -> list[torch.Tensor]:
        """Each minibatch's mean loss before its step."""
        losses: list[torch.Tensor] = []
        for minibatch in minibatches:
            loss, _, gradient = self._gradient.descent(minibatch, square_error, unit, offset)
            self._optimizer.step_along(gradient, rate)
            losses.append(loss)
        return losses

    def _minibatches(self, obs: torch.Tensor, target: torch.Tensor) -> list[Batch]:
        size = -(-len(target) // self.config.num_minibatches)
        parts = zip(obs.split(size), target.split(size), strict=True)
        return [Batch(inputs, (goal,)) for inputs, goal in parts]

    def _descend_natively(
        self, mlp: Mlp, obs: torch.Tensor, target: torch.Tensor, rate: float
    ) -> torch.Tensor:
        """The last pass's losses, by one call: no turns with other threads, nor processes."""
        config, normalizer = self.config, self._normalizer
        if len(target) not in self._fits:
            self._fits[len(target)] = self._optimizer.native_fit(
                mlp.sizes, len(target), config.num_minibatches, config.iterations
            )
        fit, unit, offset = self._fits[len(target)], normalizer.scale, normalizer.mean
        return self._optimizer.fit_natively(fit, obs, target, rate, float(unit), float(offset))

    def _refresh(self) -> None:
        if self._statistics is not None:
            self._normalizer = self._statistics.frozen(self._parameters.vector.dtype)

    def state_dict(self) -> dict[str, Any]:
        """A copy of both networks, the optimiser and the statistics."""
        return {
            "network": self._parameters.state_dict(),
            "target": self._target_parameters.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "statistics": self._statistics.state_dict() if self._statistics else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._parameters.load_state_dict(state["network"])
        self._target_parameters.load_state_dict(state["target"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._statistics is not None:
            self._statistics.load_state_dict(state["statistics"])
            self._refresh()


def _settled(losses: Sequence[torch.Tensor], tolerance: float) -> bool:
    """Whether five passes' losses have changed by less than this from one to the next, on average.

    The differences between neighbours add up to that of the ends (AHAC, Georgiev et al. 2024).
    """
    if len(losses) < 5:
        return False
    return bool((losses[-1] - losses[0]).abs() / (len(losses) - 1) < tolerance)
