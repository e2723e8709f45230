"""Two processes on a CPU against one: the same training to rounding, files that both can read.

And what becomes of a run when one of its processes is stopped or killed.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.utils._pytree import tree_leaves

from gippo.cli import main
from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig
from gippo.distributed import Ranks, joined_ranks
from gippo.environment import make_env
from gippo.errors import UserError
from gippo.learner import Learner
from gippo.runs.checkpoint import CheckpointFolder
from gippo.runs.metrics import read_metrics
from gippo.runs.training import _make_learner
from tests.gippo.device_stand_in import DEVICE, DeviceStandIn
from tests.gippo.networks.graph_stand_in import as_on_a_gpu

ROOT = Path(__file__).parents[2]
SMALL = [
    "env.num_envs=8",
    "learner.horizon=8",
    "num_epochs=2",
    "num_threads=1",
    "rollout.num_envs=0",
    "logger=[]",
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


def two_processes(run_dir, *arguments):
    """As torchrun starts them, but without torchrun, which would end one when the other ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(port), "PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "gippo", "train", f"run_dir={run_dir}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]


def wait_for_epoch(epoch, run_dir, processes):
    deadline, metrics = time.monotonic() + 120.0, run_dir / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < epoch:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)


def assert_same(first, second, rows):
    assert set(first) == set(second)
    for name in set(first) - set(RUNTIME):
        mine, theirs = first[name][:rows], second[name][:rows]
        assert mine == pytest.approx(theirs, rel=2e-3, abs=1e-5, nan_ok=True), name


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_signal_to_any_process_saves_and_one_that_is_killed_loses_nothing_saved(tmp_path):
    run = tmp_path / "run"
    given = ["env=dejong", "env.num_envs=4", "algo=lr", *SMALL[2:], "num_epochs=100000"]
    processes = two_processes(run, *given, "checkpoint_every=2")
    wait_for_epoch(3, run, processes)
    processes[1].send_signal(signal.SIGTERM)
    told = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 0], told
    assert "gippo train run_dir=" in told[0] and told[1] == ""
    (saved,) = (path.name for path in sorted((run / "checkpoints").glob("epoch_*"))[-1:])
    done = len((run / "metrics.jsonl").read_text().splitlines())
    assert saved == f"epoch_{done:06d}.pt"

    processes = two_processes(run, "resume=true", "checkpoint_every=2")
    wait_for_epoch(done + 3, run, processes)
    processes[1].kill()
    told, _ = processes[0].communicate(timeout=60)
    processes[1].communicate()
    assert processes[0].returncode == 1
    (line,) = (line for line in told.splitlines() if line.startswith("gippo: "))
    assert "process 0 of 2 has lost the others" in line and "Traceback" not in told
    last = CheckpointFolder(run / "checkpoints", 2).use_newest(lambda checkpoint: None)
    assert last == [], "the newest checkpoint is whole"

    rows = (run / "metrics.jsonl").read_text().count("\n")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 100000", f"epochs: {rows + 2}"))
    assert main(["train", f"run_dir={run}", "resume=true"]) == 0
    assert list(read_metrics(run)["epoch"]) == list(range(1, rows + 3))


@pytest.mark.slow
def test_a_mistake_ends_all_processes_with_its_message(tmp_path):
    given = ["env=cartpole", *SMALL, "env.num_envs=7", f"run_dir={tmp_path / 'run'}"]
    done = torchrun(*given)
    assert done.returncode != 0
    assert "env.num_envs: 7 given, a multiple of the 2 processes accepted" in done.stderr
    assert "Traceback (most recent call last):\n  File" not in done.stderr.split("gippo: ")[0]


@pytest.mark.parametrize(("device", "said"), [("cuda", "2 processes"), ("cuda:0", "'cuda:0'")])
def test_a_device_that_is_not_one_for_each_process_is_refused(device, said, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=rf"^device: .*{said}.* accepted"), joined_ranks(device):
        pass


def test_a_minibatch_has_a_sample_of_every_process():
    given = ["env=dejong", "algo=ppo", "algo.minibatch_size=1"]
    with pytest.raises(UserError, match=r"^minibatch_size: 1 given, .* 2 processes accepted"):
        _make_learner(configure("train", TrainConfig, given), Ranks(0, 2), "cpu")


SENT = ["algo=gippo_adaptive", "algo=lr_rp"]
SENT += [
    pytest.param(key, marks=pytest.mark.slow)
    for key in ("algo=gippo", "algo=pe", "env=ring", "env=merge")
]


@pytest.mark.parametrize("key", SENT)
def test_tensors_are_sent_from_the_device_and_what_is_pickled_from_the_host(key, monkeypatch):
    """NCCL sends nothing else, and a pickled tensor of a GPU comes up on the sender's again."""
    device, sent, pickled = DeviceStandIn(), [], []

    def all_gather(parts, tensor):
        sent.append(device.holds(tensor))
        for part in parts:
            part.copy_(tensor)

    def all_reduce(tensor):
        sent.append(device.holds(tensor))
        tensor.mul_(2)

    def broadcast(values, source):
        leaves = [x for x in tree_leaves(values) if isinstance(x, torch.Tensor)]
        pickled.extend(device.holds(x) for x in leaves)

    monkeypatch.setattr(distributed, "all_gather", all_gather)
    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(distributed, "broadcast_object_list", broadcast)
    monkeypatch.setattr(distributed, "all_gather_object", lambda flags, flag: None)
    as_on_a_gpu(monkeypatch)
    given = ["env=dejong", "algo=ppo", key, "env.num_envs=4", "learner.horizon=4"]
    given += ["learner.native=false", "learner.parallel_updates=false"]
    config, ranks = configure("train", TrainConfig, given), Ranks(0, 2)
    with device.active():
        env = make_env(config.env, device=str(DEVICE), seed=0)
        options = {"num_epochs": 2, "seed": 0, "ranks": ranks}
        learner = Learner(env, config.learner_config, config.method_config, **options)
        learner.train_epoch()
        ranks.told(learner.state_dict())
    assert len(sent) > 10 and all(sent)
    assert len(pickled) > 10 and not any(pickled)
