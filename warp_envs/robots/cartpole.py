"""Cartpole swing-up (Xu et al. 2022, as the paper trained it)."""

from __future__ import annotations

import math

import numpy as np
import torch
import warp as wp

from kernels.robots import cartpole
from warp_envs.bridge.program import Program
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

    def __init__(
        self,
        *,
        num_envs: int,
        max_episode_steps: int = 240,
        compiled: bool | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        """Make `num_envs` cartpoles.

        Raises:
            ValueError: as `ArticulatedEnv`.
        """
        super().__init__(
            "cartpole",
            asset=asset_path("cartpole.usda"),
            num_envs=num_envs,
            gear=1000.0,
            actuated=("slide",),
            substeps=4,
            num_obs=5,
            max_episode_steps=max_episode_steps,
            reward_terms=("angle", "spin", "position", "speed"),
            compiled=compiled,
            device=device,
            dtype=dtype,
            seed=seed,
        )

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

    def record_initial_state(self, program: Program, rng: wp.array, state: Arrays) -> None:
        """Hanging down: q += pi U(-1/2, 1/2), qd += 1/2 U(-1/2, 1/2)."""
        hanging, spread = np.array([0.0, -math.pi]), np.full(2, math.pi / 2)
        self.scatter(program, 0, hanging, spread, rng, state["joint_q"])
        still, spread = np.zeros(2), np.full(2, 0.25)
        self.scatter(program, 1, still, spread, rng, state["joint_qd"])
