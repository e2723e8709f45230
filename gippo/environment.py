"""Environments as the commands make them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import warp_envs
from gippo.errors import UserError
from warp_envs.checks import ArgumentError
from warp_envs.registry import check_options

# What the environments call an argument -> its key in the configuration.
_KEYS = {"env_id": "id"}


def make_env(settings: dict[str, Any], *, num_envs: int | None = None, **base: Any) -> Any:
    """The environment that a configuration's `env` section describes.

    Args:
        settings: id, num_envs and the environment's own options.
        num_envs: instead of the section's.
        base: device, seed, dtype.

    Raises:
        UserError: something is not accepted; the message names it.
    """
    options = {name: value for name, value in settings.items() if name not in ("id", "num_envs")}
    count = settings["num_envs"] if num_envs is None else num_envs
    try:
        return warp_envs.make(settings["id"], num_envs=count, **base, **options)
    except ArgumentError as error:
        key = _KEYS.get(error.key, error.key)
        known = error.renamed(f"env.{key}") if key.partition(".")[0] in settings else error
        raise UserError(str(known)) from error


def check_env(settings: Mapping[str, Any]) -> None:
    """Refuse what `make_env` would, as far as settings alone can tell: torch is not imported.

    Raises:
        UserError: something is not accepted; the message names it.
    """
    try:
        check_options(settings["id"], settings)
    except ArgumentError as error:
        raise UserError(str(error.renamed(f"env.{error.key}"))) from error


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(num_threads: int | None, processes: int = 1) -> int:
    """Set the threads of torch's operations on the CPU and return how many.

    The networks are small and the learner keeps two threads busy by itself, so by default it is
    half of the cores that this process may use, four at most. Environments, which have the machine
    to themselves while they step, use twice as many.

    Args:
        num_threads: how many; None: the default.
        processes: of the run on this machine, which share its cores.
    """
    import torch  # commands that only read configurations do without

    cores = max(1, num_cores() // processes)
    if num_threads is None:
        num_threads = min(4, max(1, cores // 2))
    torch.set_num_threads(num_threads)
    warp_envs.set_num_threads(max(1, min(2 * num_threads, cores)))
    return num_threads
