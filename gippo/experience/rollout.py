"""One window of experience: every environment stepped H times from where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gippo.networks.normalization import Normalizer
from gippo.networks.perceptron import GaussianActor, squashed_entropy


@dataclass
class Rollout:
    """What H steps of N environments gave. All tensors are time-major, (H, N, ...), and detached.

    The lists hold each step's tensors inside autograd's graph, by which the rewards and final
    observations depend on the actions of all steps before; they are empty when no gradient was
    recorded.
    """

    raw_obs: torch.Tensor
    """Observations the policy acted on, (H, N, num_obs)."""
    obs: torch.Tensor
    """The same as the policy saw them, normalised by the window's frozen statistics."""
    eps: torch.Tensor
    """Standard normal noise, (H, N, num_actions)."""
    action: torch.Tensor
    """mu + sigma eps, before the squashing tanh, (H, N, num_actions)."""
    mu: torch.Tensor
    log_sigma: torch.Tensor
    reward: torch.Tensor
    """(H, N)."""
    terminated: torch.Tensor
    """The episode ended in a state of no further value, bool (H, N)."""
    truncated: torch.Tensor
    """The episode ran out of time, bool (H, N)."""
    diverged: torch.Tensor
    """The simulation became non-finite, bool (H, N); terminated as well."""
    reward_terms: dict[str, torch.Tensor]
    """Means over all steps of the terms that the reward is the sum of."""
    final_obs: torch.Tensor
    """Observation after the step and before any reset, (H, N, num_obs), not normalised."""
    next_obs: torch.Tensor
    """Observation after the last step and its resets, (N, num_obs), not normalised."""
    privileged: torch.Tensor
    """What the critic alone is told, of each step's observation and final one, (H, N, n)."""
    action_steps: list[torch.Tensor]
    reward_steps: list[torch.Tensor]
    final_obs_steps: list[torch.Tensor]
    entropy_noise: torch.Tensor | None = None
    """Standard normal noise of samples beside those that acted, (H, N, num_actions), if the method
    wants entropies."""
    entropy: torch.Tensor | None = None
    """-log pi of these samples, squashed, (H, N): estimates of the policy's entropy."""
    entropy_steps: list[torch.Tensor] = field(default_factory=list)

    @property
    def done(self) -> torch.Tensor:
        """The episode ended, for whatever reason, bool (H, N)."""
        return self.terminated | self.truncated

    def for_critic(self, obs: torch.Tensor) -> torch.Tensor:
        """Normalised observations (H, N, num_obs), of before the steps or after, as it sees them.

        What it is told beside them does not depend on actions.
        """
        return torch.cat([obs, self.privileged], dim=-1) if self.privileged.shape[-1] else obs

    def forget_graph(self) -> None:
        """Drop the recorded graph, and with it the window's memory."""
        self.action_steps, self.reward_steps, self.final_obs_steps = [], [], []
        self.entropy_steps = []


def collect(
    env: Any,
    obs: torch.Tensor,
    actor: GaussianActor,
    normalizer: Normalizer,
    eps: torch.Tensor,
    *,
    record_gradient: bool,
    entropy_noise: torch.Tensor | None = None,
) -> Rollout:
    """Step `env` with actions tanh(mu(s) + sigma(s) eps), closed-loop.

    The gradient is cut at the window's start. Inside, it passes from each action through the
    environment and, at every later step, through mu(s) and sigma(s) as well.

    Args:
        env: a differentiable vector environment (`warp_envs`).
        obs: where it stands, (N, num_obs), not normalised.
        actor: the policy; its parameters take no gradient here.
        normalizer: of observations, the same for the whole window.
        eps: the noise, (H, N, num_actions).
        record_gradient: keep the graph from actions to rewards and final observations.
        entropy_noise: of the samples that tell the entropy, (H, N, num_actions); None: untold.
    """
    env.detach()
    obs = obs.detach().requires_grad_(record_gradient)
    policy = actor.frozen()
    steps: dict[str, list[torch.Tensor]] = {name: [] for name in _STEP_FIELDS}
    terms: list[dict[str, torch.Tensor]] = []
    entropies: list[torch.Tensor] = []
    privileged: list[torch.Tensor] = []
    num_privileged = count_privileged(env)
    with torch.set_grad_enabled(record_gradient):
        for t, noise in enumerate(eps.unbind(0)):
            mu, log_sigma = policy(normalizer.normalize(obs))
            if entropy_noise is not None:
                entropies.append(squashed_entropy(mu, log_sigma, entropy_noise[t]))
            action = mu + torch.exp(log_sigma) * noise
            if num_privileged:
                privileged.append(env.observe_privileged())
            next_obs, reward, terminated, truncated, info = env.step(torch.tanh(action))
            record = (obs, action, mu, log_sigma, reward, terminated, truncated)
            record += (info["diverged"], info["final_obs"])
            for name, value in zip(_STEP_FIELDS, record, strict=True):
                steps[name].append(value)
            terms.append(info.get("reward_terms", {}))
            obs = next_obs
    env.detach()
    stacked = {
        name: torch.stack([value.detach() for value in values]) for name, values in steps.items()
    }
    raw_obs = stacked.pop("obs")
    return Rollout(
        raw_obs=raw_obs,
        obs=normalizer.normalize(raw_obs),
        eps=eps,
        next_obs=obs.detach(),
        privileged=torch.stack(privileged) if privileged else raw_obs[..., :0],
        reward_terms=_means(terms),
        action_steps=steps["action"] if record_gradient else [],
        reward_steps=steps["reward"] if record_gradient else [],
        final_obs_steps=steps["final_obs"] if record_gradient else [],
        entropy_noise=entropy_noise,
        entropy=torch.stack(entropies).detach() if entropies else None,
        entropy_steps=entropies if record_gradient else [],
        **stacked,
    )


def count_privileged(env: Any) -> int:
    """Numbers that an environment tells a critic alone; one from elsewhere has none."""
    return getattr(env, "num_privileged", 0)


def _means(terms: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The means over steps and environments of the terms by name."""
    return {name: torch.stack([step[name] for step in terms]).mean() for name in terms[0]}


_STEP_FIELDS = (
    "obs",
    "action",
    "mu",
    "log_sigma",
    "reward",
    "terminated",
    "truncated",
    "diverged",
    "final_obs",
)
