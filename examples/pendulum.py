"""An environment of one's own in one file: python examples/pendulum.py [EPOCHS [SEED]].

Gymnasium's Pendulum-v1, differentiable: a rod on a hinge, to be swung up by a motor too weak to
lift it. It checks its gradient, then trains by it.
"""

# --8<-- [start:imports]
import math
import sys
from collections.abc import Mapping
from typing import Any

import torch
import warp as wp

from gippo import Learner, LearnerConfig
from gippo.methods.gippo import GIPPOConfig
from gippo.studies.gradient_check import check_env_gradient
from gippo.updates.surrogate import PPOConfig
from warp_envs import DifferentiableVectorEnv

# --8<-- [end:imports]
# --8<-- [start:kernels]
GRAVITY = wp.constant(10.0)  # m/s^2; the rod is 1 m long and weighs 1 kg
TORQUE = wp.constant(2.0)  # N m at full action
CONTROL_STEP = wp.constant(0.05)  # s
HIGHEST_RATE = wp.constant(8.0)  # rad/s


@wp.kernel
def swing(
    # In:
    theta_in: wp.array2d(dtype=Any),  # [num_envs, 1], rad, 0 upright
    rate_in: wp.array2d(dtype=Any),  # [num_envs, 1], rad/s
    action_in: wp.array2d(dtype=Any),  # [num_envs, 1], in [-1, 1]
    # Out:
    theta_out: wp.array2d(dtype=Any),
    rate_out: wp.array2d(dtype=Any),
):
    """The rod's motion, semi-implicitly: the new rate first, then theta' = theta + h rate'.

    rate' = rate + h (3 g / (2 l) sin theta + 3 / (m l^2) torque), within its bounds.
    """
    env = wp.tid()
    theta = theta_in[env, 0]
    h = type(theta)(CONTROL_STEP)
    torque = type(theta)(TORQUE) * action_in[env, 0]
    gravity = type(theta)(1.5 * GRAVITY) * wp.sin(theta)
    rate = rate_in[env, 0] + h * (gravity + type(theta)(3.0) * torque)
    highest = type(theta)(HIGHEST_RATE)
    bounded = wp.clamp(rate, -highest, highest)
    rate_out[env, 0] = bounded
    theta_out[env, 0] = theta + h * bounded


@wp.kernel
def observe(
    # In:
    theta_in: wp.array2d(dtype=Any),
    rate_in: wp.array2d(dtype=Any),
    # Out:
    obs_out: wp.array2d(dtype=Any),  # [num_envs, 3]
):
    """What is observed: cos theta, sin theta, rate."""
    env = wp.tid()
    theta = theta_in[env, 0]
    obs_out[env, 0] = wp.cos(theta)
    obs_out[env, 1] = wp.sin(theta)
    obs_out[env, 2] = rate_in[env, 0]


@wp.kernel
def judge(
    # In:
    theta_in: wp.array2d(dtype=Any),
    rate_in: wp.array2d(dtype=Any),
    action_in: wp.array2d(dtype=Any),
    # Out:
    reward_terms_out: wp.array2d(dtype=Any),  # [num_envs, 3]
    terminated_out: wp.array(dtype=wp.bool),  # [num_envs]
):
    """-theta^2 with theta wrapped to [-pi, pi), -0.1 rate^2, -0.001 torque^2; no termination."""
    env = wp.tid()
    theta = theta_in[env, 0]
    rate = rate_in[env, 0]
    torque = type(theta)(TORQUE) * action_in[env, 0]
    turn = type(theta)(wp.TAU)
    wrapped = theta - turn * wp.floor(theta / turn + type(theta)(0.5))
    reward_terms_out[env, 0] = -wrapped * wrapped
    reward_terms_out[env, 1] = type(theta)(-0.1) * rate * rate
    reward_terms_out[env, 2] = type(theta)(-0.001) * torque * torque
    terminated_out[env] = False


@wp.kernel(enable_backward=False)
def begin(
    # In:
    rng_in: wp.array(dtype=wp.uint32),  # [num_envs]
    # Out:
    theta_out: wp.array2d(dtype=Any),
    rate_out: wp.array2d(dtype=Any),
):
    """A random start: theta uniform in [-pi, pi), rate in [-1, 1)."""
    env = wp.tid()
    state = rng_in[env]
    theta_out[env, 0] = type(theta_out[env, 0])(wp.randf(state, -wp.PI, wp.PI))
    rate_out[env, 0] = type(rate_out[env, 0])(wp.randf(state, -1.0, 1.0))


# --8<-- [end:kernels]
# --8<-- [start:environment]
class PendulumEnv(DifferentiableVectorEnv):
    """A rod to be swung up and balanced.

    | | what | unit |
    |---|---|---|
    | action (1) | torque / 2 N m | 1 |
    | obs (3) | cos theta, sin theta, rate | 1, 1, rad/s |
    | reward: angle, spin, effort | see `judge`, of the state before the step | |
    """

    name = "pendulum"
    num_obs = 3
    num_actions = 1
    max_episode_steps = 200
    state_layout: Mapping[str, int] = {"theta": 1, "rate": 1}
    reward_terms = ("angle", "spin", "effort")

    def record_step(self, program: Any, state: Any, action: Any, next_state: Any) -> None:
        """One step of the rod."""
        program.launch(
            swing, self.num_envs, [*state.values(), action, next_state["theta"], next_state["rate"]]
        )

    def record_observation(self, program: Any, state: Any, obs: Any) -> None:
        """What the policy sees."""
        program.launch(observe, self.num_envs, [state["theta"], state["rate"], obs])

    def record_outcome(
        self,
        program: Any,
        state: Any,
        action: Any,
        next_state: Any,
        reward_terms: Any,
        terminated: Any,
    ) -> None:
        """Rewards, and that no state ends an episode."""
        inputs = [state["theta"], state["rate"], action, reward_terms, terminated]
        program.launch(judge, self.num_envs, inputs)

    def record_initial_state(self, program: Any, rng: Any, state: Any) -> None:
        """Where an episode starts."""
        program.launch(begin, self.num_envs, [rng, state["theta"], state["rate"]])


# --8<-- [end:environment]
# --8<-- [start:check]
def check_gradient() -> float:
    """The largest relative error of the gradient over 8 steps, against central differences."""
    env = PendulumEnv(num_envs=8, dtype=torch.float64, seed=0)
    checks = check_env_gradient(env, num_steps=8, action_scale=0.8, step_size=1e-6, seed=0)
    return max(check.error for check in checks)


# --8<-- [end:check]
# --8<-- [start:train]
def train(num_epochs: int = 100, seed: int = 0) -> float:
    """The mean return of the last 100 episodes or so, after training with GI-PPO."""
    env = PendulumEnv(num_envs=64, seed=seed)
    method = GIPPOConfig(ppo=PPOConfig(max_grad_norm=None))
    learner = Learner(env, LearnerConfig(), method, num_epochs=num_epochs, seed=seed)
    metrics = {"episode_return": math.nan}
    for _ in range(num_epochs):
        metrics = learner.train_epoch()
    return metrics["episode_return"]


# --8<-- [end:train]
if __name__ == "__main__":
    print(f"largest relative error of the gradient: {check_gradient():.1e}")
    print(f"mean return: {train(*map(int, sys.argv[1:])):.0f}")
