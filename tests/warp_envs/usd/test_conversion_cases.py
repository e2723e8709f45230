"""Everything that a source can say about motion is honoured, with MuJoCo as the judge, or named."""

import re

import mujoco
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from tests.warp_envs.usd.mujoco_judge import deviation
from warp_envs.articulation.articulation import Articulation
from warp_envs.usd.conversion import fields
from warp_envs.usd.conversion.convert import convert_robot

# Two links on hinges; what a case adds stands in the places.
ROBOT = """
<mujoco model="m"><compiler angle="radian" {compiler}/>{top}
  <worldbody>{world}<body name="a" pos="0 0 1">{first}
    <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.05" mass="1"/>
    <body name="b" pos="0.4 0 0" {body}>{second}
      <geom name="limb" type="capsule" fromto="0 0 0 0.4 0 0" size="0.04" mass="0.5"/>{inside}
    </body></body></worldbody>{bottom}
</mujoco>
"""
PLACES = {
    "compiler": "", "top": "", "world": '<site name="fixed"/>', "body": "",
    "inside": '<site name="moving" pos="0.4 0 0"/>', "bottom": "",
    "first": '<joint name="j1" axis="0 1 0"/>', "second": '<joint name="j2" axis="0 1 0"/>',
}  # fmt: skip
FIXED_TENDON = (
    '<tendon><fixed name="t" {}><joint joint="j1" coef="1"/><joint joint="j2" coef="-1"/>'
    "</fixed></tendon>"
)
WOUND_TENDON = (
    '<tendon><spatial name="t" {}><site site="fixed"/><geom geom="drum"/><site site="moving"/>'
    "</spatial></tendon>"
)
DRUM = '<site name="fixed"/><geom name="drum" type="cylinder" size="0.1 0.1"/>'


def second(attributes):
    return {"second": f'<joint name="j2" axis="0 1 0" {attributes}/>'}


def first(attributes):
    return {"first": f'<joint name="j1" {attributes}/>'}


def wound(attributes):
    return {"world": DRUM, "bottom": WOUND_TENDON.format(attributes)}


def on_floor(attributes):
    """A foot on the ground."""
    floor = '<geom name="floor" type="plane" size="5 5 1"/>'
    return {"world": floor, "inside": f'<geom name="limb2" size="0.1" {attributes}/>'}


HONOURED = {
    "total mass": {"compiler": 'settotalmass="10"'},
    "least mass": {"compiler": 'boundmass="2" boundinertia="0.1"'},
    "inertia of geoms": {
        "compiler": 'inertiafromgeom="true"',
        "inside": '<inertial pos="0 0 0" mass="9" diaginertia="1 1 1"/>',
    },
    "groups of inertia": {
        "compiler": 'inertiagrouprange="0 1"',
        "inside": '<geom size="0.1" group="2" mass="3"/>',
    },
    "thin shell": {"inside": '<geom size="0.1" pos="0.4 0 0" shellinertia="true" mass="1"/>'},
    "replicated geoms": {
        "inside": '<replicate count="3" offset="0 0.1 0"><geom size="0.03" mass="0.1"/></replicate>'
    },
    "frames": {
        "inside": '<frame pos="0 0 0.2" euler="0 1 0"><geom size="0.1 0.05 0.02" type="box"/>'
        "</frame>"
    },
    "inertia that is not diagonal": {
        "inside": '<inertial pos="0.1 0.02 0" mass="0.7" '
        'fullinertia="0.02 0.03 0.04 0.002 0.001 0.003"/>'
    },
    "no gravity": {"top": '<option gravity="0 0 0"/>'},
    "gravity that is tilted": {"top": '<option gravity="3 1 -9"/>'},
    "gravity disabled": {"top": '<option><flag gravity="disable"/></option>'},
    "springs disabled": {
        "top": '<option><flag spring="disable" damper="disable"/></option>',
        **second('stiffness="30" damping="3"'),
    },
    "solver options": {"top": '<option solver="PGS" cone="elliptic" iterations="3" timestep="1"/>'},
    "joints apart": {"first": '<joint name="j1" axis="0 1 0"/><joint axis="1 0 0" pos="0 0 0.1"/>'},
    "a slide after a hinge": {
        "second": '<joint axis="0 1 0" pos="0.1 0 0"/><joint type="slide" axis="1 0 1"/>'
    },
    "a ball after a slide": {
        "second": '<joint type="slide" axis="0 1 1"/><joint type="ball" pos="0 0.1 0"/>'
    },
    "ref of a hinge": second('ref="0.5" range="0 1"'),
    "ref of a slide": {"second": '<joint type="slide" axis="0 1 1" ref="0.3"/>'},
    "spring away from ref": second('ref="0.5" springref="0.2" stiffness="7"'),
    "springdamper": second('springdamper="0.1 1"'),
    "armature and damping": second('armature="0.3" damping="0.7"'),
    "armature of an actuator": {
        "bottom": '<actuator><position joint="j2" kp="50" gear="3" armature="0.2" damping="1"/>'
        "</actuator>"
    },
    "a floating root": first('type="free"'),
    "a free body at an angle": {
        "world": '<body pos="1 0 2" euler="0.3 1 0.4"><freejoint/>'
        '<geom type="box" size="0.1 0.2 0.3" pos="0.1 0 0"/></body>'
    },
    "a welded body": {
        "inside": '<body pos="0.1 0 0" euler="0 0 1"><geom size="0.1" pos="0.1 0 0"/></body>'
    },
    "a welded body without mass": {
        "inside": '<body pos="0.1 0 0"><geom size="0.1" mass="0"/><body pos="0 0.2 0">'
        '<joint axis="1 0 0"/><geom size="0.1"/></body></body>'
    },
    "a welded frame with inertia and no mass": {
        "inside": '<body pos="0.1 0 0"><inertial pos="0 0.1 0" mass="0" diaginertia=".1 .2 .1"/>'
        "</body>"
    },
    "a moving body whose mass is welded to it": {
        "inside": '<body pos="0.1 0 0"><joint axis="1 0 0"/><body pos="0.1 0.2 0" euler="1 0 0">'
        '<geom type="box" size="0.1 0.2 0.3"/></body></body>'
    },
    "weight taken off": {"body": 'gravcomp="1"'},
    "inactive equality": {
        "bottom": '<equality><joint joint1="j1" joint2="j2" active="false"/></equality>'
    },
    "tendon that only measures": {"bottom": FIXED_TENDON.format("")},
    "names of sensors that do not exist": {"bottom": '<sensor><touch site="nowhere"/></sensor>'},
}  # fmt: skip

LISTED = {
    "equality joint e: a spring, which gives way, holds it": {
        "bottom": '<equality><joint name="e" joint1="j1" joint2="j2"/></equality>'
    },
    r"limits of tendons \(t_limit\): springs": {"bottom": FIXED_TENDON.format('range="0 1"')},
    "armature of the free body a: a body of 0.4 kg": first('type="free" armature="0.4"'),
    "dry friction of joints j2: they resist by up to 0.2": second('frictionloss="0.2"'),
    "actuator m, whose dyntype is muscle: left out": {
        "bottom": '<actuator><muscle name="m" joint="j2" lengthrange="0 1"/></actuator>'
    },
    "actuator m, which acts on a site: left out": {
        "inside": '<site name="s"/>',
        "bottom": '<actuator><motor name="m" site="s" gear="0 0 1 0 0 0"/></actuator>',
    },
    "actuator m, whose gaintype is affine": {
        "bottom": '<actuator><general name="m" joint="j2" gaintype="affine" '
        'gainprm="1 0 1"/></actuator>'
    },
    "lag of actuators m: they act at once": {
        "bottom": '<actuator><general name="m" joint="j2" dyntype="filter"/></actuator>'
    },
    "plane wall beside the ground: what moves passes through it": {
        "world": '<geom name="floor" type="plane" size="5 5 1"/>'
        '<geom name="wall" type="plane" size="5 5 1" pos="-2 0 0" zaxis="1 0 0"/>'
    },
    "plane floor: it faces sideways; the ground is z = 0": {
        "world": '<geom name="floor" type="plane" size="5 5 1" zaxis="1 0 0"/>'
    },
    "friction with the ground of 2: all shapes have that of most, 1": {
        "world": '<geom type="plane" size="5 5 1"/>', "inside": '<geom size="0.1" friction="2"/>',
    },
    "contact of bodies with each other: they pass": {"inside": '<body pos="0.1 0 0"><joint/>'
        '<geom size="0.1"/></body>'},
    "no shape of the robot touches the ground": {
        "first": "<freejoint/>",
        "inside": '<geom size="0.1" contype="0" conaffinity="0"/>',
        "top": '<default><geom contype="0" conaffinity="0"/></default>',
    },
    "contact with shapes of the world, wall": {
        "world": '<geom name="wall" type="box" size="1 1 1" pos="5 0 0"/>'
    },
    "no ground: the source has none": {},
    "velocities of keyframe home": {
        "bottom": '<keyframe><key name="home" qvel="1 0"/></keyframe>'
    },
    "mocap bodies hand: they stay": {"world": '<body name="hand" mocap="true"/>'},
    "controls of keyframes home: the first action": {
        "bottom": '<actuator><motor joint="j2"/></actuator>'
        '<keyframe><key name="home" ctrl="0.4"/></keyframe>'
    },
    "solref of the limits of joints j2: springs": second('range="0 1" solreflimit="0.1 1"'),
    "solimp of the limits of joints j2: springs": second('range="0 1" solimplimit="0.5 0.6 0.1"'),
    "margin of the limits of joints j2: springs": second('range="0 1" margin="0.1"'),
    "margin of the contact of limb2: they touch": on_floor('margin="0.1"'),
    "gap of the contact of limb2: they touch": on_floor('margin="0.1" gap="0.1"'),
    "solref of the contact of limb2: the ground's": on_floor('solref="0.1 1"'),
    "solimp of the contact of limb2: the ground's": on_floor('solimp="0.5 0.6 0.01"'),
    r"rolling friction \(condim\) of limb2: sliding": on_floor('condim="6"'),
    "solref of the contact of p: the ground's": {
        **on_floor(""), "bottom": '<contact><pair name="p" geom1="floor" geom2="limb2" '
        'solref="0.1 1"/></contact>',
    },
    "by which the options override all": {
        **on_floor(""), "top": '<option o_margin="0.1"><flag override="enable"/></option>'
    },
}  # fmt: skip

REFUSED = {
    "equality joint of j1, j2 along a curve": {
        "bottom": '<equality><joint joint1="j1" joint2="j2" polycoef="0 1 2 0 0"/></equality>'
    },
    "equality connect of a, b: .*lenient=true leaves the loop open": {
        "bottom": '<equality><connect body1="a" body2="b" anchor="0 0 1"/></equality>'
    },
    "equality weld of b, world: .*lenient=true drops the weld": {
        "bottom": '<equality><weld body1="b"/></equality>'
    },
    "spring around shapes of tendons t": wound('stiffness="100"'),
    "damping around shapes of tendons t": wound('damping="5"'),
    "armature of tendons t": {"bottom": FIXED_TENDON.format('armature="0.5"')},
    "limit around shapes of tendons t": wound('range="0 1"'),
    "dry friction of tendons t": {"bottom": FIXED_TENDON.format('frictionloss="1"')},
    "gravcomp by the actuators of joints j2, which are disabled": {
        "top": '<option><flag actuation="disable"/></option>', "body": 'gravcomp="1"',
        **second('actuatorgravcomp="true"'),
    },
    "gravcomp within the actuatorfrcrange of joints j2": {
        "body": 'gravcomp="1"', **second('actuatorgravcomp="true" actuatorfrcrange="-1 1"'),
    },
    "spring of free joint j1": first('type="free" stiffness="2"'),
    "height field hills: it is turned": {
        "top": '<asset><hfield name="hills" nrow="2" ncol="2" size="1 1 1 1" '
        'elevation="0 1 2 3"/></asset>',
        "world": '<geom name="hills" type="hfield" hfield="hills" euler="0.1 0 0"/>',
    },
}  # fmt: skip


def text_of(case):
    return ROBOT.format(**(PLACES | case))


def convert(folder, case, **options):
    (folder / "robot.xml").write_text(text_of(case))
    return convert_robot(folder / "robot.xml", folder / "robot.usda", **options)


@pytest.mark.parametrize("case", HONOURED.values(), ids=HONOURED)
def test_what_is_honoured_moves_as_in_mujoco(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs what it warns of in the working directory
    convert(tmp_path, case)
    if "<sensor>" in text_of(case):  # MuJoCo itself refuses
        (tmp_path / "robot.xml").write_text(text_of({}))
    mass, acceleration = deviation(tmp_path / "robot.usda", tmp_path / "robot.xml")
    assert mass < 1e-6
    assert acceleration < 1e-5


@pytest.mark.parametrize(("said", "case"), LISTED.items(), ids=LISTED)
def test_what_moves_the_robot_no_otherwise_is_listed(said, case, tmp_path):
    lines = convert(tmp_path, case)
    assert any(re.search(said, line) for line in lines), lines
    assert max(deviation(tmp_path / "robot.usda", tmp_path / "robot.xml", count=3)) < 1e-5


@pytest.mark.parametrize(("said", "case"), REFUSED.items(), ids=REFUSED)
def test_what_would_move_otherwise_is_refused_and_listed_if_lenient(said, case, tmp_path):
    with pytest.raises(ValueError, match=said):
        convert(tmp_path, case)
    assert [path.name for path in tmp_path.iterdir()] == ["robot.xml"]
    lines = convert(tmp_path, case, lenient=True)
    assert any(re.search(said, line) for line in lines), lines


def test_friction_with_the_ground_is_mujocos(tmp_path):
    floor, foot = '<geom type="plane" size="1 1 1" {}/>', '<geom size="0.1" {}/>'
    for floor_has, foot_has, friction in (
        ('friction="0.4"', 'friction="0.7"', 0.7),
        ('friction="0.4" priority="1"', 'friction="0.7"', 0.4),
        ('friction="0.4"', 'friction="0.2" priority="1"', 0.2),
        ('condim="1"', 'condim="1"', 0.0),
        ('condim="1"', 'condim="3" friction="0.5"', 1.0),
    ):
        case = {"world": floor.format(floor_has), "inside": foot.format(foot_has),
                "top": '<default><geom contype="1"/></default>'}  # fmt: skip
        text = text_of(case).replace(
            'size="0.05" mass', 'size="0.05" contype="0" conaffinity="0" mass'
        )
        text = text.replace('size="0.04" mass', 'size="0.04" contype="0" conaffinity="0" mass')
        (tmp_path / "robot.xml").write_text(text)
        convert_robot(tmp_path / "robot.xml", tmp_path / "robot.usda")
        robot = Articulation.from_usd(tmp_path / "robot.usda", num_envs=1).description
        assert robot.contact.mu == pytest.approx(friction)


def test_limits_of_what_is_light_are_soft_enough_to_be_followed(tmp_path):
    """Their springs swing at 1,920 / s at most, in the initial pose, each by itself."""
    tip = '<body pos="0.1 0 0"><joint name="tip" axis="0 1 0" range="0 1"/>{}</body>'
    for shape, softer in (
        ('<geom size="0.004" pos="0.01 0 0"/>', True), ('<geom size="0.1" pos="0.1 0 0"/>', False)
    ):  # fmt: skip
        lines = convert(tmp_path, {"inside": tip.format(shape)})
        assert any("limits of joints tip, which move" in line for line in lines) == softer
        robot = Articulation.from_usd(tmp_path / "robot.usda", num_envs=1, dtype=torch.float64)
        joint = robot.description.bodies[-1].joint
        if not softer:
            assert joint.limit_ke == pytest.approx(1000.0)
            continue
        inverse = np.linalg.inv(robot.mass_matrix(torch.zeros(1, 3, dtype=torch.float64))[0])
        assert joint.limit_ke * inverse[-1, -1] == pytest.approx(1920.0**2, rel=0.01)


def test_everything_in_a_compiled_model_has_a_verdict():
    """A field of MuJoCo that nobody thought of could move a robot in silence."""
    model = mujoco.MjModel.from_xml_string(ROBOT.format(**PLACES))
    arrays = [name for name in dir(model) if isinstance(getattr(model, name), np.ndarray)
              and not name.startswith("_")]  # fmt: skip
    options = [f"opt.{name}" for name in dir(model.opt) if not name.startswith("_")]
    assert [name for name in arrays + options if fields.verdict(name) is None] == []
    flags = [name.removeprefix("mjDSBL_") for name in mujoco.mjtDisableBit.__members__]
    assert set(flags) - {"mjNDISABLE"} <= set(fields.FLAGS)


def test_keyframes_joint_names_and_actuators_come_along(tmp_path):
    case = {
        **first('type="free"'),
        "inside": '<body name="j2"><joint name="c-3" type="ball"/><geom size="0.1"/></body>',
        "bottom": '<keyframe><key name="home" qpos="1 2 3 0 1 0 0 0.5 0 0 0 1"/><key/></keyframe>'
        '<actuator><motor name="push" joint="j2" gear="120" ctrlrange="-0.4 0.4"/>'
        '<position joint="j2" kp="50" kv="2" forcerange="-7 8"/></actuator>',
        **second('actuatorfrcrange="-2 3"'),
    }
    case["first"] = '<joint name="j1" type="free"/>'
    convert(tmp_path, case)
    robot = Articulation.from_usd(tmp_path / "robot.usda", num_envs=1).description
    joints = {body.joint.name: body.joint for body in robot.bodies}
    assert list(joints) == ["a", "j2", "c-3"]
    assert_allclose(joints["a"].keyframes["home"], [1, 2, 3, 1, 0, 0, 0])
    assert_allclose(joints["j2"].keyframes["home"], [0.5])
    assert_allclose(joints["c-3"].keyframes["home"], [0, 0, 1, 0])
    assert_allclose(joints["j2"].keyframes["key_1"], [0])
    assert_allclose(joints["j2"].force_range, [-2, 3])
    motor, servo = robot.actuators
    assert (motor.name, motor.joint, motor.kind, motor.gear) == ("push", "j2", "motor", 120.0)
    assert_allclose(motor.control_range, [-0.4, 0.4])
    assert (servo.name, servo.kind, servo.gain) == ("actuator_1", "position", 50.0)
    assert_allclose(servo.bias, [0, -50, -2])
    assert_allclose(servo.force_range, [-7, 8])


@pytest.mark.parametrize(
    ("place", "height", "slope"),
    [
        ('pos="3 4 0.5"', 0.5, (0.0, 0.0)),
        ('pos="0 0 -0.325" zaxis="-0.3 0.4 2"', -0.325, (0.15, -0.2)),
    ],
)
def test_the_ground_is_the_sources_plane(place, height, slope, tmp_path):
    world = (
        f'<geom type="plane" size="5 5 1" {place}/><geom type="plane" size="1 1 1" pos="0 0 9"/>'
    )
    convert(tmp_path, {"world": world})
    ground = Articulation.from_usd(tmp_path / "robot.usda", num_envs=1).description.ground
    assert ground.height == pytest.approx(height)
    assert_allclose(ground.slope, slope, atol=1e-7)


def test_the_ground_is_the_sources_height_field(tmp_path):
    """Its surface lies where MuJoCo's rays from above meet it, at the points of the grid."""
    heights = " ".join(map(str, np.random.default_rng(0).uniform(size=20)))
    case = {
        "top": f'<asset><hfield name="h" nrow="4" ncol="5" size="2 1 0.7 1" elevation="{heights}"/>'
        "</asset>",
        "world": '<geom name="floor" type="plane" size="5 5 1"/>'
        '<geom type="hfield" hfield="h" pos="0.3 -5 0.2" euler="0 0 1.57079632679"/>',
    }
    lines = convert(tmp_path, case)
    assert "plane floor beside the ground: what moves passes through it" in lines
    ground = Articulation.from_usd(tmp_path / "robot.usda", num_envs=1).description.ground
    assert ground.heights.shape == (4, 5)
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "robot.xml"))
    data, down, which = (
        mujoco.MjData(model),
        np.array([0.0, 0.0, -1.0]),
        np.zeros(1, dtype=np.int32),
    )
    mujoco.mj_forward(model, data)
    for i in range(4):
        for j in range(5):
            inside = np.clip([i, j], 1e-4, [2.9999, 3.9999])  # a ray along an edge may miss
            place = ground.corner + ground.cell * inside
            ray = np.array([*place, 9.0])
            met = mujoco.mj_ray(model, data, ray, down, None, 1, -1, which, np.zeros(3))
            assert ground.surface(place)[0] == pytest.approx(9.0 - met, abs=1e-3)


def test_pairs_with_a_ground_that_another_file_holds_touch_it(tmp_path):
    case = {
        "inside": '<geom name="foot" size="0.1" contype="0" conaffinity="0"/>'
        '<geom name="eye" size="0.1" contype="0" conaffinity="0"/>',
        "bottom": '<contact><pair geom1="floor" geom2="foot" friction="0.8 0.8 0 0 0"/></contact>',
    }
    lines = convert(tmp_path, case, ground=True)
    assert "pair of foot with floor, which is not in the file: foot touches the ground" in lines
    robot = Articulation.from_usd(tmp_path / "robot.usda", num_envs=1).description
    touching = [shape.path.rpartition("/")[2] for body in robot.bodies for shape in body.shapes
                if shape.collides]  # fmt: skip
    assert touching == ["a_geom", "limb", "foot"]
