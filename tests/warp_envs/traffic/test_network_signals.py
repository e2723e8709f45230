"""Fixed-time signals on a TrafficNetwork: when they show what, who stops, and gradients."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from kernels.traffic.network_outlook import SEEN
from warp_envs.traffic.bottleneck import BottleneckEnv
from warp_envs.traffic.merge import INFLOW_LENGTH, MergeEnv
from warp_envs.traffic.network import Connection, Flow, Loop, Network, Segment, Signal
from warp_envs.traffic.network_sim import TrafficNetwork
from warp_envs.traffic.simulator import DRIVING, INTEGRATORS, Mobil

AS_SUMO = {"driving": "sumo", "integrator": "semi_implicit", "dt": 0.5}
CYCLE = ((20.0, "G"), (3.0, "y"), (17.0, "r"))


def double(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def street(*, rate: float = 0.0, phases=CYCLE, offset: float = 0.0, speed_limit=15.0) -> Network:
    return Network(
        [Segment("a", 300.0, 1, speed_limit), Segment("b", 200.0, 1, speed_limit)],
        [Connection("a", 0, "b", 0)],
        {"r": ["a", "b"]},
        [Flow("cars", "r", rate)],
        [Loop("line", "b", 0.5)],
        [Signal("s", [("a", 0, "b")], phases, offset)],
    )


def colours(traffic: TrafficNetwork, times) -> list[int]:
    """What its only signal shows at some times [s]."""
    found = []
    for time in times:
        traffic.set_state({"step_count": torch.tensor([round(time / traffic.dt)])})
        found.append(int(traffic.lights))
    return found


def test_what_signals_show_when():
    for offset in (5.0, -35.0, 85.0):
        traffic = TrafficNetwork(street(offset=offset), 1, 2, dt=0.5, dtype=torch.float64)
        times = (0.0, 4.5, 5.0, 24.5, 25.0, 27.5, 28.0, 44.5, 45.0, 65.0, 40_065.0)
        assert colours(traffic, times) == [2, 2, 0, 0, 1, 1, 2, 2, 0, 1, 1]


def test_a_switch_within_a_step_comes_at_its_start_as_in_sumo():
    phases = ((10.3, "G"), (9.7, "r"))
    traffic = TrafficNetwork(street(phases=phases), 1, 2, dt=0.5, dtype=torch.float64)
    assert colours(traffic, (9.5, 10.0, 19.5, 20.0)) == [0, 2, 2, 0]
    traffic = TrafficNetwork(street(phases=phases), 1, 2, dt=0.1, dtype=torch.float64)
    assert colours(traffic, (10.2, 10.3, 19.9, 20.0, 2_010.2, 2_010.3)) == [0, 2, 2, 0, 0, 2]


@pytest.mark.parametrize("driving", DRIVING)
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_a_queue_stands_while_it_is_red_and_leaves_at_green(driving, integrator):
    network = street(rate=900.0, phases=((20.0, "G"), (4.0, "y"), (36.0, "r")))
    traffic = TrafficNetwork(
        network, 2, 60, dt=0.5, driving=driving, integrator=integrator, dtype=torch.float64
    )
    passed, speeds = [], []
    for _ in range(360):
        state = traffic.step()
        passed.append(traffic.loops()["count"][0].item())
        waiting = (state["lane"][0] == 0) & (state["x"][0] > 280.0)
        speeds.append(float(state["speed"][0][waiting].min()) if waiting.any() else math.inf)
        assert not traffic.overlapping().any()
        assert torch.equal(state["x"][0], state["x"][1])
    for cycle in range(1, 3):
        at = {time: passed[120 * cycle + 2 * time - 1] for time in (0, 8, 20, 24, 59)}
        assert at[59] == at[24]
        assert at[20] - at[0] == 5.0
        # Once they move, a headway is more than T = 1.6 s and, of drivers with a = 0.73, below 4 s.
        assert 12.0 / 4.0 <= at[20] - at[8] <= 12.0 / 1.6
        assert min(speeds[120 * cycle + 100 : 120 * cycle + 118]) < 0.1


@pytest.mark.parametrize("driving", DRIVING)
def test_at_yellow_one_that_can_stops_and_one_that_cannot_goes_on(driving):
    phases = ((4.0, "y"), (1000.0, "r"))
    options = {**AS_SUMO, "driving": driving, "dtype": torch.float64, "b": 2.0}
    for room, stops in ((60.0, True), (20.0, False)):
        traffic = TrafficNetwork(street(phases=phases), 1, 1, emergency_decel=9.0, **options)
        lane = torch.zeros(1, 1, dtype=torch.int32)
        traffic.set_state({"x": double(300.0 - room), "speed": double(14.0), "lane": lane})
        for _ in range(4):
            state = traffic.step()
        assert int(state["lane"]) == (0 if stops else 1)
        if stops:
            state = traffic.run(120)
            assert int(state["lane"]) == 0 and float(state["speed"]) < 0.05
            gap = {"sumo": 1.0, "plain": 2.0}[driving]  # to the line, or s0 of a standing vehicle
            assert float(state["x"]) == pytest.approx(300.0 - gap, abs=0.15)


def test_whom_a_red_light_catches_too_late():
    """SUMO's drivers brake as hard as they can and stand at the line; plain ones drive on."""
    phases = ((0.5, "G"), (20.0, "r"))
    lane = torch.zeros(1, 1, dtype=torch.int32)
    found = {}
    for driving in DRIVING:
        options = {**AS_SUMO, "driving": driving, "dtype": torch.float64, "emergency_decel": 9.0}
        traffic = TrafficNetwork(street(phases=phases), 1, 1, **options)
        x = double(296.0).requires_grad_()
        traffic.set_state({"x": x, "speed": double(14.0), "lane": lane})
        state = traffic.step()
        (gradient,) = torch.autograd.grad(state["x"].sum(), x)
        found[driving] = int(state["lane"]), float(state["x"].detach()), float(gradient)
        traffic.set_state(traffic.get_state())
    assert found["sumo"] == (0, 300.0, 0.0)
    assert found["plain"][0] == 1 and found["plain"][2] == 1.0


def test_nobody_waits_at_a_merge_for_one_at_a_red_light():
    def joined(colour: str) -> Network:
        lengths = {"main": 200.0, "ramp": 150.0, "join": 30.0, "after": 300.0}
        pairs = [("main", "after"), ("ramp", "join"), ("join", "after")]
        return Network(
            [Segment(name, length) for name, length in lengths.items()],
            [Connection(source, 0, target, 0) for source, target in pairs],
            {"through": ["main", "after"], "entering": ["ramp", "join", "after"]},
            signals=[Signal("meter", [("ramp", 0, "join")], [(60.0, colour)])],
        )

    state = {
        "x": double(140.0, 120.0, 140.0),
        "speed": double(15.0, 15.0, 0.0),
        "lane": torch.tensor([[0, 0, 1]], dtype=torch.int32),
        "route": torch.tensor([[0, 0, 1]], dtype=torch.int32),
    }
    heeded = {}
    for colour in "rG":
        traffic = TrafficNetwork(joined(colour), 1, 3, dt=0.5, dtype=torch.float64)
        traffic.set_state(state)
        heeded[colour] = traffic.heeded()["merging"][0].tolist()
    assert heeded == {"r": [-1, -1, -1], "G": [2, 2, -1]}  # it is nearer to the merge


@pytest.mark.parametrize("driving", DRIVING)
def test_who_comes_in_can_stop_before_a_red_light(driving):
    short = replace(
        street(rate=600.0, phases=((30.0, "r"), (30.0, "G")), speed_limit=25.0),
        segments=[Segment("a", 70.0, 1, 25.0), Segment("b", 200.0, 1, 25.0)],
    )
    options = {**AS_SUMO, "driving": driving, "dtype": torch.float64, "emergency_decel": 9.0}
    traffic = TrafficNetwork(short, 1, 20, **options)
    slowest = [float(traffic.speed[0, 0])]
    for _ in range(58):
        traffic.step()
        slowest.append(float(traffic.speed[0, 0]))
    braking = min(after - before for before, after in pairwise(slowest))
    assert 5.0 < slowest[0] < 20.0 and braking / 0.5 > -3.0
    assert traffic.loops()["count"].item() == 0.0
    assert traffic.run(30)["departed"].item() > 3 and traffic.loops()["count"].item() > 2.0


def test_lanes_are_changed_in_a_queue_at_a_red_light():
    wide = Network(
        [Segment("a", 300.0, 2, 15.0), Segment("b", 200.0, 2, 15.0)],
        [Connection("a", 0, "b", 0), Connection("a", 1, "b", 1)],
        {"r": ["a", "b"]},
        [Flow("cars", "r", 700.0, lane=0)],
        signals=[Signal("s", [("a", 0, "b"), ("a", 1, "b")], ((20.0, "rr"), (25.0, "GG")))],
    )
    for options in ({"driving": "plain", "dt": 0.5}, AS_SUMO):
        traffic = TrafficNetwork(wide, 1, 60, dtype=torch.float64, mobil=Mobil(), **options)
        lanes = set()
        for _ in range(240):
            state = traffic.step()
            assert not traffic.overlapping().any()
            held = (state["lane"] == 0) | (state["lane"] == 1)
            lanes |= set(state["lane"][held & (state["x"] > 150.0)].tolist())
        assert lanes == {0, 1}
        assert traffic.arrived.item() > 10


# Gradients ----------------------------------------------------------------------------------------

CHOICES = [{**AS_SUMO, "driving": d, "integrator": i} for d in DRIVING for i in INTEGRATORS]


@pytest.mark.parametrize("options", CHOICES)
def test_through_a_stop_and_go_against_central_differences(options):
    """Three cars before a red light, the first from where 1 m before the line is hard braking."""
    network = street(phases=((9.0, "r"), (100.0, "G")))
    lane = torch.zeros(1, 3, dtype=torch.int32)
    speeds = []

    def run(x, speed, headway):
        traffic = TrafficNetwork(network, 1, 3, dtype=torch.float64, b=2.0, T=headway, **options)
        traffic.set_state({"x": x, "speed": speed, "lane": lane})
        speeds.clear()
        for _ in range(34):
            state = traffic.step()
            speeds.append(state["speed"][0].detach())
        return (weight * (state["x"] + 3.0 * state["speed"])).sum()

    weight = double(1.0, 0.7, 1.3)
    values = [double(264.0, 240.0, 215.0), double(13.5, 13.0, 12.5), double(1.2, 1.1, 1.3)]
    given = [value.clone().requires_grad_() for value in values]
    found = torch.autograd.grad(run(*given), given)
    slowest = torch.stack(speeds).min(dim=0)[0]
    assert (slowest < 1.5).all() and (speeds[-1] > slowest + 0.5).all()  # stop and go
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        ways = [torch.randn(1, 3, generator=generator, dtype=torch.float64) for _ in values]
        pair = [
            float(run(*[v + push * way for v, way in zip(values, ways, strict=True)]).detach())
            for push in (1e-5, -1e-5)
        ]
        slope = sum(float((g * way).sum()) for g, way in zip(found, ways, strict=True))
        assert slope == pytest.approx((pair[0] - pair[1]) / 2e-5, rel=1e-6, abs=1e-6)


def test_steps_with_and_without_gradient_agree_bit_for_bit():
    states = []
    for learned in (False, True):
        headway = torch.tensor(1.2, dtype=torch.float64, requires_grad=learned)
        traffic = TrafficNetwork(
            street(rate=1200.0), 2, 40, dtype=torch.float64, T=headway, **AS_SUMO
        )
        for _ in range(120):
            state = traffic.step()
            traffic.detach()
        states.append(state)
    assert states[0]["departed"].sum() > 20
    for name in states[0]:
        assert torch.equal(states[0][name], states[1][name]), name


def test_a_state_goes_on_bit_for_bit():
    traffic, other = (
        TrafficNetwork(street(rate=900.0, offset=3.0), 1, 40, dtype=torch.float64, **AS_SUMO)
        for _ in range(2)
    )
    other.set_state(traffic.run(77))
    assert torch.equal(traffic.lights, other.lights)
    ends = [simulation.run(61) for simulation in (traffic, other)]
    for name in ends[0]:
        assert torch.equal(ends[0][name], ends[1][name]), name


# Lanes whose lights differ ------------------------------------------------------------------------


def fork() -> Network:
    """Two lanes, three, and of these two straight on and one to the left."""
    roads = {"pre": (396.0, 2), "main": (694.5, 3), "on": (592.28, 2), "left": (576.26, 1)}
    segments = [Segment(name, length, lanes, 20.0) for name, (length, lanes) in roads.items()]
    inner = [Segment(name, 8.0, 2, 20.0, inner=True) for name in (":0", ":1")]
    links = [("pre", ":0", 0), ("main", ":1", 0), (":1", "on", 0), (":0", "main", 1)]
    connections = [Connection(a, k, b, k + shift) for a, b, shift in links for k in range(2)]
    ways = [("main", 0, ":1"), ("main", 1, ":1"), ("main", 2, "left")]
    return Network(
        [*segments, *inner],
        [*connections, Connection("main", 2, "left", 0)],
        {"through": ["pre", ":0", "main", ":1", "on"], "turning": ["pre", ":0", "main", "left"]},
        signals=[Signal("s", ways, [(15.0, "Grr"), (10.0, "GGr"), (15.0, "rrG"), (3.0, "rrY")])],
    )


# Route, segment, when [s], and of its lanes how far they go [m] and which way the best one is:
# libsumo 1.28, `vehicle.getBestLanes`.
SEEN_LANES = [
    (0, "pre", 0.0, [1682.78, 1090.5], [0, -1]),
    (0, "main", 0.0, [1286.78, 694.5, 694.5], [0, -1, -2]),
    (0, "main", 20.0, [1286.78, 1286.78, 694.5], [0, 0, -1]),
    (0, "main", 30.0, [1286.78, 1286.78, 694.5], [0, 0, -1]),
    (0, "on", 0.0, [592.28, 592.28], [0, 0]),
    (1, "pre", 30.0, [1090.5, 1666.76], [1, 0]),
    (1, "main", 42.0, [694.5, 694.5, 1270.76], [2, 1, 0]),
]


@pytest.mark.parametrize(("route", "segment", "time", "ways", "off"), SEEN_LANES)
def test_which_lanes_a_driver_prefers_is_as_in_sumo(route, segment, time, ways, off):
    traffic = TrafficNetwork(fork(), 1, 1, dtype=torch.float64, mobil=Mobil(), **AS_SUMO)
    own = {"lane": traffic.lane_index(segment, len(off) - 1), "route": route}
    state = {name: torch.tensor([[value]], dtype=torch.int32) for name, value in own.items()}
    state |= {"x": double(50.0), "speed": double(10.0)}
    state["step_count"] = torch.tensor([round(time / 0.5)])
    traffic.set_state(state)
    for _ in range(30):  # and keeps to it, whatever they show later
        memory = traffic.step()["memory"][0, 0, SEEN:].tolist()
        assert memory[: len(off)] == off
        assert memory[3 : 3 + len(off)] == pytest.approx(ways)


def test_who_waits_to_enter_keeps_to_the_lights_that_it_saw_first_as_in_sumo():
    """Of two that are due at 0 s the second is let in when the other lane has its green."""
    roads = [Segment("a", 200.0, 2, 20.0), Segment("b", 200.0, 1, 20.0)]
    lanes = [Connection("a", 0, "b", 0), Connection("a", 1, "b", 0)]
    signal = Signal("s", [("a", 0, "b"), ("a", 1, "b")], [(5.0, "Gr"), (30.0, "rG")])
    flow = Flow("f", "r", 36_000.0, lane=0)
    network = Network(roads, lanes, {"r": ["a", "b"]}, [flow], signals=[signal])
    traffic = TrafficNetwork(network, 1, 3, dtype=torch.float64, mobil=Mobil(), **AS_SUMO)
    lane = torch.tensor([[-1, -1, 0]], dtype=torch.int32)
    traffic.set_state(
        {
            "lane": lane,
            "x": torch.tensor([[0.0, 0.0, 9.0]], dtype=torch.float64),
            "speed": torch.zeros(1, 3, dtype=torch.float64),
            "departed": torch.zeros(1, 1, dtype=torch.int32),
            "asked_at": torch.full((1, 1), -1, dtype=torch.int32),
        }
    )
    held = torch.tensor([[math.nan, math.nan, 0.0]], dtype=torch.float64)
    for _ in range(12):
        assert traffic.step(held)["asked_at"].item() == 1
    state = traffic.run(1)
    while not state["departed"].item():
        state = traffic.step()
    own = state["number"][0].tolist().index(0)
    assert state["memory"][0, own, SEEN : SEEN + 2].tolist() == [0.0, -1.0]


def test_through_lanes_whose_lights_differ_against_central_differences():
    """Cars before and on the fork's lanes, one to cross to the left; everybody's choices are held.

    What speeds drivers advise each other is a constant to the gradient (docs/traffic.md).
    """
    lanes = [("pre", 1), ("main", 2), ("main", 1), ("main", 0)]
    route = torch.tensor([[0, 0, 0, 1]], dtype=torch.int32)
    names, steps = ("lane", "previous", "memory", "advised"), 50
    weight = double(1.0, 0.7, 1.3, -0.4)

    def driven(x, speed, chosen=None):
        """What the cars come to, and their choices after each step: `chosen` where given."""
        traffic = TrafficNetwork(fork(), 1, 4, dtype=torch.float64, mobil=Mobil(), **AS_SUMO)
        lane = torch.tensor([[traffic.lane_index(*lane) for lane in lanes]]).int()
        traffic.set_state({"x": x, "speed": speed, "lane": lane, "route": route})
        choices = []
        for step in range(steps):
            state = traffic.step()
            choices.append({name: state[name] for name in names})
            if chosen is not None:
                places = {name: state[name] for name in ("x", "speed", "route", "step_count")}
                traffic.set_state({**places, **chosen[step]})
        return (weight * (state["x"] + 3.0 * state["speed"])).sum(), choices

    values = [double(350.0, 120.0, 80.0, 60.0), double(14.0, 13.0, 15.0, 12.0)]
    given = [value.clone().requires_grad_() for value in values]
    result, chosen = driven(*given)
    found = torch.autograd.grad(result, given)
    passed = torch.cat([choice["lane"] for choice in chosen]).T.tolist()
    assert all(len(set(own)) > 1 for own in passed)  # everybody has changed lanes or roads
    for which, gradient in enumerate(found):
        for i in range(4):
            pair = []
            for push in (1e-5, -1e-5):
                pushed = [value.clone() for value in values]
                pushed[which][0, i] += push
                pair.append(float(driven(*pushed, chosen)[0]))
            slope = (pair[0] - pair[1]) / 2e-5
            assert float(gradient[0, i]) == pytest.approx(slope, rel=1e-6, abs=1e-6), (which, i)


# Environments -------------------------------------------------------------------------------------


class MeteredMerge(MergeEnv):
    """The merge with a meter on its ramp."""

    def make_network(self) -> Network:
        meter = Signal("meter", [("ramp_inflow", 0, "ramp")], ((4.0, "G"), (2.0, "y"), (14.0, "r")))
        return replace(super().make_network(), signals=[meter])


def test_each_environment_has_its_own_time():
    env = MeteredMerge(num_envs=3, dtype=torch.float64, num_vehicles=40, ramp_rate=900.0)
    state = env.get_state()
    state["clock"] = torch.tensor([[0.0], [14.0], [14.0]], dtype=torch.float64)
    # One car each, 3 m before the line.
    own = {"lane": 3.0, "x": INFLOW_LENGTH - 3.0, "speed": 6.0, "flow": 2.0, "number": 0.0}
    for name, value in own.items():
        state[name][:, 0] = value
    env.set_state(state)
    for _ in range(4):
        env.step(torch.zeros(3, env.num_actions, dtype=torch.float64))
    lanes = env.get_state()["lane"][:, 0].tolist()
    assert lanes == [4.0, 3.0, 3.0]


def test_lights_and_lines_of_environments():
    env = MeteredMerge(num_envs=2, num_vehicles=20)
    traffic = TrafficNetwork(env.network, 1, 20, **AS_SUMO)
    shown = [traffic.lights[0, 0].item()]
    for _ in range(60):
        traffic.run(1)
        shown.append(traffic.lights[0, 0].item())
    assert set(shown) == {0, 1, 2}
    env.set_state({**env.get_state(), "clock": torch.tensor([[3.0], [11.0]])})
    for step in range(24):
        seen = 2 * step  # two simulation steps each
        assert env.lights.tolist() == [[shown[3 + seen]], [shown[11 + seen]]]
        env.step(torch.zeros(2, env.num_actions))
    # Across the ramp's end, which goes up at 45 degrees.
    end = torch.as_tensor(env.lane_lines()[3, 1])
    right, left = torch.as_tensor(env.stop_lines()[0])
    aside = 0.5 * env.lane_width * math.sqrt(0.5)
    assert torch.allclose(right - end, torch.tensor([aside, -aside], dtype=torch.float64))
    assert torch.allclose(left - end, torch.tensor([-aside, aside], dtype=torch.float64))
    none = MergeEnv(num_envs=2, num_vehicles=20)
    assert none.stop_lines().shape == (0, 2, 2) and none.lights.shape == (2, 0)


def test_ways_of_a_lane_share_its_line():
    class Two(BottleneckEnv):
        def make_network(self):
            given = super().make_network()
            ways = [("1", 0, "2"), ("1", 0, "off"), ("1", 1, "2")]
            off = [*given.segments, Segment("off", 10.0)]
            joined = [*given.connections, Connection("1", 0, "off", 0)]
            signal = Signal("both", ways, ((5.0, "Gry"),))
            return replace(given, segments=off, connections=joined, signals=[signal])

        def lane_lines(self):
            return np.concatenate([super().lane_lines(), [[[100.0, 0.0], [110.0, -9.0]]]])

    env = Two(num_envs=1, num_vehicles=20)
    edges = env.stop_lines()
    y = env.lane_lines()[:2, 1, 1]
    assert (edges[..., 0] == 100.0).all() and env.lights.tolist() == [[0, 2, 1]]
    wanted = [[y[0] - 1.6, y[0]], [y[0], y[0] + 1.6], [y[1] - 1.6, y[1] + 1.6]]
    assert np.allclose(edges[..., 1], wanted)
