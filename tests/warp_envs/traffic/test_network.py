"""TrafficNetwork: what enters, drives, merges and leaves, and what it refuses."""

import csv
import math
import random
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from warp_envs.checks import ArgumentError
from warp_envs.traffic.network import Connection, Flow, Loop, Network, Segment, Signal
from warp_envs.traffic.network_records import TrajectoryRecorder
from warp_envs.traffic.network_sim import TrafficNetwork
from warp_envs.traffic.simulator import Mobil, TrafficSim

AS_SUMO = {"driving": "sumo", "integrator": "semi_implicit", "dt": 0.5}


def double(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def straight(**flow) -> Network:
    return Network(
        [Segment("a", 300.0), Segment("b", 7.0), Segment("c", 200.0)],
        [Connection("a", 0, "b", 0), Connection("b", 0, "c", 0)],
        {"r": ["a", "b", "c"]},
        [Flow("cars", "r", **{"rate": 1200.0, **flow})],
        [Loop("first", "a", 250.0), Loop("last", "c", 100.0)],
    )


def random_network(rng: random.Random) -> Network:
    """An on-ramp, a merge of two roads, a lane drop, an off-ramp, or three lanes into one."""

    def size(low: float, high: float) -> float:
        return rng.uniform(low, high)

    kind = rng.choice(["on-ramp", "merge", "drop", "off-ramp", "zipper"])
    n = rng.randint(1, 3)
    limit = (rng.choice([12.0, 20.0, 30.0]), rng.choice([15.0, 30.0]))
    if kind == "on-ramp":
        segments = [
            Segment("m", size(100, 400), n, limit[0]),
            Segment("r", size(60, 200), 1, limit[1]),
            Segment("on", size(60, 300), n + 1, limit[0]),
            Segment("a", size(100, 300), n, limit[1]),
        ]
        connections = [Connection("r", 0, "on", 0)]
        connections += [Connection("m", k, "on", k + 1) for k in range(n)]
        connections += [Connection("on", k + 1, "a", k) for k in range(n)]
        routes = {"t": ["m", "on", "a"], "e": ["r", "on", "a"]}
        flows = [Flow(f"t{k}", "t", size(300, 2200), lane=k) for k in range(n)]
        flows.append(Flow("e", "e", size(200, 1500)))
    elif kind == "merge":
        segments = [
            Segment("m", size(120, 400), 1, limit[0]),
            Segment("r", size(120, 300), 1, limit[1]),
            Segment("j", size(4, 20), 1, limit[0]),
            Segment("k", size(4, 20), 1, limit[1]),
            Segment("a", size(60, 300), 1, limit[0]),
        ]
        connections = [
            Connection("m", 0, "j", 0),
            Connection("r", 0, "k", 0),
            Connection("j", 0, "a", 0),
            Connection("k", 0, "a", 0, gives_way=rng.random() < 0.5),
        ]
        routes = {"t": ["m", "j", "a"], "e": ["r", "k", "a"]}
        flows = [Flow("t", "t", size(300, 2200)), Flow("e", "e", size(200, 1500))]
    elif kind == "drop":
        fewer, first = rng.randint(1, n), rng.randint(0, 1)
        segments = [
            Segment("m", size(150, 500), n + 1, limit[0]),
            Segment("a", size(100, 300), fewer, limit[1]),
        ]
        first *= n + 1 - fewer
        connections = [Connection("m", first + k, "a", k) for k in range(fewer)]
        routes = {"t": ["m", "a"]}
        flows = [Flow(f"t{k}", "t", size(200, 2000), lane=k) for k in range(n + 1)]
    elif kind == "off-ramp":
        segments = [
            Segment("m", size(200, 500), n, limit[0]),
            Segment("x", size(50, 100), 1, limit[1]),
            Segment("a", size(100, 300), n, limit[0]),
        ]
        connections = [Connection("m", 0, "x", 0)]
        connections += [Connection("m", k, "a", k) for k in range(n)]
        routes = {"t": ["m", "a"], "e": ["m", "x"]}
        flows = [Flow(f"t{k}", "t", size(300, 1500), lane=k) for k in range(n)]
        flows.append(Flow("e", "e", size(200, 900), lane=n - 1))
    else:
        segments = [Segment("m", size(150, 400), 3, limit[0]), Segment("a", size(100, 300))]
        connections = [Connection("m", k, "a", 0) for k in range(3)]
        routes = {"t": ["m", "a"]}
        flows = [Flow(f"t{k}", "t", size(200, 1500), lane=k) for k in range(3)]
    return Network(segments, connections, routes, flows)


def with_a_signal(rng: random.Random, network: Network) -> Network:
    """The same with one at the end of a segment."""
    source = rng.choice(sorted({c.source for c in network.connections}))
    ways = [(c.source, c.source_lane, c.target) for c in network.connections if c.source == source]
    times = rng.uniform(5.0, 20.0), rng.choice([1.0, 3.0]), rng.uniform(5.0, 20.0)
    phases = [(time, letter * len(ways)) for time, letter in zip(times, "Gyr", strict=True)]
    return replace(network, signals=[Signal("s", ways, phases, rng.uniform(-20.0, 20.0))])


@pytest.mark.slow
@pytest.mark.parametrize("signals", [False, True])
@pytest.mark.parametrize("driving", ["plain", "sumo"])
def test_no_collision_and_nobody_lost_on_random_networks(driving, signals):
    rng = random.Random(driving)
    moved = 0
    for _ in range(12):
        network = random_network(rng)
        if signals:
            network = with_a_signal(rng, network)
        parameters = {
            "v0": rng.uniform(15.0, 35.0),
            "T": rng.uniform(0.8, 2.0),
            "a": rng.uniform(0.6, 2.5),
            "b": rng.uniform(1.5, 4.0),
            "s0": rng.uniform(1.0, 3.0),
        }
        options = {"dt": rng.choice([0.1, 0.25]), "mobil": Mobil(politeness=rng.choice([0.0, 0.3]))}
        if driving == "sumo":
            options = {**options, **AS_SUMO, "dt": 0.5, "mobil": Mobil()}
        traffic = TrafficNetwork(network, 1, 150, dtype=torch.float64, **options, **parameters)
        for _ in range(400 if signals else 200):  # while it is red few come through
            state = traffic.step()
            assert not traffic.overlapping().any()
            assert traffic.departed.sum() == traffic.arrived.sum() + traffic.active.sum()
            assert (state["speed"] >= 0.0).all()
        due = sum(math.floor((traffic.time + 1e-9) * f.rate / 3600.0) + 1 for f in network.flows)
        assert int(traffic.departed.sum() + traffic.waiting.sum()) == due
        moved += int(traffic.arrived.sum())
    assert moved > 20


# Along the way ------------------------------------------------------------------------------------


@pytest.mark.parametrize("integrator", ["euler", "semi_implicit", "ballistic"])
def test_borders_do_not_matter_to_who_follows_whom(integrator):
    x, speed = double(5.0, 30.0, 110.0, 150.0), double(20.0, 15.0, 22.0, 5.0)
    road = TrafficSim(1, 1, 4, dtype=torch.float64, integrator=integrator)
    road.set_state({"x": x, "speed": speed})
    lengths = [60.0, 3.0, 70.0, 600.0]
    starts = torch.tensor([0.0, 60.0, 63.0, 133.0], dtype=torch.float64)
    names = ["a", "b", "c", "d"]
    pieces = Network(
        [Segment(name, length) for name, length in zip(names, lengths, strict=True)],
        [Connection(a, 0, b, 0) for a, b in pairwise(names)],
        {"r": names},
    )
    network = TrafficNetwork(pieces, 1, 4, dtype=torch.float64, integrator=integrator)
    front = x + 2.5  # the simulator of one road has centres
    lane = torch.tensor([[0, 0, 2, 3]], dtype=torch.int32)
    network.set_state({"x": front - starts[lane.long()], "speed": speed, "lane": lane})
    for _ in range(150):
        state = network.step()
        there = state["x"] + starts[state["lane"].long()] - 2.5
        assert torch.allclose(there, road.step()["x"], rtol=0.0, atol=1e-9)
    assert (state["lane"] > lane).any()


def test_drivers_slow_down_before_a_slower_limit_and_stop_at_a_dead_end():
    network = Network(
        [Segment("a", 400.0, 2, 30.0), Segment("b", 300.0, 1, 10.0)],
        [Connection("a", 1, "b", 0)],
        {"r": ["a", "b"]},
    )
    for options in ({}, AS_SUMO):
        traffic = TrafficNetwork(network, 1, 2, dtype=torch.float64, v0=30.0, **options)
        lane = torch.tensor([[0, 1]], dtype=torch.int32)
        traffic.set_state({"x": double(10.0, 10.0), "speed": double(25.0, 25.0), "lane": lane})
        entry = None
        for _ in range(600):
            state = traffic.step()
            if entry is None and state["lane"][0, 1] != 1:
                entry = float(state["speed"][0, 1])
        assert entry is not None
        assert entry < 10.5
        assert state["lane"][0, 0] == 0
        assert 390.0 < state["x"][0, 0] <= 400.0  # SUMO's drivers come up to the end
        assert state["speed"][0, 0] < 0.05


def test_the_rear_of_one_that_leaves_is_seen():
    network = Network(
        [Segment("a", 100.0), Segment("x", 50.0), Segment("b", 100.0)],
        [Connection("a", 0, "x", 0), Connection("a", 0, "b", 0)],
        {"through": ["a", "b"], "off": ["a", "x"]},
    )
    traffic = TrafficNetwork(network, 1, 2, dtype=torch.float64)
    state = {
        "x": double(1.0, 92.0),
        "speed": double(0.0, 5.0),
        "lane": torch.tensor([[1, 0]], dtype=torch.int32),
        "route": torch.tensor([[1, 0]], dtype=torch.int32),
    }
    traffic.set_state({**state, "previous": torch.tensor([[0, -1]], dtype=torch.int32)})
    assert traffic.heeded()["tail"].tolist() == [[-1, 0]]
    command = double(0.0, math.nan)
    for _ in range(100):
        traffic.step(command)
    assert traffic.x[0, 1] < 96.0
    traffic.set_state({**state, "x": double(6.0, 92.0)})
    assert traffic.heeded()["tail"].tolist() == [[-1, -1]]


def test_at_a_merge_the_nearer_goes_first_and_those_that_give_way_wait():
    for gives_way, order in ((False, [1, 0]), (True, [0, 1])):
        network = Network(
            [Segment("m", 200.0), Segment("r", 200.0), Segment("a", 300.0)],
            [Connection("m", 0, "a", 0), Connection("r", 0, "a", 0, gives_way)],
            {"t": ["m", "a"], "e": ["r", "a"]},
        )
        traffic = TrafficNetwork(network, 1, 2, dtype=torch.float64)
        lane = torch.tensor([[0, 1]], dtype=torch.int32)
        state = {"x": double(140.0, 150.0), "speed": double(18.0, 18.0), "lane": lane}
        traffic.set_state({**state, "route": lane})
        for _ in range(150):
            traffic.step()
            assert not traffic.overlapping().any()
        assert (traffic.lane == 2).all()
        assert torch.argsort(traffic.x[0], descending=True).tolist() == order


@pytest.mark.parametrize("options", [{"dt": 0.25}, AS_SUMO])
def test_those_who_must_change_lanes_do_and_others_make_room(options):
    network = Network(
        [Segment("a", 300.0, 2, 25.0), Segment("b", 400.0, 1, 25.0)],
        [Connection("a", 1, "b", 0)],
        {"r": ["a", "b"]},
        [Flow("left", "r", 900.0, lane=1), Flow("right", "r", 500.0, lane=0)],
    )
    traffic = TrafficNetwork(network, 2, 80, dtype=torch.float64, mobil=Mobil(), **options)
    steps = round(250.0 / options["dt"])
    room = 0
    for _ in range(steps):
        state = traffic.step()
        room += int((traffic.heeded()["gap"] >= 0).sum())
        room += int(torch.isfinite(state["advised"]).sum())
    assert room > 0
    assert (traffic.arrived > 50).all()
    flow = traffic.get_state()["flow"]
    under_way = ((flow == 1) & traffic.active).sum(dim=1)
    assert (traffic.departed[:, 1] - under_way > 15).all()
    without = TrafficNetwork(network, 1, 80, dtype=torch.float64, **options)
    without.run(steps)
    assert without.departed[0, 1] < 50  # they stand at the end of their lane
    assert (without.lane == 0).sum() > 30
    lanes = [without.lane_index(*lane) for lane in (("a",), ("a", 1), ("b",))]
    assert lanes == [0, 1, 2]
    with pytest.raises(ArgumentError, match="lane: 1 given"):
        without.lane_index("b", 1)


# Flows, loops, trips ------------------------------------------------------------------------------


def test_departures_are_on_time_and_queues_wait():
    traffic = TrafficNetwork(straight(begin=2.0, end=62.0), 1, 60, dtype=torch.float64)
    entered = []
    for _ in range(700):
        before = int(traffic.departed[0, 0])
        state = traffic.step()
        if int(state["departed"][0, 0]) > before:
            entered.append(traffic.time)
    assert entered == pytest.approx([2.0 + 3.0 * k for k in range(20)])
    crowded = TrafficNetwork(straight(rate=7200.0), 1, 60, dtype=torch.float64)
    crowded.run(600)
    assert int(crowded.waiting[0, 0]) > 40
    assert int(crowded.departed[0, 0] + crowded.waiting[0, 0]) == 31 + 90
    assert not crowded.slots_short.any()
    few = TrafficNetwork(straight(), 1, 3, dtype=torch.float64)
    few.run(300)
    assert few.slots_short[0] > 0
    assert few.active.sum() == 3


def test_rates_of_each_network_and_drivers_of_each_flow():
    network = straight(parameters={"v0": 10.0, "length": 12.0}, speed=3.0)
    rates = torch.tensor([[0.0], [600.0]], dtype=torch.float64)
    traffic = TrafficNetwork(network, 2, 20, dtype=torch.float64, rates=rates)
    first = traffic.get_state()
    assert first["departed"].tolist() == [[0], [1]]
    assert first["speed"][1].max() == 3.0
    assert first["x"][1].max() == pytest.approx(12.1)  # its rear at the start of the lane
    state = traffic.run(300)
    assert state["departed"].tolist() == [[0], [6]]
    assert 9.0 < state["speed"].max() < 10.0


def test_loops_and_travel_times():
    network = straight(speed=20.0, end=30.0, parameters={"v0": 20.0, "delta": 1000.0})
    traffic = TrafficNetwork(network, 1, 20, dtype=torch.float64, v0=20.0, **AS_SUMO)
    traffic.run(200)
    loops = traffic.loops(reset=True)
    assert loops["count"].tolist() == [[10.0, 10.0]]
    assert loops["flow"].tolist() == [[360.0, 360.0]]
    assert (loops["harmonic_speed"] <= loops["speed"] + 1e-12).all()
    assert 15.0 < loops["speed"].min() <= loops["speed"].max() <= 20.0
    expected = loops["count"] * 5.0 / loops["harmonic_speed"] / 100.0
    assert torch.allclose(loops["occupancy"], expected)
    assert traffic.arrived.tolist() == [[10]]
    assert 507.0 / 20.0 - 0.5 < traffic.travel_time.item() < 40.0
    traffic.run(10)
    assert traffic.loops()["count"].tolist() == [[0.0, 0.0]]


def test_a_state_goes_on_bit_for_bit():
    rng = random.Random(5)
    network = random_network(rng)
    traffic = TrafficNetwork(network, 2, 60, dtype=torch.float64, dt=0.25, mobil=Mobil())
    state = traffic.run(101)
    later = traffic.run(60)
    again = TrafficNetwork(network, 2, 60, dtype=torch.float64, dt=0.25, mobil=Mobil())
    again.set_state(state)
    repeated = again.run(60)
    for name in later:
        assert torch.equal(later[name], repeated[name]), name


def test_trajectories_as_fcd_and_csv(tmp_path):
    traffic = TrafficNetwork(straight(), 1, 20, dtype=torch.float64)
    recorder = TrajectoryRecorder(traffic)
    for _ in range(50):
        traffic.step()
        recorder.capture()
    recorder.write_fcd(tmp_path / "fcd.xml")
    recorder.write_csv(tmp_path / "trajectories.csv")
    steps = ET.parse(tmp_path / "fcd.xml").getroot().findall("timestep")
    assert [float(step.get("time")) for step in steps] == pytest.approx(
        [0.1 * k for k in range(51)]
    )
    last = {car.get("id"): car for car in steps[-1]}
    assert set(last) == {"cars.0", "cars.1"}
    with (tmp_path / "trajectories.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(step) for step in steps)
    assert rows[-1]["lane"] == last[rows[-1]["vehicle"]].get("lane") == "a_0"
    assert float(last["cars.0"].get("pos")) == pytest.approx(traffic.x.max().item(), abs=1e-6)


# Refusals -----------------------------------------------------------------------------------------

A, B = Segment("a", 10.0, 2), Segment("b", 10.0)
JOINED = [Connection("a", 0, "b", 0)]
ZIPPER = Connection("a", 1, "b", 0, zipper=True)
CYCLE = [(20.0, "G"), (3.0, "y"), (17.0, "r")]
LIGHT = Signal("s", [("a", 0, "b")], CYCLE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": []}, "segments: none given"),
        ({"segments": [A, A]}, "segments: 'a' 2 times given"),
        ({"connections": [Connection("a", 2, "b", 0)]}, "connection a_2: lane of a: 2 given"),
        ({"connections": [Connection("a", 0, "c", 0)]}, "connection a_0: segment 'c' given"),
        ({"connections": JOINED * 2}, "a second one into 'b'"),
        ({"connections": [replace(ZIPPER, gives_way=True)]}, "a_1: zipper: True with gives_way"),
        ({"connections": [*JOINED, ZIPPER]}, "a_1: zipper: True, and another into lane 0 of 'b'"),
        ({"connections": []}, "route r: 'b' after 'a' given"),
        ({"routes": {}}, "routes: none given"),
        ({"routes": {"r": []}}, "route r: no segment given"),
        ({"routes": {"r": ["a", "b", "a"]}}, "route r: 'a' twice given"),
        ({"flows": [Flow("f", "q", 1.0)]}, "flow f: route: 'q' given"),
        ({"flows": [Flow("f", "r", 1.0, lane=2)]}, "flow f: lane of a: 2 given"),
        ({"loops": [Loop("l", "a", 11.0)]}, "loop l: x: 11.0 given"),
        ({"loops": [Loop("l", "ab", 1.0)]}, "loop l: segment 'ab' given"),
        ({"signals": [LIGHT, LIGHT]}, "signals: 's' 2 times given"),
        ({"signals": [Signal("s", [("a", 1, "b")], CYCLE)]}, "signal s: the way from 'a', lane 1"),
        ({"signals": [LIGHT, replace(LIGHT, name="t")]}, "signal t: .*that no signal governs yet"),
    ],
)
def test_networks_that_it_refuses(change, message):
    parts = {"segments": [A, B], "connections": JOINED, "routes": {"r": ["a", "b"]}}
    with pytest.raises(ValueError, match=message):
        Network(**{**parts, **change})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Segment("a", 0.0), "segment a: length: 0.0 given"),
        (lambda: Segment("a", 1.0, 0), "segment a: num_lanes: 0 given"),
        (lambda: Segment("a", 1.0, 2, (1.0,)), "segment a: speed_limit: 1 of them given"),
        (lambda: Segment("a", 1.0, 1, -1.0), "segment a: speed_limit: -1.0 given"),
        (lambda: Segment("a", (1.0, 2.0), 2), "segment a: length"),
        (lambda: Flow("f", "r", -1.0), "flow f: rate: -1.0 given"),
        (lambda: Flow("f", "r", 1.0, begin=5.0, end=2.0), "flow f: end: 2.0 given"),
        (lambda: Flow("f", "r", 1.0, speed=-2.0), "flow f: speed: -2.0 given"),
        (lambda: replace(LIGHT, ways=[]), "signal s: ways: none given"),
        (lambda: replace(LIGHT, phases=[]), "signal s: phases: none given"),
        (lambda: replace(LIGHT, phases=[(0.0, "G")]), "signal s: duration: 0.0 given"),
        (lambda: replace(LIGHT, phases=[(5.0, "GG")]), "signal s: state: 'GG' given, 1 letters of"),
        (lambda: replace(LIGHT, phases=[(5.0, "b")]), "signal s: state: 'b' given"),
        (lambda: replace(LIGHT, offset=math.inf), "signal s: offset: inf given"),
    ],
)
def test_parts_that_it_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_vehicles": 0}, "num_vehicles: 0 given"),
        ({"dt": 0.0}, "dt: 0.0 given"),
        ({"mobil": True}, "mobil: True given"),
        ({"mobil": Mobil(bias=0.1), "driving": "sumo"}, "mobil: Mobil.* given, Mobil.. or None"),
        ({"horizon": 0.0, "mobil": Mobil()}, "horizon: 0.0 given"),
        ({"horizon": 5.0, "mobil": Mobil(), "driving": "sumo"}, "horizon: 5.0 .*10.0 with sumo"),
        ({"horizon": 5.0}, "horizon: 5.0 given, 10.0 without mobil"),
        ({"v1": 3.0}, "parameter of idm: 'v1' given"),
        ({"v0": -3.0}, "v0: -3.0 given"),
        ({"T": torch.ones(3)}, "T: shape"),
        ({"model": "ovm", "driving": "sumo"}, "model: 'ovm' with sumo driving given"),
        ({"dt": 10.0, "planning_step": 0.25}, "planning_step: 0.25 of a dt of 10.0"),
        ({"rates": torch.tensor([-1.0])}, "rates"),
        ({"rates": torch.ones(4, 3)}, "rates: shape"),
        ({"network": straight(parameters={"v9": 1.0})}, "parameter of idm: 'v9' given"),
        ({"network": straight(parameters={"a": 0.0})}, "flow cars: a: 0.0 given"),
    ],
)
def test_options_that_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        TrafficNetwork(**{"network": straight(), "num_envs": 1, "num_vehicles": 2, **options})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"y": torch.zeros(1, 2)}, "state: 'y' given"),
        ({"x": torch.zeros(2)}, r"x: \(2,\)"),
        ({"x": double(0.0, 300.5)}, "x: 300.5 given"),
        ({"speed": double(0.0, -1.0)}, "speed: -1.0 given"),
        ({"lane": torch.tensor([[0, 3]], dtype=torch.int32)}, "lane: 3 given"),
        ({"route": torch.tensor([[0, 1]], dtype=torch.int32)}, "route: 1 given"),
        ({"step_count": torch.tensor([-1])}, "step_count: -1 given"),
    ],
)
def test_states_that_it_refuses(state, message):
    traffic = TrafficNetwork(straight(), 1, 2, dtype=torch.float64)
    lane = torch.zeros(1, 2, dtype=torch.int32)
    traffic.set_state({"lane": lane, "x": double(0.0, 20.0)})
    before = traffic.get_state()
    with pytest.raises(ValueError, match=message):
        traffic.set_state(state)
    after = traffic.get_state()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(ValueError, match="acceleration: an infinite one"):
        traffic.step(double(math.inf, 0.0))


def test_a_flow_does_not_keep_another_out():
    """Of two that wait at one lane, whoever is due first comes in first, as in SUMO."""
    flows = [Flow("many", "r", 3000.0), Flow("few", "r", 600.0)]
    traffic = TrafficNetwork(
        Network([Segment("a", 600.0, speed_limit=10.0)], [], {"r": ["a"]}, flows), 1, 80, dt=0.5
    )
    traffic.run(400)
    many, few = traffic.departed[0].tolist()
    assert traffic.waiting[0].sum() > 10
    assert abs(few - (many + few) / 6.0) <= 1.0
