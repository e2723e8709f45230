"""Ant (Xu et al. 2022), with the right inertia and with the paper's."""

from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np
import warp as wp

from kernels.robots import ant
from kernels.robots import shared as robot
from warp_envs.bridge.program import Program
from warp_envs.declarations import Quantity
from warp_envs.robots.base import ArticulatedEnv, asset_path
from warp_envs.vector_env import Arrays

NUM_HINGES = 8
LEAST_HEIGHT = 0.27  # m, of the torso's centre
START_HEIGHT = 0.75  # m
START_HINGES = (0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0)  # rad

# [kg m^2], see `AntDflexEnv`
_TORSO = np.array([[1.996885, 0.085211, 0.0], [0.085211, 2.176695, 0.0], [0.0, 0.0, 2.717143]])
_UPPER_LEG = np.diag([0.011844, 0.056797, 0.113593])
_LOWER_LEG = np.diag([0.020943, 0.267479, 0.534958])


class AntEnv(ArticulatedEnv):
    """A four-legged robot that is to run along x.

    | | what | unit |
    |---|---|---|
    | action (8) | torques on hip1, ankle1, ..., hip4, ankle4 / 200 N m | 1 |
    | obs 0 | height of the torso | m |
    | obs 1-4 | orientation of the torso (x, y, z, w) | 1 |
    | obs 5-7, 8-10 | its linear and angular velocity, world axes | m/s, rad/s |
    | obs 11-18, 19-26 | hinge angles, 0.1 * hinge velocities | rad, rad/s |
    | obs 27, 28 | vertical part of its up axis, part along x of its forward axis | 1 |
    | obs 29-36 | the action just applied, clipped; zero after a reset | 1 |
    | reward: progress | velocity along x | m/s |
    | reward: up, heading, height | 0.1 * obs 27, obs 28, height - 0.27 m | |

    Terminates when the torso is lower than 0.27 m; episodes last 1000 steps of 1/60 s, 16 substeps
    each. They start at height 0.75 m, scattered: position by ±0.1 m, a tilt of up to pi/24, hinges
    by ±0.2 rad, velocities by ±1/4. State: ``joint_q`` (15), ``joint_qd`` (14),
    ``last_action`` (8).
    """

    name = "ant"
    asset = asset_path("ant.usda")
    actuated = tuple(f"{joint}{leg}" for leg in range(1, 5) for joint in ("hip", "ankle"))
    gear = 200.0
    substeps = 16
    num_obs = 37
    max_episode_steps = 1000
    extra_state = MappingProxyType({"last_action": NUM_HINGES})
    reward_terms = ("progress", "up", "heading", "height")
    start_q = (0.0, 0.0, START_HEIGHT, 0.0, 0.0, 0.0, 1.0, *START_HINGES)
    start_q_spread = (*[0.1] * 3, *[0.0] * 4, *[0.2] * NUM_HINGES)
    start_qd_spread = 0.25
    start_tilt = math.pi / 24

    @property
    def obs_quantities(self) -> tuple[Quantity, ...]:
        """The class's table of observations."""
        return (
            Quantity("height", "m"),
            Quantity("orientation xyzw", "1", 4),
            Quantity("linear velocity", "m/s", 3),
            Quantity("angular velocity", "rad/s", 3),
            *self._of_joints("angle of", "rad"),
            *self._of_joints("0.1 * velocity of", "rad/s"),
            Quantity("up", "1"),
            Quantity("heading", "1"),
            *(Quantity(f"last action {q.name}", "1") for q in self.action_quantities),
        )

    def record_step(
        self, program: Program, state: Arrays, action: wp.array, next_state: Arrays
    ) -> None:
        """The articulation's step; the action is kept to be observed."""
        super().record_step(program, state, action, next_state)
        program.launch(robot.copy_rows, action.shape, [action, next_state["last_action"], 0])

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """The 37 numbers of the class's table."""
        inputs = [state["joint_q"], state["joint_qd"], state["last_action"], obs]
        program.launch(ant.observe, self.num_envs, inputs)

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """Progress, uprightness, heading and height; terminated when the torso is down."""
        least = self.scalar(LEAST_HEIGHT)
        inputs = [least, next_state["joint_q"], next_state["joint_qd"], reward_terms, terminated]
        program.launch(ant.reward, self.num_envs, inputs)


class AntDflexEnv(AntEnv):
    """The Ant with the inertia of the simulator of Xu et al. 2022, on which the paper trained it.

    That simulator turned the inertia of a rotated shape by an elementwise product, R * I * R^T
    entry by entry, so the Ant of all published scores on it has these tensors about the centre of
    mass, in body axes. For the legs they are unphysical.
    """

    name = "ant_dflex"
    inertia = MappingProxyType(
        {
            "torso": _TORSO,
            **{f"upper_leg{leg}": _UPPER_LEG for leg in range(1, 5)},
            **{f"lower_leg{leg}": _LOWER_LEG for leg in range(1, 5)},
        }
    )
