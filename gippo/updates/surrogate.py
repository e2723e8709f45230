"""The ascent of PPO's clipped surrogate (Schulman et al. 2017; paper, Eq. 17 and 18)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gippo.distributed import SINGLE, Ranks
from gippo.experience.advantages import normalized
from gippo.networks import graphs
from gippo.networks.adam import Optimizer, Schedule, check_betas
from gippo.networks.batch_gradient import Batch, BatchGradient
from gippo.networks.graphs import Graphed
from gippo.networks.native import native_twin
from gippo.networks.perceptron import GaussianActor, kl_divergence, log_prob
from gippo.updates.retries import ADAPTIVE, RateControl, RetryConfig, Trial
from gippo.updates.window import Context, Metrics, Samples, UpdateReport
from warp_envs.checks import (
    ArgumentError,
    check_choice,
    check_integer,
    check_number,
    check_positive,
)


@dataclass
class PPOConfig:
    """The clipped surrogate's ascent: PPO, and the third step of GI-PPO."""

    learning_rate: float = 3e-4
    schedule: str = "constant"
    """"constant"; "linear": falls to `final_learning_rate` over training; "adaptive": keeps the
    divergence between successive policies near `kl_target`."""
    final_learning_rate: float = 1e-5
    kl_target: float = 0.008
    """The adaptive rate's target, in nats."""
    min_learning_rate: float = 1e-6
    """The adaptive rate's lower bound."""
    max_learning_rate: float = 1e-2
    """The adaptive rate's upper bound."""
    num_epochs: int = 5
    """Passes over the window."""
    minibatch_size: int = 2048
    """Samples, at most; a window of less is one minibatch."""
    clip: float = 0.2
    """Half-width of the interval that the probability ratio may use."""
    log_ratio_limit: float = 4.0
    """GI-PPO: a minibatch with a sample whose log-probabilities under the old and the alpha policy
    differ by more than this takes its ratios against the alpha policy alone."""
    log_ratio_clamp: float = 16.0
    """Bound on the logarithm of a probability ratio."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Adam's."""
    max_grad_norm: float | None = 1.0
    """Null: the gradient is taken as it is. Where the advantage is negative, a ratio may reach
    e^16: one such gradient, unbounded, fills Adam's second moment, and the policy then stands still
    for hundreds of epochs."""
    retry: RetryConfig = field(default_factory=RetryConfig)
    """When the loss has risen from the first pass to the last."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_positive("ppo.learning_rate", self.learning_rate)
        check_choice("ppo.schedule", self.schedule, ("constant", "linear", ADAPTIVE))
        check_positive("ppo.final_learning_rate", self.final_learning_rate)
        check_positive("ppo.kl_target", self.kl_target)
        check_positive("ppo.min_learning_rate", self.min_learning_rate)
        check_positive("ppo.max_learning_rate", self.max_learning_rate)
        if self.min_learning_rate > self.max_learning_rate:
            accepted = f"at least ppo.min_learning_rate, {self.min_learning_rate},"
            raise ArgumentError("ppo.max_learning_rate", str(self.max_learning_rate), accepted)
        check_integer("ppo.num_epochs", self.num_epochs, 1)
        check_integer("ppo.minibatch_size", self.minibatch_size, 1)
        check_number("ppo.clip", self.clip, 0.0, 1.0, open_low=True, open_high=True)
        check_number("ppo.log_ratio_limit", self.log_ratio_limit)
        # exp(88) and more is infinite in single precision
        check_number("ppo.log_ratio_clamp", self.log_ratio_clamp, 0.0, 80.0, open_low=True)
        check_betas("ppo.betas", self.betas)
        if self.max_grad_norm is not None:
            check_positive("ppo.max_grad_norm", self.max_grad_norm)


@dataclass
class Reference:
    """What probability ratios are taken against, and where the ascent starts."""

    log_prob: torch.Tensor
    """Of the actions under the reference policy, (B,)."""
    mu: torch.Tensor
    """Of the actor at the start of the ascent, (B, num_actions)."""
    log_sigma: torch.Tensor


def num_minibatches(batch_size: int, minibatch_size: int) -> int:
    """How many near-equal minibatches of at most `minibatch_size` a batch makes."""
    return -(-batch_size // minibatch_size)


def hybrid_log_prob(
    log_prob_old: torch.Tensor,
    log_prob_alpha: torch.Tensor,
    limit: float,
    minibatches: int,
    ranks: Ranks = SINGLE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The logarithm of pi_h = (pi_old + pi_alpha) / 2 (paper, 4.3.2).

    A minibatch in which any |log pi_old - log pi_alpha| exceeds `limit` takes log pi_alpha
    throughout, as in the authors' runs: where the policies lie far apart, the mean would hold the
    ascent near the old one.

    Returns:
        (B,), and the share of minibatches that take log pi_alpha, 0-d.
    """
    mixture = torch.logaddexp(log_prob_old, log_prob_alpha) - math.log(2.0)
    apart = (log_prob_old - log_prob_alpha).abs()
    # Written so that a NaN counts as far apart.
    furthest = torch.stack([part.max() for part in apart.tensor_split(minibatches)])
    far = ~(ranks.most(furthest) <= limit)
    choice = [
        torch.where(flag, alpha, mixed)
        for flag, alpha, mixed in zip(
            far,
            log_prob_alpha.tensor_split(minibatches),
            mixture.tensor_split(minibatches),
            strict=True,
        )
    ]
    return torch.cat(choice), far.to(mixture.dtype).mean()


@native_twin("clipped_surrogate")
def clipped_surrogate(
    output: torch.Tensor,
    action: torch.Tensor,
    reference_log_prob: torch.Tensor,
    advantage: torch.Tensor,
    clip: float,
    log_ratio_clamp: float,
) -> torch.Tensor:
    """-min(rho A, clip(rho, 1 - clip, 1 + clip) A), rho = pi/pi_ref (Eq. 18), of each sample (B,).

    Args:
        output: of the actor, (B, 2 num_actions).
        action: (B, num_actions).
        reference_log_prob: of the action under the reference policy, (B,).
        advantage: A, (B,).
        clip: half-width of the interval about 1 that rho may use.
        log_ratio_clamp: bound on |log rho|, beyond which the loss is constant.
    """
    mu, log_sigma = GaussianActor.split(output)
    log_ratio = log_prob(action, mu, log_sigma) - reference_log_prob
    ratio = torch.exp(log_ratio.clamp(-log_ratio_clamp, log_ratio_clamp))
    clipped = ratio.clamp(1.0 - clip, 1.0 + clip)
    return -torch.minimum(ratio * advantage, clipped * advantage)


@dataclass
class _Start:
    """What all attempts at an ascent have in common."""

    minibatches: tuple[Batch, ...]
    policies: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """mu and log sigma at each minibatch's samples, before the first step."""
    first: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    """Loss, outputs and gradient of the first minibatch, before the first step."""


class SurrogateAscent:
    """Several passes of clipped ascent, with PPO's own optimiser and learning rate."""

    def __init__(self, context: Context, config: PPOConfig) -> None:
        """Prepare ascents of the context's actor."""
        self.config = config
        self.settings = (config.clip, config.log_ratio_clamp)
        """Of the clipped surrogate."""
        self._network = BatchGradient(
            context.actor.mlp, context.parameters, context.helper, context.ranks
        )
        self._ranks = context.ranks
        self._optimizer = Optimizer(context.parameters, config.betas, config.max_grad_norm)
        self._passes = Graphed(self._make_passes, enabled=context.graphs)
        self._control = RateControl(
            self._optimizer,
            "surrogate loss",
            Schedule(
                config.schedule,
                config.learning_rate,
                config.final_learning_rate,
                context.num_epochs,
            ),
            config.retry,
            least=config.min_learning_rate if config.schedule == ADAPTIVE else 0.0,
        )

    def update(self, samples: Samples, reference: Reference, epoch: int) -> UpdateReport:
        """Ascend, and once more from the start at a lower rate if the loss has risen.

        The losses compared are the means over the first and the last pass, each minibatch's taken
        before its step. Two checks beyond the authors', for policies so nearly deterministic that
        one step can lead anywhere (De Jong's function left its optimum for want of them): the loss
        after the last step counts too, and it must not be above zero, the reference policy's. Far
        from all samples the clipped loss is a positive constant, which after a poor start of the
        ascent is an improvement that no sample vouches for.

        Args:
            samples: the window.
            reference: of the ratios, and the actor's present output.
            epoch: counted from zero.
        """
        start = self._start(samples, reference)
        last_loss = kl = torch.zeros(())

        def attempt(rate: float) -> Trial:
            nonlocal last_loss, kl
            first, last_loss, after, kl, *arrived = self._passes(start, rate)
            worst = torch.maximum(last_loss, after)
            rate = float(arrived[0]) if arrived else rate
            return Trial(first.clamp(max=0.0), worst, rate=rate)

        outcome = self._control.update(attempt, epoch)
        metrics: Metrics = {
            "actor_loss": last_loss,
            "actor_learning_rate": outcome.rate,
            "actor_retries": float(outcome.retries),
            "actor_failed": float(not outcome.succeeded),
            "kl": kl,
        }
        return UpdateReport(metrics, outcome.problem)

    def _start(self, samples: Samples, reference: Reference) -> _Start:
        """The window's minibatches, with what is known of them before the first step."""
        parts = num_minibatches(len(samples.obs) * self._ranks.size, self.config.minibatch_size)
        columns = (
            samples.obs,
            samples.action,
            reference.log_prob,
            normalized(samples.advantage, samples.obs.dtype, self._ranks),
        )
        minibatches = tuple(
            Batch(obs, tuple(own))
            for obs, *own in zip(*(c.tensor_split(parts) for c in columns), strict=True)
        )
        policies = zip(
            reference.mu.tensor_split(parts), reference.log_sigma.tensor_split(parts), strict=True
        )
        loss, output, gradient = self._descent(minibatches[0])
        return _Start(minibatches, tuple(policies), (loss, output, gradient.clone()))

    def _make_passes(self, start: _Start, rate: float | torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Ascend from the present parameters.

        Returns:
            The mean losses of the first pass, of the last one and after it, the divergence of the
            last policy from that of the pass before; and an adaptive rate, where it has arrived.
        """
        config, adaptive = self.config, self.config.schedule == ADAPTIVE
        visited = list(start.policies)
        passes: list[torch.Tensor] = []
        kl = torch.zeros(())
        for number in range(config.num_epochs):
            losses: list[torch.Tensor] = []
            for i, minibatch in enumerate(start.minibatches):
                at_start = number == 0 and i == 0
                loss, output, gradient = start.first if at_start else self._descent(minibatch)
                self._optimizer.step_along(gradient, rate)
                losses.append(loss)
                policy = GaussianActor.split(output)
                if adaptive or number == config.num_epochs - 1:
                    kl = self._ranks.mean(kl_divergence(*policy, *visited[i]).mean())
                visited[i] = policy
                if adaptive:
                    rate = self.adapted_rate(rate, kl)
            passes.append(torch.stack(losses).mean())
        arrived = (torch.as_tensor(rate, dtype=torch.float64),) if adaptive else ()
        return passes[0], passes[-1], self._loss_now(start.minibatches), kl, *arrived

    def _descent(self, minibatch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss, outputs and gradient, at the present parameters."""
        return self._network.descent(minibatch, clipped_surrogate, *self.settings)

    def _loss_now(self, minibatches: Sequence[Batch]) -> torch.Tensor:
        """The loss after the last step."""
        losses = [
            self._network.evaluate(minibatch, clipped_surrogate, *self.settings)[0]
            for minibatch in minibatches
        ]
        return torch.stack(losses).mean()

    def adapted_rate(self, rate: float | torch.Tensor, kl: torch.Tensor) -> float | torch.Tensor:
        """Lower after a divergence of over twice the target, higher after one below half.

        On a GPU it stays there, in single precision, a 0-d tensor.
        """
        config = self.config
        if not graphs.on_gpu(kl):
            divergence, rate = kl.item(), float(rate)
            if divergence > 2.0 * config.kl_target:
                return max(rate / 1.5, config.min_learning_rate)
            if divergence < 0.5 * config.kl_target:
                return min(rate * 1.5, config.max_learning_rate)
            return rate
        if not isinstance(rate, torch.Tensor):
            rate = torch.full((), rate, dtype=torch.float32, device=kl.device)
        lower = (rate / 1.5).clamp(min=config.min_learning_rate)
        higher = (rate * 1.5).clamp(max=config.max_learning_rate)
        rate = torch.where(kl < 0.5 * config.kl_target, higher, rate)
        return torch.where(kl > 2.0 * config.kl_target, lower, rate)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimiser's state and the rate remembered."""
        return self._control.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._control.load_state_dict(state)
