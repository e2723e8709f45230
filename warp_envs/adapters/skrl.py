"""Environments for skrl (Serrano-Muñoz et al. 2023)."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch

from warp_envs.vector_env import DifferentiableVectorEnv

try:
    from skrl.envs.wrappers.torch import Wrapper  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError("skrl is not installed: pip install '.[adapters]'") from error


class SkrlWrapper(Wrapper):
    """An environment as skrl's trainers and agents want it: all but observations are columns.

    What `step` returns are copies, as skrl adds to rewards in place. With an agent's
    ``time_limit_bootstrap`` skrl adds the value of the *returned* observation at a time-out, which
    after a same-step reset is the next episode's first; ``info["final_obs"]`` has the last.
    """

    def __init__(self, env: DifferentiableVectorEnv) -> None:
        """Take over `env`; its seed is the one it was made with, not that of skrl's `set_seed`."""
        super().__init__(env)

    @property
    def observation_space(self) -> gymnasium.Space:
        """Of one environment."""
        return self._env.single_observation_space

    @property
    def action_space(self) -> gymnasium.Space:
        """Of one environment."""
        return self._env.single_action_space

    @torch.no_grad()
    def reset(self) -> tuple[torch.Tensor, dict[str, Any]]:
        """Start a new episode everywhere: obs (num_envs, num_obs) and info."""
        return self._env.reset()

    @torch.no_grad()
    def step(
        self, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Advance by one control step.

        Args:
            actions: (num_envs, num_actions), clipped to [-1, 1].

        Returns:
            obs (num_envs, num_obs); reward, terminated and truncated (num_envs, 1); info.
        """
        obs, reward, terminated, truncated, info = self._env.step(actions)
        column = (self.num_envs, 1)
        return (
            obs.clone(),
            reward.clone().view(column),
            terminated.view(column),
            (truncated & ~terminated).view(column),
            info,
        )

    def state(self) -> None:
        """No state beyond the observation."""

    def render(self, *args: Any, **kwargs: Any) -> None:
        """Nothing; motion is recorded with `warp_envs.RolloutRecorder`."""

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
