"""How many vehicles a core moves one step in a second: TrafficSim, and SUMO beside it."""

from __future__ import annotations

import importlib
import importlib.util
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from warp_envs.traffic.models import TREIBER_2000
from warp_envs.traffic.network import Connection, Network, Segment
from warp_envs.traffic.network_sim import TrafficNetwork
from warp_envs.traffic.simulator import Mobil, TrafficSim

_DT = 0.1
_STEPS = 32  # of a window
_SPACING = 25.0
_SPEED = 8.0


@dataclass(frozen=True)
class Measurement:
    """One figure of the benchmark."""

    what: str
    num_roads: int
    num_lanes: int
    num_vehicles: int
    """On each road."""
    seconds_per_step: float
    """Of CPU time, all roads together."""

    @property
    def updates_per_second(self) -> float:
        """Vehicles moved one step in a second of CPU time."""
        return self.num_roads * self.num_vehicles / self.seconds_per_step


def measure_traffic(seconds: float = 0.5) -> Iterator[Measurement]:
    """Many small roads, forward and with gradients, then one road of growing length.

    Args:
        seconds: CPU time spent on each figure, about.

    Yields:
        Figures, on one core, as they come.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        small = {"num_envs": 4096, "num_lanes": 10, "num_vehicles": 11}
        yield _forward("forward", small, seconds)
        yield _step_by_step("forward, told after each step", small, seconds)
        sumo = {**small, "driving": "sumo", "integrator": "semi_implicit"}
        yield _forward("forward, as SUMO", sumo, seconds)
        yield _forward("forward, OVM", {**small, "model": "ovm"}, seconds)
        yield _forward("forward, with lane changes", {**small, "mobil": Mobil()}, seconds)
        yield _forward("forward, double precision", {**small, "dtype": torch.float64}, seconds)
        yield _with_gradients(small, seconds)
        for cars in (10, 100, 1_000, 10_000, 100_000):
            road = {"num_envs": 1, "num_lanes": 10, "num_vehicles": cars, "dtype": torch.float64}
            yield _forward("one road, double precision", road, seconds)
        for cars in (1_000, 10_000, 100_000):
            yield _network(cars, seconds)
            yield _network(cars, seconds, "sumo")
        large = {"num_envs": 1, "num_lanes": 10, "num_vehicles": 100_000}
        yield _forward("one road", large, seconds)
        yield _with_gradients(large, seconds)
    finally:
        torch.set_num_threads(threads)


def measure_sumo(seconds: float = 0.5) -> Iterator[Measurement]:
    """SUMO's IDM through libsumo, without lane changes; nothing where libsumo is not installed."""
    if importlib.util.find_spec("libsumo") is None:
        return
    for lanes, cars in ((10, 11), (1, 704), (10, 10_000)):
        yield _sumo(lanes, cars, seconds)


def _forward(what: str, options: dict, seconds: float) -> Measurement:
    """Windows of `_STEPS` steps, and the state after them."""
    traffic = _moving(TrafficSim(dt=_DT, **options))
    seconds_per_window = _seconds_per_call(lambda: traffic.run(_STEPS), seconds)
    return _measurement(what, traffic, seconds_per_window / _STEPS)


def _step_by_step(what: str, options: dict, seconds: float) -> Measurement:
    """The state after every step, which is a copy of it."""
    traffic = _moving(TrafficSim(dt=_DT, **options))
    return _measurement(what, traffic, _seconds_per_call(traffic.step, seconds))


def _with_gradients(options: dict, seconds: float) -> Measurement:
    """The same windows, and back through them to the first state."""
    traffic = _moving(TrafficSim(dt=_DT, **options))

    def window() -> None:
        state = traffic.get_state()
        state["speed"].requires_grad_()
        traffic.set_state(state)
        last = traffic.run(_STEPS)["x"]
        torch.autograd.grad(last.sum(), state["speed"])
        traffic.detach()

    return _measurement("forward + backward", traffic, _seconds_per_call(window, seconds) / _STEPS)


def _network(cars: int, seconds: float, driving: str = "plain") -> Measurement:
    """A network of two segments of ten lanes, with lane changes; nobody comes in or leaves."""
    lanes = 10
    half = _SPACING * cars / lanes  # room for all in the first, into which they drive on
    network = Network(
        segments=[Segment(name, half + 1e4, num_lanes=lanes) for name in ("a", "b")],
        connections=[Connection("a", k, "b", k) for k in range(lanes)],
        routes={"through": ["a", "b"]},
        flows=[],
    )
    traffic = TrafficNetwork(
        network, 1, cars, dt=_DT, mobil=Mobil(), dtype=torch.float64, driving=driving
    )
    place = torch.arange(cars)
    state = traffic.get_state()
    state["x"] = (_SPACING * (place // lanes + 1)).double()[None]
    state["speed"] = torch.full_like(state["x"], _SPEED)
    state["lane"] = (place % lanes).int()[None]
    state["route"] = torch.zeros_like(state["lane"])
    traffic.set_state(state)
    traffic.run(10)
    seconds_per_window = _seconds_per_call(lambda: traffic.run(10), seconds)
    what = "one network, SUMO's lane changes" if driving == "sumo" else "one network, lane changes"
    return Measurement(what, 1, lanes, cars, seconds_per_window / 10)


def _moving(traffic: TrafficSim) -> TrafficSim:
    """Past the start, and compiled."""
    x = traffic.x * (_SPACING / (2.0 * TREIBER_2000["length"]))
    traffic.set_state({"x": x, "speed": torch.full_like(x, _SPEED)})
    traffic.run(10)
    return traffic


def _measurement(what: str, traffic: TrafficSim, seconds_per_step: float) -> Measurement:
    sizes = (traffic.num_envs, traffic.num_lanes, traffic.num_vehicles)
    return Measurement(what, *sizes, seconds_per_step)


def _seconds_per_call(call: Callable[[], object], seconds: float) -> float:
    """CPU time of a call: the best of five rounds of equal length."""
    call()
    once = _cpu_time(call, 1)
    repeats = max(1, math.ceil(seconds / 5.0 / max(once, 1e-6)))
    return min(_cpu_time(call, repeats) for _ in range(5)) / repeats


def _cpu_time(call: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        call()
    return time.process_time() - start


def _sumo(lanes: int, cars: int, seconds: float) -> Measurement:
    libsumo = importlib.import_module("libsumo")
    per_lane = math.ceil(cars / lanes)
    length = 1e8  # nobody reaches its end
    with tempfile.TemporaryDirectory() as folder:
        network, routes = Path(folder) / "road.net.xml", Path(folder) / "road.rou.xml"
        network.write_text(_sumo_network(lanes, length))
        routes.write_text(_sumo_routes())
        files = ["-n", str(network), "-r", str(routes), "--step-length", str(_DT)]
        libsumo.start(["sumo", *files, "--no-step-log", "--no-warnings"])
        try:
            for i in range(cars):
                place = {"departLane": str(i % lanes), "departSpeed": str(_SPEED)}
                at = str(10.0 + _SPACING * (per_lane - i // lanes))
                libsumo.vehicle.add(f"car{i}", "route", typeID="driver", departPos=at, **place)
                libsumo.vehicle.setLaneChangeMode(f"car{i}", 0)
            for _ in range(10):
                libsumo.simulationStep()
            step = _seconds_per_call(libsumo.simulationStep, seconds)
            present = libsumo.vehicle.getIDCount()
            if present != cars:
                raise RuntimeError(f"SUMO had {present} of {cars} vehicles on the road")
        finally:
            libsumo.close()
    return Measurement(f"SUMO {libsumo.getVersion()[1].split()[-1]}", 1, lanes, cars, step)


def _sumo_network(lanes: int, length: float) -> str:
    lane = '<lane id="e_{0}" index="{0}" speed="33.33" length="{1}" shape="0,{2} {1},{2}"/>'
    drawn = "".join(lane.format(i, length, 4 * i) for i in range(lanes))
    incoming = " ".join(f"e_{i}" for i in range(lanes))
    end = '<junction id="{}" type="dead_end" x="{}" y="0" incLanes="{}" intLanes="" shape="0,0"/>'
    return (
        f'<net version="1.16"><edge id="e" from="a" to="b" priority="1">{drawn}</edge>'
        f"{end.format('a', 0, '')}{end.format('b', length, incoming)}</net>"
    )


def _sumo_routes() -> str:
    driver = (
        '<vType id="driver" carFollowModel="IDM" accel="{a}" decel="{b}" tau="{T}" minGap="{s0}" '
        'delta="{delta}" length="{length}" maxSpeed="{v0}" speedDev="0"/>'
    ).format(**TREIBER_2000)
    return f'<routes>{driver}<route id="route" edges="e"/></routes>'
