import pytest
import torch

pytest.importorskip("rsl_rl", reason="rsl_rl is not installed: pip install 'gippo[adapters]'")

from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner

import warp_envs
from warp_envs.adapters.rsl_rl import RslRlVecEnv

from .toy import STEPS, actions, springs


def test_it_steps_as_the_environment_does():
    env, twin = springs()
    adapted = RslRlVecEnv(env)
    assert isinstance(adapted, VecEnv)
    assert (adapted.num_envs, adapted.num_actions, adapted.max_episode_length) == (3, 1, STEPS)
    assert torch.equal(adapted.get_observations()["policy"], twin.observe())
    for action in actions():
        obs, reward, dones, _ = adapted.step(action)
        expected = twin.step(action)
        assert torch.equal(obs["policy"], expected[0])
        assert torch.equal(reward, expected[1])
        assert torch.equal(dones.bool(), expected[2] | expected[3])


def test_only_the_time_limit_is_a_time_out():
    adapted = RslRlVecEnv(springs()[0])
    steps = [adapted.step(action) for action in actions()]
    assert steps[0][2].tolist() == [1, 0, 0]
    assert steps[0][3]["time_outs"].tolist() == [0.0, 0.0, 0.0]
    assert steps[-1][2].tolist() == [0, 1, 1]
    assert steps[-1][3]["time_outs"].tolist() == [0.0, 1.0, 1.0]


def test_an_end_at_the_time_limit_is_no_time_out():
    env, _ = springs()
    env.set_state({"step_count": torch.full((3,), STEPS - 1, dtype=torch.int32)})
    _, _, dones, extras = RslRlVecEnv(env).step(actions()[0])
    assert dones.tolist() == [1, 1, 1]
    assert extras["time_outs"].tolist() == [0.0, 1.0, 1.0]


def test_episode_lengths_can_be_set():
    adapted = RslRlVecEnv(springs()[0])
    adapted.episode_length_buf = torch.tensor([0, 1, STEPS - 1])
    assert adapted.episode_length_buf.tolist() == [0, 1, STEPS - 1]
    assert adapted.step(torch.zeros(3, 1))[3]["time_outs"].tolist() == [0.0, 0.0, 1.0]


def test_no_gradient_is_kept():
    adapted = RslRlVecEnv(springs()[0])
    obs, reward, _, extras = adapted.step(torch.zeros(3, 1, requires_grad=True))
    assert not obs["policy"].requires_grad and not reward.requires_grad
    assert set(extras["log"]) == {"/reward/position", "/reward/effort", "/diverged"}


def test_its_runner_trains_and_the_environment_can_be_used_afterwards(tmp_path):
    torch.manual_seed(0)
    env = warp_envs.make("cartpole", num_envs=16)
    network = {"class_name": "MLPModel", "hidden_dims": [16], "activation": "elu"}
    policy = {"class_name": "GaussianDistribution", "init_std": 1.0, "std_type": "scalar"}
    config = {
        "num_steps_per_env": 8,
        "save_interval": 100,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": {**network, "distribution_cfg": policy},
        "critic": network,
        "algorithm": {"class_name": "PPO"},
    }
    runner = OnPolicyRunner(RslRlVecEnv(env), config, log_dir=None, device="cpu")
    before = [p.detach().clone() for p in runner.alg.actor.parameters()]
    runner.learn(2, init_at_random_ep_len=True)
    after = list(runner.alg.actor.parameters())
    assert all(bool(torch.isfinite(p).all()) for p in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    # The runner steps in inference mode, whose tensors autograd refuses.
    env.reset()
    action = torch.zeros(16, 1, requires_grad=True)
    env.step(action)[1].sum().backward()
    assert action.grad.abs().min() > 0


def test_a_critic_that_is_told_of_draws_has_a_group_of_its_own():
    drawn = {"randomize": {"mass": {"scale": [0.8, 1.2]}}, "randomize_observed": "critic"}
    env = warp_envs.make("cartpole", num_envs=3, max_episode_steps=2, **drawn)
    adapted = RslRlVecEnv(env)
    first = adapted.get_observations()
    for _ in range(2):
        obs, *_ = adapted.step(torch.zeros(3, 1))
    assert obs["critic"].shape == (3, env.num_obs + env.num_privileged)
    assert torch.equal(obs["critic"][:, : env.num_obs], obs["policy"])
    assert torch.equal(obs["critic"][:, env.num_obs :], env.observe_privileged())
    assert not torch.equal(first["critic"][:, env.num_obs :], env.observe_privileged())
