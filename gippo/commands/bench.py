"""`gippo bench`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gippo.configuration.compose import choices, configure
from gippo.files import check_place
from gippo.terminal.help_text import describe_keys, listed
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError, check_device_name, check_integer, near_matches

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
        check_device_name("device", self.device)
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
    if out is not None:
        check_place("out", out)
    from gippo.studies.bench_report import measure  # torch and Warp, now that all is checked

    console = make_console()
    report = measure(settings, TRAFFIC in settings.envs, console)
    if out is not None:
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        console.print(str(out))
    return 0
