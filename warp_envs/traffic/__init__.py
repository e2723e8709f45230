"""The traffic simulators and the environments on them.

What is public is imported by name when it is first used, as importing a package that registers
environments imports neither torch nor Warp.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warp_envs.traffic.drivers import read_drivers
    from warp_envs.traffic.following import Following
    from warp_envs.traffic.network import Connection, Flow, Loop, Network, Segment, Signal
    from warp_envs.traffic.network_records import TrajectoryRecorder
    from warp_envs.traffic.network_sim import TrafficNetwork
    from warp_envs.traffic.simulator import Mobil, TrafficSim
    from warp_envs.traffic.sumo import read_sumo

__all__ = [
    "Connection",
    "Flow",
    "Following",
    "Loop",
    "Mobil",
    "Network",
    "Segment",
    "Signal",
    "TrafficNetwork",
    "TrafficSim",
    "TrajectoryRecorder",
    "read_drivers",
    "read_sumo",
]

_MODULES = {
    "Connection": "network",
    "Flow": "network",
    "Following": "following",
    "Loop": "network",
    "Mobil": "simulator",
    "Network": "network",
    "Segment": "network",
    "Signal": "network",
    "TrafficNetwork": "network_sim",
    "TrafficSim": "simulator",
    "TrajectoryRecorder": "network_records",
    "read_drivers": "drivers",
    "read_sumo": "sumo",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
