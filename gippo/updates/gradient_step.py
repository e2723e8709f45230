"""One Adam step per epoch along a gradient estimate: what LR and RP, and mixtures of them, do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from gippo.networks.adam import Optimizer, Schedule, check_betas
from gippo.updates.retries import RateControl, RetryConfig, Trial
from gippo.updates.window import Context, UpdateReport
from warp_envs.checks import check_choice, check_number, check_positive


@dataclass
class GradientStepConfig:
    """One Adam step per epoch along an estimate of the policy gradient."""

    learning_rate: float = 1e-4
    """At the start."""
    schedule: str = "linear"
    """"linear": falls to `final_learning_rate` over training; "constant"."""
    final_learning_rate: float = 1e-5
    betas: list[float] = field(default_factory=lambda: [0.7, 0.95])
    """Adam's."""
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    """AdamW's, times the learning rate."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_positive("learning_rate", self.learning_rate)
        check_choice("schedule", self.schedule, ("linear", "constant"))
        check_positive("final_learning_rate", self.final_learning_rate)
        check_betas("betas", self.betas)
        check_positive("max_grad_norm", self.max_grad_norm)
        check_number("weight_decay", self.weight_decay)


class GradientStep:
    """The step, its learning rate's schedule and Adam's moments."""

    def __init__(self, context: Context, config: GradientStepConfig) -> None:
        """Prepare steps of the context's actor."""
        self._actor = context.actor
        self._ranks = context.ranks
        self._optimizer = Optimizer(
            context.parameters, config.betas, config.max_grad_norm, config.weight_decay
        )
        self._schedule = Schedule(
            config.schedule, config.learning_rate, config.final_learning_rate, context.num_epochs
        )

    def step(
        self, obs: torch.Tensor, loss: torch.Tensor, gradient: torch.Tensor, what: str, epoch: int
    ) -> UpdateReport:
        """Descend along `gradient`; undone if it leads to a number that is not finite.

        Args:
            obs: of this process's window, (..., num_obs), where the policy must stay finite.
            loss: to be reported, 0-d; the processes' mean is.
            gradient: laid out as the actor's parameter vector; the processes' mean is descended.
            what: names the loss in the report.
            epoch: counted from zero.
        """
        dtype = gradient.dtype
        loss, gradient = self._ranks.means(loss.to(dtype), gradient)
        norm = torch.linalg.vector_norm(gradient)

        def attempt(rate: float) -> Trial:
            self._optimizer.step_along(gradient, rate)
            return Trial(loss, loss, outputs=self._outputs(obs))

        # What the step does to the loss is not known, so there is nothing to retry for.
        control = RateControl(self._optimizer, what, self._schedule, RetryConfig(retries=0))
        outcome = control.update(attempt, epoch)
        metrics = {
            "actor_loss": loss,
            "actor_learning_rate": outcome.rate,
            "actor_gradient_norm": norm,
        }
        return UpdateReport(metrics, outcome.problem)

    @torch.no_grad()
    def _outputs(self, obs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The policy's, of all processes' observations."""
        return tuple(self._ranks.joined(x.flatten(0, -2)) for x in self._actor.forward(obs))

    def state_dict(self) -> dict[str, Any]:
        """A copy of Adam's moments."""
        return {"optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._optimizer.load_state_dict(state["optimizer"])
