"""Environments for rsl_rl (Schwarke et al. 2025): its PPO, its runner."""

from __future__ import annotations

from typing import Any

import torch

from warp_envs.vector_env import DifferentiableVectorEnv

try:
    from rsl_rl.env import VecEnv  # pyright: ignore[reportMissingImports]
    from tensordict import TensorDict  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError("rsl_rl is not installed: pip install '.[adapters]'") from error


class RslRlVecEnv(VecEnv):
    """An environment as rsl_rl's runners want it: the observation as the group "policy".

    Where a critic is told of what was drawn, ``randomize_observed="critic"``, a group "critic" has
    the observation and those numbers; rsl_rl's critic takes it by that name.

    `extras` holds "time_outs", the environments whose episode the time limit alone ended, and "log"
    with the mean of every reward term and the share of environments that diverged. For a time-out
    rsl_rl adds the value of the observation *before* the last step to its reward.
    """

    def __init__(self, env: DifferentiableVectorEnv) -> None:
        """Take over `env`; its seed is the one it was made with."""
        self.env = env
        self.num_envs = env.num_envs
        self.num_actions = env.num_actions
        self.max_episode_length = env.max_episode_steps
        self.device = env.device
        self.cfg = {"env": env.spec.id if env.spec else type(env).__name__}

    @property
    def episode_length_buf(self) -> torch.Tensor:
        """Steps of every environment's present episode, (num_envs,)."""
        return self.env.get_state()["step_count"].long()

    @episode_length_buf.setter
    def episode_length_buf(self, steps: torch.Tensor) -> None:
        self.env.set_state({"step_count": steps.int()})

    @torch.no_grad()
    def get_observations(self) -> TensorDict:
        """The present observations."""
        return self._group(self.env.observe())

    @torch.no_grad()
    def step(
        self, actions: torch.Tensor
    ) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Advance by one control step.

        Args:
            actions: (num_envs, num_actions), clipped to [-1, 1].

        Returns:
            Observations, reward (num_envs,), dones (num_envs,) and extras.
        """
        obs, reward, terminated, truncated, info = self.env.step(actions)
        log = {f"/reward/{name}": term for name, term in info["reward_terms"].items()}
        extras = {
            "time_outs": (truncated & ~terminated).to(reward.dtype),
            "log": {**log, "/diverged": info["diverged"].to(reward.dtype)},
        }
        return self._group(obs), reward, (terminated | truncated).long(), extras

    def _group(self, obs: torch.Tensor) -> TensorDict:
        groups = {"policy": obs}
        if self.env.num_privileged:
            groups["critic"] = torch.cat([obs, self.env.observe_privileged()], dim=1)
        return TensorDict(groups, batch_size=[self.num_envs], device=self.device)
