"""What a run tells about itself: metrics.jsonl, an object per epoch, and TensorBoard events."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from gippo.errors import UserError

METRICS_FILE = "metrics.jsonl"

Row = Mapping[str, float | int | None]


class MetricsLog:
    """Appends an epoch's numbers to metrics.jsonl and to the event file."""

    def __init__(self, run_dir: Path, *, after_epoch: int = 0, tensorboard: bool = True) -> None:
        """Go on after `after_epoch`: what an interrupted run wrote beyond it is dropped."""
        path = run_dir / METRICS_FILE
        _keep_until(path, after_epoch)
        self._file = path.open("a", encoding="utf-8")
        self._events: SummaryWriter | None = None
        if tensorboard:
            folder = str(run_dir / "tensorboard")
            self._events = SummaryWriter(folder, purge_step=after_epoch + 1)

    def write(self, row: Row) -> None:
        """Write one epoch's row; it is in the file when this returns. NaN becomes null."""
        plain = {name: _json_number(value) for name, value in row.items()}
        self._file.write(json.dumps(plain, allow_nan=False) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in plain.items():
                if name != "epoch" and value is not None:
                    self._events.add_scalar(name, value, int(row["epoch"] or 0))

    def close(self) -> None:
        """Finish both files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


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
        if not line.endswith(b"\n"):
            break
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        rows.append((end, row))
    return rows


def _keep_until(path: Path, epoch: int) -> None:
    """Cut the file after the row of `epoch`, in one step."""
    if not path.exists():
        return
    content = path.read_bytes()
    end = max((end for end, row in _rows(content) if row.get("epoch", 0) <= epoch), default=0)
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())


def _json_number(value: float | int | None) -> float | int | None:
    if value is None or isinstance(value, (int, np.integer)):
        return None if value is None else int(value)
    number = float(value)
    return number if math.isfinite(number) else None
