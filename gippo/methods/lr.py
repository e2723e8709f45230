"""LR: the likelihood-ratio gradient with generalised advantages (Williams & Peng 1989; Glynn 1990).

One Adam step per epoch (paper, 7.4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gippo.experience.advantages import normalized
from gippo.methods.base import Method
from gippo.networks.perceptron import log_prob
from gippo.updates.gradient_step import GradientStep, GradientStepConfig
from gippo.updates.window import Context, UpdateReport, Window


@dataclass
class LRConfig(GradientStepConfig):
    """LR, the likelihood-ratio gradient with generalised advantages."""


class LR(Method):
    """Weights log-probabilities by normalised advantages."""

    name: ClassVar[str] = "lr"
    config_class: ClassVar[type] = LRConfig

    def __init__(self, context: Context, config: LRConfig) -> None:
        """Make the method for an actor."""
        self._actor = context.actor
        self._ranks = context.ranks
        self._parameters = context.parameters
        self._step = GradientStep(context, config)

    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Descend -mean(A log pi(a | s)) once."""
        samples = window.samples
        mu, log_sigma = self._actor.forward(samples.obs)
        weight = normalized(samples.advantage, samples.obs.dtype, self._ranks)
        loss = -(weight * log_prob(samples.action, mu, log_sigma)).mean()
        gradient = self._parameters.gradient(loss)
        what = "likelihood-ratio loss"
        return self._step.step(samples.obs, loss.detach(), gradient, what, epoch)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimiser's state."""
        return self._step.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._step.load_state_dict(state)
