"""Ctrl-C and SIGTERM: finish the epoch, save everything, then leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console

_stopped = False


def stopped_before() -> bool:
    """Whether a signal has stopped a run in this process: then none of a sweep's begins anew."""
    return _stopped


@contextmanager
def waiting_for_jobs() -> Iterator[None]:
    """While entered, pass over the first Ctrl-C: it has reached the jobs as well, which save."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda number, frame: signal.signal(number, former))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


class StopRequest:
    """While entered, the first SIGINT or SIGTERM is noted; a second one acts as it always does."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, console: Console) -> None:
        """Tell about a signal on `console`."""
        self._console = console
        self._former: dict[int, Any] = {}
        self._signal: int | None = None

    def __enter__(self) -> StopRequest:
        """Take over the signals; in a thread, which must not, do nothing."""
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        self._restore()

    @property
    def made(self) -> bool:
        """Whether a signal has come."""
        return self._signal is not None

    @property
    def exit_status(self) -> int:
        """128 plus the signal's number, as shells have it; 0 if none has come."""
        return 0 if self._signal is None else 128 + self._signal

    def _note(self, number: int, frame: FrameType | None) -> None:
        global _stopped
        self._signal = number
        _stopped = True
        self._restore()
        name = signal.Signals(number).name
        self._console.print(f"{name}: saving after this epoch (once more: leave at once)")

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
