import json

import pytest
import torch

import gippo
from gippo.cli import main

SMALL = ("env.num_envs=4", "learner.actor.hidden=[4]", "learner.critic.hidden=[4]")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluate") / "runs" / "one"
    command = ["train", "env=dejong", "env.dim=2", *SMALL, "logger=[]", "num_epochs=3"]
    assert main([*command, f"run_dir={path}"]) == 0
    return path


def test_what_is_told_is_what_the_function_gives(run_dir, tmp_path, capsys):
    out = tmp_path / "found.json"
    assert main(["evaluate", str(run_dir), "num_episodes=20", f"out={out}"]) == 0
    said, found = capsys.readouterr().out, gippo.evaluate(run_dir, num_episodes=20)
    assert said.startswith("20 episodes: mean return ") and "95 % interval" in said
    told = json.loads(out.read_text())
    assert told["returns"] == found.returns and told["mean_return"] == found.mean
    assert told["ci95_return"] == list(found.interval) and told["std_return"] == found.std
    assert told["reward_terms"] == found.reward_terms
    assert (told["lengths"], told["num_diverged"]) == ([1] * 20, 0)


def test_another_environment_that_fits_and_one_that_does_not(run_dir, capsys):
    command = ["evaluate", str(run_dir), "num_episodes=1", "out=-"]
    assert main([*command, "env=ackley", "env.dim=2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["env"]["id"] == "ackley" and told["std_return"] is None
    assert main([*command, "env.dim=3"]) == 2
    assert "does not fit this environment" in capsys.readouterr().err
    assert main([*command, "env.dimm=3"]) == 2
    assert "env.dimm: no option given, one of ['dim'" in capsys.readouterr().err
    assert main(["evaluate"]) == 2
    assert "gippo evaluate RUN" in capsys.readouterr().err


def test_runs_are_listed_with_their_state(run_dir, capsys):
    (run_dir.parent / "odd").mkdir()
    (run_dir.parent / "odd" / "config.yaml").write_text("{")
    assert main(["list", str(run_dir.parent)]) == 0
    said = {line.split()[-1]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert said["finished"][1:5] == ["dejong", "gippo", "0", "3/3"]
    assert said["damaged"][0].endswith("odd")
    assert main(["list", "envs", "methods"]) == 0
    said = capsys.readouterr().out
    assert "envs: " in said and "cartpole" in said and "gippo" in said
    assert main(["list", "env"]) == 2
    assert "did you mean 'envs'" in capsys.readouterr().err


class Still:
    """A policy of one's own: it counts the episodes it is told of."""

    told = 0

    def __init__(self, env, *, action=0.0):
        self.env, self.action = env, action

    def __call__(self, obs, deterministic=True):
        return torch.full((self.env.num_envs, self.env.num_actions), self.action)

    def reset(self, ended):
        type(self).told += int(ended.sum())


def test_a_policy_made_by_hand_is_evaluated_without_a_run(capsys):
    command = ["evaluate", "policy=pi_saturation", "env=ring", "env.num_vehicles=3"]
    assert main([*command, "num_episodes=2", "out=-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["run"] is None and told["policy"] == "pi_saturation"
    assert told["lengths"] == [3000] * 2 and told["env"]["num_vehicles"] == 3
    options = {**told["env"], "max_episode_steps": 10}
    assert gippo.evaluate(policy="idm", env=options, num_episodes=3).lengths == [10] * 3


def test_ones_own_policy_and_its_options_on_a_run_s_environment(run_dir, capsys):
    own = f"policy={__name__}:Still"
    command = ["evaluate", str(run_dir), "num_episodes=2", "out=-", own]
    returns = []
    for action in (0.0, 0.5):
        assert main([*command, f"policy.action={action}"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["env"]["id"] == "dejong" and told["options"] == {"action": action}
        returns.append(told["returns"])
    assert returns[0] != returns[1]


def test_played_policies_are_told_of_ended_episodes(tmp_path, capsys):
    Still.told = 0
    command = ["play", f"policy={__name__}:Still", "env=cartpole", "num_envs=2"]
    assert main([*command, "num_steps=490", f"out={tmp_path / 'still.usdc'}"]) == 0
    assert Still.told == 4 and (tmp_path / "still.usdc").is_file()
    assert "4 episodes: mean return" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["policy=idm"], "policy=NAME env=NAME without a run"),
        (["policy=imd", "env=ring"], "policy: 'imd' given"),
        (["policy=idm", "env=ring", "policy.speed=1"], "policy.speed: no option given, none"),
        (["policy=follower_stopper", "env=ring", "policy.desired_sped=1"], "did you mean"),
        (["policy.action=1", "env=ring"], "policy.action: given without policy=NAME"),
        (["policy=idm", "env=cartpole"], "policy: HumanDriver for env=cartpole given"),
        (["policy=follower_stopper", "env=ring", "policy.desired_speed=0"], "desired_speed: 0"),
        (["policy=nowhere:Still", "env=ring"], "there is no 'nowhere'"),
        (["policy=3", "env=ring"], "policy: 3 given"),
    ],
)
def test_mistakes_about_policies_are_refused_by_name(arguments, said, capsys):
    assert main(["evaluate", *arguments, "num_episodes=1"]) == 2
    assert said in capsys.readouterr().err
