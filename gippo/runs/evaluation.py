"""How well a policy does: whole episodes, each from its own start."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gippo.configuration.policies import check_policy, trained_policies
from gippo.configuration.run_config import TrainConfig, folder_of, load_config
from gippo.environment import make_env
from gippo.runs.acting import Acting, MakeActing, begin_anew, named, trained
from gippo.runs.plots import half_width
from warp_envs.checks import check_flag, check_integer

AT_ONCE = 1024
"""Copies of the environment, at most."""


@dataclass(frozen=True)
class Evaluation:
    """What a policy's episodes gave, in the order of their starts."""

    returns: list[float]
    """Undiscounted."""
    lengths: list[int]
    """In control steps."""
    reward_terms: dict[str, float]
    """Each term's sum over an episode, mean over episodes."""
    num_diverged: int
    """Episodes that ended because the simulation was no longer finite."""

    @property
    def mean(self) -> float:
        """Of the returns."""
        return statistics.fmean(self.returns)

    @property
    def std(self) -> float:
        """Of the returns, with n - 1; NaN of one episode."""
        return statistics.stdev(self.returns) if len(self.returns) > 1 else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The mean's 95 % confidence interval, by Student's t; NaN of one episode."""
        half = half_width(statistics.pstdev(self.returns), len(self.returns))
        return self.mean - half, self.mean + half


def evaluate(
    run_dir: str | Path | None = None,
    *,
    num_episodes: int = 100,
    deterministic: bool = True,
    checkpoint: str = "best",
    seed: int = 0,
    device: str | None = None,
    env: Mapping[str, Any] | None = None,
    policy: str | None = None,
    policy_options: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Let a policy act for whole episodes of the environment it was trained on, or another.

    Every episode has a copy of its own and is counted once: counted as they end, in a fixed number
    of steps, short episodes would weigh more.

    Args:
        run_dir: the run's folder; None where `policy` is given, with `env` if made by hand.
        num_episodes: how many.
        deterministic: act by the policy's mean instead of sampling.
        checkpoint: "best", "newest" or a file's path.
        seed: of initial states and, if asked for, exploration.
        device: instead of the run's.
        env: id and options of another environment for the policy, instead of the run's.
        policy: name of a policy that acts in place of the run's: a trained one that comes with
            gippo (``gippo list policies``), one made by hand, or ``module:Class``.
        policy_options: of one made by hand.

    Raises:
        UserError: no run there, a checkpoint that is damaged, or a policy that does not fit.
        ArgumentError: `num_episodes` below one, `seed` out of range, an unknown policy or option.
    """
    check_integer("num_episodes", num_episodes, 1)
    check_integer("seed", seed, 0, 2**31 - 1)
    check_flag("deterministic", deterministic)
    if policy is not None:
        check_policy(policy)
    config = None
    folder = trained_policies().get(policy or "") if run_dir is None else folder_of(run_dir)
    if folder is not None or policy is None or env is None:
        config = load_config(folder_of(folder))  # which refuses None
    settings = env if env is not None or config is None else config.env
    where = device or (config.device if config else "cpu")
    if policy is not None:
        options = policy_options or {}
        acting = named(policy, options, checkpoint=checkpoint, device=device, seed=seed)
    else:
        assert config is not None and folder is not None
        acting = trained(config, folder, checkpoint, device=device, seed=seed)
    parts = []
    for first in range(0, num_episodes, AT_ONCE):
        count = min(AT_ONCE, num_episodes - first)
        made = _environment(dict(settings or {}), count, first, where, seed)
        parts.append(one_episode_each(made, acting, seed, deterministic))
    names = parts[0].reward_terms
    weights = [len(part.returns) / num_episodes for part in parts]
    return Evaluation(
        [value for part in parts for value in part.returns],
        [value for part in parts for value in part.lengths],
        {n: sum(w * p.reward_terms[n] for w, p in zip(weights, parts, strict=True)) for n in names},
        sum(part.num_diverged for part in parts),
    )


class Evaluator:
    """Evaluates a policy that changes, over and over from the same starts."""

    def __init__(self, config: TrainConfig, device: str) -> None:
        """Make the environments, `config.evaluate_episodes` of them, on a device."""
        self._seed = config.seed
        self._batches = [
            _environment(
                config.env,
                min(AT_ONCE, config.evaluate_episodes - first),
                first,
                device,
                config.seed,
            )
            for first in range(0, config.evaluate_episodes, AT_ONCE)
        ]

    def __call__(self, act: Acting) -> dict[str, float]:
        """``evaluation_return`` and ``evaluation_length``, means over episodes, of `act`."""
        parts = [one_episode_each(env, lambda _: act, self._seed) for env in self._batches]
        returns = [value for part in parts for value in part.returns]
        lengths = [value for part in parts for value in part.lengths]
        return {
            "evaluation_return": statistics.fmean(returns),
            "evaluation_length": statistics.fmean(lengths),
        }


def _environment(
    settings: Mapping[str, Any], count: int, first: int, device: str, seed: int
) -> Any:
    """Copies of an environment, those of numbers from `first` on."""
    env = make_env(dict(settings), num_envs=count, device=device, seed=seed)
    env.number_from(first)
    return env


@torch.no_grad()
def one_episode_each(
    env: Any, acting: MakeActing, seed: int, deterministic: bool = True
) -> Evaluation:
    """The first episode of every copy of an environment, from its reset with `seed`."""
    obs, _ = env.reset(seed=seed)
    policy = acting(env)
    count, device = env.num_envs, obs.device
    total = torch.zeros(count, dtype=torch.float64, device=device)
    terms = {name: torch.zeros_like(total) for name in env.reward_terms}
    length = torch.zeros(count, dtype=torch.int64, device=device)
    under_way = torch.ones(count, dtype=torch.bool, device=device)
    diverged = torch.zeros_like(under_way)
    for _ in range(env.max_episode_steps):
        obs, reward, terminated, truncated, info = env.step(policy(obs, deterministic))
        total += torch.where(under_way, reward, 0.0)
        for name, term in info["reward_terms"].items():
            terms[name] += torch.where(under_way & ~info["diverged"], term, 0.0)
        length += under_way
        diverged |= under_way & info["diverged"]
        under_way &= ~(terminated | truncated)
        if not bool(under_way.any()):
            break
        begin_anew(policy, terminated | truncated)
    means = {name: float(values.mean()) for name, values in terms.items()}
    return Evaluation(total.tolist(), length.tolist(), means, int(diverged.sum()))
