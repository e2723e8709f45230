"""A trained policy by itself, as a checkpoint holds it."""

from __future__ import annotations

from typing import Any

import torch

from gippo.errors import UserError
from gippo.learner import LearnerConfig
from gippo.networks.adam import ParameterVector
from gippo.networks.normalization import RunningStatistics, identity
from gippo.networks.perceptron import GaussianActor
from gippo.runs.checkpoint import difference


class Policy:
    """Actions for the observations of any number of copies of the environment it was trained on."""

    def __init__(self, env: Any, config: LearnerConfig, state: dict[str, Any], seed: int) -> None:
        """Take the policy out of a learner's state.

        Args:
            env: gives sizes, dtype and device.
            config: the one it was trained with.
            state: `gippo.learner.Learner.state_dict`'s.
            seed: of the exploration, when it is asked for.

        Raises:
            UserError: the state does not fit the environment.
        """
        device, dtype = torch.device(env.device), env.dtype
        (num_obs,) = env.single_observation_space.shape
        (num_actions,) = env.single_action_space.shape
        self.actor = GaussianActor(
            num_obs,
            config.actor.hidden,
            num_actions,
            generator=torch.Generator().manual_seed(seed),
            dtype=dtype,
        ).to(device)
        self.normalizer = identity(dtype, device)
        """Of observations."""
        self._generator = torch.Generator(device).manual_seed(seed)
        parameters = ParameterVector(self.actor)
        statistics = RunningStatistics((num_obs,), device)
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
