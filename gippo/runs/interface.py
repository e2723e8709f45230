"""Training from Python, with the keys of the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig
from gippo.runs import training
from gippo.runs.metrics import read_metrics
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError


@dataclass(frozen=True)
class Run:
    """A trained run."""

    run_dir: Path
    """Where it is kept: configuration, checkpoints, metrics, pictures."""
    best_return: float
    """The highest smoothed return; -inf before an episode has ended."""
    metrics: dict[str, np.ndarray]
    """One number per epoch, by name, as in metrics.jsonl."""


def train(*, verbose: bool = True, **keys: Any) -> Run:
    """Train a policy, as ``gippo train`` does.

    ``gippo.train(env="ant", algo="ppo", seed=1, learner={"horizon": 16})`` is
    ``gippo train env=ant algo=ppo seed=1 learner.horizon=16``, with the environment's presets and
    the same checks, files and numbers. A dotted key is written ``**{"algo.alpha.beta": 1.05}``, or
    as a mapping of its section. ``resume=True`` with ``run_dir`` goes on with a run.

    Args:
        verbose: show progress.
        keys: as `gippo train --help` and ``--keys`` list them; `env` and `algo` by name, or
            ``"module:Class"``.

    Raises:
        ValueError: a key or a value that is not accepted; nothing has been written.
        KeyboardInterrupt: Ctrl-C; the run is saved and can be resumed.
        gippo.errors.TrainingFailedError: too many updates were not finite, or the disk is full.
    """
    overrides = list(_overrides(keys))
    console = make_console() if verbose else Console(quiet=True)
    config = configure("train", TrainConfig, overrides, console.print)
    outcome = training.train(config, overrides, console)
    if outcome.status != 0:
        raise KeyboardInterrupt
    return Run(outcome.run_dir, outcome.best_return, read_metrics(outcome.run_dir))


def _overrides(keys: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys as the command line has them."""
    for key, value in keys.items():
        if isinstance(value, Mapping):
            yield from _overrides(value, f"{prefix}{key}.")
        elif prefix == "" and key in ("env", "algo", "experiment"):
            yield f"{key}={value}"
        else:
            yield f"{prefix}{key}={_written(f'{prefix}{key}', value)}"


def _written(key: str, value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, Path)):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, Sequence):
        return f"[{','.join(_written(key, item) for item in value)}]"
    raise ArgumentError(key, repr(value), "None, a bool, a number, a string or a list of them")
