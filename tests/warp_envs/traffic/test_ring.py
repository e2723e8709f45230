"""The ring: its numbers, its waves, its noise, and gradients against central differences."""

import math

import numpy as np
import pytest
import torch

import warp_envs
from warp_envs.traffic.car_following import equilibrium_speed
from warp_envs.traffic.ring import HUMAN_IDM, SAFE_IDM, RingEnv

CARS = 22


def make(num_envs=1, dtype=torch.float64, **options):
    return RingEnv(num_envs=num_envs, dtype=dtype, **{"warm_up_steps": 0, **options})


def place(env, **changes):
    env.set_state({**env.get_state(), **changes})


def even(length, speed, dtype=torch.float64):
    """All cars evenly spaced and equally fast."""
    x = length / CARS * torch.arange(CARS, dtype=dtype)[None]
    lengths = torch.full((1, 1), length, dtype=dtype)
    return {"x": x, "speed": torch.full_like(x, speed), "ring_length": lengths}


def idm(v, gap, dv, p):
    """Treiber et al. (2000) with SUMO's s* >= s0, in numpy."""
    desired = p["s0"] + np.maximum(0.0, v * p["T"] + v * dv / (2.0 * math.sqrt(p["a"] * p["b"])))
    return p["a"] * (1.0 - (v / p["v0"]) ** 4 - (desired / gap) ** 2)


def resimulate(x, v, length, actions):
    """The ring without noise, from Wu et al. (2022) and SUMO's order of updates alone."""
    for action in actions:
        ahead, leader = np.roll(x, -1), np.roll(v, -1)
        gap = (ahead - x) % length - 5.0
        rate = idm(v, gap, v - leader, HUMAN_IDM)
        rate[0] = min(action, idm(v, gap, v - leader, SAFE_IDM)[0])
        v = np.maximum(0.0, v + 0.1 * rate)
        x = (x + 0.1 * v) % length
    return x, v


def test_drivers_are_those_of_the_paper():
    wanted = {"v0": 30.0, "T": 1.0, "a": 1.0, "b": 1.5, "s0": 2.0, "delta": 4.0, "length": 5.0}
    assert {name: HUMAN_IDM[name] for name in wanted} == wanted


@pytest.mark.parametrize("seed", [0, 1])
def test_against_a_resimulation_in_numpy(seed):
    env = make(noise=0.0)
    rng = np.random.default_rng(seed)
    length = rng.uniform(220.0, 270.0)
    x = np.arange(CARS) * length / CARS + rng.uniform(-1.0, 1.0, CARS)
    x, v = (x - x.min()) % length, rng.uniform(0.0, 6.0, CARS)
    actions = rng.uniform(-1.0, 1.0, 600)
    state = {"x": x, "speed": v, "ring_length": [length]}
    env.set_state({n: torch.tensor(np.asarray(value))[None] for n, value in state.items()})
    for action in actions:
        obs, _, terminated, _, _ = env.step(torch.tensor([[action]]))
        assert not terminated.item()
    x, v = resimulate(x, v, length, actions)
    found = env.get_state()
    off = (found["x"][0].numpy() - x + 0.5 * length) % length - 0.5 * length
    assert np.abs(off).max() < 1e-9
    assert np.allclose(found["speed"][0].numpy(), v, rtol=0, atol=1e-9)
    wanted = [v[0] / 15.0, (v[1] - v[0]) / 15.0, ((x[1] - x[0]) % length) / 270.0]
    assert np.allclose(obs[0].numpy(), wanted, rtol=0, atol=1e-11)


def test_reward_by_hand():
    env = make(noise=0.0)
    place(env, **even(250.0, 4.0))
    _, reward, _, _, info = env.step(torch.tensor([[-0.25]], dtype=torch.float64))
    mean = env.get_state()["speed"].mean().item()
    assert info["reward_terms"]["speed"].item() == pytest.approx(4.0 * mean / 20.0, abs=1e-12)
    assert info["reward_terms"]["action"].item() == pytest.approx(-1.0, abs=1e-12)
    assert reward.item() == pytest.approx(0.2 * mean - 1.0, abs=1e-12)


def test_a_collision_terminates_and_earns_nothing():
    env = make(noise=0.0, fail_safe=False)
    state = even(250.0, 4.0)
    state["x"][0, 0] = state["x"][0, 1] - 5.3
    state["speed"][0, 0] = 9.0
    place(env, **state)
    _, reward, terminated, truncated, _ = env.step(torch.ones(1, 1, dtype=torch.float64))
    assert terminated.item() and not truncated.item() and reward.item() == 0.0


def test_the_fail_safe_stops_a_car_that_only_accelerates():
    env = make(num_envs=8, dtype=torch.float32, warm_up_steps=300)
    for _ in range(1500):
        assert not env.step(torch.ones(8, 1))[2].any()


def test_lengths_are_drawn_uniformly_and_anew():
    env = make(num_envs=2000, dtype=torch.float32)
    first = env.get_state()["ring_length"][:, 0]
    assert first.min() >= 220.0 and first.max() <= 270.0
    quantiles = torch.quantile(first, torch.tensor([0.1, 0.5, 0.9]))
    assert (quantiles - torch.tensor([225.0, 245.0, 265.0])).abs().max() < 3.0
    env.reset()
    assert (env.get_state()["ring_length"][:, 0] - first).abs().mean() > 10.0


@pytest.mark.parametrize("length", [220.0, 245.0, 270.0])
def test_uniform_flow_keeps_the_closed_form_speed(length):
    """Wu et al. (2022), Eq. 10: s_e(v) = (s0 + v T) / sqrt(1 - (v / v0)^4)."""
    env = make(noise=0.0, autonomous=False)
    place(env, **even(length, 3.0))
    speed = env.equilibrium_speed().item()
    gap = (2.0 + speed) / math.sqrt(1.0 - (speed / 30.0) ** 4)
    assert gap == pytest.approx(length / CARS - 5.0, abs=1e-12)
    for _ in range(1500):
        env.step(torch.zeros(1, 1, dtype=torch.float64))
    assert (env.get_state()["speed"] - speed).abs().max() < 1e-3


def test_equilibrium_speed_of_any_model_and_its_ends():
    gaps = torch.tensor([1.0, 10.0, 20.0], dtype=torch.float64)
    found = equilibrium_speed("ovm", gaps)
    wanted = 120.0 / 3.6 * (torch.tanh(gaps / 15.0 - 1.5) + math.tanh(1.5)) / (1 + math.tanh(1.5))
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)
    assert equilibrium_speed("idm", 1.9, s0=2.0).item() < 1e-12  # nearer than at rest
    assert equilibrium_speed("idm", math.inf, highest=20.0).item() == pytest.approx(20.0)


def test_human_traffic_stops_and_goes():
    env = make(num_envs=16, dtype=torch.float32, warm_up_steps=750, autonomous=False)
    speeds = []
    for _ in range(1000):
        env.step(torch.zeros(16, 1))
        speeds.append(env.get_state()["speed"])
    speeds = torch.stack(speeds)  # (steps, envs, cars)
    assert (speeds.std(dim=(0, 2)) > 2.0).all()
    assert (speeds.amin(dim=(0, 2)) < 0.1).all()
    assert (speeds.mean(dim=(0, 2)) < 0.8 * env.equilibrium_speed()).all()


def test_noise_is_normal_and_everybodys_own():
    env = make(num_envs=500, max_episode_steps=10)
    speeds, rates = torch.full((500, CARS), 4.0, dtype=torch.float64), []
    for _ in range(3):
        place(env, speed=speeds, x=even(250.0, 0.0)["x"].expand(500, -1))
        place(env, ring_length=torch.full((500, 1), 250.0, dtype=torch.float64))
        env.step(torch.zeros(500, 1, dtype=torch.float64))
        rates.append((env.get_state()["speed"] - 4.0)[:, 1:] / 0.1)
    rates = torch.stack(rates) - idm(4.0, 250.0 / CARS - 5.0, 0.0, HUMAN_IDM)
    assert rates.mean().abs() < 0.005 and (rates.std() - 0.2).abs() < 0.005
    assert ((rates / 0.2) ** 4).mean() == pytest.approx(3.0, abs=0.2)
    flat = rates.flatten(1)
    for other in (flat.roll(1, 0), flat.roll(1, 1), rates.roll(1, 1).flatten(1)):
        assert (flat * other).mean().abs() < 0.03 * 0.04  # other steps, cars, rings
    assert (rates[:, :, 0].roll(1, 1) != rates[:, :, 0]).all()


def test_a_state_set_again_continues_bit_for_bit_across_an_end():
    env = make(num_envs=3, dtype=torch.float32, warm_up_steps=50, max_episode_steps=40)
    other = make(num_envs=3, dtype=torch.float32, warm_up_steps=50, max_episode_steps=40, seed=9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(15):
        env.step(torch.rand(3, 1, generator=generator) - 0.5)
    other.set_state(env.get_state())
    for _ in range(60):
        action = torch.rand(3, 1, generator=generator) - 0.5
        env.step(action)
        other.step(action)
    found, wanted = other.get_state(), env.get_state()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_blocks_and_parts_of_a_batch_drive_as_the_batch():
    whole = make(num_envs=40, dtype=torch.float32, warm_up_steps=20)
    blocks = make(num_envs=40, dtype=torch.float32, warm_up_steps=20, num_blocks=2)
    part = make(num_envs=10, dtype=torch.float32, warm_up_steps=20)
    part.number_from(30)
    part.reset(seed=0)
    for _ in range(20):
        whole.step(torch.full((40, 1), 0.3))
        blocks.step(torch.full((40, 1), 0.3))
        part.step(torch.full((10, 1), 0.3))
    assert torch.equal(whole.get_state()["x"], blocks.get_state()["x"])
    assert torch.equal(whole.get_state()["x"][30:], part.get_state()["x"])


@pytest.mark.parametrize(("fail_safe", "sims"), [(True, 1), (False, 1), (True, 3)])
def test_gradients_against_central_differences(fail_safe, sims):
    """Over steps in which a car crosses the seam, the noise acts and the fail-safe may bind."""
    env = make(fail_safe=fail_safe, sims_per_step=sims)
    rng = np.random.default_rng(3)
    length = 240.0
    x = np.arange(CARS) * length / CARS + rng.uniform(-1.0, 1.0, CARS) + 1.0
    x[-1] = length - 0.6  # crosses the seam
    x[0] = x[1] - 8.0  # close, so that the fail-safe binds
    v = rng.uniform(3.0, 6.0, CARS)
    start = [torch.tensor(value)[None] for value in (x, v, np.array([length]))]
    actions = torch.tensor(rng.uniform(-0.8, 0.9, (5, 1, 1)))
    counters = env.get_state()

    def rewards_and_state(actions, *start):
        state = dict(zip(("x", "speed", "ring_length"), start, strict=True))
        env.set_state({**counters, **state})
        rewards = [env.step(action)[1] for action in actions]
        return torch.stack(rewards), env.observe(), env._state

    inputs = [tensor.requires_grad_() for tensor in (actions, *start)]
    assert torch.autograd.gradcheck(rewards_and_state, inputs, eps=1e-6, rtol=1e-6, atol=1e-7)
    rewards, _, _ = rewards_and_state(*inputs)
    through_speed = torch.autograd.grad(rewards[-1], inputs[0])[0][:4]
    assert (through_speed.abs() > 0.0).any()  # an earlier action reaches a later reward


def test_an_action_that_holds_is_the_same_action_again():
    held, again = make(noise=0.0, sims_per_step=4), make(noise=0.0)
    again.set_state(held.get_state())
    for action in torch.tensor([[[0.5]], [[-0.7]], [[0.9]]], dtype=torch.float64):
        held.step(action)
        for _ in range(4):
            again.step(action)
    assert torch.equal(held.get_state()["x"], again.get_state()["x"])
    assert (held.max_episode_steps, held.control_step) == (750, pytest.approx(0.4))


def test_a_collision_within_a_held_action_terminates():
    env = make(noise=0.0, fail_safe=False, sims_per_step=20, max_acceleration=20.0)
    state = even(250.0, 4.0)
    state["speed"][0, 0] = 25.0  # through its leader within the step
    place(env, **state)
    assert env.step(torch.zeros(1, 1, dtype=torch.float64))[2].item()


def test_a_reset_of_one_ring_leaves_anothers_gradient():
    def gradient(ends):
        env = make(num_envs=2, fail_safe=False, seed=4)
        counts = env.get_state()["step_count"]
        if ends:
            counts[0] = env.max_episode_steps - 2
        place(env, step_count=counts)
        actions = torch.full((5, 2, 1), 0.2, dtype=torch.float64, requires_grad=True)
        total = sum(env.step(action)[1][1] for action in actions)
        return torch.autograd.grad(total, actions)[0][:, 1]

    assert torch.equal(gradient(True), gradient(False))
    assert (gradient(True) != 0.0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_vehicles": 0}, "num_vehicles: 0 given"),
        ({"min_ring_length": 100.0}, "min_ring_length: 100.0 given"),
        ({"max_ring_length": 200.0}, "max_ring_length: 200.0 given"),
        ({"noise": -0.1}, "noise: -0.1 given"),
        ({"noise": math.nan}, "noise: nan given"),
        ({"warm_up_steps": -1}, "warm_up_steps: -1 given"),
        ({"sims_per_step": 0}, "sims_per_step: 0 given"),
        ({"max_acceleration": 0.0}, "max_acceleration: 0.0 given"),
        ({"fail_safe": 1}, "fail_safe: 1 given"),
        ({"autonomous": "yes"}, "autonomous: 'yes' given"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        RingEnv(num_envs=1, **options)


def test_made_by_name_and_by_other_sizes():
    env = warp_envs.make("ring", num_envs=2, num_vehicles=1, warm_up_steps=10, noise=0.0)
    assert env.spec.max_episode_steps == 3000
    for _ in range(400):
        assert not env.step(torch.full((2, 1), 0.5))[2].any()
    state = env.get_state()
    assert state["x"].shape == (2, 2)
    assert ((state["x"] >= 0.0) & (state["x"] < state["ring_length"])).all()


def test_a_critic_is_told_the_length():
    env = make(num_envs=3, randomize_observed="critic", randomize={"T": [0.8, 1.2]})
    place(env, ring_length=torch.tensor([[220.0], [245.0], [270.0]], dtype=torch.float64))
    told = env.observe_privileged()
    assert told.shape == (3, env.num_privileged) == (3, 1 + env.num_vehicles)
    assert told[:, 0].tolist() == pytest.approx([-1.0, 0.0, 1.0])
    alike = make(randomize_observed="critic", min_ring_length=240.0, max_ring_length=240.0)
    assert alike.observe_privileged().tolist() == [[0.0]]
