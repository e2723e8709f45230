"""Environments for Stable-Baselines3 (Raffin et al. 2021), in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from warp_envs.vector_env import DifferentiableVectorEnv

try:
    from stable_baselines3.common.vec_env import (  # pyright: ignore[reportMissingImports]
        VecEnv,
    )
except ImportError as error:
    message = "stable_baselines3 is not installed: pip install '.[adapters]'"
    raise ImportError(message) from error


class StableBaselines3VecEnv(VecEnv):
    """An environment as Stable-Baselines3's algorithms want it.

    The info of an environment that ended holds "terminal_observation", its last, and whether the
    time limit alone ended it, "TimeLimit.truncated": from these the value of the last state is
    bootstrapped. The environments are one object: attributes can be read, but neither set nor
    called for each apart.
    """

    def __init__(self, env: DifferentiableVectorEnv) -> None:
        """Take over `env`; it keeps its seed until `seed` gives another."""
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions = torch.zeros(env.num_envs, env.num_actions)

    @torch.no_grad()
    def reset(self) -> np.ndarray:
        """Start a new episode everywhere: obs (num_envs, num_obs). A seed given takes effect."""
        first = self._seeds[0]
        obs, _ = self.env.reset(seed=None if first is None else first % 2**31)
        self._reset_seeds()
        self._reset_options()
        return _numpy(obs)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions (num_envs, num_actions) for `step_wait`."""
        self._actions = torch.as_tensor(actions, dtype=self.env.dtype, device=self.env.device)

    @torch.no_grad()
    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Advance by one control step: obs, reward (num_envs,), done (num_envs,), an info each."""
        obs, reward, terminated, truncated, info = self.env.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        done = _numpy(terminated | truncated)
        if done.any():
            last, timed_out = _numpy(info["final_obs"]), _numpy(truncated & ~terminated)
            for index in np.flatnonzero(done):
                infos[index] = {
                    "terminal_observation": last[index],
                    "TimeLimit.truncated": bool(timed_out[index]),
                }
        return _numpy(obs), _numpy(reward), done, infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The environment's attribute, once for every index."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"set_attr: {attr_name!r} cannot be set for environments apart")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refused.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"env_method: {method_name!r} cannot be called for environments apart; use `env`"
        )

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> Sequence[bool]:
        """False for every index: environments of this kind have no wrappers apart."""
        return [False for _ in self._get_indices(indices)]


def _numpy(values: torch.Tensor) -> np.ndarray:
    """A copy, as Stable-Baselines3 adds to rewards in place."""
    return np.array(values.cpu().numpy())
