"""Lift, drag, cords and couplings over traced scalars, as in `kernels.articulation.passive`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kernels.compiled.algebra import (
    Numbers,
    Vector,
    add,
    cross,
    dot,
    matrix_vector,
    scale,
    subtract,
)
from kernels.compiled.mechanism import Cord, Coupling, Drag, Number
from kernels.compiled.tracer import Expression, maximum, minimum, reciprocal, select, sqrt

if TYPE_CHECKING:
    from kernels.compiled.dynamics import Posture

_ARC_SINE = (225 / 272, 169 / 210, 121 / 156, 81 / 110, 49 / 72, 25 / 42, 9 / 20, 1 / 6)
"""Ratios of the terms of the series of asin(s) / s in s^2, the last first."""


def passive_wrenches(posture: Posture, i: int) -> list[tuple[Vector, Vector, Vector | None]]:
    """Points of a link, relative to the tree's origin, with forces there and torques (or None)."""
    link, found = posture.links[i], []
    for lift in link.lifts:
        force = [posture.zero - lift.mass * g for g in posture.mechanism.gravity]
        found.append((_arm(posture, i, lift.point), force, None))
    found += [_drag(posture, i, drag) for drag in link.drags]
    found += [(point, force, None) for point, force in posture.cord_forces.get(i, ())]
    return found


def coupling_pulls(posture: Posture) -> list[tuple[Coupling, Expression]]:
    """What each coupling pulls with, before the weight of a joint."""
    found = []
    for coupling in posture.mechanism.couplings:
        length = rate = posture.zero
        for i, weight in zip(coupling.links, coupling.weights, strict=True):
            length = length + weight * posture.q[i][0]
            rate = rate + weight * posture.qd[i][0]
        found.append((coupling, _pull(coupling, length, rate)))
    return found


def _pull(spring: Coupling | Cord, length: Expression, rate: Expression) -> Expression:
    pull = -spring.damping * rate
    if np.isfinite(spring.high):
        pull = pull - spring.stiffness * maximum(length - spring.high, 0.0)
    if np.isfinite(spring.low):
        pull = pull - spring.stiffness * minimum(length - spring.low, 0.0)
    return pull


def cord_forces(posture: Posture) -> dict[int, list[tuple[Vector, Vector]]]:
    """Of each link that cords pull at, points relative to the tree's origin and forces there."""
    found: dict[int, list[tuple[Vector, Vector]]] = {}
    for cord in posture.mechanism.cords:
        length = rate = posture.zero
        pieces = []
        ends = [_end(posture, i, point) for i, point in zip(cord.links, cord.points, strict=True)]
        for k, weight in enumerate(cord.weights):
            if weight == 0.0:
                continue
            (origin, arm, speed), (next_origin, next_arm, next_speed) = ends[k], ends[k + 1]
            piece = add(subtract(next_origin, origin), subtract(next_arm, arm))
            square = dot(piece, piece)
            apart = posture.zero < square
            root = sqrt(select(apart, square, 1.0))
            direction = scale(piece, reciprocal(root))
            length = length + weight * select(apart, root, 0.0)
            rate = rate + weight * dot(direction, subtract(next_speed, speed))
            pieces.append((k, weight, direction))
        pull = _pull(cord, length, rate)
        for k, weight, direction in pieces:
            force = scale(direction, weight * pull)
            for i, arm, applied in (
                (cord.links[k], ends[k][1], [-x for x in force]),
                (cord.links[k + 1], ends[k + 1][1], force),
            ):
                if i >= 0:
                    found.setdefault(i, []).append((arm, applied))
    return found


def _end(posture: Posture, i: int, point: Numbers) -> tuple[Vector, Vector, Vector]:
    """Origin of the tree of a cord's point, the point relative to it, and its velocity."""
    if i < 0:
        nothing = [posture.zero] * 3
        return nothing, [posture.zero + x for x in point], nothing
    arm, v = _arm(posture, i, point), posture.velocity[i]
    return posture.origin[i], arm, add(v[:3], cross(v[3:], arm))


def ball_pull(q: Vector, stiffness: Number, limit_ke: Number, most: float) -> Vector:
    """`kernels.articulation.passive.ball_pull`."""
    v, zero = q[:3], 0.0 * q[3]
    sign = select(q[3] < 0.0, zero - 1.0, 1.0)
    square = dot(v, v)
    cosine = sign * q[3]
    cosines = zero + 1.0
    for _ in range(3):
        cosine = sqrt(0.5 + 0.5 * cosine)
        cosines = cosines * cosine
    x = square * reciprocal(64.0 * cosines * cosines)
    ratio = zero + 1.0
    for factor in _ARC_SINE:
        ratio = 1.0 + factor * x * ratio
    ratio = 2.0 * ratio * reciprocal(cosines)
    gain = zero + stiffness
    if np.isfinite(most):
        angle_squared = ratio * ratio * square
        beyond = most * most < angle_squared
        angle = sqrt(select(beyond, angle_squared, 1.0))
        gain = gain + select(beyond, limit_ke * (1.0 - most * reciprocal(angle)), 0.0)
    return scale(v, -(gain * ratio * sign))


def _arm(posture: Posture, i: int, point: Numbers) -> Vector:
    return add(posture.place[i], matrix_vector(posture.rotation[i], point))


def _drag(posture: Posture, i: int, drag: Drag) -> tuple[Vector, Vector, Vector]:
    arm, v = _arm(posture, i, drag.point), posture.velocity[i]
    axes = [matrix_vector(posture.rotation[i], column) for column in drag.axes.T]
    speed = [
        a - wind for a, wind in zip(add(v[:3], cross(v[3:], arm)), drag.wind.tolist(), strict=True)
    ]
    force = _resistance(axes, speed, drag.linear, drag.linear_square)
    return arm, force, _resistance(axes, v[3:], drag.angular, drag.angular_square)


def _resistance(axes: list[Vector], rate: Vector, viscous: float, square: np.ndarray) -> Vector:
    """-(viscous v + square |v| v) by components along the axes, in the world's."""
    total = scale(rate, -viscous)
    for axis, c in zip(axes, square.tolist(), strict=True):
        if c:
            along = dot(axis, rate)
            total = add(total, scale(axis, -c * (maximum(along, -along) * along)))
    return total
