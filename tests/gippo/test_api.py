"""Training, loading and evaluating from Python."""

import math

import pytest
import torch

import gippo
import warp_envs
from examples.evolution_strategies import EvolutionStrategies
from gippo.configuration.run_config import load_config
from gippo.errors import UserError
from tests.warp_envs.toy import Spring
from warp_envs.checks import ArgumentError
from warp_envs.landscapes import DeJongEnv


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


def test_observations_that_are_not_finite_are_refused(trained):
    with pytest.raises(ArgumentError, match=r"obs: nan at \[1, 0\] given, finite numbers"):
        gippo.load_policy(trained.run_dir)(torch.tensor([[0.0] * 5, [math.nan] * 5]))


def test_classes_are_taken_where_another_process_would_find_them(tmp_path):
    class Local(DeJongEnv):
        name = "local"

    with pytest.raises(UserError, match=r"a module that is imported accepted; warp_envs.register"):
        gippo.train(env=Local)
    small = {"env.num_envs": 4, "learner.horizon": 1, "logger": []}
    run = gippo.train(
        small,
        env=Spring,
        algo=EvolutionStrategies,
        num_epochs=1,
        run_dir=tmp_path / "r",
        quiet=True,
    )
    config = load_config(run.run_dir)
    assert config.env["id"] == "tests.warp_envs.toy:Spring"
    assert config.algo.name == "examples.evolution_strategies:EvolutionStrategies"
    assert math.isnan(run.best_return)  # no episode has ended


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
    with pytest.raises(UserError, match="settings: 'cartpole' given, a mapping"):
        gippo.train("cartpole")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="env: 'ant' and 'dejong' given, one of them"):
        gippo.train({"env": "ant"}, env="dejong")
    for folder in (3, None, trained):
        with pytest.raises(ArgumentError, match=r"run_dir: .* given, the path of a run's folder"):
            gippo.load_policy(folder)
    with pytest.raises(UserError, match="checkpoint: 3 given"):
        gippo.load_policy(trained.run_dir, checkpoint=3)  # type: ignore[arg-type]
    file = trained.run_dir / "config.yaml"
    for use in (gippo.load_policy, lambda run: gippo.train(run_dir=str(run), quiet=True)):
        with pytest.raises(UserError, match=r"config.yaml' is a file; |is a file, "):
            use(file)
    with pytest.raises(ArgumentError, match="num_episodes: 0 given"):
        gippo.evaluate(trained.run_dir, num_episodes=0)
