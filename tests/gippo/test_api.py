"""Training, loading and evaluating from Python."""

import math

import pytest
import torch

import gippo
import warp_envs
from gippo.errors import UserError
from warp_envs.checks import ArgumentError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "a run"
    settings = {"rollout.num_envs": 0, "learner.actor.hidden": [8], "env.num_envs": 4}
    return gippo.train(
        settings, env="cartpole", num_epochs=2, seed=1, run_dir=str(folder), quiet=True
    )


def test_a_run_is_trained_as_the_command_trains_it(trained):
    assert trained.status == 0
    assert trained.metrics["epoch"].tolist() == [1, 2]
    assert (trained.run_dir / "checkpoints").is_dir()


def test_a_policy_acts_without_an_environment(trained):
    policy = gippo.load_policy(trained.run_dir)
    obs = torch.randn(7, policy.num_obs)
    assert policy(obs).shape == (7, 1)
    assert torch.equal(policy(obs), policy(obs))
    assert not torch.equal(policy(obs, deterministic=False), policy(obs, deterministic=False))
    torch.testing.assert_close(policy(obs)[3:4], policy(obs[3:4]))
    for wrong in (obs[0], obs.double(), obs[:, :2], obs.numpy()):
        with pytest.raises(ArgumentError, match=r"obs: .* given"):
            policy(wrong)


def test_an_evaluation_counts_each_copy_s_first_episode(trained):
    evaluation = gippo.evaluate(trained.run_dir, num_episodes=3, seed=5)
    assert evaluation.lengths == [240, 240, 240]
    env = warp_envs.make("cartpole", num_envs=3, seed=5)
    policy, total = gippo.load_policy(trained.run_dir), torch.zeros(3, dtype=torch.float64)
    obs, _ = env.reset(seed=5)
    for _ in range(240):
        obs, reward, *_ = env.step(policy(obs))
        total += reward.detach()
    assert evaluation.returns == total.tolist()
    assert evaluation.mean == pytest.approx(total.mean().item())
    assert sum(evaluation.reward_terms.values()) == pytest.approx(evaluation.mean, rel=1e-5)
    low, high = evaluation.interval
    assert low < evaluation.mean < high
    assert math.isnan(gippo.evaluate(trained.run_dir, num_episodes=1).std)


def test_episodes_do_not_depend_on_how_many_run_at_once(trained, monkeypatch):
    together = gippo.evaluate(trained.run_dir, num_episodes=3)
    monkeypatch.setattr("gippo.runs.evaluation.AT_ONCE", 2)
    parted = gippo.evaluate(trained.run_dir, num_episodes=3)
    assert parted.returns == pytest.approx(together.returns, rel=1e-5)
    assert parted.reward_terms == pytest.approx(together.reward_terms, rel=1e-5)
    assert parted.lengths == together.lengths


def test_mistakes_are_refused_by_name(trained, tmp_path):
    with pytest.raises(UserError, match="num_epoch: no such key; did you mean 'num_epochs'"):
        gippo.train(env="cartpole", num_epoch=2)
    with pytest.raises(UserError, match="is not empty"):
        gippo.train(env="cartpole", run_dir=str(trained.run_dir), quiet=True)
    with pytest.raises(UserError, match="holds no run"):
        gippo.load_policy(tmp_path)
    with pytest.raises(ArgumentError, match="num_episodes: 0 given"):
        gippo.evaluate(trained.run_dir, num_episodes=0)
