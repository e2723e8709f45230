"""HalfCheetah, Humanoid and Anymal against the specification and a second simulation."""

import math
from functools import cache

import numpy as np
import pytest
import torch

import warp_envs
from tests.kernels.articulation import published_robots
from tests.kernels.articulation.resimulation import Resimulation
from tests.warp_envs.robots.test_robots import rotation, stepped
from warp_envs.robots.humanoid import HumanoidEnv

DOUBLE = torch.float64
HUMANOID_GEAR = (
    *(70, 70, 70),
    *(70, 70, 210, 140, 35, 35) * 2,
    *(35, 35, 70) * 2,
)
GEAR = {
    "half_cheetah": 200.0,
    "anymal": 200.0,
    "humanoid": np.array(HUMANOID_GEAR),
    "humanoid_dflex": np.array(HUMANOID_GEAR),
}
SUBSTEPS = {"half_cheetah": 16, "anymal": 16, "humanoid": 48, "humanoid_dflex": 48}
ROOT = {"half_cheetah": 3, "anymal": 6, "humanoid": 6, "humanoid_dflex": 6}  # dofs not driven
WALKERS = {  # target, weight of effort, least height
    "anymal": (1e4, 0.005, 0.25),
    "humanoid": (200.0, 0.002, 0.74),
}


@cache
def make(name, num_envs=2, compiled=False):
    """A double of the environment; the plain kernels are compiled once for all robots."""
    return warp_envs.make(name, num_envs=num_envs, dtype=DOUBLE, compiled=compiled, seed=4)


@pytest.mark.parametrize(
    ("name", "obs", "actions"),
    [("half_cheetah", 17, 6), ("anymal", 49, 12), ("humanoid", 76, 21), ("humanoid_dflex", 76, 21)],
)
def test_sizes(name, obs, actions):
    env = make(name)
    assert env.single_observation_space.shape == (obs,)
    assert env.single_action_space.shape == (actions,)
    assert env.spec.max_episode_steps == 1000


def test_half_cheetah_observation_and_reward():
    env = make("half_cheetah")
    env.reset(seed=1)
    action, (obs, reward, _, _, info), state = stepped(env)
    q, qd = state["joint_q"], state["joint_qd"]
    assert torch.allclose(obs, torch.cat([q[:, 1:], qd], 1), rtol=1e-14)
    terms = {"progress": qd[:, 0], "effort": -0.1 * (action**2).sum(1)}
    for term, value in terms.items():
        assert torch.allclose(info["reward_terms"][term], value, rtol=1e-12), term
    assert torch.allclose(reward, sum(terms.values()), rtol=1e-12)


def test_half_cheetah_never_terminates():
    env = make("half_cheetah")
    state = env.get_state()
    state["joint_q"][:, 2] = 3.0  # on its back
    env.set_state(state)
    assert not env.step(torch.zeros(2, 6, dtype=DOUBLE))[2].any()


@pytest.mark.parametrize("name", WALKERS)
def test_walkers_observation_and_reward(name):
    target, weight, least = WALKERS[name]
    env = make(name)
    env.reset(seed=1)
    start = env.get_state()
    start["joint_q"][:, 2] += 0.1
    start["joint_q"][0, 0] = 1.5 * target  # beyond the target: it lies behind
    env.set_state(start)
    action, (obs, reward, _, _, info), state = stepped(env, steps=2)
    q, qd = state["joint_q"], state["joint_qd"]
    matrix = rotation(q[:, 3:7])
    com = torch.tensor({"anymal": [0, 0, 0], "humanoid": [-0.00253938, 0, 0.03466259]}[name])
    arm = (matrix @ com.to(DOUBLE)[:, None]).squeeze(2)
    velocity = qd[:, :3] - torch.linalg.cross(qd[:, 3:6], arm)
    way = torch.stack([target - q[:, 0], -q[:, 1]], 1)
    heading = (matrix[:, :2, 0] * way).sum(1) / way.norm(dim=1)
    assert heading[0] < -0.9 and heading[1] > 0.9
    expected = torch.cat(
        [
            *(q[:, 2:3], q[:, 3:7], velocity, qd[:, 3:6], q[:, 7:], 0.1 * qd[:, 6:]),
            *(matrix[:, 2, 2:3], heading[:, None], action),
        ],
        1,
    )
    assert torch.allclose(obs, expected, rtol=1e-7, atol=1e-8)
    d = (q[:, 2] - 0.84).clip(-1, 0.1)
    terms = {
        "progress": velocity[:, 0],
        "up": 0.1 * matrix[:, 2, 2],
        "heading": heading,
        "height": q[:, 2] - least if name == "anymal" else torch.where(d < 0, -200 * d * d, 10 * d),
        "effort": -weight * (action**2).sum(1),
    }
    for term, value in terms.items():
        assert torch.allclose(info["reward_terms"][term], value, rtol=1e-7, atol=1e-8), term
    assert torch.allclose(reward, sum(terms.values()), rtol=1e-7)


@pytest.mark.parametrize(("name", "num_actions"), [("anymal", 12), ("humanoid", 21)])
def test_walkers_terminate_below_their_least_height(name, num_actions):
    least = WALKERS[name][2]
    env = make(name)
    state = env.reset(seed=3) and env.get_state()
    state["joint_q"][:, 2] = torch.tensor([least - 0.05, least + 0.3], dtype=DOUBLE)
    state["joint_q"][:, 3:7] = torch.tensor([1.0, 0.0, 0.0, 0.0])  # head down, legs in the air
    state["joint_qd"][:] = 0.0
    env.set_state(state)
    _, _, terminated, _, info = env.step(torch.zeros(2, num_actions, dtype=DOUBLE))
    assert (terminated == (info["final_obs"][:, 0] < least)).all()
    assert terminated.tolist() == [True, False]


@pytest.mark.parametrize(("below", "region"), [(0.2, "below"), (0.0, "inside"), (-0.6, "above")])
def test_humanoid_height_term(below, region):
    """One control step of free fall from where the term has each of its branches."""
    env = make("humanoid")
    state = env.get_state()
    state["joint_q"][:] = torch.tensor(HumanoidEnv.start_q, dtype=DOUBLE)
    state["joint_q"][:, 2] = 0.9 - below
    state["joint_q"][:, 3:7] = torch.tensor([1.0, 0.0, 0.0, 0.0])  # head down, legs in the air
    state["joint_qd"][:] = 0.0
    env.set_state(state)
    info = env.step(torch.zeros(2, 21, dtype=DOUBLE))[4]
    d = info["final_obs"][0, 0].item() - 0.84
    assert {"below": d < -0.05, "inside": 0 < d < 0.1, "above": d > 0.1}[region]
    expected = {"below": -200 * d * d, "inside": 10 * d, "above": 1.0}[region]
    assert info["reward_terms"]["height"][0].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "lowest"), [("half_cheetah", 0.176), ("humanoid", 0.065), ("anymal", 0.007)]
)
def test_starts_stand_above_the_ground(name, lowest):
    """The lowest contact point of the start that episodes are scattered about."""
    env = make(name)
    other = Resimulation(getattr(published_robots, name)())
    q = np.array(env.start_q)
    other.reference.set_state(q, np.zeros(env.articulation.nv))
    heights = []
    for index, point, radius in other.points:
        position, turn = other.reference.body_pose(index)
        heights.append((position + turn @ point)[2] - radius)
    assert min(heights) == pytest.approx(lowest, abs=6e-4)


def test_random_start_of_walkers_scatters_the_twist_at_the_worlds_origin():
    env = warp_envs.make("humanoid", num_envs=512, dtype=DOUBLE, compiled=False)
    state = env.get_state()
    q, qd = state["joint_q"], state["joint_qd"]
    assert (q[:, :3] - torch.tensor([0, 0, 1.35], dtype=DOUBLE)).abs().max() <= 0.1
    angle = 2 * torch.atan2(q[:, 3:6].norm(dim=1), q[:, 6])
    assert 0.95 * math.pi / 24 < angle.max() <= math.pi / 24 + 1e-6
    assert 0.19 < q[:, 7:].abs().max() <= 0.2
    com = torch.tensor([-0.00253938, 0, 0.03466259], dtype=DOUBLE)
    place = q[:, :3] + (rotation(q[:, 3:7]) @ com[:, None]).squeeze(2)
    at_origin = qd[:, :3] - torch.linalg.cross(qd[:, 3:6], place)
    for velocities in (at_origin, qd[:, 3:6], qd[:, 6:]):
        assert 0.24 < velocities.abs().max() <= 0.25 + 1e-6
    assert state["last_action"].abs().max() == 0


def test_a_gear_for_each_joint_must_be_one_for_each_joint():
    wrong = type("Wrong", (HumanoidEnv,), {"gear": (70.0,) * 20})
    with pytest.raises(ValueError, match="gear: 20 numbers given, 21 accepted"):
        wrong(num_envs=1)


CASES = [
    *((name, False) for name in ("half_cheetah", "anymal", "humanoid", "humanoid_dflex")),
    *((name, True) for name in ("half_cheetah", "anymal")),
]


@pytest.mark.parametrize(("name", "compiled"), CASES)
def test_environment_agrees_with_a_second_simulation(name, compiled):
    """Asset, start, actuation and 20 control steps of full random actions, contact included."""
    other = Resimulation(getattr(published_robots, name)())
    env = make(name, compiled=compiled)
    env.reset(seed=4)
    start = env.get_state()
    if ROOT[name] == 6:
        start["joint_q"][:, 2] -= 0.06  # it lands early in the test
        env.set_state(start)
    torch.manual_seed(2)
    actions = 2.4 * torch.rand(20, 2, env.num_actions, dtype=DOUBLE) - 1.2
    q, qd = start["joint_q"][0].numpy(), start["joint_qd"][0].numpy()
    for action in actions:
        assert not env.step(action)[2][0]
        state = env.get_state()
        force = np.zeros(len(qd))
        force[ROOT[name] :] = GEAR[name] * action[0].clip(-1, 1).numpy()
        q, qd = other.control_step(q, qd, force, 1 / 60, SUBSTEPS[name])
        for ours, theirs in ((state["joint_q"], q), (state["joint_qd"], qd)):
            error = np.abs(ours[0].numpy() - theirs).max() / max(1.0, np.abs(theirs).max())
            assert error <= 1e-6
    assert other.touched > 100


@pytest.mark.parametrize(("name", "compiled"), CASES)
def test_gradient_against_central_differences(name, compiled):
    """Through observation and reward over 8 control steps, all actions, in double precision."""
    env = make(name, compiled=compiled)
    env.reset(seed=5)
    start = env.get_state()
    if ROOT[name] == 6:
        start["joint_q"][:, 2] -= 0.06
    torch.manual_seed(3)
    actions = 0.5 * (2 * torch.rand(8, 2, env.num_actions, dtype=DOUBLE) - 1)
    weight = torch.randn(2, env.num_obs, dtype=DOUBLE)

    def total(actions):
        env.set_state(start)
        value = torch.zeros((), dtype=DOUBLE)
        for action in actions:
            obs, reward, *_ = env.step(action)
            value = value + reward.sum()
        return value + (weight * obs).sum()

    actions.requires_grad_()
    (gradient,) = torch.autograd.grad(total(actions), actions)
    with torch.no_grad():
        for direction in torch.randn(2, *actions.shape, dtype=DOUBLE):
            h = 1e-6 * direction
            slope = (total(actions + h) - total(actions - h)) / 2e-6
            assert torch.allclose((gradient * direction).sum(), slope, rtol=1e-5)
