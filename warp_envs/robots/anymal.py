"""Anymal (Georgiev et al. 2024)."""

from __future__ import annotations

from types import MappingProxyType

from kernels.robots import walker
from warp_envs.robots.base import asset_path
from warp_envs.robots.walker import START_HINGE_SPREAD, START_SPREAD, WalkerEnv

NUM_HINGES = 12
START_HEIGHT = 0.55  # m
START_HINGES = (  # rad
    *(0.03, 0.4, -0.8),
    *(-0.03, 0.4, -0.8),
    *(0.03, -0.4, 0.8),
    *(-0.03, -0.4, 0.8),
)


class AnymalEnv(WalkerEnv):
    """A four-legged robot, sprung towards straight legs, that is to run along x.

    | | what | unit |
    |---|---|---|
    | action (12) | torques on HAA, HFE, KFE of the legs LF, RF, LH, RH / 200 N m | 1 |
    | obs 0 | height of the base's origin | m |
    | obs 1-4 | orientation of the base (x, y, z, w) | 1 |
    | obs 5-7, 8-10 | its origin's velocity and its angular velocity, world axes | m/s, rad/s |
    | obs 11-22, 23-34 | hinge angles, 0.1 * hinge velocities | rad, rad/s |
    | obs 35, 36 | up axis' vertical part; forward's cosine with the way to (10,000, 0) m | 1 |
    | obs 37-48 | the action just applied, clipped; zero after a reset | 1 |
    | reward: progress | velocity along x | m/s |
    | reward: up, heading, height | 0.1 * obs 35, obs 36, height - 0.25 m | |
    | reward: effort | -0.005 times the squared action | 1 |

    Terminates when the base is lower than 0.25 m; episodes last 1000 steps of 1/60 s, 16 substeps
    each. They start standing at height 0.55 m, scattered as `WalkerEnv` says. The reward is that
    of the state after the step; Georgiev et al. take the one before it. State: ``joint_q`` (19),
    ``joint_qd`` (18), ``last_action`` (12).
    """

    name = "anymal"
    asset = asset_path("anymal.usda")
    actuated = tuple(
        f"{leg}_{joint}" for leg in ("LF", "RF", "LH", "RH") for joint in ("HAA", "HFE", "KFE")
    )
    gear = 200.0
    substeps = 16
    num_obs = 49
    extra_state = MappingProxyType({"last_action": NUM_HINGES})
    target = 10_000.0
    effort_weight = 0.005
    least_height = 0.25
    height_kernel = walker.above
    start_q = (0.0, 0.0, START_HEIGHT, 0.0, 0.0, 0.0, 1.0, *START_HINGES)
    start_q_spread = (*[START_SPREAD] * 3, *[0.0] * 4, *[START_HINGE_SPREAD] * NUM_HINGES)
