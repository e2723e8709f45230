"""Ant (Xu et al. 2022), with the right inertia and with the paper's."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
import warp as wp

from kernels.robots import ant
from kernels.robots import shared as robot
from warp_envs.bridge.program import Program
from warp_envs.robots.base import ArticulatedEnv, asset_path
from warp_envs.vector_env import Arrays

NUM_HINGES = 8
LEAST_HEIGHT = 0.27  # m, of the torso's centre
START_HEIGHT = 0.75  # m
START_HINGES = (0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0)  # rad

# The simulator of Xu et al. turned the inertia of a rotated shape by an elementwise product,
# R * I * R^T entry by entry, so the Ant of all published scores on it has these tensors [kg m^2],
# about the centre of mass in body axes. For the legs they are unphysical.
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
    each. They start at height 0.75 m, scattered. State: ``joint_q`` (15), ``joint_qd`` (14),
    ``last_action`` (8).
    """

    INERTIA: ClassVar[dict[str, dict[str, np.ndarray]]] = {
        "ant": {},
        "ant_dflex": {
            "torso": _TORSO,
            **{f"upper_leg{leg}": _UPPER_LEG for leg in range(1, 5)},
            **{f"lower_leg{leg}": _LOWER_LEG for leg in range(1, 5)},
        },
    }

    def __init__(
        self,
        variant: str,
        *,
        num_envs: int,
        max_episode_steps: int = 1000,
        compiled: bool | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        """Make `num_envs` ants, "ant" with their shapes' inertia or "ant_dflex" with the paper's.

        Raises:
            ValueError: as `ArticulatedEnv`.
        """
        super().__init__(
            variant,
            asset=asset_path("ant.usda"),
            num_envs=num_envs,
            gear=200.0,
            actuated=[f"{joint}{leg}" for leg in range(1, 5) for joint in ("hip", "ankle")],
            substeps=16,
            num_obs=37,
            extra_state={"last_action": NUM_HINGES},
            reward_terms=("progress", "up", "heading", "height"),
            inertia=self.INERTIA[variant],
            max_episode_steps=max_episode_steps,
            compiled=compiled,
            device=device,
            dtype=dtype,
            seed=seed,
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

    def record_initial_state(self, program: Program, rng: wp.array, state: Arrays) -> None:
        """Position ±0.1 m, tilt up to pi/24, hinges ±0.2 rad, velocities ±1/4; no last action."""
        rest = np.array([0.0, 0.0, START_HEIGHT, 0.0, 0.0, 0.0, 1.0, *START_HINGES])
        spread = np.array([0.1] * 3 + [0.0] * 4 + [0.2] * NUM_HINGES)
        self.scatter(program, 0, rest, spread, rng, state["joint_q"])
        tilt = [self.scalar(math.pi / 24), 1, rng, state["joint_q"]]
        program.launch(ant.tilt_torso, self.num_envs, tilt)
        nv = self.articulation.nv
        self.scatter(program, 2, np.zeros(nv), np.full(nv, 0.25), rng, state["joint_qd"])
        none = np.zeros(NUM_HINGES)
        self.scatter(program, 3, none, none, rng, state["last_action"])
