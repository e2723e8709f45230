"""What a run tells about itself: metrics.jsonl, an object per epoch, and other loggers."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from gippo.errors import TrainingFailedError, UserError
from gippo.files import reason
from gippo.runs.folder import METRICS_FILE
from gippo.runs.loggers import Logger, MakeLogger, begin

_log = logging.getLogger(__name__)

Row = Mapping[str, float | int | None]


class MetricsLog:
    """Appends an epoch's numbers to metrics.jsonl and hands them to the other loggers."""

    def __init__(
        self, run_dir: Path, *, after_epoch: int = 0, loggers: Sequence[MakeLogger] = ()
    ) -> None:
        """Go on after `after_epoch`: what an interrupted run wrote beyond it is dropped.

        Raises:
            UserError: the rows up to `after_epoch` are damaged; nothing has been dropped.
            TrainingFailedError: the folder cannot be written to, or a logger cannot begin.
        """
        self._path = run_dir / METRICS_FILE
        with self._telling():
            _keep_until(self._path, after_epoch)
            self._file = self._path.open("ab", buffering=0)
            self._loggers = begin(loggers, after_epoch)

    def write(self, row: Row) -> None:
        """Write one epoch's row; it is in the file when this returns. NaN becomes null.

        Raises:
            TrainingFailedError: it cannot be written.
        """
        plain = {name: _json_number(value) for name, value in row.items()}
        line = json.dumps(plain, allow_nan=False).encode() + b"\n"
        with self._telling():
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._each(lambda logger: logger.write(int(row["epoch"] or 0), plain))

    def sync(self) -> None:
        """Have everything on the disk, beyond the system's caches.

        Raises:
            TrainingFailedError: the disk does not take it.
        """
        with self._telling():
            os.fsync(self._file.fileno())
            self._each(lambda logger: logger.sync())

    def close(self) -> None:
        """Finish all files."""
        self._file.close()
        with suppress(OSError):  # pictures of what metrics.jsonl holds whole
            self._each(lambda logger: logger.close())

    def _each(self, do: Callable[[Logger], None]) -> None:
        """Have every logger do something; a service that fails is told of and left alone."""
        for logger in list(self._loggers):
            try:
                do(logger)
            except Exception as error:
                if isinstance(error, OSError) and logger.own_files:
                    raise
                self._loggers.remove(logger)
                _log.warning(
                    f"logger: {logger.name} has failed and gets nothing more of this run "
                    f"({type(error).__name__}: {' '.join(str(error).split())[:300]})"
                )

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say of a refusal by the system which files it concerns."""
        try:
            yield
        except OSError as error:
            raise TrainingFailedError(
                f"metrics: {self._path} cannot be written ({reason(error)})"
            ) from error


def count_epochs(run_dir: Path) -> int:
    """How many epochs a run's metrics.jsonl tells of; 0 without the file."""
    path = run_dir / METRICS_FILE
    return len(_rows(path.read_bytes())) if path.is_file() else 0


def read_metrics(run_dir: Path) -> dict[str, np.ndarray]:
    """The columns of a run's metrics.jsonl, (epochs,) each; null and absent values are NaN.

    A last line that is cut off, as a killed run may leave it, is passed over.

    Raises:
        UserError: there is no such file, or it holds no epoch.
    """
    path = run_dir / METRICS_FILE
    if not path.is_file():
        raise UserError(f"run_dir: {run_dir} holds no {METRICS_FILE}")
    rows = [row for _, row in _rows(path.read_bytes())]
    if not rows:
        raise UserError(f"run_dir: {path} holds no epoch yet")
    names = dict.fromkeys(name for row in rows for name in row)
    return {
        name: np.array(
            [math.nan if row.get(name) is None else row[name] for row in rows], dtype=np.float64
        )
        for name in names
    }


def _rows(content: bytes) -> list[tuple[int, dict[str, Any]]]:
    """(end of the line in bytes, its object) for every whole line from the start."""
    rows: list[tuple[int, dict[str, Any]]] = []
    end = 0
    for line in content.splitlines(keepends=True):
        end += len(line)
        row = _row(line)
        if row is None:
            break
        rows.append((end, row))
    return rows


def _row(line: bytes) -> dict[str, Any] | None:
    """The object of a whole line as `MetricsLog` writes it, None if it is not that."""
    try:
        row = json.loads(line)
        numbers = [float(value) for value in row.values() if type(value) in (int, float)]
    except (ValueError, AttributeError, OverflowError, RecursionError):
        return None
    only_numbers = len(numbers) + list(row.values()).count(None) == len(row)
    return row if line.endswith(b"\n") and only_numbers and type(row.get("epoch")) is int else None


def _keep_until(path: Path, epoch: int) -> None:
    """Cut the file after the row of `epoch`, in one step.

    Raises:
        UserError: that row, or one before it, is not there or not whole.
    """
    if not path.exists():
        return
    content = path.read_bytes()
    rows = _rows(content)
    kept = [(end, row["epoch"]) for end, row in rows if row["epoch"] <= epoch]
    end, last = kept[-1] if kept else (0, 0)
    # A file that was moved away begins again after the checkpoint that the run went on from.
    begins_later = not kept and (b"\n" not in content or (rows and rows[0][1]["epoch"] > epoch))
    if last != epoch and not begins_later:
        raise UserError(
            f"metrics: {path} is damaged after epoch {last}, and the run stands at epoch {epoch}; "
            "mend the file, or move it away to go on without it"
        )
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())


def _json_number(value: float | int | None) -> float | int | None:
    if value is None or isinstance(value, (int, np.integer)):
        return None if value is None else int(value)
    number = float(value)
    return number if math.isfinite(number) else None
