"""TrafficSim: against SUMO and brute force, and what traffic theory says of it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gippo.studies.traffic_bench import measure_traffic
from warp_envs.traffic.car_following import acceleration
from warp_envs.traffic.models import TREIBER_2000
from warp_envs.traffic.programs import order_in_parallel
from warp_envs.traffic.simulator import INTEGRATORS, Mobil, TrafficSim

DATA = Path(__file__).parents[2] / "data"
SUMO_RUNS = [
    ("semi_implicit", 0.1, "position_front_bumper", "speed"),
    *[
        (name, dt, f"{name}_{dt}_position", f"{name}_{dt}_speed")
        for name, steps in {"semi_implicit": (0.25, 0.5, 1.0), "ballistic": (0.1, 0.5, 1.0)}.items()
        for dt in steps
    ],
]


@pytest.mark.parametrize(("integrator", "dt", "position", "speed"), SUMO_RUNS)
def test_sumo(integrator, dt, position, speed):
    data = np.load(DATA / "sumo_idm.npz")
    x, v = torch.tensor(data[position]), torch.tensor(data[speed])
    names = ("v0", "T", "a", "b", "s0", "delta", "length", "emergency_decel")
    cars = x.shape[1]
    traffic = TrafficSim(
        1,
        1,
        cars,
        dtype=torch.float64,
        driving="sumo",
        integrator=integrator,
        dt=dt,
        **{name: float(data[name]) for name in names},
    )
    traffic.set_state({"x": x[:1], "speed": v[:1]})
    command = torch.full((1, cars), math.nan, dtype=torch.float64)
    for step in range(len(x) - 1):
        command[0, 0] = (v[step + 1, 0] - v[step, 0]) / dt
        state = traffic.step(command)
        assert (state["x"][0] - x[step + 1]).abs().max() <= 1e-3
        assert (state["speed"][0] - v[step + 1]).abs().max() <= 1e-3


STANDING = [("stop", 33.333, 1e-3), ("limit1", 1.0, 1e-6), ("limit", 0.0, 1e-3)]


@pytest.mark.parametrize("dt", [0.1, 1.0])
@pytest.mark.parametrize("integrator", ["semi_implicit", "ballistic"])
@pytest.mark.parametrize(("kind", "v0", "close"), STANDING)
def test_queues_and_speed_limits_stand_as_sumos(kind, v0, close, integrator, dt):
    """A leader that stops for good, and limits of 1 and 0 m/s: nobody creeps beyond SUMO's."""
    data = np.load(DATA / "sumo_queues.npz")
    step, x, v = (data[f"{kind}_{dt}_{integrator}_{name}"] for name in ("step", "x", "speed"))
    options = {"driving": "sumo", "integrator": integrator, "dt": dt, "dtype": torch.float64}
    driver = {"v0": v0, "T": 1.6, "a": 0.73, "b": 1.67, "s0": 2.0, "emergency_decel": 9.0}
    traffic = TrafficSim(1, 1, 6, **options, **driver)
    traffic.set_state({"x": torch.tensor(x[:1]), "speed": torch.tensor(v[:1])})
    command = torch.full((1, 6), math.nan, dtype=torch.float64)
    command[0, 0] = 0.0 if kind == "stop" else math.nan
    if (kind, dt) == ("limit", 1.0):
        close = 0.2  # SUMO's planning in parts lets a car at rest set off towards a limit of zero
    for k in range(1, len(step)):
        for _ in range(step[k] - step[k - 1]):
            state = traffic.step(command)
        assert np.abs(state["x"][0].numpy() - x[k]).max() < close
        assert np.abs(state["speed"][0].numpy() - v[k]).max() < 1e-3
    gap, sumos = -np.diff(state["x"][0].numpy()), -np.diff(x[-1])
    assert (gap >= sumos - 1e-3).all()


@pytest.mark.parametrize("driving", ["plain", "sumo"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_a_speed_limit_of_zero_cars_stand_and_gradients_are_finite(driving, dtype):
    traffic = TrafficSim(1, 1, 3, driving=driving, v0=0.0, emergency_decel=9.0, dtype=dtype)
    x = torch.tensor([[0.0, 6.0, 40.0]], dtype=dtype)  # the rear one nearer than s0
    speed = torch.tensor([[0.0, 0.0, 2.0]], dtype=dtype, requires_grad=True)
    traffic.set_state({"x": x, "speed": speed})
    state = traffic.run(100)
    assert (state["x"][0, :2] == x[0, :2]).all() and (state["speed"] == 0.0).all()
    (gradient,) = torch.autograd.grad(state["x"].sum(), speed)
    assert torch.isfinite(gradient).all() and gradient[0, 2] > 0.0


# Who follows whom ---------------------------------------------------------------------------------


def brute_force_leaders(x: torch.Tensor, lane: torch.Tensor, ring: bool) -> torch.Tensor:
    """By comparing every pair of vehicles; ties in x by index."""
    leaders = torch.full(x.shape, -2)
    for road, i in np.ndindex(*x.shape):
        if lane[road, i] < 0:
            continue
        here = [j for j in range(x.shape[1]) if lane[road, j] == lane[road, i]]
        here.sort(key=lambda j: (float(x[road, j]), j))
        place = here.index(i) + 1
        leaders[road, i] = here[place % len(here)] if place < len(here) or ring else -1
    return leaders


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    lanes=st.integers(1, 4),
    cars=st.integers(1, 30),
    ring=st.booleans(),
    grid=st.booleans(),
)
def test_leaders_of_any_state(seed, lanes, cars, ring, grid):
    generator = torch.Generator().manual_seed(seed)
    x = 99.0 * torch.rand(3, cars, generator=generator)
    if grid:
        x = x.div(20.0).floor()  # many ties
    lane = torch.randint(-1, lanes, (3, cars), generator=generator)
    traffic = TrafficSim(3, lanes, cars, ring_length=100.0 if ring else None, length=3.0)
    traffic.set_state({"x": x, "lane": lane})
    expected = brute_force_leaders(x, lane, ring)
    assert torch.equal(traffic.leader.long(), expected)
    in_parallel = order_in_parallel(x, lane, lanes, ring)[2]
    local = torch.where(in_parallel < 0, in_parallel, in_parallel % cars)
    assert torch.equal(local, expected)


def test_leaders_on_a_large_road_in_any_order():
    cars = 20_000
    generator = torch.Generator().manual_seed(0)
    traffic = TrafficSim(1, 3, cars, dtype=torch.float64)
    for scale in (1.0, -1.0):
        x = scale * 1e5 * torch.rand(1, cars, generator=generator, dtype=torch.float64)
        lane = torch.randint(0, 3, (1, cars), generator=generator)
        for positions in (x, x.sort(dim=1).values, x.sort(dim=1, descending=True).values):
            traffic.set_state({"x": positions, "lane": lane})
            expected = order_in_parallel(positions, lane, 3, False)[2]
            assert torch.equal(traffic.leader.long(), expected)


def test_numbering_of_the_vehicles_does_not_matter():
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(30, generator=generator)
    x = 20.0 * torch.arange(30, dtype=torch.float64)[None] / 2
    lane = torch.randint(0, 2, (1, 30), generator=generator)
    T = 1.0 + torch.rand(1, 30, generator=generator, dtype=torch.float64)  # noqa: N806
    results = []
    for arrange in (torch.arange(30), order):
        traffic = TrafficSim(1, 2, 30, dtype=torch.float64, T=T[:, arrange])
        traffic.set_state({"x": x[:, arrange], "lane": lane[:, arrange]})
        results.append(traffic.run(50)["x"])
    assert torch.equal(results[0][:, order], results[1])


# Physics ------------------------------------------------------------------------------------------


def feasible_roads(seed, roads, cars, dt, parameters):
    """Random roads where each driver, braking at b, can stop behind a leader braking at b."""
    generator = torch.Generator().manual_seed(seed)
    speed = torch.rand(roads, cars, generator=generator, dtype=torch.float64) * parameters["v0"]
    slack = 30.0 * torch.rand(roads, cars, generator=generator, dtype=torch.float64) ** 3
    ahead = torch.cat([speed[:, 1:], speed[:, -1:]], dim=1)
    braking = (speed**2 - ahead**2).clamp(min=0.0) / (2.0 * parameters["b"])
    gap = parameters["s0"] + speed * dt + braking + slack
    distance = gap + parameters["length"]
    return distance.cumsum(dim=1).roll(1, dims=1).index_fill(1, torch.tensor(0), 0.0), speed


@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    integrator=st.sampled_from(list(INTEGRATORS)),
    dt=st.sampled_from([0.03, 0.1, 0.5]),
    v0=st.floats(5.0, 40.0),
    T=st.floats(0.8, 2.5),
    a=st.floats(0.3, 3.0),
    b=st.floats(0.5, 5.0),
    s0=st.floats(1.0, 4.0),
)
def test_nobody_passes_its_leader(seed, integrator, dt, v0, T, a, b, s0):  # noqa: N803
    parameters = {**TREIBER_2000, "v0": v0, "T": T, "a": a, "b": b, "s0": s0}
    x, speed = feasible_roads(seed, 10_000, 5, dt, parameters)
    driving = "plain" if integrator == "euler" else "sumo"
    options = {"integrator": integrator, "driving": driving, "dt": dt, **parameters}
    traffic = TrafficSim(10_000, 1, 5, dtype=torch.float64, **options)
    traffic.set_state({"x": x, "speed": speed})
    for _ in range(50):
        state = traffic.step()
        assert (state["x"][:, 1:] - state["x"][:, :-1] >= parameters["length"]).all()
        assert (state["speed"] >= 0.0).all()


def equilibrium_speed(gap: float) -> float:
    """Where the IDM neither accelerates nor brakes behind a leader of the same speed; bisection."""
    low, high = 0.0, TREIBER_2000["v0"]
    for _ in range(60):
        middle = 0.5 * (low + high)
        speed = torch.tensor(middle, dtype=torch.float64)
        if acceleration("idm", speed, gap, 0.0) > 0.0:
            low = middle
        else:
            high = middle
    return low


def string_stability(gap: float) -> float:
    """Positive where long waves die out: (a_l - a_v) / 2 - v_e'(s), v_e' = -a_s / (a_l + a_v).

    The criterion of Treiber and Kesting, Traffic Flow Dynamics (2013), section 15.4, for an
    acceleration a(s, v, v_l), whose derivatives come from `acceleration`.
    """
    state = torch.tensor(
        [gap, equilibrium_speed(gap), equilibrium_speed(gap)],
        dtype=torch.float64,
        requires_grad=True,
    )
    s, v, leader = state
    rate = acceleration("idm", v, s, v - leader)
    a_s, a_v, a_l = torch.autograd.grad(rate, state)[0].tolist()
    return 0.5 * (a_l - a_v) + a_s / (a_l + a_v)


def disturbed_ring(cars: int) -> TrafficSim:
    """2 km of ring at equilibrium, one car out of place."""
    length = 2000.0
    traffic = TrafficSim(
        1, 1, cars, ring_length=length, integrator="ballistic", driving="sumo", dtype=torch.float64
    )
    x = traffic.x
    x[0, 0] += 2.0
    speed = torch.full_like(x, equilibrium_speed(length / cars - TREIBER_2000["length"]))
    traffic.set_state({"x": x, "speed": speed})
    return traffic


@pytest.mark.parametrize("cars", [30, 40])
def test_a_ring_below_the_critical_density_finds_its_equilibrium(cars):
    gap = 2000.0 / cars - TREIBER_2000["length"]
    assert string_stability(gap) > 0.0
    state = disturbed_ring(cars).run(6000)
    assert (state["speed"] - equilibrium_speed(gap)).abs().max() < 0.005
    started_at_rest = TrafficSim(
        1, 1, cars, ring_length=2000.0, integrator="ballistic", driving="sumo", dtype=torch.float64
    )
    speed = started_at_rest.run(3000)["speed"]
    assert (speed - equilibrium_speed(gap)).abs().max() < 1e-3


@pytest.mark.parametrize("cars", [80, 100])
def test_stop_and_go_above_the_critical_density(cars):
    gap = 2000.0 / cars - TREIBER_2000["length"]
    assert string_stability(gap) < 0.0
    traffic = disturbed_ring(cars)
    early = traffic.run(600)["speed"].std()
    late = traffic.run(12_000)["speed"]
    assert late.std() > 20.0 * early
    assert late.min() < 0.1 * equilibrium_speed(gap)
    assert late.max() > 1.3 * equilibrium_speed(gap)


def test_a_lone_car_reaches_its_desired_speed_and_the_integrators_agree():
    distance = {}
    for integrator in INTEGRATORS:
        traffic = TrafficSim(1, 1, 1, integrator=integrator, dt=0.01, dtype=torch.float64, a=2.0)
        state = traffic.run(6000)
        assert state["speed"].item() == pytest.approx(TREIBER_2000["v0"], abs=1e-3)
        distance[integrator] = state["x"].item()
    assert distance["euler"] < distance["ballistic"] < distance["semi_implicit"]
    assert distance["semi_implicit"] - distance["euler"] == pytest.approx(0.01 * 33.33, rel=0.01)


def test_integrators_by_hand():
    # free road, v0 = 20, delta = 1: dv/dt = 2 (1 - 10/20) = 1; dt = 0.5
    expected = {"euler": 5.0, "semi_implicit": 5.25, "ballistic": 5.125}
    for integrator, x in expected.items():
        traffic = TrafficSim(
            1, 1, 1, dtype=torch.float64, integrator=integrator, dt=0.5, v0=20.0, a=2.0, delta=1.0,
        )  # fmt: skip
        traffic.set_state({"speed": torch.full((1, 1), 10.0, dtype=torch.float64)})
        state = traffic.step()
        assert state["speed"].item() == 10.5
        assert state["x"].item() == x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_longer_than_the_ring_stays_on_it(dtype):
    traffic = TrafficSim(1, 1, 1, ring_length=30.0, dt=1.0, dtype=dtype, v0=100.0)
    speed = torch.full((1, 1), 80.0, dtype=dtype, requires_grad=True)
    traffic.set_state({"speed": speed})
    x = traffic.step()["x"]
    assert x.item() == 20.0
    assert torch.autograd.grad(x.sum(), speed)[0].item() == 1.0
    for _ in range(50):
        x = traffic.step()["x"]
        assert 0.0 <= x.item() < 30.0


# Slots, state and refusals ------------------------------------------------------------------------


def test_vehicles_enter_and_leave():
    traffic = TrafficSim(2, 2, 4, road_length=300.0, dtype=torch.float64)
    empty = torch.ones(2, 4, dtype=torch.bool)
    traffic.leave(empty)
    assert not traffic.active.any()
    still = traffic.step()
    assert torch.equal(still["x"], traffic.x)

    def double(*values: float) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    roads, lanes = torch.tensor([1, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    slots = traffic.enter(roads, lanes, double(10, 0, 40, 0), double(20, 20, 20, 30))
    assert len({(int(r), int(s)) for r, s in zip(roads, slots, strict=True)}) == 4
    assert traffic.active.sum(dim=1).tolist() == [1, 3]
    assert traffic.leader[1, slots[0]] == slots[2]
    with pytest.raises(ValueError, match="road: more vehicles for road 1 than"):
        traffic.enter(torch.tensor([1, 1]), torch.tensor([0, 0]), double(0, 0), double(0, 0))
    assert traffic.active.sum() == 4
    traffic.run(200)
    assert not traffic.active.any()
    traffic.enter(torch.tensor([1]), torch.tensor([0]), double(0.0), double(0.0))
    assert traffic.active.sum(dim=1).tolist() == [0, 1]


def test_nobody_sees_a_free_slot():
    with_all = TrafficSim(1, 1, 3, dtype=torch.float64)
    x = torch.tensor([[0.0, 12.0, 30.0]], dtype=torch.float64)
    with_all.set_state({"x": x, "lane": torch.tensor([[0, -1, 0]])})
    without = TrafficSim(1, 1, 2, dtype=torch.float64)
    without.set_state({"x": x[:, [0, 2]]})
    assert torch.equal(with_all.run(100)["x"][:, [0, 2]], without.run(100)["x"])
    assert with_all.x[0, 1] == 12.0


def test_state_goes_on_bit_for_bit_and_is_a_copy():
    traffic = TrafficSim(3, 2, 7, ring_length=200.0, mobil=Mobil())
    state = traffic.run(21)
    kept = {name: value.clone() for name, value in state.items()}
    later = traffic.run(20)
    assert all(torch.equal(state[name], kept[name]) for name in state)
    again = TrafficSim(3, 2, 7, ring_length=200.0, mobil=Mobil())
    again.set_state(state)
    repeated = again.run(20)
    assert all(torch.equal(later[name], repeated[name]) for name in later)


def test_lanes_by_their_centre_line():
    traffic = TrafficSim(1, 3, 3)
    traffic.set_state({"y": torch.tensor([[0.4, 7.0, 4.0]])})
    assert traffic.lane.tolist() == [[0, 2, 1]]
    assert traffic.y.tolist() == [[0.0, 8.0, 4.0]]
    traffic.set_state({**traffic.get_state(), "lane": torch.tensor([[1, -1, 1]])})
    assert traffic.lane.tolist() == [[1, -1, 1]]
    assert traffic.active.tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"z": torch.zeros(1, 2)}, "state: 'z' given"),
        ({"x": torch.zeros(2)}, r"x: \(2,\), torch.float32"),
        ({"x": torch.zeros(1, 2, dtype=torch.float64)}, "x: .*torch.float64"),
        ({"x": torch.tensor([[0.0, math.nan]])}, "x: nan given"),
        ({"x": torch.tensor([[0.0, 100.0]])}, "x: 100.0 given, 0 <= x < 100.0"),
        ({"speed": torch.tensor([[0.0, -1.0]])}, "speed: -1.0 given"),
        ({"lane": torch.tensor([[0, 2]])}, "lane: 2 given"),
        ({"y": torch.tensor([[0.0, 9.0]])}, "y: 9.0 given"),
        ({"y": torch.tensor([[0.0, -9.0]])}, "y: -9.0 given"),
        ({"lane": torch.tensor([[1, 0]]), "y": torch.tensor([[0.0, 4.0]])}, "y: 0.0 given"),
        ({"step_count": torch.tensor([-1])}, "step_count"),
        ({"step_count": 5}, "step_count: 5 given"),
        ({"gone": torch.zeros(1, 2, dtype=torch.bool)}, "state: 'gone' given"),
        (5.0, "state: a float given"),
    ],
)
def test_states_that_it_refuses(state, message):
    traffic = TrafficSim(1, 2, 2, ring_length=100.0)
    before = traffic.get_state()
    with pytest.raises(ValueError, match=message):
        traffic.set_state(state)
    after = traffic.get_state()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_cars_that_touch_fit_on_a_ring():
    traffic = TrafficSim(1, 2, 5, ring_length=15.0)
    assert traffic.x[0].tolist() == [0.0, 5.0, 10.0, 0.0, 7.5]


def test_who_enters_is_checked():
    traffic = TrafficSim(1, 1, 1)
    traffic.leave(torch.tensor([[True]]))
    one = torch.tensor([0])
    with pytest.raises(ValueError, match="road: a list given"):
        traffic.enter([0], one, torch.zeros(1), torch.zeros(1))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"x: \(2,\), torch.float32"):
        traffic.enter(one, one, torch.zeros(2), torch.zeros(1))
    assert not traffic.active.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_lanes": 0}, "num_lanes: 0 given"),
        ({"integrator": "rk4"}, "integrator: 'rk4' given"),
        ({"dt": 0.0}, "dt: 0.0 given"),
        ({"dtype": torch.float16}, "dtype: torch.float16 given"),
        ({"device": "tpu"}, "device: 'tpu' given"),
        ({"v0": -3.0}, "v0: -3.0 given"),
        ({"T": torch.ones(3)}, "T: shape"),
        ({"a": torch.ones(1, dtype=torch.float64)}, "a: torch.float64"),
        ({"v1": 3.0}, "parameter of idm: 'v1' given"),
        ({"emergency_brake": 3.0}, "'emergency_brake' given.* did you mean 'emergency_decel'"),
        ({"planning_step": 0.0}, "planning_step: 0.0 given"),
        ({"driving": "krauss"}, "driving: 'krauss' given"),
        ({"driving": "sumo", "model": "ovm"}, "driving: 'sumo' of 'ovm' given, a model with v0, a"),
        ({"ring_length": 100.0, "road_length": 50.0}, "road_length: 50.0 given"),
        ({"ring_length": 9.9}, "ring_length: 9.9 given, .*10 m at least"),
        ({"ring_length": 20.0, "length": torch.tensor([5.0, 16.0])}, "ring_length: .*21 m at"),
    ],
)
def test_options_that_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        TrafficSim(**{"num_envs": 1, "num_lanes": 1, "num_vehicles": 2, **options})


def test_the_benchmark_measures():
    figure = next(measure_traffic(seconds=0.02))
    assert (figure.num_roads, figure.num_vehicles) == (4096, 11)
    assert figure.updates_per_second > 1e6  # it should be 20 times that on an idle core


def test_a_number_written_into_later_is_told_as_it_drives():
    headway = torch.full((1, 3), 1.5, dtype=torch.float64)
    traffic = TrafficSim(1, 1, 3, dtype=torch.float64, ring_length=100.0, T=headway)
    headway[0, 1] = 4.0
    traffic.parameters["T"][0, 2] = 4.0
    traffic.parameters["v0"][0, 0] = 4.0
    assert traffic.parameters["T"].tolist() == [[1.5, 1.5, 1.5]]
    assert traffic.parameters["v0"].eq(traffic.parameters["v0"][0, 1]).all()
    learned = headway.clone().requires_grad_()
    traffic = TrafficSim(1, 1, 3, dtype=torch.float64, ring_length=100.0, T=learned)
    assert traffic.parameters["T"].requires_grad
