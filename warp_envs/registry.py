"""Environments by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import gymnasium
import torch

from warp_envs.checks import ArgumentError, check_choice, near_matches
from warp_envs.landscapes import AckleyEnv, DeJongEnv
from warp_envs.robots.ant import AntDflexEnv, AntEnv
from warp_envs.robots.any_robot import RobotEnv
from warp_envs.robots.cartpole import CartpoleEnv
from warp_envs.robots.hopper import HopperEnv
from warp_envs.traffic.pace_car import PaceCarEnv
from warp_envs.vector_env import DifferentiableVectorEnv

EnvFactory = Callable[..., DifferentiableVectorEnv]

_BASE_OPTIONS = ("num_envs", "device", "dtype", "seed")
_UNLISTED = (*_BASE_OPTIONS, "num_blocks")  # threads are `warp_envs.set_num_threads`'s to say

_FACTORIES: dict[str, EnvFactory] = {
    "dejong": DeJongEnv,
    "ackley": AckleyEnv,
    "cartpole": CartpoleEnv,
    "ant": AntEnv,
    "ant_dflex": AntDflexEnv,
    "hopper": HopperEnv,
    "pace_car": PaceCarEnv,
    "robot": RobotEnv,
}


def env_ids() -> tuple[str, ...]:
    """The names that `make` accepts."""
    return tuple(_FACTORIES)


def make(
    env_id: str,
    *,
    num_envs: int,
    device: str = "cpu",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> DifferentiableVectorEnv:
    """Make `num_envs` differentiable copies of an environment on a device.

    Args:
        env_id: one of `env_ids()`.
        num_envs: copies stepped together.
        device: "cpu" or "cuda:0".
        seed: of the random initial states.
        dtype: torch.float32, or torch.float64 for verification.
        options: the environment's own, as ``dim=64`` for "dejong".

    Raises:
        ValueError: an unknown id or option, or a value out of range; the message names it and
            says what is accepted.
    """
    check_choice("env_id", env_id, _FACTORIES)
    factory = _FACTORIES[env_id]
    known = env_options(env_id)
    for name in options:
        if name not in known:
            accepted = f"one of {[*known, *_BASE_OPTIONS]}"
            hint = near_matches(name, known)
            raise ArgumentError(name, f"no option of {env_id!r}", accepted, hint)
    for name in _required_options(env_id):
        if name not in options:
            raise ArgumentError(name, f"not given, but {env_id!r} needs it")
    return factory(num_envs=num_envs, device=device, seed=seed, dtype=dtype, **options)


def gymnasium_id(env_id: str) -> str:
    """The name under which Gymnasium knows an environment: "ant_dflex" is "gippo/AntDflex-v0"."""
    return f"gippo/{env_id.title().replace('_', '')}-v0"


def register_with_gymnasium() -> None:
    """Let ``gymnasium.make_vec("gippo/Ant-v0", num_envs=64)`` make what `make` makes.

    Options, device, dtype and seed go along as keywords. These environments are vectorised by
    themselves: Gymnasium refuses its modes "sync" and "async" for them, and `gymnasium.make`.
    """
    for env_id in _FACTORIES:
        defaults = {parameter.name: parameter.default for parameter in _own_parameters(env_id)}
        gymnasium.register(
            gymnasium_id(env_id),
            vector_entry_point=f"{__name__}:{make.__name__}",
            max_episode_steps=defaults.get("max_episode_steps"),
            kwargs={"env_id": env_id},
        )


def env_options(env_id: str) -> tuple[str, ...]:
    """The options of an environment beyond those that all share."""
    return tuple(parameter.name for parameter in _own_parameters(env_id))


def _required_options(env_id: str) -> tuple[str, ...]:
    return tuple(p.name for p in _own_parameters(env_id) if p.default is inspect.Parameter.empty)


def _own_parameters(env_id: str) -> list[inspect.Parameter]:
    return [
        parameter
        for parameter in inspect.signature(_FACTORIES[env_id]).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name not in _UNLISTED
    ]
