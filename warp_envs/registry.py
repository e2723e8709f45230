"""Environments by name, the project's and anyone's."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import gymnasium

from warp_envs.checks import ArgumentError, check_choice, near_matches
from warp_envs.references import is_reference, load_reference

if TYPE_CHECKING:
    import torch

    from warp_envs.vector_env import DifferentiableVectorEnv

_UNLISTED = ("num_envs", "device", "dtype", "seed", "num_blocks")
"""Options that all environments share, which no configuration file lists."""

_ENVS: dict[str, str | type[DifferentiableVectorEnv]] = {
    "dejong": "warp_envs.landscapes:DeJongEnv",
    "ackley": "warp_envs.landscapes:AckleyEnv",
    "cartpole": "warp_envs.robots.cartpole:CartpoleEnv",
    "ant": "warp_envs.robots.ant:AntEnv",
    "ant_dflex": "warp_envs.robots.ant:AntDflexEnv",
    "hopper": "warp_envs.robots.hopper:HopperEnv",
    "half_cheetah": "warp_envs.robots.half_cheetah:HalfCheetahEnv",
    "humanoid": "warp_envs.robots.humanoid:HumanoidEnv",
    "humanoid_dflex": "warp_envs.robots.humanoid:HumanoidDflexEnv",
    "anymal": "warp_envs.robots.anymal:AnymalEnv",
    "pace_car": "warp_envs.traffic.pace_car:PaceCarEnv",
    "ring": "warp_envs.traffic.ring:RingEnv",
    "merge": "warp_envs.traffic.merge:MergeEnv",
    "bottleneck": "warp_envs.traffic.bottleneck:BottleneckEnv",
    "robot": "warp_envs.robots.any_robot:RobotEnv",
}
"""Name -> "module:Class", imported when one is made, or the class itself."""

_OF_LANDSCAPES = ("landscapes:check_landscape",)
_OF_ROBOTS = ("robots:check_articulated",)
_OF_DRIVERS = ("parameters:check_varying",)
_OF_NETWORKS = (*_OF_DRIVERS, "traffic:check_network")
_CHECKS: Mapping[str, tuple[str, ...]] = {
    "dejong": _OF_LANDSCAPES,
    "ackley": _OF_LANDSCAPES,
    "cartpole": _OF_ROBOTS,
    "ant": _OF_ROBOTS,
    "ant_dflex": _OF_ROBOTS,
    "hopper": _OF_ROBOTS,
    "half_cheetah": _OF_ROBOTS,
    "humanoid": _OF_ROBOTS,
    "humanoid_dflex": _OF_ROBOTS,
    "anymal": _OF_ROBOTS,
    "robot": (*_OF_ROBOTS, "robots:check_robot"),
    "pace_car": (*_OF_DRIVERS, "traffic:check_pace_car"),
    "ring": (*_OF_DRIVERS, "traffic:check_ring"),
    "merge": ("traffic:check_merge", *_OF_NETWORKS),
    "bottleneck": ("traffic:check_bottleneck", *_OF_NETWORKS),
}
"""Name -> what of `warp_envs.options` its class checks its options by."""

_EPISODE_STEPS: Mapping[str, int] = {
    "dejong": 1,
    "ackley": 1,
    "cartpole": 240,
    "ring": 3000,
    "merge": 750,
    "bottleneck": 1500,
}
"""What Gymnasium is told of built-in environments, whose classes are not imported for it."""
_DEFAULT_EPISODE_STEPS = 1000


def env_ids() -> tuple[str, ...]:
    """The names that `make` accepts, beside references ``module:Class``."""
    return tuple(_ENVS)


def register(name: str, env: str | type[DifferentiableVectorEnv]) -> None:
    """Let `make`, ``gippo train env=NAME`` in this process and Gymnasium know an environment.

    Without this, ``module:Class`` names it as well, in any process.

    Args:
        name: lower case, digits and underscores, as "half_cheetah".
        env: the subclass of `DifferentiableVectorEnv`, or "module:Class", imported when first made.

    Raises:
        ArgumentError: a name that is taken or not of this form, or no such class.
    """
    if not isinstance(name, str) or re.fullmatch(r"[a-z][a-z0-9_]*", name) is None:
        raise ArgumentError("name", repr(name), "lower-case letters, digits and underscores")
    if _ENVS.get(name, env) != env:
        raise ArgumentError("name", repr(name), "a name that is not taken")
    if isinstance(env, str):
        if not is_reference(env):
            raise ArgumentError("env", repr(env), "a class or 'module:Class'")
    else:
        _check_class("env", env)
    if name in _ENVS:
        return
    _ENVS[name] = env
    limit = None if isinstance(env, str) else getattr(env, "max_episode_steps", None)
    _register_with_gymnasium(name, limit)


def env_class(env_id: str) -> type[DifferentiableVectorEnv]:
    """The class of an environment, imported now if need be.

    Args:
        env_id: one of `env_ids()`, or ``module:Class``.

    Raises:
        ArgumentError: there is none.
    """
    if isinstance(env_id, str) and is_reference(env_id):
        return _check_class("env_id", load_reference("env_id", env_id))
    check_choice("env_id", env_id, _ENVS)
    found = _ENVS[env_id]
    if not isinstance(found, str):
        return found
    try:
        return _check_class("env_id", load_reference("env_id", found))
    except ArgumentError as error:
        hint = f"{error.hint}; it is registered as {env_id!r}"
        raise ArgumentError(error.key, error.given, error.accepted, hint) from error


def env_source(env_id: str) -> tuple[str, str]:
    """The module and the name of an environment's class; a built-in one is not imported."""
    found = env_id if is_reference(env_id) else _ENVS[env_id]
    if isinstance(found, str):
        module, _, name = found.partition(":")
        return module, name
    return found.__module__, found.__qualname__


def _check_class(key: str, found: Any) -> type[DifferentiableVectorEnv]:
    # torch and Warp, needed from here on
    from warp_envs.declarations import check_class
    from warp_envs.vector_env import DifferentiableVectorEnv

    if not isinstance(found, type) or not issubclass(found, DifferentiableVectorEnv):
        accepted = "a subclass of warp_envs.DifferentiableVectorEnv"
        raise ArgumentError(key, getattr(found, "__qualname__", repr(found)), accepted)
    check_class(found)
    return found


def make(
    env_id: str,
    *,
    num_envs: int,
    device: str = "cpu",
    seed: int = 0,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> DifferentiableVectorEnv:
    """Make `num_envs` differentiable copies of an environment on a device.

    Args:
        env_id: one of `env_ids()`, or ``module:Class`` of one's own.
        num_envs: copies stepped together.
        device: "cpu" or "cuda:0".
        seed: of the random initial states.
        dtype: torch.float32, also meant by None, or torch.float64 for verification.
        options: the environment's own, as ``dim=64`` for "dejong".

    Raises:
        ValueError: an unknown id or option, or a value out of range; the message names it and
            says what is accepted.
    """
    factory = cast("Any", env_class(env_id))
    known = env_options(env_id)
    for name in options:
        if name not in known and name not in _UNLISTED:
            accepted = f"one of {[*known, *_UNLISTED]}"
            raise ArgumentError(
                name, f"no option of {env_id!r}", accepted, near_matches(name, known)
            )
    for name, default in known.items():
        if default is inspect.Parameter.empty and name not in options:
            raise ArgumentError(name, f"not given, but {env_id!r} needs it")
    if dtype is not None:
        options["dtype"] = dtype
    env = factory(num_envs=num_envs, device=device, seed=seed, **options)
    if "num_envs" not in vars(env):
        key = f"{type(env).__name__}.__init__"
        raise ArgumentError(key, "no call of super().__init__(**options)", "one, at its end")
    return env


def env_options(env_id: str) -> dict[str, Any]:
    """The options of an environment beyond those that all share, with their defaults.

    The time limit's is the class's; `inspect.Parameter.empty` stands for an option that must be
    given.
    """
    cls = env_class(env_id)
    options = {
        p.name: p.default
        for p in inspect.signature(cls).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name not in _UNLISTED
    }
    if options.get("max_episode_steps", 0) is None:
        options["max_episode_steps"] = getattr(cls, "max_episode_steps", None)
    return options


def check_options(env_id: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a built-in environment would, without importing torch, Warp or a robot.

    What only its robot's file can tell, a joint's name for instance, is not looked at, nor are
    options of other environments, nor a list that lacks some.

    Args:
        env_id: one of `env_ids()`, or any other name.
        options: beyond those that all environments share.

    Raises:
        ArgumentError: naming the option, its value and what is accepted.
    """
    for place in _CHECKS.get(env_id, ()):
        module, _, name = place.partition(":")
        check = getattr(importlib.import_module(f"warp_envs.options.{module}"), name)
        names = inspect.signature(check).parameters
        if all(name in options for name in names):
            check(**{name: options[name] for name in names})


def gymnasium_id(env_id: str) -> str:
    """The name under which Gymnasium knows an environment: "ant_dflex" is "gippo/AntDflex-v0"."""
    return f"gippo/{env_id.title().replace('_', '')}-v0"


def register_all_with_gymnasium() -> None:
    """Let ``gymnasium.make_vec("gippo/Ant-v0", num_envs=64)`` make what `make` makes.

    Options, device, dtype and seed go along as keywords. These environments are vectorised by
    themselves: Gymnasium refuses its modes "sync" and "async" for them, and `gymnasium.make`.
    """
    for env_id in _ENVS:
        limit = _EPISODE_STEPS.get(env_id, _DEFAULT_EPISODE_STEPS)
        _register_with_gymnasium(env_id, limit)


def _register_with_gymnasium(env_id: str, max_episode_steps: int | None) -> None:
    gymnasium.register(
        gymnasium_id(env_id),
        vector_entry_point=f"{__name__}:{make.__name__}",
        max_episode_steps=max_episode_steps,
        kwargs={"env_id": env_id},
    )
