"""The alpha-policy: its fit, its statistics, the control of alpha (paper, sections 4.1 to 4.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from gippo.distributed import SINGLE, Ranks
from gippo.networks.adam import Optimizer, Schedule, check_betas
from gippo.networks.batch_gradient import Batch, BatchGradient
from gippo.networks.graphs import Graphed
from gippo.networks.native import native_twin
from gippo.networks.normalization import VARIANCE_EPS, RunningStatistics
from gippo.networks.perceptron import GaussianActor, log_prob
from gippo.updates.retries import Outcome, RateControl, RetryConfig, Trial
from gippo.updates.window import Context, Metrics, Samples
from warp_envs.checks import check_choice, check_integer, check_number, check_positive


@dataclass
class AlphaConfig:
    """The alpha-policy's fit and the control of alpha (paper, Algorithm 1)."""

    learning_rate: float = 1e-2
    schedule: str = "constant"
    """"constant"; "linear": falls to `final_learning_rate` over training."""
    final_learning_rate: float = 1e-5
    min_learning_rate: float = 1e-5
    """Failed epochs do not lower the next one's rate below this."""
    iterations: int = 16
    """Full-batch Adam steps per attempt."""
    betas: list[float] = field(default_factory=lambda: [0.7, 0.95])
    """Adam's."""
    max_grad_norm: float = 1.0
    retry: RetryConfig = field(default_factory=lambda: RetryConfig(start="lowered"))
    """When the fit's loss has risen."""
    alpha_0: float = 0.5
    """The first alpha."""
    max_alpha: float = 1.0
    beta: float = 1.02
    """Factor by which alpha rises or falls, once per epoch."""
    delta_det: float = 0.4
    """The determinant of Lemma 4.4 may differ from 1 by this much."""
    delta_oorr: float = 0.75
    """Share of samples whose probability ratio may lie outside PPO's clip interval (Eq. 12)."""
    bias_test: str = "normalized"
    """"strict": the surrogate must not fall (paper); "normalized": its change, shifted and scaled
    by its running statistics, must not fall below -1 (the authors' runs)."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_positive("alpha.learning_rate", self.learning_rate)
        check_choice("alpha.schedule", self.schedule, ("constant", "linear"))
        check_positive("alpha.final_learning_rate", self.final_learning_rate)
        check_positive("alpha.min_learning_rate", self.min_learning_rate)
        check_integer("alpha.iterations", self.iterations, 1)
        check_betas("alpha.betas", self.betas)
        check_positive("alpha.max_grad_norm", self.max_grad_norm)
        check_positive("alpha.max_alpha", self.max_alpha)
        check_number("alpha.alpha_0", self.alpha_0, 0.0, self.max_alpha, open_low=True)
        check_number("alpha.beta", self.beta, 1.0, open_low=True)
        check_number("alpha.delta_det", self.delta_det, 0.0, 1.0, open_low=True)
        check_number("alpha.delta_oorr", self.delta_oorr, 0.0, 1.0)
        check_choice("alpha.bias_test", self.bias_test, ("strict", "normalized"))


ALPHA_FLOOR = 1e-4
"""Of alpha_0: from lower, alpha would need hundreds of epochs to matter again."""
BIAS_THRESHOLD = -1.0
"""Of the normalised bias test."""


def determinant_ratio(log_sigma_new: torch.Tensor, log_sigma_old: torch.Tensor) -> torch.Tensor:
    """det(dg_new/deps) / det(dg_old/deps) per sample (Lemma 4.4), psi.

    g(s, eps) = mu(s) + sigma(s) eps has the Jacobian diag(sigma).
    """
    return torch.exp((log_sigma_new - log_sigma_old).sum(-1))


@dataclass
class AlphaStatistics:
    """What the new policy tells of the gradients that led to it; 0-d tensors on the CPU."""

    det_min: torch.Tensor
    det_mean: torch.Tensor
    det_max: torch.Tensor
    bias: torch.Tensor
    """R_alpha = mean(rho A) - mean(A), rho = pi_new/pi_old (Eq. 16)."""
    out_of_range_ratio: torch.Tensor
    """Share of samples with |rho - 1| > clip (Eq. 12)."""


def alpha_statistics(
    samples: Samples,
    mu: torch.Tensor,
    log_sigma: torch.Tensor,
    clip: float,
    log_ratio_clamp: float,
    ranks: Ranks = SINGLE,
) -> AlphaStatistics:
    """Compare the policy (mu, log_sigma), (B, num_actions) each, with the one that acted.

    Args:
        samples: the window.
        mu: of the new policy.
        log_sigma: of the new policy.
        clip: half-width of the interval about 1 in which probability ratios are in range.
        log_ratio_clamp: bound on their logarithms.
        ranks: the processes, each with its samples.
    """
    psi = determinant_ratio(log_sigma, samples.log_sigma)
    log_ratio = log_prob(samples.action, mu, log_sigma) - samples.log_prob
    ratio = torch.exp(log_ratio.clamp(-log_ratio_clamp, log_ratio_clamp))
    outside = (ratio - 1.0).abs() > clip
    bias = ((ratio - 1.0) * samples.advantage).mean().to(psi.dtype)
    extremes = ranks.most(torch.stack([-psi.min(), psi.max()]))
    det_mean, bias, share = ranks.means(psi.mean(), bias, outside.to(psi.dtype).mean())
    values = torch.stack([-extremes[0], det_mean, extremes[1], bias, share])
    return AlphaStatistics(*values.cpu().unbind())


class AlphaControl:
    """Raises alpha while the analytical gradients prove good, lowers it when they do not."""

    def __init__(self, config: AlphaConfig) -> None:
        """Start at alpha_0."""
        self.config = config
        self.alpha = config.alpha_0
        self._bias_statistics = RunningStatistics((), "cpu")

    def adjust(self, statistics: AlphaStatistics, batch_size: int) -> Metrics:
        """Set alpha for the next epoch (Algorithm 1): divided by beta if a criterion binds.

        The criteria: the determinant outside 1 +- delta_det for any sample; the bias test; too many
        samples out of range. A value that is not a number binds.

        Returns:
            Which criteria bound (0 or 1), and the normalised bias.
        """
        config = self.config
        det_binds = not (
            statistics.det_min >= 1.0 - config.delta_det
            and statistics.det_max <= 1.0 + config.delta_det
        )
        bias = statistics.bias.double() * batch_size
        running = self._bias_statistics
        normalized = ((bias - running.mean) / torch.sqrt(running.variance + VARIANCE_EPS)).item()
        if torch.isfinite(bias):
            running.update(bias.reshape(1))
        bias_binds = not bias >= 0.0
        if config.bias_test == "normalized":
            bias_binds = bias_binds and not normalized >= BIAS_THRESHOLD
        oorr_binds = not statistics.out_of_range_ratio <= config.delta_oorr
        binds = det_binds or bias_binds or oorr_binds
        alpha = self.alpha / config.beta if binds else self.alpha * config.beta
        self.alpha = min(max(alpha, ALPHA_FLOOR * config.alpha_0), config.max_alpha)
        return {
            "bias_normalized": normalized,
            "det_binds": float(det_binds),
            "bias_binds": float(bias_binds),
            "out_of_range_binds": float(oorr_binds),
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of alpha and the statistics of the bias."""
        return {"alpha": self.alpha, "bias_statistics": self._bias_statistics.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self.alpha = float(state["alpha"])
        self._bias_statistics.load_state_dict(state["bias_statistics"])


@dataclass
class AlphaPolicy:
    """The policy after the fit, at the window's samples."""

    mu: torch.Tensor
    log_sigma: torch.Tensor
    outcome: Outcome
    loss: torch.Tensor
    """The fit's, 0-d."""
    next_rate: float
    """Of the next epoch's first attempt."""


@native_twin("square_distance")
def square_distance(output: torch.Tensor, eps: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """||g_theta(s, eps) - goal||^2 of each sample (B,), for the output (B, 2 num_actions)."""
    mu, log_sigma = GaussianActor.split(output)
    return (mu + torch.exp(log_sigma) * eps - goal).square().sum(-1)


class AlphaFit:
    """Fits g_theta(s, eps) to a + alpha dA/da (Eq. 10) by full-batch Adam steps."""

    def __init__(self, context: Context, config: AlphaConfig) -> None:
        """Prepare fits of the context's actor."""
        self.config = config
        self._network = BatchGradient(
            context.actor.mlp, context.parameters, context.helper, context.ranks
        )
        self._optimizer = Optimizer(context.parameters, config.betas, config.max_grad_norm)
        self._attempt = Graphed(self._make_attempt, enabled=context.graphs)
        self._control = RateControl(
            self._optimizer,
            "alpha-policy's loss",
            Schedule(
                config.schedule,
                config.learning_rate,
                config.final_learning_rate,
                context.num_epochs,
            ),
            config.retry,
            least=config.min_learning_rate,
        )

    def fit(self, samples: Samples, alpha: float, epoch: int) -> AlphaPolicy:
        """Move the actor to its alpha-policy; it stays as it was if no attempt lowers the loss."""
        assert samples.action_gradient is not None
        goal = samples.action + alpha * samples.action_gradient
        batch = Batch(samples.obs, (samples.eps, goal))
        policy = (samples.mu, samples.log_sigma)
        loss = torch.zeros(())
        # All attempts start alike
        first, _, gradient = self._network.descent(batch, square_distance)
        first_gradient = gradient.clone()

        def attempt(rate: float) -> Trial:
            nonlocal loss, policy
            loss, output = self._attempt(batch, first_gradient, rate)
            policy = GaussianActor.split(output)
            return Trial(first, loss)

        outcome = self._control.update(attempt, epoch)
        if not outcome.succeeded:
            policy = (samples.mu, samples.log_sigma)
        return AlphaPolicy(*policy, outcome, loss, self._control.start(epoch + 1))

    def _make_attempt(
        self, batch: Batch, gradient: torch.Tensor, rate: float | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Descend, first along `gradient`: the loss after the last step, and the outputs."""
        self._optimizer.step_along(gradient, rate)
        for _ in range(self.config.iterations - 1):
            _, _, gradient = self._network.descent(batch, square_distance)
            self._optimizer.step_along(gradient, rate)
        return self._network.evaluate(batch, square_distance)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimiser's state and the rate remembered."""
        return self._control.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._control.load_state_dict(state)
