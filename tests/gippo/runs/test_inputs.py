"""A run keeps the files that it is made of: taken elsewhere, or with others in their place."""

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from gippo.cli import main
from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig, load_config
from gippo.runs.comparison import gather
from gippo.runs.inputs import check_inputs, keep_inputs

ASSETS = Path(__file__).parents[3] / "assets"
SMALL = (
    "env.num_envs=2",
    "learner.horizon=2",
    "learner.actor.hidden=[4]",
    "learner.critic.hidden=[4]",
    "logger=[]",
    "rollout.num_envs=0",
)
PARTS = '#usda 1.0\n(\n    subLayers = [@./parts/cartpole.usda@]\n    defaultPrim = "cartpole"\n)\n'


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a robot of two layers, and two runs of it begun there."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "parts").mkdir()
    shutil.copy(ASSETS / "cartpole.usda", folder / "parts" / "cartpole.usda")
    (folder / "robot.usda").write_text(PARTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in (0, 1):
            robot = ["env=robot", "env.asset=robot.usda", f"seed={seed}", "num_epochs=1"]
            assert main(["train", *robot, *SMALL, f"run_dir=run{seed}"]) == 0
    return folder


def test_the_run_holds_its_robot_with_all_that_it_refers_to(home):
    kept = home / "run0" / "inputs"
    names = sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file())
    assert names == ["asset/parts/cartpole.usda", "asset/robot.usda", "inputs.json"]
    assert OmegaConf.load(home / "run0" / "config.yaml").env.asset == "inputs/asset/robot.usda"


def test_it_plays_wherever_it_is_taken_and_goes_on_whatever_lies_there(
    home, tmp_path, monkeypatch, capsys
):
    run = shutil.move(shutil.copytree(home / "run0", tmp_path / "run0"), tmp_path / "moved")
    (tmp_path / "robot.usda").write_text("another robot")
    monkeypatch.chdir(tmp_path)
    assert main(["play", "run_dir=moved", "num_envs=1", "num_steps=2", "out=null"]) == 0
    assert main(["train", "run_dir=moved", "resume=true"]) == 0
    again = ["train", "run_dir=moved", "resume=true"]
    assert main([*again, f"env.asset={home / 'robot.usda'}"]) == 0
    again += ["env=robot"]
    assert main([*again, f"env.asset={home / 'robot.usda'}"]) == 0
    capsys.readouterr()
    (tmp_path / "robot.usda").write_text(PARTS.replace("./parts", str(home / "parts")))
    assert main([*again, "env.asset=robot.usda"]) == 2
    assert "env.asset: robot.usda given, but the run" in capsys.readouterr().err
    (run / "inputs" / "asset" / "parts" / "cartpole.usda").write_text("#usda 1.0\n")
    assert main(["train", "run_dir=moved", "resume=true"]) == 2
    assert "cartpole.usda is not what the run in 'moved' was begun with" in capsys.readouterr().err


def test_seeds_of_the_same_robot_are_one_curve(home):
    (curve,) = gather([home / "run0", home / "run1"])["robot"]
    assert len(curve.returns) == 2
    assert load_config(home / "run0").env["asset"] == f"{home}/run0/inputs/asset/robot.usda"


def test_a_module_of_ones_own_that_was_changed_is_not_gone_on_with(tmp_path, monkeypatch, capsys):
    module = tmp_path / "my_landscape.py"
    module.write_text("from warp_envs.landscapes import DeJongEnv\n\nclass Mine(DeJongEnv): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["train", "env=my_landscape:Mine", "num_epochs=1", *SMALL, "run_dir=run"]) == 0
    assert main(["train", "run_dir=run", "resume=true"]) == 0
    module.write_text(module.read_text() + "# another\n")
    capsys.readouterr()
    assert main(["train", "run_dir=run", "resume=true"]) == 2
    assert "env.id: " in capsys.readouterr().err


def test_a_run_keeps_the_usd_file_of_a_robot_in_mjcf(tmp_path, monkeypatch):
    pytest.importorskip("mujoco")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "robot.xml").write_text(
        '<mujoco><worldbody><body><joint name="hip" axis="0 1 0"/><geom size="0.1" pos="0.2 0 0"/>'
        "</body></worldbody></mujoco>"
    )
    given = ("env=robot", "env.asset=robot.xml", "num_epochs=1")
    config, again = (configure("train", TrainConfig, given) for _ in range(2))
    (tmp_path / "run").mkdir()
    keep_inputs(config, tmp_path / "run")
    kept = Path(config.env["asset"])
    assert kept.parent == tmp_path / "run" / "inputs" / "asset" and kept.suffix == ".usda"
    assert "hip" in kept.read_text()
    check_inputs(config, tmp_path / "run", again)
