"""Function optimisation as one-step environments: De Jong and Ackley (paper, section 7.5.1)."""

from __future__ import annotations

from typing import Any, ClassVar

import warp as wp

from kernels import landscapes as functions
from warp_envs.bridge.program import Program
from warp_envs.checks import check_integer
from warp_envs.vector_env import Arrays, DifferentiableVectorEnv


class FunctionEnv(DifferentiableVectorEnv):
    """One action, one reward: minus a landscape's height at the point the action names.

    | | what | unit |
    |---|---|---|
    | action (dim) | the point, as a fraction of the landscape's half-width | 1 |
    | obs (1) | always zero | 1 |
    | reward | minus the landscape at ``half_width * action`` | 1 |

    Every step is an episode and ends by truncation, unless `max_episode_steps` is more. State:
    ``x`` (dim), the point last evaluated.
    """

    HALF_WIDTHS: ClassVar[dict[str, float]] = {"dejong": 5.12, "ackley": 32.768}

    def __init__(
        self,
        landscape: str,
        *,
        num_envs: int,
        dim: int = 1,
        max_episode_steps: int = 1,
        **options: Any,
    ) -> None:
        """Make `num_envs` copies of a landscape, "dejong" or "ackley", of dimension `dim`.

        Raises:
            ValueError: `dim` below one, and as `DifferentiableVectorEnv`.
        """
        check_integer("dim", dim, 1)
        self.dim = dim
        self.landscape = landscape
        self.half_width = self.HALF_WIDTHS[landscape]
        super().__init__(
            landscape,
            num_envs=num_envs,
            num_obs=1,
            num_actions=dim,
            max_episode_steps=max_episode_steps,
            state_layout={"x": dim},
            reward_terms=("height",),
            **options,
        )

    def record_step(
        self, program: Program, state: Arrays, action: wp.array, next_state: Arrays
    ) -> None:
        """Move to the point that the action names."""
        inputs = [action, self.scalar(self.half_width), next_state["x"]]
        program.launch(functions.scale_point, action.shape, inputs)

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """Nothing is observed."""
        program.launch(functions.blind, self.num_envs, [obs])

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """Minus the landscape's height."""
        x = next_state["x"]
        if self.landscape == "dejong":
            program.launch(functions.dejong_reward, self.num_envs, [x, reward_terms])
        else:
            moments = program.array((self.num_envs, 2), self.scalar)
            program.launch(functions.ackley_moments, self.num_envs, [x, moments])
            program.launch(functions.ackley_reward, self.num_envs, [moments, reward_terms])
        program.launch(functions.never_terminate, self.num_envs, [terminated])

    def record_initial_state(self, program: Program, rng: wp.array, state: Arrays) -> None:
        """The origin, which no action depends on."""
        program.launch(functions.start_at_origin, state["x"].shape, [state["x"]])
