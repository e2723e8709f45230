"""What a state of `TrafficNetwork` holds, and the checks of one that is set."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from warp_envs.bridge.devices import check_tensor
from warp_envs.checks import ArgumentError
from warp_envs.traffic.network import Network
from warp_envs.traffic.network_tables import Tables

State = dict[str, torch.Tensor]

OF_VEHICLES = ("lane", "route", "previous", "aside", "flow", "number", "entered")
OF_VEHICLES = (*OF_VEHICLES, "memory", "advised")
"""What it holds of each vehicle beside x and speed, as the steps' arrays have it."""

_FORGOTTEN = {"previous": -1, "aside": -1, "memory": 0.0, "advised": math.inf, "asked_at": -1}
"""What becomes of it where a state names lanes but not that."""


def completed(state: Mapping[str, torch.Tensor], now: State) -> State:
    """`state` with what it does not name: as it is now, or forgotten where it names lanes.

    Raises:
        ArgumentError: an unknown name; a tensor of wrong shape, type or device.
    """
    if not isinstance(state, Mapping):
        raise ArgumentError("state", f"a {type(state).__name__}", "tensors by name")
    new = dict(now)
    for name, value in state.items():
        if name not in new:
            raise ArgumentError("state", repr(name), f"any of {[*new]}")
        check_tensor(name, value, new[name].shape, new[name].dtype, new[name].device)
        new[name] = value
    if "lane" in state:
        for name in set(_FORGOTTEN) - set(state):
            new[name] = torch.full_like(new[name], _FORGOTTEN[name])
        if "order" not in state:
            new["order"] = _as_numbered(new["order"])
    return new


def check_state(state: State, network: Network, tables: Tables) -> None:
    """Raise an ArgumentError at what no vehicle of a network can be or do."""
    lane, route = state["lane"].long(), state["route"].long()
    present = lane >= 0
    lanes, routes = len(tables.lane_names), len(network.routes)
    length = torch.as_tensor(tables.lengths["lane_length"], device=lane.device)
    usable = torch.as_tensor(tables.lengths["usable"], device=lane.device)
    _check_all("lane", lane, (lane >= -1) & (lane < lanes), f"-1 to {lanes - 1}")
    _check_all("route", route, (route >= 0) & (route < routes), f"0 to {routes - 1}")
    for name, most in {
        "previous": lanes,
        "aside": lane.shape[1],
        "flow": len(network.flows),
    }.items():
        fine = (state[name] >= -1) & (state[name] < most)
        _check_all(name, state[name], fine, f"-1 to {most - 1}")
    within = usable[route, lane.clamp(min=0)] > 0.0
    _check_all("lane", lane, within | ~present, "lanes of their vehicles' routes")
    x, speed, order = state["x"], state["speed"], state["order"]
    on = (x >= 0.0) & (x <= length.to(x.dtype)[lane.clamp(min=0)])
    _check_all("x", x, on | ~present, "0 <= x <= the lane's length")
    _check_all("speed", speed, torch.isfinite(speed) & (speed >= 0.0), "numbers >= 0")
    if not torch.equal(order.sort(dim=1).values, _as_numbered(order)):
        raise ArgumentError("order", str(order.tolist()), "each slot of a network once")
    if int(state["step_count"]) < 0:
        raise ArgumentError("step_count", str(int(state["step_count"])), "an integer >= 0")


def _as_numbered(order: torch.Tensor) -> torch.Tensor:
    """Of its shape, (num_envs, num_vehicles), the slots one after the other."""
    return torch.arange(order.shape[1], dtype=order.dtype, device=order.device).expand(order.shape)


def _check_all(name: str, value: torch.Tensor, fine: torch.Tensor, accepted: str) -> None:
    if not bool(fine.all()):
        raise ArgumentError(name, str(value.detach()[~fine][0].item()), accepted)
