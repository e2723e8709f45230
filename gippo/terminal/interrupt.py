"""Ctrl-C, SIGTERM, a closed terminal: finish the epoch, save everything, then leave."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console

from gippo.errors import StoppedError

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What asks for an orderly end: Ctrl-C, a scheduler, a closed terminal (not on Windows)."""

_last: int | None = None


def stop_status() -> int:
    """128 plus the number of the signal that has asked this process to stop; 0: none has."""
    return 0 if _last is None else 128 + _last


def _remember(number: int, frame: FrameType | None) -> None:
    global _last
    _last = number


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Leave a signal to another process."""


@contextmanager
def stopping_jobs(say: Callable[[str], None]) -> Iterator[None]:
    """While entered, the first of `SIGNALS` has the jobs in other processes save and end.

    The second one acts as it always does.

    Args:
        say: tells the user.

    Raises:
        StoppedError: in place of whatever else was raised after the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = 0
    former = {number: signal.getsignal(number) for number in _heeded()}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = 128 + number
        restore()
        jobs = multiprocessing.active_children()
        if not jobs:
            signal.raise_signal(number)
        name = signal.Signals(number).name
        say(f"{name}: the jobs under way save after this epoch (once more: leave at once)")
        for job in jobs:
            job.terminate()

    for number in former:
        signal.signal(number, ask)
    try:
        yield
    except Exception as error:
        if asked:
            raise StoppedError(asked) from error
        raise
    finally:
        restore()


def take_jobs() -> None:
    """Be a process that runs jobs for the one in `stopping_jobs`; in that one, do nothing.

    Ctrl-C reaches both, and is that one's to answer, by the SIGTERM that it sends on; which is not
    to end this process between two jobs, when others still save.
    """
    if multiprocessing.parent_process() is None:
        return
    signal.signal(signal.SIGINT, _pass_over)
    for number in SIGNALS[1:]:
        signal.signal(number, _remember)


def _heeded() -> list[int]:
    """Those of `SIGNALS` that are this process's to answer: nohup has it ignore SIGHUP."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    return [
        number
        for number, handler in handlers.items()
        if handler is not _pass_over
        and (handler is not signal.SIG_IGN or number in (signal.SIGINT, signal.SIGTERM))
    ]


class StopRequest:
    """While entered, the first of `SIGNALS` is noted; a second one acts as it always does."""

    def __init__(self, console: Console | None) -> None:
        """Tell about a signal on `console`, or not at all."""
        self._console = console
        self._former: dict[int, Any] = {}
        self._signal: int | None = None

    def __enter__(self) -> StopRequest:
        """Take over the signals; in a thread, which must not, do nothing."""
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in _heeded()}
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
        self._signal = number
        _remember(number, frame)
        self._restore()
        if self._console is not None:
            name = signal.Signals(number).name
            self._console.print(f"{name}: saving after this epoch (once more: leave at once)")

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
