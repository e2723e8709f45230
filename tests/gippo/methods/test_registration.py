"""Methods and environments of one's own: by reference on the command line, registered by name."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import gippo
from gippo import methods
from gippo.cli import main
from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig, algo_schema, load_config
from gippo.methods.ppo import PPO
from gippo.updates.surrogate import PPOConfig
from warp_envs.checks import ArgumentError

METHOD = """
from dataclasses import dataclass
from gippo.methods.ppo import PPO
from gippo.updates.surrogate import PPOConfig
from warp_envs.landscapes import DeJongEnv


@dataclass
class ShyConfig(PPOConfig):
    shyness: float = 0.5
    \"\"\"How little it dares.\"\"\"


class Shy(PPO):
    name = "shy"
    config_class = ShyConfig


class Shared(PPO):
    name = "shared"


class ValleyEnv(DeJongEnv):
    name = "valley"

    def __init__(self, *, dim: int = 2, **options):
        \"\"\"Args:
            dim: how many valleys,
                side by side.
        \"\"\"
        super().__init__(dim=dim, **options)
"""
SMALL = ["num_epochs=2", "logger=[]", "env.num_envs=4", "learner.critic.hidden=[4]"]


@dataclass
class OwnConfig(PPOConfig):
    """Of the class below."""


class Own(PPO):
    """PPO by another name."""

    name = "own"
    config_class = OwnConfig


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(methods, "_others", {})


@pytest.fixture
def folder(tmp_path, monkeypatch, known) -> Path:
    name = f"own_{tmp_path.name}"  # a module is imported once in a process
    (tmp_path / f"{name}.py").write_text(METHOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path / name


def test_a_method_and_an_environment_from_the_folder_at_hand_train_and_resume(folder, capsys):
    arguments = [f"env={folder.name}:ValleyEnv", f"algo={folder.name}:Shy", *SMALL, "run_dir=run"]
    assert main(["train", *arguments, "env.dim=3"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"no preset of {folder.name}:ValleyEnv for {folder.name}:Shy" in said
    config = load_config(Path("run"))
    assert (config.env["id"], config.env["dim"]) == (f"{folder.name}:ValleyEnv", 3)
    assert config.algo.name == f"{folder.name}:Shy" and config.algo.shyness == 0.5
    capsys.readouterr()
    assert main(["train", "run_dir=run", "resume=true"]) == 0
    assert capsys.readouterr().out.startswith("run is finished: 2 epochs, best return -")
    assert main(["play", "run_dir=run", "num_envs=2", "num_steps=2", "out=null"]) == 0
    assert len(gippo.evaluate("run", num_episodes=2).returns) == 2
    assert gippo.load_policy("run").num_actions == 3


def test_keys_and_mistakes_of_ones_own_are_told_as_those_of_others(folder, capsys):
    chosen = [f"env={folder.name}:ValleyEnv", f"algo={folder.name}:Shy"]
    assert main(["train", *chosen, "--keys"]) == 0
    text = capsys.readouterr().out
    assert "algo.shyness=0.5" in text and "How little it dares." in text
    assert "env.dim=2          How many valleys, side by side.\n" in text
    assert "env.num_envs=64    Copies.\n" in text
    assert main(["train", *chosen, "--help"]) == 0
    assert text in capsys.readouterr().out
    assert main(["train", *chosen, "algo.shynes=1"]) == 2
    assert "did you mean 'algo.shyness'" in capsys.readouterr().err
    assert main(["train", *chosen, "env.dimm=1"]) == 2
    assert "did you mean 'env.dim'" in capsys.readouterr().err
    assert main(["train", f"algo={folder.name}:Shyy"]) == 2
    assert "did you mean 'Shy'" in capsys.readouterr().err
    assert main(["train", f"algo={folder.name}:Shared"]) == 2
    assert "PPOConfig is that of 'ppo': derive one from it" in capsys.readouterr().err


def test_what_a_run_was_made_with_is_needed_only_where_it_is_used(folder, capsys):
    arguments = [f"env={folder.name}:ValleyEnv", f"algo={folder.name}:Shy", *SMALL]
    assert main(["train", *arguments, "run_dir=run"]) == 0
    other = [*SMALL, f"algo={folder.name}:Shy", "rollout.num_envs=0"]
    assert main(["train", "env=dejong", *other, "run_dir=runs/named", "algo.shyness=0.25"]) == 0
    file = Path("runs/named/config.yaml")  # as a run whose method was registered in its process
    file.write_text(file.read_text().replace(f"{folder.name}:Shy", "shy"))
    capsys.readouterr()
    Path(f"{folder}.py").rename("elsewhere.py")
    methods._others.clear()
    algo_schema.cache_clear()
    del sys.modules[folder.name]
    assert gippo.load_policy("run").num_actions == 2  # neither method nor environment
    assert main(["plot", "run_dirs=[run,runs]"]) == 0
    assert "shy" in capsys.readouterr().out
    assert len(gippo.evaluate("runs/named", num_episodes=2).returns) == 2
    assert main(["play", "run_dir=runs/named", "num_steps=2", "out=null"]) == 0
    for run_dir, parts in {
        "run": ("algo.name", folder.name, "goes on where its method can be imported"),
        "runs/named": ("algo.name: 'shy' given", "gippo.register_method"),
    }.items():
        capsys.readouterr()
        assert main(["train", f"run_dir={run_dir}", "resume=true"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and all(part in said for part in parts), said
    assert main(["play", "run_dir=run"]) == 2
    said = capsys.readouterr().err
    assert "env.id" in said and "folder that commands are started from" in said


def test_a_registered_method_is_chosen_by_name(known):
    gippo.register_method("own", Own)
    assert "own" in methods.method_names()
    config = configure("train", TrainConfig, ["algo=own", "algo.clip=0.1"])
    assert type(config.method_config) is OwnConfig and config.method_config.clip == 0.1
    assert methods.method_of(OwnConfig()) is Own
    gippo.register_method("own", Own)  # once more is no mistake


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("ppo", Own, "name: 'ppo' given, a name that is not taken"),
        ("ppo", "nowhere:Own", "name: 'ppo' given, a name that is not taken"),
        ("Own", Own, "name: 'Own' given, lower-case"),
        ("own", dict, "method: 'dict' given, a subclass of gippo.Method"),
        ("own", "nowhere:Own", "method: 'nowhere:Own' given, a module that can be imported"),
    ],
)
def test_what_cannot_be_registered_is_named(name, method, message, known):
    with pytest.raises(ArgumentError, match=message):
        gippo.register_method(name, method)
    assert "own" not in methods.method_names()
