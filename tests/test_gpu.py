"""Everything that runs on a GPU, held against the CPU: `make test-gpu`.

In double precision both compute the same formulas, but for sines, cosines and exponentials, which
differ in the last bit or two (1e-16), and for the order of sums. Contact amplifies: over 16 control
steps of 16 substeps states and actions off by 1e-14 (relative) end 3e-12 off at most, gradients
too, and the plain kernels, which sum in another order, 1e-13 (measured on a CPU). 1e-9 of the
largest number leaves a thousandfold of room and shows a wrong term. In single precision 6e-8 takes
the place of 1e-16; 1e-2 is allowed after 4 control steps.
"""

import io
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import distributed

import warp_envs
from gippo.configuration.compose import choices, configure
from gippo.configuration.run_config import TrainConfig
from gippo.distributed import Ranks
from gippo.environment import make_env
from gippo.learner import Learner
from tests.gpu_device import DEVICE, on_a_gpu
from warp_envs import Mobil, TrafficSim

pytestmark = pytest.mark.gpu

ENVS = [name for name in choices("env") if name not in ("robot", "go1")]  # files of one's own
METHODS = choices("algo")


def close(found, expected, tolerance):
    """Within a part of the largest number expected."""
    found, expected = found.cpu().double(), expected.cpu().double()
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0.0, atol=tolerance * max(scale, 1e-300))


def env_on(device, name, num_envs=24, dtype=torch.float64, **options):
    config = configure("train", TrainConfig, [f"env={name}"])
    settings = {**config.env, **options}
    return make_env(settings, num_envs=num_envs, device=device, seed=3, dtype=dtype)


def window(env, steps):
    """Observations, rewards and their weighted sum's gradient in the actions."""
    generator = torch.Generator().manual_seed(0)
    shape = (steps, env.num_envs, env.num_actions)
    actions = 1.6 * torch.rand(shape, generator=generator, dtype=torch.float64) - 0.8
    weights = torch.randn(shape[:2], generator=generator, dtype=torch.float64)
    actions = actions.to(env.device, env.dtype).requires_grad_()
    weights = weights.to(env.device, env.dtype)
    env.detach()
    results = [env.step(action)[:2] for action in actions]
    obs, rewards = (torch.stack(parts) for parts in zip(*results, strict=True))
    (gradient,) = torch.autograd.grad((weights * rewards).sum(), actions)
    return obs.detach(), rewards.detach(), gradient


@pytest.mark.parametrize("name", ENVS)
def test_an_environment_gives_what_it_gives_on_a_cpu(name):
    expected, found = (window(env_on(device, name), 16) for device in ("cpu", DEVICE))
    for one, other in zip(found, expected, strict=True):
        close(one, other, 1e-9)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["cartpole", "hopper", "ant"])
def test_single_precision_and_both_kernel_families(name, compiled):
    expected = window(env_on("cpu", name), 4)
    env = env_on(DEVICE, name, dtype=torch.float32, compiled=compiled)
    for one, other in zip(window(env, 4), expected, strict=True):
        close(one, other, 1e-2)


def learner_on(device, *overrides, dtype=torch.float64):
    config = configure("train", TrainConfig, ["env.num_envs=16", *overrides])
    env = make_env(config.env, device=device, seed=config.seed, dtype=dtype)
    return Learner(env, config.learner_config, config.method_config, num_epochs=8, seed=0)


@pytest.fixture
def same_noise(monkeypatch):
    """What is drawn is drawn on the CPU: generators of a GPU draw other numbers."""
    draws = {name: getattr(torch, name) for name in ("randn", "randperm")}

    def begin():
        generator = torch.Generator().manual_seed(1)

        def on_the_cpu(draw):
            def drawn(*shape, dtype=None, device=None, **_):
                return draw(*shape, dtype=dtype, generator=generator).to(device)

            return drawn

        for name, draw in draws.items():
            monkeypatch.setattr(torch, name, on_the_cpu(draw))

    return begin


@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_of_every_method_is_that_of_a_cpu(method, same_noise):
    """A GPU's rates are of single precision, 6e-8 off: after GI-PPO's fit its bias is 8e-6 off."""
    histories = []
    for device in ("cpu", DEVICE):
        same_noise()
        learner = learner_on(device, "env=cartpole", f"algo={method}")
        histories.append([learner.train_epoch() for _ in range(2)])
    for expected, found in zip(*histories, strict=True):
        numbers = {k: v for k, v in expected.items() if v == v}
        assert {k: v for k, v in found.items() if v == v} == pytest.approx(
            numbers, rel=1e-4, abs=1e-7
        )


@on_a_gpu
@pytest.mark.parametrize("method", ["gippo", "ppo"])
def test_epochs_with_cuda_graphs_are_those_without(method, same_noise):
    """The same kernels on the same numbers: only the order of sums inside one may differ."""
    histories = []
    for graphs in (False, True):
        same_noise()
        learner = learner_on(DEVICE, "env=cartpole", f"algo={method}", f"learner.graphs={graphs}")
        histories.append([learner.train_epoch() for _ in range(8)])
        captured = bool(learner.critic._all_passes._captured)
        assert captured == graphs
    for expected, found in zip(*histories, strict=True):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


def test_a_checkpoint_goes_to_a_cpu_and_back(same_noise):
    origin = learner_on(DEVICE, "env=cartpole")
    origin.train_epoch()
    file = io.BytesIO()
    torch.save(origin.state_dict(), file)
    obs = torch.ones(4, origin.actor.mlp.sizes[0], dtype=torch.float64)
    expected = origin.act(obs.to(DEVICE), deterministic=True).cpu()
    for device in ("cpu", DEVICE):
        file.seek(0)
        other = learner_on(device, "env=cartpole")
        state = torch.load(file, map_location="cpu", weights_only=True)
        if device != DEVICE:  # a generator's state is its device's own
            fresh = other.state_dict()
            state.update({k: fresh[k] for k in state if "generator" in k})
        other.load_state_dict(state)
        assert other.epoch == 1
        close(other.act(obs.to(device), deterministic=True), expected, 1e-12)
    same_noise()
    first = origin.train_epoch()
    same_noise()
    assert other.train_epoch() == pytest.approx(first, rel=1e-5, abs=1e-8, nan_ok=True)


@pytest.mark.parametrize("roads", [(64, 11), (1, 5000)])
def test_traffic_and_its_sort(roads):
    """Many cars on one road are sorted by torch on a GPU, a thread of a CPU sorts each lane."""
    results = []
    for device in ("cpu", DEVICE):
        count, cars = roads
        options = {"ring_length": 40.0 * cars, "mobil": Mobil(), "dtype": torch.float64}
        sim = TrafficSim(count, 3, cars, device=device, **options)
        generator = torch.Generator().manual_seed(0)
        state = sim.get_state()
        speed = 30.0 * torch.rand((count, cars), generator=generator, dtype=torch.float64)
        speed = speed.to(device).requires_grad_()
        sim.set_state({**state, "speed": speed})
        after = sim.run(16)
        (gradient,) = torch.autograd.grad(after["x"].sum(), speed)
        results.append((after["x"].detach(), after["speed"].detach(), gradient))
    for expected, found in zip(*results, strict=True):
        close(found, expected, 1e-9)


@on_a_gpu
def test_an_epoch_waits_for_the_gpu_a_bounded_number_of_times():
    """One wait for a rollout's verdict, the critic, the statistics, the metrics; one an attempt."""
    learner = learner_on(DEVICE, "env=cartpole", dtype=torch.float32)
    for _ in range(5):  # graphs are captured in the fourth
        learner.train_epoch()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            metrics = learner.train_epoch()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = Counter(
        f"{Path(w.filename).name}:{w.lineno}" for w in seen if "synchroniz" in str(w.message)
    )
    retries = sum(value for name, value in metrics.items() if name.endswith("_retries"))
    assert sum(waits.values()) <= 24 + 2 * retries, waits


def test_a_process_of_torchrun_trains_and_resumes(tmp_path):
    run, kind = tmp_path / "run", DEVICE.partition(":")[0]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    command += ["-m", "gippo", "train", f"run_dir={run}"]
    given = ["env=cartpole", f"device={kind}", "env.num_envs=16", "rollout.num_envs=0", "logger=[]"]
    for more in ([*given, "num_epochs=2"], ["resume=true", "num_epochs=3"]):
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3


def test_messages_arrive_as_they_were_sent(tmp_path):
    """By NCCL, from one process to itself: it takes no two on one GPU."""
    if DEVICE != "cpu":
        torch.cuda.set_device(DEVICE)
    backend = "gloo" if DEVICE == "cpu" else "nccl"
    meet = f"file://{tmp_path / 'meet'}"
    distributed.init_process_group(backend, init_method=meet, rank=0, world_size=1)
    try:
        ranks = Ranks()
        ranks.alone = False
        env = env_on(DEVICE, "cartpole")
        for sent in (*env.get_state().values(), torch.tensor([True, False], device=DEVICE)):
            assert torch.equal(ranks.joined(sent), sent)
            assert torch.equal(ranks.most(sent), sent)
            assert torch.equal(ranks.share(sent), sent)
        numbers = [torch.randn(shape, device=DEVICE) for shape in ((), (3,), (2, 4))]
        for found, expected in zip(ranks.means(*numbers), numbers, strict=True):
            assert torch.equal(found, expected)
        told = ranks.told({"state": {"x": numbers[1]}, "epoch": 3})
        assert told["epoch"] == 3 and torch.equal(told["state"]["x"], numbers[1].cpu())
        assert ranks.any(True) and not ranks.any(False)
    finally:
        distributed.destroy_process_group()


@on_a_gpu
def test_windows_on_a_side_stream_are_those_of_the_default_one():
    def windows(stream):
        env = warp_envs.make("ant", num_envs=256, device=DEVICE, seed=0)
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            found = [window(env, 16) for _ in range(3)]
        torch.cuda.synchronize()
        return [tensor for parts in found for tensor in parts]

    default = windows(torch.cuda.default_stream())
    for other in (windows(torch.cuda.Stream()), windows(torch.cuda.default_stream())):
        for one, two in zip(other, default, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
