"""A trained policy by itself, as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gippo.configuration.run_config import folder_of, load_config
from gippo.errors import UserError
from gippo.learner import LearnerConfig
from gippo.networks.adam import ParameterVector
from gippo.networks.normalization import RunningStatistics, identity
from gippo.networks.perceptron import GaussianActor
from gippo.runs.checkpoint import checkpoint_of, difference, read, unsound
from warp_envs.bridge.devices import check_device, check_finite, check_tensor
from warp_envs.checks import check_integer

LAYER = "mlp.weights."
"""What a checkpoint calls a layer's weights, before its number."""


class Policy:
    """Actions for observations, with the observation normaliser inside; it needs no environment."""

    def __init__(
        self,
        config: LearnerConfig,
        state: Mapping[str, Any],
        *,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        """Take the policy out of a learner's state.

        Args:
            config: the one it was trained with.
            state: `gippo.learner.Learner.state_dict`'s.
            device: where it acts.
            seed: of the exploration, when it is asked for.

        Raises:
            UserError: the state holds no policy of this config.
        """
        check_integer("seed", seed, 0, 2**31 - 1)
        first, last = _ends(state.get("actor"))
        self.num_obs: int = first.shape[-1]
        heads = 1 if config.actor.log_sigma == "state_independent" else 2  # mean and log sigma
        self.num_actions: int = len(last) // heads
        self.dtype: torch.dtype = first.dtype
        self.device = torch.device(check_device(device))
        self.actor = GaussianActor(
            self.num_obs,
            config.actor.hidden,
            self.num_actions,
            generator=torch.Generator().manual_seed(seed),
            dtype=self.dtype,
            **config.actor.form,
        ).to(self.device)
        self.normalizer = identity(self.dtype, self.device)
        """Of observations."""
        self._generator = torch.Generator(self.device).manual_seed(seed)
        parameters = ParameterVector(self.actor)
        statistics = RunningStatistics((self.num_obs,), self.device)
        wanted = {"actor": parameters.state_dict(), "obs_statistics": statistics.state_dict()}
        given = {name: state.get(name) for name in wanted}
        problem = difference(given, wanted, "learner")
        if problem is not None:
            raise UserError(f"checkpoint: it does not fit its configuration ({problem})")
        problem = unsound(given, "learner")
        if problem is not None:
            raise UserError(f"checkpoint: no policy can act by it ({problem})")
        parameters.load_state_dict(state["actor"])
        if config.normalize_obs:
            statistics.load_state_dict(state["obs_statistics"])
            self.normalizer = statistics.frozen(self.dtype)

    def check_fits(self, env: Any) -> None:
        """Raise UserError unless the policy's sizes are those of a vector environment."""
        (num_obs,) = env.single_observation_space.shape
        (num_actions,) = env.single_action_space.shape
        if (num_obs, num_actions) != (self.num_obs, self.num_actions):
            raise UserError(
                f"checkpoint: it does not fit this environment (observations and actions: "
                f"{self.num_obs} and {self.num_actions} given, {num_obs} and {num_actions} "
                "accepted)"
            )

    @torch.no_grad()
    def __call__(self, obs: torch.Tensor, deterministic: bool = True) -> torch.Tensor:
        """Actions in [-1, 1], (n, num_actions), for observations (n, num_obs).

        Args:
            obs: as the environment gives them, of `dtype` on `device`.
            deterministic: the policy's mean instead of a sample.

        Raises:
            ArgumentError: observations of another shape, dtype or device; on a CPU also ones that
                are not finite.
        """
        rows = len(obs) if isinstance(obs, torch.Tensor) and obs.ndim == 2 else -1
        check_tensor("obs", obs, (rows, self.num_obs), self.dtype, self.device)
        check_finite("obs", obs)
        mu, log_sigma = self.actor.forward(self.normalizer.normalize(obs))
        if not deterministic:
            noise = torch.empty_like(mu).normal_(generator=self._generator)
            mu = mu + torch.exp(log_sigma) * noise
        return torch.tanh(mu)


def load_policy(
    run_dir: str | Path, *, checkpoint: str = "best", device: str = "cpu", seed: int = 0
) -> Policy:
    """The policy of a training run.

    Args:
        run_dir: the run's folder.
        checkpoint: "best", "newest" or a file's path.
        device: where it acts.
        seed: of the exploration, when it is asked for.

    Raises:
        UserError: no run there, no such checkpoint, or a damaged one.
        ArgumentError: no path, device or seed.
    """
    folder = folder_of(run_dir)
    config = load_config(folder)
    state = read(checkpoint_of(folder, checkpoint))["learner"]
    return Policy(config.learner_config, state, device=device, seed=seed)


def _ends(parameters: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the last layer's weights, (outputs, inputs) each, as a checkpoint gives them.

    Raises:
        UserError: there are none, or they are not matrices of floating-point numbers.
    """
    named = parameters if isinstance(parameters, Mapping) else {}
    layers = sum(isinstance(name, str) and name.startswith(LAYER) for name in named)
    return _matrix(named.get(f"{LAYER}0")), _matrix(named.get(f"{LAYER}{layers - 1}"))


def _matrix(weights: Any) -> torch.Tensor:
    if (
        isinstance(weights, torch.Tensor)
        and weights.layout == torch.strided
        and weights.ndim == 2
        and weights.dtype in (torch.float32, torch.float64)
        and weights.is_contiguous()  # else it may claim a size that no memory stands behind
    ):
        return weights
    raise UserError("checkpoint: no policy in it")
