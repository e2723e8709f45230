"""`gippo inspect`."""

import pytest

from gippo.cli import main
from warp_envs.robots.base import asset_path

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
