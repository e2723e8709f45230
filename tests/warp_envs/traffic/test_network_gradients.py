"""TrafficNetwork's gradients: exact along a vehicle's way, over borders and through merges."""

import math

import pytest
import torch

from warp_envs.traffic.network import Connection, Flow, Network, Segment, Signal
from warp_envs.traffic.network_sim import TrafficNetwork
from warp_envs.traffic.simulator import DRIVING, INTEGRATORS, Mobil


def double(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


Y = Network(
    [Segment("main", 100.0), Segment("ramp", 80.0), Segment("after", 60.0, 1, 12.0)],
    [Connection("main", 0, "after", 0), Connection("ramp", 0, "after", 0, gives_way=True)],
    {"through": ["main", "after"], "entering": ["ramp", "after"]},
)
# Two on the main road, two on the ramp, one after the merge; nobody overtakes in the order.
LANE = torch.tensor([[0, 0, 1, 1, 2]], dtype=torch.int32)
ROUTE = torch.tensor([[0, 0, 1, 1, 0]], dtype=torch.int32)
X = double(95.0, 60.0, 56.0, 20.0, 22.0)
SPEED = double(13.0, 11.0, 9.0, 12.0, 10.0)


def network(**options) -> TrafficNetwork:
    return TrafficNetwork(Y, 1, 5, dtype=torch.float64, merge_zone=90.0, **options)


def simulate(traffic, x, speed, *, steps, push=0.0):
    """The state after some steps, and whom everybody let go first at the merge."""
    traffic.set_state({"x": x, "speed": speed, "lane": LANE, "route": ROUTE})
    command = torch.full_like(X, math.nan)
    command[0, 4] = -0.5
    command = torch.where(torch.isnan(command), command, command + push)
    heeded = []
    for _ in range(steps):
        heeded.append(traffic.heeded()["merging"])
        state = traffic.step(command)
    return state, torch.stack(heeded)


def learnable(*values: torch.Tensor) -> list[torch.Tensor]:
    return [value.clone().requires_grad_() for value in values]


CHOICES = [
    {"driving": driving, "integrator": integrator, "dt": 0.5 if driving == "sumo" else 0.2}
    for driving in DRIVING
    for integrator in INTEGRATORS
]  # SUMO plans 0.5 s in two parts


@pytest.mark.parametrize("options", CHOICES)
def test_over_a_border_and_through_a_merge_against_central_differences(options):
    traffic, steps = network(**options), round(2.6 / options["dt"])

    def run(x, speed, push):
        state, _ = simulate(traffic, x, speed, steps=steps, push=push)
        return state["x"], state["speed"]

    state, heeded = simulate(traffic, X, SPEED, steps=steps)
    assert state["lane"][0, 0] == 2  # it has crossed the border
    assert (heeded[0] >= 0).sum() >= 2  # some wait for others of the other branch
    push = torch.tensor(0.1, dtype=torch.float64)
    assert torch.autograd.gradcheck(run, learnable(X, SPEED, push), rtol=1e-6, atol=1e-6)


def test_through_a_zipper_as_sumo_against_central_differences():
    lanes = Network(
        [Segment("wide", 300.0, 2, 25.0), Segment("narrow", 200.0, 1, 25.0)],
        [Connection("wide", k, "narrow", 0, zipper=True) for k in (0, 1)],
        {"r": ["wide", "narrow"]},
    )
    lane = torch.tensor([[0, 1, 0, 1]], dtype=torch.int32)

    def run(x, speed, headway):
        traffic = TrafficNetwork(
            lanes, 1, 4, dtype=torch.float64, driving="sumo", integrator="semi_implicit", dt=0.5,
            T=headway,
        )  # fmt: skip
        traffic.set_state({"x": x, "speed": speed, "lane": lane, "route": torch.zeros_like(lane)})
        heeded = traffic.heeded()["gap"]
        for _ in range(6):
            state = traffic.step()
        return state["x"], state["speed"], heeded

    x, speed = double(240.0, 226.0, 203.0, 188.0), double(21.0, 20.0, 22.0, 19.0)
    given = learnable(x, speed, torch.full((1, 4), 1.2, dtype=torch.float64))
    end, _, heeded = run(*given)
    assert heeded[0].tolist() == [-1, 0, 1, 2]
    (gradient,) = torch.autograd.grad(end[0, 1], given[1], retain_graph=True)
    assert abs(float(gradient[0, 0])) > 0.01  # of one in the other lane
    assert torch.autograd.gradcheck(lambda *v: run(*v)[:2], given, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [CHOICES[0], CHOICES[-1]])
def test_in_parameters_against_central_differences(options):
    def run(v0, T):  # noqa: N803
        steps = round(2.0 / options["dt"])
        state, _ = simulate(network(v0=v0, T=T, **options), X, SPEED, steps=steps)
        return state["x"], state["speed"]

    headway = torch.linspace(1.0, 1.5, 5, dtype=torch.float64)[None]
    arguments = learnable(torch.tensor(20.0, dtype=torch.float64), headway)
    assert torch.autograd.gradcheck(run, arguments, rtol=1e-6, atol=1e-6)


def test_through_the_merge_the_gradient_is_not_zero():
    x = X.clone().requires_grad_()
    state, heeded = simulate(network(dt=0.2), x, SPEED, steps=4)
    assert (heeded[:, 0, 3] == 1).all()  # on the ramp, behind one on the main road
    (gradient,) = torch.autograd.grad(state["speed"][0, 3], x)
    assert gradient[0, 1] > 0.01
    assert gradient[0, 4] == 0.0  # beyond that one


def test_steps_with_and_without_gradient_agree_bit_for_bit():
    two_lanes = Network(
        [Segment("on", 150.0, 2, 25.0), Segment("off", 100.0, 1, 20.0)],
        [Connection("on", 1, "off", 0)],
        {"all": ["on", "off"]},
        [Flow("cars", "all", 2400.0, lane=1), Flow("joining", "all", 900.0, lane=0)],
    )
    states = []
    for learned in (False, True):
        headway = torch.tensor(1.2, dtype=torch.float64, requires_grad=learned)
        options = {"driving": "sumo", "integrator": "semi_implicit", "T": headway}
        traffic = TrafficNetwork(
            two_lanes, 2, 40, dtype=torch.float64, mobil=Mobil(), dt=0.5, **options
        )
        for _ in range(60):
            state = traffic.step()
            traffic.detach()
        states.append(state)
    assert states[0]["departed"].sum() > 20
    for name in states[0]:
        assert torch.equal(states[0][name], states[1][name]), name


def test_no_nan_at_rest_at_zero_gap_and_at_the_end_of_a_lane():
    end = Network(
        [Segment("a", 50.0, 2), Segment("b", 50.0, 1, 5.0)],
        [Connection("a", 1, "b", 0)],
        {"r": ["a", "b"]},
    )
    for driving in DRIVING:
        traffic = TrafficNetwork(end, 1, 4, dtype=torch.float64, driving=driving, dt=0.5)
        x = double(49.99, 44.99, 49.0, 5.0).requires_grad_()
        speed = double(0.0, 0.0, 6.0, 0.0).requires_grad_()
        lane = torch.tensor([[0, 0, 1, 2]], dtype=torch.int32)
        traffic.set_state({"x": x, "speed": speed, "lane": lane})
        for _ in range(5):
            state = traffic.step()
        total = state["x"].sum() + state["speed"].sum()
        gradients = torch.autograd.grad(total, (x, speed))
        assert all(torch.isfinite(value).all() for value in (total, *gradients))


def test_vehicles_that_came_by_a_flow_keep_their_gradient():
    road = Network([Segment("a", 400.0)], [], {"r": ["a"]}, [Flow("cars", "r", 1200.0)])
    traffic = TrafficNetwork(road, 1, 10, dtype=torch.float64, dt=0.5)
    traffic.run(25)
    state = traffic.get_state()
    there = state["lane"] >= 0
    assert there.sum() >= 4
    x, speed = (state[name].requires_grad_() for name in ("x", "speed"))
    traffic.set_state({"x": x, "speed": speed})
    after = traffic.run(2)
    (through_x,) = torch.autograd.grad(after["x"].sum(), x, retain_graph=True)
    (through_speed,) = torch.autograd.grad(after["x"].sum(), speed)
    assert ((through_x > 0.5) == there)[0, : int(there.sum())].all()
    assert (through_speed[there] > 0.5).all()


def test_through_changes_of_lanes_as_sumo_against_central_differences():
    """With everybody's choices held: lanes, whom to let in, what speeds were advised."""
    road = Network(
        [Segment("a", 260.0, 3, 25.0), Segment("b", 300.0, 2, 25.0)],
        [Connection("a", 1, "b", 0), Connection("a", 2, "b", 1)],
        {"r": ["a", "b"]},
    )
    lane = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2]], dtype=torch.int32)
    start = {
        "x": double(190.0, 150.0, 112.0, 214.0, 178.0, 141.0, 104.0, 200.0, 160.0, 120.0),
        "speed": double(17.0, 16.0, 18.0, 18.0, 17.5, 18.5, 17.0, 20.0, 21.0, 20.5),
    }
    names, steps = ("lane", "previous", "memory", "advised"), 14
    weight = torch.linspace(0.3, 1.7, 10, dtype=torch.float64)

    def driven(x, speed, headway, rise, chosen=None):
        """What the vehicles come to, and their choices after each step: `chosen` where given."""
        traffic = TrafficNetwork(
            road, 1, 10, dtype=torch.float64, driving="sumo", integrator="semi_implicit", dt=0.5,
            mobil=Mobil(), T=headway, a=rise,
        )  # fmt: skip
        traffic.set_state({"x": x, "speed": speed, "lane": lane, "route": torch.zeros_like(lane)})
        choices = []
        for step in range(steps):
            state = traffic.step()
            choices.append({name: state[name] for name in names})
            if chosen is not None:
                places = {name: state[name] for name in ("x", "speed", "route")}
                traffic.set_state({**places, **chosen[step]})
        return (weight * (state["x"] + 3.0 * state["speed"] ** 2)).sum(), choices

    headway, rise = torch.full((1, 10), 1.2, dtype=torch.float64), double(*[1.5] * 10)
    given = learnable(start["x"], start["speed"], headway, rise)
    result, chosen = driven(*given)
    lanes = torch.stack([lane, *(choice["lane"] for choice in chosen)])
    assert ((lanes[1:] != lanes[:-1]) & (lanes[1:] < 3)).sum() >= 3
    assert sum(int((choice["advised"] < 0.0).sum()) for choice in chosen) > 5
    found = torch.autograd.grad(result, given)
    values = [value.detach() for value in given]
    for which, gradient in enumerate(found):
        for i in range(10):
            pair = []
            for push in (1e-5, -1e-5):
                pushed = [value.clone() for value in values]
                pushed[which][0, i] += push
                pair.append(float(driven(*pushed, chosen)[0]))
            slope = (pair[0] - pair[1]) / 2e-5
            assert float(gradient[0, i]) == pytest.approx(slope, rel=1e-6, abs=1e-6), (which, i)


def test_who_takes_the_slot_of_one_that_has_left_starts_without_its_gradient():
    road = Network([Segment("a", 200.0)], [], {"r": ["a"]}, [Flow("f", "r", 36.0, begin=0.4)])
    traffic = TrafficNetwork(road, 1, 1, dtype=torch.float64, dt=0.2)
    x, speed = learnable(double(199.0), double(20.0))
    lane = torch.zeros(1, 1, dtype=torch.int32)
    traffic.set_state({"x": x, "speed": speed, "lane": lane})
    state = traffic.run(6)
    assert state["number"].tolist() == [[0]]  # the flow's first, four steps after it came in
    gradients = torch.autograd.grad(state["x"].sum() + state["speed"].sum(), (x, speed))
    assert [float(gradient) for gradient in gradients] == [0.0, 0.0]


def test_one_that_a_red_light_stopped_goes_on_without_the_gradient_before():
    signal = Signal("s", [("a", 0, "b")], [(1.0, "r"), (60.0, "G")])
    road = Network(
        [Segment("a", 100.0), Segment("b", 100.0)],
        [Connection("a", 0, "b", 0)],
        {"r": ["a", "b"]},
        signals=[signal],
    )
    traffic = TrafficNetwork(road, 1, 1, dtype=torch.float64, dt=0.2)
    x, speed = learnable(double(98.64), double(2.4))
    lane = torch.zeros(1, 1, dtype=torch.int32)
    traffic.set_state({"x": x, "speed": speed, "lane": lane})
    command = double(0.0)
    stood = False
    for step in range(12):
        state = traffic.step(command if step < 3 else None)
        stood = stood or state["x"].item() == 100.0
    assert stood
    assert state["lane"].tolist() == [[1]]  # it is green
    gradients = torch.autograd.grad(state["x"].sum() + state["speed"].sum(), (x, speed))
    assert [float(gradient) for gradient in gradients] == [0.0, 0.0]
