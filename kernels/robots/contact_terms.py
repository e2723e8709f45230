"""Terms of a task that read the ground's forces on bodies; `kernels.robots.terms` is the library.

Forces are those at the step's end, by the law of `kernels.articulation.contact`: continuous, with
kinks where a point begins to touch or to slide. What counts touches, `air_time` and
`illegal_contact`, has no gradient.
"""

from typing import Any

import warp as wp

from kernels.robots.library import ENDS, OBSERVATIONS, REWARDS, term

TOUCHES = wp.constant(1.0)
"""Vertical force [N] above which a body counts as touching."""


@term(REWARDS, "N", contacts=True, body=None)
def contact(robot: Any, env: int, p: Any):
    """Vertical force of the ground on a body."""
    return robot.contact[env, wp.int32(p[0]), 2]


@term(REWARDS, "N^2", contacts=True)
def contact_forces(robot: Any, env: int, p: Any):
    """Sum of the squared forces of the ground on all bodies."""
    total = type(robot.time)(0.0)
    for i in range(robot.contact.shape[1]):
        for k in range(3):
            total += robot.contact[env, i, k] * robot.contact[env, i, k]
    return total


@term(REWARDS, "N", contacts=True, body=None, above=None)
def contact_beyond(robot: Any, env: int, p: Any):
    """How far the vertical force of the ground on a body is beyond `above` [N], else zero."""
    return wp.max(robot.contact[env, wp.int32(p[0]), 2] - p[1], type(robot.time)(0.0))


@term(REWARDS, "s", contacts=True, air=True, body=None, target=0.5)
def air_time(robot: Any, env: int, p: Any):
    """Where a body comes down: how long it was in the air, less `target` [s]; else zero."""
    body = wp.int32(p[0])
    before = robot.air_time[env, body]
    paid = type(robot.time)(0.0)
    if before > paid and robot.contact[env, body, 2] > type(paid)(TOUCHES):
        paid = before + robot.time - p[1]
    return paid


@term(ENDS, "N", contacts=True, body=None, limit=1.0)
def illegal_contact(robot: Any, env: int, p: Any):
    """The ground pushes a body up by more than `limit` [N]."""
    return robot.contact[env, wp.int32(p[0]), 2] > p[1]


@term(OBSERVATIONS, "N", contacts=True)
def observed_contact(robot: Any, env: int, i: int):
    """Forces of the ground, world axes, on each body with a shape that can touch it (3 each)."""
    return robot.contact[env, robot.touching[i // 3], i % 3]


@wp.kernel(enable_backward=False)
def count_air_time(
    # Model:
    time: Any,  # length of the control step [s]
    # In:
    contact_in: wp.array3d(dtype=Any),  # [num_envs, bodies, 3], after the step
    air_time_in: wp.array2d(dtype=Any),  # [num_envs, bodies], before it [s]
    # Out:
    air_time_out: wp.array2d(dtype=Any),
):
    """How long each body has not touched the ground."""
    env, body = wp.tid()
    if contact_in[env, body, 2] > type(time)(TOUCHES):
        air_time_out[env, body] = type(time)(0.0)
    else:
        air_time_out[env, body] = air_time_in[env, body] + time
