"""PE: policy enhancement (Qiao, Liang, Koltun & Lin 2021), PPO on a batch grown by gradients.

Beside each sample (s, a, A) stand others at the same state, whose advantage is extrapolated:

    a' = a + d,    A' = A + dA/da . d

Their noise is eps' = c eps + sqrt(1 - c^2) xi, xi ~ N(0, I), so that a' = mu + sigma eps' is a draw
of the policy that acted and PPO's ratios need no correction, while d = sigma (eps' - eps) is as
short as c is near 1. Where the new samples lie is this project's choice: the paper says no more
than that it follows Qiao et al., who extrapolate around samples by first derivatives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from gippo.methods.base import Method
from gippo.networks.perceptron import log_prob
from gippo.seeding import stream_seed
from gippo.updates.surrogate import PPOConfig, Reference, SurrogateAscent
from gippo.updates.window import Context, Samples, UpdateReport, Window
from warp_envs.checks import check_integer, check_number


@dataclass
class PEConfig:
    """PE, policy enhancement: PPO on a batch grown by samples extrapolated along gradients."""

    num_extrapolated: int = 1
    """New samples for each one of the window."""
    correlation: float = 0.9
    """Of a new sample's noise with the one it is extrapolated from: nearer 1, nearer to it."""
    ppo: PPOConfig = field(default_factory=PPOConfig)

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("num_extrapolated", self.num_extrapolated, 1)
        check_number("correlation", self.correlation, 0.0, 1.0, open_high=True)


_STREAM = 3  # the learner has 1 and 2


def enhanced(samples: Samples, noise: torch.Tensor, correlation: float) -> Samples:
    """The samples, each followed by its extrapolated ones.

    Args:
        samples: B of them, with action gradients.
        noise: xi, (B, K, num_actions).
        correlation: c.

    Returns:
        B (1 + K) samples.
    """
    assert samples.action_gradient is not None
    count = 1 + noise.shape[1]

    def repeated(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(count, dim=0)

    obs, mu, log_sigma = (repeated(x) for x in (samples.obs, samples.mu, samples.log_sigma))
    own = samples.eps.unsqueeze(1)
    near = correlation * own + math.sqrt(1.0 - correlation**2) * noise
    eps = torch.cat([own, near], dim=1).flatten(0, 1)
    step = torch.exp(log_sigma) * (eps - repeated(samples.eps))
    action = repeated(samples.action) + step
    gradient = repeated(samples.action_gradient)
    return Samples(
        obs=obs,
        eps=eps,
        action=action,
        mu=mu,
        log_sigma=log_sigma,
        log_prob=log_prob(action, mu, log_sigma),
        advantage=repeated(samples.advantage) + (gradient * step).sum(-1),
        action_gradient=gradient,
    )


class PE(Method):
    """Ascends PPO's surrogate on the grown batch."""

    name: ClassVar[str] = "pe"
    config_class: ClassVar[type] = PEConfig

    def __init__(self, context: Context, config: PEConfig) -> None:
        """Make the method for an actor."""
        self._config = config
        self._gae_lambda = context.gae_lambda
        self._ascent = SurrogateAscent(context, config.ppo)
        self._seed = context.seed
        self._ranks = context.ranks

    @property
    def gradient_lambda(self) -> float | None:
        """The learner's: it is its advantages that are extrapolated."""
        return self._gae_lambda

    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Grow the batch, then ascend."""
        own = window.samples
        samples = enhanced(own, self._noise(own.eps, epoch), self._config.correlation)
        reference = Reference(samples.log_prob, samples.mu, samples.log_sigma)
        return self._ascent.update(samples, reference, epoch)

    def _noise(self, eps: torch.Tensor, epoch: int) -> torch.Tensor:
        """xi, (B, K, num_actions): of the epoch's own seed, so there is no state to keep."""
        generator = torch.Generator(eps.device)
        generator.manual_seed(stream_seed(self._seed, _STREAM, epoch))
        shape = (len(eps) * self._ranks.size, self._config.num_extrapolated, eps.shape[-1])
        noise = torch.randn(shape, dtype=eps.dtype, device=eps.device, generator=generator)
        return self._ranks.share(noise)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the ascent's state, and the noise's seed."""
        return {"ascent": self._ascent.state_dict(), "seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._ascent.load_state_dict(state["ascent"])
        self._seed = int(state["seed"])
