"""Two codes of this project side by side: an epoch of GI-PPO each in turns, stage by stage.

    python benchmarks/beside.py OLD NEW ENV [--pairs 150] [--env-threads 2]

OLD and NEW are checkouts, this one or others, from before the rooms were built as well. Each
trains in a process of its own that waits while the other has its turn; ratios are of neighbouring
epochs, so that a machine whose speed changes does not show in them. Retries are off: both codes do
the same work. Leave the machine alone meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

STAGES = ("rollout", "gradient", "update", "epoch")
WARM_UP = 6

TRAINER = """
import json, sys, time
env_id, env_threads = sys.argv[1], int(sys.argv[2])
import torch
import warp_envs
from gippo.environment import make_env
try:
    from gippo.configuration.compose import configure
    from gippo.configuration.run_config import TrainConfig
    from gippo.learner import Learner as make
except ImportError:  # before the rooms
    from gippo.compose import configure
    from gippo.learner import make_learner as make
    from gippo.run_config import TrainConfig
retries = ("algo.alpha.retry.retries=0", "algo.ppo.retry.retries=0")
config = configure("train", TrainConfig, [f"env={env_id}", "env.num_envs=64", *retries])
torch.set_num_threads(1)
warp_envs.set_num_threads(env_threads)
env = make_env(config.env, device="cpu", seed=0)
settings = config.learner_config if hasattr(config, "learner_config") else config.learner
learner = make(env, settings, config.method_config, num_epochs=1000, seed=0)
print("ready", flush=True)
for _ in sys.stdin:
    started = time.perf_counter()
    learner.train_epoch()
    seconds = {**learner.stage_seconds, "epoch": time.perf_counter() - started}
    print("epoch " + json.dumps(seconds), flush=True)
"""


def start(checkout: Path, env_id: str, env_threads: int) -> subprocess.Popen[str]:
    """A process that trains an epoch for each line it is sent."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINER, env_id, str(env_threads)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    answer(process, "ready")
    return process


def answer(process: subprocess.Popen[str], word: str) -> str:
    """The rest of the next line that begins with a word."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line[len(word) :]
    raise SystemExit("a process ended, see above")


def epoch(process: subprocess.Popen[str]) -> dict[str, float]:
    """Seconds of an epoch by stage."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return json.loads(answer(process, "epoch "))  # type: ignore[no-any-return]


def main() -> None:
    """Print medians and quartiles of the ratios NEW / OLD."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("env")
    parser.add_argument("--pairs", type=int, default=150)
    parser.add_argument("--env-threads", type=int, default=2)
    options = parser.parse_args()
    checkouts = (options.old.resolve(), options.new.resolve())
    both = [start(checkout, options.env, options.env_threads) for checkout in checkouts]
    pairs = []
    for number in range(WARM_UP + options.pairs):
        order = (0, 1) if number % 2 else (1, 0)
        seconds = {which: epoch(both[which]) for which in order}
        pairs.append((seconds[0], seconds[1]))
    for process in both:
        process.kill()
    for stage in STAGES:
        ratios = [new[stage] / old[stage] for old, new in pairs[WARM_UP:]]
        low, middle, high = statistics.quantiles(ratios, n=4)
        before, now = (1e3 * statistics.median(p[i][stage] for p in pairs) for i in (0, 1))
        print(
            f"{stage:9s}{middle:.2f} ({low:.2f} to {high:.2f})   {before:.1f} -> {now:.1f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
