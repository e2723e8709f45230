"""What is made to be looked at never decides over a training."""

from pathlib import Path

import pytest

from gippo.cli import main
from gippo.runs import training

SMALL = [
    "env.num_envs=2",
    "learner.horizon=2",
    "learner.actor.hidden=[4]",
    "learner.critic.hidden=[4]",
    "num_epochs=1",
    "logger=[]",
]
VISUALS = """
    def Mesh "empty" {}
    def Mesh "index" { point3f[] points = [(0,0,0), (1,0,0), (0,1,0)];
        int[] faceVertexCounts = [3]; int[] faceVertexIndices = [0, 1, 9]; }
    def PointInstancer "nothing" {}
    def PointInstancer "dangling" { int[] protoIndices = [0]; point3f[] positions = [(0,0,0)];
        rel prototypes = </nowhere>; }
    def Sphere "far" { double3 xformOp:translate = (1e30, 0, 0);
        uniform token[] xformOpOrder = ["xformOp:translate"]; }
"""


def test_a_robot_with_visuals_that_cannot_be_drawn_trains_with_a_warning(tmp_path, capsys):
    cartpole = (Path(__file__).parents[3] / "assets" / "cartpole.usda").read_text()
    below = '        def Cube "collider" ('
    asset = tmp_path / "robot.usda"
    asset.write_text(cartpole.replace(below, VISUALS + below, 1))
    run_dir = tmp_path / "run"
    robot = ["env=robot", f"env.asset={asset}", "rollout.num_envs=1", "rollout.num_steps=2"]
    assert main(["train", *robot, *SMALL, f"run_dir={run_dir}"]) == 0
    said = capsys.readouterr().out
    for name in ("empty", "index", "dangling", "far"):
        assert f"warning: rollout.png: /World/envs/env_0/Robot/cart/{name}: " in said
    made = ["checkpoints", "config.yaml", "curve.png", "inputs", "metrics.jsonl", "rollout.png"]
    assert sorted(path.name for path in run_dir.iterdir()) == [*made, "rollout.usdc"]
    assert main(["view", str(run_dir), "open=false"]) == 0
    assert "Robot/cart/dangling: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["plot_run", "play_policy", "render_contact_sheet"])
def test_a_picture_that_cannot_be_made_is_a_warning(name, tmp_path, capsys, monkeypatch):
    class Shown:
        recorded = True

    monkeypatch.setattr(training, "has_motion", lambda env: True)
    monkeypatch.setattr(training, "play_policy", lambda *args, **more: Shown())
    monkeypatch.setattr(training, "render_contact_sheet", lambda *args: [])

    def fail(*args, **more):
        raise RuntimeError("no such\ncolour")

    monkeypatch.setattr(training, name, fail)
    assert main(["train", "env=dejong", *SMALL, f"run_dir={tmp_path / 'run'}"]) == 0
    said = capsys.readouterr().out
    made = {"plot_run": "curve.png", "play_policy": "rollout.usdc"}.get(name, "rollout.png")
    assert f"warning: no {made}: RuntimeError: no such colour\n" in said
    assert "1/1 epochs" in said and not (tmp_path / "run" / training.PICTURES_DUE).exists()
    assert main(["train", f"run_dir={tmp_path / 'run'}", "resume=true"]) == 0
