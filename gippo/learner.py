"""The learner: one window of experience, one update of actor and critic, per epoch."""

from __future__ import annotations

from typing import Any

import torch

from gippo.config import LearnerConfig


class Learner:
    """Trains a policy on a differentiable vector environment."""

    num_epochs: int
    epoch: int
    """Epochs done."""
    env_steps: int
    """Environment steps done, over all environments."""

    def train_epoch(self) -> dict[str, float]:
        """Collect one window and update; see `gippo.learner` for the names returned."""
        raise NotImplementedError

    def act(self, obs: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        """Actions in [-1, 1], (n, num_actions), for raw observations (n, num_obs)."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Everything a bit-for-bit continuation needs: tensors and plain Python types."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        raise NotImplementedError


def make_learner(
    env: Any, config: LearnerConfig, method_config: Any, *, num_epochs: int, seed: int
) -> Learner:
    """A learner of the method whose config is given (LRConfig, RPConfig, PPOConfig, GIPPOConfig)."""
    raise NotImplementedError
