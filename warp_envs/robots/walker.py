"""The base of robots that walk on a free base towards a place on the x axis."""

from __future__ import annotations

import math
from typing import Any

import warp as wp

from kernels.precision import precision_of
from kernels.robots import shared as robot
from kernels.robots import walker
from warp_envs.bridge.program import Program
from warp_envs.declarations import Quantity
from warp_envs.robots.base import ArticulatedEnv
from warp_envs.vector_env import Arrays

START_SPREAD = 0.1  # m, of the position
START_HINGE_SPREAD = 0.2  # rad


class WalkerEnv(ArticulatedEnv):
    """A robot whose first body is free and all others hinged; a subclass adds the height's term.

    | obs, with n hinges | what | unit |
    |---|---|---|
    | 0 | height of the base's origin | m |
    | 1-4 | orientation of the base (x, y, z, w) | 1 |
    | 5-7, 8-10 | its origin's velocity and its angular velocity, world axes | m/s, rad/s |
    | n, n | hinge angles, 0.1 * hinge velocities | rad, rad/s |
    | 1, 1 | up axis' vertical part; forward axis' cosine with the way to (target, 0) | 1 |
    | n | the action just applied, clipped; zero after a reset | 1 |

    Episodes start scattered: position by ±0.1 m, a tilt of up to pi/24, hinges by ±0.2 rad,
    velocities by ±1/4, the base's being that of its point at the world's origin.
    """

    target: float
    """x of the place to go to [m]."""
    effort_weight: float
    """Cost of the squared action."""
    least_height: float
    """Of the base's origin, below which an episode ends [m]."""
    height_kernel: Any
    """Writes the height's term of the reward and the end of the episode."""

    reward_terms = ("progress", "up", "heading", "height", "effort")
    max_episode_steps = 1000
    start_tilt = math.pi / 24
    start_qd_spread = 0.25

    @property
    def _com(self) -> Any:
        """The base's centre of mass in its frame [m]."""
        return precision_of(self.scalar).vec3(*self.articulation.description.bodies[0].com)

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
        """What the class's table says."""
        model = [self._com, self.scalar(self.target)]
        inputs = [state["joint_q"], state["joint_qd"], state["last_action"], obs]
        program.launch(walker.observe, self.num_envs, [*model, *inputs])

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """Progress, uprightness, heading, height and effort; terminated when the base is down."""
        model = [self._com, self.scalar(self.target), self.scalar(self.effort_weight)]
        moved = [next_state["joint_q"], next_state["joint_qd"], action]
        program.launch(walker.reward, self.num_envs, [*model, *moved, reward_terms])
        least = self.scalar(self.least_height)
        inputs = [least, next_state["joint_q"], reward_terms, terminated]
        program.launch(self.height_kernel, self.num_envs, inputs)

    def record_initial_state(self, program: Program, rng: wp.array, state: Arrays) -> None:
        """The scattered start, its velocities those at the world's origin."""
        super().record_initial_state(program, rng, state)
        inputs = [self._com, state["joint_q"], state["joint_qd"]]
        program.launch(walker.carry_with_twist, self.num_envs, inputs)
