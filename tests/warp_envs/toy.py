"""A mass on a nonlinear spring: small enough to check by hand what the base class does."""

import types
from typing import Any

import warp as wp

from warp_envs.vector_env import DifferentiableVectorEnv


@wp.kernel
def push(
    q: wp.array2d(dtype=Any),
    qd: wp.array2d(dtype=Any),
    action: wp.array2d(dtype=Any),
    next_q: wp.array2d(dtype=Any),
    next_qd: wp.array2d(dtype=Any),
):
    e = wp.tid()
    x = q[e, 0]
    h = type(x)(0.1)
    v = qd[e, 0] + h * (action[e, 0] - x * x * x)
    next_qd[e, 0] = v
    next_q[e, 0] = x + h * v


@wp.kernel
def look(q: wp.array2d(dtype=Any), qd: wp.array2d(dtype=Any), obs: wp.array2d(dtype=Any)):
    e = wp.tid()
    obs[e, 0] = q[e, 0]
    obs[e, 1] = qd[e, 0]


@wp.kernel
def judge(
    next_q: wp.array2d(dtype=Any),
    action: wp.array2d(dtype=Any),
    bound: Any,
    terms: wp.array2d(dtype=Any),
    terminated: wp.array(dtype=wp.bool),
):
    e = wp.tid()
    x = next_q[e, 0]
    a = action[e, 0]
    terms[e, 0] = -x * x
    terms[e, 1] = type(x)(-0.1) * a * a
    terminated[e] = wp.abs(x) > bound


@wp.kernel(enable_backward=False)
def begin(
    rng: wp.array(dtype=wp.uint32),
    q: wp.array2d(dtype=Any),
    qd: wp.array2d(dtype=Any),
):
    e = wp.tid()
    state = rng[e]
    q[e, 0] = type(q[e, 0])(wp.randf(state))
    qd[e, 0] = type(q[e, 0])(0.0)


class Spring(DifferentiableVectorEnv):
    """Observation q, qd; ends beyond `bound`; action pushes."""

    name = "spring"
    num_obs = 2
    num_actions = 1
    max_episode_steps = 20
    state_layout = types.MappingProxyType({"q": 1, "qd": 1})
    reward_terms = ("position", "effort")

    def __init__(self, *, bound=1.5, **options):
        self.bound = bound
        super().__init__(**options)

    def record_step(self, program, state, action, next_state):
        inputs = [state["q"], state["qd"], action, next_state["q"], next_state["qd"]]
        program.launch(push, self.num_envs, inputs)

    def record_observation(self, program, state, obs):
        program.launch(look, self.num_envs, [state["q"], state["qd"], obs])

    def record_outcome(self, program, state, action, next_state, reward_terms, terminated):
        inputs = [next_state["q"], action, self.scalar(self.bound), reward_terms, terminated]
        program.launch(judge, self.num_envs, inputs)

    def record_initial_state(self, program, rng, state):
        program.launch(begin, self.num_envs, [rng, state["q"], state["qd"]])
