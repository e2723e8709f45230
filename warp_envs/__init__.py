"""Differentiable environments in NVIDIA Warp, as Gymnasium vector environments over torch tensors.

env = warp_envs.make("cartpole", num_envs=64, device="cpu", seed=0)
obs, info = env.reset()
obs, reward, terminated, truncated, info = env.step(actions)

Importing this package registers the environments with Gymnasium, as "gippo/Cartpole-v0", and
imports neither torch nor Warp: a name below is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

import kernels as _kernels

if not getattr(_kernels, "GIPPO_KERNELS", False):
    raise ImportError(
        f"the package 'kernels' at {_kernels.__file__} is not gippo's: another distribution of "
        "that name shadows or overwrote it; uninstall it ('pip uninstall kernels') and install "
        "gippo again"
    )

from warp_envs.registry import env_ids, make, register, register_all_with_gymnasium

if TYPE_CHECKING:
    from warp_envs.articulation.articulation import Articulation
    from warp_envs.bridge.program import Program
    from warp_envs.bridge.threads import get_num_threads, set_num_threads
    from warp_envs.checks import ArgumentError
    from warp_envs.declarations import Quantity
    from warp_envs.recording.recorder import RolloutRecorder
    from warp_envs.robots.base import ArticulatedEnv
    from warp_envs.robots.tasks import RobotState
    from warp_envs.traffic.network_sim import TrafficNetwork
    from warp_envs.traffic.simulator import Mobil, TrafficSim
    from warp_envs.vector_env import Arrays, DifferentiableVectorEnv

register_all_with_gymnasium()  # what gymnasium.make_vec("warp_envs:gippo/Ant-v0") waits for

__all__ = [
    "ArgumentError",
    "Arrays",
    "ArticulatedEnv",
    "Articulation",
    "DifferentiableVectorEnv",
    "Mobil",
    "Program",
    "Quantity",
    "RobotState",
    "RolloutRecorder",
    "TrafficNetwork",
    "TrafficSim",
    "env_ids",
    "get_num_threads",
    "make",
    "register",
    "set_num_threads",
]

_MODULES = {
    "ArgumentError": "checks",
    "Arrays": "vector_env",
    "ArticulatedEnv": "robots.base",
    "Articulation": "articulation.articulation",
    "DifferentiableVectorEnv": "vector_env",
    "Mobil": "traffic.simulator",
    "Program": "bridge.program",
    "Quantity": "declarations",
    "RobotState": "robots.tasks",
    "RolloutRecorder": "recording.recorder",
    "TrafficNetwork": "traffic.network_sim",
    "TrafficSim": "traffic.simulator",
    "get_num_threads": "bridge.threads",
    "set_num_threads": "bridge.threads",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
