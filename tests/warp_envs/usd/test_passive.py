"""Fluids, lift, springs of balls, damping of them and free joints, tendons and ties, with MuJoCo as
judge."""

import re
from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from tests.kernels.articulation.control_steps import (
    CONTROL_STEP,
    by_numpy,
    program,
    values_and_gradients,
    worst,
)
from tests.warp_envs.articulation.varied import everything, scattered
from tests.warp_envs.usd.mujoco_judge import reference_of
from tests.warp_envs.usd.test_conversion import ARM
from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.stiffness import measure_stiffness
from warp_envs.usd.conversion.convert import convert_robot
from warp_envs.usd.description import Body, Joint, RobotDescription
from warp_envs.usd.loader import load_robot
from warp_envs.usd.passive import Cord, Coupling, Drag

# All of it at once: a free root whose centre of mass is not its origin, a welded body, a ball.
ROBOT = """
<mujoco model="m"><compiler angle="radian"/>
  <option density="300" viscosity="0.4" wind="0.5 -0.3 0.2"/>
  <worldbody><site name="s0" pos="0.3 1 2"/><body name="a" pos="0 0 1" gravcomp="0.6">
    <site name="s1" pos="0.2 0.1 0.1"/>
    <joint name="root" type="free" damping="0.8" armature="0.3"/>
    <geom type="capsule" fromto="0 0 0 0.4 0.1 0" size="0.05" mass="1"/>
    <body name="w" pos="0.2 0 0.1" gravcomp="0.3" euler="0.3 0 1">
      <geom type="box" size="0.1 0.05 0.02" mass="0.3"/><site name="s2" pos="0.1 0 0"/></body>
    <body name="b" pos="0.4 0 0"><joint name="j1" axis="0 1 0.2"/>
      <geom type="box" size="0.04 0.1 0.06" pos="0.1 0 0" mass="0.5"/>
      <body name="c" pos="0.2 0 0" gravcomp="1.2"><joint name="j2" type="slide" axis="0 0.3 1"/>
        <geom type="capsule" fromto="0 0 0 0.2 0.1 0" size="0.04" mass="0.4"/>
        <site name="s3" pos="0.2 0.1 0"/></body>
      <body name="d" pos="0 0.2 0"><joint name="j3" type="ball" damping="0.5" armature="0.02"
          stiffness="3" range="0 0.6"/><site name="s4" pos="0.1 0 0.1"/>
        <geom type="ellipsoid" size="0.1 0.05 0.03" pos="0.1 0 0.1" mass="0.2"/></body>
    </body></body></worldbody>
  <tendon><fixed name="t" stiffness="30" damping="2" springlength="0.1 0.2">
    <joint joint="j1" coef="1.5"/><joint joint="j2" coef="-1"/></fixed>
    <spatial name="cord" stiffness="40" damping="3" springlength="0.2 0.5" range="0 1">
      <site site="s0"/><site site="s1"/><site site="s2"/><site site="s3"/><pulley divisor="2"/>
      <site site="s3"/><site site="s4"/><site site="s0"/></spatial></tendon>
</mujoco>
"""
ENVS = 20
STEPS, SUBSTEPS, SIZE = 16, 8, 1e-6


def convert(folder, text, **options):
    (folder / "robot.xml").write_text(text)
    lines = convert_robot(folder / "robot.xml", folder / "robot.usda", **options)
    return load_robot(folder / "robot.usda"), lines


def states(robot, count):
    rng = np.random.default_rng(0)
    q, qd, force = (rng.normal(size=(count, n)) * s for n, s in
                    ((robot.nq, 0.5), (robot.nv, 1.0), (robot.nv, 5.0)))  # fmt: skip
    at = 0
    for body in robot.bodies:
        at += body.joint.nq
        if body.joint.kind in ("free", "spherical"):
            q[:, at - 4 : at] /= np.linalg.norm(q[:, at - 4 : at], axis=1, keepdims=True)
    return [torch.tensor(x) for x in (q, qd, force)]


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robot")
    return convert(folder, ROBOT, ground=False)[0], folder / "robot.xml"


def test_accelerations_are_mujocos_in_plain_and_compiled_equations(robot):
    description, source = robot
    assert [cord.name for cord in description.cords] == ["cord", "cord_limit"]
    joints = [replace(body.joint, upper=np.inf) for body in description.bodies]  # limits are ours
    bodies = [replace(b, joint=j) for b, j in zip(description.bodies, joints, strict=True)]
    description = replace(description, bodies=bodies, cords=description.cords[:1])
    q, qd, force = states(description, ENVS)
    reference = reference_of(description, source)
    wanted = []
    for row in zip(q.numpy(), qd.numpy(), force.numpy(), strict=True):
        reference.set_state(*row[:2])
        passive = np.linalg.solve(reference.T.T, reference.data.qfrc_passive)
        wanted.append(reference.acceleration(row[2] + passive))
    _, plain = program(description, ENVS, torch.float64, 1, plain=True)(q, qd, force)
    seeds = [torch.ones_like(q), torch.ones_like(qd)]
    compiled = by_numpy(description, [q, qd, force], seeds, 1)[1]
    for next_qd in (plain, compiled):
        found = ((next_qd - qd) / CONTROL_STEP).numpy()
        errors = np.abs(found - wanted).max(axis=1) / np.abs(wanted).max(axis=1)
        assert errors.max() < 1e-5


def test_compiled_equations_and_their_gradients_are_the_plain_kernels(robot):
    description, _ = robot
    inputs = states(description, ENVS)
    rng = np.random.default_rng(1)
    seeds = [torch.tensor(rng.normal(size=x.shape)) for x in inputs[:2]]
    plain = program(description, ENVS, torch.float64, SUBSTEPS, plain=True)
    found = by_numpy(description, inputs, seeds, SUBSTEPS)
    assert worst(found, values_and_gradients(plain, inputs, seeds)) < 1e-10


def test_gradient_over_16_control_steps(robot):
    description, _ = robot
    q, qd, force = (x[:1] for x in states(description, 1))
    weights = torch.tensor(np.random.default_rng(2).normal(size=(STEPS, description.nq)))

    def total(step, q, qd, force):
        value = 0.0
        for row in weights:
            q, qd = step(q, qd, force)
            value = value + q @ row
        return value

    start = torch.cat([q, qd, force], 1)
    sizes, count = (q.shape[1], qd.shape[1], force.shape[1]), start.shape[1]
    moved = torch.cat([start + SIZE * torch.eye(count), start - SIZE * torch.eye(count)])
    many = program(description, 2 * count, torch.float64, SUBSTEPS, plain=True)
    ends = total(many, *(x.contiguous() for x in moved.split(sizes, 1)))
    differences = (ends[:count] - ends[count:]) / (2 * SIZE)
    leaves = [x.clone().requires_grad_() for x in (q, qd, force)]
    one = program(description, 1, torch.float64, SUBSTEPS, plain=True)
    gradient = torch.cat(torch.autograd.grad(total(one, *leaves).sum(), leaves), 1)[0]
    assert (gradient - differences).abs().max() < 1e-5 * differences.abs().max()


def test_parameters_that_vary_beside_all_of_it_have_their_gradients(robot):
    description, _ = robot
    count = 4
    names = everything(description)
    _, rows = scattered(description, names, count, seed=5)
    inputs = states(description, count)
    rng = np.random.default_rng(3)
    seeds = [torch.tensor(rng.normal(size=x.shape)) for x in inputs[:2]]
    varied = tuple(names)
    found = by_numpy(description, [*inputs, rows], seeds, SUBSTEPS, varied)
    plain = program(description, count, torch.float64, SUBSTEPS, plain=True, varied=varied)
    assert worst(found, values_and_gradients(plain, [*inputs, rows], seeds)) < 1e-9
    for column in range(rows.shape[1]):
        step = torch.zeros_like(rows)
        # A smaller step drowns the smallest derivatives, 1e-4 of values of 100, in rounding.
        step[:, column] = 1e-5 * rows[:, column].abs().clamp(min=0.1)
        ends = [
            sum((a * b).sum(1) for a, b in zip(plain(*inputs, rows + s), seeds, strict=True))
            for s in (step, -step)
        ]
        difference = (ends[0] - ends[1]) / (2.0 * step[:, column])
        torch.testing.assert_close(found[5][:, column], difference, rtol=1e-5, atol=1e-6)


TIED = """
<mujoco><compiler angle="radian"/><option timestep="0.001" gravity="0 0 -60"/>
  <worldbody><body pos="0 0 1">
  <joint name="j1" axis="0 1 0" damping="2" ref="0.2"/>
  <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.05" mass="1"/>
  <body pos="0.4 0 0"><joint name="j2" axis="0 1 0" damping="1"/>
    <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.04" mass="0.5"/></body></body></worldbody>
  <tendon><fixed name="t1"><joint joint="j1" coef="1"/></fixed>
    <fixed name="t2"><joint joint="j2" coef="2"/></fixed></tendon>
  <equality>{}</equality></mujoco>
"""


@pytest.mark.parametrize("tie", [
    '<joint name="e" joint1="j1" joint2="j2" polycoef="0.1 2 0 0 0"/>',
    '<tendon name="e" tendon1="t1" tendon2="t2" polycoef="0.1 1 0 0 0" solref="-4000 -100"/>',
])  # fmt: skip
def test_ties_come_to_rest_where_mujocos_do(tie, tmp_path):
    description, lines = convert(tmp_path, TIED.format(tie), ground=False)
    assert any(re.search("equality (joint|tendon) e: a spring", line) for line in lines)
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "robot.xml"))
    data = mujoco.MjData(model)
    for _ in range(4000):
        mujoco.mj_step(model, data)
    q = torch.tensor(Articulation(description, 1).default_joint_q[None])
    qd = torch.zeros(1, 2, dtype=torch.float64)
    step = program(description, 1, torch.float64, 40, plain=True)
    for _ in range(240):
        q, qd = step(q, qd, torch.zeros_like(qd))
    assert np.abs(data.qpos - model.qpos0).max() > 0.5, "nothing fell"
    assert_allclose(q[0], data.qpos, atol=5e-3)
    gaps = [(rows[0] - 0.2) - 0.1 - 2.0 * rows[1] for rows in (q[0].numpy(), data.qpos)]
    assert gaps[0] == pytest.approx(gaps[1], rel=0.15)


def test_what_a_urdf_mimics_is_tied(tmp_path):
    text = ARM.replace(
        "</joint>\n</robot>", '<mimic joint="shoulder" multiplier="0.5"/></joint></robot>'
    )
    (tmp_path / "arm.urdf").write_text(text)
    lines = convert_robot(tmp_path / "arm.urdf", tmp_path / "arm.usda")
    assert any("a spring, which gives way" in line for line in lines)
    (tie,) = load_robot(tmp_path / "arm.usda").couplings
    assert tie.joints == ("slide", "shoulder") and tie.weights == (1.0, -0.5)


def test_a_coupling_is_as_stiff_as_the_mass_that_it_moves(tmp_path):
    text = TIED.format('<joint name="e" joint1="j1"/>')
    description, _ = convert(tmp_path, text, ground=False)
    found = measure_stiffness(description).coupling
    assert found.what == "coupling e"
    # of solref 0.02 1 and solimp 0.95; the damper is as fast as the spring
    assert found.speed == pytest.approx(1.0 / 0.02 / 0.05**0.5, rel=0.05)


@pytest.mark.parametrize(("change", "said"), [
    (("300", "300"), None),
    (('size="0.05" mass', 'size="0.05" fluidshape="ellipsoid" mass'), "fluidshape of shapes"),
    (('type="free" damping', 'type="free" stiffness="2" damping'), "spring of free joint root"),
    (('springlength', 'armature="1" springlength'), "armature of tendons t"),
])  # fmt: skip
def test_what_remains_different_is_refused(change, said, tmp_path):
    assert change[0] in ROBOT
    if said is None:
        convert(tmp_path, ROBOT.replace(*change))
        return
    with pytest.raises(ValueError, match=said):
        convert(tmp_path, ROBOT.replace(*change))


def test_a_ball_is_pulled_back_along_its_rotation_vector():
    rng = np.random.default_rng(3)
    turns = Rotation.from_rotvec(rng.normal(size=(ENVS, 3)) * rng.uniform(0, 2, (ENVS, 1)))
    ball = Joint("ball", kind="spherical", stiffness=2.0, limit_ke=30.0, upper=1.2)
    solid = Body("b", "/b", -1, ball, mass=1.0, com=np.zeros(3), inertia=np.eye(3))
    robot = RobotDescription("b", "", (solid,), gravity=np.zeros(3))
    vectors = turns.as_rotvec()
    vectors[0] *= 0.0
    q = torch.tensor(Rotation.from_rotvec(vectors).as_quat() * rng.choice([-1, 1], (ENVS, 1)))
    still = torch.zeros(ENVS, 3, dtype=torch.float64)
    _, qd = program(robot, ENVS, torch.float64, 1, plain=True)(q, still, still)
    _, compiled = by_numpy(robot, [q, still, still], [torch.zeros_like(q), still], 1)[:2]
    angles = np.linalg.norm(vectors, axis=1, keepdims=True)
    gain = 2.0 + 30.0 * np.maximum(1.0 - 1.2 / np.maximum(angles, 1e-9), 0.0)
    assert 0 < (angles > 1.2).sum() < ENVS
    for found in (qd, compiled):
        assert_allclose(found / CONTROL_STEP, -gain * vectors, rtol=1e-12, atol=1e-12)


def test_numbers_that_would_drive_are_refused():
    with pytest.raises(ValueError, match=r"drag\.linear: "):
        Drag(linear=-1.0)
    with pytest.raises(ValueError, match=r"drag\.linear_square"):
        Drag(linear_square=np.array([0.0, np.nan, 0.0]))
    with pytest.raises(ValueError, match=r"c\.damping"):
        Coupling("c", ("a", "b"), (1.0, -1.0), damping=-2.0)
    with pytest.raises(ValueError, match=r"c\.bodies"):
        Cord("c", ("/a",), np.zeros((1, 3)), ())
    with pytest.raises(ValueError, match=r"cord\.points"):
        Cord("c", ("/a", ""), np.zeros((1, 3)), (1.0,))
    with pytest.raises(ValueError, match=r"c\.low"):
        Coupling("c", ("a",), (1.0,), low=1.0, high=0.0)


def test_a_usd_file_with_wrong_numbers_or_prims_is_refused_by_its_prim(robot):
    _, source = robot
    text = source.with_suffix(".usda").read_text()
    for pattern, change, said in (
        (r"(double\[\] gippo:drag = \[)", r"\g<1>1, ", "numbers, 18 for each drag"),
        (r"(double\[\] gippo:weights = \[)", r"\g<1>1, ", "gippo:weights is"),
        (r"(double\[\] gippo:liftMass = )\[.*\]", r"\g<1>[1, 2]", "gippo:liftMass is"),
        (r"(rel gippo:joints = )\[[^\]]*\]", r"\g<1></m>", "hinges and slides accepted"),
        (r"(int\[\] gippo:bodyNumbers = \[)", r"\g<1>9, ", "gippo:bodyNumbers is"),
        (r"(rel gippo:bodies = )\[[^\]]*\]", r"\g<1></m/Joints>", "bodies are accepted"),
        (r"(double\[\] gippo:angleLimit = )\[.*\]", r"\g<1>[-1]", "no negative numbers"),
    ):
        changed, count = re.subn(pattern, change, text)
        assert count
        wrong = source.with_name("wrong.usda")
        wrong.write_text(changed)
        with pytest.raises(ValueError, match=said):
            load_robot(wrong)
