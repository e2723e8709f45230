"""Whom a command line lets act, and in which environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gippo.configuration.compose import configure, parse
from gippo.configuration.policies import check_policy, trained_policies
from gippo.configuration.run_config import TrainConfig, load_config
from gippo.environment import check_env
from gippo.errors import UserError
from warp_envs.checks import ArgumentError

KEYS = """\
  policy=NAME lets another act in the run's place: a trained policy that comes with gippo (gippo
  list policies), which brings its environment and needs no run; one made by hand, idm,
  follower_stopper (of env=ring and merge), pi_saturation (ring), speed_limit (bottleneck); or
  module:Class of one's own, whose options policy.KEY=value sets.

  env.KEY=value changes an option of the environment (env.asset, env.substeps, ...), and env=NAME
  takes another one, which must have as many observations and actions; with a policy made by hand
  env=NAME needs no run."""
"""What the keys that `read_actor` takes are, for a command's help."""


@dataclass(frozen=True)
class Actor:
    """Who acts, and where."""

    run_dir: Path | None
    """The run whose policy acts or whose environment is taken; None without a run."""
    config: TrainConfig | None
    """The run's, or the one that a trained policy comes with."""
    env: dict[str, Any]
    """id, num_envs and options of the environment."""
    policy: str | None
    """Name of a policy; None for the run's."""
    options: dict[str, Any]
    """Of that policy."""

    @property
    def name(self) -> str:
        """To people."""
        return str(self.run_dir) if self.policy is None else self.policy

    @property
    def notes(self) -> list[str]:
        """A line if the policy was trained in another environment than the one it acts in."""
        trained = self.policy is None or self.policy in trained_policies()
        if not trained or self.config is None or self.config.env["id"] == self.env["id"]:
            return []
        home, here = self.config.env["id"], self.env["id"]
        return [f"{self.name} was trained in {home!r} and acts in {here!r} here, which it fits"]


def read_actor(command: str, arguments: Sequence[str]) -> tuple[Actor, list[str]]:
    """Who acts, by a command line, and what that leaves of it.

    Args:
        command: its name, for errors.
        arguments: runs by their paths, ``run_dir=``, ``env=``, ``env.KEY=``, ``policy=``,
            ``policy.KEY=`` and others.

    Raises:
        UserError: not one run where one is needed, no such run, or an unknown option.
        ArgumentError: no such policy.
    """
    runs = [text for text in arguments if "=" not in text or Path(text).exists()]
    rest = [text for text in arguments if text not in runs]
    chosen = {o.key_or_group: o.value() for o in parse([t for t in rest if _is_of(t, "policy")])}
    changes = [text for text in rest if _is_of(text, "env")]
    given = [o.value() for o in parse([t for t in rest if t.startswith("run_dir=")])]
    if runs and given:
        raise UserError(f"{runs[0]} given, and run_dir as well: one of them is accepted")
    runs += [str(value) for value in given]
    policy = chosen.pop("policy", None)
    if policy is not None and not isinstance(policy, str):
        raise UserError(str(ArgumentError("policy", repr(policy), "a name or module:Class")))
    if policy is None and chosen:
        raise UserError(f"{next(iter(chosen))}: given without policy=NAME, whose option it is")
    if policy is not None:
        check_policy(policy)
    folders = [*map(Path, runs), *filter(None, [trained_policies().get(policy or "")])]
    named = policy is not None and any(text.startswith("env=") for text in changes)
    if len(runs) > 1 or not (folders or named):
        told = " ".join(runs) or "nothing"
        without = ", or policy=NAME env=NAME without a run" if not runs else ""
        raise UserError(f"{told} given; one run's folder expected: gippo {command} RUN{without}")
    config = load_config(folders[0]) if folders else None
    env = _environment(config, changes)
    options = {key.removeprefix("policy."): _plain(value) for key, value in chosen.items()}
    rest = [text for text in rest if not _is_of(text, "policy", "env", "run_dir")]
    return Actor(Path(runs[0]) if runs else None, config, env, policy, options), rest


def _is_of(text: str, *groups: str) -> bool:
    key = text.partition("=")[0]
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _environment(config: TrainConfig | None, changes: Sequence[str]) -> dict[str, Any]:
    """The run's environment with what the command line changes.

    Raises:
        UserError: an option that it has not.
    """
    if config is None or any(text.startswith("env=") for text in changes):
        return configure("train", TrainConfig, changes).env
    env = dict(config.env)
    for override in parse(changes):
        key = override.key_or_group.removeprefix("env.")
        if key in ("id", "num_envs") or key not in env:
            options = [name for name in env if name not in ("id", "num_envs")]
            raise UserError(str(ArgumentError(f"env.{key}", "no option", f"one of {options}")))
        env[key] = _plain(override.value())
    check_env(env)
    return env


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(OmegaConf.create({"value": value}))["value"]  # type: ignore[index,call-overload]
