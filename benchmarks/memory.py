"""Peak memory of differentiated windows through the public environment, in a process of its own.

    python benchmarks/memory.py ant 4096

prints the process's peak in MB when all is imported, when the environment stands, and after each of
three windows of 32 steps with one backward pass; it must not grow from the second window on.
"""

import resource
import sys

import torch

import warp_envs

HORIZON = 32


def peak_memory() -> int:
    """Megabytes that this process has occupied at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3))


def main(name: str, num_envs: int) -> None:
    print(f"imported {peak_memory()} MB")
    env = warp_envs.make(name, num_envs=num_envs, seed=0)
    print(f"made {peak_memory()} MB")
    for window in range(3):
        env.detach()
        actions = torch.zeros(HORIZON, num_envs, env.num_actions).uniform_(-1.0, 1.0)
        actions.requires_grad_()
        total = torch.stack([env.step(action)[1].sum() for action in actions]).sum()
        torch.autograd.grad(total, actions)
        del total
        print(f"window {window} {peak_memory()} MB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
