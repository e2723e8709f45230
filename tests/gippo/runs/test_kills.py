"""A run killed at random moments and resumed ends as one that was never disturbed.

Three kills of a short run; ``GIPPO_KILLS=20 pytest tests/gippo/runs/test_kills.py`` kills a run of
200 Cartpole epochs that often.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gippo.runs.checkpoint import read

KILLS = int(os.environ.get("GIPPO_KILLS", "0"))
SHORT = ("env=dejong", "num_epochs=60", "env.num_envs=4", "learner.actor.hidden=[4]")
LONG = ("env=cartpole", "num_epochs=200")


def start(run_dir: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "gippo", "train", "num_threads=1", "logger=[]"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(
        [*command, f"run_dir={run_dir}", *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=run_dir.parent,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def num_rows(run_dir: Path) -> int:
    metrics = run_dir / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def rows(run_dir: Path) -> list[str]:
    """All of the metrics file but the time of day: `wall_time` is what no two runs share."""
    told = [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]
    return [json.dumps({k: v for k, v in row.items() if k != "wall_time"}) for row in told]


def leaves(tree, name=""):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{name}.{key}")
    else:
        yield name, tree


def learner(path: Path) -> dict[str, object]:
    found = dict(leaves(read(path)["learner"]))
    return {
        name: v.tolist() if isinstance(v, torch.Tensor) else repr(v) for name, v in found.items()
    }


def kill(process: subprocess.Popen, run_dir: Path, epoch: int, delay: float) -> None:
    """Once `epoch` rows are told and `delay` seconds have passed."""
    deadline = time.monotonic() + 300.0
    while num_rows(run_dir) < epoch and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_one(tmp_path):
    overrides = LONG if KILLS else SHORT
    num_epochs = int(overrides[1].partition("=")[2])
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    undisturbed = start(whole, *overrides)

    def go_on() -> subprocess.Popen:
        begun = (run_dir / "config.yaml").exists()
        how = ("resume=true",) if begun else overrides
        return start(run_dir, *how, f"checkpoint_every={7 if KILLS else 3}")

    for epoch in sorted(chance.randrange(num_epochs) for _ in range(KILLS or 3)):
        kill(go_on(), run_dir, epoch, delay=chance.uniform(0.0, 0.05))
        print(f"killed after {num_rows(run_dir)} epochs (seed {seed})")
    finish(go_on())
    finish(undisturbed)
    assert rows(run_dir) == rows(whole)
    for name in (f"epoch_{num_epochs:06d}.pt", "best.pt"):
        one, other = (learner(folder / "checkpoints" / name) for folder in (run_dir, whole))
        assert one == other, name
