"""Environment steps per second of training by one process and by several, in turns.

    python benchmarks/scaling.py [--processes 2] [--turns 5] [--epochs 20] [env=ant ...]

A turn trains with one process, with N that share its environments out, and with N that have as many
each; every process has one thread. Ratios are taken within a turn, so that load which comes and
goes disturbs them least, and their median and extremes are told. Leave the machine alone
meanwhile all the same: N processes feel another one's load more than one does. The last column
counts a process's processor time in the place of the clock's: what would be reached if no process
ever waited, for a core or for the others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import warp_envs
from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig
from gippo.distributed import joined_ranks
from gippo.environment import make_env
from gippo.learner import Learner

Speeds = dict[str, float]

ONE_THREAD = ["learner.parallel_updates=false"]
WARM_EPOCHS = 3
PROCESSOR = "training, by processor"
STAGES = {
    "rollout": ("rollout",),
    "rollout and gradient": ("rollout", "gradient"),
    "training": ("rollout", "gradient", "update", "rest"),
}


def measure(overrides: Sequence[str], epochs: int, out: Path) -> None:
    """Be one of the processes; the first writes the steps per second of each part of an epoch."""
    config = configure("train", TrainConfig, overrides)
    torch.set_num_threads(1)
    warp_envs.set_num_threads(1)
    with joined_ranks(config.device) as (ranks, device):
        num_envs = int(config.env["num_envs"])
        env = make_env(config.env, num_envs=num_envs // ranks.size, device=device, seed=config.seed)
        learner = Learner(
            env,
            config.learner,
            config.method_config,
            num_epochs=config.num_epochs,
            seed=config.seed,
            ranks=ranks,
        )
        spent: dict[str, list[float]] = {name: [] for name in (*STAGES, PROCESSOR)}
        for epoch in range(WARM_EPOCHS + epochs):
            started = time.process_time()
            learner.train_epoch()
            if epoch >= WARM_EPOCHS:
                spent[PROCESSOR].append(time.process_time() - started)
                for name, stages in STAGES.items():
                    spent[name].append(sum(learner.stage_seconds[stage] for stage in stages))
    if ranks.rank == 0:
        steps = num_envs * config.learner.horizon
        speeds = {name: steps / statistics.median(seconds) for name, seconds in spent.items()}
        out.write_text(json.dumps(speeds), encoding="utf-8")


def run(processes: int, num_envs: int, epochs: int, overrides: Sequence[str]) -> Speeds:
    """Start so many processes on so many environments in all, and wait for their figures."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "speeds.json"
        start = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        given = [*overrides, f"env.num_envs={num_envs}"]
        worker = [__file__, "--epochs", str(epochs), "--measure", str(out), *given]
        done = subprocess.run(
            [sys.executable, "-m", *start, *worker],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(f"{' '.join(worker)} ended with {done.returncode}:\n{done.stderr}")
        return json.loads(out.read_text(encoding="utf-8"))


def report(turns: Sequence[dict[str, Speeds]]) -> Table:
    """Medians over turns; below them the median ratio to one process, lowest and highest."""
    single, *others = turns[0]
    names = list(turns[0][single])
    table = Table("steps/s", *names, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for case in turns[0]:
        medians = [statistics.median(turn[case][name] for turn in turns) for name in names]
        table.add_row(case, *(f"{value:,.0f}" for value in medians))
    for case in others:
        cells = []
        for name in names:
            ratios = [turn[case][name] / turn[single][name] for turn in turns]
            middle = statistics.median(ratios)
            cells.append(f"{middle:.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
        table.add_row(f"ratio, {case}", *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20, help="counted, in each case of a turn")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments, overrides = parser.parse_known_args()
    overrides = [*ONE_THREAD, *overrides]
    if arguments.measure is not None:
        measure(overrides, arguments.epochs, arguments.measure)
        return
    processes = arguments.processes
    num_envs = int(configure("train", TrainConfig, overrides).env["num_envs"])
    cases = {
        f"{count} x {envs // count}": (count, envs)
        for count, envs in ((1, num_envs), (processes, num_envs), (processes, processes * num_envs))
    }
    console = Console(width=120, highlight=False)
    turns = []
    for number in range(arguments.turns):
        turns.append(
            {
                case: run(count, envs, arguments.epochs, overrides)
                for case, (count, envs) in cases.items()
            }
        )
        console.print(f"turn {number + 1} of {arguments.turns}", style="dim")
    console.print(f"processes x environments of each, {' '.join(overrides)}")
    console.print(report(turns))


if __name__ == "__main__":
    main()
