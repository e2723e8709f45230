"""Any robot from a USD file as an environment to start from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import warp as wp

from kernels.robots import shared as robot
from warp_envs.articulation.contacts import ground_notes
from warp_envs.bridge.program import Program
from warp_envs.checks import check_number
from warp_envs.robots.base import ArticulatedEnv
from warp_envs.vector_env import Arrays


class RobotEnv(ArticulatedEnv):
    """Any robot: actions drive its joints, the joint state is observed, progress is rewarded.

    | | what | unit |
    |---|---|---|
    | action (one per driven joint) | fraction of the gear's force or torque | 1 |
    | obs (nq + nv) | joint_q, then joint_qd | m, rad, m/s, rad/s |
    | reward: progress | velocity along x of the first free body, or 0 without one | m/s |
    | reward: effort | minus `effort_weight` times the squared action | 1 |

    Never terminates; an episode is 1000 steps of 1/60 s. It starts at the asset's rest pose, hinges
    and slides scattered by ±0.1, velocities by ±0.1.
    """

    name = "robot"
    max_episode_steps = 1000
    reward_terms = ("progress", "effort")
    start_q_spread = 0.1
    start_qd_spread = 0.1

    def __init__(
        self,
        *,
        asset: str | os.PathLike[str],
        gear: float = 1.0,
        actuated: Sequence[str] | None = None,
        substeps: int | str = "auto",
        ground: Any = None,
        max_speed: float | None = 200.0,
        effort_weight: float = 0.1,
        **options: Any,
    ) -> None:
        """Make copies of the robot in the file `asset`.

        Args:
            asset: path of a USD file with one UsdPhysics articulation.
            gear: force or torque at full action on every driven joint [N or N m].
            actuated: names of the driven joints; None drives every hinge and slide.
            substeps: integration steps per control step of 1/60 s; "auto": what `gippo inspect`
                advises, 16 at least.
            ground: in place of the asset's: "flat", "rough", "slope", "stairs", these with options,
                as ``{kind: rough, height: 0.1, seed: 1}``, or a file of heights, ``{file: x.npy,
                cell: 0.1}``; see `warp_envs.robots.terrain`. None: the asset's own.
            max_speed: velocity of any coordinate beyond which an environment counts as diverged
                [m/s, rad/s]; None: no such bound.
            effort_weight: weight of the squared action in the reward.
            options: as `ArticulatedEnv`.

        Raises:
            ValueError: as `ArticulatedEnv`, or a negative `effort_weight`.
        """
        check_number("effort_weight", effort_weight)
        self.asset, self.gear, self.actuated, self.substeps = asset, gear, actuated, substeps
        self.ground, self.max_speed = ground, max_speed
        self.effort_weight = effort_weight
        super().__init__(**options)
        self.notes = ground_notes(self.articulation.description)

    @property
    def num_obs(self) -> int:
        """Numbers observed: all joint coordinates and velocities."""
        return self.articulation.nq + self.articulation.nv

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """joint_q, then joint_qd."""
        nq = self.articulation.nq
        for rows, offset in ((state["joint_q"], 0), (state["joint_qd"], nq)):
            program.launch(robot.copy_rows, rows.shape, [rows, obs, offset])

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """Progress along x less the effort; never terminated."""
        weight = self.scalar(float(self.effort_weight))
        kinds = [body.joint.kind for body in self.articulation.description.bodies]
        free = kinds.index("free") if "free" in kinds else -1
        progress_dof = self.articulation.qd_start[free] if free >= 0 else -1
        inputs = [progress_dof, weight, next_state["joint_qd"], action, reward_terms, terminated]
        program.launch(robot.effort_and_progress, self.num_envs, inputs)
