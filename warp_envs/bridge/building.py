"""A word where building kernels takes long: the first time that a machine needs them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import warp as wp

from warp_envs.bridge.start import keeps_kernels, load_module

Builder = Callable[[wp.Module, str], None]

PATIENCE = 2.0
"""Seconds of building before anything is said; kernels that were built before take less."""
PULSE = 10.0
"""Seconds between the words that follow."""


def load_kernels(named: Sequence[tuple[wp.Kernel, str]], device: wp.Device) -> bool:
    """Have kernels ready on a device: from Warp's cache, or built now, said on standard error.

    Args:
        named: kernels, each with what it is to people; an empty name stands for the kernel's own.
        device: where they will run.

    Returns:
        Whether they can run now: not while they are `built_elsewhere`.
    """
    if _builders:
        for kernel, name in named:
            _builders[-1](kernel.module, name or kernel.module.name)
        return False
    current = [""]
    with _said(current, device):
        for kernel, name in named:
            current[0] = name or kernel.key
            load_module(kernel.module, device)
    return True


_builders: list[Builder] = []


@contextmanager
def built_elsewhere(build: Builder) -> Iterator[None]:
    """Inside nothing runs; each module that would is given to `build`, with its name.

    It may come often, each time as it is then. What is made inside is of no use afterwards.
    """
    _builders.append(build)
    try:
        yield
    finally:
        _builders.remove(build)


def nothing_runs() -> bool:
    """Whether kernels are `built_elsewhere`."""
    return bool(_builders)


@contextmanager
def _said(current: Sequence[str], device: wp.Device) -> Iterator[None]:
    """Say every now and then, for as long as it lasts, that `current` is being built."""
    started, done = time.monotonic(), threading.Event()
    spoke = threading.Event()

    def speak() -> None:
        wait = PATIENCE
        while not done.wait(wait):
            seconds = time.monotonic() - started
            what = f"building {current[0]} for {device}, {seconds:.0f} s so far"
            once = (
                ""
                if spoke.is_set() or not keeps_kernels()
                else "; once, then it comes from Warp's cache"
            )
            print(f"{what}{once}", file=sys.stderr, flush=True)
            spoke.set()
            wait = PULSE

    speaker = threading.Thread(target=speak, name="building", daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()
        if spoke.is_set():
            seconds = time.monotonic() - started
            print(f"built in {seconds:.0f} s", file=sys.stderr, flush=True)
