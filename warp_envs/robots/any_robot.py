"""Any robot from a USD file as an environment to start from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import warp as wp

from kernels.robots import shared as robot
from warp_envs.bridge.program import Program
from warp_envs.checks import check_number
from warp_envs.robots.base import ArticulatedEnv
from warp_envs.robots.start import start_pose
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
        substeps: int = 16,
        effort_weight: float = 0.1,
        start: str | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Make copies of the robot in the file `asset`.

        Args:
            asset: path of a USD file with one UsdPhysics articulation.
            gear: force or torque at full action on every driven joint [N or N m].
            actuated: names of the driven joints; None drives every hinge and slide.
            substeps: integration steps per control step of 1/60 s.
            effort_weight: weight of the squared action in the reward.
            start: name of one of the asset's keyframes, or a mapping with ``keyframe``, ``joints``
                (name -> value) and ``height`` (of the body that floats [m], or "auto": the lowest
                point on the ground); None: the asset's rest pose. See `warp_envs.robots.start`.
            options: as `ArticulatedEnv`.

        Raises:
            ValueError: as `ArticulatedEnv` and `start_pose`, or a negative `effort_weight`.
        """
        check_number("effort_weight", effort_weight)
        self.asset, self.gear, self.actuated, self.substeps = asset, gear, actuated, substeps
        self.effort_weight, self.start = effort_weight, start
        super().__init__(**options)

    def _start_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """As `start` says, inside the joints' limits."""
        _, spread = super()._start_pose()
        return start_pose(self.articulation, self.start, spread)

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
