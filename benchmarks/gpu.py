"""What this project does on a GPU: one command, some 13 minutes at most, one file to send.

    python benchmarks/gpu.py [--out gpu.json] [--device cuda] [--only smoke,speed] [--quick]

Stages run in processes of their own, each with a time limit; one that fails or runs out of time
does not stop the next, and what it had found by then is kept. Kernels are built at the first use,
which may take longer than a stage has: `python benchmarks/cuda_kernels.py --arch 90`, on any
machine, and WARP_CACHE_PATH=kernels here take that out of the limits. `--device cpu --quick` tries
the script on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import warp as wp
from rich.console import Console
from rich.table import Table

import warp_envs
from gippo.configuration.compose import choices, configure
from gippo.configuration.run_config import TrainConfig
from gippo.environment import make_env, use_threads
from gippo.files import write_whole
from gippo.learner import Learner
from gippo.networks.graphs import WARM_UPS
from gippo.studies.bench import machine
from warp_envs import TrafficSim

Found = Iterator[tuple[str, Any]]
"""What a stage finds, one thing after the other."""
HORIZON = 32
OWN_FILE = ("robot", "go1")
"""Environments that need a file of one's own."""


class Setup:
    """Where to measure, and how much."""

    def __init__(self, device: str, quick: bool) -> None:
        self.device = device
        self.on_gpu = device != "cpu"
        self.quick = quick
        self.batches = [16, 64] if quick else [64, 1024, 8192, 65536]

    def synchronize(self) -> None:
        """Wait for the GPU, if there is one."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], repeats: int = 3) -> float:
        """Mean duration of `work`, after one that is not counted."""
        work()
        self.synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        self.synchronize()
        return (time.perf_counter() - started) / repeats


def random_actions(env: Any) -> torch.Tensor:
    """Of a window, (steps, num_envs, num_actions), to be differentiated in."""
    generator = torch.Generator(env.device).manual_seed(0)
    shape = (HORIZON, env.num_envs, env.num_actions)
    uniform = torch.rand(shape, generator=generator, dtype=env.dtype, device=env.device)
    return (2 * uniform - 1).requires_grad_()


def window(env: Any, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards of a window, and the gradient of their sum in the actions."""
    env.detach()
    rewards = torch.stack([env.step(action)[1] for action in actions])
    return rewards.detach(), torch.autograd.grad(rewards.sum(), actions)[0]


def learner(setup: Setup, *overrides: str) -> Learner:
    config = configure("train", TrainConfig, overrides)
    use_threads(config.num_threads)
    env = make_env(config.env, device=setup.device, seed=config.seed)
    method = config.method_config
    return Learner(env, config.learner_config, method, num_epochs=2000, seed=config.seed)


# Stages -----------------------------------------------------------------------------------------


def device(setup: Setup) -> Found:
    """The card, its driver, and what was built for it."""
    yield from machine(setup.device).items()
    if setup.on_gpu:
        yield "capability", torch.cuda.get_device_capability()
        query = "name,driver_version,memory.total,clocks.max.sm,power.limit"
        yield (
            "cuda",
            {
                "torch": torch.version.cuda,
                "warp": wp.get_cuda_toolkit_version(),
                "driver": wp.get_cuda_driver_version(),
            },
        )
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            yield "nvidia_smi", (done.stdout or done.stderr).strip()


def smoke(setup: Setup) -> Found:
    """A window with gradients of every environment; seconds with the building of its kernels."""
    for name in choices("env"):
        if name in OWN_FILE or (setup.quick and name not in ("ackley", "cartpole", "pace_car")):
            continue
        try:
            yield name, _tried(setup, name)
        except Exception as error:  # the next one is to be tried, too
            yield name, {"failed": f"{type(error).__name__}: {error}"[:2000]}


def _tried(setup: Setup, name: str) -> dict[str, Any]:
    started = time.perf_counter()
    settings = configure("train", TrainConfig, [f"env={name}"]).env
    env = make_env(settings, num_envs=64, device=setup.device, seed=0)
    rewards, gradient = window(env, random_actions(env))
    finite = bool(torch.isfinite(rewards).all() & torch.isfinite(gradient).all())
    return {
        "finite": finite,
        "reward": float(rewards.mean()),
        "gradient_norm": float(gradient.norm()),
        "launches": env.launches_per_step,
        "seconds": time.perf_counter() - started,
    }


def speed(setup: Setup, compiled: bool) -> Found:
    """Ant steps a second, forward and with gradients, and the memory they took."""
    for count in setup.batches:
        yield str(count), _rates(setup, count, compiled)
        if setup.on_gpu:  # what is used next is the next batch's
            gc.collect()
            torch.cuda.empty_cache()


def _rates(setup: Setup, count: int, compiled: bool) -> dict[str, float]:
    env = warp_envs.make("ant", num_envs=count, device=setup.device, compiled=compiled)
    actions = random_actions(env)

    @torch.no_grad()
    def forward() -> None:
        for action in actions:
            env.step(action)

    steps = HORIZON * count
    figures = {"forward": steps / setup.seconds(forward)}
    figures["with_gradients"] = steps / setup.seconds(lambda: window(env, actions))
    if setup.on_gpu:
        free, total = torch.cuda.mem_get_info()
        figures["memory_gb"] = (total - free) / 1e9
    return figures


def compiled(setup: Setup) -> Found:
    """The kernels compiled for the robot."""
    yield from speed(setup, True)


def plain(setup: Setup) -> Found:
    """The plain kernels."""
    yield from speed(setup, False)


def epoch(setup: Setup) -> Found:
    """GI-PPO's epochs on the Ant: milliseconds by stage, CUDA's calls, where the host waits.

    Stages are the host's: what one leaves to the GPU is waited for in a later one.
    """
    counts, last = [16] if setup.quick else [64, 1024, 2048], {}
    for count, graphs in [(counts[0], False), *((count, True) for count in counts)]:
        name = str(count) if graphs else f"{count}, without graphs"
        try:
            last[count], figures = _epochs(setup, count, graphs)
        except Exception as error:  # the next one is to be tried, too
            figures = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        yield name, figures
    if setup.on_gpu and counts[0] in last:  # last, as not every machine lets a profiler look
        yield "waits", _waits(last[counts[0]])
        yield "calls", _cuda_calls(last[counts[0]])


def _epochs(setup: Setup, count: int, graphs: bool) -> tuple[Learner, dict[str, float]]:
    given = ["env=ant", f"env.num_envs={count}", f"learner.graphs={str(graphs).lower()}"]
    trained = learner(setup, *given)
    for _ in range(WARM_UPS + 1):  # until all graphs are captured
        trained.train_epoch()
    spent = setup.seconds(trained.train_epoch, 10)
    stages = {name: 1e3 * value for name, value in trained.stage_seconds.items()}
    return trained, {"ms": 1e3 * spent, "steps_per_second": HORIZON * count / spent, **stages}


def _cuda_calls(trained: Learner) -> dict[str, int]:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        trained.train_epoch()
        torch.cuda.synchronize()
    names = (event.name for event in profiled.events() or ())
    return dict(Counter(name for name in names if name.startswith("cuda")).most_common(12))


def _waits(trained: Learner) -> dict[str, int]:
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            trained.train_epoch()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    told = [w for w in seen if "synchroniz" in str(w.message)]
    places = (f"{os.path.relpath(w.filename)}:{w.lineno}" for w in told)
    return dict(Counter(places).most_common(30))


def traffic(setup: Setup) -> Found:
    """Vehicle updates a second, forward and with gradients."""
    sizes = [(8, 10, 11)] if setup.quick else [(4096, 10, 11), (65536, 10, 11), (1, 10, 100_000)]
    for roads, lanes, cars in sizes:
        sim = TrafficSim(roads, lanes, cars, device=setup.device)
        forward = setup.seconds(lambda sim=sim: sim.run(100)) / 100

        def differentiated(sim: TrafficSim = sim) -> None:
            state = sim.get_state()
            speeds = state["speed"].detach().clone().requires_grad_()
            sim.set_state({**state, "speed": speeds})
            torch.autograd.grad(sim.run(HORIZON)["x"].sum(), speeds)
            sim.detach()

        both = setup.seconds(differentiated) / HORIZON
        updates = roads * cars
        figures = {"forward": updates / forward, "with_gradients": updates / both}
        yield f"{roads} x {cars}", figures


def gradients(setup: Setup) -> Found:
    """Gradients against central differences, as `gippo check-gradients` makes them."""
    for name in ["cartpole"] if setup.quick else ["cartpole", "hopper", "ant", "pace_car"]:
        command = [sys.executable, "-m", "gippo", "check-gradients", f"env={name}"]
        command.append(f"device={setup.device}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
        failed = {"failed": done.stderr.strip()[-2000:]} if done.returncode else {}
        yield name, {"said": "".join(last), **failed}


def tests(setup: Setup) -> Found:
    """The tests that need a GPU: how many went how, and what is said of those that failed."""
    command = [sys.executable, "-m", "pytest", "-v", "-m", "gpu", "-p", "no:cacheprovider"]
    command += _files_of_gpu_tests()
    if importlib.util.find_spec("xdist"):  # kernels of the CPU that they ask are built side by side
        command += ["-n", str(min(8, os.cpu_count() or 1))]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if not setup.on_gpu:
        environment["GIPPO_GPU"] = "cpu"
    if setup.quick:
        command += ["-k", "test_gpu and cartpole and not epoch"]
    counts: Counter[str] = Counter()
    said: list[str] = []
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(command, **options) as process:
        for line in process.stdout or ():
            said = [*said, line.rstrip()][-60:]
            if found := re.search(r" (PASSED|FAILED|ERROR|SKIPPED) ", line):
                counts[found[1]] += 1
                yield "counts", dict(counts)
                if found[1] in ("FAILED", "ERROR"):
                    yield (re.findall(r"\S+::\S+", line) or [line])[0], {"failed": found[1]}
    if process.returncode:
        yield "pytest", {"failed": said}


def _files_of_gpu_tests() -> list[str]:
    """Those that have any: collecting all others takes as long as many of them."""
    files = sorted((Path(__file__).resolve().parents[1] / "tests").rglob("test_*.py"))
    return [str(file) for file in files if re.search(r"mark\.gpu\b", file.read_text())]


def train(setup: Setup) -> Found:
    """GI-PPO on the Ant for as long as the stage has: epochs a second and the return reached."""
    for count, limit in [(16, 5.0)] if setup.quick else [(2048, 45.0), (64, 90.0)]:
        minibatch = f"algo.ppo.minibatch_size={HORIZON * count}"
        trained = learner(setup, "env=ant", f"env.num_envs={count}", minibatch)
        metrics = trained.train_epoch()
        started = time.perf_counter()
        while time.perf_counter() - started < limit and trained.epoch < trained.num_epochs:
            metrics = trained.train_epoch()
        spent = time.perf_counter() - started
        rate = (trained.epoch - 1) / spent
        figures = {"epochs": trained.epoch, "epochs_per_second": rate}
        yield str(count), {**figures, "best_return": metrics["best_return"]}


STAGES: dict[str, tuple[Callable[[Setup], Found], float]] = {
    "device": (device, 30),
    "smoke": (smoke, 120),
    "compiled": (compiled, 90),
    "epoch": (epoch, 60),
    "traffic": (traffic, 50),
    "gradients": (gradients, 70),
    "train": (train, 160),
    "plain": (plain, 80),
    "tests": (tests, 120),
}
"""What is done, in order of what one would miss most, and its limit [s]: 13 minutes in all."""


def run(name: str, setup: Setup) -> dict[str, Any]:
    """A stage in a process of its own: what it found, and how it ended."""
    limit = STAGES[name][1]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out, said = Path(folder) / "found.json", Path(folder) / "said.txt"
        command = [sys.executable, __file__, "--stage", name, "--device", setup.device]
        command += ["--out", str(out), *(["--quick"] if setup.quick else [])]
        with said.open("w") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                status: int | str = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = f"not done within {limit:.0f} s"
                os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
                process.wait()
        result = {"status": status, "wall_seconds": time.perf_counter() - started}
        if out.exists():
            result["found"] = json.loads(out.read_text())
        if status != 0:
            result["said"] = said.read_text().splitlines()[-30:]
    return result


def go_through(name: str, setup: Setup, out: Path) -> int:
    """A stage in this process, kept as far as it has come: 1 if something in it has failed."""
    found: dict[str, Any] = {}
    for key, value in STAGES[name][0](setup):
        found[key] = value
        write_whole(out, (json.dumps(found, indent=1) + "\n").encode())
    return int(any("failed" in value for value in found.values() if isinstance(value, dict)))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default=",".join(STAGES), help=f"of {','.join(STAGES)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    setup = Setup(arguments.device, arguments.quick)
    if arguments.stage:
        return go_through(arguments.stage, setup, arguments.out)
    unknown = set(arguments.only.split(",")) - set(STAGES)
    if unknown:
        parser.error(f"--only: {sorted(unknown)} given, some of {list(STAGES)} accepted")
    if setup.on_gpu and not torch.cuda.is_available():
        parser.error("--device: torch sees no GPU here")
    console = Console(width=120, highlight=False)
    results: dict[str, dict[str, Any]] = {}
    for name in [name for name in STAGES if name in arguments.only.split(",")]:
        console.print(f"{name} (at most {STAGES[name][1]:.0f} s) ...")
        results[name] = run(name, setup)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
        console.print(_table(name, results[name]))
    console.print(f"everything is in {arguments.out}")
    return int(any(result["status"] != 0 for result in results.values()))


def _table(name: str, result: dict[str, Any]) -> Table:
    table = Table(name, f"status {result['status']}, {result['wall_seconds']:.0f} s", box=None)
    for key, value in result.get("found", {}).items():
        table.add_row(key, _as_text(value))
    for line in result.get("said", [])[-4:]:
        table.add_row("", line)
    return table


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_as_text(part)}" for key, part in value.items())
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
