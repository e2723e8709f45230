"""What a trained policy earns, over whole episodes."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from gippo.configuration.run_config import load_config
from gippo.environment import make_env
from gippo.runs.checkpoint import checkpoint_of, read
from gippo.runs.policy import Boundary, Policy
from warp_envs.checks import check_integer

_MOST_ENVS = 256


class Episodes:
    """Returns and lengths of the episodes of vectorised environments, as their steps come in."""

    def __init__(self, num_envs: int) -> None:
        """Begin an episode in each of `num_envs` environments."""
        self.returns: list[list[float]] = [[] for _ in range(num_envs)]
        """Undiscounted, of the episodes that ended, per environment."""
        self.lengths: list[list[int]] = [[] for _ in range(num_envs)]
        """Their steps."""
        self.under_way = torch.zeros(num_envs, dtype=torch.float64)
        """The returns so far of the episodes that have not."""
        self._length = torch.zeros(num_envs, dtype=torch.int64)

    def count(self, reward: torch.Tensor, done: torch.Tensor) -> None:
        """Take in one step's rewards and which episodes ended with it, (num_envs,) each."""
        self.under_way += reward.double().cpu()
        self._length += 1
        for i in done.cpu().nonzero().flatten().tolist():
            self.returns[i].append(self.under_way[i].item())
            self.lengths[i].append(int(self._length[i]))
            self.under_way[i], self._length[i] = 0.0, 0


@dataclass(frozen=True)
class Evaluation:
    """Episodes of a policy."""

    returns: list[float]
    """Undiscounted."""
    lengths: list[int]
    """Their steps."""

    @property
    def mean(self) -> float:
        """Of the returns."""
        return statistics.fmean(self.returns)

    @property
    def std(self) -> float:
        """Standard deviation of the returns; NaN of a single one."""
        return statistics.stdev(self.returns) if len(self.returns) > 1 else float("nan")

    def __str__(self) -> str:
        count, length = len(self.returns), statistics.fmean(self.lengths)
        return f"{self.mean:.4g} +- {self.std:.3g} over {count} episodes of {length:.4g} steps"


@torch.no_grad()
def evaluate(
    run_dir: str | os.PathLike[str],
    *,
    num_episodes: int = 100,
    deterministic: bool = True,
    checkpoint: str = "best",
    seed: int = 0,
    device: str | None = None,
) -> Evaluation:
    """Let the policy of a run act for whole episodes.

    Each copy of the environment plays a number of episodes fixed beforehand: short episodes, which
    end first, are not counted more often than long ones.

    Args:
        run_dir: the run.
        num_episodes: in all.
        deterministic: act by the policy's mean; False: sample, as in training.
        checkpoint: "best", "newest", or the path of one.
        seed: of initial states and sampling.
        device: None: the run's.

    Raises:
        ValueError: no run or checkpoint there, or a count below one.
    """
    check_integer("num_episodes", num_episodes, 1)
    config = load_config(Path(run_dir))
    state = read(checkpoint_of(Path(run_dir), checkpoint))["learner"]
    num_envs = min(num_episodes, _MOST_ENVS)
    quotas = [num_episodes // num_envs + (i < num_episodes % num_envs) for i in range(num_envs)]
    env = make_env(config.env, num_envs=num_envs, device=device or config.device, seed=seed)
    policy = Policy(Boundary.of(env), config.learner_config, state, seed)
    episodes = Episodes(num_envs)
    obs, _ = env.reset(seed=seed)
    while any(len(r) < quota for r, quota in zip(episodes.returns, quotas, strict=True)):
        obs, reward, terminated, truncated, _ = env.step(policy.act(obs, deterministic))
        episodes.count(reward, terminated | truncated)
    pairs = list(zip(episodes.returns, episodes.lengths, quotas, strict=True))
    return Evaluation(
        [value for returns, _, quota in pairs for value in returns[:quota]],
        [value for _, lengths, quota in pairs for value in lengths[:quota]],
    )
