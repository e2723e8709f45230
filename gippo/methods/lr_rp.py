"""LR+RP: two estimates of the gradient, mixed by their variances (Parmas et al. 2018).

    g = kappa g_LR + (1 - kappa) g_RP,    kappa = var_RP / (var_RP + var_LR)

(paper, 7.4.1), where the variance of an estimate is the trace of the covariance of its samples, one
per trajectory. Departs from the paper in two points. Such weights are the best ones for two
estimates of *one* gradient, so g_LR here is that of RP's objective: the advantages are weighted by
their share in it and not normalised. And all trajectories' gradients come from one batched pass,
not from a backward pass each, which made the paper's as slow as seven epochs of PPO.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.func import grad, vmap

from gippo.distributed import SINGLE, Ranks
from gippo.methods.base import Method
from gippo.networks.perceptron import GaussianActor, log_prob
from gippo.updates.gradient_step import GradientStep, GradientStepConfig
from gippo.updates.window import Context, UpdateReport, Window
from warp_envs.checks import check_integer


@dataclass
class LRRPConfig(GradientStepConfig):
    """LR+RP, both estimates of one gradient, each weighted by the other's variance."""

    variance_samples: int | None = 16
    """Trajectories whose gradients tell the variances; null: all."""
    variance_entries: int | None = 512
    """The gradient's first entries, over which variances are summed; null: all."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        super().__post_init__()
        if self.variance_samples is not None:
            check_integer("variance_samples", self.variance_samples, 2)
        if self.variance_entries is not None:
            check_integer("variance_entries", self.variance_entries, 1)


@dataclass
class Trajectories:
    """What both estimates need of n environments' windows: (n, H, ...), environment first."""

    obs: torch.Tensor
    eps: torch.Tensor
    action: torch.Tensor
    advantage: torch.Tensor
    """Weighted by its share in the objective, (n, H)."""
    pull: torch.Tensor
    """The objective's gradient with respect to the action, (n, H, num_actions)."""

    def first(self, count: int | None) -> Trajectories:
        """Those of the first `count` environments; None: all."""
        return Trajectories(*(value[:count] for value in vars(self).values()))


def trajectories(window: Window, ranks: Ranks = SINGLE) -> Trajectories:
    """A window's, scaled so that the mean over environments estimates the objective's gradient.

    The objective is the mean over sub-trajectories of A_first + V_first. An action at step k of its
    sub-trajectory acts on A_first through (gamma lambda)^k A_t alone. The window's mean advantage
    is a baseline of g_LR, as in LR.
    """
    rollout, gradients = window.rollout, window.gradients
    assert gradients is not None
    scale = rollout.reward.shape[1] / gradients.num_subtrajectories
    centred = (window.advantage - ranks.mean(window.advantage.mean())).to(rollout.reward.dtype)
    columns = (
        rollout.obs,
        rollout.eps,
        rollout.action,
        scale * gradients.discount * centred,
        scale * gradients.of_first,
    )
    return Trajectories(*(column.transpose(0, 1) for column in columns))


Policy = tuple[torch.Tensor, torch.Tensor]


def lr_surrogate(policy: Policy, data: Trajectories) -> torch.Tensor:
    """Per environment, whose gradient is g_LR: sum_t w_t A_t log pi(a_t | s_t)."""
    return (data.advantage * log_prob(data.action, *policy)).sum(-1)


def rp_surrogate(policy: Policy, data: Trajectories) -> torch.Tensor:
    """Per environment, whose gradient is g_RP: sum_t dJ/da_t g_theta(s_t, eps_t)."""
    mu, log_sigma = policy
    return (data.pull * (mu + torch.exp(log_sigma) * data.eps)).sum((-2, -1))


def sample_gradients(
    surrogate: Callable[[Policy, Trajectories], torch.Tensor],
    actor: GaussianActor,
    parameters: tuple[torch.Tensor, ...],
    data: Trajectories,
) -> torch.Tensor:
    """The gradient of each environment's surrogate, (n, number of parameters)."""

    def one(parameters: tuple[torch.Tensor, ...], *columns: torch.Tensor) -> torch.Tensor:
        single = Trajectories(*columns)
        return surrogate(actor.forward_with(parameters, single.obs), single)

    columns = tuple(vars(data).values())
    batched = vmap(grad(one), in_dims=(None, *(0 for _ in columns)))
    detached = tuple(parameter.detach() for parameter in parameters)
    return torch.cat([g.flatten(1) for g in batched(detached, *columns)], dim=1)


def covariance_trace(samples: torch.Tensor) -> torch.Tensor:
    """Of samples (n, entries), 0-d."""
    return samples.var(dim=0, correction=0).sum()


class LRRP(Method):
    """Follows the mixture of both gradients."""

    name: ClassVar[str] = "lr_rp"
    config_class: ClassVar[type] = LRRPConfig

    def __init__(self, context: Context, config: LRRPConfig) -> None:
        """Make the method for an actor."""
        self._actor = context.actor
        self._parameters = context.parameters
        self._gae_lambda = context.gae_lambda
        self._config = config
        self._ranks = context.ranks
        self._step = GradientStep(context, config)

    @property
    def gradient_lambda(self) -> float | None:
        """The learner's: both estimates are of one objective."""
        return self._gae_lambda

    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Ascend the objective once."""
        data = trajectories(window, self._ranks)
        kappa, variance_lr, variance_rp = self._weigh(data)
        policy = self._actor.forward(data.obs)
        surrogate = kappa * lr_surrogate(policy, data) + (1.0 - kappa) * rp_surrogate(policy, data)
        gradient = self._parameters.gradient(-surrogate.mean())
        report = self._step.step(data.obs, -window.objective, gradient, "window's loss", epoch)
        report.metrics |= {
            "kappa_lr": kappa,
            "variance_lr": variance_lr,
            "variance_rp": variance_rp,
        }
        return report

    def _weigh(self, data: Trajectories) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Kappa and the variances of LR and RP, 0-d; kappa is 1/2 where both are zero."""
        few = data.first(self._config.variance_samples)
        lr, rp = (
            covariance_trace(
                sample_gradients(surrogate, self._actor, self._parameters.parameters, few)[
                    :, : self._config.variance_entries
                ]
            )
            for surrogate in (lr_surrogate, rp_surrogate)
        )
        lr, rp = self._ranks.means(lr, rp)  # each process weighs trajectories of its own
        total = lr + rp
        return torch.where(total == 0.0, 0.5, rp / total), lr, rp

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimiser's state."""
        return self._step.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._step.load_state_dict(state)
