"""Captures of graphs and launches on other threads, which must not meet.

Warp keeps the capture under way in one place for all threads. A launch that another thread repeats
meanwhile is taken for a part of it: it fails, or the graph lacks a kernel when it is replayed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_one_capture = threading.Lock()
_counting = threading.Lock()
"""Of the two numbers; entered by itself, as every launch does, a condition costs a microsecond."""
_changed = threading.Condition(_counting)
_launches = 0
_captures = 0
"""Under way or waiting for the launches under way to end."""


@contextmanager
def capturing() -> Iterator[None]:
    """Capture once the launches of other threads have ended; new ones wait."""
    global _captures
    with _one_capture:
        with _changed:
            _captures += 1
            _changed.wait_for(lambda: _launches == 0)
        try:
            yield
        finally:
            with _changed:
                _captures -= 1
                _changed.notify_all()


class _Launching:
    """Every step of a rollout comes by here: no generator, and no word where nobody waits."""

    def __enter__(self) -> None:
        global _launches
        with _counting:
            while _captures:
                _changed.wait()
            _launches += 1

    def __exit__(self, *_: object) -> None:
        global _launches
        with _counting:
            _launches -= 1
            if _captures and not _launches:
                _changed.notify_all()


_LAUNCHING = _Launching()


def launching() -> _Launching:
    """Launch on any thread while no graph is captured: a context."""
    return _LAUNCHING
