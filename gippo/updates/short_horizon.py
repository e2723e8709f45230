"""The short-horizon objective's ascent: what SHAC, AHAC and SAPO have in common.

    J = 1/(N H) sum over sub-trajectories of [sum_k gamma^k r_k + gamma^T V(s_T)]

One epoch's window is H steps in N environments; the gradient is cut at its start. The discount
begins at 1 with every sub-trajectory, T is its length; V is zero on termination, and on a time-out
that of the observation before the reset (Xu et al. 2022, Eq. 5).
"""

from __future__ import annotations

from typing import Any

import torch

from gippo.experience.advantages import ActionGradients, EntropyBonus
from gippo.experience.rollout import Rollout
from gippo.networks.perceptron import GaussianActor, squashed_entropy
from gippo.updates.gradient_step import GradientStep, GradientStepConfig
from gippo.updates.window import Context, UpdateReport, Window

LAMBDA = 1.0
"""Of the advantage whose action gradients the objective's are: A_first = its sum - V_first."""


def pathwise_sum(
    actor: GaussianActor,
    rollout: Rollout,
    gradients: ActionGradients,
    bonus: EntropyBonus | None = None,
) -> torch.Tensor:
    """A scalar whose gradient is that of the sum of the window's A_first, V_first apart.

    The window was passed back once already, to dJ/da_t, in which a later action's dependence on an
    earlier one through the states is contained. So dJ/dtheta = sum_t dJ/da_t
    dg_theta(s_t, eps_t)/dtheta with s_t held, one batched pass through the actor. A bonus for
    entropy adds sum_t gamma^k scale dH_theta(s_t)/dtheta.
    """
    mu, log_sigma = actor.forward(rollout.obs)
    action = mu + torch.exp(log_sigma) * rollout.eps
    pull = (gradients.of_first * action).sum()
    if bonus is not None:
        assert rollout.entropy_noise is not None
        entropy = squashed_entropy(mu, log_sigma, rollout.entropy_noise)
        pull = pull + bonus.scale * (gradients.discount * entropy).sum()
    return pull


class ShortHorizonStep:
    """One Adam step per epoch along the objective's gradient."""

    def __init__(self, context: Context, config: GradientStepConfig) -> None:
        """Prepare steps of the context's actor."""
        self._actor = context.actor
        self._parameters = context.parameters
        self._step = GradientStep(context, config)

    def update(self, window: Window, epoch: int, bonus: EntropyBonus | None = None) -> UpdateReport:
        """Descend -J once; the loss reported is -J."""
        rollout, gradients = window.rollout, window.gradients
        assert gradients is not None
        num_steps = rollout.reward.numel()
        loss = -window.objective * gradients.num_subtrajectories / num_steps
        pull = pathwise_sum(self._actor, rollout, gradients, bonus) / num_steps
        gradient = self._parameters.gradient(-pull)
        return self._step.step(rollout.obs, loss, gradient, "window's loss", epoch)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimiser's state."""
        return self._step.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._step.load_state_dict(state)
