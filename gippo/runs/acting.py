"""Whoever acts in an environment: a run's policy, or one made by hand, which has a name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from gippo.configuration.actors import Actor
from gippo.configuration.run_config import TrainConfig
from gippo.environment import make_env
from gippo.errors import UserError
from gippo.runs.checkpoint import checkpoint_of, read
from gippo.runs.policy import Policy
from warp_envs.checks import ArgumentError, check_choice, near_matches
from warp_envs.references import is_reference, load_reference

POLICIES: Mapping[str, str] = {
    "idm": "warp_envs.traffic.controllers:HumanDriver",
    "follower_stopper": "warp_envs.traffic.controllers:FollowerStopper",
    "pi_saturation": "warp_envs.traffic.controllers:PISaturation",
    "speed_limit": "warp_envs.traffic.controllers:SpeedLimit",
}
"""Name -> "module:Class" of what acts without training."""


class Acting(Protocol):
    """What chooses actions; one with a ``reset(ended)`` is told which episodes have ended."""

    def __call__(self, obs: torch.Tensor, deterministic: bool = True, /) -> torch.Tensor:
        """Actions (num_envs, num_actions) for observations (num_envs, num_obs)."""
        ...


MakeActing = Callable[[Any], Acting]
"""Who acts in an environment that has been made."""


def trained(
    config: TrainConfig, run_dir: Path, checkpoint: str, *, device: str | None, seed: int
) -> MakeActing:
    """The policy of a run, of which `config` is.

    Args:
        config: the run's.
        run_dir: its folder.
        checkpoint: "best", "newest" or a file's path.
        device: instead of the run's.
        seed: of the exploration, when it is asked for.

    Raises:
        UserError: no such checkpoint, or a damaged one.
    """
    state = read(checkpoint_of(run_dir, checkpoint))["learner"]
    policy = Policy(config.learner_config, state, device=device or config.device, seed=seed)

    def acting(env: Any) -> Acting:
        policy.check_fits(env)
        return policy

    return acting


def named(name: str, options: Mapping[str, Any]) -> MakeActing:
    """A policy made by hand, ``Class(env, **options)``.

    Args:
        name: one of `POLICIES`, or ``module:Class`` of one's own.
        options: keyword arguments of its own.

    Raises:
        ArgumentError: there is none of the name, or it has no such option.
    """
    if not is_reference(name):
        check_choice("policy", name, POLICIES)
    cls = load_reference("policy", POLICIES.get(name, name))
    if not callable(cls):
        raise ArgumentError("policy", repr(name), "a class that is made with an environment")
    parameters = inspect.signature(cls).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            accepted = f"one of {known}" if known else "none"
            hint = near_matches(option, known)
            raise ArgumentError(f"policy.{option}", "no option", accepted, hint)

    def acting(env: Any) -> Acting:
        try:
            return cast("Any", cls)(env, **options)
        except ArgumentError as error:
            raise UserError(str(error)) from error

    return acting


def make_acting(
    actor: Actor, *, num_envs: int, checkpoint: str, seed: int, device: str | None
) -> tuple[Any, MakeActing]:
    """An environment, and who acts there, as a command line says.

    Raises:
        UserError: no such checkpoint, or a damaged one; an option that is not accepted.
        ArgumentError: an unknown policy or option of it.
    """
    config = actor.config
    where = device or (config.device if config else "cpu")
    if actor.policy is not None:
        acting = named(actor.policy, actor.options)
    else:
        assert config is not None and actor.run_dir is not None
        acting = trained(config, actor.run_dir, checkpoint, device=device, seed=seed)
    return make_env(actor.env, num_envs=num_envs, device=where, seed=seed), acting


def begin_anew(acting: Acting, ended: torch.Tensor) -> None:
    """Tell who acts which episodes have ended, bool (num_envs,), if it keeps anything of them."""
    reset = getattr(acting, "reset", None)
    if reset is not None:
        reset(ended)
