"""Every kernel that a GPU runs, compiled for it without one: what fails, and how long it takes.

    python benchmarks/cuda_kernels.py [USE ...] [--arch 80,90,100] [--out kernels] [--list]

A use is a `gippo compile`, all environments in both precisions and both kernel families among them,
or what Python alone reaches. Each has a process of its own, as what a module holds depends on what
the process uses; what an earlier one has built is not built again. The report is kept after each,
beside the kernels, and later calls with other uses or architectures add to it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gippo.configuration.compose import choices

OWN_FILE = ("robot", "go1")
"""Environments that need a file of one's own."""
NO_ROBOTS = ("ackley", "dejong", "pace_car", "ring", "merge", "bottleneck")
ROBOT = "env=robot env.asset=assets/ant.usda"
OPTIONS = {
    "held mass matrix": "env=ant env.mass_matrix_every=16",
    "held, anymal": "env=anymal env.mass_matrix_every=16",
    "held, plain": "env=ant env.mass_matrix_every=16 env.compiled=false",
    "parameters": "env=ant env.parameters=[friction,torso.mass]",
    "parameters, plain": "env=ant env.parameters=[friction,torso.mass] env.compiled=false",
    "parameters, held": "env=ant env.parameters=[friction,mass] env.mass_matrix_every=16",
    "parameters drawn": "env=hopper env.randomize={friction:[0.5,1.2],mass:{scale:[0.8,1.2]}}",
    "delay and noise": "env=hopper env.action_delay=[0,2] env.observation_noise=0.01",
    "a task of terms": f"{ROBOT} env.reward={{progress:1,upright:0.1,effort:-0.1,alive:1}} "
    "env.terminate={height_below:0.25} env.command={forward:[0,1],every:5}",
    "rough ground": f"{ROBOT} env.ground=rough",
    "rough ground, plain": f"{ROBOT} env.ground=rough env.compiled=false",
    "slope": f"{ROBOT} env.ground=slope",
    "implicit damping": f"{ROBOT} env.implicit_damping=true",
    "a task in torch": "env=robot env.asset=assets/hopper.usda "
    "env.task=tests.warp_envs.robots.gallop:Gallop",
    "drawn drivers": "env=pace_car env.randomize={T:[0.8,1.6]}",
    "realistic drivers": "env=pace_car env.realistic=true",
    "drawn drivers, ring": "env=ring env.randomize={T:[0.8,1.6]}",
    "drawn drivers, network": "env=bottleneck env.randomize={T:[0.8,1.6]}",
    "headway commands": "env=bottleneck env.command=headway",
}
PYTHON = ["traffic_road", "traffic_network", "forward_dynamics", "mass_matrix_and_poses"]
PYTHON += ["control_step_in_pieces"]
"""Functions of `tests/kernels/test_cuda_compiles.py`, in single precision."""


def uses() -> dict[str, list[str]]:
    """Name -> arguments of `gippo compile`; none for what Python alone reaches."""
    found: dict[str, list[str]] = {}
    envs = [name for name in choices("env") if name not in OWN_FILE]
    robots = [name for name in envs if not name.startswith(NO_ROBOTS)]
    for name in envs:
        found[name] = [f"env={name}"]
    for name, keys in OPTIONS.items():
        found[name] = keys.split()
    for name in PYTHON:
        found[f"python {name}"] = []
    for name in envs:
        found[f"{name}, double"] = [f"env={name}", "double=true"]
    for name in robots:
        found[f"{name}, plain"] = [f"env={name}", "env.compiled=false"]
    for name in robots:
        found[f"{name}, plain, double"] = [f"env={name}", "env.compiled=false", "double=true"]
    return found


def in_python(name: str, archs: list[int], folder: Path) -> None:
    """Build what a function of the tests uses, and say so as `gippo compile` does."""
    import torch

    from tests.kernels import test_cuda_compiles
    from warp_envs.bridge.ahead import building_ahead

    def tell(module: str, arch: int, seconds: float) -> None:
        print(f"sm_{arch}  {seconds:6.1f} s  {module}", flush=True)

    with building_ahead(archs, folder, tell):
        getattr(test_cuda_compiles, name)(torch.float32)


def compile_use(name: str, keys: list[str], archs: list[int], folder: Path) -> dict[str, Any]:
    """What a process of its own builds, in seconds, and its last words if it fails."""
    command = [sys.executable, "-m", "gippo", "compile", *keys, f"arch={archs}".replace(" ", "")]
    command += [f"out={folder}"]
    if not keys:
        command = [sys.executable, __file__, "--python", name.partition(" ")[2]]
        command += ["--out", str(folder), "--arch", ",".join(map(str, archs))]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = re.findall(r"^sm_(\d+) +([\d.]+) s  (.+)$", done.stdout, re.MULTILINE)
    result: dict[str, Any] = {
        "seconds": time.perf_counter() - started,
        "builds": [[int(arch), float(seconds), module] for arch, seconds, module in told],
    }
    if done.returncode != 0:
        result["failed"] = done.stderr.strip().splitlines()[-20:]
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("uses", nargs="*", metavar="USE")
    parser.add_argument("--arch", default="80,90,100")
    parser.add_argument("--out", type=Path, default=Path("kernels"))
    parser.add_argument("--list", action="store_true", help="the uses there are")
    parser.add_argument("--python", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    archs = [int(arch) for arch in arguments.arch.split(",")]
    if arguments.python:
        in_python(arguments.python, archs, arguments.out)
        return 0
    known = uses()
    if unknown := set(arguments.uses) - set(known):
        parser.error(f"USE: {sorted(unknown)} given, some of {list(known)} accepted")
    console = Console(width=100, highlight=False)
    if arguments.list:
        console.print("\n".join(known))
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "report.json"
    report: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for name in arguments.uses or known:
        before = report.get(name, {"builds": []})["builds"]
        report[name] = compile_use(name, known[name], archs, arguments.out)
        console.print(_line(name, report[name]))
        report[name]["builds"] = [*before, *report[name]["builds"]]
        file.write_text(json.dumps(report, indent=1) + "\n")
    console.print(_table(report))
    return int(any("failed" in result for result in report.values()))


def _line(name: str, result: dict[str, Any]) -> str:
    new = [build for build in result["builds"] if build[1] >= 0.05]
    said = f"{name}: {len(new)} of {len(result['builds'])} built, {result['seconds']:.0f} s"
    return "\n".join([said, *(f"    {line}" for line in result.get("failed", []))])


def _table(report: dict[str, Any]) -> Table:
    """By architecture: what was built, in how long, and the longest."""
    built = [build for result in report.values() for build in result["builds"] if build[1] >= 0.05]
    table = Table("", "modules built", "seconds in all", "longest", box=None)
    for arch in sorted({build[0] for build in built}):
        own = [build for build in built if build[0] == arch]
        longest = max(own, key=lambda build: build[1])
        total = sum(build[1] for build in own)
        table.add_row(
            f"sm_{arch}", str(len(own)), f"{total:.0f}", f"{longest[2]}, {longest[1]:.0f} s"
        )
    failed = [name for name, result in report.items() if "failed" in result]
    table.caption = f"{len(report)} uses, failed: {failed or 'none'}"
    return table


if __name__ == "__main__":
    sys.exit(main())
