"""Cartpole, Ant and Hopper: observations, rewards, ends and starts against the specification."""

import math

import numpy as np
import pytest
import torch

import warp_envs
from tests.kernels.articulation import robots
from tests.kernels.articulation.resimulation import Resimulation
from warp_envs.checks import ArgumentError
from warp_envs.robots.hopper import HopperEnv

DOUBLE = torch.float64
ROBOTS = ["cartpole", "hopper", "ant", "ant_dflex"]


def make(name, num_envs=6, **options):
    return warp_envs.make(name, num_envs=num_envs, dtype=DOUBLE, **options)


def rotation(quat):
    """Rotation matrices (n, 3, 3) of quaternions (n, 4), x y z w."""
    x, y, z, w = quat.unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def stepped(env, steps=3):
    """The last of a few random steps: action, its outcome and the state after it."""
    for _ in range(steps):
        action = 2 * torch.rand(env.num_envs, env.num_actions, dtype=DOUBLE) - 1
        outcome = env.step(action)
    assert not (outcome[2].any() or outcome[3].any())
    return action, outcome, env.get_state()


@pytest.mark.parametrize("name", ROBOTS)
def test_sizes(name):
    env = warp_envs.make(name, num_envs=2)
    obs, actions, steps = {"cartpole": (5, 1, 240), "hopper": (11, 3, 1000)}.get(
        name, (37, 8, 1000)
    )
    assert env.single_observation_space.shape == (obs,)
    assert env.single_action_space.shape == (actions,)
    assert env.spec.max_episode_steps == steps
    assert env.observe().dtype == torch.float32


def test_cartpole_observation_and_reward():
    _, (obs, reward, _, _, info), state = stepped(make("cartpole"))
    x, theta = state["joint_q"].unbind(1)
    x_dot, theta_dot = state["joint_qd"].unbind(1)
    expected = torch.stack([x, x_dot, theta.sin(), theta.cos(), theta_dot], 1)
    assert torch.allclose(obs, expected, rtol=1e-14)
    wrapped = torch.atan2(theta.sin(), theta.cos())
    terms = {
        "angle": -(wrapped**2),
        "spin": -0.1 * theta_dot**2,
        "position": -0.05 * x**2,
        "speed": -0.1 * x_dot**2,
    }
    for name, value in terms.items():
        assert torch.allclose(info["reward_terms"][name], value, rtol=1e-12), name
    assert torch.allclose(reward, sum(terms.values()), rtol=1e-12)


@pytest.mark.parametrize("turns", [-3, -1, 0, 1, 2])
def test_cartpole_angle_is_wrapped(turns):
    env = make("cartpole", num_envs=3)
    angle = torch.tensor([0.5, -2.0, 3.0], dtype=DOUBLE)
    q = torch.stack([torch.zeros(3, dtype=DOUBLE), angle + 2 * math.pi * turns], 1)
    env.set_state({"joint_q": q, "joint_qd": torch.zeros(3, 2, dtype=DOUBLE)})
    reward = env.step(torch.zeros(3, 1, dtype=DOUBLE))[4]["reward_terms"]["angle"]
    near = env.get_state()["joint_q"][:, 1] - 2 * math.pi * turns
    assert torch.allclose(reward, -(near**2), rtol=1e-9)


def test_cartpole_starts_hanging_and_pushes_right():
    env = make("cartpole", num_envs=512)
    state = env.get_state()
    spread = state["joint_q"] - torch.tensor([0.0, -math.pi], dtype=DOUBLE)
    assert spread.abs().max() <= math.pi / 2 and spread.abs().max() > 0.95 * math.pi / 2
    assert spread.mean(0).abs().max() < 0.2
    assert 0.24 < state["joint_qd"].abs().max() <= 0.25
    env.set_state({name: torch.zeros_like(state[name]) for name in ("joint_q", "joint_qd")})
    env.step(torch.ones(512, 1, dtype=DOUBLE))
    assert (env.get_state()["joint_qd"][:, 0] > 0).all()


@pytest.mark.parametrize("name", ["ant", "ant_dflex"])
def test_ant_observation_and_reward(name):
    action, (obs, reward, _, _, info), state = stepped(make(name))
    q, qd = state["joint_q"], state["joint_qd"]
    matrix = rotation(q[:, 3:7])
    expected = torch.cat(
        [
            *(q[:, 2:3], q[:, 3:7], qd[:, 0:3], qd[:, 3:6], q[:, 7:], 0.1 * qd[:, 6:]),
            *(matrix[:, 2, 2:3], matrix[:, 0, 0:1], action),
        ],
        1,
    )
    assert torch.allclose(obs, expected, rtol=1e-12, atol=1e-14)
    terms = {
        "progress": qd[:, 0],
        "up": 0.1 * matrix[:, 2, 2],
        "heading": matrix[:, 0, 0],
        "height": q[:, 2] - 0.27,
    }
    for term, value in terms.items():
        assert torch.allclose(info["reward_terms"][term], value, rtol=1e-12), term
    assert torch.allclose(reward, sum(terms.values()), rtol=1e-12)


def test_ant_start():
    env = make("ant", num_envs=512)
    state = env.get_state()
    q, qd = state["joint_q"], state["joint_qd"]
    assert (q[:, :3] - torch.tensor([0, 0, 0.75], dtype=DOUBLE)).abs().max() <= 0.1
    angle = 2 * torch.atan2(q[:, 3:6].norm(dim=1), q[:, 6])
    assert 0.95 * math.pi / 24 < angle.max() <= math.pi / 24 + 1e-6
    assert torch.allclose(q[:, 3:7].norm(dim=1), torch.ones(512, dtype=DOUBLE), atol=1e-6)
    rest = torch.tensor([0, 1, 0, -1, 0, -1, 0, 1], dtype=DOUBLE)
    assert 0.19 < (q[:, 7:] - rest).abs().max() <= 0.2
    assert 0.24 < qd.abs().max() <= 0.25
    assert state["last_action"].abs().max() == 0
    # The draws of position, tilt and velocity are independent of one another.
    together = torch.cat([q[:, :3], q[:, 3:6], q[:, 7:], qd], 1)
    correlation = torch.corrcoef(together.T) - torch.eye(together.shape[1])
    assert correlation.abs().max() < 0.25


@pytest.mark.parametrize("low", [0.26, 0.28])
def test_ant_terminates_below_its_least_height(low):
    env = make("ant", num_envs=2)
    state = env.get_state()
    q = state["joint_q"].clone()
    q[0, 2] = low
    env.set_state({"joint_q": q, "joint_qd": torch.zeros_like(state["joint_qd"])})
    # Legs stretched up, so that one step neither lifts nor drops the torso past the limit.
    _, _, terminated, _, info = env.step(torch.zeros(2, 8, dtype=DOUBLE))
    assert terminated[0] == (info["final_obs"][0, 0] < 0.27)
    assert not terminated[1]


def test_hopper_observation_and_reward():
    action, (obs, reward, _, _, info), state = stepped(make("hopper"))
    q, qd = state["joint_q"], state["joint_qd"]
    assert torch.allclose(obs, torch.cat([q[:, 1:], qd], 1), rtol=1e-14)
    h = (q[:, 1] - (-0.45 + 0.15)).clip(-1, 0.3)
    terms = {
        "progress": qd[:, 0],
        "height": torch.where(h < 0, -200 * h * h, h),
        "pitch": 1 - (q[:, 2] / math.radians(30)) ** 2,
        "effort": -0.1 * (action**2).sum(1),
    }
    for term, value in terms.items():
        assert torch.allclose(info["reward_terms"][term], value, rtol=1e-12), term
    assert torch.allclose(reward, sum(terms.values()), rtol=1e-12)


@pytest.mark.parametrize(("z", "region"), [(-0.4, "below"), (-0.2, "inside"), (0.4, "above")])
def test_hopper_height_term(z, region):
    """The leg is folded, so that the torso may be low without the foot in the ground."""
    env = make("hopper", num_envs=1)
    q = torch.tensor([[0.0, z, 0.0, -1.5, -1.5, 0.0]], dtype=DOUBLE)
    env.set_state({"joint_q": q, "joint_qd": torch.zeros(1, 6, dtype=DOUBLE)})
    info = env.step(torch.zeros(1, 3, dtype=DOUBLE))[4]
    h = env.get_state()["joint_q"][0, 1].item() + 0.3
    assert {"below": -0.2 < h < -0.05, "inside": 0 < h < 0.3, "above": h > 0.3}[region]
    expected = {"below": -200 * h * h, "inside": h, "above": 0.3}[region]
    assert info["reward_terms"]["height"][0].item() == pytest.approx(expected, rel=1e-9)


def test_hopper_start_and_end():
    env = make("hopper", num_envs=256)
    state = env.get_state()
    for name in ("joint_q", "joint_qd"):
        assert 0.045 < state[name].abs().max() <= 0.05
    q = torch.zeros_like(state["joint_q"])
    q[0] = torch.tensor([0.0, -0.5, 0.0, -1.5, -1.5, 0.0])  # folded, above the ground
    env.set_state({"joint_q": q, "joint_qd": q * 0})
    terminated = env.step(torch.zeros(256, 3, dtype=DOUBLE))[2]
    assert terminated[0] and not terminated[1:].any()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ROBOTS)
def test_gradient_against_central_differences_over_8_steps(name, compiled):
    """Through observation and reward, all actions of a window, in double precision."""
    env = make(name, num_envs=2, compiled=compiled)
    start = env.get_state()
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
        for direction in torch.randn(4, *actions.shape, dtype=DOUBLE):
            h = 1e-6 * direction
            slope = (total(actions + h) - total(actions - h)) / 2e-6
            assert torch.allclose((gradient * direction).sum(), slope, rtol=1e-5)


RESIMULATED = {  # robot described by hand, its driven degrees of freedom, gear
    "cartpole": (robots.cartpole, [0], 1000.0),
    "hopper": (robots.hopper, [3, 4, 5], 200.0),
    "ant": (robots.ant, range(6, 14), 200.0),
    "ant_dflex": (robots.ant_dflex, range(6, 14), 200.0),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ROBOTS)
def test_environment_agrees_with_a_second_simulation(name, compiled):
    """Asset, start, actuation and 20 control steps of full random actions, contact included."""
    describe, driven, gear = RESIMULATED[name]
    other = Resimulation(describe())
    env = make(name, num_envs=2, seed=4, compiled=compiled)
    start = env.get_state()
    substeps = 4 if name == "cartpole" else 16
    if name == "ant" or name == "ant_dflex":
        start["joint_q"][:, 2] = 0.5  # it lands in the course of the test
        env.set_state(start)
    actions = 2.4 * torch.rand(20, 2, env.num_actions, dtype=DOUBLE) - 1.2
    q, qd = ([start[key][i].numpy() for i in range(2)] for key in ("joint_q", "joint_qd"))
    for action in actions:
        assert not env.step(action)[2].any()
        state = env.get_state()
        for i in range(2):
            force = np.zeros(len(qd[i]))
            force[list(driven)] = gear * action[i].clip(-1, 1).numpy()
            q[i], qd[i] = other.control_step(q[i], qd[i], force, 1 / 60, substeps)
            for ours, theirs in ((state["joint_q"], q[i]), (state["joint_qd"], qd[i])):
                error = np.abs(ours[i].numpy() - theirs).max() / max(1.0, np.abs(theirs).max())
                assert error <= 1e-6
    assert name == "cartpole" or other.touched > 100


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("start_q", (0.0,) * 5, "start_q: 5 numbers given, 6 accepted"),
        ("start_q_spread", (0.1,) * 7, "start_q_spread: 7 numbers given, 6 accepted"),
        ("start_qd_spread", (0.1,) * 7, "start_qd_spread: 7 numbers given, 6 accepted"),
        ("start_tilt", 0.1, "start_tilt: 0.1 given, 0 without a free first body accepted"),
        ("gear", "strong", "gear: 'strong' given"),
    ],
)
def test_a_robot_that_declares_what_does_not_fit_is_refused(attribute, value, message):
    wrong = type("Wrong", (HopperEnv,), {attribute: value})
    with pytest.raises(ArgumentError, match=f"^{message}"):
        wrong(num_envs=1)


@pytest.mark.parametrize("attribute", ["asset", "gear"])
def test_a_robot_without_a_declaration_is_refused_by_name(attribute, monkeypatch):
    monkeypatch.delattr(HopperEnv, attribute)
    with pytest.raises(ArgumentError, match=rf"^HopperEnv\.{attribute}: nothing given"):
        HopperEnv(num_envs=1)


def test_a_robot_starts_at_its_assets_rest_pose_unless_told():
    still = type("Still", (HopperEnv,), {"start_q_spread": 0.0, "start_qd_spread": (0.0,) * 6})
    state = still(num_envs=2).get_state()
    assert not state["joint_q"].any() and not state["joint_qd"].any()
