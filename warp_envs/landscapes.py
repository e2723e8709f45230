"""Function optimisation as one-step environments: De Jong and Ackley (paper, section 7.5.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import warp as wp

from kernels import landscapes as functions
from warp_envs.bridge.program import Program
from warp_envs.checks import ArgumentError
from warp_envs.declarations import DECLARED, Quantity, check_declared
from warp_envs.options.landscapes import check_landscape
from warp_envs.vector_env import Arrays, DifferentiableVectorEnv

_OF_LANDSCAPES = {"half_width": "a number", "height": "a Warp function"}


class LandscapeEnv(DifferentiableVectorEnv):
    """One action, one reward: minus a landscape's height at the point the action names.

    | | what | unit |
    |---|---|---|
    | action (dim) | the point, as a fraction of the landscape's half-width | 1 |
    | obs (1) | always zero | 1 |
    | reward: height | minus the landscape at ``half_width * action`` | 1 |

    Every step is an episode and ends by truncation, unless `max_episode_steps` is more. State:
    ``x`` (dim), the point last evaluated. A landscape declares its name, half-width and height.
    """

    declares: ClassVar[Mapping[str, str]] = {"name": DECLARED["name"], **_OF_LANDSCAPES}
    half_width: float
    """Of the cube that actions reach."""
    height: Callable[..., Any]
    """The landscape, as `kernels.landscapes.dejong` is one."""
    num_obs = 1
    obs_quantities = (Quantity("zero", "1"),)
    max_episode_steps = 1
    reward_terms = ("height",)

    def __init__(self, *, dim: int = 1, **options: Any) -> None:
        """Make copies of the landscape.

        Args:
            dim: dimension of the space that it lies over, numbers of an action.
            options: as `DifferentiableVectorEnv`.

        Raises:
            ValueError: `dim` below one, and as `DifferentiableVectorEnv`.
        """
        check_declared(self, _OF_LANDSCAPES)
        if not isinstance(self.height, wp.Function):
            raise ArgumentError("height", f"a {type(self.height).__name__}", "a Warp function")
        check_landscape(dim=dim)
        self.dim = self.num_actions = dim
        self.action_quantities = (Quantity("point", f"{self.half_width:g}", self.dim),)
        self.state_layout = {"x": self.dim}
        super().__init__(**options)

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
        reward = functions.reward_kernel(self.height)
        program.launch(reward, self.num_envs, [next_state["x"], reward_terms])
        program.launch(functions.never_terminate, self.num_envs, [terminated])

    def record_initial_state(self, program: Program, rng: wp.array, state: Arrays) -> None:
        """The origin, which no action depends on."""
        program.launch(functions.start_at_origin, state["x"].shape, [state["x"]])


class DeJongEnv(LandscapeEnv):
    """De Jong's sphere on [-5.12, 5.12]^dim."""

    name = "dejong"
    half_width = 5.12
    height = functions.dejong


class AckleyEnv(LandscapeEnv):
    """Ackley's well of ripples on [-32.768, 32.768]^dim."""

    name = "ackley"
    half_width = 32.768
    height = functions.ackley
