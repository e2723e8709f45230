"""An epoch of training with the networks' native passes and with torch's operations, in turns.

    python benchmarks/native.py [--turns 7] [--epochs 3] [--envs cartpole ant ...] [algo=gippo ...]

Two learners stand in one process, one of them with `learner.native=false`. In a turn each loads the
same state and trains the same epochs, to rounding; who goes first alternates. Told are medians over
turns, by the processor, over all threads, and by the clock, and the median ratio of torch's time to
the native, taken within a turn, so that load which comes and goes disturbs it least. Updates are
not retried, so that both have the same work.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig
from gippo.environment import make_env, use_threads
from gippo.learner import Learner

WARM_TURNS = 2
ENVS = ("cartpole", "ant", "hopper", "pace_car", "pace_car10", "dejong64")
STAGES = ("rollout", "gradient", "update")
WITHOUT_RETRIES = ("algo.alpha.retry.retries=0", "algo.ppo.retry.retries=0")


@dataclass(frozen=True)
class Spent:
    """Milliseconds of an epoch, mean over a turn's."""

    processor: float
    clock: float
    stages: tuple[float, ...]
    """By the clock."""


def make(overrides: Sequence[str], native: bool) -> Learner:
    config = configure("train", TrainConfig, [*overrides, f"learner.native={native}"])
    use_threads(config.num_threads)
    env = make_env(config.env, device=config.device, seed=config.seed)
    return Learner(
        env, config.learner, config.method_config, num_epochs=config.num_epochs, seed=config.seed
    )


def measure(learner: Learner, epochs: int) -> Spent:
    stages = dict.fromkeys(STAGES, 0.0)
    processor, clock = time.process_time(), time.perf_counter()
    for _ in range(epochs):
        learner.train_epoch()
        for name in STAGES:
            stages[name] += learner.stage_seconds[name]
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    factor = 1e3 / epochs
    return Spent(
        factor * processor, factor * clock, tuple(factor * value for value in stages.values())
    )


def compare(overrides: Sequence[str], turns: int, epochs: int) -> list[tuple[Spent, Spent]]:
    """Each turn's figures, native and torch's."""
    learners = [make(overrides, native) for native in (True, False)]
    results = []
    for turn in range(WARM_TURNS + turns):
        state = learners[0].state_dict()
        spent: dict[int, Spent] = {}
        for number in (0, 1) if turn % 2 else (1, 0):
            learners[number].load_state_dict(state)
            spent[number] = measure(learners[number], epochs)
        if turn >= WARM_TURNS:
            results.append((spent[0], spent[1]))
    return results


def cells(results: Sequence[tuple[Spent, Spent]]) -> list[str]:
    """Of a row of the table."""
    parts = [
        [(spent.processor, spent.clock, *spent.stages) for spent in kind]
        for kind in zip(*results, strict=True)
    ]
    medians = [[statistics.median(column) for column in zip(*part, strict=True)] for part in parts]
    ratios = [
        statistics.median(torch[i] / native[i] for native, torch in zip(*parts, strict=True))
        for i in range(2)
    ]
    times = [f"{native:.0f}, {torch:.0f}" for native, torch in zip(*medians, strict=True)]
    return [*times, *(f"{ratio:.2f}" for ratio in ratios)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=3, help="in each turn")
    parser.add_argument("--envs", nargs="+", default=ENVS)
    arguments, overrides = parser.parse_known_args()
    heads = ("processor", "clock", *STAGES, "ratio, processor", "ratio, clock")
    table = Table("native, torch [ms]", *heads, box=None)
    for env in arguments.envs:
        given = [f"env={env}", *WITHOUT_RETRIES, *overrides]
        table.add_row(env, *cells(compare(given, arguments.turns, arguments.epochs)))
    Console(width=120, highlight=False).print(table)


if __name__ == "__main__":
    main()
