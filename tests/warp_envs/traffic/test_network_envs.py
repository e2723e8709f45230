"""The merge and the bottleneck: what is seen and rewarded, the roads beneath, and gradients."""

import math

import numpy as np
import pytest
import torch

import warp_envs
from warp_envs.checks import ArgumentError
from warp_envs.traffic import TrafficNetwork
from warp_envs.traffic.bottleneck import COMMANDED, OBSERVED, ROADS, BottleneckEnv
from warp_envs.traffic.controllers import FollowerStopper, HumanDriver, PISaturation, SpeedLimit
from warp_envs.traffic.merge import MergeEnv
from warp_envs.traffic.network_env import FLOW_IDM

KINDS = {"merge": MergeEnv, "bottleneck": BottleneckEnv}
SLOTS = {"merge": 40, "bottleneck": 60}


def make(kind, num_envs=1, dtype=torch.float64, **options):
    sizes = {"num_vehicles": SLOTS[kind], "flow_rate": 2400.0}
    return KINDS[kind](num_envs=num_envs, dtype=dtype, **{**sizes, **options})


def some_actions(env, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, env.num_envs, env.num_actions)
    return 2.0 * torch.rand(shape, generator=generator, dtype=env.dtype) - 1.0


def driven(kind, num_steps, seed=0, **options):
    """An environment whose roads have filled."""
    env = make(kind, seed=seed, **options)
    for action in some_actions(env, num_steps):
        env.step(action)
    return env


def vehicles(state):
    """(flow, number) -> lane, x, speed of a single network's vehicles."""
    names = ("flow", "number", "lane", "x", "speed")
    rows = torch.stack([state[name][0].double() for name in names], dim=1)
    return {(int(f), int(n)): (lane, x, v) for f, n, lane, x, v in rows.tolist() if lane >= 0}


# The roads beneath --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_human_traffic_is_that_of_the_simulator(kind):
    env = make(kind, autonomous=False)
    traffic = TrafficNetwork(
        env.network,
        1,
        SLOTS[kind],
        dtype=torch.float64,
        driving="sumo",
        integrator="semi_implicit",
        dt=0.5,
    )
    traffic.run(80)
    given = traffic.get_state()
    state = {name: given[name].double() for name in ("x", "speed", "lane", "previous", "aside")}
    state.update({name: given[name].double() for name in ("flow", "number", "departed")})
    state["clock"] = torch.full((1, 1), 80.0, dtype=torch.float64)
    env.set_state(state)
    for _ in range(60):
        env.step(torch.zeros(1, env.num_actions, dtype=torch.float64))
    traffic.run(60 * env.sims_per_step)
    found, wanted = vehicles(env.get_state()), vehicles(traffic.get_state())
    assert len(wanted) > 15 and found.keys() == wanted.keys()
    assert np.allclose(list(found.values()), [wanted[key] for key in found], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_who_comes_is_said_by_the_rates(kind):
    env = make(kind, num_envs=64, dtype=torch.float32)
    assert not (env.get_state()["lane"] >= 0).any()
    clock = env.get_state()["clock"][:, 0]
    assert clock.min() >= 0 and clock.max() < 120 and len(clock.unique()) > 30
    before = env.get_state()["departed"]
    for _ in range(60):
        env.step(torch.ones(64, env.num_actions))
    came = env.get_state()["departed"] - before
    seconds = 60 * env.control_step
    rates = torch.tensor([flow.rate for flow in env.network.flows])
    together = came[:, :2].sum(dim=1)  # of the two flows by one road: as many as have room
    assert (together <= rates[:2].sum() * seconds / 3600.0 + 1.0).all()
    assert (together > 0.85 * rates[:2].sum() * seconds / 3600.0).all()
    assert ((came[:, 1] - env.share * together).abs() <= 1.5).all()  # none keeps the other out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", [1.0, None])
def test_nobody_runs_into_another(kind, action):
    env = make(kind, num_envs=4, dtype=torch.float32)
    actions = some_actions(env, 200)
    for given in actions:
        env.step(given if action is None else torch.full_like(given, action))
        state = env.get_state()
        place = state["lane"] * 1e4 + state["x"]
        place = torch.where(state["lane"] >= 0, place, torch.inf).sort(dim=1).values
        gaps = place.diff(dim=1) - FLOW_IDM["length"]
        assert (gaps[gaps.isfinite()] > 0.0).all()


# What is seen and rewarded ------------------------------------------------------------------------


def test_what_the_cars_of_a_merge_see():
    env = driven("merge", 60, share=0.3)
    state = {name: value[0].numpy() for name, value in env.get_state().items() if value.ndim == 2}
    starts = {0: 0.0, 1: 100.0, 2: 600.0}
    there = state["lane"] >= 0
    path = np.array([starts.get(int(lane), np.nan) for lane in state["lane"]]) + state["x"]
    mine = np.flatnonzero(there & (state["flow"] == env.autonomous_flow))
    mine = mine[np.argsort(state["number"][mine])][:5]
    assert len(mine) == 5
    speed = state["speed"]
    for k, i in enumerate(mine):
        gap = {"ahead": (math.inf, None), "behind": (math.inf, None)}
        for j in np.flatnonzero(there & ~np.isnan(path)):
            if path[j] > path[i]:
                gap["ahead"] = min(gap["ahead"], (path[j] - path[i] - 5.0, j))
            if path[j] < path[i]:
                gap["behind"] = min(gap["behind"], (path[i] - path[j] - 5.0, j))
        (front, ahead), (rear, behind) = gap["ahead"], gap["behind"]
        lead = (900.0, 30.0) if ahead is None else (front, speed[ahead])
        wanted = [speed[i] / 30.0, (lead[1] - speed[i]) / 30.0, lead[0] / 900.0]
        wanted += [(speed[i] - speed[behind]) / 30.0, rear / 900.0]
        found = env.observe()[0, 5 * k : 5 * k + 5].numpy()
        assert np.allclose(found, wanted, rtol=0, atol=1e-12)


def test_a_merge_without_cars_is_seen_as_zeros():
    env = make("merge")
    assert (env.observe() == 0.0).all()
    reward = env.step(torch.zeros(1, 5, dtype=torch.float64))[1]
    assert reward.item() == pytest.approx(0.5 if (env.get_state()["lane"] >= 0).any() else 0.0)


def test_the_reward_of_a_merge_by_hand():
    env = driven("merge", 60, share=0.3)
    obs, reward, _, _, info = env.step(some_actions(env, 1)[0])
    state = env.get_state()
    speed = state["speed"][state["lane"] >= 0]
    near = 1.0 - (speed - 20.0).square().mean().sqrt() / 20.0
    assert info["reward_terms"]["speed"].item() == pytest.approx(near.item(), abs=1e-12)
    own, _, gap = env.read_leader(obs)
    short = 0.1 * (gap / own - 1.0).clamp(max=0.0)[own > 0.0].sum()
    assert info["reward_terms"]["headway"].item() == pytest.approx(short.item(), abs=1e-12)
    assert reward.item() == pytest.approx((near + short).item(), abs=1e-12)


def cells(counts):
    """(road, cell, lane) -> number, in the order of actions and observations."""
    every = [(r, c, k) for r in counts for c in range(counts[r]) for k in range(ROADS[r][1])]
    return {key: place for place, key in enumerate(every)}


def place_in(env, state, i, counts):
    road, lane = env._tables.lane_names[int(state["lane"][i])]
    if road not in counts:
        return None
    return road, int(state["x"][i] / ROADS[road][0] * counts[road]), lane


def test_what_is_seen_of_a_bottleneck():
    env = driven("bottleneck", 160, share=0.3, autonomous=False)
    state = {name: value[0].numpy() for name, value in env.get_state().items() if value.ndim == 2}
    places = cells(OBSERVED)
    assert len(places) == 35
    count, total = np.zeros((2, 35)), np.zeros((2, 35))
    last = 0.0
    for i in np.flatnonzero(state["lane"] >= 0):
        kind = int(state["flow"][i] == env.autonomous_flow)
        place = places[place_in(env, state, i, OBSERVED)]
        count[kind, place] += 1
        total[kind, place] += state["speed"][i]
        if place == 34:
            last += state["speed"][i]
    mean = total / np.maximum(count, 1)
    outflow = 3600.0 * last / 155.0 / 2000.0
    wanted = np.concatenate([count.ravel() / 20.0, mean.ravel() / 50.0, [outflow]])
    assert count[1].sum() > 3 and last > 0.0
    assert np.allclose(env.observe()[0].numpy(), wanted, rtol=0, atol=1e-12)


def test_the_outflow_is_rewarded():
    env = driven("bottleneck", 160, autonomous=False)
    obs, reward, _, _, _ = env.step(some_actions(env, 1)[0])
    assert reward.item() == pytest.approx(obs[0, -1].item(), abs=1e-12)
    assert reward.item() > 0.2


@pytest.mark.slow
def test_edies_outflow_is_what_leaves():
    env = make("bottleneck", dtype=torch.float32, flow_rate=1500.0)
    for _ in range(200):
        env.step(torch.ones(1, 20))
    left = env.get_state()["departed"].sum() - (env.get_state()["lane"] >= 0).sum()
    told = sum(env.step(torch.ones(1, 20))[1].item() for _ in range(1000))
    left = env.get_state()["departed"].sum() - (env.get_state()["lane"] >= 0).sum() - left
    assert told * 2000.0 * 0.5 / 3600.0 == pytest.approx(
        left.item(), abs=3.0
    )  # some are on the road


def test_a_car_takes_up_the_speed_of_its_cell():
    env = make("bottleneck", share=0.3, flow_rate=1200.0)
    for _ in range(120):
        env.step(torch.ones(1, 20, dtype=torch.float64))
    state = {name: value[0].numpy() for name, value in env.get_state().items() if value.ndim == 2}
    places = cells(COMMANDED)
    assert len(places) == env.num_actions == 20
    action = -torch.ones(1, 20, dtype=torch.float64)
    wanted = {}
    for i in np.flatnonzero((state["lane"] >= 0) & (state["flow"] == env.autonomous_flow)):
        place = place_in(env, state, i, COMMANDED)
        if place is not None and state["speed"][i] > 3.0:
            v = 0.5 * state["speed"][i]
            action[0, places[place]] = 2.0 * v / 23.0 - 1.0
            wanted[i] = (places[place], v)
    env.step(action)
    after, checked = env.get_state(), 0
    for i, (place, v) in wanted.items():
        if [p for p, _ in wanted.values()].count(place) > 1:
            continue
        rate = 3.0 * math.tanh((v - state["speed"][i]) / 6.0)
        found = after["speed"][0, i].item()
        assert found <= state["speed"][i] + 0.5 * rate + 1e-12  # its driver may brake harder
        checked += abs(found - state["speed"][i] - 0.5 * rate) < 1e-12
    assert checked >= 3


def test_cars_that_are_told_headways_drive_by_their_model():
    """As a car of that T would; a wide one opens gaps, and the own one changes nothing."""
    told = [make("bottleneck", share=0.3, command="headway", seed=0) for _ in range(3)]
    human = make("bottleneck", share=0.3, autonomous=False, seed=0)
    own = (FLOW_IDM["T"] - 0.5) / 2.5 * 2.0 - 1.0
    for _ in range(160):
        for env, action in zip(told, (own, -1.0, 1.0), strict=True):
            env.step(torch.full((1, 20), action, dtype=torch.float64))
        human.step(torch.zeros(1, 20, dtype=torch.float64))
    for name, value in human.get_state().items():
        assert torch.equal(value, told[0].get_state()[name])
    narrow, wide = (env.mean_speed().item() for env in told[1:])
    assert wide < narrow
    with pytest.raises(ArgumentError, match=r"env\.command: 'headway' given"):
        SpeedLimit(told[0])


# Gradients, state, batches ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "seed", "options"),
    [
        ("merge", 0, {}),
        ("merge", 1, {}),
        ("bottleneck", 0, {}),
        ("bottleneck", 0, {"command": "headway"}),
    ],
)
def test_gradients_against_central_differences(kind, seed, options):
    """Over steps in which cars cross borders, merge, enter and leave."""
    env = make(kind, seed=seed, share=0.3, **options)
    for action in 0.2 * some_actions(env, 60 if kind == "merge" else 150) + 0.5:
        env.step(action)
    start = env.get_state()
    actions = 0.8 * some_actions(env, 6, seed=3)

    def outcome(actions, x, speed):
        env.set_state({**start, "x": x, "speed": speed})
        rewards = [env.step(action)[1] for action in actions]
        state = env._split_state()
        return torch.stack(rewards), env.observe(), state["x"], state["speed"]

    inputs = [value.clone().requires_grad_() for value in (actions, start["x"], start["speed"])]
    rewards, *_ = outcome(*inputs)
    moved = env.get_state()
    assert (moved["lane"] != start["lane"]).any() and (moved["number"] != start["number"]).any()
    assert (torch.autograd.grad(rewards.sum(), inputs[2])[0] != 0.0).any()
    # Few directions, each against a central difference: the inputs are many.
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(v.shape, generator=generator).double() for v in outcome(*inputs)]

    def total(*inputs):
        return sum((v * w).sum() for v, w in zip(outcome(*inputs), weights, strict=True))

    gradient = torch.autograd.grad(total(*inputs), inputs)
    assert all((value != 0.0).any() for value in gradient)
    for _ in range(8):
        way = [torch.randn(v.shape, generator=generator).double() for v in inputs]
        way[2] = way[2] * (start["speed"] > 0.1)
        eps = 1e-6
        with torch.no_grad():
            up = total(*[v + eps * w for v, w in zip(inputs, way, strict=True)])
            down = total(*[v - eps * w for v, w in zip(inputs, way, strict=True)])
        wanted = ((up - down) / (2.0 * eps)).item()
        found = sum((g * w).sum() for g, w in zip(gradient, way, strict=True)).item()
        assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_set_again_continues_bit_for_bit_across_an_end(kind):
    shape = {"num_envs": 3, "dtype": torch.float32, "max_episode_steps": 70}
    env, other = make(kind, **shape), make(kind, seed=9, **shape)
    for action in some_actions(env, 50):
        env.step(action)
    other.set_state(env.get_state())
    for action in some_actions(env, 60, seed=1):
        env.step(action)
        other.step(action)
    found, wanted = other.get_state(), env.get_state()
    assert (wanted["reset_count"] == 2).all()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_batch_drive_as_the_batch(kind):
    whole, part = (make(kind, num_envs=n, dtype=torch.float32) for n in (8, 3))
    part.number_from(5)
    part.reset(seed=0)
    for action in some_actions(whole, 60):
        whole.step(action)
        part.step(action[5:])
    for name in ("x", "speed", "lane", "number", "clock"):
        assert torch.equal(whole.get_state()[name][5:], part.get_state()[name])


# Controllers, pictures, refusals ------------------------------------------------------------------


def test_controllers_drive_the_cars_of_a_merge():
    env = make("merge", share=0.3)
    human, slow = HumanDriver(env), FollowerStopper(env, desired_speed=8.0)
    for _ in range(60):
        obs = env.step(human(env.observe()))[0]
    before = env.mean_speed().item()
    assert human(obs).shape == (1, 5)
    for _ in range(60):
        obs = env.step(slow(obs))[0]
    assert env.mean_speed().item() < before - 3.0
    with pytest.raises(ArgumentError, match=r"policy.desired_speed: nothing given"):
        FollowerStopper(env)
    with pytest.raises(ArgumentError, match="one car accepted"):
        PISaturation(env)


def test_a_speed_limit_slows_the_cars_of_a_bottleneck():
    env = make("bottleneck", share=0.5)
    free, slow = SpeedLimit(env), SpeedLimit(env, desired_speed=6.0)
    assert (free(env.observe()) == 1.0).all()
    for _ in range(140):
        env.step(free(env.observe()))
    before = env.mean_speed().item()
    for _ in range(60):
        env.step(slow(env.observe()))
    assert env.mean_speed().item() < before - 5.0
    for wrong in (-1.0, 24.0, math.nan):
        with pytest.raises(ArgumentError, match=r"policy.desired_speed: .* given"):
            SpeedLimit(env, desired_speed=wrong)
    with pytest.raises(ArgumentError, match="SpeedLimit for env=merge given"):
        SpeedLimit(make("merge"))


@pytest.mark.parametrize("kind", KINDS)
def test_cars_are_drawn_where_they_are(kind):
    env = driven(kind, 120, share=0.3)
    state, poses = env.get_state(), env.vehicle_poses()[0]
    there = state["lane"][0] >= 0
    autonomous = there & (state["flow"][0] == env.autonomous_flow)
    shown = ~poses[:, 0].isnan()
    assert torch.equal(shown, torch.cat([autonomous, there & ~autonomous]))
    lines = torch.as_tensor(env.lane_lines())
    for i in torch.nonzero(there)[:, 0].tolist():
        pose = poses[i if autonomous[i] else env.num_vehicles + i]
        start, end = lines[int(state["lane"][0, i])]
        way = (end - start) / (end - start).norm()
        front = pose[:2] + 2.5 * torch.stack([pose[2].cos(), pose[2].sin()])
        assert torch.allclose(front, start + state["x"][0, i] * way, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("merge", {"share": 1.5}, "share: 1.5 given"),
        ("merge", {"share": 0.0}, "share: 0.0 given, more than 0, or autonomous=false"),
        ("bottleneck", {"command": "hold"}, "command: 'hold' given"),
        ("bottleneck", {"min_headway": 0.0}, "min_headway: 0.0 given"),
        ("bottleneck", {"max_headway": 0.1}, "max_headway: 0.1 given, at least min_headway"),
        ("merge", {"ramp_rate": -1.0}, "ramp_rate: -1.0 given"),
        ("merge", {"num_controlled": 0}, "num_controlled: 0 given"),
        ("merge", {"num_vehicles": 3}, "num_vehicles: 3 given, at least num_controlled"),
        ("merge", {"main_length": 0.0}, "main_length: 0.0 given"),
        ("merge", {"target_speed": math.nan}, "target_speed: nan given"),
        ("merge", {"autonomous": 1}, "autonomous: 1 given"),
        ("merge", {"num_blocks": 2}, "num_blocks: 2 given"),
        ("bottleneck", {"flow_rate": -1.0}, "flow_rate: -1.0 given"),
        ("bottleneck", {"max_acceleration": 0.0}, "max_acceleration: 0.0 given"),
        ("bottleneck", {"num_vehicles": 0}, "num_vehicles: 0 given"),
        ("bottleneck", {"sims_per_step": 0}, "sims_per_step: 0 given"),
    ],
)
def test_refusals(kind, options, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **options)


@pytest.mark.slow
def test_the_ramp_brakes_the_motorway_and_zippers_lose_capacity():
    """What there is to win: without the disturbance, and below the capacity, traffic flows."""

    def late(env, read):
        values = []
        for step in range(700):
            env.step(torch.zeros(env.num_envs, env.num_actions))
            if step >= 500:
                values.append(read(env))
        return torch.stack(values).mean().item()

    size = {"num_envs": 4, "dtype": torch.float32, "autonomous": False, "flow_rate": 2000.0}
    size["num_vehicles"] = 100
    speed = [late(make("merge", ramp_rate=r, **size), MergeEnv.mean_speed) for r in (100.0, 500.0)]
    assert speed[0] > 18.0 and speed[1] < 8.0
    size["num_vehicles"] = 250
    flows = [
        late(make("bottleneck", **{**size, "flow_rate": r}), lambda env: env.observe()[:, -1])
        for r in (2200.0, 2600.0)
    ]
    assert 2000.0 * flows[0] > 2100.0 and 2000.0 * flows[1] < 1500.0


def test_made_by_name():
    env = warp_envs.make("merge", num_envs=2)
    assert (env.num_obs, env.num_actions, env.max_episode_steps) == (25, 5, 750)
    env = warp_envs.make("bottleneck", num_envs=2, sims_per_step=2)
    assert (env.num_obs, env.num_actions, env.max_episode_steps) == (141, 20, 750)
    assert env.control_step == 1.0


def test_networks_without_a_free_slot_are_told_of_once(caplog):
    env = warp_envs.make("merge", num_envs=2, num_vehicles=5)
    env.reset(seed=0)
    for _ in range(60):
        env.step(torch.zeros(2, env.num_actions))
        env.detach()
    assert caplog.text.count("all 5 slots of a network are taken") == 1
