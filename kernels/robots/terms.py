"""The library of terms that a robot's task is put together from: rewards, ends, observations.

Each is one differentiable Warp function, named as in a task; `kernels.robots.task` has the struct
`robot` that they read, and the kernels that run them. A reward gives its value before the weight.
An end tells whether the episode ends. An observation gives its number `i`.

The *base* is the robot's trunk; its velocity is that of its frame's origin. *Joints* are the hinges
and slides but those by which a base moves in the world. In a loop over joints or bodies only sums
are differentiated rightly, so nothing but the sum comes after it.
"""

from typing import Any

import warp as wp

from kernels.robots.library import ENDS, NUM_PARAMETERS, OBSERVATIONS, REWARDS, WIDTHS, Term, term

__all__ = ["BASE_WIDTH", "ENDS", "NUM_PARAMETERS", "OBSERVATIONS", "REWARDS", "WIDTHS", "Term"]

POSITION = wp.constant(0)
ORIENTATION = wp.constant(3)
LINEAR = wp.constant(7)
ANGULAR = wp.constant(10)
BASE_WIDTH = 13
"""Columns of a base's row: position, quaternion (x, y, z, w), linear and angular velocity."""

# What the terms read -----------------------------------------------------------------------------


@wp.func
def orientation(base: Any, env: int):
    """The base's quaternion (x, y, z, w)."""
    return wp.quaternion(base[env, 3], base[env, 4], base[env, 5], base[env, 6])


@wp.func
def in_base_axes(base: Any, env: int, start: int):
    """The three-vector in columns from `start` on, in the base's axes."""
    v = wp.vector(base[env, start], base[env, start + 1], base[env, start + 2])
    return wp.quat_rotate_inv(orientation(base, env), v)


@wp.func
def up_axis(base: Any, env: int):
    """The world's up axis in the base's axes."""
    return wp.transpose(wp.quat_to_matrix(orientation(base, env))) * wp.vector(
        type(base[env, 0])(0.0), type(base[env, 0])(0.0), type(base[env, 0])(1.0)
    )


# Rewards: getting on ------------------------------------------------------------------------------


@term(REWARDS, "m/s")
def progress(robot: Any, env: int, p: Any):
    """Velocity of the base along x."""
    return robot.base[env, LINEAR]


@term(REWARDS, "m/s")
def displacement(robot: Any, env: int, p: Any):
    """The base's way along x in the step, by the step's length: Gymnasium's forward reward."""
    return (robot.base[env, 0] - robot.base_before[env, 0]) / robot.time


@term(REWARDS, "m/s", bodies=True)
def com_displacement(robot: Any, env: int, p: Any):
    """The centre of mass's way along x in the step, by the step's length: Humanoid-v5's forward."""
    way = type(robot.time)(0.0)
    for i in range(robot.mass_share.shape[1]):
        way += robot.mass_share[env * robot.mass_stride, i] * (
            robot.com[env, i, 0] - robot.com_before[env, i, 0]
        )
    return way / robot.time


@term(REWARDS, "m/s", speed=None)
def pace(robot: Any, env: int, p: Any):
    """Minus the distance of the base's velocity along x from `speed` [m/s]."""
    return -wp.abs(robot.base[env, LINEAR] - p[0])


@term(REWARDS, "1")
def alive(robot: Any, env: int, p: Any):
    """One, but zero in a step that ends the episode."""
    return wp.where(robot.terminated[env], type(robot.time)(0.0), type(robot.time)(1.0))


# Rewards: following a command ---------------------------------------------------------------------


@wp.func
def velocity_error_squared(robot: Any, env: int):
    """Squared distance of the base's horizontal velocity, in its axes, from the command."""
    v = in_base_axes(robot.base, env, LINEAR)
    dx = v[0] - robot.command[env, 0]
    dy = v[1] - robot.command[env, 1]
    return dx * dx + dy * dy


@wp.func
def turn_error_squared(robot: Any, env: int):
    """Squared distance of the base's yaw rate, in its axes, from the command."""
    d = in_base_axes(robot.base, env, ANGULAR)[2] - robot.command[env, 2]
    return d * d


@term(REWARDS, "1", command=True, sigma=0.5)
def track_velocity(robot: Any, env: int, p: Any):
    """exp(-e / sigma^2), e = squared error of the commanded velocity, `sigma` in m/s."""
    return wp.exp(-velocity_error_squared(robot, env) / (p[0] * p[0]))


@term(REWARDS, "1", command=True, sigma=0.5)
def track_turn(robot: Any, env: int, p: Any):
    """exp(-e / sigma^2), e = squared error of the commanded yaw rate, `sigma` in rad/s."""
    return wp.exp(-turn_error_squared(robot, env) / (p[0] * p[0]))


@term(REWARDS, "m^2/s^2", command=True)
def velocity_error(robot: Any, env: int, p: Any):
    """Squared error of the commanded velocity, whose gradient does not vanish far away."""
    return velocity_error_squared(robot, env)


@term(REWARDS, "rad^2/s^2", command=True)
def turn_error(robot: Any, env: int, p: Any):
    """Squared error of the commanded yaw rate."""
    return turn_error_squared(robot, env)


# Rewards: posture of the base ---------------------------------------------------------------------


@term(REWARDS, "1")
def upright(robot: Any, env: int, p: Any):
    """Vertical part of the base's up axis: 1 upright, -1 upside down."""
    return up_axis(robot.base, env)[2]


@term(REWARDS, "1")
def tilt(robot: Any, env: int, p: Any):
    """Squared sine of the angle between the base's up axis and the vertical."""
    up = up_axis(robot.base, env)
    return up[0] * up[0] + up[1] * up[1]


@term(REWARDS, "1")
def heading(robot: Any, env: int, p: Any):
    """Part along x of the base's forward axis."""
    return wp.quat_to_matrix(orientation(robot.base, env))[0, 0]


@term(REWARDS, "m", above=0.0)
def height(robot: Any, env: int, p: Any):
    """Height of the base over `above` [m], negative below it."""
    return robot.base[env, 2] - p[0]


@term(REWARDS, "m^2", target=None)
def height_error(robot: Any, env: int, p: Any):
    """Squared distance of the base's height from `target` [m]."""
    d = robot.base[env, 2] - p[0]
    return d * d


@term(REWARDS, "m^2/s^2")
def bounce(robot: Any, env: int, p: Any):
    """Squared vertical velocity of the base."""
    return robot.base[env, LINEAR + 2] * robot.base[env, LINEAR + 2]


@term(REWARDS, "m^2/s^2")
def drift(robot: Any, env: int, p: Any):
    """Squared velocity of the base along y."""
    return robot.base[env, LINEAR + 1] * robot.base[env, LINEAR + 1]


@term(REWARDS, "rad^2/s^2")
def wobble(robot: Any, env: int, p: Any):
    """Squared roll and pitch rates of the base, in its axes."""
    rate = in_base_axes(robot.base, env, ANGULAR)
    return rate[0] * rate[0] + rate[1] * rate[1]


# Rewards: joints and actions ----------------------------------------------------------------------


@term(REWARDS, "1")
def effort(robot: Any, env: int, p: Any):
    """Sum of the squared action, Gymnasium's control cost."""
    total = type(robot.time)(0.0)
    for i in range(robot.action.shape[1]):
        total += robot.action[env, i] * robot.action[env, i]
    return total


@term(REWARDS, "1")
def action_rate(robot: Any, env: int, p: Any):
    """Sum of the squared change of the action since the last step (zero before the first)."""
    total = type(robot.time)(0.0)
    for i in range(robot.action.shape[1]):
        change = robot.action[env, i] - robot.action_before[env, i]
        total += change * change
    return total


@term(REWARDS, "N^2 m^2, N^2", forces=True)
def torque(robot: Any, env: int, p: Any):
    """Sum of the squared forces of the actuators, at the step's end."""
    total = type(robot.time)(0.0)
    for i in range(robot.force.shape[1]):
        total += robot.force[env, i] * robot.force[env, i]
    return total


@term(REWARDS, "W", forces=True)
def power(robot: Any, env: int, p: Any):
    """Sum of the actuators' mechanical power, each without its sign, at the step's end."""
    total = type(robot.time)(0.0)
    for i in range(robot.force.shape[1]):
        total += wp.abs(robot.force[env, i] * robot.joint_qd[env, robot.driven[i]])
    return total


@term(REWARDS, "rad^2/s^2, m^2/s^2")
def joint_speed(robot: Any, env: int, p: Any):
    """Sum of the joints' squared velocities."""
    total = type(robot.time)(0.0)
    for i in range(robot.joint_dof.shape[0]):
        rate = robot.joint_qd[env, robot.joint_dof[i]]
        total += rate * rate
    return total


@term(REWARDS, "rad^2/s^4, m^2/s^4")
def joint_acceleration(robot: Any, env: int, p: Any):
    """Sum of the joints' squared changes of velocity in the step, by the step's length."""
    total = type(robot.time)(0.0)
    for i in range(robot.joint_dof.shape[0]):
        dof = robot.joint_dof[i]
        change = (robot.joint_qd[env, dof] - robot.joint_qd_before[env, dof]) / robot.time
        total += change * change
    return total


@term(REWARDS, "rad, m", margin=0.0)
def joint_limits(robot: Any, env: int, p: Any):
    """Sum of how far joints are beyond their limits, drawn in by `margin` [rad or m]."""
    zero = type(robot.time)(0.0)
    total = zero
    for i in range(robot.joint_coordinate.shape[0]):
        q = robot.joint_q[env, robot.joint_coordinate[i]]
        total += wp.max(robot.lower[i] + p[0] - q, zero)
        total += wp.max(q - robot.upper[i] + p[0], zero)
    return total


@term(REWARDS, "rad^2, m^2")
def posture(robot: Any, env: int, p: Any):
    """Sum of the joints' squared distances from where episodes start."""
    total = type(robot.time)(0.0)
    for i in range(robot.joint_coordinate.shape[0]):
        away = robot.joint_q[env, robot.joint_coordinate[i]] - robot.rest[i]
        total += away * away
    return total


# Rewards: a joint or body by its name -------------------------------------------------------------


@term(REWARDS, "rad^2, m^2", joint=None, target=0.0)
def joint_error(robot: Any, env: int, p: Any):
    """Squared distance of a joint's coordinate from `target` [rad or m]."""
    away = robot.joint_q[env, robot.coordinate_of[wp.int32(p[0])]] - p[1]
    return away * away


@term(REWARDS, "rad/s, m/s", joint=None)
def joint_rate(robot: Any, env: int, p: Any):
    """Velocity of a joint."""
    return robot.joint_qd[env, robot.dof_of[wp.int32(p[0])]]


@term(REWARDS, "rad^2/s^2, m^2/s^2", joint=None, target=0.0)
def joint_rate_error(robot: Any, env: int, p: Any):
    """Squared distance of a joint's velocity from `target` [rad/s or m/s]."""
    away = robot.joint_qd[env, robot.dof_of[wp.int32(p[0])]] - p[1]
    return away * away


@term(REWARDS, "m", bodies=True, body=None, above=0.0)
def body_height(robot: Any, env: int, p: Any):
    """Height of a body's centre of mass over `above` [m]."""
    return robot.com[env, wp.int32(p[0]), 2] - p[1]


@term(REWARDS, "m^2", bodies=True, body=None, x=0.0, y=0.0, z=0.0)
def distance(robot: Any, env: int, p: Any):
    """Squared distance of a body's centre of mass from the point `x`, `y`, `z` [m]."""
    body = wp.int32(p[0])
    dx = robot.com[env, body, 0] - p[1]
    dy = robot.com[env, body, 1] - p[2]
    dz = robot.com[env, body, 2] - p[3]
    return dx * dx + dy * dy + dz * dz


# Ends of episodes ---------------------------------------------------------------------------------


@term(ENDS, "m", limit=None)
def height_below(robot: Any, env: int, p: Any):
    """The base is lower than `limit` [m]."""
    return robot.base[env, 2] < p[0]


@term(ENDS, "m", limit=None)
def height_above(robot: Any, env: int, p: Any):
    """The base is higher than `limit` [m]."""
    return robot.base[env, 2] > p[0]


@term(ENDS, "degrees", limit=None)
def tilt_above(robot: Any, env: int, p: Any):
    """The base's up axis is further than `limit` [degrees] from the vertical."""
    return up_axis(robot.base, env)[2] < wp.cos(p[0] * type(robot.time)(wp.PI / 180.0))


@term(ENDS, "rad, m", joint=None, low=-1e30, high=1e30)
def joint_outside(robot: Any, env: int, p: Any):
    """A joint's coordinate is not between `low` and `high` [rad or m]."""
    q = robot.joint_q[env, robot.coordinate_of[wp.int32(p[0])]]
    return q < p[1] or q > p[2]


@term(ENDS, "m", bodies=True, body=None, limit=None)
def body_below(robot: Any, env: int, p: Any):
    """A body's centre of mass is lower than `limit` [m]."""
    return robot.com[env, wp.int32(p[0]), 2] < p[1]


@term(ENDS, "m, rad, m/s, rad/s", limit=None)
def state_beyond(robot: Any, env: int, p: Any):
    """A coordinate other than the base's place, or a velocity, is beyond `limit` either way."""
    beyond = bool(False)
    for i in range(robot.pose_coordinate.shape[0]):
        if wp.abs(robot.joint_q[env, robot.pose_coordinate[i]]) > p[0]:
            beyond = bool(True)
    for i in range(robot.joint_qd.shape[1]):
        if wp.abs(robot.joint_qd[env, i]) > p[0]:
            beyond = bool(True)
    return beyond


# Observations -------------------------------------------------------------------------------------


@term(OBSERVATIONS, "m")
def observed_height(robot: Any, env: int, i: int):
    """Height of the base (1)."""
    return robot.base[env, 2]


@term(OBSERVATIONS, "1")
def observed_orientation(robot: Any, env: int, i: int):
    """Orientation of the base, a quaternion x, y, z, w (4)."""
    return robot.base[env, ORIENTATION + i]


@term(OBSERVATIONS, "1")
def observed_up(robot: Any, env: int, i: int):
    """The vertical in the base's axes (3)."""
    return up_axis(robot.base, env)[i]


@term(OBSERVATIONS, "1")
def observed_heading(robot: Any, env: int, i: int):
    """The base's forward axis in the world (3)."""
    return wp.quat_to_matrix(orientation(robot.base, env))[i, 0]


@term(OBSERVATIONS, "m/s, rad/s")
def observed_velocities(robot: Any, env: int, i: int):
    """Linear and angular velocity of the base, in world axes (6)."""
    return robot.base[env, LINEAR + i]


@term(OBSERVATIONS, "m/s")
def observed_velocity(robot: Any, env: int, i: int):
    """Linear velocity of the base, in world axes (3)."""
    return robot.base[env, LINEAR + i]


@term(OBSERVATIONS, "rad/s")
def observed_gyro(robot: Any, env: int, i: int):
    """Angular velocity of the base, in its own axes (3)."""
    return in_base_axes(robot.base, env, ANGULAR)[i]


@term(OBSERVATIONS, "m/s, rad/s")
def observed_own_velocities(robot: Any, env: int, i: int):
    """Linear and angular velocity of the base, in its own axes (6)."""
    return in_base_axes(robot.base, env, LINEAR + 3 * (i // 3))[i % 3]


@term(OBSERVATIONS, "rad, m")
def observed_joint_positions(robot: Any, env: int, i: int):
    """Coordinates of the joints."""
    return robot.joint_q[env, robot.joint_coordinate[i]]


@term(OBSERVATIONS, "rad/s, m/s")
def observed_joint_velocities(robot: Any, env: int, i: int):
    """Velocities of the joints."""
    return robot.joint_qd[env, robot.joint_dof[i]]


@term(OBSERVATIONS, "rad, m, rad/s, m/s")
def observed_joints(robot: Any, env: int, i: int):
    """Coordinates of the joints, then their velocities."""
    count = robot.joint_dof.shape[0]
    value = type(robot.time)(0.0)
    if i < count:
        value = robot.joint_q[env, robot.joint_coordinate[i]]
    else:
        value = robot.joint_qd[env, robot.joint_dof[i - count]]
    return value


@term(OBSERVATIONS, "m, rad")
def observed_joint_q(robot: Any, env: int, i: int):
    """All coordinates, of the base's joints and of balls too."""
    return robot.joint_q[env, i]


@term(OBSERVATIONS, "m/s, rad/s")
def observed_joint_qd(robot: Any, env: int, i: int):
    """All velocities, of the base's joints and of balls too."""
    return robot.joint_qd[env, i]


@term(OBSERVATIONS, "m, rad")
def observed_pose(robot: Any, env: int, i: int):
    """All coordinates but where in the plane the base is: those Gymnasium's robots observe."""
    return robot.joint_q[env, robot.pose_coordinate[i]]


@term(OBSERVATIONS, "1")
def observed_action(robot: Any, env: int, i: int):
    """The action just applied, zero at an episode's start."""
    return robot.action[env, i]


@term(OBSERVATIONS, "m/s, rad/s", command=True)
def observed_command(robot: Any, env: int, i: int):
    """The command: velocity forward, to the left, yaw rate (3)."""
    return robot.command[env, i]


from kernels.robots import contact_terms  # noqa: E402, F401  # theirs come last in the tables
