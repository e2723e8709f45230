"""`gippo bench`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from gippo.bench import StepSpeed, TrainingSpeed, as_json, machine, measure_steps, measure_training
from gippo.compose import choices, configure
from gippo.environment import use_threads
from gippo.errors import UserError, near_matches
from gippo.help_text import describe_keys, listed
from gippo.progress import make_console
from gippo.run_config import TrainConfig, check_integer

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
  gippo bench envs=[cartpole] num_envs=[64,1024] algos=[] out=cartpole.json"""


@dataclass
class BenchConfig:
    """What to measure."""

    envs: list[str] = field(default_factory=lambda: ["cartpole"])
    """Names from configs/env/."""
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
    out: str | None = "benchmark.json"
    """Where all figures go as JSON; null: nowhere."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("horizon", self.horizon, 1)
        for count in self.num_envs:
            check_integer("num_envs", count, 1)
        if not 0.0 < self.seconds < float("inf"):
            raise ValueError(f"seconds: {self.seconds} given, a positive number accepted")
        for name, group in (("envs", "env"), ("algos", "algo")):
            for value in getattr(self, name):
                if value not in choices(group):
                    raise ValueError(
                        f"{name}: {value!r} given, any of {choices(group)} accepted"
                        f"{near_matches(value, choices(group))}"
                    )


def help_text() -> str:
    """What `gippo bench --help` prints."""
    return HELP.format(keys=describe_keys(BenchConfig), env=listed("known envs", choices("env")))


def run(arguments: Sequence[str]) -> int:
    """Measure as the arguments say."""
    settings = configure("bench", BenchConfig, arguments)
    out = None if settings.out is None else Path(settings.out)
    if out is not None and not out.absolute().parent.is_dir():
        raise UserError(f"out: the folder of {str(out)!r} does not exist")
    use_threads(settings.num_threads)
    steps: list[StepSpeed] = []
    training: list[TrainingSpeed] = []
    for name in settings.envs:
        config = configure("train", TrainConfig, [f"env={name}", f"device={settings.device}"])
        steps += [
            measure_steps(
                config.env,
                num_envs=count,
                horizon=settings.horizon,
                seconds=settings.seconds,
                device=settings.device,
            )
            for count in settings.num_envs
        ]
        for algo in settings.algos:
            overrides = [f"env={name}", f"algo={algo}", f"device={settings.device}"]
            trained = configure("train", TrainConfig, overrides)
            training.append(measure_training(trained, seconds=settings.seconds))
    console = make_console()
    console.print(_steps_table(steps))
    if training:
        console.print(_training_table(training))
    if out is not None:
        report = {
            "machine": machine(settings.device),
            "steps": [as_json(speed) for speed in steps],
            "training": [as_json(speed) for speed in training],
        }
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        console.print(str(out))
    return 0


def _steps_table(speeds: Sequence[StepSpeed]) -> Table:
    table = Table("environment", "copies", "steps/s", "steps/s with gradients", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for speed in speeds:
        rates = [f"{rate:,.0f}" for rate in (speed.forward, speed.forward_backward)]
        table.add_row(speed.env, str(speed.num_envs), *rates)
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
