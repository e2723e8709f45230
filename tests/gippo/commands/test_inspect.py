"""`gippo inspect`."""

import re

import pytest

from gippo.cli import main
from warp_envs.robots.base import asset_path
from warp_envs.usd.conversion.convert import convert_robot

LEG = """<mujoco><worldbody><geom type="plane" size="1 1 1"/>
<body name="trunk" pos="0 0 0.5"><freejoint/><geom type="box" size="0.1 0.1 0.05"/>
<body name="leg"><joint name="knee" axis="0 1 0" range="-90 -30" armature="0.01"/>
<geom type="capsule" fromto="0 0 0 0 0 -0.3" size="0.02"/></body></body></worldbody>
<actuator><motor name="m" joint="knee"/></actuator></mujoco>"""


def test_a_converted_robot_is_told_of_and_drawn(tmp_path, capsys):
    source, picture = tmp_path / "leg.xml", tmp_path / "leg.png"
    source.write_text(LEG)
    assert main(["inspect", str(source), f"picture={picture}"]) == 0
    said = capsys.readouterr().out
    for what in ("7 degrees of freedom: 1 free, 1 revolute", "1 box, 1 capsule (10 points)",
                 "1 motor", "lowest point +0.18 m from the ground", "(outside)", "joint knee",
                 "env.substeps=auto takes"):  # fmt: skip
        assert what in said
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leg.png", "leg.xml"]


def test_what_implicit_damping_would_save_is_told(tmp_path, capsys):
    source, picture = tmp_path / "leg.xml", tmp_path / "leg.png"
    source.write_text(LEG.replace('armature="0.01"', 'damping="90"'))
    assert main(["inspect", str(source), f"picture={picture}"]) == 0
    assert "with env.implicit_damping=true" in capsys.readouterr().out


FINGER = """<mujoco><worldbody><site name="nail" pos="0 0 2"/>
<body pos="0 0 1"><joint name="wrist" type="ball" range="0 60"/><geom size="0.1" mass="1"/>
<body pos="0.1 0 0"><joint name="knuckle" axis="0 1 0" range="-20 40"/>
<geom size="0.005" pos="0.01 0 0"/><site name="tip"/></body></body></worldbody>
<tendon><fixed name="flexor" stiffness="0.01"><joint joint="knuckle" coef="-2"/></fixed>
<spatial name="line" stiffness="0.3" springlength="0.4"><site site="nail"/><site site="tip"/>
</spatial></tendon></mujoco>"""


def test_balls_tendons_and_limits_that_are_stiff_for_a_finger(tmp_path, capsys):
    source, asset = tmp_path / "finger.xml", tmp_path / "finger.usda"
    source.write_text(FINGER)
    assert main(["inspect", str(source), f"picture={tmp_path / 'a.png'}"]) == 0
    said = capsys.readouterr().out
    for what in ("wrist", "spherical", "0 to 1.047", "flexor", "-2 knuckle", "through 2 points",
                 "limits of joints knuckle, which move next to nothing: springs of"):  # fmt: skip
        assert what in said
    assert "with softer limits" not in said
    convert_robot(source, asset)
    text = asset.read_text()
    asset.write_text(re.sub(".*newton:limitStiffness.*", "", text))
    assert main(["inspect", str(asset), f"picture={tmp_path / 'a.png'}"]) == 0
    assert "64 with softer limits" in capsys.readouterr().out


def test_a_robot_that_touches_nothing_is_told_so(tmp_path, capsys):
    picture = tmp_path / "pole.png"
    assert main(["inspect", str(asset_path("cartpole.usda")), f"picture={picture}"]) == 0
    assert "nothing of this robot touches the ground" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing given"),
        (["nowhere.usda"], "nowhere.usda"),
        (["nowhere.usda", "picture=leg.txt"], "picture: 'leg.txt' given"),
        (["nowhere.usda", "control_step=0"], "control_step"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert main(["inspect", *arguments]) == 2
    assert message in capsys.readouterr().err
