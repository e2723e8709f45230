"""Table 2: what an epoch of each method costs, side by side in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig
from gippo.environment import make_env
from gippo.learner import Learner
from gippo.studies.reproduction.paper import METHODS, Problem
from gippo.studies.reproduction.tables import NEAR

EPOCHS = 30
"""Timed of each method, by default."""


@dataclass(frozen=True)
class Timing:
    """A method's epochs on a problem."""

    problem: Problem
    method: str
    seconds: float
    """Median of an epoch."""
    num_epochs: int
    """Of a whole training."""
    ratio: float
    """To PPO's median."""

    @property
    def paper_ratio(self) -> float | None:
        """The paper's, of whole trainings."""
        times = self.problem.seconds
        return None if times is None or self.method not in times else (
            times[self.method] / times["ppo"]
        )  # fmt: skip


def measure(
    problem: Problem,
    methods: Sequence[str],
    *,
    epochs: int,
    device: str,
    report: Callable[[str], None],
) -> list[Timing]:
    """Train all methods in turns, an epoch each, so that a busy machine slows all alike."""
    names = list(dict.fromkeys(["ppo", *methods]))
    configs = {
        name: configure(
            "train", TrainConfig, [f"env={problem.env}", f"algo={name}", f"device={device}"]
        )
        for name in names
    }
    learners = {name: _learner(config) for name, config in configs.items()}
    durations: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(epochs + 1):
        for name, learner in learners.items():
            started = time.perf_counter()
            learner.train_epoch()
            durations[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values[1:]) for name, values in durations.items()}
    report(f"{problem.env}: PPO's epoch takes {1e3 * medians['ppo']:.1f} ms")
    return [
        Timing(
            problem, name, medians[name], configs[name].num_epochs, medians[name] / medians["ppo"]
        )
        for name in sorted(names, key=list(METHODS).index)
    ]


def _learner(config: TrainConfig) -> Learner:
    env = make_env(config.env, device=config.device, seed=config.seed)
    return Learner(
        env, config.learner, config.method_config, num_epochs=config.num_epochs, seed=config.seed
    )


HEADER = ("problem", "method", "s/training", "to PPO", "paper's s", "paper's to PPO", "verdict")


def timing_rows(timings: Sequence[Timing]) -> list[list[str]]:
    """One row a timing."""
    rows = []
    for timing in timings:
        times, paper = timing.problem.seconds or {}, timing.paper_ratio
        if paper is None:
            verdict = "no paper value"
        elif timing.ratio <= paper:
            verdict = "reached"
        else:
            verdict = "near" if timing.ratio <= (1.0 + NEAR) * paper else "short"
        rows.append(
            [
                timing.problem.title,
                METHODS[timing.method],
                f"{timing.seconds * timing.num_epochs:.0f}",
                f"{timing.ratio:.2f}",
                f"{times[timing.method]:.0f}" if timing.method in times else "-",
                "-" if paper is None else f"{paper:.2f}",
                verdict,
            ]
        )
    return rows
