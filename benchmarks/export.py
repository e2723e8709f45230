"""What recording a rollout as USD costs beside the simulation that it records.

    python benchmarks/export.py                      # Ants and a road by the public interface
    python benchmarks/export.py --play runs/first    # whole processes of `gippo play`, too

Figures are processor time of one thread, the least of several turns, simulation and recording in
alternation: other load on the machine disturbs both alike. "library" is what usd-core needs for as
many samples at the least, from values that lie ready: one call for each, and saving.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pxr import Sdf, Vt

import warp_envs
from warp_envs.recording.recorder import RolloutRecorder

CASES = [("ant", 1, 1000), ("ant", 16, 500), ("ant", 64, 200), ("pace_car", 1, 1000)]
TURNS = 3


def processor_time(work: Callable[[], object]) -> float:
    """Seconds that `work` keeps this process busy."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(name: str, num_envs: int, num_steps: int, folder: Path) -> list[str]:
    """One line of the table."""
    env: Any = warp_envs.make(name, num_envs=num_envs, seed=0)
    policy = torch.nn.Sequential(
        torch.nn.Linear(env.num_obs, 64), torch.nn.ELU(), torch.nn.Linear(64, env.num_actions)
    )
    out = folder / "rollout.usdc"

    def simulate() -> None:
        obs, _ = env.reset(seed=0)
        for _ in range(num_steps):
            obs = env.step(torch.tanh(policy(obs)))[0]

    def record() -> None:
        obs, _ = env.reset(seed=0)
        with RolloutRecorder(env, out, details=False) as recorder:  # as crowds are
            for _ in range(num_steps):
                obs = recorder.step(torch.tanh(policy(obs)))[0]

    alone, recorded, saved = [], [], []
    with torch.no_grad():
        for _ in range(TURNS + 1):  # the first warms up
            alone.append(processor_time(simulate))
            recorded.append(processor_time(record))
            samples = count_samples(out)
            saved.append(library_time(samples, num_steps, folder))
    plain, more = min(alone[1:]), min(recorded[1:]) - min(alone[1:])
    floor, shown = min(saved[1:]), num_envs * num_steps * env.control_step
    return [
        f"{name}, {num_envs} x {num_steps}",
        f"{plain:.2f} s",
        f"{more:.2f} s (+{more / plain:.0%})",
        f"{floor:.2f} s (+{floor / plain:.0%})",
        f"{1e6 * more / samples:.1f} us",
        f"{more / shown:.2%}",
    ]


def count_samples(path: Path) -> int:
    """Time samples in a file."""
    layer = Sdf.Layer.FindOrOpen(str(path))
    paths: list[Sdf.Path] = []
    layer.Traverse(Sdf.Path.absoluteRootPath, paths.append)
    return sum(layer.GetNumTimeSamplesForPath(p) for p in paths if p.IsPropertyPath())


def library_time(samples: int, num_frames: int, folder: Path) -> float:
    """Seconds in which usd-core sets and saves so many quaternions."""
    attributes = -(-samples // num_frames)
    rng = np.random.default_rng(0)
    values = [Vt.QuatdArray.FromNumpy(rng.normal(size=(num_frames, 4))) for _ in range(attributes)]
    path = folder / "library.usdc"
    path.unlink(missing_ok=True)
    layer = Sdf.Layer.CreateNew(str(path))
    specs = [
        Sdf.AttributeSpec(Sdf.CreatePrimInLayer(layer, f"/a{k}"), "q", Sdf.ValueTypeNames.Quatd)
        for k in range(attributes)
    ]

    def write() -> None:
        with Sdf.ChangeBlock():
            for spec, quats in zip(specs, values, strict=True):
                at, set_sample = spec.path, layer.SetTimeSample
                for frame, quat in enumerate(quats):
                    set_sample(at, frame, quat)
        layer.Save()

    return processor_time(write)


def time_play(run_dir: str, folder: Path) -> None:
    """Print what whole processes of `gippo play` need, without and with a recording."""
    for num_envs in (1, 16, 64):
        spent: dict[str, list[float]] = {"null": [], str(folder / "played.usdc"): []}
        for _ in range(TURNS):
            for out, seconds in spent.items():
                command = [
                    sys.executable,
                    "-m",
                    "gippo",
                    "play",
                    f"run_dir={run_dir}",
                    f"out={out}",
                ]
                before = os.times()
                subprocess.run(
                    [*command, f"num_envs={num_envs}"], check=True, stdout=subprocess.DEVNULL
                )
                after = os.times()
                spent_by_children = after.children_user + after.children_system
                seconds.append(spent_by_children - before.children_user - before.children_system)
        alone, recorded = (min(seconds) for seconds in spent.values())
        print(
            f"gippo play num_envs={num_envs}: {alone:.2f} s, with a recording {recorded:.2f} s "
            f"(+{recorded / alone - 1.0:.0%})"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What recording a rollout costs.")
    parser.add_argument("--play", metavar="RUN_DIR", help="time gippo play of this run, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warp_envs.set_num_threads(1)
    columns = ["copies x steps", "simulation", "recording", "library", "a sample", "of real time"]
    print(" | ".join(columns))
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            print(" | ".join(measure(*case, Path(folder))), flush=True)
        if arguments.play:
            time_play(arguments.play, Path(folder))


if __name__ == "__main__":
    main()
