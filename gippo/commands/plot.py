"""`gippo plot`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from gippo.configuration.compose import configure, with_run
from gippo.errors import UserError
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError

HELP = """\
gippo plot: draw the learning curves of several runs in one figure.

Runs that differ in nothing but their seed are one curve: the mean over seeds, with a band that is
its 95 % confidence interval (Student's t) or, of fewer than four runs and on a logarithmic axis,
spans the runs. Curves are named after the method and whatever else tells them apart; each
environment has a panel. Beside the figure the same numbers are written as csv: env, label, runs,
env_steps, mean_return, std_return, ci95_return (half the interval's width).

Usage: gippo plot RUN ... [key=value ...]

RUN is a run's folder, one with runs below it, or a pattern of either;
run_dirs=[RUN,...] says the same.

Keys:
{keys}

Examples:
  gippo plot runs/first runs/second
  gippo plot runs/cartpole out=cartpole.png      a sweep's folder: every run below it
  gippo plot 'runs/*gippo*'"""


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
    settings = configure("plot", PlotConfig, with_run(arguments, several=True))
    out = Path(settings.out)
    if not out.absolute().parent.is_dir():
        raise UserError(f"out: the folder of {str(out)!r} does not exist")
    from gippo.runs.comparison import comparison_table, find_runs, gather
    from gippo.runs.plots import plot_comparison

    run_dirs = [folder for text in settings.run_dirs for folder in find_runs(text)]
    panels = gather(run_dirs)
    plot_comparison(panels, out)
    console = make_console()
    console.print(comparison_table(panels))
    console.print(f"{out} and {out.with_suffix('.csv')}")
    return 0
