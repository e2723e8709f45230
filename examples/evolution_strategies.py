"""A learning method of one's own in one file: evolution strategies on the actor's parameters.

From the folder of this file:

    gippo train env=dejong algo=evolution_strategies:EvolutionStrategies num_epochs=1000

A method sees one window at a time, and all environments of a window act by one policy. So the
perturbations, which Salimans et al. (2017, "Evolution strategies as a scalable alternative to
reinforcement learning") spread over workers, come one after the other here: a window with theta +
sigma e, one with theta - sigma e, and then a step along

    g = (J+ - J-) / (2 sigma) e,    e ~ N(0, I),

where J is a window's mean reward. Reward differences are divided by their running size, as Salimans
et al. rank theirs, so that the rate does not depend on the environment's units. Between windows the
actor is a perturbed one; `best.pt` is the one that did best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

import gippo
from warp_envs.checks import check_number, check_positive


@dataclass
class EvolutionStrategiesConfig:
    """Evolution strategies with antithetic pairs of windows."""

    learning_rate: float = 0.1
    """Length of a step per unit of the relative difference, divided by the root of the number of
    parameters."""
    sigma: float = 0.05
    """Standard deviation of the perturbations of each parameter."""
    memory: float = 0.9
    """Share that the running size of reward differences keeps from pair to pair."""

    def __post_init__(self) -> None:
        """Raise ArgumentError naming a key out of range."""
        check_positive("learning_rate", self.learning_rate)
        check_positive("sigma", self.sigma)
        check_number("memory", self.memory, 0.0, 1.0, open_high=True)


class EvolutionStrategies(gippo.Method):
    """Perturbs all parameters at once, up and down, and moves towards what earned more."""

    name: ClassVar[str] = "evolution_strategies"
    config_class: ClassVar[type] = EvolutionStrategiesConfig

    def __init__(self, context: gippo.Context, config: EvolutionStrategiesConfig) -> None:
        """Make the method for an actor."""
        self._config = config
        self._parameters = list(context.actor.parameters())
        self._ranks = context.ranks
        self._seed = context.seed
        self._centre = torch.cat([p.detach().flatten() for p in self._parameters])
        self._pairs = 0  # done
        self._sign = 0.0  # of the perturbation in the actor: none in the first window
        self._first = 0.0  # J+ of the pair under way
        self._size = 0.0  # running root mean square of J+ - J-

    def update(self, window: gippo.Window, epoch: int) -> gippo.UpdateReport:
        """Note what the policy in the actor earned, and put the next one there."""
        earned = float(self._ranks.mean(window.rollout.reward.double().mean()))
        problem = None if abs(earned) < float("inf") else "the window's reward is not finite"
        if problem is not None:  # the pair is begun anew
            self._sign = 0.0
        elif self._sign > 0.0:
            self._first = earned
        elif self._sign < 0.0:
            self._step(self._first - earned)
        self._sign = -1.0 if self._sign > 0.0 else 1.0
        self._perturb()
        metrics = {"window_reward": earned, "difference_size": self._size, "pairs": self._pairs}
        return gippo.UpdateReport({k: float(v) for k, v in metrics.items()}, problem)

    def _step(self, difference: float) -> None:
        """Move the centre by a pair's difference of earnings."""
        config = self._config
        keep = config.memory if self._pairs else 0.0
        self._size = (keep * self._size**2 + (1.0 - keep) * difference**2) ** 0.5
        if self._size > 0.0:
            length = config.learning_rate / len(self._centre) ** 0.5
            self._centre += length * difference / self._size * self._direction()
        self._pairs += 1

    def _direction(self) -> torch.Tensor:
        """E of the pair under way: of its own seed, so that there is no generator to keep."""
        generator = torch.Generator().manual_seed(1_000_003 * self._seed + self._pairs)
        noise = torch.randn(len(self._centre), generator=generator, dtype=torch.float64)
        return noise.to(self._centre)

    @torch.no_grad()
    def _perturb(self) -> None:
        vector = self._centre + self._sign * self._config.sigma * self._direction()
        for parameter, part in zip(
            self._parameters, vector.split([p.numel() for p in self._parameters]), strict=True
        ):
            parameter.copy_(part.view_as(parameter))

    def state_dict(self) -> dict[str, Any]:
        """Everything but the actor that the next update depends on."""
        return {
            "centre": self._centre.clone(),
            "pairs": self._pairs,
            "sign": self._sign,
            "first": self._first,
            "size": self._size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._centre = state["centre"].to(self._centre).clone()
        self._pairs = int(state["pairs"])
        self._sign, self._first = float(state["sign"]), float(state["first"])
        self._size = float(state["size"])
