"""GI-PPO: gradient-informed proximal policy optimisation (Son, Zheng, Sullivan, Qiao & Lin 2023).

Algorithm 1 of the paper: (1) move the policy to its alpha-policy, along the advantage's analytical
gradient; (2) judge by the result how far these gradients can be trusted and set alpha for the next
epoch; (3) ascend PPO's surrogate with ratios against the mean of the old and the alpha-policy.

Departs from the paper in what its authors' runs have and the text has not: restoring and retrying
(1) and (3), the exception in `hybrid_log_prob`, and the normalised bias test by default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from gippo.methods.base import Method
from gippo.networks.perceptron import log_prob
from gippo.updates.alpha import AlphaConfig, AlphaControl, AlphaFit, AlphaPolicy, alpha_statistics
from gippo.updates.surrogate import (
    PPOConfig,
    Reference,
    SurrogateAscent,
    hybrid_log_prob,
    num_minibatches,
)
from gippo.updates.window import Context, Metrics, Samples, UpdateReport, Window


@dataclass
class GIPPOConfig:
    """GI-PPO: the alpha-policy step, then PPO against the mean of old and alpha policy."""

    alpha: AlphaConfig = field(default_factory=AlphaConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)


class GIPPO(Method):
    """The alpha-policy step, then PPO."""

    name: ClassVar[str] = "gippo"
    config_class: ClassVar[type] = GIPPOConfig

    def __init__(self, context: Context, config: GIPPOConfig) -> None:
        """Make the method for an actor."""
        self._config = config
        self._gae_lambda = context.gae_lambda
        self._ranks = context.ranks
        self._fit = AlphaFit(context, config.alpha)
        self._control = AlphaControl(config.alpha)
        self._ascent = SurrogateAscent(context, config.ppo)

    @property
    def gradient_lambda(self) -> float | None:
        """The learner's lambda: the advantages of both steps are the same."""
        return self._gae_lambda

    def update(self, window: Window, epoch: int) -> UpdateReport:
        """All three steps."""
        samples = window.samples
        alpha = self._control.alpha
        policy = self._fit.fit(samples, alpha, epoch)
        metrics: Metrics = {"alpha": alpha}
        metrics.update(self._judge(samples, policy))
        reference, share = self._reference(samples, policy)
        metrics["pi_alpha_share"] = share
        report = self._ascent.update(samples, reference, epoch)
        return UpdateReport({**metrics, **report.metrics}, policy.outcome.problem or report.problem)

    def _judge(self, samples: Samples, policy: AlphaPolicy) -> Metrics:
        """Set alpha for the next epoch.

        After a failed fit there is no alpha-policy to judge, and alpha stays: the criteria would
        see determinant 1 and bias 0 and raise it.
        """
        ppo = self._config.ppo
        assert samples.action_gradient is not None
        statistics = alpha_statistics(
            samples, policy.mu, policy.log_sigma, ppo.clip, ppo.log_ratio_clamp, self._ranks
        )
        metrics: Metrics = {
            "alpha_loss": policy.loss,
            "alpha_learning_rate": policy.next_rate,
            "alpha_retries": float(policy.outcome.retries),
            "alpha_failed": float(not policy.outcome.succeeded),
            "gradient_variance": self._ranks.moments(
                *torch.var_mean(samples.action_gradient, dim=0, correction=0)
            )[0].sum(),
            **vars(statistics),
        }
        verdict = {"bias_normalized": 0.0}
        verdict.update(dict.fromkeys(("det_binds", "bias_binds", "out_of_range_binds"), 0.0))
        if policy.outcome.succeeded:
            verdict = self._control.adjust(statistics, len(samples.obs) * self._ranks.size)
        return {**metrics, **verdict}

    def _reference(self, samples: Samples, policy: AlphaPolicy) -> tuple[Reference, Any]:
        """pi_h, and the share of minibatches that use pi_alpha instead."""
        config = self._config.ppo
        log_prob_h, share = hybrid_log_prob(
            samples.log_prob,
            log_prob(samples.action, policy.mu, policy.log_sigma),
            config.log_ratio_limit,
            num_minibatches(len(samples.obs) * self._ranks.size, config.minibatch_size),
            self._ranks,
        )
        return Reference(log_prob_h, policy.mu, policy.log_sigma), share

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state of all three steps."""
        return {
            "fit": self._fit.state_dict(),
            "control": self._control.state_dict(),
            "ascent": self._ascent.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._fit.load_state_dict(state["fit"])
        self._control.load_state_dict(state["control"])
        self._ascent.load_state_dict(state["ascent"])
