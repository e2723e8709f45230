"""Kernels built for a GPU that is not there, into a cache that travels."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import warp as wp

from warp_envs.bridge.building import built_elsewhere
from warp_envs.bridge.start import BLOCK_DIM
from warp_envs.checks import ArgumentError

OLDEST, NEWEST = 75, 121
"""Compute capabilities, times ten, that Warp's compiler of 1.16 and later builds for."""


def check_arch(key: str, value: str | int) -> int:
    """The number of an architecture given as "sm_90" or 90.

    Raises:
        ArgumentError: it is none that kernels can be built for.
    """
    found = re.fullmatch(r"(?:sm_?)?(\d{2,3})", str(value))
    if found is None or not OLDEST <= int(found[1]) <= NEWEST:
        accepted = f"sm_{OLDEST} (Turing) to sm_{NEWEST}, such as sm_80, sm_90, sm_100"
        raise ArgumentError(key, repr(value), accepted)
    return int(found[1])


@contextmanager
def building_ahead(
    archs: Sequence[int], folder: Path, tell: Callable[[str, int, float], None]
) -> Iterator[None]:
    """Build for GPUs what would run inside, as a process on one will look for it; nothing runs.

    A module's name in the cache tells which of its kernels are in use when it is loaded, so each is
    built at that moment.

    Args:
        archs: compute capabilities times ten.
        folder: the cache, which WARP_CACHE_PATH names where it is used.
        tell: called after each with what it is, for which architecture, and the seconds it took.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()

    def build(module: wp.Module, name: str) -> None:
        if module.get_module_identifier(block_dim=BLOCK_DIM) in seen:
            return
        with _settings(module, folder):
            seen.add(module.get_module_identifier())
            for arch in archs:
                started = time.monotonic()
                wp.compile_aot_module(module, arch=arch, use_ptx=False)
                tell(name, arch, time.monotonic() - started)

    with built_elsewhere(build):
        yield


@contextmanager
def _settings(module: wp.Module, folder: Path) -> Iterator[None]:
    """Warp's for a build into `folder`, silent about kernels that are not in use."""
    config, options = wp.config, module.options
    before = config.kernel_cache_dir, config.log_level, options["block_dim"]
    config.kernel_cache_dir, config.log_level = str(folder), wp.LOG_ERROR
    options["block_dim"] = BLOCK_DIM
    try:
        yield
    finally:
        config.kernel_cache_dir, config.log_level, options["block_dim"] = before
