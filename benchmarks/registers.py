"""Registers, stack and spills of the robots' compiled kernels on a GPU, without one.

    python benchmarks/registers.py [ROBOT ...] [--arch 90] [--ptxas ptxas]

`ptxas`, as new as Warp's compiler (its PTX says which), comes with CUDA or with the package
nvidia-cuda-nvcc.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import warp as wp

import warp_envs
from warp_envs.bridge.building import built_elsewhere
from warp_envs.bridge.program import Program

ROBOTS = ["cartpole", "hopper", "half_cheetah", "ant", "anymal", "humanoid"]


def step_module(name: str) -> wp.Module:
    """The module of a robot's compiled control step."""
    modules: dict[str, wp.Module] = {}
    launch = Program.launch

    def noted(
        program: Program, kernel: wp.Kernel, dim: Any, inputs: Sequence[Any], **options: Any
    ) -> None:
        if "compiled_control_step" in kernel.key:
            modules[kernel.module.name] = kernel.module
        launch(program, kernel, dim, inputs, **options)

    with mock.patch.object(Program, "launch", noted), built_elsewhere(lambda module, name: None):
        warp_envs.make(name, num_envs=1)
    (module,) = modules.values()
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("robots", nargs="*", default=ROBOTS, metavar="ROBOT")
    parser.add_argument("--arch", type=int, default=90)
    parser.add_argument("--ptxas", default="ptxas")
    arguments = parser.parse_args()
    for name in arguments.robots:
        module = step_module(name)
        with tempfile.TemporaryDirectory() as folder:
            paths = wp.compile_aot_module(
                module, arch=arguments.arch, module_dir=folder, use_ptx=True
            )
            (ptx,) = [path for path in map(Path, paths) if path.suffix == ".ptx"]
            ptx.write_bytes(ptx.read_bytes().rstrip(b"\0"))  # which ptxas takes for code
            command = [arguments.ptxas, "-v", f"-arch=sm_{arguments.arch}", str(ptx)]
            command += ["-o", f"{folder}/out.cubin"]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        kernel = ""
        for line in told.splitlines():
            if found := re.search(r"entry function '\w+_(forward|backward)'", line):
                kernel = found[1]
            if "spill" in line or "registers" in line:
                print(name, kernel, line.partition(":")[2].strip() or line.strip())


if __name__ == "__main__":
    main()
