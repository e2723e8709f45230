"""Robots from MJCF and URDF are the robots that MuJoCo reads from the same files."""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pxr import Usd, UsdGeom, UsdPhysics

from tests.warp_envs.recording.recorded import findings
from tests.warp_envs.usd.mujoco_judge import deviation
from warp_envs.articulation.articulation import Articulation
from warp_envs.usd.conversion.convert import convert_robot
from warp_envs.usd.conversion.source import read_source
from warp_envs.usd.description import rotation_matrix

# A floating trunk with two hinges on one body, a spring, a foot without joint, a ball, a slide that
# is no axis of its body, an inertia that is no diagonal one, and a rotated everything.
CRAWLER = """
<mujoco model="crawler">
  <compiler angle="degree"/>
  <default>
    <joint armature="0.02" damping="0.7"/>
    <geom density="800" friction="0.6" rgba="0.8 0.4 0.1 1"/>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="10 10 0.1"/>
    <body name="trunk" pos="0.1 0 0.6" quat="0.9238795 0 0 0.3826834">
      <freejoint/>
      <geom name="trunk" type="box" size="0.2 0.1 0.05"/>
      <geom name="nose" type="sphere" size="0.06" pos="0.22 0 0.02"/>
      <body name="thigh" pos="0.15 0.12 0" euler="10 0 0">
        <joint name="hip_roll" axis="1 0 0" range="-30 40" limited="true"/>
        <joint name="hip_pitch" axis="0 1 0" range="-60 60" limited="true" armature="0.05"
               damping="0"/>
        <geom name="thigh" type="capsule" fromto="0 0 0 0.05 0.02 -0.25" size="0.03"/>
        <body name="shin" pos="0.05 0.02 -0.25">
          <joint name="knee" axis="0 1 0" pos="0 0.01 0" stiffness="5" springref="20"/>
          <geom name="shin" type="capsule" fromto="0 0 0 0 0 -0.2" size="0.025"/>
          <body name="foot" pos="0 0 -0.2" euler="0 0 30">
            <geom name="foot" type="sphere" size="0.04" mass="0.3"/>
          </body>
        </body>
      </body>
      <body name="tail" pos="-0.2 0 0">
        <joint name="wag" type="ball" damping="0"/>
        <geom name="tail" type="capsule" fromto="0 0 0 -0.3 0 0.05" size="0.02"/>
        <body name="rod" pos="-0.3 0 0.05">
          <joint name="reach" type="slide" axis="1 0 0.2" range="-0.1 0.1" limited="true"/>
          <inertial pos="-0.02 0.01 0" mass="0.4" fullinertia="2e-3 3e-3 4e-3 2e-4 1e-4 3e-4"/>
          <geom name="rod" type="capsule" fromto="0 0 0 -0.1 0 0" size="0.01"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="hip_pitch" gear="30"/><motor joint="knee" gear="40"/></actuator>
</mujoco>
"""

ARM = """
<robot name="arm">
  <link name="base"><inertial><mass value="2"/>
    <inertia ixx="0.1" iyy="0.1" izz="0.1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="upper"><inertial><origin xyz="0 0 0.2" rpy="0.1 0 0"/><mass value="1.5"/>
    <inertia ixx="0.02" iyy="0.02" izz="0.003" ixy="0.001" ixz="0" iyz="0"/></inertial>
    <collision><origin xyz="0 0 0.2"/><geometry><cylinder radius="0.04" length="0.4"/></geometry>
    </collision></link>
  <link name="lower"><inertial><origin xyz="0 0.01 0.15"/><mass value="0.8"/>
    <inertia ixx="0.01" iyy="0.01" izz="0.002" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><geometry><sphere radius="0.05"/></geometry></collision></link>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/>
    <origin xyz="0 0 0.1" rpy="0 0.2 0"/><axis xyz="0 1 0"/>
    <limit lower="-1.5" upper="1.0" effort="50" velocity="3"/><dynamics damping="0.3"/></joint>
  <joint name="slide" type="prismatic"><parent link="upper"/><child link="lower"/>
    <origin xyz="0 0 0.4" rpy="0 0 0.5"/><axis xyz="0 0.6 0.8"/>
    <limit lower="0" upper="0.3" effort="50" velocity="3"/></joint>
</robot>
"""


def converted(tmp_path, name, text, **options):
    (tmp_path / name).write_text(text)
    usd = tmp_path / "robot.usda"
    left_out = convert_robot(tmp_path / name, usd, **options)
    return usd, left_out


@pytest.mark.parametrize(("name", "text"), [("crawler.xml", CRAWLER), ("arm.urdf", ARM)])
def test_mass_matrix_and_accelerations_are_mujocos(name, text, tmp_path):
    usd, _ = converted(tmp_path, name, text)
    mass, acceleration = deviation(usd, tmp_path / name)
    assert mass < 1e-6
    assert acceleration < 1e-5


def test_joints_keep_names_limits_and_what_resists(tmp_path):
    usd, left_out = converted(tmp_path, "crawler.xml", CRAWLER)
    description = Articulation.from_usd(usd, num_envs=1).description
    joints = {body.joint.name: body.joint for body in description.bodies}
    assert list(joints)[1:4] == ["hip_roll", "hip_pitch", "knee"]
    assert left_out == ["contact of bodies with each other: they pass through each other"]
    roll, pitch, knee = (joints[name] for name in ("hip_roll", "hip_pitch", "knee"))
    assert_allclose(np.degrees([roll.lower, roll.upper, pitch.upper]), [-30, 40, 60], atol=1e-4)
    assert_allclose([roll.armature, pitch.armature], [0.02, 0.05], atol=1e-7)
    assert_allclose([roll.damping, pitch.damping], [0.7, 0.0], atol=1e-6)
    assert_allclose([knee.stiffness, np.degrees(knee.rest)], [5.0, 20.0], atol=1e-4)
    assert knee.lower == -np.inf
    assert_allclose([joints["reach"].lower, joints["reach"].upper], [-0.1, 0.1], atol=1e-7)
    assert description.contact is not None
    assert description.contact.mu == pytest.approx(0.6)
    assert sum(shape.collides for body in description.bodies for shape in body.shapes) == 7


@pytest.mark.parametrize(("name", "text"), [("crawler.xml", CRAWLER), ("arm.urdf", ARM)])
def test_validators_find_nothing(name, text, tmp_path):
    usd, _ = converted(tmp_path, name, text)
    assert findings(usd) == []


def test_a_look_hides_what_touches(tmp_path):
    """Drawn both, two shapes in one place would flicker."""
    look = '<visual><geometry><sphere radius="0.05"/></geometry></visual>'
    touch = '<collision><geometry><sphere radius="0.05"/>'
    usd, _ = converted(tmp_path, "arm.urdf", ARM.replace(touch, look + touch), ground=True)
    stage = Usd.Stage.Open(str(usd))
    shapes = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Sphere)]
    purposes = {p.HasAPI(UsdPhysics.CollisionAPI): UsdGeom.Gprim(p).GetPurposeAttr().Get()
                for p in shapes}  # fmt: skip
    assert purposes == {True: "guide", False: "default"}
    lower = Articulation.from_usd(usd, num_envs=1).description.bodies[-1]
    assert [shape.kind for shape in lower.shapes] == ["sphere"]
    assert findings(usd) == []


def test_what_a_urdf_says_in_vain_is_told(tmp_path):
    text = ARM.replace("</robot>", "<gazebo/><transmission/><weather/></robot>")
    _, left_out = converted(tmp_path, "arm.urdf", text)
    said = "\n".join(left_out)
    for what in ("limits of speed of joints shoulder, slide", "Gazebo", "<weather>", "no ground"):
        assert what in said
    assert len(left_out) == 4


def test_a_urdf_floats_if_asked_to(tmp_path):
    usd, _ = converted(tmp_path, "arm.urdf", ARM, floating=True)
    bodies = Articulation.from_usd(usd, num_envs=1).description.bodies
    assert [body.joint.kind for body in bodies] == ["free", "revolute", "prismatic"]
    touching = [shape.kind for body in bodies for shape in body.shapes if shape.collides]
    assert touching == ["cylinder", "sphere"]
    with pytest.raises(ValueError, match="first body has joints"):
        converted(tmp_path, "crawler.xml", CRAWLER, floating=True)


def test_a_urdf_may_float_by_itself(tmp_path):
    text = ARM.replace('type="revolute"', 'type="floating"').replace('damping="0.3"', "")
    usd, _ = converted(tmp_path, "arm.urdf", text)
    bodies = Articulation.from_usd(usd, num_envs=1).description.bodies
    assert [(body.name, body.joint.kind) for body in bodies] == [
        ("upper", "free"), ("lower", "prismatic")
    ]  # fmt: skip


def test_joints_of_a_urdf_rest_at_zero_whatever_their_origin(tmp_path):
    text = ARM.replace('rpy="0 0.2 0"', 'rpy="3.1 0.2 -2"')
    usd, _ = converted(tmp_path, "arm.urdf", text)
    robot = Articulation.from_usd(usd, num_envs=1)
    assert_allclose(robot.default_joint_q, [0.0, 0.0], atol=1e-6)


def test_links_without_mass_and_meshes_that_nobody_can_read_do_not_stop_a_urdf(tmp_path):
    (tmp_path / "hook.stl").write_text("no mesh")
    text = ARM.replace("</robot>", """
      <link name="coupling"/><link name="hook"><inertial><mass value="0.4"/>
        <inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial>
        <visual><geometry><mesh filename="package://arm/meshes/gone.dae"/></geometry></visual>
        <collision><geometry><mesh filename="package://arm/hook.stl"/></geometry></collision></link>
      <joint name="roll" type="continuous"><parent link="lower"/><child link="coupling"/></joint>
      <joint name="pitch" type="continuous"><parent link="coupling"/><child link="hook"/>
        <axis xyz="0 1 0"/></joint></robot>""")  # fmt: skip
    usd, left_out = converted(tmp_path, "arm.urdf", text)
    said = "\n".join(left_out)
    assert "mesh gone of hook (not found): not drawn" in said
    assert re.search(r"mesh hook of hook \(.*\): left out, it touches nothing", said)
    assert "bodies without mass, coupling: 1e-09 kg" in said
    assert Articulation.from_usd(usd, num_envs=1).nv == 4


def test_meshes_that_mujoco_does_not_read_come_through_trimesh(tmp_path):
    trimesh = pytest.importorskip("trimesh", reason="the extra gippo[convert] is not installed")
    for name in ("box.ply", "box.dae"):
        trimesh.creation.box((0.1, 0.2, 0.3)).export(tmp_path / name)
    look = '<{0}><geometry><mesh filename="package://arm/{1}" scale="1 2 1"/></geometry></{0}>'
    text = ARM.replace(
        '<collision><geometry><sphere radius="0.05"/></geometry></collision>',
        look.format("visual", "box.dae") + look.format("collision", "box.ply"),
    )
    usd, left_out = converted(tmp_path, "arm.urdf", text, ground=True)
    assert not any("mesh" in line for line in left_out)
    (box,) = Articulation.from_usd(usd, num_envs=1).description.bodies[-1].shapes
    corners = box.points @ rotation_matrix(box.rotation).T + box.position
    assert_allclose(corners.max(axis=0), [0.05, 0.2, 0.15], atol=1e-6)
    stage = Usd.Stage.Open(str(usd))
    assert sum(prim.IsA(UsdGeom.Mesh) for prim in stage.Traverse()) == 2


def test_an_inertia_that_no_solid_has_is_used_as_it_is(tmp_path):
    """MuJoCo's compiler refuses it."""
    text = ARM.replace('ixx="0.02" iyy="0.02" izz="0.003"', 'ixx="0.02" iyy="0.03" izz="0.3"')
    usd, left_out = converted(tmp_path, "arm.urdf", text)
    upper = Articulation.from_usd(usd, num_envs=1).description.bodies[1]
    turn = np.array([[1, 0, 0], [0, np.cos(0.1), -np.sin(0.1)], [0, np.sin(0.1), np.cos(0.1)]])
    inertia = np.array([[0.02, 0.001, 0], [0.001, 0.03, 0], [0, 0, 0.3]])
    assert_allclose(upper.inertia, turn @ inertia @ turn.T, atol=1e-7)
    assert any("inertia of bodies upper: no solid has it" in line for line in left_out)
    model = read_source(tmp_path / "arm.urdf", floating=False).model
    assert model.body("upper").sameframe == 0, "MuJoCo would take its axes for the body's"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "robot.xml",
            "<mujoco><worldbody/></mujoco>",
            "no body that moves given, a body with joints",
        ),
        ("robot.xml", "<mujoco>", "not a readable XML file"),
        ("robot.xml", "<sdf/>", "<sdf> at its top given, <mujoco> or <robot> accepted"),
        ("robot.xml", "<mujoco><option wheels='4'/></mujoco>", "MuJoCo cannot read it: .*wheels"),
        ("robot.obj", "", r"a file ending in \('.xml', '.mjcf', '.urdf'\) accepted"),
        ("arm.urdf", ARM.replace("<link", "<loop_joint/><link", 1), "<loop_joint> given, links"),
        (
            "arm.urdf",
            ARM.replace("</robot>", '<x:macro xmlns:x="http://www.ros.org/wiki/xacro"/></robot>'),
            "run xacro first",
        ),
        (
            "arm.urdf",
            ARM.replace('<mass value="0.8"/>', '<mass value="0"/>'),
            "body 'lower', which moves without mass and with none below it given, mass, or",
        ),
        ("arm.urdf", ARM.replace('"prismatic"', '"screw"'), "joint 'slide' of type 'screw' given"),
    ],
)
def test_refusals_write_nothing(name, text, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        converted(tmp_path, name, text)
    assert [path.name for path in tmp_path.iterdir()] == [name]
