"""`env.asset` as USD, MJCF, or a file of a package."""

import pytest

import warp_envs
from tests.kernels.articulation import mujoco_reference  # noqa: F401  # skips without MuJoCo
from warp_envs.references import file_of
from warp_envs.robots.assets import usd_file

ROBOT = """
<mujoco><worldbody><body pos="0 0 1"><joint name="hip" axis="0 1 0" frictionloss="0.1"/>
  <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.05"/></body></worldbody></mujoco>
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "robot.xml").write_text(ROBOT)
    return tmp_path / "robot.xml"


def test_mjcf_becomes_an_environment_that_tells_what_is_left_out(source):
    env = warp_envs.make("robot", asset=source, num_envs=1, compiled=False, substeps=1)
    assert env.asset_path.suffix == ".usda" and source.parent / "cache" in env.asset_path.parents
    assert any("dry friction of joints hip" in note for note in env.notes)


def test_a_changed_file_is_converted_anew(source):
    first, _ = usd_file(source)
    before = first.read_text()
    source.write_text(ROBOT.replace("hip", "knee"))
    again, _ = usd_file(source)
    assert again == first and before != again.read_text() and "knee" in again.read_text()


def test_a_file_of_a_package_and_one_of_the_disk(source):
    assert file_of("gymnasium:envs/mujoco/assets/ant.xml").is_file()
    assert file_of(source) == source
    assert file_of("C:\\robots\\ant.usda").name.endswith("ant.usda")
    with pytest.raises(ValueError, match=r"^asset: 'no_such_package:a\.xml' given, a file"):
        warp_envs.make("robot", asset="no_such_package:a.xml", num_envs=1)
    with pytest.raises(ValueError, match=r"^asset: .*missing\.xml' given, an existing USD file"):
        warp_envs.make("robot", asset=source.parent / "missing.xml", num_envs=1)
