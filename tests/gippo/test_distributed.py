"""Two processes on a CPU against one: the same training to rounding, files that both can read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gippo.cli import main
from gippo.metrics import read_metrics

ROOT = Path(__file__).parents[2]
SMALL = [
    "env.num_envs=8",
    "learner.horizon=8",
    "num_epochs=2",
    "num_threads=1",
    "rollout.num_envs=0",
    "tensorboard=false",
]
RUNTIME = ("wall_time",)


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, "-m", "gippo", "train", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )


def assert_same(first, second, rows):
    assert set(first) == set(second)
    for name in set(first) - set(RUNTIME):
        mine, theirs = first[name][:rows], second[name][:rows]
        assert mine == pytest.approx(theirs, rel=2e-3, abs=1e-5, nan_ok=True), name


# At the usual rate a fit to so few samples overshoots, and rounding grows with every step.
@pytest.mark.parametrize("algo", ["gippo algo.alpha.learning_rate=1e-4", "lr"])
def test_two_processes_train_as_one_and_one_goes_on_with_their_run(tmp_path, algo):
    given = ["env=cartpole", *f"algo={algo}".split(), *SMALL]
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", *given, f"run_dir={one}"]) == 0
    done = torchrun(*given, f"run_dir={two}")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = read_metrics(two)
    assert_same(metrics, read_metrics(one), rows=2)
    assert list(metrics["env_steps"]) == [64, 128]
    assert len(list((two / "checkpoints").glob("epoch_*.pt"))) == 1
    for run in (one, two):
        config = run / "config.yaml"
        config.write_text(config.read_text().replace("num_epochs: 2", "num_epochs: 3"))
        assert main(["train", f"run_dir={run}", "resume=true"]) == 0
    assert_same(read_metrics(two), read_metrics(one), rows=3)


def test_a_mistake_ends_all_processes_with_its_message(tmp_path):
    given = ["env=cartpole", *SMALL, "env.num_envs=7", f"run_dir={tmp_path / 'run'}"]
    done = torchrun(*given)
    assert done.returncode != 0
    assert "env.num_envs: 7 given, a multiple of the 2 processes accepted" in done.stderr
    assert "Traceback (most recent call last):\n  File" not in done.stderr.split("gippo: ")[0]
