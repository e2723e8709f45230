"""`gippo bench`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gippo.configuration.compose import choices, configure
from gippo.configuration.run_config import TrainConfig
from gippo.environment import use_threads
from gippo.errors import UserError
from gippo.studies.bench import (
    PEERS,
    PeerSpeed,
    StepSpeed,
    TrainingSpeed,
    as_json,
    machine,
    measure_peer,
    measure_steps,
    measure_training,
)
from gippo.studies.traffic_bench import measure_sumo, measure_traffic
from gippo.terminal.help_text import describe_keys, listed
from gippo.terminal.progress import make_console
from warp_envs import get_num_threads, set_num_threads
from warp_envs.checks import ArgumentError, check_integer, near_matches

HELP = """\
gippo bench: measure environment steps per second, forward and with gradients, and training epochs
per second with the share of each stage.

Each figure is the median over at least three windows or epochs and `seconds`, after one that is not
counted. Other load on the machine shows in them.

Usage: gippo bench [key=value ...]

Keys:
{keys}

{env}

Examples:
  gippo bench
  gippo bench envs=[cartpole] num_envs=[64,1024] algos=[] out=cartpole.json
  gippo bench env=ant device=cuda compiled=true num_envs=[64,1024,8192,65536] algos=[]
  gippo bench env=traffic                       vehicle updates, beside SUMO where it is installed
  gippo bench env=ant algos=[] peer=PYTHON      beside rewarped (benchmarks/peer_rewarped.py)"""

TRAFFIC = "traffic"


@dataclass
class BenchConfig:
    """What to measure."""

    envs: list[str] = field(default_factory=lambda: ["cartpole"])
    """Names from configs/env/, or traffic for the traffic simulator alone; env=NAME for one."""
    peer: str | None = None
    """An interpreter that has rewarped: its environments of the same name are timed as well."""
    num_envs: list[int] = field(default_factory=lambda: [64, 256])
    """Batch sizes of the environments alone."""
    horizon: int = 32
    """Steps per window."""
    algos: list[str] = field(default_factory=lambda: ["gippo"])
    """Methods whose training is measured, with the environment's presets; [] for none."""
    seconds: float = 3.0
    """Spent on each figure, at least."""
    device: str = "cpu"
    """cpu or cuda."""
    num_threads: int | None = None
    """Of torch on the CPU; null: half the cores, four at most."""
    env_threads: list[int] | None = None
    """Thread counts to try the environments alone with; null: twice num_threads, as in training."""
    compiled: bool | None = None
    """A robot's dynamics: true, the kernel compiled for it; false, the plain ones; null, as env."""
    out: str | None = "benchmark.json"
    """Where all figures go as JSON; null: nowhere."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("horizon", self.horizon, 1)
        for count in self.num_envs:
            check_integer("num_envs", count, 1)
        for count in self.env_threads or ():
            check_integer("env_threads", count, 1)
        if not 0.0 < self.seconds < float("inf"):
            raise ArgumentError("seconds", str(self.seconds), "a positive number")
        accepted = {"envs": [*choices("env"), TRAFFIC], "algos": choices("algo")}
        given = {"envs": self.envs, "algos": self.algos}
        for name, values in given.items():
            for value in values:
                if value not in accepted[name]:
                    raise ArgumentError(
                        name,
                        repr(value),
                        f"any of {accepted[name]}",
                        near_matches(value, accepted[name]),
                    )


def help_text() -> str:
    """What `gippo bench --help` prints."""
    return HELP.format(keys=describe_keys(BenchConfig), env=listed("known envs", choices("env")))


def run(arguments: Sequence[str]) -> int:
    """Measure as the arguments say."""
    # `env=ant`, as the other commands have it, is the short form of a list of one.
    arguments = [re.sub(r"^env=(.*)$", r"envs=[\1]", argument) for argument in arguments]
    settings = configure("bench", BenchConfig, arguments)
    out = None if settings.out is None else Path(settings.out)
    if out is not None and not out.absolute().parent.is_dir():
        raise UserError(f"out: the folder of {str(out)!r} does not exist")
    use_threads(settings.num_threads)
    console = make_console()
    report: dict[str, object] = {"machine": machine(settings.device)}
    names = [name for name in settings.envs if name != TRAFFIC]
    if names:
        report.update(_measure_environments(settings, names, console))
    if TRAFFIC in settings.envs:
        report["traffic"] = _measure_traffic(settings.seconds, console)
    if out is not None:
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        console.print(str(out))
    return 0


def _measure_environments(
    settings: BenchConfig, names: Sequence[str], console: Console
) -> dict[str, object]:
    all_threads = get_num_threads()
    steps: list[StepSpeed] = []
    training: list[TrainingSpeed] = []
    peers: list[PeerSpeed] = []
    for name in names:
        keys = [f"env={name}", f"device={settings.device}"]
        config = configure("train", TrainConfig, keys)
        if settings.compiled is not None and "compiled" in config.env:
            keys.append(f"env.compiled={settings.compiled}")
            config = configure("train", TrainConfig, keys)
        mine = [
            measure_steps(
                config.env,
                num_envs=count,
                horizon=settings.horizon,
                seconds=settings.seconds,
                device=settings.device,
                num_threads=threads,
            )
            for count in settings.num_envs
            for threads in settings.env_threads or [all_threads]
        ]
        steps += mine
        if settings.peer is not None and name in PEERS:
            peers += [measure_peer(settings.peer, speed) for speed in mine]
        for algo in settings.algos:
            set_num_threads(all_threads)
            trained = configure("train", TrainConfig, [*keys, f"algo={algo}"])
            training.append(measure_training(trained, seconds=settings.seconds))
    console.print(_steps_table(steps))
    if training:
        console.print(_training_table(training))
    if peers:
        console.print(_peers_table(peers))
    return {
        "steps": [as_json(speed) for speed in steps],
        "training": [as_json(speed) for speed in training],
        "peers": [as_json(speed) for speed in peers],
    }


def _measure_traffic(seconds: float, console: Console) -> list[dict[str, object]]:
    """Vehicle updates of one core, and SUMO's where libsumo is installed."""
    table = Table("traffic", "roads", "lanes", "vehicles", "ms a step", "M updates/s", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    figures: list[dict[str, object]] = []
    for measure in (measure_traffic, measure_sumo):
        for figure in measure(seconds):
            figures.append({**asdict(figure), "updates_per_second": figure.updates_per_second})
            sizes = [figure.num_roads, figure.num_lanes, figure.num_vehicles]
            table.add_row(
                figure.what,
                *[f"{size:,}" for size in sizes],
                f"{1e3 * figure.seconds_per_step:.3g}",
                f"{figure.updates_per_second / 1e6:.3g}",
            )
    console.print(table)
    return figures


def _peers_table(speeds: Sequence[PeerSpeed]) -> Table:
    table = Table(
        "environment", "copies", "rewarped's steps/s (64)", "with gradients", "ratio", "ratio",
        box=None,
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for speed in speeds:
        rates = [f"{rate:,.0f}" for rate in (speed.peer_forward, speed.peer_forward_backward)]
        ratios = [f"{r:,.0f}" for r in (speed.forward_ratio, speed.forward_backward_ratio)]
        table.add_row(speed.env, str(speed.num_envs), *rates, *ratios)
    return table


def _steps_table(speeds: Sequence[StepSpeed]) -> Table:
    table = Table(
        "environment",
        "copies",
        "threads",
        "steps/s",
        "steps/s with gradients",
        "launches",
        box=None,
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for speed in speeds:
        rates = [f"{rate:,.0f}" for rate in (speed.forward, speed.forward_backward)]
        launches = " + ".join(str(count) for count in speed.launches)
        sizes = [str(speed.num_envs), str(speed.num_threads)]
        table.add_row(speed.env, *sizes, *rates, launches)
    return table


def _training_table(speeds: Sequence[TrainingSpeed]) -> Table:
    stages = list(dict.fromkeys(stage for speed in speeds for stage in speed.shares))
    table = Table("environment", "method", "copies", "epochs/s", *stages, box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for speed in speeds:
        shares = [f"{speed.shares.get(stage, 0.0):.0%}" for stage in stages]
        table.add_row(
            speed.env, speed.algo, str(speed.num_envs), f"{speed.epochs_per_second:.2f}", *shares
        )
    return table
