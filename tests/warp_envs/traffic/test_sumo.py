"""SUMO's networks as TrafficNetwork reads and drives them, against what SUMO did on them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from warp_envs.traffic.network import Flow, Network, Segment, Signal
from warp_envs.traffic.network_sim import TrafficNetwork
from warp_envs.traffic.simulator import Mobil
from warp_envs.traffic.sumo import read_sumo

DATA = Path(__file__).parents[2] / "data"
AS_SUMO = {"driving": "sumo", "integrator": "semi_implicit", "dtype": torch.float64}


def read(name: str, demand: str):
    return read_sumo(
        DATA / f"sumo_{name}.net.xml",
        DATA / f"sumo_{name}_{demand}.rou.xml",
        DATA / f"sumo_{name}.add.xml",
    )


@pytest.mark.parametrize(
    ("name", "demand", "seconds", "least"),
    [("series", "free", 120.0, 2000), ("lights", "even", 240.0, 3500)],
)
def test_cars_in_one_lane_over_borders_limits_and_lines_as_sumo(name, demand, seconds, least):
    """In the second two signals, at one of which red comes without yellow."""
    data = np.load(DATA / "sumo_networks.npz")
    found = read(name, demand)
    traffic = TrafficNetwork(found.network, 1, 60, dt=float(data["step"]), **AS_SUMO)
    now, lane, car, x, speed = (
        data[f"{name}_{demand}_{what}"] for what in ("time", "lane", "car", "x", "speed")
    )
    compared = 0
    for step in range(round(seconds / traffic.dt)):
        if step:
            traffic.step()
        at = np.flatnonzero(now == traffic.time)
        at = at[np.argsort(car[at])]
        state = traffic.get_state()
        here = state["lane"][0] >= 0
        order = torch.argsort(state["number"][0][here])
        names = [traffic.lane_names[k] for k in state["lane"][0][here][order]]
        assert state["number"][0][here][order].tolist() == car[at].tolist()
        assert [f"{segment}_{k}" for segment, k in names] == lane[at].tolist()
        assert np.abs(state["x"][0][here][order].numpy() - x[at]).max() < 1e-3
        assert np.abs(state["speed"][0][here][order].numpy() - speed[at]).max() < 1e-3
        compared += len(at)
    assert compared > least


RUNS = [
    (name, demand)
    for name in ("onramp", "drop", "zipper")
    for demand in ("light", "medium", "heavy")
] + [("short", "light"), ("offramp", "medium")]
RUNS += [("signal", "even"), ("turns", "even"), ("meter", "even")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "demand"), RUNS)
def test_flows_and_travel_times_as_sumo(name, demand):
    data = np.load(DATA / "sumo_networks.npz")
    key = f"{name}_{demand}"
    assert data[f"{key}_collisions"] == 0
    found = read(name, demand)
    dt = float(data["step"])
    traffic = TrafficNetwork(found.network, 1, 400, dt=dt, mobil=Mobil(), **AS_SUMO)
    for step in range(round(float(data["end"]) / dt)):
        traffic.step()
        if step % 4 == 0:
            assert not traffic.overlapping().any()
    assert [loop.name for loop in found.network.loops] == data[f"{key}_loops"].tolist()
    count = traffic.loops()["count"][0].numpy()
    for segment in {loop.segment for loop in found.network.loops}:
        across = [loop.segment == segment for loop in found.network.loops]
        assert count[across].sum() == pytest.approx(data[f"{key}_counts"][across].sum(), rel=0.03)
    for mine, sumo in zip(traffic.travel_time[0], data[f"{key}_travel_time"], strict=True):
        assert mine.item() == pytest.approx(sumo, rel=0.05)


def test_what_is_read():
    found = read("onramp", "light")
    segments = {segment.name: segment for segment in found.network.segments}
    assert set(segments) == {"main", ":1_1", "on", ":2_0", "after", "ramp", ":1_0"}
    assert segments["on"].num_lanes == 3
    assert segments["ramp"].limits == (22.0,)
    assert segments[":1_1"].inner
    assert found.network.routes["entering"] == ["ramp", ":1_0", "on", ":2_0", "after"]
    flow = found.network.flows[0]
    assert (flow.name, flow.rate, flow.lane, flow.speed) == ("entering0", 300.0, 0, None)
    assert flow.parameters["T"] == 1.2
    assert found.vehicle_name(0, 7) == "entering0.7"
    assert any("LC2013" in note for note in found.notes)


def test_signals_that_are_read():
    found = read("signal", "even")
    ways = [("a", 0, ":1_0"), ("a", 1, ":1_0")]
    phases = [(30.0, "GG"), (3.0, "yy"), (27.0, "rr")]
    assert found.network.signals == [Signal("1", ways, phases, 7.0)]


MERGE = '<connection from="a" to="b" fromLane="1" toLane="1"'


def test_at_a_signal_g_gives_way_to_who_is_met(tmp_path):
    """Two lanes into one, SUMO's u (red and yellow) and O (off)."""
    text = (DATA / "sumo_signal.net.xml").read_text()
    text = text.replace(MERGE, MERGE.replace('toLane="1"', 'toLane="0"'))
    text = text.replace('<connection from=":1_0" to="b" fromLane="1" toLane="1"', "@")
    text = text.replace("@", '<connection from=":1_0" to="b" fromLane="1" toLane="0"')
    text = text.replace('"GG"', '"Og"').replace('"yy"', '"Yr"').replace('"rr"', '"uG"')
    (tmp_path / "net.xml").write_text(text)
    found = read_sumo(tmp_path / "net.xml", DATA / "sumo_signal_even.rou.xml")
    (signal,) = found.network.signals
    assert [state for _, state in signal.phases] == ["Gg", "Yr", "rG"]
    assert not any("best" in note for note in found.notes)
    best = (
        (DATA / "sumo_signal_even.rou.xml")
        .read_text()
        .replace('departLane="0"', 'departLane="best"')
    )
    (tmp_path / "rou.xml").write_text(best)
    notes = read_sumo(tmp_path / "net.xml", tmp_path / "rou.xml").notes
    assert any("departLane 'best'" in note for note in notes)
    gives_way = {(c.source, c.source_lane): c.gives_way for c in found.network.connections}
    assert gives_way == {("a", 0): False, (":1_0", 0): False, ("a", 1): True, (":1_0", 1): True}
    (tmp_path / "net.xml").write_text(text.replace('"Og"', '"GG"'))
    with pytest.raises(ValueError, match=r"edge a: .* green together with that from a"):
        read_sumo(tmp_path / "net.xml", DATA / "sumo_signal_even.rou.xml")


def test_a_single_vehicle_departs_once(tmp_path):
    text = (DATA / "sumo_series_free.rou.xml").read_text()
    start = text.index("<flow")
    vehicle = '<vehicle id="one" type="car" route="through" depart="0:00:03" departSpeed="5"/>'
    (tmp_path / "one.rou.xml").write_text(text[:start] + vehicle + "</routes>")
    found = read_sumo(DATA / "sumo_series.net.xml", tmp_path / "one.rou.xml")
    traffic = TrafficNetwork(found.network, 1, 3, dt=0.5, **AS_SUMO)
    assert traffic.run(5)["departed"].tolist() == [[0]]
    assert traffic.run(30)["departed"].tolist() == [[1]]
    assert found.vehicle_name(0, 0) == "one"


NET, ROUTES = "sumo_onramp.net.xml", "sumo_onramp_light.rou.xml"
LIT = "sumo_signal.net.xml"
CROSSING = '<request index="0" response="000" foes="010"'


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            NET,
            'from="ramp"',
            'tl="t" linkIndex="0" from="ramp"',
            "edge ramp: a signal .t. of 0",
        ),
        (
            NET,
            'via=":1_0_0" dir="s" state="M"',
            'via=":1_0_0" dir="s" state="="',
            "edge ramp: right",
        ),
        (
            NET,
            '<request index="0" response="000" foes="000"',
            CROSSING,
            "edge ramp: its way to on cr",
        ),
        (NET, '<edge id="ramp"', '<edge id="ramp" function="walkingarea"', "edge ramp: function"),
        (
            NET,
            'id="ramp_0"',
            'id="ramp_0" allow="bus"',
            "edge ramp: lane ramp_0: allow: 'bus' given",
        ),
        (NET, 'speed="22.00"', 'speed="fast"', "edge ramp: lane ramp_0: speed: 'fast' given"),
        (NET, "<net ", "<!DOCTYPE net><net ", "a document type declaration"),
        (NET, "<net ", "<nets><net ", "no XML"),
        (LIT, 'type="static"', 'type="actuated"', "edge a: a signal .1. of type 'actuated'"),
        (LIT, "</tlLogic>", '</tlLogic><tlLogic id="1"/>', "edge a: a signal .1. of 2 programs"),
        (LIT, 'offset="7"', 'offset="begin"', "tlLogic 1: offset: 'begin' given"),
        (LIT, "</tlLogic>", '<param key="a"/></tlLogic>', "tlLogic 1: param: that given, phase"),
        (LIT, 'state="yy"', 'state="yy" next="0"', "tlLogic 1: phase: next: '0' given"),
        (LIT, '"rr"', '"rs"', "edge a: a signal .1. to b that shows 's' given"),
        (LIT, '"rr"', '"r"', "edge a: a signal .1. to b that shows 'none' given"),
        (LIT, '"GG"', '"Gg"', "edge a: a signal .1. to b with 'g' where nobody is met given, G"),
        (LIT, 'duration="30"', 'duration="0"', "tlLogic 1: phase: duration: '0' given"),
        (ROUTES, "ramp on after", "ramp after", "edge ramp: no connection to after"),
        (ROUTES, "ramp on after", "rump on after", "edge rump: none of that name"),
        (ROUTES, 'carFollowModel="IDM"', "", "carFollowModel"),
        (ROUTES, 'speedDev="0"', "", "speedDev"),
        (ROUTES, 'accel="1.5"', 'accel="1.5" lcStrategic="3"', "lcStrategic: '3' given"),
        (ROUTES, 'departSpeed="max"', 'departSpeed="avg"', "departSpeed: 'avg' given"),
        (ROUTES, 'departLane="0"', 'departLane="random"', "departLane: 'random' given"),
        (ROUTES, 'departLane="1"', 'departLane="2"', "through1: departLane: 2 given, 0 to 1"),
        (ROUTES, 'vehsPerHour="300"', 'probability="0.1"', "probability: '0.1' given"),
        (ROUTES, 'vehsPerHour="300"', "", "no rate given"),
        (ROUTES, 'begin="0.0"', 'begin="9"', "a begin before that of 'entering0'"),
        (ROUTES, "<route ", '<trip id="t"/><route ', "trip t: that given"),
        (ROUTES, 'type="car"', 'type="bus"', "type: 'bus' given"),
    ],
)
def test_files_that_it_refuses(file, old, new, message, tmp_path):
    pair = (LIT, "sumo_signal_even.rou.xml") if file == LIT else (NET, ROUTES)
    for name in pair:
        shutil.copy(DATA / name, tmp_path / name)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_sumo(*(tmp_path / name for name in pair))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"none\.xml: No such file"):
        read_sumo(tmp_path / "none.xml", DATA / ROUTES)


# Two cars before the zipper of sumo_zipper.net.xml, x and speed of the one in lane 2 and of the one
# in lane 1, and the speeds that SUMO gives them in the next 0.5 s (libsumo 1.28, 5 digits).
ZIPPER = [
    ((790.0, 30.0), (805.0, 30.0), (29.57834, 30.0)),
    ((950.0, 10.0), (965.0, 10.0), (10.04819, 10.74002)),
    ((950.0, 30.0), (965.0, 30.0), (26.2, 30.0)),  # as hard as it may
    ((901.0, 20.0), (921.0, 7.0), (18.90749, 7.74752)),
    ((901.0, 20.0), (921.0, 6.0), (20.59729, 6.74864)),  # so late that it goes first
    ((900.0, 20.0), (880.0, 25.0), (20.59729, 24.05279)),
]


@pytest.mark.parametrize(("second", "first", "speeds"), ZIPPER)
def test_who_comes_second_at_a_zipper_slows_down_as_sumo(second, first, speeds):
    network = read("zipper", "light").network
    traffic = TrafficNetwork(network, 1, 2, dt=0.5, **network.flows[0].parameters, **AS_SUMO)
    traffic.set_rates(torch.zeros(3))
    names = traffic.lane_names
    lane = torch.tensor([[names.index(("wide", 2)), names.index(("wide", 1))]], dtype=torch.int32)
    x, speed = torch.tensor([second, first], dtype=torch.float64).T[:, None]
    traffic.set_state({"x": x, "speed": speed, "lane": lane, "route": torch.zeros_like(lane)})
    assert traffic.step()["speed"][0].tolist() == pytest.approx(speeds, abs=1e-5)


def test_whose_rear_is_the_last_in_a_lane_within_sight_is_followed_as_in_sumo():
    """The lane where its front is begins too far away to be looked into."""
    network = read("short", "light").network
    traffic = TrafficNetwork(network, 1, 2, dt=0.5, **network.flows[0].parameters, **AS_SUMO)
    traffic.set_rates(torch.zeros(3))
    names = traffic.lane_names
    state = {
        "lane": [names.index(("main", 0)), names.index((":2_0", 0))],
        "previous": [-1, names.index(("on", 1))],
        "route": [[*network.routes].index("through")] * 2,
    }
    given = {name: torch.tensor([values], dtype=torch.int32) for name, values in state.items()}
    given["speed"] = torch.tensor([[24.907400431, 0.733877497]], dtype=torch.float64)
    speeds = []
    for x in (0.366938749, 5.1):
        given["x"] = torch.tensor([[882.208388096, x]], dtype=torch.float64)
        traffic.set_state(given)
        speeds.append(traffic.step()["speed"][0, 0].item())
    assert speeds[0] == pytest.approx(24.568030539, abs=1e-6)  # libsumo 1.28
    assert speeds[1] > 25.0


def test_who_enters_far_faster_than_its_leader_slows_down_as_sumo():
    """SUMO plans a step again and again, and stops where that takes less than 1 m/s² off."""
    flow = Flow("cars", "r", 900.0, begin=0.5)
    road = Network([Segment("main", 996.0, 1, 30.0)], [], {"r": ["main"]}, [flow])
    driver = {"T": 1.2, "a": 1.5, "b": 2.0, "s0": 2.0, "v0": 33.0}
    traffic = TrafficNetwork(road, 1, 2, dt=0.5, **driver, **AS_SUMO)
    lane = torch.tensor([[0, -1]], dtype=torch.int32)
    x = torch.tensor([[59.99 - 9.29, 0.0]], dtype=torch.float64)
    speed = torch.tensor([[18.58, 0.0]], dtype=torch.float64)
    traffic.set_state({"x": x, "speed": speed, "lane": lane, "route": torch.zeros_like(lane)})
    held = torch.tensor([[0.0, float("nan")]], dtype=torch.float64)
    state = traffic.step(held)
    assert state["x"][0].tolist() == pytest.approx([59.99, 5.1])
    assert state["speed"][0, 1].item() == pytest.approx(22.538, abs=1e-3)  # FCD of libsumo 1.28


@pytest.mark.parametrize(("driving", "entered"), [("sumo", [0, 0]), ("plain", [0, 1])])
def test_who_finds_no_room_keeps_later_ones_out_of_its_lane_as_sumo(driving, entered):
    flows = [
        Flow("wary", "r", 60.0, begin=0.5, parameters={"s0": 15.0}),
        Flow("bold", "r", 60.0, begin=1.0, parameters={"s0": 2.0}),
    ]
    road = Network([Segment("main", 300.0, 1, 30.0)], [], {"r": ["main"]}, flows)
    traffic = TrafficNetwork(road, 1, 3, dt=0.5, driving=driving, dtype=torch.float64)
    lane = torch.tensor([[0, -1, -1]], dtype=torch.int32)
    x = torch.tensor([[20.0, 0.0, 0.0]], dtype=torch.float64)
    route = torch.zeros_like(lane)
    traffic.set_state({"x": x, "speed": torch.zeros_like(x), "lane": lane, "route": route})
    held = torch.tensor([[0.0, float("nan"), float("nan")]], dtype=torch.float64)
    traffic.step(held)
    assert traffic.step(held)["departed"][0].tolist() == entered
