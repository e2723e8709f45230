"""Lift, drag and couplings over traced scalars, as in `kernels.articulation.passive`."""

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
)
from kernels.compiled.mechanism import Coupling, Drag
from kernels.compiled.tracer import Expression, maximum, minimum

if TYPE_CHECKING:
    from kernels.compiled.dynamics import Posture


def passive_wrenches(posture: Posture, i: int) -> list[tuple[Vector, Vector, Vector | None]]:
    """Points of a link, relative to the tree's origin, with forces there and torques (or None)."""
    link, found = posture.links[i], []
    for lift in link.lifts:
        force = [posture.zero - lift.mass * g for g in posture.mechanism.gravity]
        found.append((_arm(posture, i, lift.point), force, None))
    found += [_drag(posture, i, drag) for drag in link.drags]
    return found


def coupling_pulls(posture: Posture) -> list[tuple[Coupling, Expression]]:
    """What each coupling pulls with, before the weight of a joint."""
    found = []
    for coupling in posture.mechanism.couplings:
        length = rate = posture.zero
        for i, weight in zip(coupling.links, coupling.weights, strict=True):
            length = length + weight * posture.q[i][0]
            rate = rate + weight * posture.qd[i][0]
        pull = -coupling.damping * rate
        if np.isfinite(coupling.high):
            pull = pull - coupling.stiffness * maximum(length - coupling.high, 0.0)
        if np.isfinite(coupling.low):
            pull = pull - coupling.stiffness * minimum(length - coupling.low, 0.0)
        found.append((coupling, pull))
    return found


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
