"""HalfCheetah (Xu et al. 2022)."""

from __future__ import annotations

import warp as wp

from kernels.robots import half_cheetah
from kernels.robots import shared as robot
from warp_envs.bridge.program import Program
from warp_envs.declarations import Quantity
from warp_envs.robots.base import ArticulatedEnv, asset_path
from warp_envs.vector_env import Arrays

EFFORT_WEIGHT = 0.1


class HalfCheetahEnv(ArticulatedEnv):
    """A planar robot on two legs, one behind the other, that is to run along x.

    | | what | unit |
    |---|---|---|
    | action (6) | torques on thigh, shin, foot behind, then in front / 200 N m | 1 |
    | obs 0, 1 | height of the torso above 1 m, pitch (nose down) | m, rad |
    | obs 2-7 | thigh, shin, foot behind, then in front | rad |
    | obs 8-16 | velocities of x, z, pitch and the hinges | m/s, rad/s |
    | reward: progress | velocity along x | m/s |
    | reward: effort | -0.1 times the squared action | 1 |

    Never terminates; episodes last 1000 steps of 1/60 s, 16 substeps each. They start 0.2 m below
    the asset's pose, scattered: x, z, pitch and hinges by ±0.1, velocities by ±0.25. State:
    ``joint_q`` (9), ``joint_qd`` (9).
    """

    name = "half_cheetah"
    asset = asset_path("half_cheetah.usda")
    actuated = tuple(
        f"{side}_{part}" for side in ("back", "front") for part in ("thigh", "shin", "foot")
    )
    gear = 200.0
    substeps = 16
    num_obs = 17
    max_episode_steps = 1000
    reward_terms = ("progress", "effort")
    start_q = (0.0, -0.2, *[0.0] * 7)
    start_q_spread = 0.1
    start_qd_spread = 0.25

    @property
    def obs_quantities(self) -> tuple[Quantity, ...]:
        """The class's table of observations."""
        hinges = (Quantity("pitch", "rad"), *self._of_joints("angle of", "rad")[3:])
        return (
            Quantity("height above 1 m", "m"),
            *hinges,
            *self._of_joints("velocity of", "rad/s", "m/s"),
        )

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """z, pitch, six hinges, nine velocities."""
        inputs = [state["joint_q"], state["joint_qd"], obs]
        program.launch(half_cheetah.observe, self.num_envs, inputs)

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """Progress and effort; never terminated."""
        weight, along_x = self.scalar(EFFORT_WEIGHT), 0
        inputs = [along_x, weight, next_state["joint_qd"], action, reward_terms, terminated]
        program.launch(robot.effort_and_progress, self.num_envs, inputs)
