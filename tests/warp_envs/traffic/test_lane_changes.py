"""MOBIL: who changes lanes, who does not, and that no change makes cars overlap."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from warp_envs.traffic.car_following import acceleration
from warp_envs.traffic.models import TREIBER_2000
from warp_envs.traffic.simulator import Mobil, TrafficSim


def road(x, speed, lane, *, lanes=2, rule=None, v0=TREIBER_2000["v0"], **options):
    """One road in double precision."""
    traffic = TrafficSim(
        1,
        lanes,
        len(x),
        dtype=torch.float64,
        mobil=rule or Mobil(),
        v0=torch.as_tensor(v0, dtype=torch.float64),
        **options,
    )
    x, speed = (torch.tensor([values], dtype=torch.float64) for values in (x, speed))
    traffic.set_state({"x": x, "speed": speed, "lane": torch.tensor([lane])})
    return traffic


def idm(speed: float, gap: float, leader_speed: float) -> float:
    own = torch.tensor(speed, dtype=torch.float64)
    return float(acceleration("idm", own, gap, speed - leader_speed))


def test_a_fast_car_overtakes_a_slow_one():
    desired = torch.tensor([[30.0, 10.0]])
    traffic = road([0.0, 40.0], [20.0, 10.0], [0, 0], v0=desired)
    state = traffic.run(300)
    assert state["lane"].tolist() == [[1, 0]]
    assert state["x"][0, 0] > state["x"][0, 1]
    kept = TrafficSim(1, 2, 2, dtype=torch.float64, v0=desired.double())
    kept.set_state({**traffic.get_state(), "lane": torch.zeros(1, 2, dtype=torch.int32)})
    assert kept.run(10)["lane"].tolist() == [[0, 0]]


@pytest.mark.parametrize("gap_behind", [6.0, 60.0])
def test_not_in_front_of_one_who_would_have_to_brake_hard(gap_behind):
    x = [100.0, 120.0, 100.0 - 5.0 - gap_behind]
    traffic = road(x, [10.0, 5.0, 25.0], [0, 0, 1], rule=Mobil(politeness=0.0))
    braking = -idm(25.0, gap_behind, 10.0)
    safe = braking <= 4.0
    state = traffic.step()
    assert state["lane"][0, 0] == (1 if safe else 0)


def test_the_incentive_to_the_letter():
    """The change comes exactly when the paper's inequality turns."""
    # Drivers take turns; the last car makes it the turn of the first at once.
    x, speed = [100.0, 125.0, 60.0, 70.0, -900.0], [10.0, 8.0, 11.0, 10.5, 1.0]
    lane = [0, 0, 1, 0, 0]
    own = idm(10.0, math.inf, 10.0) - idm(10.0, 20.0, 8.0)
    new_follower = idm(11.0, 35.0, 10.0) - idm(11.0, math.inf, 11.0)
    old_follower = idm(10.5, 50.0, 8.0) - idm(10.5, 25.0, 10.0)
    for politeness in (0.0, 0.3, 1.0):
        gain = own + politeness * (new_follower + old_follower)
        for bias in (0.0, 0.05):
            for margin, expected in ((1e-6, 0), (-1e-6, 1)):
                rule = Mobil(politeness=politeness, threshold=gain - bias + margin, bias=bias)
                state = road(x, speed, lane, rule=rule).step()
                assert state["lane"][0, 0] == expected


def test_the_bias_keeps_to_the_lowest_lane():
    keep_right = Mobil(threshold=0.1, bias=0.3)
    state = road([0.0], [20.0], [2], lanes=3, rule=keep_right).run(8)
    assert state["lane"].tolist() == [[0]]
    state = road([0.0], [20.0], [2], lanes=3, rule=Mobil(threshold=0.1)).run(8)
    assert state["lane"].tolist() == [[2]]


def test_a_lone_car_on_a_ring_sees_its_own_gap_in_either_lane():
    traffic = TrafficSim(1, 2, 1, ring_length=100.0, mobil=Mobil(), dtype=torch.float64)
    lanes = [traffic.step()["lane"].item() for _ in range(2000)]
    assert lanes == [0] * 2000
    one_lane = TrafficSim(1, 1, 1, ring_length=100.0, dtype=torch.float64)
    assert torch.equal(one_lane.run(2000)["x"], traffic.x)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), ring=st.booleans(), politeness=st.sampled_from([0.0, 0.5, 1.0]))
def test_no_change_makes_cars_overlap(seed, ring, politeness):
    generator = torch.Generator().manual_seed(seed)
    roads, lanes, cars = 50, 3, 30
    desired = 10.0 + 25.0 * torch.rand(roads, cars, generator=generator, dtype=torch.float64)
    length = 400.0
    traffic = TrafficSim(
        roads,
        lanes,
        cars,
        dtype=torch.float64,
        ring_length=length if ring else None,
        mobil=Mobil(politeness=politeness),
        v0=desired,
        T=1.0,
        a=1.5,
    )
    lane = traffic.lane
    changes = 0
    for _ in range(400):
        state = traffic.step()
        changes += int((state["lane"] != lane).sum())
        lane = state["lane"]
        leader = traffic.leader.long()
        ahead = state["x"].gather(1, leader.clamp(min=0))
        gap = ahead - state["x"] - TREIBER_2000["length"]
        gap = torch.where(gap < -TREIBER_2000["length"], gap + length, gap)
        assert (gap[leader >= 0] > 0.0).all()
    assert changes > 100


@pytest.mark.parametrize(
    "change",
    [
        {"politeness": -0.1},
        {"safe_decel": math.inf},
        {"bias": math.nan},
        {"bias": "a"},
        {"threshold": True},
    ],
)
def test_what_it_refuses(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Mobil(**change)
