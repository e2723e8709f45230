"""An epoch of training with the native passes of the networks and without, in turns.

    python benchmarks/native.py [--turns 9] [--epochs 3] env=ant [algo=gippo ...]

Three learners stand in one process: with all native passes; with torch in place of the one that
rollouts and values take through the networks (`Mlp.frozen`); and with torch everywhere
(`learner.native=false`). In a turn each loads the same state, trains the same epochs, to rounding,
and is timed by the processor, over all threads, and by the clock; who goes first rotates. Medians
over turns are told, and ratios to the first, taken within a turn, so that load which comes and goes
disturbs them least. Updates are not retried, so that all have the same work.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

from gippo.configuration.run_config import TrainConfig
from gippo.environment import make_env
from gippo.learner import Learner
from gippo.networks.perceptron import Mlp

WARM_TURNS = 2
NATIVE, ROLLOUT, TORCH = "native passes", "but for rollouts' and values'", "torch alone"
STAGES = ("rollout", "gradient", "update")


@dataclass(frozen=True)
class Spent:
    """Seconds of an epoch, means over a turn's."""

    processor: float
    clock: float
    stages: tuple[float, ...]
    """By the clock."""


def use_plain_functions(mlp: Mlp) -> None:
    """Let `frozen` be torch's operations."""
    mlp.frozen = mlp.plainly_frozen


def make(config: TrainConfig) -> dict[str, Learner]:
    """One learner of each kind."""
    learners = {}
    for name in (NATIVE, ROLLOUT, TORCH):
        own = copy.deepcopy(config)
        own.learner.native = name != TORCH
        env = make_env(own.env, device=own.device, seed=own.seed)
        learners[name] = Learner(
            env, own.learner, own.method_config, num_epochs=own.num_epochs, seed=own.seed
        )
    for mlp in (learners[ROLLOUT].actor.mlp, learners[ROLLOUT].critic.target.mlp):
        use_plain_functions(mlp)
    return learners


def measure(learner: Learner, epochs: int) -> Spent:
    stages = [0.0 for _ in STAGES]
    processor, clock = time.process_time(), time.perf_counter()
    for _ in range(epochs):
        learner.train_epoch()
        stages = [
            sum + learner.stage_seconds[name] for sum, name in zip(stages, STAGES, strict=True)
        ]
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    return Spent(processor / epochs, clock / epochs, tuple(stage / epochs for stage in stages))
