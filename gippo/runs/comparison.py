"""Several runs beside each other: which there are, and what tells them apart."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from rich.table import Table

from gippo.configuration.run_config import (
    CONFIG_FILE,
    TrainConfig,
    keys_of,
    load_config,
    own_inputs,
    to_omegaconf,
)
from gippo.errors import UserError
from gippo.runs.folder import METRICS_FILE
from gippo.runs.inputs import checksum
from gippo.runs.metrics import read_metrics
from gippo.runs.plots import Curve
from gippo.terminal.progress import number

# What makes no difference to what a run computes, on average over seeds.
_INCIDENTAL = (
    "seed",
    "run_dir",
    "resume",
    "num_threads",
    "device",
    "evaluate_every",
    "evaluate_episodes",
    "best_by",
    "checkpoint_every",
    "keep_last",
    "logger",
    "rollout",
)


def find_runs(text: str) -> list[Path]:
    """The runs that a folder or pattern names.

    Raises:
        UserError: there are none.
    """
    matches = [Path(text)] if Path(text).exists() else map(Path, sorted(glob.glob(text)))
    found = [config.parent for folder in matches for config in sorted(folder.rglob(CONFIG_FILE))]
    found = [folder for folder in found if (folder / METRICS_FILE).is_file()]
    if not found:
        raise UserError(f"run_dirs: {text!r} names no folder with a run in it")
    return found


def gather(run_dirs: Sequence[Path]) -> dict[str, list[Curve]]:
    """Environment -> its runs, grouped by all but the seed and named by what differs."""
    groups: dict[str, tuple[TrainConfig, list[Path]]] = {}
    for run_dir in dict.fromkeys(run_dirs):
        config = load_config(run_dir)
        for name in own_inputs(config, run_dir):  # the same in runs of other folders
            content = checksum(run_dir, f"env.{name}")
            config.env[name] = f"{Path(config.env[name]).name}@{content}"
        groups.setdefault(_identity(config), (config, []))[1].append(run_dir)
    labels = _labels([config for config, _ in groups.values()])
    panels: dict[str, list[Curve]] = {}
    for label, (config, folders) in zip(labels, groups.values(), strict=True):
        columns = [_columns(folder) for folder in folders]
        curve = Curve(
            label, [c["env_steps"] for c in columns], [c["episode_return"] for c in columns]
        )
        panels.setdefault(str(config.env["id"]), []).append(curve)
    return panels


def _columns(run_dir: Path) -> dict[str, np.ndarray]:
    columns = read_metrics(run_dir)
    for name in ("env_steps", "episode_return"):
        if name not in columns:
            raise UserError(f"run_dirs: {run_dir / METRICS_FILE} has no {name}")
    return columns


def _identity(config: TrainConfig) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(_essential(config)))


def _essential(config: TrainConfig) -> dict[str, Any]:
    everything = OmegaConf.to_container(to_omegaconf(config))
    assert isinstance(everything, dict)
    return {str(name): value for name, value in everything.items() if name not in _INCIDENTAL}


def _labels(configs: Sequence[TrainConfig]) -> list[str]:
    """The method, and the values that tell it from the same method on the same environment."""
    nodes = [OmegaConf.create(_essential(config)) for config in configs]
    labels = []
    for config, node in zip(configs, nodes, strict=True):
        alike = [
            other
            for other in nodes
            if other.algo.name == node.algo.name and other.env.id == node.env.id
        ]
        differing = [
            key
            for key in keys_of(_plain(node))
            if not isinstance(OmegaConf.select(node, key), dict)
            and len({str(OmegaConf.select(other, key)) for other in alike}) > 1
            and not OmegaConf.is_dict(OmegaConf.select(node, key))
        ]
        values = [f"{key}={OmegaConf.select(node, key)}" for key in differing]
        labels.append(", ".join([config.algo.name, *values]))
    return labels


def _plain(node: Any) -> dict[Any, Any]:
    container = OmegaConf.to_container(node)
    assert isinstance(container, dict)
    return container


def comparison_table(panels: Mapping[str, Sequence[Curve]]) -> Table:
    """One row per curve: its best returns."""
    heads = ("environment", "curve", "runs", "best return, mean", "lowest", "highest")
    table = Table(*heads, box=None)
    for env, curve in ((env, curve) for env, curves in panels.items() for curve in curves):
        best = [
            float(max(values[values == values], default=float("nan"))) for values in curve.returns
        ]
        shown = [number(value) for value in (sum(best) / len(best), min(best), max(best))]
        table.add_row(env, curve.label, str(len(best)), *shown)
    return table
