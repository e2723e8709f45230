"""How fast environments step and how fast training goes, measured on this machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import warp_envs
from gippo.configuration.run_config import TrainConfig
from gippo.environment import make_env
from gippo.errors import UserError
from gippo.learner import Learner

PEERS = ("ant", "cartpole", "hopper")
"""Environments that rewarped has too."""
PEER_COPIES = 64


@dataclass(frozen=True)
class StepSpeed:
    """An environment's speed at one batch size."""

    env: str
    num_envs: int
    num_threads: int
    """Of the environment on a CPU."""
    horizon: int
    forward: float
    """Environment steps per second without gradients."""
    forward_backward: float
    """Environment steps per second, with one backward pass per window of `horizon` steps."""
    launches: tuple[int, int]
    """Kernels of one step, forward and backward, which a graph launches together."""


@dataclass(frozen=True)
class PeerSpeed:
    """An environment's speed beside rewarped's of the same name, at 64 copies each."""

    env: str
    num_envs: int
    peer_forward: float
    peer_forward_backward: float
    forward_ratio: float
    forward_backward_ratio: float


@dataclass(frozen=True)
class TrainingSpeed:
    """A method's speed on an environment."""

    env: str
    algo: str
    num_envs: int
    epochs_per_second: float
    shares: dict[str, float]
    """Stage of an epoch -> its share of the time."""


def measure_steps(
    settings: dict[str, Any],
    *,
    num_envs: int,
    horizon: int,
    seconds: float,
    device: str,
    num_threads: int,
) -> StepSpeed:
    """Step an environment with random actions, with and without gradients."""
    warp_envs.set_num_threads(num_threads)
    env = make_env(settings, num_envs=num_envs, device=device, seed=0)
    generator = torch.Generator().manual_seed(0)
    shape = (horizon, num_envs, env.num_actions)
    actions = (torch.rand(shape, generator=generator) * 2.0 - 1.0).to(env.device)

    @torch.no_grad()
    def forward() -> None:
        for action in actions:
            env.step(action)

    def forward_backward() -> None:
        env.detach()
        leaf = actions.clone().requires_grad_(True)
        total = torch.zeros((), device=env.device)
        for action in leaf:
            total = total + env.step(action)[1].sum()
        torch.autograd.grad(total, leaf)

    window = horizon * num_envs
    return StepSpeed(
        env=str(settings["id"]),
        num_envs=num_envs,
        num_threads=num_threads,
        horizon=horizon,
        forward=window / _median_seconds(forward, seconds, device),
        forward_backward=window / _median_seconds(forward_backward, seconds, device),
        launches=env.launches_per_step,
    )


def measure_training(config: TrainConfig, *, seconds: float) -> TrainingSpeed:
    """Train from the beginning for a while."""
    env = make_env(config.env, device=config.device, seed=config.seed)
    learner = Learner(
        env, config.learner, config.method_config, num_epochs=config.num_epochs, seed=config.seed
    )
    spent: dict[str, float] = {}

    def epoch() -> None:
        learner.train_epoch()
        for stage, value in learner.stage_seconds.items():
            spent[stage] = spent.get(stage, 0.0) + value

    per_epoch = _median_seconds(epoch, seconds, config.device)
    total = sum(spent.values())
    return TrainingSpeed(
        env=str(config.env["id"]),
        algo=config.algo.name,
        num_envs=int(config.env["num_envs"]),
        epochs_per_second=1.0 / per_epoch,
        shares={stage: value / total for stage, value in spent.items()},
    )


def measure_peer(python: str, speed: StepSpeed) -> PeerSpeed:
    """Time rewarped's environment of the same name with another interpreter, which has it.

    The peer runs at 64 copies, where it is published; `speed` may be of any number.

    Raises:
        UserError: the interpreter cannot run it.
    """
    peer = _peer_rates(python, speed.env)
    return PeerSpeed(
        env=speed.env,
        num_envs=speed.num_envs,
        peer_forward=peer["forward"],
        peer_forward_backward=peer["forward_backward"],
        forward_ratio=speed.forward / peer["forward"],
        forward_backward_ratio=speed.forward_backward / peer["forward_backward"],
    )


@cache
def _peer_rates(python: str, env: str) -> dict[str, float]:
    """The peer's environment steps per second, measured once."""
    script = str(peer_script())
    command = [python, script, env, str(PEER_COPIES)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
        raise UserError(f"peer: {python!r} could not run {script}: {reason}") from error


def peer_script() -> Path:
    """The script that the peer's interpreter runs; it lies in the source distribution only.

    Raises:
        UserError: this is an installed wheel.
    """
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "peer_rewarped.py"
    if not script.is_file():
        raise UserError(f"peer: {script} is not there; run the command in a checkout of gippo")
    return script


def machine(device: str) -> dict[str, Any]:
    """What the figures belong to."""
    return {
        "device": torch.cuda.get_device_name(device) if device != "cpu" else _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "warp": importlib.metadata.version("warp-lang"),
    }


def as_json(speed: StepSpeed | TrainingSpeed | PeerSpeed) -> dict[str, Any]:
    """A result as plain numbers and names."""
    return asdict(speed)


def _median_seconds(work: Callable[[], None], seconds: float, device: str) -> float:
    """Median duration of `work` over at least three runs and `seconds`, after one to warm up."""
    work()
    durations: list[float] = []
    while len(durations) < 3 or sum(durations) < seconds:
        _synchronize(device)
        started = time.perf_counter()
        work()
        _synchronize(device)
        durations.append(time.perf_counter() - started)
    return statistics.median(durations)


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
