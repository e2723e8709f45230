"""Hopper (Xu et al. 2022, as the paper trained it)."""

from __future__ import annotations

import warp as wp

from kernels.robots import hopper
from warp_envs.bridge.program import Program
from warp_envs.declarations import Quantity
from warp_envs.robots.base import ArticulatedEnv, asset_path
from warp_envs.vector_env import Arrays

LEAST_HEIGHT = -0.45  # m, of the torso, measured from the standing pose


class HopperEnv(ArticulatedEnv):
    """A planar one-legged robot that is to hop along x.

    | | what | unit |
    |---|---|---|
    | action (3) | torques on thigh, leg, foot / 200 N m | 1 |
    | obs 0, 1 | height above the standing pose, pitch | m, rad |
    | obs 2-4 | thigh, leg, foot | rad |
    | obs 5-10 | velocities of x, z, pitch, thigh, leg, foot | m/s, rad/s |
    | reward: progress | velocity along x | m/s |
    | reward: height | h = z + 0.3 m clipped to [-1, 0.3]; -200 h^2 below zero, h above | |
    | reward: pitch, effort | 1 - (pitch / 30 deg)^2, -0.1 times the squared action | |

    Terminates when z < -0.45 m; episodes last 1000 steps of 1/60 s (16 substeps). They start
    standing, every coordinate and velocity scattered by ±0.05. State: ``joint_q`` (6),
    ``joint_qd`` (6).
    """

    name = "hopper"
    asset = asset_path("hopper.usda")
    actuated = ("thigh", "leg", "foot")
    gear = 200.0
    substeps = 16
    num_obs = 11
    max_episode_steps = 1000
    reward_terms = ("progress", "height", "pitch", "effort")
    start_q_spread = 0.05
    start_qd_spread = 0.05

    @property
    def obs_quantities(self) -> tuple[Quantity, ...]:
        """The class's table of observations."""
        hinges = (Quantity("pitch", "rad"), *self._of_joints("angle of", "rad")[3:])
        return (
            Quantity("height above the standing pose", "m"),
            *hinges,
            *self._of_joints("velocity of", "rad/s", "m/s"),
        )

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """z, pitch, three hinges, six velocities."""
        inputs = [state["joint_q"], state["joint_qd"], obs]
        program.launch(hopper.observe, self.num_envs, inputs)

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """Progress, height, pitch and effort; terminated when the torso is down."""
        inputs = [
            self.scalar(LEAST_HEIGHT),
            next_state["joint_q"],
            next_state["joint_qd"],
            action,
            reward_terms,
            terminated,
        ]
        program.launch(hopper.reward, self.num_envs, inputs)
