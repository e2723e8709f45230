"""RP: the reparameterised gradient through a truncated window, as SHAC (Xu et al. 2022).

Maximises the mean over sub-trajectories of A_first + V_first, in one Adam step per epoch. Where the
paper and SHAC part is lambda, 0.95 and 1 (paper, 7.4.1). SHAC by its own settings is `algo=shac`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gippo.methods.base import Method
from gippo.updates.gradient_step import GradientStep, GradientStepConfig
from gippo.updates.short_horizon import pathwise_sum
from gippo.updates.window import Context, UpdateReport, Window
from warp_envs.checks import check_number


@dataclass
class RPConfig(GradientStepConfig):
    """RP, the reparameterised gradient through a truncated window (SHAC)."""

    learning_rate: float = 1e-2
    gae_lambda: float = 0.95
    """Of the objective alone: 0.95 in the paper, 1 in SHAC."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        super().__post_init__()
        check_number("gae_lambda", self.gae_lambda, 0.0, 1.0, open_low=True)


class RP(Method):
    """Follows the gradient of the window's return."""

    name: ClassVar[str] = "rp"
    config_class: ClassVar[type] = RPConfig

    def __init__(self, context: Context, config: RPConfig) -> None:
        """Make the method for an actor."""
        self._actor = context.actor
        self._parameters = context.parameters
        self._lambda = config.gae_lambda
        self._step = GradientStep(context, config)

    @property
    def gradient_lambda(self) -> float | None:
        """The objective's lambda."""
        return self._lambda

    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Ascend the objective J once. V_first does not depend on the window's actions."""
        rollout, gradients = window.rollout, window.gradients
        assert gradients is not None
        pull = pathwise_sum(self._actor, rollout, gradients) / gradients.num_subtrajectories
        gradient = self._parameters.gradient(-pull)
        return self._step.step(rollout.obs, -window.objective, gradient, "window's loss", epoch)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimiser's state."""
        return self._step.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._step.load_state_dict(state)
