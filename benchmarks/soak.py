"""Train for a long time and tell whether memory, open files or the time of an epoch grow.

    python benchmarks/soak.py --minutes 60 [env=ant num_threads=1 ...]

Everything that `gippo train` does each epoch is done, metrics and checkpoints included. Memory is
the process's resident set; growth is counted from the end of the first minutes, by when everything
that is kept has been allocated. An epoch's time is told by the clock and by the processor, which a
busy machine disturbs less. Ends with status 1 if memory grew by 2 % or more, or if more files
are open at the end than were then.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig
from gippo.environment import make_env, use_threads
from gippo.learner import Learner
from gippo.runs.loggers import loggers_of
from gippo.runs.trainer import Trainer

MOST_GROWTH = 0.02
FOREVER = 10**6


@dataclass(frozen=True)
class Sample:
    """The process after an epoch."""

    seconds: float
    """Since training began."""
    epoch_seconds: float
    processor_seconds: float
    """Of the epoch, over all threads."""
    memory: int
    """Resident set [bytes]."""
    files: int
    """Open descriptors."""


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def soak(config: TrainConfig, seconds: float) -> list[Sample]:
    env = make_env(config.env, device=config.device, seed=config.seed)
    learner = Learner(
        env, config.learner_config, config.method_config, num_epochs=FOREVER, seed=config.seed
    )
    samples: list[Sample] = []
    begun = last = time.monotonic()
    last_processor = time.process_time()

    def report(epoch: int, row: dict[str, float]) -> None:
        nonlocal last, last_processor
        now, processor = time.monotonic(), time.process_time()
        files = len(os.listdir("/proc/self/fd"))
        samples.append(
            Sample(now - begun, now - last, processor - last_processor, resident_bytes(), files)
        )
        last, last_processor = now, processor

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            learner,
            Path(folder),
            num_epochs=FOREVER,
            checkpoint_every=config.checkpoint_every,
            keep_last=config.keep_last,
            loggers=loggers_of(config, Path(folder)),
        )
        trainer.train(stop=lambda: time.monotonic() - begun >= seconds, report=report)
    return samples


def judge(samples: list[Sample], warm_seconds: float) -> int:
    warm = [sample for sample in samples if sample.seconds >= warm_seconds]
    part = max(1, len(warm) // 10)
    early, late = warm[:part], warm[-part:]

    def median(some: list[Sample], name: str) -> float:
        return statistics.median(getattr(sample, name) for sample in some)

    memory = [median(some, "memory") for some in (early, late)]
    growth = memory[1] / memory[0] - 1.0
    print(
        f"{len(samples)} epochs in {samples[-1].seconds / 60:.1f} min, {len(warm)} of them counted"
    )
    print(f"memory      {memory[0] / 1e6:8.1f} -> {memory[1] / 1e6:8.1f} MB   {growth:+.2%}")
    print(f"open files  {early[0].files:8d} -> {late[-1].files:8d}")
    for title, name in (("epoch", "epoch_seconds"), ("processor", "processor_seconds")):
        first, last = (median(some, name) for some in (early, late))
        print(
            f"{title:10s}  {1e3 * first:8.1f} -> {1e3 * last:8.1f} ms   "
            f"{last / first - 1.0:+.2%} (medians of the first and the last tenth)"
        )
    return int(growth >= MOST_GROWTH or late[-1].files > early[0].files)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--warm-minutes", type=float, default=3.0, help="not counted")
    arguments, overrides = parser.parse_known_args()
    config = configure("train", TrainConfig, ["env=ant", *overrides])
    use_threads(config.num_threads)
    samples = soak(config, 60.0 * arguments.minutes)
    gc.collect()
    return judge(samples, 60.0 * arguments.warm_minutes)


if __name__ == "__main__":
    sys.exit(main())
