"""A learning method of one's own in one file: evolution strategies (Salimans et al. 2017).

    gippo train env=dejong algo=evolution_strategies:EvolutionStrategies num_epochs=2000

from this folder. The actor's parameters theta are tried with noise, in antithetic pairs, a window
each: f(theta + sigma eps) and f(theta - sigma eps), f the window's mean reward. After some pairs

    theta <- theta + rate * mean[(f+ - f-) eps] / (2 sigma std(f))

No gradient of the simulator or the policy is used; the learner collects windows, fits its critic
and keeps checkpoints as it does for any other method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from gippo import Context, Method, UpdateReport, Window
from warp_envs.checks import check_integer, check_positive


@dataclass
class EvolutionStrategiesConfig:
    """Settings, with a line each for `--keys`."""

    sigma: float = 0.02
    """Standard deviation of the noise on every parameter."""
    learning_rate: float = 1e-3
    """Of a step along the estimate."""
    num_pairs: int = 8
    """Antithetic pairs per step; a pair takes two epochs."""

    def __post_init__(self) -> None:
        """Raise ArgumentError naming a key out of range."""
        check_positive("sigma", self.sigma)
        check_positive("learning_rate", self.learning_rate)
        check_integer("num_pairs", self.num_pairs, 1)


class EvolutionStrategies(Method):
    """Tries the actor's parameters with noise and steps towards what was rewarded."""

    name: ClassVar[str] = "evolution_strategies"
    config_class: ClassVar[type] = EvolutionStrategiesConfig

    def __init__(self, context: Context, config: EvolutionStrategiesConfig) -> None:
        """Begin at the actor's parameters."""
        self._config = config
        self._ranks = context.ranks
        self._vector = context.parameters.vector  # what the policy acts by, changed in place
        self._center = self._vector.clone()
        self._generator = torch.Generator().manual_seed(context.seed)
        self._noise = torch.zeros(config.num_pairs, len(self._vector), dtype=self._vector.dtype)
        self._fitness: list[float] = []
        self._next_pair()

    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Take note of how the present candidate did; make the next one, or a step and the next."""
        fitness = self._ranks.mean(window.rollout.reward.mean())
        self._fitness.append(float(fitness))
        num_tried, num_pairs = len(self._fitness), self._config.num_pairs
        if num_tried < num_pairs:
            self._next_pair()
        elif num_tried < 2 * num_pairs:  # the pairs' other halves
            self._try(-self._noise[num_tried - num_pairs])
        else:
            self._step()
            self._next_pair()
        return UpdateReport({"actor_loss": -fitness})

    def _next_pair(self) -> None:
        shape = self._vector.shape
        noise = torch.randn(shape, generator=self._generator, dtype=self._vector.dtype)
        self._noise[len(self._fitness)] = noise
        self._try(noise)

    def _try(self, noise: torch.Tensor) -> None:
        self._vector.copy_(self._center + self._config.sigma * noise.to(self._center.device))

    def _step(self) -> None:
        """Along the estimate of the gradient of the fitness, in units of its spread."""
        tried = torch.tensor(self._fitness, dtype=self._noise.dtype)
        gain = tried[: self._config.num_pairs] - tried[self._config.num_pairs :]
        spread = tried.std().clamp(min=torch.finfo(tried.dtype).tiny)
        estimate = (gain / (2.0 * self._config.sigma * spread)) @ self._noise / len(gain)
        self._center += self._config.learning_rate * estimate.to(self._center.device)
        self._fitness.clear()

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that the next update depends on."""
        return {
            "center": self._center.clone(),
            "noise": self._noise.clone(),
            "fitness": list(self._fitness),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._center.copy_(state["center"])
        self._noise.copy_(state["noise"])
        self._fitness[:] = state["fitness"]
        self._generator.set_state(state["generator"].cpu())
