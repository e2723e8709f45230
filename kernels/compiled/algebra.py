"""Vectors, matrices and quaternions of traced scalars, as lists."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.compiled.tracer import Expression, reciprocal, sqrt

Vector = list[Expression]
Matrix = list[Vector]
# numbers, as of a numpy array, or expressions; at least one operand of a function is a Vector
Numbers = Sequence[Expression] | Sequence[float]


def add(a: Vector, b: Vector) -> Vector:
    """The sum."""
    return [x + y for x, y in zip(a, b, strict=True)]


def subtract(a: Vector, b: Vector) -> Vector:
    """The difference."""
    return [x - y for x, y in zip(a, b, strict=True)]


def scale(a: Vector, factor: Expression | float) -> Vector:
    """Factor times a."""
    return [x * factor for x in a]


def dot(a: Vector, b: Numbers) -> Expression:
    """The sum of products."""
    total = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        total = total + x * y
    return total


def cross(a: Vector, b: Vector) -> Vector:
    """The cross product of three-vectors."""
    return [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]


def cross_motion(v: Vector, m: Vector) -> Vector:
    """Rate of change of a motion vector `m` fixed in a frame moving with `v`; linear part first."""
    linear = add(cross(v[3:], m[:3]), cross(v[:3], m[3:]))
    return [*linear, *cross(v[3:], m[3:])]


def matrix_vector(matrix: Matrix, vector: Numbers) -> Vector:
    """Matrix times vector."""
    return [dot(row, vector) for row in matrix]


def matrix_product(a: Matrix, b: Sequence[Numbers]) -> Matrix:
    """Product of (3, 3) matrices."""
    columns = [[row[k] for row in b] for k in range(3)]
    return [[dot(row, column) for column in columns] for row in a]


def factorize(matrix: Matrix) -> tuple[Matrix, Vector]:
    """L (unit, lower) and the reciprocals of D with matrix = L D L^T, symmetric positive."""
    lower: Matrix = []
    inverse: Vector = []
    for i, row in enumerate(matrix):
        scaled: Vector = []  # L D
        for j in range(i):
            entry = row[j]
            for k in range(j):
                entry = entry - scaled[k] * lower[j][k]
            scaled.append(entry)
        lower.append([a * b for a, b in zip(scaled, inverse, strict=True)])
        pivot = row[i]
        for a, b in zip(scaled, lower[i], strict=True):
            pivot = pivot - a * b
        inverse.append(reciprocal(pivot))
    return lower, inverse


def solve_factorized(factor: tuple[Matrix, Vector], right: Vector) -> Vector:
    """The solution of L D L^T x = right."""
    lower, inverse = factor
    x = list(right)
    for i in range(len(x)):
        for k in range(i):
            x[i] = x[i] - lower[i][k] * x[k]
    x = [a * b for a, b in zip(x, inverse, strict=True)]
    for i in reversed(range(len(x))):
        for k in range(i + 1, len(x)):
            x[i] = x[i] - lower[k][i] * x[k]
    return x


def unit(quaternion: Vector) -> Vector:
    """A quaternion of length one."""
    return scale(quaternion, reciprocal(sqrt(dot(quaternion, quaternion))))


def turned(quaternion: Vector, omega: Vector, dt: Expression) -> Vector:
    """The orientation (x, y, z, w) after `dt` at angular velocity `omega` (outer axes)."""
    half = scale(omega, 0.5 * dt)
    vector, w = quaternion[:3], quaternion[3]
    rate = [*add(scale(half, w), cross(half, vector)), -dot(half, vector)]
    return unit(add(quaternion, rate))


def quaternion_matrix(quaternion: Vector) -> Matrix:
    """The rotation matrix of a unit quaternion (x, y, z, w)."""
    x, y, z, w = quaternion
    xx, yy, zz = 2.0 * x * x, 2.0 * y * y, 2.0 * z * z
    xy, xz, yz = 2.0 * x * y, 2.0 * x * z, 2.0 * y * z
    wx, wy, wz = 2.0 * w * x, 2.0 * w * y, 2.0 * w * z
    return [
        [1.0 - (yy + zz), xy - wz, xz + wy],
        [xy + wz, 1.0 - (xx + zz), yz - wx],
        [xz - wy, yz + wx, 1.0 - (xx + yy)],
    ]
