"""What parameters that vary cost: windows of steps of the Ant, forward and with their gradient.

    python benchmarks/parameters.py

Prints, for each choice of what varies, the median processor time of a window of 16 steps of 256
environments on one thread, and the speed against a robot of which nothing varies.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import warp_envs

CHOICES = {
    "nothing": None,
    "friction, mass": {"friction": [0.5, 1.2], "mass": {"scale": [0.8, 1.2]}},
    "friction, mass, com, gear, damping": {
        "friction": [0.5, 1.2],
        "mass": {"scale": [0.8, 1.2]},
        "com": {"add": [-0.01, 0.01]},
        "gear": {"scale": [0.9, 1.1]},
        "damping": {"scale": [0.8, 1.2]},
    },
}
NUM_ENVS, STEPS = 256, 16


def window(env: warp_envs.DifferentiableVectorEnv, differentiate: bool) -> float:
    """Processor seconds of a window, in turns with the others' for what the machine does beside."""
    env.detach()
    actions = 2.0 * torch.rand(STEPS, NUM_ENVS, env.num_actions) - 1.0
    actions.requires_grad_(differentiate)
    start = time.process_time()
    total = torch.stack([env.step(action)[1].sum() for action in actions]).sum()
    if differentiate:
        total.backward()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="What parameters that vary cost.")
    parser.add_argument("--windows", type=int, default=9, help="of each choice")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warp_envs.set_num_threads(1)
    envs = {
        name: warp_envs.make("ant", num_envs=NUM_ENVS, randomize=randomize)
        for name, randomize in CHOICES.items()
    }
    for differentiate in (False, True):
        seconds = {name: [] for name in envs}
        for k in range(arguments.windows + 1):
            for name, env in envs.items():
                found = window(env, differentiate)
                if k:  # the first captures graphs
                    seconds[name].append(found)
        base = statistics.median(seconds["nothing"])
        for name, found in seconds.items():
            middle = statistics.median(found)
            what = "with gradient" if differentiate else "forward"
            print(f"{what:14} {name:36} {1e3 * middle:7.1f} ms  {base / middle:.2f}")


if __name__ == "__main__":
    main()
