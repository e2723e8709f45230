"""Starting Warp without its greeting, and without a warning where there is nothing to warn of."""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import warp as wp

from warp_envs.checks import ArgumentError

_log = logging.getLogger(__name__)

BLOCK_DIM = 64
"""Threads of a block on a GPU. A robot's kernel takes all registers that a thread may have, so that
a multiprocessor holds 256 threads of it in whatever blocks they come; small blocks spread a small
batch over more multiprocessors: 1,024 rows over 16 of them, where blocks of 256 take 4."""

_OWN_CACHE = "gippo-warp-"
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg")  # NVIDIA's driver on Linux; a GPU under WSL


@cache
def start_warp() -> None:
    """Initialise Warp quietly, once; its warnings show afterwards.

    On Linux without any GPU device, what Warp's native library writes to standard error while it
    starts, that no CUDA driver is there, is dropped.
    """
    has_log_level = hasattr(wp.config, "log_level")
    if has_log_level:
        wp.config.log_level = wp.LOG_ERROR
    else:
        wp.config.quiet = True
    if sys.platform == "linux" and not any(map(os.path.exists, _GPU_DEVICES)):
        with _no_standard_error():
            problem = _init()
    else:
        problem = _init()
    if wp.config.cuda_output is None:
        # A GPU's own code, the only kind that `gippo compile` builds. With a driver as new as its
        # compiler Warp would else look for what the driver translates, under another name.
        wp.config.cuda_output = "cubin"
    if problem is not None:
        _log.warning(problem)
    if has_log_level:
        wp.config.log_level = wp.LOG_WARNING


def keeps_kernels() -> bool:
    """Whether what is compiled is there for the next process."""
    return not Path(str(wp.config.kernel_cache_dir)).name.startswith(_OWN_CACHE)


def load_module(module: wp.Module, device: wp.Device) -> None:
    """Load the kernels of a module; what is damaged in Warp's cache is dropped and built again.

    A process killed, or a disk full, while the cache was written leaves entries of which Warp says
    no more than that it cannot load them.

    Raises:
        ArgumentError: code that Warp cannot translate, named.
    """
    try:
        _load(module, device)
    except Exception as error:
        _name_untranslated(error)
        cached = list(Path(str(wp.config.kernel_cache_dir)).glob(f"wp_{module.name}_*"))
        for entry in cached:
            shutil.rmtree(entry, ignore_errors=True)
        if not cached:
            raise
        _load(module, device)


def _load(module: wp.Module, device: wp.Device) -> None:
    wp.load_module(module, device, block_dim=BLOCK_DIM if device.is_cuda else None)


def _name_untranslated(error: Exception) -> None:
    """Raise ArgumentError with the code that `error` says Warp cannot translate, if it is that."""
    *_, innermost, reason = ["", *str(error).split("\n;")]
    found = re.match(r'Error while parsing function "(\w+)" at (.+):\d+:\s*(.+)', innermost)
    if found is None:
        return
    name, file, code = found.groups()
    hint = "; a literal takes a variable's type as type(x)(0.5)" if "types" in reason else ""
    given = f"'{code.strip()}' ({reason.strip()})"
    raise ArgumentError(f"{name} in {file}", given, "what Warp translates", hint) from error


def _init() -> str | None:
    """Initialise Warp, with a cache for this process alone where its own cannot be written.

    Returns:
        What to tell of the cache.
    """
    try:
        wp.init()
        with tempfile.TemporaryFile(dir=wp.config.kernel_cache_dir):
            return None
    except OSError as error:
        reason = error.strerror or str(error)
    refused, own = wp.config.kernel_cache_dir, tempfile.mkdtemp(prefix=_OWN_CACHE)
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    wp.config.kernel_cache_dir = own
    wp.init()
    return (
        f"warning: Warp's cache {refused} cannot be written ({reason}): kernels are compiled anew "
        "in each process; set WARP_CACHE_PATH to a folder that can be"
    )


@contextmanager
def _no_standard_error() -> Iterator[None]:
    """Native code's standard error goes nowhere."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
