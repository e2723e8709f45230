"""PPO: proximal policy optimisation (Schulman et al. 2017), the paper's baseline.

As in the paper's, the critic is the one all methods share, and the loss has no further terms.
"""

from __future__ import annotations

from typing import Any, ClassVar

from gippo.methods.base import Method
from gippo.updates.surrogate import PPOConfig, Reference, SurrogateAscent
from gippo.updates.window import Context, UpdateReport, Window


class PPO(Method):
    """Ascends the clipped surrogate with ratios against the policy that acted."""

    name: ClassVar[str] = "ppo"
    config_class: ClassVar[type] = PPOConfig

    def __init__(self, context: Context, config: PPOConfig) -> None:
        """Make the method for an actor."""
        self._ascent = SurrogateAscent(context, config)

    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Ascend (Eq. 17)."""
        samples = window.samples
        reference = Reference(samples.log_prob, samples.mu, samples.log_sigma)
        return self._ascent.update(samples, reference, epoch)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the ascent's state."""
        return self._ascent.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._ascent.load_state_dict(state)
