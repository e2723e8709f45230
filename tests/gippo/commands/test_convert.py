"""`gippo convert`: notes, keyframes, and what is let pass."""

import pytest
from pxr import Usd

from gippo.commands.convert import run

ROBOT = """
<mujoco><worldbody><body name="a" pos="0 0 1"><joint name="j" frictionloss="1"/>
  <geom size="0.1"/>{}</body></worldbody>
  <keyframe><key name="home" qpos="0.5{}"/></keyframe></mujoco>
"""
# A root with a spring: MuJoCo's is of its position in the world.
SPRUNG = '</body><body pos="0 1 1"><joint type="free" stiffness="5"/><geom size="0.1"/>'


def test_what_is_not_in_the_file_is_told_with_the_keyframes(tmp_path, capsys):
    (tmp_path / "robot.xml").write_text(ROBOT.format("", ""))
    assert run([str(tmp_path / "robot.xml")]) == 0
    out = capsys.readouterr().out
    assert "note: dry friction of joints j" in out
    assert "keyframes: home (env.start=home)" in out
    assert (tmp_path / "robot.usda").exists()


def test_another_motion_needs_lenient(tmp_path, capsys):
    (tmp_path / "robot.xml").write_text(ROBOT.format(SPRUNG, " 0 1 1 1 0 0 0"))
    arguments = [str(tmp_path / "robot.xml"), f"out={tmp_path / 'other.usdc'}"]
    with pytest.raises(ValueError, match=r"spring of free joint .* lenient=true"):
        run(arguments)
    assert not (tmp_path / "other.usdc").exists()
    assert run([*arguments, "lenient=true", "ground=true"]) == 0
    assert "note: spring of free joint" in capsys.readouterr().out
    assert Usd.Stage.Open(str(tmp_path / "other.usdc"))
