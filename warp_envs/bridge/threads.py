"""How many threads of a CPU the environments share; results do not depend on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

from warp_envs.checks import check_integer

_chosen: list[int] = []  # at most one


def set_num_threads(num_threads: int) -> None:
    """Let environments made from now on use so many threads on a CPU.

    Raises:
        ValueError: not a positive integer.
    """
    check_integer("num_threads", num_threads, 1)
    _chosen[:] = [num_threads]


def get_num_threads() -> int:
    """Threads of an environment made now: what was set, else those of torch."""
    return _chosen[0] if _chosen else torch.get_num_threads()


@cache
def thread_pool() -> ThreadPoolExecutor:
    """The threads beside the one that steps; they start when they are needed."""
    return ThreadPoolExecutor(thread_name_prefix="warp")
