"""What memory a training asks for, told before the system ends it for want of some."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from gippo.configuration.run_config import TrainConfig
from gippo.environment import make_env
from gippo.errors import UserError
from gippo.methods import method_class
from gippo.methods.base import Method

WORTH_A_LOOK = 500_000
"""Steps of a window, over all environments, below which no machine is too small."""
_PROBE = 64
"""Copies of the environment whose arrays are counted."""
_SHARE = 0.4
"""Of the memory that is free, by this estimate, which a training fits into."""


def check_memory(config: TrainConfig, device: str) -> None:
    """Refuse a training that asks for more memory than is free.

    Args:
        config: the run.
        device: "cpu" or "cuda:0".

    Raises:
        UserError: telling the estimate and how many environments fit.
    """
    num_envs = int(config.env["num_envs"])
    if num_envs * config.learner.horizon < WORTH_A_LOOK:
        return
    per_env = bytes_per_env(config, device)  # which refuses a device that is not there
    free = free_memory(device)
    if free is None or num_envs * per_env <= free:
        return
    fitting = max(1, int(_SHARE * free / per_env))
    raise UserError(
        f"env.num_envs: {num_envs} given, which over {config.learner.horizon} steps takes "
        f"{num_envs * per_env / 1e9:.1f} GB at least, where {free / 1e9:.1f} GB are free; "
        f"about {fitting} accepted, or a shorter horizon"
    )


def bytes_per_env(config: TrainConfig, device: str) -> float:
    """What each further environment of a training takes at least [bytes].

    That is the arrays of the environment's program, those that a step keeps for its gradient as
    often as the window has steps; the window's observations and actions; and, where gradients pass
    through the window, what torch keeps of each hidden unit for it. Updates come on top: trainings
    have taken 1.3 to 2.5 times this.
    """
    probe = make_env(config.env, num_envs=_PROBE, device=device, seed=config.seed)
    fixed, kept = probe.memory()
    learner, horizon = config.learner, config.learner.horizon
    of_method = getattr(method_class(config.algo.name), "gradient_lambda", None)
    informed = of_method is not None and of_method is not Method.gradient_lambda
    # raw, normalised and final observations; noise, action, mean and deviation; and their stacking
    numbers = 2 * (3 * probe.num_obs + 4 * probe.num_actions)
    if informed:
        numbers += 2 * (sum(learner.actor.hidden) + sum(learner.critic.hidden))
    slots = horizon if informed else 1
    bytes_each = torch.finfo(probe.dtype).bits // 8
    return (fixed + (slots - 1) * kept) / _PROBE + horizon * numbers * bytes_each


def free_memory(device: str) -> int | None:
    """Memory that a process may still take on a device [bytes]; None: the system does not say."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    found = [_available(), _left_of_limit()]
    return min((value for value in found if value is not None), default=None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        told = dict(line.split(":", 1) for line in lines)
        return 1024 * int(told["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return _all_of_it()


def _all_of_it() -> int | None:
    """The machine's memory, where no more is known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _left_of_limit() -> int | None:
    """What the limit of a container leaves (cgroup 2, then 1)."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            values = [int((Path("/sys/fs/cgroup") / n).read_text()) for n in (limit, used)]
            return max(0, values[0] - values[1])
        except (OSError, ValueError):  # "max": none
            continue
    return None
