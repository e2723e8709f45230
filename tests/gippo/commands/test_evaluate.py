import json

import pytest

import gippo
from gippo.cli import main

SMALL = ("env.num_envs=4", "learner.actor.hidden=[4]", "learner.critic.hidden=[4]")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluate") / "runs" / "one"
    command = ["train", "env=dejong", "env.dim=2", *SMALL, "tensorboard=false", "num_epochs=3"]
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
