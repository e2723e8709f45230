"""What a file cannot mean is refused by element and value, and what it means in part is told."""

import mujoco
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.warp_envs.usd.mujoco_judge import deviation
from tests.warp_envs.usd.test_conversion_cases import FIXED_TENDON, convert, second
from warp_envs.articulation.articulation import Articulation
from warp_envs.usd.conversion.convert import convert_robot

INERTIA = '<inertia ixx="0.1" iyy="0.1" izz="0.1" ixy="0" ixz="0" iyz="0"/>'
# A base and two links; what a case puts in place of each part.
PARTS = {
    "mass": '<mass value="1"/>',
    "kind": 'type="revolute"',
    "limit": '<limit lower="-1" upper="2" effort="3" velocity="0"/>',
    "more": "",
    "second": 'name="k" type="revolute"',
    "follow": "",
    "end": "",
}
URDF = """<robot name="r"><link name="base"/>
  <link name="l"><inertial><origin xyz="0 0 0.1"/>{mass}{inertia}</inertial></link>
  <link name="m"><inertial><mass value="1"/>{inertia}</inertial></link>
  <joint name="j" {kind}><parent link="base"/><child link="l"/><axis xyz="0 1 0"/>{limit}{more}
  </joint>
  <joint {second}><parent link="l"/><child link="m"/><limit lower="-1" upper="1"/>{follow}</joint>
{end}</robot>"""


def urdf(folder, **parts):
    (folder / "r.urdf").write_text(URDF.format(inertia=INERTIA, **(PARTS | parts)))
    return convert_robot(folder / "r.urdf", folder / "r.usda")


def described(usd):
    return Articulation.from_usd(usd, num_envs=1).description


def test_links_need_no_shapes(tmp_path):
    urdf(tmp_path)
    assert max(deviation(tmp_path / "r.usda", tmp_path / "r.urdf")) < 1e-5
    (tmp_path / "r.xml").write_text(
        '<mujoco><worldbody><body><joint axis="0 1 0"/><inertial pos="0.1 0 1" mass="2" '
        'diaginertia="0.1 0.2 0.1"/></body></worldbody></mujoco>'
    )
    convert_robot(tmp_path / "r.xml", tmp_path / "r.usda")
    assert max(deviation(tmp_path / "r.usda", tmp_path / "r.xml")) < 1e-5


# A ball that floats, one welded to it, and a leg on a hinge, all within the ground.
ON_GROUND = """<mujoco><worldbody>{floor}<body name="a" pos="0 0 0.05"><freejoint/>
  <geom name="a" size="0.1"/>
  <body name="w" pos="0 0.5 0"><geom name="w" size="0.1"/></body>
  <body name="leg" pos="0.5 0 0"><joint/><geom name="leg" size="0.1"/></body></body></worldbody>
  <contact>{contact}</contact></mujoco>"""
FLOOR = '<geom name="floor" type="plane" size="5 5 1"/>'


@pytest.mark.parametrize("floor", [FLOOR, f'<body name="static">{FLOOR}</body>'])
@pytest.mark.parametrize(
    "contact",
    [
        '<exclude body1="{0}" body2="leg"/>',
        '<exclude body1="leg" body2="{0}"/>',
        '<exclude body1="{0}" body2="a"/>',
        '<exclude body1="{0}" body2="w"/>',
        '<exclude body1="{0}" body2="a"/><exclude body1="{0}" body2="w"/>'
        '<exclude body1="{0}" body2="leg"/>',
        '<exclude body1="{0}" body2="leg"/><pair geom1="floor" geom2="leg"/>',
        '<exclude body1="a" body2="leg"/>',
    ],
)
def test_excludes_keep_off_the_ground_whom_they_do_in_mujoco(floor, contact, tmp_path):
    of = "static" if "static" in floor else "world"
    (tmp_path / "r.xml").write_text(ON_GROUND.format(floor=floor, contact=contact.format(of)))
    lines = convert_robot(tmp_path / "r.xml", tmp_path / "r.usda")
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "r.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    theirs = {model.geom(int(geom)).name for geom in data.contact.geom.ravel()} - {"floor"}
    ours = {
        shape.path.rpartition("/")[2].removesuffix("_2")
        for body in described(tmp_path / "r.usda").bodies
        for shape in body.shapes
        if shape.collides
    }
    assert ours == theirs
    assert any("contype, conaffinity and excludes" in line for line in lines) == (not ours)


def test_excludes_hold_for_a_ground_to_come_and_between_bodies(tmp_path):
    legs = '<exclude body1="world" body2="leg"/><exclude body1="w" body2="leg"/>'
    (tmp_path / "r.xml").write_text(ON_GROUND.format(floor="", contact=legs))
    lines = convert_robot(tmp_path / "r.xml", tmp_path / "r.usda")
    touching = [shape.path for body in described(tmp_path / "r.usda").bodies
                for shape in body.shapes if shape.collides]  # fmt: skip
    assert len(touching) == 2
    assert not any("leg" in path for path in touching)
    assert lines == []
    other = '<exclude body1="a" body2="table"/>'
    (tmp_path / "r.xml").write_text(ON_GROUND.format(floor="", contact=other))
    lines = convert_robot(tmp_path / "r.xml", tmp_path / "r.usda")
    assert "exclude of a and table: table is not in the file, so it excludes nothing" in lines


@pytest.mark.parametrize(
    ("said", "case"),
    [
        ("stiffness -5 of joint 'j2'", second('stiffness="-5"')),
        ("damping -5 of joint 'j2'", second('damping="-5"')),
        ("armature -5 of joint 'j2'", second('armature="-5"')),
        ("frictionloss -5 of joint 'j2'", second('frictionloss="-5"')),
        ("stiffness -5 of tendon 't'", {"bottom": FIXED_TENDON.format('stiffness="-5"')}),
        ("damping -5 of tendon 't'", {"bottom": FIXED_TENDON.format('damping="-5"')}),
        ("frictionloss -5 of tendon 't'", {"bottom": FIXED_TENDON.format('frictionloss="-5"')}),
        (
            "armature -5 of actuator 'm'",
            {"bottom": '<actuator><motor name="m" joint="j2" armature="-5"/></actuator>'},
        ),
        (
            "damping -5 of actuator 'm'",
            {"bottom": '<actuator><motor name="m" joint="j2" damping="-5"/></actuator>'},
        ),
        ("friction -5 of geom 'g'", {"inside": '<geom name="g" size="0.1" friction="-5"/>'}),
        ("density of the <option> -5", {"top": '<option density="-5"/>'}),
        ("viscosity of the <option> -5", {"top": '<option viscosity="-5"/>'}),
        (
            "mass -5 of body 'c'",
            {"inside": '<body name="c"><inertial pos="0 0 0" mass="-5" diaginertia="1 1 1"/>'
             "</body>"},
        ),
        (
            "moments of inertia -5, 1, 1 of body 'c'",
            {"inside": '<body name="c"><inertial pos="0 0 0" mass="1" diaginertia="-5 1 1"/>'
             "</body>"},
        ),
        (
            "mass -5 of body 'c'",
            {"inside": '<body name="c"><joint/><inertial pos="0 0 0" mass="-5" '
             'diaginertia="1 1 1"/></body>'},
        ),
    ],
)  # fmt: skip
def test_what_would_drive_instead_of_resist_is_refused(said, case, tmp_path):
    with pytest.raises(ValueError, match=rf"robot\.xml: {said} given, no negative number"):
        convert(tmp_path, case, lenient=True)


@pytest.mark.parametrize(
    ("said", "case"),
    [
        ("mass='nan' of <geom> 'g'", {"inside": '<geom name="g" size="0.1" mass="nan"/>'}),
        ("size='-inf' of <geom> in <body> 'b'", {"inside": '<geom size="-inf"/>'}),
        ("range='0 Infinity' of <joint> 'j2'", second('range="0 Infinity"')),
        ("gravity='0 0 nan' of <option>", {"top": '<option gravity="0 0 nan"/>'}),
        (
            r"body_inertia of body 'c', \[.*\] once compiled,",
            {"inside": '<body name="c"><joint/><geom size="1e160" mass="1"/></body>'},
        ),
    ],
)
def test_numbers_that_are_not_finite_are_refused(said, case, tmp_path):
    with pytest.raises(ValueError, match=rf"robot\.xml: {said} given, finite numbers accepted"):
        convert(tmp_path, case)


def test_so_are_those_of_files_that_are_included(tmp_path):
    (tmp_path / "part.xml").write_text('<mujoco><geom size="0.1" mass="nan"/></mujoco>')
    with pytest.raises(ValueError, match=r"part\.xml: mass='nan' of <geom> given, finite"):
        convert(tmp_path, {"inside": '<include file="part.xml"/>'})


def test_names_may_look_like_numbers(tmp_path):
    case = {
        "inside": '<geom name="inf" size="0.1"/>',
        "bottom": '<contact><pair name="nan" geom1="inf" geom2="inf"/></contact>'
        '<custom><text name="n" data="inf"/></custom>',
    }
    case["bottom"] = case["bottom"].replace('geom2="inf"', 'geom2="limb"')
    case["world"] = '<geom name="limb0" type="plane" size="5 5 1"/>'
    convert(tmp_path, case)
    shapes = [shape.path for body in described(tmp_path / "robot.usda").bodies
              for shape in body.shapes]  # fmt: skip
    assert any(path.endswith("/inf") for path in shapes)


def test_what_is_refused_later_names_the_file(tmp_path):
    tie = '<equality><joint joint1="j1" joint2="j2" solref="0.02 0"/></equality>'
    with pytest.raises(ValueError, match=r"robot\.xml: equality: solref='0.02 0' of .* given, a d"):
        convert(tmp_path, {"bottom": tie})


@pytest.mark.parametrize(
    ("said", "case"),
    [
        ("range 1 to -1 of joint 'j2'", second('range="1 -1"')),
        ("actuatorfrcrange 2 to -2 of joint 'j2'", second('actuatorfrcrange="2 -2"')),
        ("range 1 to 0 of tendon 't'", {"bottom": FIXED_TENDON.format('range="1 0"')}),
        (
            "ctrlrange 1 to -1 of actuator 'm'",
            {"bottom": '<actuator><motor name="m" joint="j2" ctrlrange="1 -1"/></actuator>'},
        ),
        (
            "forcerange 3 to 3 of actuator 'm'",
            {"bottom": '<actuator><motor name="m" joint="j2" forcerange="3 3"/></actuator>'},
        ),
    ],
)
def test_ranges_that_bound_nothing_are_listed(said, case, tmp_path):
    assert f"{said}, which nothing is between: it bounds nothing, as in MuJoCo" in convert(
        tmp_path, case
    )


# URDF -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "kind", "lower", "upper", "said"),
    [
        ('lower="-1" upper="2"', "revolute", -1.0, 2.0, None),
        ('lower="-1"', "revolute", -1.0, 0.0, "upper limit of joints j, which is not told: 0"),
        ('upper="2"', "prismatic", 0.0, 2.0, "lower limit of joints j, which is not told: 0"),
        ("", "revolute", -np.inf, np.inf, "joints j have neither lower nor upper limit: they move"),
        (None, "prismatic", -np.inf, np.inf, "joints j have neither lower nor upper limit: they"),
        ('lower="-1" upper="2"', "continuous", -np.inf, np.inf, "limits of continuous joints j"),
        (None, "continuous", -np.inf, np.inf, None),
        ('lower="-1" upper="2" effort="0"', "revolute", -1.0, 2.0, "effort of 0 of joints j: noth"),
    ],
)
def test_limits_are_those_of_the_specification_and_told(limit, kind, lower, upper, said, tmp_path):
    element = "" if limit is None else f"<limit {limit}/>"
    lines = urdf(tmp_path, kind=f'type="{kind}"', limit=element)
    joint = described(tmp_path / "r.usda").bodies[0].joint
    assert joint.name == "j"
    assert_allclose([joint.lower, joint.upper], [lower, upper], atol=1e-6)
    others = [line for line in lines if not line.startswith("no ground")]
    assert [line.startswith(said or "-") for line in others] == ([True] if said else [])


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ("lower='1' above upper='-1' of joint 'j' given, limits in order",
         {"limit": '<limit lower="1" upper="-1"/>'}),
        ("lowr='-1' of <limit> of joint 'j' given, .*did you mean 'lower'",
         {"limit": '<limit lowr="-1" upper="1"/>'}),
        ("Lower='-1' of <limit> of joint 'j' given, .*did you mean 'lower'",
         {"limit": '<limit Lower="-1" upper="1"/>'}),
        ("dampng='1' of <dynamics> of joint 'j' given, .*mean 'damping'",
         {"more": '<dynamics dampng="1"/>'}),
        ("<orgin> in joint 'j' given, .*mean 'origin'", {"more": '<orgin xyz="0 0 1"/>'}),
        ("<inertail> in link 'x' given, .*mean 'inertial'",
         {"end": '<link name="x"><inertail/></link>'}),
        ("multipler='2' of <mimic> of joint 'k' given, .*mean 'multiplier'",
         {"follow": '<mimic joint="j" multipler="2"/>'}),
        ("effort='-3' of <limit> of joint 'j' given, a number of at least 0",
         {"limit": '<limit lower="0" upper="1" effort="-3"/>'}),
        ("velocity='fast' of <limit> of joint 'j' given, a number of at least 0",
         {"limit": '<limit lower="0" upper="1" velocity="fast"/>'}),
        ("damping='-1' of <dynamics> of joint 'j' given", {"more": '<dynamics damping="-1"/>'}),
        ("value='-1' of <mass> of link 'l' given, a number of at least 0",
         {"mass": '<mass value="-1"/>'}),
        ("value='nan' of <mass> in <link> 'l' given, finite", {"mass": '<mass value="nan"/>'}),
        ("lower='nan' of <limit> in <joint> 'j' given, finite",
         {"limit": '<limit lower="nan" upper="1"/>'}),
        ("multiplier='nan' of <mimic> in <joint> 'k' given, finite",
         {"follow": '<mimic joint="j" multiplier="nan"/>'}),
        ("xyz='0 inf 0' of <origin> in <joint> 'j' given, finite",
         {"more": '<origin xyz="0 inf 0"/>'}),
        ("joint='jj' of <mimic> of joint 'k' given, .*another joint .*did you mean 'j'",
         {"follow": '<mimic joint="jj"/>'}),
        ("joint='k' of <mimic> of joint 'k' given, .*another joint",
         {"follow": '<mimic joint="k"/>'}),
        ("joint='' of <mimic> of joint 'k' given, .*another joint", {"follow": "<mimic/>"}),
        ("joint 'j' of type 'planar' that follows another given, one that moves",
         {"kind": 'type="planar"', "more": '<mimic joint="k"/>'}),
        ("2 joints 'j' given, one of each name", {"second": 'name="j" type="revolute"'}),
    ],
)  # fmt: skip
def test_what_a_urdf_cannot_mean_is_refused(said, parts, tmp_path):
    with pytest.raises(ValueError, match=rf"r\.urdf: {said}"):
        urdf(tmp_path, **parts)
    assert [path.name for path in tmp_path.iterdir()] == ["r.urdf"]


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ("attribute twist of <limit> of joint 'j': unknown, not used",
         {"limit": '<limit lower="-1" upper="2" twist="1"/>'}),
        ("attribute quat of <origin> of joint 'j', joint 'k': unknown, not used",
         {"more": '<origin quat="0 0 0 1"/>', "follow": '<origin quat="1 0 0 0"/>'}),
        ("<stiffness> in a <joint>: unknown, not used", {"more": '<stiffness value="1"/>'}),
        ("<drag> in a <inertial>: unknown, not used", {"mass": '<mass value="1"/><drag/>'}),
        ("limits of speed of joints j: they may turn faster",
         {"limit": '<limit lower="-1" upper="2" velocity="4"/>'}),
    ],
)  # fmt: skip
def test_what_no_specification_knows_is_listed(said, parts, tmp_path):
    assert said in urdf(tmp_path, **parts)
    assert max(deviation(tmp_path / "r.usda", tmp_path / "r.urdf", count=3)) < 1e-5


def test_what_does_nothing_may_hold_any_number(tmp_path):
    lines = urdf(tmp_path, end='<gazebo><kp value="inf"/></gazebo>')
    assert any("Gazebo" in line for line in lines)
