"""The ascent of PPO's clipped surrogate (Schulman et al. 2017; paper, Eq. 17 and 18)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from gippo.distributed import SINGLE, Ranks
from gippo.experience.advantages import normalized
from gippo.networks.adam import Optimizer, check_betas, scheduled_rate
from gippo.networks.batch_gradient import BatchGradient, SampleLoss
from gippo.networks.perceptron import GaussianActor, kl_divergence, log_prob
from gippo.updates.retries import Outcome, RetryConfig, update_with_retries
from gippo.updates.window import Context, Metrics, Samples, UpdateReport
from warp_envs.checks import check_choice, check_integer, check_number, check_positive


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
    kl_limit: float | None = None
    """An ascent whose end diverges further than this from its start, mean KL in nats, is undone and
    retried as if its loss had risen; null: however far."""
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
        check_choice("ppo.schedule", self.schedule, ("constant", "linear", "adaptive"))
        check_positive("ppo.final_learning_rate", self.final_learning_rate)
        check_positive("ppo.kl_target", self.kl_target)
        check_positive("ppo.min_learning_rate", self.min_learning_rate)
        check_number("ppo.max_learning_rate", self.max_learning_rate, self.min_learning_rate)
        check_integer("ppo.num_epochs", self.num_epochs, 1)
        check_integer("ppo.minibatch_size", self.minibatch_size, 1)
        check_number("ppo.clip", self.clip, 0.0, 1.0, open_low=True, open_high=True)
        check_number("ppo.log_ratio_limit", self.log_ratio_limit)
        # exp(88) and more is infinite in single precision
        check_number("ppo.log_ratio_clamp", self.log_ratio_clamp, 0.0, 80.0, open_low=True)
        if self.kl_limit is not None:
            check_positive("ppo.kl_limit", self.kl_limit)
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


class SurrogateAscent:
    """Several passes of clipped ascent, with PPO's own optimiser and learning rate."""

    def __init__(self, context: Context, config: PPOConfig) -> None:
        """Prepare ascents of the context's actor."""
        self.config = config
        self._network = BatchGradient(
            context.actor.mlp, context.parameters, context.helper, context.ranks
        )
        self._loss = SampleLoss(
            self.losses, "clipped_surrogate", (config.clip, config.log_ratio_clamp)
        )
        self._ranks = context.ranks
        self._num_epochs = context.num_epochs
        self._optimizer = Optimizer(context.parameters, config.betas, config.max_grad_norm)
        self._rate = config.learning_rate

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
        config = self.config
        rate = self._initial_rate(epoch)
        attempt = _Attempt(self, samples, reference)
        outcome = update_with_retries(
            attempt.run,
            "surrogate loss",
            self._optimizer,
            learning_rate=rate,
            base_rate=config.learning_rate,
            config=config.retry,
        )
        metrics: Metrics = {
            "actor_loss": attempt.last_loss,
            "actor_learning_rate": attempt.rate,
            "actor_retries": float(outcome.retries),
            "actor_failed": float(not outcome.succeeded),
            "kl": attempt.kl,
        }
        if outcome.problem is None:
            self._rate = self._next_rate(rate, attempt.rate, outcome)
        return UpdateReport(metrics, outcome.problem)

    def _initial_rate(self, epoch: int) -> float:
        config = self.config
        if config.schedule == "adaptive":
            return self._rate
        first, final = config.learning_rate, config.final_learning_rate
        base = scheduled_rate(config.schedule, first, final, epoch, self._num_epochs)
        return min(base, self._rate)

    def _next_rate(self, initial: float, reached: float, outcome: Outcome) -> float:
        """The next epoch's initial rate; a failed epoch's falls, so that failures end.

        The adaptive schedule goes on with the rate it has reached. The others' fall only ends at
        `retry.lowest`: a policy of standard deviation 1e-5, as De Jong's function ends with, bears
        no step of 1e-6 in every weight.
        """
        config, factor = self.config, self.config.retry.factor
        if config.schedule == "adaptive":
            return reached if outcome.succeeded else max(initial / factor, config.min_learning_rate)
        if not outcome.succeeded:
            at_lowest = outcome.retries < config.retry.retries
            lowest = config.learning_rate * config.retry.lowest
            return outcome.rate if at_lowest else max(initial / factor, lowest)
        return outcome.next_rate(config.learning_rate, config.retry)

    def losses(
        self,
        output: torch.Tensor,
        action: torch.Tensor,
        reference_log_prob: torch.Tensor,
        advantage: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """-min(rho A, clip(rho, 1 - clip, 1 + clip) A) of each sample, rho = pi/pi_ref (Eq. 18).

        Returns:
            Them, (B,), and their gradient with respect to the actor's output (B, 2 num_actions):
            -A rho d(log pi), or none where the clipped term is the lesser or rho is bounded.
        """
        config = self.config
        mu, log_sigma = GaussianActor.split(output)
        inverse = torch.exp(-log_sigma)
        z = (action - mu) * inverse
        log_ratio = log_prob(action, mu, log_sigma) - reference_log_prob
        bounded = log_ratio.clamp(-config.log_ratio_clamp, config.log_ratio_clamp)
        ratio = torch.exp(bounded)
        gain = ratio * advantage
        clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip) * advantage
        counts = (gain <= clipped) & (bounded == log_ratio)
        weight = (-gain * counts).unsqueeze(-1)
        weighted = weight * z  # first, as z^2 may overflow where the weight is zero
        gradient = torch.cat([weighted * inverse, weighted * z - weight], dim=-1)
        return -torch.minimum(gain, clipped), gradient

    def adapted_rate(self, rate: float, kl: float) -> float:
        """Lower after a divergence of over twice the target, higher after one below half."""
        config = self.config
        if kl > 2.0 * config.kl_target:
            return max(rate / 1.5, config.min_learning_rate)
        if kl < 0.5 * config.kl_target:
            return min(rate * 1.5, config.max_learning_rate)
        return rate

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimiser's state and the adaptive rate."""
        return {"optimizer": self._optimizer.state_dict(), "learning_rate": self._rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._rate = float(state["learning_rate"])


class _Attempt:
    """One try at the ascent, from `samples` split into minibatches."""

    def __init__(self, ascent: SurrogateAscent, samples: Samples, reference: Reference) -> None:
        self._ascent = ascent
        parts = num_minibatches(len(samples.obs) * ascent._ranks.size, ascent.config.minibatch_size)
        columns = (
            samples.obs,
            samples.action,
            reference.log_prob,
            normalized(samples.advantage, samples.obs.dtype, ascent._ranks),
        )
        self._minibatches = [
            ascent._network.batch(*part)
            for part in zip(*(c.tensor_split(parts) for c in columns), strict=True)
        ]
        self._start = list(
            zip(
                reference.mu.tensor_split(parts),
                reference.log_sigma.tensor_split(parts),
                strict=True,
            )
        )
        self._end = self._start
        # All attempts start alike
        loss, output, gradient = self._descent(0)
        self._first = (loss, output, gradient.clone())
        self.rate = 0.0
        self.kl = torch.zeros(())
        self.last_loss = torch.zeros(())

    def run(self, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Ascend from the present parameters.

        Returns:
            The mean loss of the first pass, at most zero, and the greater of the last pass's and
            that after it.
        """
        ascent, config = self._ascent, self._ascent.config
        adaptive = config.schedule == "adaptive"
        visited = list(self._start)
        passes: list[torch.Tensor] = []
        for number in range(config.num_epochs):
            losses: list[torch.Tensor] = []
            for i in range(len(self._minibatches)):
                at_start = number == 0 and i == 0
                loss, output, gradient = self._first if at_start else self._descent(i)
                ascent._optimizer.step_along(gradient, rate)
                losses.append(loss)
                policy = GaussianActor.split(output)
                if adaptive or number == config.num_epochs - 1:
                    self.kl = ascent._ranks.mean(kl_divergence(*policy, *visited[i]).mean())
                visited[i] = policy
                if adaptive:
                    rate = ascent.adapted_rate(rate, self.kl.item())
            passes.append(torch.stack(losses).mean())
        self.rate = rate
        self.last_loss = passes[-1]
        first, last = passes[0].clamp(max=0.0), torch.maximum(passes[-1], self._loss_now())
        if config.kl_limit is not None:
            # Written so that a NaN counts as far.
            last = torch.where(self._divergence() <= config.kl_limit, last, last.abs() + 1.0)
        return first, last

    def _descent(self, minibatch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss, outputs and gradient, at the present parameters."""
        return self._ascent._network.descent(self._minibatches[minibatch], self._ascent._loss)

    def _loss_now(self) -> torch.Tensor:
        """The loss after the last step; `self._end` are the policies there, as `self._start`."""
        ascent = self._ascent
        results = [ascent._network.evaluate(batch, ascent._loss) for batch in self._minibatches]
        self._end = [GaussianActor.split(output) for _, output in results]
        return torch.stack([loss for loss, _ in results]).mean()

    def _divergence(self) -> torch.Tensor:
        """KL(start of the ascent || its end), mean over all samples."""
        parts = [
            kl_divergence(*start, *end).mean()
            for start, end in zip(self._start, self._end, strict=True)
        ]
        return self._ascent._ranks.mean(torch.stack(parts).mean())
