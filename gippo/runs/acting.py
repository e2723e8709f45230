"""Whoever acts in an environment: a run's policy, or one that has a name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from gippo.configuration.actors import Actor
from gippo.configuration.policies import BY_HAND, check_policy, trained_policies
from gippo.configuration.run_config import TrainConfig, load_config
from gippo.environment import make_env
from gippo.errors import UserError
from gippo.runs.checkpoint import checkpoint_of, read
from gippo.runs.policy import Policy
from warp_envs.checks import ArgumentError, near_matches
from warp_envs.references import load_reference


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


def named(
    name: str,
    options: Mapping[str, Any],
    *,
    checkpoint: str = "best",
    device: str | None = None,
    seed: int = 0,
) -> MakeActing:
    """A policy that comes with gippo, or one made by hand, ``Class(env, **options)``.

    Args:
        name: one of `gippo.configuration.policies`, or ``module:Class`` of one's own.
        options: keyword arguments of one made by hand.
        checkpoint: a run's matter: "best" alone is accepted.
        device: of a trained one, instead of its run's.
        seed: of its exploration, when that is asked for.

    Raises:
        ArgumentError: there is none of the name, it has no such option, or a checkpoint is named.
    """
    check_policy(name)
    if checkpoint != "best":
        raise ArgumentError("checkpoint", repr(checkpoint), "none (a policy is named)")
    folder = trained_policies().get(name)
    if folder is not None:
        _check_options(options, [])
        return trained(load_config(folder), folder, "best", device=device, seed=seed)
    cls = load_reference("policy", BY_HAND.get(name, name))
    if not callable(cls):
        raise ArgumentError("policy", repr(name), "a class that is made with an environment")
    parameters = inspect.signature(cls).parameters.values()
    _check_options(options, [p.name for p in parameters if p.kind is p.KEYWORD_ONLY])

    def acting(env: Any) -> Acting:
        try:
            return cast("Any", cls)(env, **options)
        except ArgumentError as error:
            raise UserError(str(error)) from error

    return acting


def _check_options(options: Mapping[str, Any], known: Sequence[str]) -> None:
    for option in options:
        if option not in known:
            accepted = f"one of {list(known)}" if known else "none"
            hint = near_matches(option, known)
            raise ArgumentError(f"policy.{option}", "no option", accepted, hint)


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
        acting = named(actor.policy, actor.options, checkpoint=checkpoint, device=device, seed=seed)
    else:
        assert config is not None and actor.run_dir is not None
        acting = trained(config, actor.run_dir, checkpoint, device=device, seed=seed)
    return make_env(actor.env, num_envs=num_envs, device=where, seed=seed), acting


def begin_anew(acting: Acting, ended: torch.Tensor) -> None:
    """Tell who acts which episodes have ended, bool (num_envs,), if it keeps anything of them."""
    reset = getattr(acting, "reset", None)
    if reset is not None:
        reset(ended)
