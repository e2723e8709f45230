"""Gymnasium's robots as tasks of terms, held against Gymnasium's own functions."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from numpy.testing import assert_allclose

import warp_envs
from tests.kernels.articulation import mujoco_reference  # noqa: F401  # skips without MuJoCo
from warp_envs.usd.description import rotation_matrix

CONFIGS = Path(__file__).parents[3] / "configs" / "env" / "gym"
NAMES = {
    "half_cheetah": "HalfCheetah-v5",
    "walker2d": "Walker2d-v5",
    "hopper": "Hopper-v5",
    "humanoid": "Humanoid-v5",
}
ENVS, STEPS = 6, 24


def settings(name):
    given = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return {key: value for key, value in given.items() if key not in ("defaults", "id")}


def make(name, **changes):
    return warp_envs.make(
        "robot", num_envs=ENVS, seed=0, dtype=torch.float64, compiled=False, substeps=4,
        **{**settings(name), **changes},
    )  # fmt: skip


def judge_of(name):
    options = {}
    if name == "humanoid":
        parts = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
        options = {f"include_{part}_in_observation": False for part in parts}
        options["contact_cost_weight"] = 0.0
    return gymnasium.make(NAMES[name], **options).unwrapped


def take(judge, q, qd, com):
    """Put a state of ours into Gymnasium's simulator."""
    q, qd = q.copy(), qd.copy()
    if judge.model.nq > judge.model.nv:  # a free base: v of its origin, omega in its own axes
        x, y, z, w = q[3:7]
        turn = rotation_matrix([x, y, z, w])
        qd[:3] -= np.cross(qd[3:6], turn @ com)
        qd[3:6] = turn.T @ qd[3:6]
        q[3:7] = [w, x, y, z]
    judge.set_state(q, qd)


def observed(judge):
    """Gymnasium's observation, quaternions as ours."""
    obs = judge._get_obs()
    if judge.model.nq > judge.model.nv:
        obs[1:5] = np.roll(obs[1:5], -1)
    return obs


def way(judge):
    """What Gymnasium takes the forward velocity from."""
    if judge.model.nq == judge.model.nv:
        return judge.data.qpos[0]
    mass = judge.model.body_mass
    return float(mass @ judge.data.xipos[:, 0] / mass.sum())


@pytest.mark.parametrize("name", NAMES)
def test_rewards_ends_and_observations_are_gymnasiums(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs what it warns of in the working directory
    env, judge = make(name), judge_of(name)
    endless = make(name, terminate=None)  # which shows the state that the other one leaves
    assert env.control_step == pytest.approx(judge.dt)
    assert env.num_actions == judge.model.nu
    judge.reset(seed=0)
    com = env.articulation.description.bodies[0].com
    full = judge.action_space.high[0]
    torch.manual_seed(0)
    env.reset()
    endless.reset()
    ended = np.zeros(2)
    for step in range(STEPS):
        state = env.get_state()
        if step % 4 == 0:  # faster, and further from where it stands
            state["joint_qd"] += 4.0 * torch.randn_like(state["joint_qd"])
            env.set_state(state)
        before = [state[key].numpy().copy() for key in ("joint_q", "joint_qd")]
        action = 2.4 * torch.rand(ENVS, env.num_actions, dtype=torch.float64) - 1.2
        endless.set_state({key: state[key] for key in ("joint_q", "joint_qd", "last_action")})
        _, reward, terminated, _, info = env.step(action)
        endless.step(action)
        after = [endless.get_state()[key].numpy() for key in ("joint_q", "joint_qd")]
        for k in range(ENVS):
            take(judge, before[0][k], before[1][k], com)
            start = way(judge)
            take(judge, after[0][k], after[1][k], com)
            u = full * action[k].clamp(-1, 1).numpy()
            judge.data.ctrl[:] = u
            wanted, _ = judge._get_rew((way(judge) - start) / judge.dt, u)
            healthy = bool(getattr(judge, "is_healthy", True))
            assert bool(terminated[k]) == (not healthy)
            assert reward[k].item() == pytest.approx(wanted, rel=1e-6, abs=1e-6)
            assert_allclose(info["final_obs"][k].numpy(), observed(judge), atol=1e-6)
            ended[int(healthy)] += 1
    assert ended[1] > 20 and (ended[0] > 1 or name == "half_cheetah")
