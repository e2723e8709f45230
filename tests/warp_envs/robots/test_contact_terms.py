"""The ground's forces on bodies, and terms that read them."""

import numpy as np
import pytest
import torch

import warp_envs
from warp_envs.robots.base import asset_path

DOUBLE = torch.float64
ANT = asset_path("ant.usda")
FEET = [f"lower_leg{k}" for k in (1, 2, 3, 4)]


def make(num_envs=4, **options):
    options = {"reward": {"contact_forces": -1e-6}, **options}
    return warp_envs.make(
        "robot", asset=ANT, num_envs=num_envs, dtype=DOUBLE, gear=100.0, seed=0, compiled=False,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def standing():
    """An Ant that has come down and lies on its legs."""
    env = make(observe=["contact"])
    env.reset()
    with torch.no_grad():
        for _ in range(200):
            obs = env.step(torch.zeros(4, 8, dtype=DOUBLE))[0]
    return env, obs


def test_the_ground_carries_the_weight_of_a_robot_at_rest(standing):
    env, obs = standing
    weight = 9.81 * sum(body.mass for body in env.articulation.description.bodies)
    total = obs.reshape(4, -1, 3).sum(1)
    assert torch.allclose(total[:, 2], torch.full((4,), weight, dtype=DOUBLE), rtol=0.02)
    assert (total[:, :2].abs() < 0.05 * weight).all()


def test_forces_are_the_change_of_momentum_less_the_weight(standing):
    """In a state that moves and slides: forces of joints are inner ones."""
    env, _ = standing
    state = env.get_state()
    torch.manual_seed(1)
    state["joint_qd"] = 0.5 * torch.randn_like(state["joint_qd"])
    short = make(control_step=1e-7, substeps=1, observe=["contact"])
    short.reset()
    short.set_state({key: state[key] for key in ("joint_q", "joint_qd")})
    bodies = env.articulation.description.bodies
    masses = torch.tensor([body.mass for body in bodies], dtype=DOUBLE)
    kinematics = env._kinematics()

    def momentum():
        parts = short.get_state()
        _, body_qd, force = kinematics(parts["joint_q"], parts["joint_qd"])
        return (masses[:, None] * body_qd[..., :3]).sum(1), force

    before, force = momentum()
    short.step(2 * torch.rand(4, 8, dtype=DOUBLE) - 1)
    after, _ = momentum()
    wanted = (after - before) / 1e-7
    wanted[:, 2] += 9.81 * masses.sum()
    assert wanted.norm(dim=1).min() > 1.0, "nothing touched"
    assert torch.allclose(force.sum(1), wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max())


def test_only_what_touches_is_pushed(standing):
    env, _ = standing
    robot = env.articulation
    q = torch.tensor(robot.default_joint_q[None]).expand(4, -1).clone()
    lowest = robot.body_names.index(FEET[0])
    angle = 0.4 * np.sign(robot.body_poses(q)[0, lowest, 1].item())  # that side down
    q[:, 3:7] = torch.tensor([-np.sin(angle / 2), 0.0, 0.0, np.cos(angle / 2)], dtype=DOUBLE)
    kinematics = env._kinematics()
    for height in np.linspace(2.0, 0.2, 400):
        q[:, 2] = float(height)
        force = kinematics(q, torch.zeros(4, robot.nv, dtype=DOUBLE))[2][0, :, 2]
        if force.max() > 0:
            break
    touched = [robot.body_names[i] for i in torch.nonzero(force)[:, 0].tolist()]
    poses = robot.body_poses(q)[0]
    assert 1 <= len(touched) <= 2 and set(touched) <= set(FEET)
    others = [robot.body_names.index(foot) for foot in FEET if foot not in touched]
    mine = [robot.body_names.index(foot) for foot in touched]
    assert poses[mine, 2].max() < poses[others, 2].min()


def test_illegal_contact_ends_an_episode_and_air_time_is_paid_on_landing():
    env = make(
        reward={"air_time": {"body": FEET[2], "target": 0.1, "weight": 1}, "alive": 0},
        terminate={"illegal_contact": {"body": "torso", "limit": 5.0}},
    )
    env.reset()
    torch.manual_seed(0)
    paid, ended = torch.zeros(4, dtype=DOUBLE), torch.zeros(4, dtype=torch.bool)
    aloft = torch.zeros(4, dtype=DOUBLE)
    foot = env.articulation.body_names.index(FEET[2])
    torso = env.articulation.body_names.index("torso")
    kinematics = env._kinematics()
    for _ in range(60):
        with torch.no_grad():
            _, _, terminated, _, info = env.step(2 * torch.rand(4, 8, dtype=DOUBLE) - 1)
        state = env.get_state()
        force = kinematics(state["joint_q"], state["joint_qd"])[2][..., 2]
        down = force[:, foot] > 1.0
        landed = ~terminated & down & (aloft > 0)
        wanted = torch.where(landed, aloft + env.control_step - 0.1, 0.0)
        found = info["reward_terms"]["air_time"]
        assert torch.allclose(found[~terminated], wanted[~terminated])
        assert (force[:, torso][~terminated] <= 5.0).all()
        aloft = torch.where(terminated | down, 0.0, aloft + env.control_step)
        assert torch.allclose(state["air_time"][:, foot], aloft)
        paid += found.abs()
        ended |= terminated
    assert (paid > 0).any()


def test_a_task_in_torch_sees_forces_with_their_gradient(standing):
    class Stand:
        def observe(self, robot):
            return robot.contact[:, :, 2]

        def reward(self, robot):
            return -1e-3 * robot.contact[..., 2].sum(1)

    env, _ = standing
    torched = warp_envs.make(
        "robot", asset=ANT, num_envs=4, dtype=DOUBLE, gear=100.0, task=Stand, compiled=False, seed=0
    )
    state = env.get_state()
    torched.reset()
    torched.set_state({key: state[key] for key in ("joint_q", "joint_qd")})
    action = torch.full((4, 8), 0.1, dtype=DOUBLE, requires_grad=True)
    obs, reward, *_ = torched.step(action)
    assert torch.allclose(reward, -1e-3 * obs.sum(1))
    (gradient,) = torch.autograd.grad(reward.sum(), action)
    assert gradient.abs().max() > 0
