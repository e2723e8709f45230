"""Environments for torchrl (Bou et al. 2023)."""

from __future__ import annotations

import torch

from warp_envs.vector_env import DifferentiableVectorEnv

try:
    from tensordict import TensorDict, TensorDictBase  # pyright: ignore[reportMissingImports]
    from torchrl.data import (  # pyright: ignore[reportMissingImports]
        Binary,
        Bounded,
        Composite,
        Unbounded,
    )
    from torchrl.envs import EnvBase  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError("torchrl is not installed: pip install '.[adapters]'") from error


class TorchRLEnv(EnvBase):
    """An environment as torchrl's collectors want it, of batch size (num_envs,).

    Torchrl resets what has ended by itself. So a step's next observation is the last one of an
    episode that it ends, and the reset that follows hands out the start that the environment has
    made already. Environments that torchrl resets earlier, as its `StepCounter` does, start anew.
    """

    def __init__(self, env: DifferentiableVectorEnv) -> None:
        """Take over `env`; it keeps its seed until `set_seed` gives another."""
        n = env.num_envs
        super().__init__(device=env.device, batch_size=[n])
        self.env = env
        real = {"device": env.device, "dtype": env.dtype}
        flag = {"device": env.device, "dtype": torch.bool}
        flags = {name: Binary(shape=(n, 1), **flag) for name in ("done", "terminated", "truncated")}
        self.observation_spec = Composite(
            observation=Unbounded((n, env.num_obs), **real), shape=(n,), device=env.device
        )
        self.action_spec = Bounded(-1.0, 1.0, (n, env.num_actions), **real)
        self.reward_spec = Unbounded((n, 1), **real)
        self.done_spec = Composite(flags, shape=(n,), device=env.device)
        self._started = torch.zeros(n, dtype=torch.bool, device=env.device)

    @torch.no_grad()
    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        _, reward, terminated, truncated, info = self.env.step(tensordict["action"])
        truncated = truncated & ~terminated
        self._started = terminated | truncated
        content = {
            "observation": info["final_obs"],
            "reward": reward[:, None],
            "done": self._started[:, None],
            "terminated": terminated[:, None],
            "truncated": truncated[:, None],
        }
        return TensorDict(content, batch_size=self.batch_size, device=self.device)

    @torch.no_grad()
    def _reset(self, tensordict: TensorDictBase | None, **_: object) -> TensorDictBase:
        wanted = None if tensordict is None else tensordict.get("_reset", None)
        if wanted is None:
            self.env.reset()
        else:
            self._start_anew(wanted.view(-1) & ~self._started)
        self._started = torch.zeros_like(self._started)
        obs = {"observation": self.env.observe()}
        return TensorDict(obs, batch_size=self.batch_size, device=self.device)

    def _start_anew(self, these: torch.Tensor) -> None:
        """Reset some environments (num_envs,) and leave the others where they are."""
        if not bool(these.any()):
            return
        before = self.env.get_state()
        self.env.reset()
        after = self.env.get_state()
        rows = [name for name, value in before.items() if len(value) == self.env.num_envs]
        mixed = {}
        for name in rows:
            mask = these.view(-1, *[1] * (before[name].dim() - 1))
            mixed[name] = torch.where(mask, after[name], before[name])
        self.env.set_state(mixed)

    def _set_seed(self, seed: int | None) -> None:
        if seed is not None:
            self.env.reset(seed=seed % 2**31)
