"""Adaptive GI-PPO: RP and LR as one gradient, and steps as long as the data vouch for it.

Each epoch both estimates of one gradient, that of RP's objective, are taken from two halves of the
environments:

    RP:  E[w dA/da dg_theta(s, eps)/dtheta]        LR:  E[w A dlog pi(a | s)/dtheta]

with w proportional to (gamma lambda)^k, through which the action at step k of a sub-trajectory acts
on the advantage of its first. The halves tell the variance of each without bias
(`gippo.updates.trust`), and

    g = (1 - kappa) g_RP + kappa g_LR,    kappa = var_RP / (var_RP + var_LR),

is the best mixture (as in LR+RP) where both are gradients of what is wanted; when chaos fills RP
with noise, its weight is gone in the same epoch. Where derivatives do not see what is wanted, as at
a reward that jumps, LR's weight is more by what its halves agree on beside RP's, beyond noise
(`gippo.updates.trust.Unseen`). What the windows that follow find of the slope along the steps
that were taken decides how far to go: along the natural gradient (`gippo.updates.natural_step`)
until the policy has moved, over states of the last windows, by

    KL = radius * (trust * part)^2,    trust = (left + overshoot) / (1 + overshoot).

`left`, about twenty epochs' mean of the part of the slope that is left after a step
(`gippo.updates.trust.SlopeLeft`), falls with noise, as the best linear estimate of a signal under
noise does (Wiener), and with the step's length, to 0 where the step ends at the best point of its
line and to -`overshoot` where steps end at the most, whatever the radius. Trust grows from nothing
as the first twenty epochs come. The best point of each line is not the best step of many: as with
any descent, what is curved most says where it is, and the rest hardly moves. What longer steps
overshoot comes back as the radius falls: its root, the longest step, does so linearly. `part` is
what the gradient's length is of its root mean square over an episode's windows, 1 at most: of
environments that are at one time of their episodes, at which nothing is left to learn, the gradient
is small.
What ends an episode RP does not see: a step may climb all the slopes it promised and lose. Where
windows turn out worse than those before for too long (`gippo.updates.setbacks`) the policy goes
back to the last that was proven, with what the critic has learnt since, and trust begins anew.
All units are the policy's own: nothing is left to set by problem. A bonus on the entropy, in units
of the advantages' spread, keeps exploration up where the policy's noise is a small part of that
spread, and gives way where it is all of it, as near a function's optimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch.nn.functional import softplus

from gippo.distributed import Ranks
from gippo.methods.base import Method
from gippo.networks.adam import Schedule
from gippo.networks.jacobian import jacobian_of
from gippo.networks.perceptron import log_prob
from gippo.updates.natural_step import NaturalStep, NaturalStepConfig
from gippo.updates.setbacks import Setbacks
from gippo.updates.trust import (
    TINY,
    Halves,
    RecentSize,
    RunningMean,
    SlopeLeft,
    Unseen,
    clipped_samples,
    inverse_variance_weight,
    signal_share,
)
from gippo.updates.window import Context, Metrics, Samples, UpdateReport, Window
from warp_envs.checks import ArgumentError, check_number, check_positive


@dataclass
class GIPPOAdaptiveConfig:
    """Adaptive GI-PPO: RP and LR weighted by their noise, natural steps as long as slopes last."""

    radius: float = 8.0
    """Divergence of a step of which all the slope is left, nats, at the start."""
    final_radius: float = 1e-3
    """The same at the end of training; its root, a step's length, falls linearly."""
    overshoot: float = 0.2
    """How far beyond the best point of its line a step may end: the slope there, against the step,
    in parts of the slope that the step's own window promised."""
    entropy: float = 2e-3
    """Gain in mean advantage, in its standard deviations, that one nat of the policy's entropy is
    worth, at the start; falls linearly to zero."""
    setback: float = 3.0
    """How far values may have sunk since the best window of late, in standard deviations of its
    advantages, before the policy goes back to one that was proven before."""
    clip: float = 10.0
    """A sample's dA/da is shortened to so many times the median length."""
    natural: NaturalStepConfig = field(default_factory=NaturalStepConfig)

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_number("radius", self.radius, 0.0, 1e6, open_low=True)
        check_positive("final_radius", self.final_radius)
        if self.final_radius > self.radius:
            accepted = f"at most the radius, {self.radius},"
            raise ArgumentError("final_radius", str(self.final_radius), accepted)
        check_number("overshoot", self.overshoot, 0.0)
        check_number("entropy", self.entropy, 0.0)
        check_positive("setback", self.setback)
        check_number("clip", self.clip, 1.0)


def _weights(window: Window, ranks: Ranks) -> torch.Tensor:
    """(gamma lambda)^k at step k of a sub-trajectory over its mean, (B,)."""
    assert window.gradients is not None
    discount = window.gradients.discount.transpose(0, 1).flatten(0, 1)
    return discount / ranks.mean(discount.mean())


def squashed_entropy(action: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """A sample of the entropy of tanh(a), less the entropy of eps (B,), from a (B, num_actions).

    sum_i log sigma_i + log(1 - tanh(a_i)^2). That of a itself has no upper bound: it would drive
    actions to the ends of their range, where the squashed ones vary least.
    """
    return (log_sigma + 2.0 * (math.log(2.0) - action - softplus(-2.0 * action))).sum(-1)


class GIPPOAdaptive(Method):
    """One natural step per epoch along the mixture of RP and LR."""

    name: ClassVar[str] = "gippo_adaptive"
    config_class: ClassVar[type] = GIPPOAdaptiveConfig
    least_samples: ClassVar[int] = 2  # one in each half

    def __init__(self, context: Context, config: GIPPOAdaptiveConfig) -> None:
        """Make the method for an actor."""
        self._actor = context.actor
        self._parameters = context.parameters
        self._gae_lambda = context.gae_lambda
        self._ranks = context.ranks
        self._config = config
        lengths = math.sqrt(config.radius), math.sqrt(config.final_radius)
        self._length = Schedule("linear", *lengths, context.num_epochs)
        self._entropy = Schedule("linear", config.entropy, 0.0, context.num_epochs)
        self._jacobian = jacobian_of(
            context.actor.mlp, context.parameters, context.parameters.vector.dtype
        )
        self._step = NaturalStep(context, config.natural)
        self._size = RecentSize(context.episode_windows)
        self._unseen = Unseen()
        self._shares = {name: RunningMean() for name in ("rp", "lr", "mixed")}
        vector = context.parameters.vector
        self._slope = SlopeLeft(len(vector), vector.device, config.overshoot)
        self._setbacks = Setbacks(config.setback)
        self._best = vector.clone()
        """Parameters of the policy to go back to."""
        self._tried = vector.clone()
        """Those of the one that is on trial."""

    @property
    def gradient_lambda(self) -> float | None:
        """The learner's lambda: both estimates are of one gradient."""
        return self._gae_lambda

    @property
    def looks_back(self) -> bool:
        """Windows are compared."""
        return True

    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Take one step."""
        samples = window.samples
        assert samples.action_gradient is not None
        weight = _weights(window, self._ranks)
        clipped, share_clipped = clipped_samples(samples.action_gradient, self._config.clip)
        pull = weight.unsqueeze(-1) * clipped
        variance, mean = self._ranks.moments(*torch.var_mean(samples.advantage, correction=0))
        deviation = torch.sqrt(variance)
        worth = (self._entropy.rate(epoch) * deviation).to(samples.obs.dtype)
        rp, lr = self._estimates(samples, pull, weight, worth, window.rollout.reward.shape[1])
        before = self._step.state_dict()
        metric = self._step.look(samples, epoch)
        kappa, noise_rp, noise_lr = inverse_variance_weight(rp, lr, metric)
        difference = signal_share(lr.less(rp), metric)
        unseen = self._unseen.weight(difference)
        kappa = kappa + (1.0 - kappa) * unseen
        mixed = rp.mixed(lr, kappa)
        metrics: Metrics = {
            "actor_loss": -window.objective,
            "kappa_lr": kappa,
            "unseen": unseen,
            "noise_rp": noise_rp,
            "noise_lr": noise_lr,
            "clipped_samples": self._ranks.mean(share_clipped),
        }
        full = mixed.mean.double()
        finite = torch.isfinite(full).all() & torch.isfinite(metric).all()
        halves = {"rp": rp, "lr": lr, "mixed": mixed}
        shares = [difference, *(signal_share(half, metric) for half in halves.values())]
        # A device is waited for once.
        slopes = self._slope.compare(full)
        square = (metric * full) @ full
        told = torch.stack([finite.double(), square, mean, deviation, *slopes, *shares]).tolist()
        if not told[0]:
            self._step.load_state_dict(before)
            return UpdateReport(metrics, "the policy's gradient is not finite")
        self._unseen.update(told[6])
        for name, share in zip(halves, told[7:], strict=True):
            metrics[f"share_{name}"] = self._shares[name].update(share)
        left = self._slope.update(*told[4:6])
        mean_advantage, spread = told[2:4]
        gains = mean_advantage - window.last_advantage, mean_advantage - window.last_residual
        part = self._size.part(math.sqrt(told[1]))
        lost = self._lost(*gains, spread, window.rollout.reward.shape[1] * self._ranks.size)
        radius, divergence, moved = 0.0, 0.0, True
        if not lost:
            radius = (self._length.rate(epoch) * self._slope.trusted * part) ** 2
            direction = self._step.direction(full, metric)
            self._slope.begin(direction, full)
            divergence, moved = self._step.move(direction, radius)
        metrics |= {
            "slope_left": left,
            "gradient_part": part,
            "gain": gains[0] / (spread + TINY),
            "undone": float(lost),
            "actor_learning_rate": radius,
            "kl": divergence,
            "actor_failed": float(not moved),
        }
        return UpdateReport(metrics)

    def _lost(self, gain: float, rise: float, deviation: float, num_envs: int) -> bool:
        """Whether windows have lost too much; then a policy that was proven is there again.

        Args: those of `Setbacks.update`.
        """
        vector = self._parameters.vector
        lost = self._setbacks.update(gain, rise, deviation, num_envs)
        if lost:
            vector.copy_(self._best)
            self._tried.copy_(self._best)
            self._slope.restart()
        elif self._setbacks.proven:
            self._best.copy_(self._tried)
            self._tried.copy_(vector)
        return lost

    def _estimates(
        self,
        samples: Samples,
        pull: torch.Tensor,
        weight: torch.Tensor,
        worth: torch.Tensor,
        num_envs: int,
    ) -> tuple[Halves, Halves]:
        """Gradients by RP and by LR, of the mean advantage with the entropy's bonus.

        Args:
            samples: each environment's steps together.
            pull: dA/da times the weight, (B, num_actions).
            weight: of each sample in the means, (B,).
            worth: of a nat of entropy, 0-d.
            num_envs: of this process. The steps of a single one are halved in time.
        """
        count = len(pull)
        middle = num_envs // 2 * (count // num_envs) or count // 2
        advantage = samples.advantage - self._ranks.mean(samples.advantage.mean())
        gain = weight * advantage.to(weight.dtype)
        found: list[torch.Tensor] = []
        for half in (slice(0, middle), slice(middle, count)):
            output = self._jacobian.at(self._parameters.vector, samples.obs[half])
            mu, log_sigma = self._actor.split(output.requires_grad_())
            action = mu + torch.exp(log_sigma) * samples.eps[half]
            bonus = worth * (weight[half] * squashed_entropy(action, log_sigma)).mean()
            rp = (pull[half] * action).sum(-1).mean()
            lr = (gain[half] * log_prob(samples.action[half], mu, log_sigma)).mean()
            for surrogate in (rp, lr):
                (seed,) = torch.autograd.grad(surrogate + bonus, output, retain_graph=True)
                found.append(self._jacobian.transposed(seed))
        rp_1, lr_1, rp_2, lr_2 = self._ranks.means(*found)
        part = middle / count
        return Halves(rp_1, rp_2, part), Halves(lr_1, lr_2, part)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the running means and the step's state."""
        shares = {name: share.state_dict() for name, share in self._shares.items()}
        return {
            "shares": shares,
            "unseen": self._unseen.state_dict(),
            "slope": self._slope.state_dict(),
            "size": self._size.state_dict(),
            "setbacks": self._setbacks.state_dict(),
            "best": self._best.clone(),
            "tried": self._tried.clone(),
            "step": self._step.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        for name, share in self._shares.items():
            share.load_state_dict(state["shares"][name])
        self._unseen.load_state_dict(state["unseen"])
        self._slope.load_state_dict(state["slope"])
        self._size.load_state_dict(state["size"])
        self._setbacks.load_state_dict(state["setbacks"])
        self._best = state["best"].to(self._best, copy=True)
        self._tried = state["tried"].to(self._tried, copy=True)
        self._step.load_state_dict(state["step"])
