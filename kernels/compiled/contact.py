"""The ground's forces on a link over traced scalars, the law of `kernels.articulation.contact`.

Masked operands keep gradients finite where nothing acts. On level ground all that is said of slopes
folds away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.articulation.contact import UPRIGHT
from kernels.compiled.algebra import (
    Vector,
    add,
    cross,
    dot,
    matrix_vector,
    scale,
    subtract,
)
from kernels.compiled.mechanism import Contact, Grid, Ground
from kernels.compiled.tracer import (
    Expression,
    floor,
    gather,
    maximum,
    minimum,
    reciprocal,
    select,
    sqrt,
)

if TYPE_CHECKING:
    from kernels.compiled.dynamics import Posture


def ground_forces(posture: Posture, i: int) -> list[tuple[Vector, Vector]]:
    """Forces on a link with the points, relative to the tree's origin, they act on."""
    ground, link = posture.mechanism.ground, posture.links[i]
    if ground is None:
        return []
    return [
        (touching, scale(force, float(contact.count)))
        for contact in link.contacts
        for touching, force in [_contact_force(posture, i, ground, contact)]
    ]


def _contact_force(
    posture: Posture, i: int, ground: Ground, contact: Contact
) -> tuple[Vector, Vector]:
    zero, rotation = posture.zero, posture.rotation[i]
    arm = add(posture.place[i], matrix_vector(rotation, contact.point))
    normal = _axes(_surface(posture, i, ground, arm))[2]
    touching = subtract(arm, _inward(contact, rotation, normal))
    height, *slopes = _surface(posture, i, ground, touching)
    axes = _axes([height, *slopes])
    depth = maximum(axes[2][2] * (height - (posture.origin[i][2] + touching[2])), 0.0)
    v = add(posture.velocity[i][:3], cross(posture.velocity[i][3:], touching))
    v = [dot(axis, v) for axis in axes]
    upward = (ground.ke - ground.kd * minimum(v[2], 0.0)) * depth
    sliding = (ground.mu * ground.ke) * depth
    speed_squared = v[0] * v[0] + v[1] * v[1]
    slides = sliding * sliding < ground.kf * ground.kf * speed_squared
    slip = sqrt(select(slides, speed_squared, 1.0))
    friction = select(slides, sliding * reciprocal(slip), ground.kf)
    friction = select(zero < depth, friction, 0.0)
    parts = [-(friction * v[0]), -(friction * v[1]), upward]
    force = scale(axes[0], parts[0])
    for axis, part in zip(axes[1:], parts[1:], strict=True):
        force = add(force, scale(axis, part))
    return touching, force


def _inward(contact: Contact, rotation: list[Vector], normal: Vector) -> Vector:
    """From where a contact touches the ground first to its place, world axes."""
    if contact.kind == "ball":
        return scale(normal, contact.radius)
    frame = [matrix_vector(rotation, column) for column in contact.frame.T]
    if contact.kind == "ellipsoid":
        across = [dot(column, normal) for column in frame]
        size = reciprocal(sqrt(dot(across, across)))
        return [dot(row, across) * size for row in map(list, zip(*frame, strict=True))]
    axis, default = frame[0], frame[2]
    upward = subtract(normal, scale(axis, dot(normal, axis)))
    square = dot(upward, upward)
    tilted = square.trace.constant(float(UPRIGHT)) < square
    size = reciprocal(sqrt(select(tilted, square, 1.0)))
    inward = [select(tilted, up * size, -fixed) for up, fixed in zip(upward, default, strict=True)]
    cosine, sine = contact.frame[0, 1], contact.frame[1, 1]
    turned = add(scale(inward, cosine), scale(cross(axis, inward), sine))
    return scale(turned, contact.radius)


def _surface(posture: Posture, i: int, ground: Ground, place: Vector) -> Vector:
    """Height of the ground at a place relative to the tree's origin, and its slopes."""
    x, y = (posture.origin[i][k] + place[k] for k in (0, 1))
    if ground.grid is not None:
        return _interpolated(ground.grid, x, y)
    height, along_x, along_y = (posture.zero + number for number in ground.plane)
    return [height + along_x * x + along_y * y, along_x, along_y]


def _interpolated(grid: Grid, x: Expression, y: Expression) -> Vector:
    # a place that is not a number becomes zero: of two numbers that compare as nothing, maximum
    # and minimum are the second
    rows, columns = grid.shape
    u = minimum(maximum((x - grid.corner[0]) * (1.0 / grid.cell[0]), 0.0), rows - 1.0)
    v = minimum(maximum((y - grid.corner[1]) * (1.0 / grid.cell[1]), 0.0), columns - 1.0)
    row, column = minimum(floor(u), rows - 2.0), minimum(floor(v), columns - 2.0)
    a, b = u - row, v - column
    first = (row * columns + column) * 3.0
    found = []
    for k in range(3):
        corners = [
            gather("ground", first, k + 3 * (j + columns * i)) for j in (0, 1) for i in (0, 1)
        ]
        near = corners[0] + a * (corners[1] - corners[0])
        far = corners[2] + a * (corners[3] - corners[2])
        found.append(near + b * (far - near))
    return found


def _axes(surface: Vector) -> list[Vector]:
    """Axes along the ground and, the third, up from it, given (height, slope, slope)."""
    zero = surface[0] * 0.0
    one = zero + 1.0
    gx, gy = surface[1:]
    normal = scale([-gx, -gy, one], reciprocal(sqrt(one + gx * gx + gy * gy)))
    along = scale([one, zero, gx], reciprocal(sqrt(one + gx * gx)))
    return [along, cross(normal, along), normal]
