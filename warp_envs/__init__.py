"""Differentiable environments in NVIDIA Warp, as Gymnasium vector environments over torch tensors.

env = warp_envs.make("cartpole", num_envs=64, device="cpu", seed=0)
obs, info = env.reset()
obs, reward, terminated, truncated, info = env.step(actions)
"""

import warp as _wp

import kernels as _kernels

if not getattr(_kernels, "GIPPO_KERNELS", False):
    raise ImportError(
        f"the package 'kernels' at {_kernels.__file__} is not gippo's: another distribution of "
        "that name shadows or overwrote it; uninstall it ('pip uninstall kernels') and install "
        "gippo again"
    )

# Warp greets with a list of devices; the one it finds missing it still names itself.
if hasattr(_wp.config, "log_level"):
    _wp.config.log_level = _wp.LOG_ERROR
    _wp.init()
    _wp.config.log_level = _wp.LOG_WARNING
else:
    _wp.config.quiet = True
    _wp.init()

from warp_envs.articulation import Articulation  # Warp is started before its kernels are
from warp_envs.recording import RolloutRecorder
from warp_envs.registry import env_ids, make
from warp_envs.traffic import TrafficSim

__all__ = ["Articulation", "RolloutRecorder", "TrafficSim", "env_ids", "make"]
