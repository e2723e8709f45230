"""Parts of networks of another kind: each is refused in one line that names it."""

import math

import pytest
import torch

from warp_envs.checks import ArgumentError
from warp_envs.traffic.network import Connection, Flow, Loop, Network, Segment, Signal
from warp_envs.traffic.network_records import TrajectoryRecorder
from warp_envs.traffic.network_sim import TrafficNetwork
from warp_envs.traffic.simulator import TrafficSim

GIVEN = {
    Segment: {"name": "a", "length": 100.0},
    Connection: {"source": "a", "source_lane": 0, "target": "b", "target_lane": 0},
    Flow: {"name": "f", "route": "r", "rate": 100.0},
    Loop: {"name": "l", "segment": "a", "x": 1.0},
    Signal: {"name": "s", "ways": [("a", 0, "b")], "phases": [(5.0, "G")]},
    Network: {"segments": [Segment("a", 100.0)], "connections": [], "routes": {"r": ["a"]}},
}


@pytest.mark.parametrize(
    ("kind", "name", "values", "message"),
    [
        (Segment, "speed_limit", ["30", None, [30.0], True, math.nan], "segment a: speed_limit: "),
        (Segment, "name", [None, "", 5], "segment: name: "),
        (Connection, "gives_way", ["yes", math.nan, 1], "connection a_0: gives_way: "),
        (Connection, "zipper", ["no", 1, None], "connection a_0: zipper: "),
        (Connection, "source_lane", [None, -1, True], "connection of a to b: source_lane: "),
        (Connection, "target_lane", [None, 0.5], "connection of a to b: target_lane: "),
        (Connection, "target", [None, ["b"]], "connection: target: "),
        (Flow, "end", ["a", None, math.nan, True], "flow f: end: "),
        (Flow, "route", [None, ["r"]], "flow f: route: "),
        (Flow, "lane", ["0", -1], "flow f: lane: "),
        (Flow, "parameters", [None, [("T", 1.0)], {1: 1.0}], "flow f: parameters: "),
        (Flow, "parameters", [{"T": "a"}, {"T": None}, {"T": True}], "flow f: T: "),
        (Loop, "segment", [None, ""], "loop l: segment: "),
        (Loop, "x", ["a", -1.0], "loop l: x: "),
        (Signal, "ways", [[["a", 0, "b"]], [("a", 0)], "ab", 5], "signal s: ways: "),
        (Signal, "ways", [[("a", None, "b")]], "signal s: ways: lane of a: "),
        (Signal, "phases", [[1.0], "ab", None], "signal s: phases: "),
        (Signal, "phases", [[(1.0, None)], [(1.0, ["G"])]], "signal s: state: "),
        (Signal, "offset", [None, "a", True], "signal s: offset: "),
        (Network, "segments", [{"a": 1}, [5], None], "segments: "),
        (Network, "loops", [[Segment("a", 1.0)]], "loops: "),
        (Network, "routes", [[["a"]], {5: ["a"]}], "routes: "),
        (Network, "routes", [{"r": "a"}, {"r": [5]}, {"r": None}], "route r: "),
    ],
)
def test_values_of_another_kind(kind, name, values, message):
    kind(**GIVEN[kind])
    for value in values:
        with pytest.raises(ArgumentError) as caught:
            kind(**{**GIVEN[kind], name: value})
        assert str(caught.value).startswith(message)


def network() -> TrafficNetwork:
    road = Network(**GIVEN[Network], flows=[Flow("f", "r", 100.0)])
    return TrafficNetwork(road, 1, 2)


def ordered(*slots: int) -> torch.Tensor:
    return torch.tensor([slots], dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda traffic: traffic.set_rates(5.0), "rates: 5.0 given, a tensor"),
        (lambda traffic: traffic.set_rates([5.0]), r"rates: \[5.0\] given, a tensor"),
        (lambda traffic: traffic.set_state(None), "state: a NoneType given"),
        (lambda traffic: traffic.set_state({"order": ordered(0, 0)}), "order: .*each slot"),
        (lambda traffic: traffic.set_state({"order": ordered(1, 2)}), "order: .*each slot"),
        (lambda traffic: traffic.lane_index(None), "segment: None given"),
        (lambda traffic: traffic.loops(reset="no"), "reset: 'no' given"),
        (lambda traffic: TrajectoryRecorder(traffic, 0, 5), "vehicle_name: 5 given"),
        (lambda _: TrajectoryRecorder(TrafficSim(1, 1, 1)), "traffic: a TrafficSim given"),
    ],
)
def test_calls_of_another_kind(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(network())


def test_a_number_of_a_flow_may_be_zero_where_the_models_may():
    network().set_rates(torch.tensor([3]))
    road = Network(**GIVEN[Network], flows=[Flow("f", "r", 1.0, parameters={"T": 0, "s0": 0.0})])
    assert TrafficNetwork(road, 1, 1).departed.item() == 1
    with pytest.raises(ArgumentError, match=r"flow f: T: -1.0 given, numbers >= 0"):
        TrafficNetwork(
            Network(**GIVEN[Network], flows=[Flow("f", "r", 1.0, parameters={"T": -1.0})]), 1, 1
        )


def test_numbers_written_into_later_drive_nobody():
    headway = torch.full((1, 2), 1.5)
    lane = torch.zeros(1, 2, dtype=torch.int32)
    state = {"x": torch.tensor([[20.0, 50.0]]), "speed": torch.full((1, 2), 15.0), "lane": lane}
    speeds = []
    for later in (1.5, 9.0):
        traffic = TrafficNetwork(Network(**GIVEN[Network]), 1, 2, T=headway)
        headway.fill_(later)
        traffic.set_state(state)
        speeds.append(traffic.step()["speed"])
    assert torch.equal(*speeds)
