"""Cartpole swing-up (Xu et al. 2022, as the paper trained it)."""

from __future__ import annotations

import math

import warp as wp

from kernels.robots import cartpole
from warp_envs.bridge.program import Program
from warp_envs.declarations import Quantity
from warp_envs.robots.base import ArticulatedEnv, asset_path
from warp_envs.vector_env import Arrays


class CartpoleEnv(ArticulatedEnv):
    """A pole hanging from a cart on a rail, to be swung up and balanced by pushing the cart.

    | | what | unit |
    |---|---|---|
    | action (1) | force on the cart / 1000 N | 1 |
    | obs (5) | x, x', sin theta, cos theta, theta' | m, m/s, 1, 1, rad/s |
    | reward: angle | -theta^2, theta in (-pi, pi], 0 upright | rad^2 |
    | reward: spin, position, speed | -0.1 theta'^2, -0.05 x^2, -0.1 x'^2 | |

    Episodes last 240 steps of 1/60 s (4 substeps) and never end early. They start hanging down,
    x and theta scattered by pi/2 either way, velocities by 1/4. State: ``joint_q`` = (x, theta),
    ``joint_qd``.
    """

    name = "cartpole"
    asset = asset_path("cartpole.usda")
    actuated = ("slide",)
    gear = 1000.0
    substeps = 4
    num_obs = 5
    max_episode_steps = 240
    reward_terms = ("angle", "spin", "position", "speed")
    obs_quantities = (
        Quantity("x", "m"),
        Quantity("velocity", "m/s"),
        Quantity("sin theta", "1"),
        Quantity("cos theta", "1"),
        Quantity("angular velocity", "rad/s"),
    )
    start_q = (0.0, -math.pi)
    start_q_spread = math.pi / 2
    start_qd_spread = 0.25

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """x, x', sin theta, cos theta, theta'."""
        inputs = [state["joint_q"], state["joint_qd"], obs]
        program.launch(cartpole.observe, self.num_envs, inputs)

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """The four quadratic costs."""
        inputs = [next_state["joint_q"], next_state["joint_qd"], reward_terms, terminated]
        program.launch(cartpole.reward, self.num_envs, inputs)
