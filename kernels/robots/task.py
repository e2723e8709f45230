"""The kernels that run a task's terms, made for the terms at hand, and what the terms read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import warp as wp

from kernels.robots.terms import ENDS, NUM_PARAMETERS, OBSERVATIONS, REWARDS, Term

_MOST_TERMS = 256  # that a kernel lists one after the other


@cache
def robot_type(scalar: type) -> Any:
    """The struct `robot` of the terms, on one scalar type.

    *Before* is the state before the step; an observation finds the state observed in both.
    """
    number, rows, blocks = (
        wp.array(dtype=scalar),
        wp.array2d(dtype=scalar),
        wp.array3d(dtype=scalar),
    )
    index = wp.array(dtype=wp.int32)

    class Robot:
        time: scalar  # length of the control step [s]
        # the robot
        joint_coordinate: index  # [joints], where in joint_q each joint's coordinate is
        joint_dof: index  # [joints], where in joint_qd its velocity is
        rest: number  # [joints], where episodes start
        lower: number  # [joints]
        upper: number  # [joints]
        pose_coordinate: index  # coordinates but where in the plane the base is
        coordinate_of: index  # [bodies], of each body's joint in joint_q
        dof_of: index  # [bodies], in joint_qd
        driven: index  # [num_actions], degree of freedom of each action
        mass_share: rows  # [rows, bodies], of the robot's mass
        mass_stride: wp.int32  # environment `env` reads row `env * mass_stride`
        # its state, a row for each environment
        joint_q: rows
        joint_qd: rows
        joint_qd_before: rows
        base: rows  # [num_envs, BASE_WIDTH]
        base_before: rows
        com: blocks  # [num_envs, bodies, 3], where a term asks for bodies
        com_before: blocks
        action: rows
        action_before: rows
        force: rows  # [num_envs, num_actions], of the actuators after the step [N, N m]
        command: rows  # [num_envs, 3]
        touching: index  # bodies with a shape that can touch the ground
        contact: blocks  # [num_envs, bodies, 3], forces of the ground after the step [N]
        air_time: rows  # [num_envs, bodies], off the ground before the step [s]
        terminated: wp.array(dtype=wp.bool)

    Robot.__name__ = Robot.__qualname__ = f"Robot_{scalar.__name__}"
    return wp.struct(Robot)


@dataclass(frozen=True)
class TaskKernels:
    """The kernels of one choice of terms, launched over environments.

    Attributes:
        observe: (robot, scale, clip, start, obs): every observation clipped, scaled, side by side.
        judge: (robot, parameters, weights, end_parameters, reward_terms): the weighted terms.
        end: (robot, end_parameters, terminated).
    """

    observe: wp.Kernel
    judge: wp.Kernel
    end: wp.Kernel


@cache
def parameters_type(scalar: type) -> Any:
    """The vector `p` of a term's parameters."""
    return wp.types.vector(NUM_PARAMETERS, scalar)


@cache
def task_kernels(
    rewards: tuple[str, ...], ends: tuple[str, ...], observed: tuple[str, ...], scalar: type
) -> TaskKernels:
    """Kernels of the named terms in a module of their own, so that they are compiled together."""
    key = repr((rewards, ends, observed, scalar.__name__))
    module = wp.get_module(f"{__name__}.{hashlib.sha256(key.encode()).hexdigest()[:16]}")
    robot, vector = robot_type(scalar), parameters_type(scalar)
    make = (robot, vector, scalar)
    module.options["max_unroll"] = _MOST_TERMS
    return TaskKernels(
        wp.kernel(module=module)(_observe([OBSERVATIONS[name] for name in observed], *make)),
        wp.kernel(module=module)(_judge([REWARDS[name] for name in rewards], *make)),
        wp.kernel(module=module, enable_backward=False)(_end([ENDS[n] for n in ends], *make)),
    )


def _observe(terms: Sequence[Term], robot_struct: Any, vector: Any, scalar: type) -> Any:
    functions = tuple(term.function for term in terms)

    def observe(
        # Model:
        robot: robot_struct,
        scale: wp.array(dtype=scalar),  # [terms]
        clip: wp.array(dtype=scalar),  # [terms], in the term's unit
        start: wp.array(dtype=wp.int32),  # [terms + 1], first column of each term
        # Out:
        obs_out: wp.array2d(dtype=scalar),  # [num_envs, num_obs]
    ):
        env = wp.tid()
        for k in range(wp.static(len(functions))):
            for column in range(start[k], start[k + 1]):
                value = wp.static(functions[k])(robot, env, column - start[k])
                obs_out[env, column] = scale[k] * wp.clamp(value, -clip[k], clip[k])

    return observe


def _judge(terms: Sequence[Term], robot_struct: Any, vector: Any, scalar: type) -> Any:
    functions = tuple(term.function for term in terms)

    def judge(
        # Model:
        robot: robot_struct,
        parameters: wp.array(dtype=vector),  # [terms]
        weights: wp.array(dtype=scalar),  # [terms]
        # Out:
        reward_terms_out: wp.array2d(dtype=scalar),  # [num_envs, terms]
    ):
        env = wp.tid()
        for k in range(wp.static(len(functions))):
            value = wp.static(functions[k])(robot, env, parameters[k])
            reward_terms_out[env, k] = weights[k] * value

    return judge


def _end(terms: Sequence[Term], robot_struct: Any, vector: Any, scalar: type) -> Any:
    functions = tuple(term.function for term in terms)

    def end(
        # Model:
        robot: robot_struct,
        parameters: wp.array(dtype=vector),  # [terms]
        # Out:
        terminated_out: wp.array(dtype=wp.bool),  # [num_envs]
    ):
        env = wp.tid()
        terminated = bool(False)
        for k in range(wp.static(len(functions))):
            if wp.static(functions[k])(robot, env, parameters[k]):
                terminated = bool(True)
        terminated_out[env] = terminated

    return end


@wp.kernel
def place_base(
    # Model:
    body: wp.int32,
    com: wp.array2d(dtype=Any),  # [rows, > body], centre of mass in the body's frame [m]
    stride: wp.int32,  # environment `env` reads row `env * stride`
    # In:
    body_q_in: wp.array3d(dtype=Any),  # [num_envs, > body, 7]
    body_qd_in: wp.array3d(dtype=Any),  # [num_envs, > body, 6], of the centres of mass
    # Out:
    base_out: wp.array2d(dtype=Any),  # [num_envs, BASE_WIDTH]
):
    """The base's pose, and the velocity of its frame's origin."""
    env = wp.tid()
    for i in range(7):
        base_out[env, i] = body_q_in[env, body, i]
    turn = wp.quaternion(
        body_q_in[env, body, 3],
        body_q_in[env, body, 4],
        body_q_in[env, body, 5],
        body_q_in[env, body, 6],
    )
    rate = wp.vector(body_qd_in[env, body, 3], body_qd_in[env, body, 4], body_qd_in[env, body, 5])
    carried = wp.cross(rate, wp.quat_rotate(turn, com[env * stride, body]))
    for i in range(3):
        base_out[env, 7 + i] = body_qd_in[env, body, i] - carried[i]
        base_out[env, 10 + i] = rate[i]


@wp.kernel
def place_masses(
    # Model:
    com: wp.array2d(dtype=Any),  # [rows, bodies], in the body's frame [m]
    stride: wp.int32,  # environment `env` reads row `env * stride`
    # In:
    body_q_in: wp.array3d(dtype=Any),  # [num_envs, bodies, 7]
    # Out:
    com_out: wp.array3d(dtype=Any),  # [num_envs, bodies, 3]
):
    """The bodies' centres of mass in the world."""
    env, body = wp.tid()
    turn = wp.quaternion(
        body_q_in[env, body, 3],
        body_q_in[env, body, 4],
        body_q_in[env, body, 5],
        body_q_in[env, body, 6],
    )
    arm = wp.quat_rotate(turn, com[env * stride, body])
    for i in range(3):
        com_out[env, body, i] = body_q_in[env, body, i] + arm[i]


@wp.kernel
def sum_masses(
    # In:
    mass_in: wp.array2d(dtype=Any),  # [num_envs, bodies], kg
    # Out:
    total_out: wp.array(dtype=Any),  # [num_envs], kg
):
    """The robot's mass; nothing but the sum, as an adjoint does not run the loop again."""
    env = wp.tid()
    total = mass_in[env, 0]
    for i in range(1, mass_in.shape[1]):
        total += mass_in[env, i]
    total_out[env] = total


@wp.kernel
def share_masses(
    # In:
    mass_in: wp.array2d(dtype=Any),  # [num_envs, bodies], kg
    total_in: wp.array(dtype=Any),  # [num_envs], kg
    # Out:
    share_out: wp.array2d(dtype=Any),  # [num_envs, bodies], of the total
):
    """Each body's share of the robot's mass."""
    env, body = wp.tid()
    share_out[env, body] = mass_in[env, body] / total_in[env]


@wp.func
def drawn_command(low: Any, high: Any, standing: Any, key: int, steps: int):
    """A command uniform in its ranges, or zero, by a key and the steps of the episode."""
    rng = wp.rand_init(key, steps)
    still = wp.randf(rng) < wp.float32(standing)
    x = low[0] + (high[0] - low[0]) * type(standing)(wp.randf(rng))
    y = low[1] + (high[1] - low[1]) * type(standing)(wp.randf(rng))
    turn = low[2] + (high[2] - low[2]) * type(standing)(wp.randf(rng))
    zero = type(standing)(0.0)
    return wp.vector(
        wp.where(still, zero, x), wp.where(still, zero, y), wp.where(still, zero, turn)
    )


@wp.kernel(enable_backward=False)
def draw_command(
    # Model:
    low: wp.array(dtype=Any),  # [3]
    high: wp.array(dtype=Any),  # [3]
    standing: Any,  # share of commands that are to stand still
    stream: wp.int32,
    # In:
    rng_in: wp.array(dtype=wp.uint32),  # [num_envs]
    # Out:
    command_out: wp.array2d(dtype=Any),  # [num_envs, 3]
    draws_out: wp.array2d(dtype=Any),  # [num_envs, 2]: key of later draws, steps so far
):
    """The command with which an episode starts."""
    env = wp.tid()
    rng = wp.rand_init(wp.int32(rng_in[env]), stream)
    key = wp.randi(rng, 0, 8388608)  # single precision holds it
    draws_out[env, 0] = type(standing)(key)
    draws_out[env, 1] = type(standing)(0.0)
    drawn = drawn_command(low, high, standing, key, 0)
    for i in range(3):
        command_out[env, i] = drawn[i]


@wp.kernel
def keep_command(
    # Model:
    low: wp.array(dtype=Any),  # [3]
    high: wp.array(dtype=Any),  # [3]
    standing: Any,
    every: wp.int32,  # steps that a command holds, 0: for the episode
    # In:
    command_in: wp.array2d(dtype=Any),  # [num_envs, 3]
    draws_in: wp.array2d(dtype=Any),  # [num_envs, 2]
    # Out:
    command_out: wp.array2d(dtype=Any),
    draws_out: wp.array2d(dtype=Any),
):
    """The command after a step: the same, or where its time is over a new one."""
    env = wp.tid()
    one = type(standing)(1.0)
    draws_out[env, 0] = draws_in[env, 0]
    draws_out[env, 1] = draws_in[env, 1] + one
    steps = wp.int32(draws_in[env, 1]) + 1
    renewed = bool(False)
    if every > 0:
        renewed = steps % every == 0
    if renewed:
        drawn = drawn_command(low, high, standing, wp.int32(draws_in[env, 0]), steps)
        for i in range(3):
            command_out[env, i] = drawn[i]
    else:
        for i in range(3):
            command_out[env, i] = command_in[env, i]
