"""Actuators: motors and servos from a file or from options, their forces and gradients."""

import numpy as np
import pytest
import torch

import warp_envs
from tests.kernels.articulation import mujoco_reference  # noqa: F401  # skips without MuJoCo
from warp_envs.robots.base import asset_path
from warp_envs.usd.conversion.convert import convert_robot

DOUBLE = torch.float64
HOPPER = asset_path("hopper.usda")
SERVOS = {
    "thigh": {"kind": "position", "kp": 80, "kd": 4, "force": 25},
    "leg": {"kind": "velocity", "kd": 20, "range": 5},
    "foot": {"gear": 30, "force": [-20, 15]},
}
STEPS, DIRECTIONS, SIZE = 16, 4, 1e-6


def make(num_envs, **options):
    options = {"dtype": DOUBLE, "reward": {"progress": 1, "torque": -1e-3}, **options}
    return warp_envs.make("robot", asset=HOPPER, num_envs=num_envs, actuators=SERVOS, **options)


def returns(env, start, actions):
    """Rewards and final observations of every environment, summed, and the torques seen."""
    env.set_state(start)
    env.detach()
    total, torques = 0.0, []
    for action in actions:
        obs, reward, _, _, info = env.step(action)
        total = total + reward
        torques.append(info["reward_terms"]["torque"])
    return total + obs.sum(1), torch.stack(torques)


@pytest.fixture(scope="module", params=[True, False], ids=["compiled", "plain"])
def rolled(request):
    """A rollout's actions, returns, torques and slopes of the returns by central differences."""
    env = make(1 + 2 * DIRECTIONS, compiled=request.param, seed=1)
    start = {n: v[:1].expand_as(v) for n, v in env.get_state().items() if n != "seed"}
    torch.manual_seed(0)
    actions = 1.6 * torch.rand(STEPS, 1, 3, dtype=DOUBLE) - 0.8
    directions = torch.randn(DIRECTIONS, STEPS, 3, dtype=DOUBLE)
    moves = torch.cat([torch.zeros(1, STEPS, 3), SIZE * directions, -SIZE * directions])
    actions = (actions + moves.transpose(0, 1)).requires_grad_()
    total, torques = returns(env, start, actions)
    (gradient,) = torch.autograd.grad(total[0], actions)
    ends = total.detach()
    slopes = (ends[1 : 1 + DIRECTIONS] - ends[1 + DIRECTIONS :]) / (2 * SIZE)
    return (gradient[:, 0] * directions).sum((1, 2)), slopes, ends, torques, gradient[:, 0]


def test_gradient_through_servos_over_16_steps(rolled):
    found, slopes, *_, torques, _ = rolled
    assert (found - slopes).abs().max() <= 1e-5 * slopes.abs().max()
    assert torques.std() > 0


KEPT = {}


def test_plain_and_compiled_steps_agree(rolled):
    _, _, ends, torques, gradient = rolled
    if not KEPT:
        KEPT.update(ends=ends, torques=torques, gradient=gradient)
        return
    for found, name in ((ends, "ends"), (torques, "torques"), (gradient, "gradient")):
        assert torch.allclose(found, KEPT[name], rtol=1e-8, atol=1e-9 * KEPT[name].abs().max())


def test_a_servo_without_bounds_is_a_spring_and_a_damper_about_its_target():
    """And one with bounds never pulls harder."""
    env = make(2, compiled=False, substeps=4)
    joint = env.articulation.description.bodies[env._drives.bodies[0]].joint
    assert (joint.servo_kp, joint.servo_kd) == (80.0, 4.0)
    assert joint.servo_range.tolist() == [-25.0, 25.0]
    middle, half = 0.5 * (joint.lower + joint.upper), 0.5 * (joint.upper - joint.lower)
    action = torch.tensor([[0.5, 0.0, 0.0], [-1.0, 0.0, 0.0]], dtype=DOUBLE)
    _, _, _, _, info = env.step(action)
    q, qd = (env.get_state()[name] for name in ("joint_q", "joint_qd"))
    thigh = (80 * (middle + half * action[:, 0] - q[:, 3]) - 4 * qd[:, 3]).clip(-25, 25)
    leg, foot = -20 * qd[:, 4], torch.zeros(2, dtype=DOUBLE)
    expected = -1e-3 * (thigh**2 + leg**2 + foot**2)
    assert torch.allclose(info["reward_terms"]["torque"], expected, rtol=1e-9)


ARM = """<mujoco>
  <option timestep="1e-4"><flag contact="disable"/></option>
  <worldbody><body name="a" pos="0 0 1">
    <joint name="ja" axis="0 1 0" range="-60 80"/>
    <geom type="capsule" fromto="0 0 0 .3 0 0" size=".04"/>
    <body name="b" pos=".3 0 0">
      <joint name="jb" axis="0 1 0" actuatorfrcrange="-3 2.5"/>
      <geom type="capsule" fromto="0 0 0 .2 0 0" size=".03"/>
      <body name="c" pos=".2 0 0">
        <joint name="jc" type="slide" axis="1 0 0" range="-.2 .2"/><geom size=".05"/>
        <body name="d" pos=".1 0 0"><joint name="jd" axis="0 0 1"/>
          <geom size=".05" pos=".1 0 0"/></body>
      </body></body></body></worldbody>
  <actuator>
    <position joint="ja" kp="30" kv="2" gear="1.5" ctrlrange="-1 1" forcerange="-8 8"/>
    <velocity joint="jb" kv="4" ctrlrange="-2 3"/>
    <motor joint="jc" gear="-12" ctrlrange="-.5 1"/>
    <general joint="jd" gainprm="3" biastype="affine" biasprm=".2 -1 -.1" ctrlrange="0 1"/>
  </actuator>
</mujoco>"""


def test_actuators_of_a_file_accelerate_its_joints_as_in_mujoco(tmp_path):
    mujoco = pytest.importorskip("mujoco")
    (tmp_path / "arm.xml").write_text(ARM)
    convert_robot(tmp_path / "arm.xml", tmp_path / "arm.usda")
    env = warp_envs.make(
        "robot",
        asset=tmp_path / "arm.usda",
        num_envs=20,
        dtype=DOUBLE,
        control_step=1e-4,
        substeps=1,
        compiled=False,
    )
    assert env.num_actions == 4
    rng = np.random.default_rng(0)
    q, qd, a = 0.3 * rng.normal(size=(20, 4)), rng.normal(size=(20, 4)), rng.uniform(-1, 1, (20, 4))
    q[:, 2] *= 0.3
    q[:, 0] = q[:, 0].clip(-1, 1)
    env.set_state({"joint_q": torch.tensor(q), "joint_qd": torch.tensor(qd)})
    env.step(torch.tensor(a))
    found = (env.get_state()["joint_qd"].numpy() - qd) / 1e-4
    model = mujoco.MjModel.from_xml_string(ARM)
    data = mujoco.MjData(model)
    low, high = model.actuator_ctrlrange.T
    for i in range(20):
        data.qpos[:], data.qvel[:] = q[i], qd[i]
        data.ctrl[:] = low + 0.5 * (a[i] + 1) * (high - low)
        mujoco.mj_forward(model, data)
        assert np.allclose(found[i], data.qacc, rtol=1e-5, atol=1e-5 * np.abs(data.qacc).max())


def test_options_go_on_from_the_file(tmp_path):
    (tmp_path / "arm.xml").write_text(ARM)
    pytest.importorskip("mujoco")
    convert_robot(tmp_path / "arm.xml", tmp_path / "arm.usda")

    def made(**options):
        asset = tmp_path / "arm.usda"
        return warp_envs.make(
            "robot", asset=asset, num_envs=1, compiled=False, dtype=DOUBLE, **options
        )

    env = made(actuators={"ja": {"kp": 10}, "j[bd]": {"kind": "motor", "gear": 7}})
    joints = {b.joint.name: b.joint for b in env.articulation.description.bodies}
    assert joints["ja"].servo_kp == 10 * 1.5**2 and joints["ja"].servo_kd == 2 * 1.5**2
    assert joints["ja"].servo_range.tolist() == [-12.0, 12.0]
    assert env._drives.slope.tolist() == [15.0, 7.0, -9.0, 7.0]
    assert env._drives.bias.tolist() == [0.0, 0.0, -3.0, 0.0]
    assert made(actuated=["jc", "ja"], actuators={"ja": {"kind": "motor"}}, gear=2).num_actions == 2
    with pytest.raises(ValueError, match=r"gear: 2\.0, but joint ja has a servo given"):
        made(gear=2.0)


@pytest.mark.parametrize(
    ("actuators", "message"),
    [
        ({"thihg": {"gear": 1}}, "actuators: 'thihg' given, one of .*did you mean 'thigh'"),
        ({"thigh": 4}, "actuators.thigh: 4 given, a mapping of settings"),
        ({"thigh": {"kind": "positon"}}, "actuators.thigh.kind: 'positon' given.*'position'"),
        ({"thigh": {"kp": 3}}, "actuators.thigh.kp: 3 given, one of .* of a motor actuator"),
        ({"thigh": {"kind": "position"}}, r"actuators.thigh.kp: 0.0 given, a number in \(0"),
        ({"thigh": {"gear": "x"}}, "actuators.thigh.gear: 'x' given"),
        ({"thigh": {"range": [1, 1]}}, r"actuators.thigh.range: \[1, 1\] given, \[least, greatest"),
        ({"foot": {"kind": "velocity", "kd": 1}}, "actuators.foot.range: no range of the velocity"),
        ({"foot": {"force": 0}}, "actuators.foot.force: 0 given"),
        ([], r"actuators: \[\] given, a mapping of joints"),
    ],
)
def test_an_actuator_that_does_not_fit_is_refused_by_name(actuators, message):
    with pytest.raises(ValueError, match=message):
        warp_envs.make("robot", asset=HOPPER, num_envs=1, actuators=actuators)


def test_a_robot_with_nothing_to_drive_is_refused_in_a_line(tmp_path):
    (tmp_path / "stone.usda").write_text(
        '#usda 1.0\n(defaultPrim = "stone")\n'
        'def Xform "stone" (prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsMassAPI"])\n'
        "{\n float physics:mass = 1\n float3 physics:diagonalInertia = (1, 1, 1)\n}\n"
    )
    with pytest.raises(ValueError, match="stone, which has no hinge or slide to drive given"):
        warp_envs.make("robot", asset=tmp_path / "stone.usda", num_envs=1)


def test_a_rotors_inertia_is_felt_by_the_square_of_its_gear():
    plain = make(1, compiled=False, substeps=4)
    with_rotor = warp_envs.make(
        "robot", asset=HOPPER, num_envs=1, compiled=False, substeps=4, dtype=DOUBLE,
        actuators={**SERVOS, "foot": {"gear": 30, "armature": 1e-3}, "leg": {"armature": 0.2,
        "kind": "velocity", "kd": 20, "range": 5}},
    )  # fmt: skip
    q = torch.tensor(plain.articulation.default_joint_q[None])
    added = with_rotor.articulation.mass_matrix(q) - plain.articulation.mass_matrix(q)
    assert torch.allclose(added[0], torch.diag(torch.tensor([0, 0, 0, 0, 0.2, 0.9], dtype=DOUBLE)))
    with pytest.raises(ValueError, match=r"actuators\.foot\.armature"):
        warp_envs.make("robot", asset=HOPPER, num_envs=1, actuators={"foot": {"armature": -1}})
