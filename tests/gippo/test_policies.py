"""The trained policies that come with gippo, by their names."""

import json
import re

import pytest

import gippo
from gippo.cli import main
from gippo.configuration.actors import read_actor
from gippo.configuration.policies import policies_dir, trained_policies
from gippo.configuration.run_config import load_config

NAMES = list(trained_policies())


def test_there_are_some_and_the_table_has_each_of_them():
    page = (policies_dir() / "README.md").read_text(encoding="utf-8")
    table = page.partition("<!-- table -->")[2].partition("<!-- end of table -->")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == NAMES
    assert {"cartpole", "ant", "hopper"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_whole(name):
    policy = gippo.load_policy(trained_policies()[name])
    assert policy.num_obs > 0 and policy.num_actions > 0
    assert load_config(trained_policies()[name]).run_dir is None


def test_a_name_brings_its_environment_and_does_what_its_table_says(capsys):
    assert main(["evaluate", "policy=cartpole", "num_episodes=20", "out=-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["run"], told["policy"], told["env"]["id"]) == (None, "cartpole", "cartpole")
    table = (policies_dir() / "README.md").read_text(encoding="utf-8")
    (stated,) = re.findall(r"^\| `cartpole` .*\| (-?[\d.]+) ± [\d.]+ \|", table, re.MULTILINE)
    assert told["mean_return"] == pytest.approx(float(stated), rel=0.1)
    assert gippo.evaluate(policy="cartpole", num_episodes=20).returns == told["returns"]


def test_it_acts_in_another_environment_and_in_a_run_s_place(tmp_path, capsys):
    run = tmp_path / "run"
    small = ["env.num_envs=2", "learner.actor.hidden=[4]", "learner.critic.hidden=[4]"]
    command = ["train", "env=cartpole", *small, "env.action_delay=1", "num_epochs=1"]
    assert main([*command, "rollout.num_envs=0", f"run_dir={run}"]) == 0
    capsys.readouterr()
    command = ["evaluate", "policy=cartpole", "num_episodes=2", "out=-"]
    for more in ([str(run)], ["env=cartpole", "env.action_delay=1"], ["env.action_delay=1"]):
        assert main([*command, *more]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["env"]["action_delay"] == 1 and told["mean_return"] > -1000
    assert main(["evaluate", "policy=cartpole", "env=dejong"]) == 2
    assert "does not fit this environment" in capsys.readouterr().err


def test_its_motion_is_recorded_and_filmed(tmp_path, capsys):
    motion, film = tmp_path / "cartpole.usdc", tmp_path / "cartpole.gif"
    command = ["play", "policy=cartpole", "num_envs=2", "num_steps=24"]
    assert main([*command, f"out={motion}"]) == 0
    assert main(["view", str(motion), f"out={film}", "fps=10"]) == 0
    assert film.read_bytes()[:3] == b"GIF"


def test_it_is_exported_by_its_name(tmp_path, capsys):
    assert main(["export", "policy=cartpole", str(tmp_path / "cartpole.pt")]) == 0
    said = capsys.readouterr().out
    assert "gippo on cartpole" in said and "checked on 1000 observations" in said


def test_another_run_starts_from_it(tmp_path, capsys):
    folder = trained_policies()["cartpole"]
    command = ["train", f"from={folder}", "num_epochs=1", "rollout.num_envs=0"]
    assert main([*command, "env.num_envs=2", f"run_dir={tmp_path / 'run'}"]) == 0
    assert "its critic does not fit; a new one is trained" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["policy=antt"], "did you mean 'ant'"),
        (["policy=cartpole", "policy.gain=1"], "policy.gain: no option given, none accepted"),
        (["policy=cartpole", "checkpoint=newest"], "checkpoint: 'newest' given, none"),
        (["policy=idm"], "policy=NAME env=NAME without a run"),
    ],
)
def test_mistakes_are_refused_by_name(arguments, said, capsys):
    assert main(["evaluate", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_they_are_listed(capsys):
    assert main(["list", "policies"]) == 0
    said = capsys.readouterr().out
    assert "traffic: idm, " in said and f"trained policies: {', '.join(NAMES)}" in said
    assert str(policies_dir()) in said


def test_a_policy_in_another_environment_than_its_own_is_told_of():
    (said,) = read_actor("evaluate", ["policy=ant", "env=ant_dflex"])[0].notes
    assert "ant was trained in 'ant' and acts in 'ant_dflex'" in said
    assert read_actor("evaluate", ["policy=ant"])[0].notes == []
    assert read_actor("evaluate", ["policy=ant", "env.observation_noise=0.1"])[0].notes == []
    assert read_actor("evaluate", ["policy=idm", "env=merge"])[0].notes == []
