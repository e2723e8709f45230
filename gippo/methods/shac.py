"""SHAC: short-horizon actor-critic (Xu, Makoviychuk, Narang, Ramos, Matusik, Garg & Macklin 2022).

One Adam step per epoch along the gradient of the window's discounted return and the target critic's
value at its end (`gippo.updates.short_horizon`); the critic fits TD(lambda) returns. What it takes
of the networks and the critic is in configs/algo/shac.yaml.

Departs from the authors' code in what follows a number that is not finite: the environment ends the
episode there and counts it, and an update that it spoils is undone, where theirs puts zeros in the
place of values, and of the critic's gradients, that are not finite. And a termination on the very
last step of an episode is one here; theirs takes it for a time-out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gippo.methods.base import Method
from gippo.updates.gradient_step import GradientStepConfig
from gippo.updates.short_horizon import LAMBDA, ShortHorizonStep
from gippo.updates.window import Context, UpdateReport, Window


@dataclass
class SHACConfig(GradientStepConfig):
    """SHAC, short-horizon actor-critic."""

    learning_rate: float = 2e-3


class SHAC(Method):
    """Ascends the short-horizon objective."""

    name: ClassVar[str] = "shac"
    config_class: ClassVar[type] = SHACConfig

    def __init__(self, context: Context, config: SHACConfig) -> None:
        """Make the method for an actor."""
        self._step = ShortHorizonStep(context, config)

    @property
    def gradient_lambda(self) -> float | None:
        """The objective's."""
        return LAMBDA

    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Ascend once."""
        return self._step.update(window, epoch)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimiser's state."""
        return self._step.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._step.load_state_dict(state)
