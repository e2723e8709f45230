"""`gippo plot`."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from rich.table import Table

from gippo.compose import configure
from gippo.errors import UserError
from gippo.help_text import describe_keys
from gippo.metrics import METRICS_FILE, read_metrics
from gippo.plots import Curve, plot_comparison
from gippo.progress import make_console, number
from gippo.run_config import CONFIG_FILE, TrainConfig, keys_of, load_config, to_omegaconf

HELP = """\
gippo plot: draw the learning curves of several runs in one figure.

Runs that differ in nothing but their seed are one curve: the mean over seeds, with a band of one
standard deviation. Curves are named after the method and whatever else tells them apart. Beside the
figure the same numbers are written as csv: label, runs, env_steps, mean_return, std_return.

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
            raise ValueError("run_dirs: [] given, at least one folder accepted")
        if Path(self.out).suffix not in (".png", ".svg", ".pdf"):
            raise ValueError(f"out: {self.out!r} given, a .png, .svg or .pdf file accepted")


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
    curves = gather(run_dirs)
    title = ", ".join(sorted({str(load_config(folder).env["id"]) for folder in run_dirs}))
    plot_comparison(curves, out, title)
    console = make_console()
    console.print(_table(curves))
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


def gather(run_dirs: Sequence[Path]) -> list[Curve]:
    """Group runs that differ in their seed only, and name the groups by what differs."""
    groups: dict[str, tuple[TrainConfig, list[Path]]] = {}
    for run_dir in dict.fromkeys(run_dirs):
        config = load_config(run_dir)
        groups.setdefault(_identity(config), (config, []))[1].append(run_dir)
    labels = _labels([config for config, _ in groups.values()])
    curves = []
    for label, (_, folders) in zip(labels, groups.values(), strict=True):
        columns = [read_metrics(folder) for folder in folders]
        curves.append(
            Curve(label, [c["env_steps"] for c in columns], [c["episode_return"] for c in columns])
        )
    return curves


def _identity(config: TrainConfig) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(_essential(config)))


def _essential(config: TrainConfig) -> dict[str, Any]:
    everything = OmegaConf.to_container(to_omegaconf(config))
    assert isinstance(everything, dict)
    return {str(name): value for name, value in everything.items() if name not in _INCIDENTAL}


def _labels(configs: Sequence[TrainConfig]) -> list[str]:
    """The method, the environment when there are several, and the values that tell curves apart."""
    nodes = [OmegaConf.create(_essential(config)) for config in configs]
    several_envs = len({str(config.env) for config in configs}) > 1
    labels = []
    for config, node in zip(configs, nodes, strict=True):
        name = config.algo.name + (f", {config.env['id']}" if several_envs else "")
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
        labels.append(", ".join([name, *(f"{k}={OmegaConf.select(node, k)}" for k in differing)]))
    return labels


def _plain(node: Any) -> dict[Any, Any]:
    container = OmegaConf.to_container(node)
    assert isinstance(container, dict)
    return container


def _table(curves: Sequence[Curve]) -> Table:
    table = Table("curve", "runs", "best return, mean", "lowest", "highest", box=None)
    for curve in curves:
        best = [
            float(max(values[values == values], default=float("nan"))) for values in curve.returns
        ]
        shown = [number(value) for value in (sum(best) / len(best), min(best), max(best))]
        table.add_row(curve.label, str(len(best)), *shown)
    return table
