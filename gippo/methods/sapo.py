"""SAPO: soft analytic policy optimisation (Xing, Luk & Oh 2025).

The short-horizon objective (`gippo.updates.short_horizon`) with rewards r + alpha h, where

    h = (H + |H_target|) / (2 |H_target|),  H_target = -dim(A)/2,

and H = -log pi(tanh u | s) at a fresh sample u. One AdamW step per epoch ascends it; then one moves
the temperature alpha, by descending alpha |H_target| (mean H - H_target) in log alpha. The critics'
targets have the temperature that follows, and the least of two values where the actor's objective
has their mean. What it takes of the networks and the critic is in configs/algo/sapo.yaml.

Departs from the authors' code in the observations' statistics, which are the learner's (initial
weight 1e-4 and the population's variance instead of 1 and the sample's); and the value of a step is
that of the state it leads to, where theirs has the state it leaves when the encoder is shared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from gippo.experience.advantages import EntropyBonus
from gippo.experience.rollout import Rollout
from gippo.methods.base import Method
from gippo.networks.adam import ADAM_EPS, GRAD_NORM_EPS, check_betas
from gippo.updates.gradient_step import GradientStepConfig
from gippo.updates.short_horizon import LAMBDA, ShortHorizonStep
from gippo.updates.window import Context, UpdateReport, Window
from warp_envs.checks import check_number, check_positive


@dataclass
class TemperatureConfig:
    """The entropy's weight and its AdamW steps, one an epoch."""

    initial: float = 1.0
    target_scale: float = 0.5
    """The target entropy is minus this for each action."""
    learning_rate: float = 5e-3
    betas: list[float] = field(default_factory=lambda: [0.7, 0.95])
    """Adam's."""
    weight_decay: float = 0.01
    """AdamW's, times the learning rate, of the temperature's logarithm."""
    max_grad_norm: float = 0.5

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_positive("temperature.initial", self.initial)
        check_positive("temperature.target_scale", self.target_scale)
        check_number("temperature.learning_rate", self.learning_rate)
        check_betas("temperature.betas", self.betas)
        check_number("temperature.weight_decay", self.weight_decay)
        check_positive("temperature.max_grad_norm", self.max_grad_norm)


@dataclass
class SAPOConfig(GradientStepConfig):
    """SAPO, soft analytic policy optimisation."""

    learning_rate: float = 2e-3
    max_grad_norm: float = 0.5
    weight_decay: float = 0.01
    """AdamW's, times the learning rate."""
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)


@dataclass(frozen=True)
class Temperature:
    """The logarithm of alpha, and AdamW's moments of it (Loshchilov & Hutter 2019)."""

    log_alpha: float
    mean: float = 0.0
    square: float = 0.0
    steps: int = 0

    def bonus(self, target: float) -> EntropyBonus:
        """The rewards' alpha h, for the target entropy."""
        alpha = math.exp(self.log_alpha)
        return EntropyBonus(alpha / (2.0 * abs(target)), alpha / 2.0)

    def stepped(self, entropy: float, target: float, config: TemperatureConfig) -> Temperature:
        """The one that follows a window of this mean entropy."""
        gradient = math.exp(self.log_alpha) * abs(target) * (entropy - target)
        gradient *= min(config.max_grad_norm / (abs(gradient) + GRAD_NORM_EPS), 1.0)
        (beta_1, beta_2), steps = config.betas, self.steps + 1
        mean = beta_1 * self.mean + (1.0 - beta_1) * gradient
        square = beta_2 * self.square + (1.0 - beta_2) * gradient * gradient
        deviation = math.sqrt(square / (1.0 - beta_2**steps)) + ADAM_EPS
        kept = self.log_alpha * (1.0 - config.learning_rate * config.weight_decay)
        step = config.learning_rate * (mean / (1.0 - beta_1**steps)) / deviation
        return replace(self, log_alpha=kept - step, mean=mean, square=square, steps=steps)


class SAPO(Method):
    """Ascends the soft short-horizon objective, and keeps the temperature."""

    name: ClassVar[str] = "sapo"
    config_class: ClassVar[type] = SAPOConfig

    def __init__(self, context: Context, config: SAPOConfig) -> None:
        """Make the method for an actor."""
        self._config = config.temperature
        self._target = -config.temperature.target_scale * context.actor.num_actions
        self._ranks = context.ranks
        self._temperature = Temperature(math.log(config.temperature.initial))
        self._step = ShortHorizonStep(context, config)

    @property
    def gradient_lambda(self) -> float | None:
        """The objective's."""
        return LAMBDA

    @property
    def entropy_bonus(self) -> EntropyBonus:
        """At the temperature as it stands."""
        return self._temperature.bonus(self._target)

    def critic_bonus(self, rollout: Rollout) -> EntropyBonus:
        """At the temperature that follows the window."""
        return self._next(rollout)[0].bonus(self._target)

    def _next(self, rollout: Rollout) -> tuple[Temperature, float]:
        """The temperature after a window, and the window's mean entropy."""
        assert rollout.entropy is not None
        entropy = float(self._ranks.mean(rollout.entropy.double().mean()))
        return self._temperature.stepped(entropy, self._target, self._config), entropy

    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Ascend once, then move the temperature."""
        report = self._step.update(window, epoch, self.entropy_bonus)
        report.metrics["temperature"] = math.exp(self._temperature.log_alpha)
        if report.problem is None:
            self._temperature, report.metrics["entropy"] = self._next(window.rollout)
        return report

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimiser's state and the temperature's."""
        return {"step": self._step.state_dict(), "temperature": dict(vars(self._temperature))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._step.load_state_dict(state["step"])
        self._temperature = Temperature(**state["temperature"])
