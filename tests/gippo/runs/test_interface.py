"""Training, loading and judging from Python."""

import math
from pathlib import Path

import pytest
import torch

import gippo
import warp_envs
from gippo.configuration.run_config import load_config
from gippo.environment import make_env
from gippo.runs.checkpoint import checkpoint_of, read
from gippo.runs.evaluation import Episodes
from gippo.runs.interface import _overrides
from gippo.runs.policy import Boundary, Policy

SMALL = {
    "tensorboard": False,
    "verbose": False,
    "rollout": {"num_envs": 0},
    "learner": {"actor": {"hidden": [4]}, "critic": {"hidden": [4]}},
    "env.num_envs": 4,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> gippo.Run:
    folder = tmp_path_factory.mktemp("python") / "run"
    return gippo.train(env="cartpole", algo="ppo", num_epochs=10, run_dir=str(folder), **SMALL)


def test_training_returns_the_runs_folder_and_numbers(run):
    assert (run.run_dir / "config.yaml").is_file()
    assert run.metrics["epoch"].tolist() == list(range(1, 11))
    assert run.best_return == run.metrics["best_return"][-1]
    assert load_config(run.run_dir).learner.actor.hidden == [4]


def test_a_run_goes_on_where_it_stopped(run):
    again = gippo.train(run_dir=run.run_dir, resume=True, verbose=False)
    assert len(again.metrics["epoch"]) == 10 and again.best_return == run.best_return


def test_mistakes_are_errors_that_name_the_key(tmp_path):
    for keys, said in (
        ({"algo.alpha.beta": 0.5}, r"algo\.alpha\.beta: 0\.5 given"),
        ({"seeed": 1}, "seeed: no such key; did you mean 'seed'"),
        ({"seed": {1, 2}}, r"seed: \{1, 2\} given, None, a bool"),
    ):
        with pytest.raises(ValueError, match=said):
            gippo.train(env="dejong", run_dir=str(tmp_path / "run"), verbose=False, **keys)
    assert not (tmp_path / "run").exists()


def test_keys_are_written_as_the_command_line_has_them():
    keys = {
        "env": "ant",
        "resume": False,
        "num_threads": None,
        "run_dir": Path('a b="c'),
        "learner": {"actor": {"hidden": [8, 4]}, "gamma": 1e-3},
    }
    assert list(_overrides(keys)) == [
        "env=ant",
        "resume=false",
        "num_threads=null",
        'run_dir="a b=\\"c"',
        "learner.actor.hidden=[8,4]",
        "learner.gamma=0.001",
    ]


def test_a_loaded_policy_is_the_runs_and_needs_no_environment(run, monkeypatch):
    env = make_env(load_config(run.run_dir).env, num_envs=5)
    obs, _ = env.reset(seed=3)
    state = read(checkpoint_of(run.run_dir, "best"))["learner"]
    config = load_config(run.run_dir).learner_config
    expected = Policy(Boundary.of(env), config, state, 0).act(obs)
    monkeypatch.setattr(warp_envs, "make", None)
    policy = gippo.load_policy(run.run_dir)
    assert (policy.num_obs, policy.num_actions) == (5, 1)
    assert torch.equal(policy(obs), expected) and expected.abs().max() > 0.0
    noisy = policy(obs, deterministic=False)
    assert not torch.equal(noisy, expected)
    assert torch.equal(gippo.load_policy(run.run_dir)(obs, deterministic=False), noisy)


def test_a_folder_without_a_run_has_no_policy(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        gippo.load_policy(tmp_path)


def test_every_copy_plays_the_episodes_that_are_its_own(run):
    told = gippo.evaluate(run.run_dir, num_episodes=3, seed=1)
    assert told.lengths == [240, 240, 240] and len(told.returns) == 3
    assert told.mean == pytest.approx(sum(told.returns) / 3)
    assert told.std > 0.0
    assert gippo.evaluate(run.run_dir, num_episodes=3, seed=1) == told
    assert gippo.evaluate(run.run_dir, num_episodes=3, seed=2) != told
    with pytest.raises(ValueError, match="num_episodes: 0 given"):
        gippo.evaluate(run.run_dir, num_episodes=0)


def test_the_spread_of_one_episode_is_not_a_number():
    assert math.isnan(gippo.Evaluation([1.0], [2]).std)


def test_episodes_are_counted_by_environment():
    episodes = Episodes(2)
    for reward, done in (([1.0, 2.0], [False, True]), ([3.0, 5.0], [True, False])):
        episodes.count(torch.tensor(reward), torch.tensor(done))
    assert episodes.returns == [[4.0], [2.0]] and episodes.lengths == [[2], [1]]
    assert episodes.under_way.tolist() == [0.0, 5.0]


def test_the_package_names_what_it_imports_when_asked():
    for name in gippo.__all__:
        assert name in dir(gippo) and getattr(gippo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = gippo.trian
