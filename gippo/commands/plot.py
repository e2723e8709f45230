"""`gippo plot`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from gippo.configuration.actors import KEYS, read_actor
from gippo.configuration.compose import configure, with_run
from gippo.environment import use_threads
from gippo.errors import UserError
from gippo.files import check_place
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console
from warp_envs.checks import (
    ArgumentError,
    check_choice,
    check_device_name,
    check_integer,
    check_number,
)

HELP = """\
gippo plot: draw the learning curves of several runs in one figure, or a policy's traffic.

Runs that differ in nothing but their seed are one curve: the mean over seeds, with a band that is
its 95 % confidence interval (Student's t) or, of fewer than four runs and on a logarithmic axis,
spans the runs. Curves are named after the method and whatever else tells them apart; each
environment has a panel. Beside the figure the same numbers are written as csv: env, label, runs,
env_steps, mean_return, std_return, ci95_return (half the interval's width).

With kind=space_time or kind=fundamental a policy drives, and its traffic is drawn: everybody's way
along the first road, coloured by speed; or flow against density as a loop across each road counts
them, a dot a minute. The environment is one whose state has every vehicle's x and speed: ring,
pace_car.

Usage: gippo plot RUN ... [key=value ...]
       gippo plot kind=space_time|fundamental RUN [key=value ...]
       gippo plot kind=space_time|fundamental policy=NAME [env=NAME] [key=value ...]

RUN is a run's folder, one with runs below it, or a pattern of either;
run_dirs=[RUN,...] says the same.

Keys:
{keys}

Keys of traffic:
{traffic_keys}

{actors}

Examples:
  gippo plot runs/first runs/second
  gippo plot runs/cartpole out=cartpole.png      a sweep's folder: every run below it
  gippo plot 'runs/*gippo*'
  gippo plot kind=space_time runs/ring out=after.png
  gippo plot kind=space_time policy=idm env=ring env.autonomous=false out=before.png
  gippo plot kind=fundamental policy=idm env=ring env.max_ring_length=600 out=loops.png"""

KINDS = ("curves", "space_time", "fundamental")
FORMATS = (".png", ".svg", ".pdf")


@dataclass
class PlotConfig:
    """What to draw."""

    run_dirs: list[str] = MISSING
    """Folders of runs, folders with runs below them, or patterns of either."""
    kind: str = "curves"
    """curves, or a picture of traffic: space_time, fundamental."""
    out: str = "curves.png"
    """The figure, .png, .svg or .pdf; the csv gets its name."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        if not self.run_dirs:
            raise ArgumentError("run_dirs", "[]", "at least one folder")
        _check_figure(self.out)


@dataclass
class TrafficPlotConfig:
    """What traffic to draw."""

    kind: str = "space_time"
    """space_time or fundamental."""
    out: str = "traffic.png"
    """The figure, .png, .svg or .pdf."""
    num_envs: int = 16
    """Roads; of a space-time diagram the first is drawn."""
    num_steps: int = 3000
    """Control steps."""
    loop: float = 0.0
    """Where the loop lies [m]; a ring's seam is at 0."""
    checkpoint: str = "best"
    """Of a run: best, newest, or the path of a checkpoint."""
    deterministic: bool = True
    """Act by the policy's mean; false: sample as in training."""
    seed: int = 0
    """Of initial states and sampling."""
    device: str | None = None
    """cpu, cuda, ...; null: as in training."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("num_envs", self.num_envs, 1)
        check_integer("num_steps", self.num_steps, 2)
        check_integer("seed", self.seed, 0, 2**31 - 1)
        if self.device is not None:
            check_device_name("device", self.device)
        check_number("loop", self.loop)
        _check_figure(self.out)


def _check_figure(out: str) -> None:
    if Path(out).suffix not in FORMATS:
        raise ArgumentError("out", repr(out), "a .png, .svg or .pdf file")


def help_text() -> str:
    """What `gippo plot --help` prints."""
    keys, traffic_keys = describe_keys(PlotConfig), describe_keys(TrafficPlotConfig)
    return HELP.format(keys=keys, traffic_keys=traffic_keys, actors=KEYS)


def run(arguments: Sequence[str]) -> int:
    """Plot as the arguments say."""
    kinds = [text.partition("=")[2] for text in arguments if text.startswith("kind=")]
    kind = kinds[-1] if kinds else "curves"
    check_choice("kind", kind, KINDS)
    for text in arguments if kind == "curves" else ():
        key = text.partition("=")[0].partition(".")[0]
        if "=" in text and key in ("policy", "env") and not Path(text).exists():
            accepted = " or ".join(f"kind={name}" for name in KINDS[1:])
            raise UserError(f"{text} given, which is drawn with {accepted} alone")
    return _plot_curves(arguments) if kind == "curves" else _plot_traffic(kind, arguments)


def _plot_traffic(kind: str, arguments: Sequence[str]) -> int:
    actor, rest = read_actor("plot", arguments)
    settings = configure("plot_traffic", TrafficPlotConfig, rest)
    out = _in_a_folder(settings.out)
    from gippo.runs.acting import make_acting
    from gippo.runs.traffic_plots import drive, plot_fundamental, plot_space_time

    use_threads(actor.config.num_threads if actor.config else None)
    env, acting = make_acting(
        actor,
        num_envs=settings.num_envs,
        checkpoint=settings.checkpoint,
        seed=settings.seed,
        device=settings.device,
    )
    steps, seed = settings.num_steps, settings.seed
    driven = drive(env, acting, num_steps=steps, seed=seed, deterministic=settings.deterministic)
    title = f"{actor.name} on {env.name}"
    if kind == "space_time":
        plot_space_time(driven, out, title)
    else:
        human = getattr(env, "human_driver", None)
        plot_fundamental(driven, out, title, at=settings.loop, human=human)
    for line in (*actor.notes, str(out)):
        make_console().print(line, soft_wrap=True, markup=False)
    return 0


def _in_a_folder(out: str) -> Path:
    place = Path(out)
    check_place("out", place)
    return place


def _plot_curves(arguments: Sequence[str]) -> int:
    settings = configure("plot", PlotConfig, with_run(arguments, several=True))
    out = _in_a_folder(settings.out)
    from gippo.runs.comparison import comparison_table, find_runs, gather
    from gippo.runs.plots import plot_comparison

    run_dirs = [folder for text in settings.run_dirs for folder in find_runs(text)]
    panels = gather(run_dirs)
    plot_comparison(panels, out)
    console = make_console()
    console.print(comparison_table(panels))
    console.print(f"{out} and {out.with_suffix('.csv')}")
    return 0
