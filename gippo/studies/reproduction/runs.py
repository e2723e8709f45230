"""The training runs behind an experiment: which exist, which are missing, and how they are made.

A run is known by all that decides its numbers: its resolved configuration and the code. Its folder
is named after both, so a run that exists is not made again, and one made otherwise is not used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from gippo.configuration.compose import configure, written
from gippo.configuration.run_config import CONFIG_FILE, TrainConfig, to_omegaconf
from gippo.errors import UserError
from gippo.runs.metrics import read_metrics
from gippo.studies.reproduction.code_version import code_version, digest_of_sources

FAILURE_FILE = "failure.txt"
HOW = ("num_threads=1", "learner.parallel_updates=false", "logger=[]", "rollout.num_envs=0")
"""How a run is made, beside what it is: on one core, leaving nothing but its numbers."""
_GIVEN_UP = "times in a row"
"""In the last line of a run that met too many numbers that are not finite."""
_INCIDENTAL = (
    "run_dir",
    "resume",
    "num_threads",
    "checkpoint_every",
    "keep_last",
    "logger",
    "rollout",
)
"""Keys that change no number."""


@dataclass(frozen=True)
class Run:
    """One training run of an experiment."""

    env: str
    method: str
    seed: int
    runs_dir: Path
    variant: tuple[str, ...] = ()
    """Overrides that set this run apart from the method's plain one."""
    budget: int | None = None
    """Epochs at most."""
    device: str = "cpu"
    any_code: bool = False
    """Use a run of another version of the code where this one's is missing."""

    @cached_property
    def config(self) -> TrainConfig:
        """The resolved configuration."""
        full = _resolved(self.env, self.method, self.device, self.variant)
        epochs = full.num_epochs if self.budget is None else min(full.num_epochs, self.budget)
        return dataclasses.replace(full, seed=self.seed, num_epochs=epochs)

    @property
    def full_epochs(self) -> int:
        """Epochs without a budget."""
        return _resolved(self.env, self.method, self.device, self.variant).num_epochs

    @cached_property
    def run_dir(self) -> Path:
        """Where the run lies, or will."""
        stem = f"{self.env}_{self.method}_seed{self.seed}_{config_digest(self.config)}"
        own = self.runs_dir / f"{stem}_{code_version(self.method)}"
        if self.any_code and not own.is_dir():
            others = [path for path in self.runs_dir.glob(f"{stem}_*") if path.is_dir()]
            return max(others, key=lambda path: path.stat().st_mtime, default=own)
        return own

    @property
    def code(self) -> str:
        """The version of the code that made the run."""
        return self.run_dir.name.rpartition("_")[2]

    @property
    def epochs_done(self) -> int:
        """Epochs in the run's metrics; 0 if there are none."""
        try:
            return int(self.columns["epoch"][-1])
        except UserError:
            return 0

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The run's metrics, as `gippo.runs.metrics.read_metrics` gives them."""
        return read_metrics(self.run_dir)

    @property
    def failure(self) -> str | None:
        """Why the run was given up; None if it was not."""
        path = self.run_dir / FAILURE_FILE
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None

    @property
    def ended(self) -> bool:
        """Nothing is left to do: all epochs are done, or the run was given up."""
        return self.failure is not None or self.epochs_done >= self.config.num_epochs

    @property
    def score(self) -> float:
        """The highest smoothed training return; NaN if no episode has ended."""
        return float(self.columns["best_return"][-1]) if self.epochs_done else math.nan

    @property
    def seconds(self) -> float:
        """Wall time of the training."""
        return float(self.columns["wall_time"][-1]) if self.epochs_done else math.nan

    @property
    def name(self) -> str:
        """For people."""
        return " ".join([self.env, self.method, *self.variant, f"seed {self.seed}"])

    @property
    def command(self) -> list[str]:
        """Begins the run, or goes on with it."""
        where = shlex.split(written("run_dir", self.run_dir))
        base = [sys.executable, "-m", "gippo", "train", *where]
        if (self.run_dir / CONFIG_FILE).is_file():
            return [*base, "resume=true", "num_threads=1"]
        what = _overrides(self.env, self.method, self.device, self.variant)
        return [*base, *what, f"seed={self.seed}", f"num_epochs={self.config.num_epochs}"]


def _overrides(env: str, method: str, device: str, variant: tuple[str, ...]) -> list[str]:
    return [f"env={env}", f"algo={method}", f"device={device}", *variant, *HOW]


@cache
def _resolved(env: str, method: str, device: str, variant: tuple[str, ...]) -> TrainConfig:
    return configure("train", TrainConfig, _overrides(env, method, device, variant))


def config_digest(config: TrainConfig) -> str:
    """Of every value that decides a run's numbers: 8 hex digits."""
    everything: Any = OmegaConf.to_container(to_omegaconf(config))
    essential = {name: value for name, value in everything.items() if name not in _INCIDENTAL}
    del essential["learner"]["parallel_updates"]
    return hashlib.sha256(json.dumps(essential, sort_keys=True).encode()).hexdigest()[:8]


def complete(runs: Sequence[Run], *, jobs: int, report: Callable[[str], None]) -> None:
    """Make the runs that are missing, `jobs` at a time, each in a process with one thread.

    A run that is given up for non-finite numbers is kept, as a failure, with what it has reached.
    Whatever ends this function early, the runs under way save and end, and the next call goes on
    with them.

    Raises:
        UserError: a run could not be begun or ended strangely, or the code has changed meanwhile.
        KeyboardInterrupt: a run was interrupted.
    """
    distinct = list({run.run_dir: run for run in runs}.values())
    waiting = [run for run in distinct if not run.ended]
    total, done, started = len(waiting), 0, time.monotonic()
    report(f"{len(distinct)} runs, {len(distinct) - total} of them there already")
    active: dict[Run, subprocess.Popen[bytes]] = {}
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                run = waiting.pop(0)
                active[run] = _start(run)
            time.sleep(0.1)
            for run in [run for run, process in active.items() if process.poll() is not None]:
                _settle(run, active.pop(run).returncode)
                done += 1
                left = (time.monotonic() - started) / done * (total - done)
                report(f"{done}/{total} {_told(run)}; about {left / 60.0:.0f} min left")
    finally:
        for process in active.values():
            process.terminate()
        for process in active.values():
            process.wait()


def _start(run: Run) -> subprocess.Popen[bytes]:
    if digest_of_sources(run.method) != code_version(run.method):
        raise UserError("the code has changed since the command began; start it again")
    run.runs_dir.mkdir(parents=True, exist_ok=True)
    here = str(Path(__file__).parents[3])  # the code that this process runs, wherever it lies
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    with _log_of(run).open("ab") as log:
        return subprocess.Popen(
            run.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C reaches it through us, once
        )


def _log_of(run: Run) -> Path:
    return run.run_dir.with_name(f"{run.run_dir.name}.log")


def _settle(run: Run, status: int) -> None:
    if status == 0:
        return
    if status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise KeyboardInterrupt
    lines = _log_of(run).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    if status != 1 or _GIVEN_UP not in last:
        raise UserError(f"{run.name}: ended with status {status}: {last} (see {_log_of(run)})")
    (run.run_dir / FAILURE_FILE).write_text(last + "\n", encoding="utf-8")


def _told(run: Run) -> str:
    if run.failure is not None:
        return f"{run.name}: GIVEN UP after epoch {run.epochs_done}: {run.failure}"
    return f"{run.name}: {run.score:.6g} in {run.seconds:.0f} s"
