"""Times rewarped's environments (Xing et al. 2024), run by an interpreter that has it.

    python -m venv peer && peer/bin/pip install torch rewarped==1.3.3 gym==0.23.1
    peer/bin/python benchmarks/peer_rewarped.py ant 64

`gippo bench peer=peer/bin/python` runs it beside our own and prints the ratios. It prints one JSON
object: environment steps per second without gradients, and with one backward pass per window.
"""

import importlib
import json
import statistics
import sys
import time

import torch

HORIZON = 32
REPEATS = 3
MODULES = {"ant": "Ant", "cartpole": "Cartpole", "hopper": "Hopper"}


def main(name: str, num_envs: int) -> None:
    speeds = {
        "forward": steps_per_second(name, num_envs, gradients=False),
        "forward_backward": steps_per_second(name, num_envs, gradients=True),
    }
    print(json.dumps({"env": name, "num_envs": num_envs, **speeds}))


def steps_per_second(name: str, num_envs: int, gradients: bool) -> float:
    """The median over a few windows, after one to compile and warm up."""
    module = importlib.import_module(f"rewarped.envs.dflex.{name}")
    make = getattr(module, MODULES[name])
    env = make(num_envs=num_envs, seed=0, no_grad=not gradients, device="cpu")
    env.init()
    env.reset(clear_grad=gradients)
    actions = 2.0 * torch.rand(HORIZON, num_envs, env.num_actions) - 1.0

    def window() -> float:
        start = time.perf_counter()
        leaf = actions.clone().requires_grad_(gradients)
        if gradients:
            env.initialize_trajectory()
        with torch.set_grad_enabled(gradients):
            total = torch.stack([env.step(action)[1].sum() for action in leaf]).sum()
        if gradients:
            total.backward()
        return time.perf_counter() - start

    window()
    return HORIZON * num_envs / statistics.median(window() for _ in range(REPEATS))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
