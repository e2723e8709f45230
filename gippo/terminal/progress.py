"""How a run shows itself while it trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_LINE_SECONDS = 5.0
_REFRESH_SECONDS = 0.25

Numbers = Mapping[str, float | int | None]


class _Output:
    """Standard output, whatever becomes of it: what it does not take is lost, and nothing else.

    A reader that leaves (``| head``), a terminal that is closed or knows only ASCII ends no
    training.
    """

    def __init__(self, label: str | None) -> None:
        self._label = label

    def write(self, text: str) -> int:
        if self._label is not None:
            lines = [f"{self._label}: {line}\n" for line in text.splitlines() if line.strip()]
            text = "".join(lines)
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:
            with suppress(OSError, ValueError):
                sys.stdout.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        except (OSError, ValueError):
            drop_output()
        return len(text)

    def flush(self) -> None:
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            drop_output()

    def isatty(self) -> bool:
        with suppress(ValueError):  # closed
            return self._label is None and sys.stdout.isatty()
        return False

    def fileno(self) -> int:
        return sys.stdout.fileno()

    @property
    def encoding(self) -> str:
        return getattr(sys.stdout, "encoding", None) or "ascii"


def drop_output() -> None:
    """Send standard output nowhere, as nobody takes it any more."""
    with suppress(OSError, ValueError):  # no file of the system's
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def make_console(label: str | None = None) -> Console:
    """The terminal, taking text as it is: no markup, no emoji, no colours, no wrapping.

    Args:
        label: put before every line, where several processes write to one terminal.
    """
    file: Any = _Output(label)
    return Console(file=file, markup=False, emoji=False, highlight=False, soft_wrap=True)


def this_command() -> str:
    """How the shell at hand calls this program: gippo, or its path, as after `make train`."""
    if shutil.which("gippo"):
        return "gippo"
    script = Path(sys.executable).with_name("gippo")
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m gippo"
    inside = script.is_relative_to(Path.cwd())
    return shlex.quote(str(script.relative_to(Path.cwd()) if inside else script))


class TrainingProgress:
    """Shows epochs, return, alpha, steps per second and time left."""

    def __init__(self, console: Console, total: int, done: int = 0) -> None:
        """Start at epoch `done` of `total`."""
        self._console = console
        self._total = total
        self._first = done
        self._started = time.monotonic()
        self._shown = -math.inf
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[numbers]}", markup=False),
                console=console,
                auto_refresh=False,
                expand=True,
            )
            self._task = self._bar.add_task("", total=total, completed=done, numbers="")

    def __enter__(self) -> TrainingProgress:
        """Show the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()

    def update(self, epoch: int, env_steps: int, numbers: Numbers) -> None:
        """Show the epoch just done.

        Args:
            epoch: how many are done.
            env_steps: environment steps since this started.
            numbers: its metrics.
        """
        now = time.monotonic()
        last = epoch == self._total
        elapsed = max(now - self._started, 1e-9)
        left = elapsed / max(epoch - self._first, 1) * (self._total - epoch)
        if self._bar is not None:
            self._bar.update(
                self._task, completed=epoch, numbers=_describe(numbers, env_steps / elapsed, left)
            )
            if last or now - self._shown >= _REFRESH_SECONDS:
                self._bar.refresh()
                self._shown = now
        elif last or now - self._shown >= _LINE_SECONDS:
            text = _describe(numbers, env_steps / elapsed, left)
            self._console.print(f"epoch {epoch}/{self._total}  {text}")
            self._shown = now


def _describe(numbers: Numbers, speed: float, left: float) -> str:
    parts = [f"return {number(numbers.get('episode_return'))}"]
    if numbers.get("best_return") is not None:
        parts.append(f"best {number(numbers['best_return'])}")
    if numbers.get("evaluation_return") is not None:
        parts.append(f"evaluated {number(numbers['evaluation_return'])}")
    if numbers.get("alpha") is not None:
        parts.append(f"alpha {number(numbers['alpha'])}")
    parts += [f"{speed:,.0f} steps/s", f"{duration(left)} left"]
    return "  ".join(parts)


def number(value: float | int | None) -> str:
    """A number in four significant digits; a dash for none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.1f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    clock = f"{rest // 60:02d}:{rest % 60:02d}"
    return f"{hours}:{clock}" if hours else clock.removeprefix("0")
