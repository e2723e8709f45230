"""Runs begun by a release that had other keys."""

import json
import shutil

import pytest
from omegaconf import OmegaConf

from gippo.cli import main
from gippo.configuration.run_config import load_config
from gippo.runs.checkpoint import read, write
from gippo.runs.metrics import read_metrics

SMALL = (
    *("env=dejong", "env.num_envs=4", "env.dim=2", "learner.horizon=4", "rollout.num_envs=0"),
    *("learner.actor.hidden=[4]", "learner.critic.hidden=[4]", "logger=[]"),
)
NEW = ("learner.critic.combine", "learner.staggered", "algo.ppo.retry.floor")
"""Keys that the release before knew nothing of."""


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of which six epochs are told and four kept, as if `NEW` had not been there yet."""
    run_dir = tmp_path_factory.mktemp("earlier") / "begun"
    command = ["train", *SMALL, "num_epochs=6", "checkpoint_every=2"]
    assert main([*command, f"run_dir={run_dir}"]) == 0
    (run_dir / "checkpoints" / "epoch_000006.pt").unlink()
    config = OmegaConf.load(run_dir / "config.yaml")
    for key in NEW:
        section, _, name = key.rpartition(".")
        del OmegaConf.select(config, section)[name]
    config.tensorboard, config.logger = False, ["tensorboard"]
    OmegaConf.save(config, run_dir / "config.yaml")
    for path in (run_dir / "checkpoints").iterdir():
        checkpoint = read(path)
        old = {k: v for k, v in json.loads(checkpoint["settings"]).items() if k not in NEW}
        write(path, {**checkpoint, "settings": json.dumps(old)})
    return run_dir


@pytest.fixture
def run_dir(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "run")


def test_new_settings_have_their_defaults_which_is_said(run_dir, capsys):
    before = read_metrics(run_dir)
    command = ["train", f"run_dir={run_dir}", "resume=true"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert all(key in said.partition("begun before there was")[2] for key in NEW)
    after = read_metrics(run_dir)
    for name in (name for name in before if name != "wall_time"):
        assert after[name].tolist() == pytest.approx(before[name].tolist(), rel=0, nan_ok=True)
    assert main([*command, "num_epochs=7"]) == 0
    assert "begun before" not in capsys.readouterr().out


def test_a_new_setting_that_the_configuration_says_otherwise_is_refused(run_dir, capsys):
    path = run_dir / "config.yaml"
    config = OmegaConf.load(path)
    config.learner.staggered = True
    OmegaConf.save(config, path)
    assert main(["train", f"run_dir={run_dir}", "resume=true"]) == 2
    assert "learner.staggered: trained with False, its default" in capsys.readouterr().err


def test_tensorboard_false_is_a_list_of_loggers_without_it(run_dir):
    assert load_config(run_dir).logger == []
    config = OmegaConf.load(run_dir / "config.yaml")
    config.tensorboard = True
    OmegaConf.save(config, run_dir / "config.yaml")
    assert load_config(run_dir).logger == ["tensorboard"]
    del config["logger"]
    OmegaConf.save(config, run_dir / "config.yaml")
    assert load_config(run_dir).logger == ["tensorboard"]
    config.tensorboard = "maybe"
    OmegaConf.save(config, run_dir / "config.yaml")
    with pytest.raises(ValueError, match="tensorboard: 'maybe' given, true or false accepted"):
        load_config(run_dir)


def test_a_setting_that_is_gone_keeps_no_policy_from_acting(run_dir, capsys):
    config = OmegaConf.load(run_dir / "config.yaml")
    config.algo.ppo.kl_limit = 0.1
    OmegaConf.save(config, run_dir / "config.yaml")
    assert main(["evaluate", str(run_dir), "num_episodes=2"]) == 0
    capsys.readouterr()
    assert main(["train", f"run_dir={run_dir}", "resume=true"]) == 2
    assert "config.yaml: algo.ppo.kl_limit: no such key in this release" in capsys.readouterr().err
