"""A trained policy by itself, as a checkpoint holds it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gippo.configuration.run_config import load_config
from gippo.errors import UserError
from gippo.learner import LearnerConfig
from gippo.networks.adam import ParameterVector
from gippo.networks.normalization import RunningStatistics, identity
from gippo.networks.perceptron import GaussianActor
from gippo.runs.checkpoint import checkpoint_of, difference, read


@dataclass(frozen=True)
class Boundary:
    """What a policy has to fit: sizes, type and place of observations and actions."""

    num_obs: int
    num_actions: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, env: Any) -> Boundary:
        """An environment's."""
        (num_obs,) = env.single_observation_space.shape
        (num_actions,) = env.single_action_space.shape
        return cls(num_obs, num_actions, env.dtype, torch.device(env.device))

    @classmethod
    def stored(cls, state: dict[str, Any], device: str) -> Boundary:
        """What the policy in a learner's state was trained for, on another device.

        Raises:
            UserError: the state holds no policy.
        """
        try:
            # The last matrix makes means and log standard deviations.
            heads = [value for value in state["actor"].values() if value.ndim == 2][-1]
            num_obs = len(state["obs_statistics"]["mean"])
            return cls(num_obs, len(heads) // 2, heads.dtype, torch.device(device))
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise UserError("checkpoint: it holds no policy") from error


class Policy:
    """Actions for the observations of any number of copies of the environment it was trained on."""

    def __init__(
        self, boundary: Boundary, config: LearnerConfig, state: dict[str, Any], seed: int
    ) -> None:
        """Take the policy out of a learner's state.

        Args:
            boundary: sizes, dtype and device.
            config: the one it was trained with.
            state: `gippo.learner.Learner.state_dict`'s.
            seed: of the exploration, when it is asked for.

        Raises:
            UserError: the state does not fit.
        """
        device, dtype = boundary.device, boundary.dtype
        self.num_obs, self.num_actions = boundary.num_obs, boundary.num_actions
        self.actor = GaussianActor(
            self.num_obs,
            config.actor.hidden,
            self.num_actions,
            generator=torch.Generator().manual_seed(seed),
            dtype=dtype,
        ).to(device)
        self.normalizer = identity(dtype, device)
        """Of observations."""
        self._generator = torch.Generator(device).manual_seed(seed)
        parameters = ParameterVector(self.actor)
        statistics = RunningStatistics((self.num_obs,), device)
        wanted = {"actor": parameters.state_dict(), "obs_statistics": statistics.state_dict()}
        given = {name: state.get(name) for name in wanted}
        problem = difference(given, wanted, "learner")
        if problem is not None:
            raise UserError(f"checkpoint: it does not fit this environment ({problem})")
        parameters.load_state_dict(state["actor"])
        if config.normalize_obs:
            statistics.load_state_dict(state["obs_statistics"])
            self.normalizer = statistics.frozen(dtype)

    @torch.no_grad()
    def act(self, obs: torch.Tensor, deterministic: bool = True) -> torch.Tensor:
        """Actions in [-1, 1], (n, num_actions), for observations (n, num_obs)."""
        mu, log_sigma = self.actor.forward(self.normalizer.normalize(obs))
        if not deterministic:
            noise = torch.empty_like(mu).normal_(generator=self._generator)
            mu = mu + torch.exp(log_sigma) * noise
        return torch.tanh(mu)

    def __call__(self, obs: torch.Tensor, deterministic: bool = True) -> torch.Tensor:
        """`act`."""
        return self.act(obs, deterministic)


def load_policy(
    run_dir: str | os.PathLike[str],
    *,
    checkpoint: str = "best",
    device: str = "cpu",
    seed: int = 0,
) -> Policy:
    """The policy of a run; neither its environment nor Warp is needed.

    ``policy(obs)`` gives actions in [-1, 1], (n, num_actions), for observations (n, num_obs) as the
    environment gives them: it normalises them itself.

    Args:
        run_dir: the run.
        checkpoint: "best", "newest", or the path of one.
        device: where it acts.
        seed: of the noise of ``policy(obs, deterministic=False)``.

    Raises:
        ValueError: there is no run or no checkpoint, or they do not belong together.
    """
    config = load_config(Path(run_dir))
    state = read(checkpoint_of(Path(run_dir), checkpoint))["learner"]
    return Policy(Boundary.stored(state, device), config.learner_config, state, seed)
