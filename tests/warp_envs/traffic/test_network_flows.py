"""TrafficNetwork: loops at borders, lanes that flows enter, states that go on elsewhere."""

import pytest
import torch

from warp_envs.traffic.network import Connection, Flow, Loop, Network, Segment, Signal
from warp_envs.traffic.network_sim import TrafficNetwork
from warp_envs.traffic.simulator import Mobil


def two_roads(*loops: Loop, **parts) -> Network:
    return Network(
        [Segment("a", 300.0, 1, 20.0), Segment("b", 200.0, 1, 10.0)],
        [Connection("a", 0, "b", 0)],
        {"r": ["a", "b"], "q": ["a"]},
        [Flow("f", "r", 500.0), Flow("g", "q", 300.0, begin=2.0)],
        loops,
        **parts,
    )


LOOPS = [
    Loop("end of a", "a", 300.0),
    Loop("start of b", "b", 0.0),
    Loop("just within", "b", 1e-6),
    Loop("start of a", "a", 0.0),
]


@pytest.mark.parametrize(
    "signals", [(), [Signal("s", [("a", 0, "b")], [(20.0, "G"), (20.0, "r")])]]
)
def test_loops_at_a_border_count_each_that_crosses_it_once(signals):
    network = two_roads(*LOOPS, signals=signals)
    traffic = TrafficNetwork(network, 1, 60, dt=0.4, dtype=torch.float64)
    traffic.run(1000)
    end_of_a, start_of_b, within, start_of_a = traffic.loops()["count"][0].tolist()
    on_b = int((traffic.lane == 1).sum())
    assert start_of_b == within == traffic.arrived[0, 0] + on_b > 20
    assert end_of_a == start_of_b + traffic.arrived[0, 1]
    assert start_of_a == 0.0  # SUMO's come in with their rears beyond it, too
    assert torch.isfinite(traffic.loops()["speed"][0, :3]).all()


def test_one_that_stops_on_a_border_is_counted_once():
    network = two_roads(*LOOPS)
    traffic = TrafficNetwork(network, 1, 1, dt=0.5, dtype=torch.float64, rates=torch.zeros(2))
    traffic.set_state(
        {
            "x": torch.tensor([[290.0]], dtype=torch.float64),
            "speed": torch.tensor([[20.0]], dtype=torch.float64),
            "lane": torch.zeros(1, 1, dtype=torch.int32),
        }
    )
    for push in (-40.0, 0.0, 4.0, 4.0):
        state = traffic.step(torch.tensor([[push]], dtype=torch.float64))
        if push == -40.0:
            assert (state["lane"].item(), state["x"].item(), state["speed"].item()) == (1, 0.0, 0.0)
    assert state["x"].item() > 0.0
    assert traffic.loops()["count"].tolist() == [[1.0, 1.0, 1.0, 0.0]]


@pytest.mark.parametrize("mobil", [None, Mobil()])
def test_a_flow_enters_only_lanes_that_lead_on(mobil):
    network = Network(
        [Segment("a", 500.0, 3, 30.0), Segment("b", 500.0, 2, 30.0)],
        [Connection("a", 0, "b", 0), Connection("a", 2, "b", 1)],
        {"r": ["a", "b"]},
        [Flow("f", "r", 1800.0)],
    )
    traffic = TrafficNetwork(network, 1, 100, dt=0.5, mobil=mobil)
    lanes = set()
    for _ in range(200):
        state = traffic.step()
        on_a = (state["lane"] >= 0) & (state["lane"] < 3)
        lanes |= set(state["lane"][on_a & (state["x"] < 20.0)].tolist())
    assert lanes == {0, 2}
    assert traffic.arrived.item() > 20


@pytest.mark.parametrize("driving", ["plain", "sumo"])
def test_a_state_goes_on_alike_where_drivers_differ_by_slot(driving):
    """Slots are taken in the order in which they were left, which the state has."""
    headway = 0.8 + torch.rand(2, 40, generator=torch.Generator().manual_seed(1)).double()

    def make() -> TrafficNetwork:
        options = {"dt": 0.5, "dtype": torch.float64, "driving": driving, "T": headway}
        return TrafficNetwork(two_roads(), 2, 40, **options)

    traffic, again = make(), make()
    state = traffic.run(300)
    assert state["order"].sort(dim=1).values.tolist() == [[*range(40)]] * 2
    again.set_state(state)
    later, repeated = traffic.run(300), again.run(300)
    assert (later["departed"] - state["departed"] > 20).any()  # slots were taken anew
    for name in later:
        assert torch.equal(later[name], repeated[name]), name


def test_a_state_without_the_order_fills_free_slots_from_the_lowest_on():
    traffic = TrafficNetwork(two_roads(), 1, 12, dt=0.5)
    state = traffic.run(300)
    older = {name: value for name, value in state.items() if name != "order"}
    traffic.set_state(older)
    assert traffic.get_state()["order"].tolist() == [[*range(12)]]
    free = int((state["lane"][0] < 0).nonzero()[0])
    while int(traffic.departed.sum()) == int(state["departed"].sum()):
        later = traffic.step()
    assert later["lane"][0, free] >= 0


def test_the_time_of_loops_is_what_was_driven_whatever_the_state_says():
    network = two_roads(Loop("l", "a", 100.0))
    traffic = TrafficNetwork(network, 1, 60, dt=0.5)
    early = traffic.run(100)
    traffic.run(300)
    traffic.loops(reset=True)
    traffic.set_state(early)
    traffic.run(200)
    loops = traffic.loops()
    assert loops["count"].item() > 10
    assert loops["flow"].item() == pytest.approx(loops["count"].item() * 3600.0 / 100.0)
