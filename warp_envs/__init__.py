"""Differentiable environments in NVIDIA Warp, as Gymnasium vector environments over torch tensors.

env = warp_envs.make("cartpole", num_envs=64, device="cpu", seed=0)
obs, info = env.reset()
obs, reward, terminated, truncated, info = env.step(actions)

Importing this package registers the environments with Gymnasium, as "gippo/Cartpole-v0".
"""

import kernels as _kernels

if not getattr(_kernels, "GIPPO_KERNELS", False):
    raise ImportError(
        f"the package 'kernels' at {_kernels.__file__} is not gippo's: another distribution of "
        "that name shadows or overwrote it; uninstall it ('pip uninstall kernels') and install "
        "gippo again"
    )

from warp_envs.articulation.articulation import Articulation
from warp_envs.bridge.start import start_warp as _start_warp
from warp_envs.bridge.threads import get_num_threads, set_num_threads
from warp_envs.recording.recorder import RolloutRecorder
from warp_envs.registry import env_ids, make, register_with_gymnasium
from warp_envs.traffic.simulator import TrafficSim

_start_warp()
register_with_gymnasium()  # what gymnasium.make_vec("warp_envs:gippo/Ant-v0") waits for

__all__ = [
    "Articulation",
    "RolloutRecorder",
    "TrafficSim",
    "env_ids",
    "get_num_threads",
    "make",
    "set_num_threads",
]
