"""A Hopper whose torso is held in the air, and what MuJoCo has it do: lengths are Gymnasium's."""

import mujoco
import numpy as np

PARTS = ("thigh", "leg", "foot")
TRUE = {
    "thigh.mass": 3.93, "leg.mass": 2.71, "foot.mass": 5.09,
    "thigh_joint.damping": 1.3, "leg_joint.damping": 0.7, "foot_joint.damping": 1.0,
    "thigh_joint.armature": 0.8, "leg_joint.armature": 0.5, "foot_joint.armature": 0.3,
}  # fmt: skip
GUESS = {
    name: value * factor
    for (name, value), factor in zip(
        TRUE.items(), (0.7, 1.4, 0.8, 0.5, 2.0, 1.5, 1.5, 0.6, 1.6), strict=True
    )
}
INTERVAL, SAMPLES = 0.02, 151

_FILE = """
<mujoco><compiler angle="radian"/><option timestep="0.001" integrator="RK4"/><worldbody>
  <body name="torso" pos="0 0 3"><geom type="capsule" size="0.05 0.2" mass="3.67"/>
    <body name="thigh" pos="0 0 -0.2">
      <joint name="thigh_joint" axis="0 -1 0" damping="{}" armature="{}"/>
      <geom type="capsule" pos="0 0 -0.225" size="0.05 0.225" mass="{}"/>
      <body name="leg" pos="0 0 -0.7">
        <joint name="leg_joint" axis="0 -1 0" pos="0 0 0.25" damping="{}" armature="{}"/>
        <geom type="capsule" size="0.04 0.25" mass="{}"/>
        <body name="foot" pos="0.13 0 -0.35">
          <joint name="foot_joint" axis="0 -1 0" pos="-0.13 0 0.1" damping="{}" armature="{}"/>
          <geom type="capsule" pos="-0.065 0 0.1" euler="0 1.5707963267948966 0" size="0.06 0.195"
            mass="{}"/>
        </body></body></body></body></worldbody>
  <actuator><motor joint="thigh_joint"/><motor joint="leg_joint"/><motor joint="foot_joint"/>
  </actuator></mujoco>"""


def mjcf(numbers):
    """The robot with such masses [kg], dampings [N m s/rad] and armatures [kg m^2]."""
    names = [(f"{p}_joint.damping", f"{p}_joint.armature", f"{p}.mass") for p in PARTS]
    return _FILE.format(*[numbers[name] for part in names for name in part])


def record():
    """Three seconds of motion under torques of several frequencies, as arrays of a recording."""
    model = mujoco.MjModel.from_xml_string(mjcf(TRUE))
    data = mujoco.MjData(model)
    data.qpos[:] = -0.4, -0.8, 0.3
    found = {"time": [], "joint_q": [], "joint_qd": [], "action": []}
    for k in range(SAMPLES):
        time = k * INTERVAL
        data.ctrl[:] = (
            30.0 * np.sin(5.0 * time + 1.0) + 15.0 * np.sin(13.0 * time),
            20.0 * np.cos(7.0 * time) + 10.0 * np.sin(17.0 * time),
            10.0 * np.sin(9.0 * time) + 8.0 * np.cos(21.0 * time),
        )
        for name, value in (("time", time), ("joint_q", data.qpos), ("joint_qd", data.qvel)):
            found[name].append(np.copy(value))
        found["action"].append(data.ctrl.copy())
        mujoco.mj_step(model, data, round(INTERVAL / model.opt.timestep))
    return {name: np.array(values) for name, values in found.items()}


def noisy(arrays, seed):
    """With noise of 1 % of what each coordinate varies."""
    rng = np.random.default_rng(seed)
    found = dict(arrays)
    for name in ("joint_q", "joint_qd"):
        spread = 0.01 * arrays[name].std(axis=0)
        found[name] = arrays[name] + spread * rng.normal(size=arrays[name].shape)
    return found
