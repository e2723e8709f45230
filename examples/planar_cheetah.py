"""A robot of one's own in one file: a planar runner after the half-cheetah of the benchmarks.

Its shape is in planar_cheetah.usda beside this file. From this folder,
``gippo train env=planar_cheetah:PlanarCheetah`` trains it.
"""

# --8<-- [start:kernels]
from pathlib import Path
from typing import Any

import warp as wp

from warp_envs import Arrays, ArticulatedEnv, Program


@wp.kernel
def observe(
    # In:
    joint_q_in: wp.array2d(dtype=Any),  # [num_envs, 9]: x, z, pitch, six hinges
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, 9]
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, 17]
):
    """All coordinates but x, and all velocities."""
    env = wp.tid()
    for i in range(8):
        obs_out[env, i] = joint_q_in[env, 1 + i]
    for i in range(9):
        obs_out[env, 8 + i] = joint_qd_in[env, i]


@wp.kernel
def judge(
    # In:
    joint_qd_in: wp.array2d(dtype=Any),  # [num_envs, 9], after the step
    action_in: wp.array2d(dtype=Any),  # [num_envs, 6], in [-1, 1]
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 2]: progress, effort
    terminated_out: wp.array(dtype=wp.bool),  # [num_envs]
):
    """Velocity along x, and -0.1 |action|^2; no state ends an episode."""
    env = wp.tid()
    squares = type(joint_qd_in[env, 0])(0.0)
    for i in range(6):
        squares += action_in[env, i] * action_in[env, i]
    reward_terms_out[env, 0] = joint_qd_in[env, 0]
    reward_terms_out[env, 1] = type(squares)(-0.1) * squares
    terminated_out[env] = False


# --8<-- [end:kernels]
# --8<-- [start:robot]
class PlanarCheetah(ArticulatedEnv):
    """A two-legged planar robot that is to run along x.

    | | what | unit |
    |---|---|---|
    | action (6) | torques on thigh, shin, foot, back leg first / 60 N m | 1 |
    | obs 0, 1 | height above the rest pose, pitch (nose down) | m, rad |
    | obs 2-7 | thigh, shin, foot of the back leg, then of the front leg | rad |
    | obs 8-16 | velocities of x, z, pitch and the hinges | m/s, rad/s |
    | reward: progress, effort | velocity along x, -0.1 times the squared action | m/s, 1 |

    Never terminates; episodes last 1000 steps of 1/60 s (16 substeps). They start on bent knees,
    every coordinate and velocity scattered by ±0.05.
    """

    name = "planar_cheetah"
    asset = Path(__file__).with_name("planar_cheetah.usda")
    actuated = (
        *("back_thigh", "back_shin", "back_foot"),
        *("front_thigh", "front_shin", "front_foot"),
    )
    gear = 60.0
    num_obs = 17
    max_episode_steps = 1000
    reward_terms = ("progress", "effort")
    start_q = (0.0, 0.02, 0.0, -0.3, 0.6, -0.3, -0.3, 0.6, -0.3)
    start_q_spread = 0.05
    start_qd_spread = 0.05

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """What the policy sees."""
        program.launch(observe, self.num_envs, [state["joint_q"], state["joint_qd"], obs])

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """What it earns."""
        inputs = [next_state["joint_qd"], action, reward_terms, terminated]
        program.launch(judge, self.num_envs, inputs)


# --8<-- [end:robot]
