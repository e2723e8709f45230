"""Humanoid (Xu et al. 2022), with the right inertia and with the published one."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from kernels.robots import walker
from warp_envs.robots.base import asset_path
from warp_envs.robots.walker import START_HINGE_SPREAD, START_SPREAD, WalkerEnv

SIDES = {"right": -1.0, "left": 1.0}
LEG = ("hip_x", "hip_z", "hip_y", "knee", "ankle_y", "ankle_x")
ARM = ("shoulder1", "shoulder2", "elbow")
NUM_HINGES = 21
START_HEIGHT = 1.35  # m


class HumanoidEnv(WalkerEnv):
    """A humanoid that is to run along x.

    | | what | unit |
    |---|---|---|
    | action (21) | torques on abdomen z, y, x; right hip x, z, y, knee, ankle y, x; left leg; \
right shoulder 1, 2, elbow; left arm / (70, 70, 70; 70, 70, 210, 140, 35, 35; the same; 35, 35, \
70; the same) N m | 1 |
    | obs 0 | height of the torso's origin | m |
    | obs 1-4 | orientation of the torso (x, y, z, w) | 1 |
    | obs 5-7, 8-10 | its origin's velocity and its angular velocity, world axes | m/s, rad/s |
    | obs 11-31, 32-52 | hinge angles, 0.1 * hinge velocities | rad, rad/s |
    | obs 53, 54 | vertical part of its up axis; forward's cosine with the way to (200, 0) m | 1 |
    | obs 55-75 | the action just applied, clipped; zero after a reset | 1 |
    | reward: progress | velocity of the torso's origin along x | m/s |
    | reward: up, heading | 0.1 * obs 53, obs 54 | 1 |
    | reward: height | d = height - 0.84 m clipped to [-1, 0.1]; -200 d^2 below zero, 10 d above | |
    | reward: effort | -0.002 times the squared action | 1 |

    Terminates when the torso's origin is lower than 0.74 m; episodes last 1000 steps of 1/60 s, 48
    substeps each. They start upright at height 1.35 m, scattered as `WalkerEnv` says. State:
    ``joint_q`` (28), ``joint_qd`` (27), ``last_action`` (21).
    """

    name = "humanoid"
    asset = asset_path("humanoid.usda")
    actuated = (
        *("abdomen_z", "abdomen_y", "abdomen_x"),
        *(f"{side}_{joint}" for part in (LEG, ARM) for side in SIDES for joint in part),
    )
    gear = (
        *(70.0, 70.0, 70.0),
        *(70.0, 70.0, 210.0, 140.0, 35.0, 35.0) * 2,
        *(35.0, 35.0, 70.0) * 2,
    )
    substeps = 48
    num_obs = 76
    extra_state = MappingProxyType({"last_action": NUM_HINGES})
    target = 200.0
    effort_weight = 0.002
    least_height = 0.74
    height_kernel = walker.upright_above
    start_q = (0.0, 0.0, START_HEIGHT, 0.0, 0.0, 0.0, 1.0, *[0.0] * NUM_HINGES)
    start_q_spread = (*[START_SPREAD] * 3, *[0.0] * 4, *[START_HINGE_SPREAD] * NUM_HINGES)


def _published_inertia() -> dict[str, np.ndarray]:
    """Inertia tensors of the published Humanoid, see `HumanoidDflexEnv`."""
    torso = np.diag([0.141999, 0.142168, 0.041212])
    torso[0, 2] = torso[2, 0] = -0.001833
    tensors = {
        "torso": torso,
        "waist": np.diag([0.0, 0.0, 0.009853]),
        "pelvis": np.diag([0.0, 0.0, 0.052318]),
    }
    for side, s in SIDES.items():
        lower_arm = np.diag([0.003718, 0.008793, 0.008793])
        lower_arm[0, 1] = lower_arm[1, 0] = lower_arm[1, 2] = lower_arm[2, 1] = s * 0.001698
        lower_arm[0, 2] = lower_arm[2, 0] = -0.001698
        tensors |= {
            f"{side}_thigh": np.diag([0.0, 0.074822, 5.6e-8]),
            f"{side}_shin": np.diag([0.0, 0.032608, 0.0]),
            f"{side}_foot": np.diag([0.000849, 0.005940, 0.006446]),
            f"{side}_upper_arm": np.diag([0.000429, 0.009893, 0.009893]),
            f"{side}_lower_arm": lower_arm,
        }
    return tensors


class HumanoidDflexEnv(HumanoidEnv):
    """The Humanoid with the inertia of the simulator of Xu et al. 2022, that of published scores.

    That simulator turned the inertia of a rotated shape by an elementwise product and lost
    off-diagonal terms when it added shapes. These are its tensors about the centre of mass, in
    body axes [kg m^2]. Thighs and shins have none about two axes: this body turns more easily than
    it should.
    """

    name = "humanoid_dflex"
    inertia = MappingProxyType(_published_inertia())
