"""Recorded motions of a robot: positions, velocities and actions over time, from .npz and .csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gippo.errors import UserError
from gippo.files import reason

_UNEVEN = 0.01
"""Share of the interval by which times may differ from even ones."""


@dataclass(frozen=True)
class Recording:
    """Motions sampled at even times.

    Attributes:
        interval: between two samples [s].
        joint_q: (samples, nq), laid out as in `warp_envs.Articulation`, SI units.
        joint_qd: (samples, nv).
        action: (samples, num_actions), held from its sample to the next.
        starts: index of the first sample of each motion, and the number of samples.
    """

    interval: float
    joint_q: np.ndarray
    joint_qd: np.ndarray
    action: np.ndarray
    starts: tuple[int, ...]

    def windows(self, length: int) -> np.ndarray:
        """First samples of the windows of `length` steps that follow each other in each motion.

        No sample is in two of them: its noise would count twice, at the end of one, where numbers
        tell most, and at the start of the next, and standard errors would be too small.
        """
        found = []
        for first, end in pairwise(self.starts):
            found += list(range(first, end - length, length + 1))
        return np.array(found, dtype=np.int64)


def read_recording(
    path: Path, columns: Mapping[str, Sequence[str]], key: str = "data"
) -> Recording:
    """A recording from a file.

    A .npz file has the arrays ``time`` (samples,) [s], ``joint_q``, ``joint_qd`` and ``action``,
    and, of several motions, ``run`` (samples,), a number that changes from one to the next. A .csv
    file has the columns ``time``, those of `columns` and, of several motions, ``run``.

    Args:
        path: of the file.
        columns: "joint_q", "joint_qd" and "action" -> the names of their columns in a .csv file.
        key: what the file is called in errors.

    Raises:
        UserError: no such file, an array or column that is missing, of another size than the
            robot's or not finite, or times that are not even.
    """
    if path.suffix not in (".npz", ".csv"):
        raise UserError(f"{key}: {str(path)!r} given, a .npz or .csv file accepted")
    try:
        found = _read_npz(path) if path.suffix == ".npz" else _read_csv(path, columns, key)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{key}: {path}: {reason(error)}") from error
    arrays: dict[str, np.ndarray] = {}
    for name in ("time", *columns):
        if name not in found:
            raise UserError(f"{key}: {path}: no array {name!r}; there are {sorted(found)}")
        arrays[name] = np.asarray(found[name], dtype=np.float64)
    samples = arrays["time"].size
    for name, wanted in columns.items():
        shape = (samples, len(wanted))
        if arrays[name].shape != shape:
            given = f"{name} {arrays[name].shape}, {shape} accepted ({', '.join(wanted)})"
            raise UserError(f"{key}: {path}: {given}")
    for name, array in arrays.items():
        if not np.all(np.isfinite(array)):
            raise UserError(f"{key}: {path}: {name} has numbers that are not finite")
    run = np.asarray(found.get("run", np.zeros(samples))).ravel()
    if run.size != samples:
        raise UserError(f"{key}: {path}: run has {run.size} entries, {samples} accepted")
    starts = (0, *(np.flatnonzero(np.diff(run)) + 1).tolist(), samples)
    interval = _interval(arrays["time"].ravel(), starts, f"{key}: {path}")
    parts = arrays["joint_q"], arrays["joint_qd"], arrays["action"]
    return Recording(interval, *parts, starts)


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _read_csv(path: Path, columns: Mapping[str, Sequence[str]], key: str) -> dict[str, Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *lines = [line for line in csv.reader(file) if line]
    names = [name.strip() for name in header]
    wanted = ["time", *(name for part in columns.values() for name in part)]
    for name in wanted:
        if names.count(name) != 1:
            raise UserError(
                f"{key}: {path}: {names.count(name)} columns {name!r}; there are {names}"
            )
    try:
        table = {n: np.array([float(line[names.index(n)]) for line in lines]) for n in wanted}
        if "run" in names:
            table["run"] = np.array([float(line[names.index("run")]) for line in lines])
    except IndexError as error:
        raise ValueError("a line with fewer entries than the first") from error
    found = {name: np.stack([table[n] for n in part], 1) for name, part in columns.items()}
    return {**found, **{name: table[name] for name in ("time", "run") if name in table}}


def _interval(time: np.ndarray, starts: Sequence[int], where: str) -> float:
    """The interval that all samples keep."""
    steps = np.concatenate([np.diff(time[a:b]) for a, b in pairwise(starts)] or [np.zeros(0)])
    if steps.size == 0:
        raise UserError(f"{where}: {time.size} samples, at least two of a motion accepted")
    interval = float(np.median(steps))
    if interval <= 0.0 or np.abs(steps - interval).max() > _UNEVEN * interval:
        given = f"samples from {steps.min():.4g} to {steps.max():.4g} s apart"
        hint = "resample the recording, or tell its motions apart by `run`"
        raise UserError(f"{where}: {given}, even ones accepted ({hint})")
    return interval
