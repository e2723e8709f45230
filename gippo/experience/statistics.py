"""Returns and lengths of finished training episodes, smoothed as the paper's authors do."""

from __future__ import annotations

import math
from typing import Any

import torch

from gippo.distributed import SINGLE, Ranks
from gippo.experience.rollout import Rollout

MEMORY = 100
"""Episodes that a smoothed mean remembers."""


class SmoothedMean:
    """A mean over about the last `MEMORY` values.

    k new ones: mean <- (mean (100 - k) + their sum)/100. Until 100 have been seen the old mean
    weighs as many as it is of, and 100 or more new ones replace it.
    """

    def __init__(self) -> None:
        self.mean = math.nan
        self.count = 0

    def update(self, values: torch.Tensor) -> None:
        """Take in new values (k,), k >= 1."""
        new = min(values.numel(), MEMORY)
        old = min(MEMORY - new, self.count)
        new_mean = values.double().mean().item()
        self.mean = new_mean if old == 0 else (self.mean * old + new_mean * new) / (old + new)
        self.count = old + new


class EpisodeStatistics:
    """Undiscounted returns of the episodes that training has finished."""

    def __init__(self, num_envs: int) -> None:
        self.num_episodes = 0
        self.best_return = math.nan
        """The highest smoothed return at any epoch's end: a run's score."""
        self._returns = SmoothedMean()
        self._lengths = SmoothedMean()
        self._return = torch.zeros(num_envs, dtype=torch.float64)
        self._length = torch.zeros(num_envs, dtype=torch.float64)

    def leave_out(self, copies: torch.Tensor) -> None:
        """Keep the episodes under way of some copies, bool (num_envs,), out of the means."""
        self._return[copies] = math.nan

    def update(self, rollout: Rollout, ranks: Ranks = SINGLE) -> None:
        """Take in a window of all processes, step by step."""
        both = torch.stack([rollout.reward.double(), rollout.done.double()])
        reward, ended = ranks.joined(both, dim=2).cpu()  # a device is waited for once
        done = ended.bool()
        for t in range(len(reward)):
            self._return += reward[t]
            self._length += 1.0
            if bool(done[t].any()):
                self._finish(done[t])
        mean = self._returns.mean
        if not math.isnan(mean) and not self.best_return >= mean:
            self.best_return = mean

    def _finish(self, done: torch.Tensor) -> None:
        """Take in the episodes that have ended; one whose return is not finite counts only."""
        known = done & torch.isfinite(self._return)
        if bool(known.any()):
            self._returns.update(self._return[known])
            self._lengths.update(self._length[known])
        self.num_episodes += int(done.sum())
        self._return[done] = 0.0
        self._length[done] = 0.0

    def metrics(self) -> dict[str, float]:
        """Smoothed return and length, best return (NaN before an episode has ended), a count."""
        return {
            "episode_return": self._returns.mean,
            "episode_length": self._lengths.mean,
            "best_return": self.best_return,
            "num_episodes": float(self.num_episodes),
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything."""
        return {
            "num_episodes": self.num_episodes,
            "best_return": self.best_return,
            "returns": vars(self._returns).copy(),
            "lengths": vars(self._lengths).copy(),
            "running_return": self._return.clone(),
            "running_length": self._length.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self.num_episodes = int(state["num_episodes"])
        self.best_return = float(state["best_return"])
        for mean, saved in ((self._returns, state["returns"]), (self._lengths, state["lengths"])):
            mean.mean, mean.count = float(saved["mean"]), int(saved["count"])
        self._return = state["running_return"].clone()
        self._length = state["running_length"].clone()
