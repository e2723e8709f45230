"""`gippo plot`."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING, OmegaConf
from rich.table import Table

from gippo.configuration.compose import configure
from gippo.configuration.run_config import (
    CONFIG_FILE,
    TrainConfig,
    keys_of,
    load_config,
    to_omegaconf,
)
from gippo.errors import UserError
from gippo.runs.metrics import METRICS_FILE, read_metrics
from gippo.runs.plots import Curve, plot_comparison
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console, number
from warp_envs.checks import ArgumentError

HELP = """\
gippo plot: draw the learning curves of several runs in one figure.

Runs that differ in nothing but their seed are one curve: the mean over seeds, with a band that is
its 95 % confidence interval (Student's t) or, on a logarithmic axis, spans the runs. Curves are
named after the method and whatever else tells them apart; each environment has a panel. Beside the
figure the same numbers are written as csv: env, label, runs, env_steps, mean_return, std_return,
ci95_return (half the interval's width).

Usage: gippo plot run_dirs=[FOLDER,...] [key=value ...]

Keys:
{keys}

Examples:
  gippo plot run_dirs=[runs/first,runs/second]
  gippo plot 'run_dirs=[runs/cartpole]' out=cartpole.png      a sweep's folder: every run below it
  gippo plot 'run_dirs=["runs/*gippo*"]'"""

# What makes no difference to what a run computes, on average over seeds.
_INCIDENTAL = (
    "seed",
    "run_dir",
    "resume",
    "num_threads",
    "device",
    "checkpoint_every",
    "keep_last",
    "tensorboard",
    "rollout",
)


@dataclass
class PlotConfig:
    """What to draw."""

    run_dirs: list[str] = MISSING
    """Folders of runs, folders with runs below them, or patterns of either."""
    out: str = "curves.png"
    """The figure, .png, .svg or .pdf; the csv gets its name."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        if not self.run_dirs:
            raise ArgumentError("run_dirs", "[]", "at least one folder")
        if Path(self.out).suffix not in (".png", ".svg", ".pdf"):
            raise ArgumentError("out", repr(self.out), "a .png, .svg or .pdf file")


def help_text() -> str:
    """What `gippo plot --help` prints."""
    return HELP.format(keys=describe_keys(PlotConfig))


def run(arguments: Sequence[str]) -> int:
    """Plot as the arguments say."""
    settings = configure("plot", PlotConfig, arguments)
    out = Path(settings.out)
    if not out.absolute().parent.is_dir():
        raise UserError(f"out: the folder of {str(out)!r} does not exist")
    run_dirs = [folder for text in settings.run_dirs for folder in find_runs(text)]
    panels = gather(run_dirs)
    plot_comparison(panels, out)
    console = make_console()
    console.print(_table(panels))
    console.print(f"{out} and {out.with_suffix('.csv')}")
    return 0


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


def _table(panels: Mapping[str, Sequence[Curve]]) -> Table:
    """One row per curve."""
    heads = ("environment", "curve", "runs", "best return, mean", "lowest", "highest")
    table = Table(*heads, box=None)
    for env, curve in ((env, curve) for env, curves in panels.items() for curve in curves):
        best = [
            float(max(values[values == values], default=float("nan"))) for values in curve.returns
        ]
        shown = [number(value) for value in (sum(best) / len(best), min(best), max(best))]
        table.add_row(env, curve.label, str(len(best)), *shown)
    return table
