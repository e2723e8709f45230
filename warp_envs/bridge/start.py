"""Starting Warp without its greeting, and without a warning where there is nothing to warn of."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import warp as wp

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
            wp.init()
    else:
        wp.init()
    if has_log_level:
        wp.config.log_level = wp.LOG_WARNING


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
