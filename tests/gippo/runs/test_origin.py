"""Runs that start from others, and runs that go on for longer than they were to."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from gippo.cli import main
from gippo.configuration.derived import configure_training
from gippo.configuration.run_config import load_config, save_config
from gippo.environment import make_env
from gippo.learner import Learner
from gippo.runs.checkpoint import checkpoint_of, read
from gippo.runs.metrics import read_metrics
from gippo.runs.origin import describe_origin, start_from, told
from gippo.runs.trainer import Trainer

SMALL = (
    *("env=dejong", "env.num_envs=4", "env.dim=2", "learner.horizon=4", "seed=3"),
    *("learner.actor.hidden=[4]", "learner.critic.hidden=[4]", "logger=[]"),
)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("origin") / "seed=3"
    assert main(["train", *SMALL, "num_epochs=4", f"run_dir={run_dir}"]) == 0
    return run_dir


def changes(run_dir):
    return [json.loads(line) for line in (run_dir / "changes.jsonl").read_text().splitlines()]


def numbers(run_dir):
    return {k: v.tolist() for k, v in read_metrics(run_dir).items() if k != "wall_time"}


def learner_of(config):
    env = make_env(config.env, device="cpu", seed=config.seed)
    settings = (config.learner_config, config.method_config)
    return Learner(env, *settings, num_epochs=config.num_epochs, seed=9)


def test_networks_and_normalisers_are_taken_over_and_nothing_else(first):
    learner = learner_of(load_config(first))
    before, source = learner.state_dict(), read(checkpoint_of(first, "best"))["learner"]
    assert start_from(learner, checkpoint_of(first, "best")) == []
    state = learner.state_dict()
    for part in ("actor", "obs_statistics"):
        for name, value in source[part].items():
            assert torch.equal(torch.as_tensor(state[part][name]), torch.as_tensor(value))
    for name, weight in source["critic"]["target"].items():
        assert torch.equal(state["critic"]["target"][name], weight)
    assert (state["epoch"], state["env_steps"]) == (0, 0)
    assert torch.equal(state["generator"], before["generator"])
    assert float(state["critic"]["optimizer"]["moments"]["exp_avg"].abs().max()) == 0.0


def test_a_run_from_another_has_its_values_and_records_what_differs(first, tmp_path, capsys):
    second = tmp_path / "second"
    given = ["algo.alpha.alpha_0=0.25", "num_epochs=3"]
    assert main(["train", f"from={first}", f"run_dir={second}", *given]) == 0
    assert f"from {first}/checkpoints/best.pt" in capsys.readouterr().out
    config = load_config(second)
    assert (config.seed, config.env["dim"], config.learner.horizon) == (3, 2, 4)
    assert (config.algo.alpha.alpha_0, config.num_epochs) == (0.25, 3)
    (change,) = changes(second)
    was = load_config(first).algo.alpha.alpha_0
    assert change["changed"] == {"algo.alpha.alpha_0": [was, 0.25], "num_epochs": [4, 3]}
    assert numbers(second)["epoch"] == [1, 2, 3]


def test_a_method_chosen_anew_is_told_without_what_only_one_of_the_two_has(first):
    config = configure_training([f"from_run={first}", "algo=ppo", "seed=5"])
    change = describe_origin(config, checkpoint_of(first, "best"))
    assert change["changed"]["algo.learning_rate"][0] is None
    line = told(change)
    assert "algo.name gippo -> ppo" in line and "seed 3 -> 5" in line
    assert "algo.learning_rate" not in line and "None" not in line


def test_an_option_that_must_be_given_is_the_runs_or_the_command_lines(tmp_path):
    robot = str(Path(__file__).parents[3] / "assets" / "cartpole.usda")
    config = configure_training(["env=robot", f"env.asset={robot}", "env.num_envs=3"])
    save_config(config, tmp_path / "config.yaml")
    for given in (["algo=ppo"], ["env=robot", f"env.asset={robot}"], ["env.gear=2"]):
        changed = configure_training([f"from_run={tmp_path}", *given])
        assert Path(changed.env["asset"]) == Path(robot)
        assert changed.algo.name == ("ppo" if given == ["algo=ppo"] else "gippo")
    resumed = configure_training([f"run_dir={tmp_path}", "resume=true", "env=robot"])
    assert resumed.env == config.env, "what it is may be said"


def test_a_method_chosen_anew_has_its_own_values(first, tmp_path):
    second = tmp_path / "second"
    given = ["algo=ppo", "algo.learning_rate=1e-4", "num_epochs=2", "rollout.num_envs=0"]
    assert main(["train", f"from={first}", f"run_dir={second}", *given]) == 0
    config = load_config(second)
    assert (config.algo.name, config.algo.learning_rate, config.env["dim"]) == ("ppo", 1e-4, 2)


def test_killed_before_a_checkpoint_it_starts_from_its_own_copy(first, tmp_path, monkeypatch):
    source, whole, torn = (tmp_path / name for name in ("source", "whole", "torn"))
    shutil.copytree(first, source)
    for run_dir in (whole, torn):
        with monkeypatch.context() as patch:
            if run_dir == torn:
                patch.setattr(Trainer, "_save", lambda self, log: (_ for _ in ()).throw(SystemExit))
                with pytest.raises(SystemExit):
                    main(["train", f"from={source}", f"run_dir={run_dir}"])
            else:
                assert main(["train", f"from={source}", f"run_dir={run_dir}"]) == 0
    shutil.rmtree(source)
    assert main(["train", f"run_dir={torn}", "resume=true"]) == 0
    assert numbers(torn) == numbers(whole) != numbers(first)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["from=nowhere"], "from: 'nowhere' given"),
        (["from={first}", "env.dim=3"], "does not fit this run"),
        (["from={first}", "learner.actor.hidden=[5]"], "does not fit this run"),
        (["from={first}", "env.dimm=3"], "env.dim"),
        (["from={first}", "seed=-1"], "seed: -1"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    arguments, said, first, tmp_path, capsys
):
    second = tmp_path / "second"
    told = [text.format(first=first) for text in arguments]
    assert main(["train", *told, f"run_dir={second}"]) == 2
    assert said in capsys.readouterr().err
    assert not second.exists()


def test_another_critic_is_trained_anew(first, tmp_path, capsys):
    given = [f"from={first}", f"run_dir={tmp_path / 'second'}", "learner.critic.hidden=[5]"]
    assert main(["train", *given, "num_epochs=1"]) == 0
    assert "its critic does not fit" in capsys.readouterr().out


def test_a_finished_run_goes_on_for_longer(first, tmp_path, capsys):
    run_dir = tmp_path / "longer"
    shutil.copytree(first, run_dir)
    command = ["train", f"run_dir={run_dir}", "resume=true"]
    assert main([*command, "num_epochs=6"]) == 0
    assert numbers(run_dir)["epoch"] == [1, 2, 3, 4, 5, 6]
    assert load_config(run_dir).num_epochs == 6
    assert changes(run_dir) == [{"epoch": 4, "changed": {"num_epochs": [4, 6]}}]
    assert main([*command, "num_epochs=5"]) == 2
    assert "num_epochs: 5 given" in capsys.readouterr().err
