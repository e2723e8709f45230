"""The dynamics of a mechanism over traced scalars.

Spatial vectors are (linear, angular) in world-aligned axes about one origin per tree, as in
`kernels.articulation.spatial`: the centre of mass of a free root, else the root joint's anchor,
which a slide takes along. Parents and children then add without transforms, and what is zero for
the robot at hand folds away while it is traced.

Accelerations solve M(q) qdd = tau - c(q, qd): c is the inverse dynamics of zero acceleration, by
recursive Newton-Euler, and M is factored body by body as in the articulated-body algorithm
(Featherstone 2008, chapters 5 and 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kernels.compiled.algebra import (
    Matrix,
    Vector,
    add,
    cross,
    cross_motion,
    dot,
    factorize,
    matrix_product,
    matrix_vector,
    quaternion_matrix,
    scale,
    solve_factorized,
    subtract,
)
from kernels.compiled.contact import ground_forces
from kernels.compiled.mechanism import NQ, NV, Link, Mechanism, Number, bounds, rank_one_terms
from kernels.compiled.passive import ball_pull, cord_forces, coupling_pulls, passive_wrenches
from kernels.compiled.tracer import (
    Expression,
    cos,
    maximum,
    minimum,
    sin,
)


@dataclass
class Factor:
    """The articulated-body factor of the mass matrix, per link.

    Attributes:
        forces: U, what the articulated inertia makes of each motion axis.
        blocks: L D L^T of the inertia seen along the joint's axes.
    """

    forces: list[list[Vector]]
    blocks: list[tuple[Matrix, Vector]]


class Posture:
    """A mechanism's links at one state; everything in world axes, relative to the tree's origin."""

    def __init__(self, mechanism: Mechanism, q: Vector, qd: Vector) -> None:
        """Place and move the links.

        Args:
            mechanism: the links.
            q: coordinates, with the centre of mass for a free link's position, unit quaternions.
            qd: velocities.
        """
        self.links = mechanism.links
        self.mechanism = mechanism
        self.zero = q[0].trace.constant(0.0)
        self.q = split(q, [NQ[link.kind] for link in self.links])
        self.qd = split(qd, [NV[link.kind] for link in self.links])
        self.rotation: list[Matrix] = []
        self.place: list[Vector] = []  # of the link's frame
        self.origin: list[Vector] = []  # of the tree, in the world
        self.axes: list[list[Vector]] = []
        self.velocity: list[Vector] = []
        self.product: list[Vector] = []  # acceleration that comes of the velocities alone
        for i, link in enumerate(self.links):
            self._place(i, link)
            self._move(i, link)
        self.com = [
            add(place, matrix_vector(rotation, link.com))
            for link, place, rotation in zip(self.links, self.place, self.rotation, strict=True)
        ]

    def _place(self, i: int, link: Link) -> None:
        q = self.q[i]
        one = self.zero + 1.0
        if link.kind == "free":
            self.rotation.append(quaternion_matrix(q[3:]))
            self.place.append([self.zero] * 3)
            self.origin.append(q[:3])
            self.axes.append([[one if k == j else self.zero for k in range(6)] for j in range(6)])
            return
        root = link.parent < 0
        frame: Matrix = [[self.zero + x for x in row] for row in link.frame]
        place, origin = [self.zero] * 3, [self.zero + x for x in link.anchor]
        if not root:
            parent = self.rotation[link.parent]
            frame = matrix_product(parent, link.frame)
            place = add(self.place[link.parent], matrix_vector(parent, link.anchor))
            origin = self.origin[link.parent]
        rotation = frame
        if link.kind == "prismatic":
            axis = matrix_vector(frame, link.axis)
            travel = scale(axis, q[0])
            if root:  # the origin moves along
                origin = add(origin, travel)
            else:
                place = add(place, travel)
            self.axes.append([[*axis, *[self.zero] * 3]])
        elif link.kind == "revolute":
            rotation = _turn_about_z(frame, q[0])
            self.axes.append([_hinge(place, [row[2] for row in frame])])
        else:
            rotation = matrix_product(frame, quaternion_matrix(q))
            self.axes.append([_hinge(place, [row[k] for row in frame]) for k in range(3)])
        self.rotation.append(rotation)
        self.place.append(place)
        self.origin.append(origin)

    def _move(self, i: int, link: Link) -> None:
        own = self.combination(i, self.qd[i])
        if link.kind == "free":
            # the axes keep their directions while their origin, the centre of mass, moves on
            self.velocity.append(own)
            self.product.append([*cross(own[:3], own[3:]), *[self.zero] * 3])
        elif link.parent < 0:
            self.velocity.append(own)
            self.product.append([self.zero] * 6)
        else:
            carried = self.velocity[link.parent]
            self.velocity.append(add(carried, own))
            self.product.append(cross_motion(carried, own))

    def combination(self, i: int, weights: Sequence[Expression]) -> Vector:
        """The weighted sum of a joint's axes."""
        total = scale(self.axes[i][0], weights[0])
        for axis, weight in zip(self.axes[i][1:], weights[1:], strict=True):
            total = add(total, scale(axis, weight))
        return total

    # Forces ------------------------------------------------------------------------------------

    def accelerations(self, qdd: Vector | None, of_twist: bool = False) -> list[Vector]:
        """Spatial acceleration of each link, less gravity, at joint accelerations (None: zero).

        A free link's is that of its centre of mass, or, `of_twist`, of the point fixed in space at
        which its centre of mass is.
        """
        parts = None if qdd is None else split(qdd, [len(axes) for axes in self.axes])
        found: list[Vector] = []
        for i, link in enumerate(self.links):
            upward = [self.zero - g for g in self.mechanism.gravity] + [self.zero] * 3
            product = [self.zero] * 6 if of_twist and link.kind == "free" else self.product[i]
            a = add(upward if link.parent < 0 else found[link.parent], product)
            found.append(a if parts is None else add(a, self.combination(i, parts[i])))
        return found

    def mass_force(self, i: int, acceleration: Vector) -> Vector:
        """Mass times acceleration of a link's centre of mass."""
        linear, angular = self.velocity[i][:3], self.velocity[i][3:]
        speed = add(linear, cross(angular, self.com[i]))
        a = add(acceleration[:3], cross(acceleration[3:], self.com[i]))
        return scale(add(a, cross(angular, speed)), self.links[i].mass)

    def inertial_wrench(self, i: int, acceleration: Vector) -> Vector:
        """Force and moment about the origin that accelerate a link."""
        force = self.mass_force(i, acceleration)
        omega, alpha = self.velocity[i][3:], acceleration[3:]
        k, terms = self.inertia_terms[i]
        moment = add(cross(self.com[i], force), scale(alpha, k))
        for b, n in terms:
            moment = add(moment, scale(n, b * dot(n, alpha)))
            moment = add(moment, scale(cross(omega, n), b * dot(n, omega)))
        return [*force, *moment]

    def inertial_power(self, i: int, acceleration: Vector, virtual: Vector) -> Expression:
        """The inertial wrench times a virtual velocity, in fewer operations than the wrench."""
        linear, angular = virtual[:3], virtual[3:]
        omega, alpha = self.velocity[i][3:], acceleration[3:]
        force = self.mass_force(i, acceleration)
        power = dot(force, add(linear, cross(angular, self.com[i])))
        k, terms = self.inertia_terms[i]
        power = power + k * dot(angular, alpha)
        for b, n in terms:
            # n . (angular x omega) n . omega = angular . (omega x n n . omega)
            turning = dot(n, cross(angular, omega)) * dot(n, omega)
            power = power + b * (dot(n, angular) * dot(n, alpha) + turning)
        return power

    @cached_property
    def inertia_terms(self) -> list[tuple[Number, list[tuple[Number, Vector]]]]:
        """Each link's inertia about its centre of mass as k 1 + sum b n n^T."""
        found = []
        for link, rotation in zip(self.links, self.rotation, strict=True):
            k, terms = link.terms or rank_one_terms(link.inertia)
            found.append((k, [(b, matrix_vector(rotation, n)) for b, n in terms]))
        return found

    def passive_force(self, i: int) -> Expression:
        """Damping, spring and limits of a hinge or slide."""
        link, q, qd = self.links[i], self.q[i][0], self.qd[i][0]
        force = -link.damping * qd - link.stiffness * (q - link.rest)
        if np.isfinite(link.lower):
            force = force + link.limit_ke * maximum(link.lower - q, 0.0)
        if np.isfinite(link.upper):
            force = force + link.limit_ke * minimum(link.upper - q, 0.0)
        return force

    def ball_force(self, i: int) -> Vector:
        """Spring and limit of a ball."""
        link = self.links[i]
        return ball_pull(self.q[i], link.stiffness, link.limit_ke, link.upper)

    @cached_property
    def cord_forces(self) -> dict[int, list[tuple[Vector, Vector]]]:
        """`kernels.compiled.passive.cord_forces`."""
        return cord_forces(self)

    def servo_force(self, i: int, applied: Expression) -> Expression:
        """What a hinge's or slide's servo makes of the applied force."""
        link, q, qd = self.links[i], self.q[i][0], self.qd[i][0]
        least, most = link.servo_range
        force = applied - link.servo_kp * q - link.servo_kd * qd
        if bounds(least):
            force = maximum(force, least)
        if bounds(most):
            force = minimum(force, most)
        return force

    # Equations ---------------------------------------------------------------------------------

    def net_forces(self, joint_f: Vector, of_twist: bool = False) -> Vector:
        """What is left of all forces to accelerate the joints, tau - c(q, qd), per dof.

        For `of_twist` see `accelerations`.
        """
        accelerations = self.accelerations(None, of_twist)
        wrenches: list[Vector] = []
        for i, acceleration in enumerate(accelerations):
            wrench = self.inertial_wrench(i, acceleration)
            for point, force in ground_forces(self, i):
                wrench = subtract(wrench, [*force, *cross(point, force)])
            for point, force, torque in passive_wrenches(self, i):
                moment = cross(point, force)
                moment = moment if torque is None else add(moment, torque)
                wrench = subtract(wrench, [*force, *moment])
            wrenches.append(wrench)
        net = split(list(joint_f), [len(axes) for axes in self.axes])
        for i, link in enumerate(self.links):
            if link.has_servo:
                net[i][0] = self.servo_force(i, net[i][0])
        for i in reversed(range(len(self.links))):
            link = self.links[i]
            for k, axis in enumerate(self.axes[i]):
                net[i][k] = net[i][k] - dot(axis, wrenches[i])
            if link.kind in ("revolute", "prismatic"):
                net[i][0] = net[i][0] + self.passive_force(i)
            if link.kind == "spherical" and link.damping:
                net[i] = subtract(net[i], scale(self.qd[i], link.damping))
            if link.pulls_back:
                net[i] = add(net[i], self.ball_force(i))
            if link.parent >= 0:
                wrenches[link.parent] = add(wrenches[link.parent], wrenches[i])
        for coupling, pull in coupling_pulls(self):
            for i, weight in zip(coupling.links, coupling.weights, strict=True):
                net[i][0] = net[i][0] + weight * pull
        return [force for part in net for force in part]

    def virtual_power(self, qdd: Vector | None, virtual_qd: Vector, joint_f: Vector) -> Expression:
        """virtual_qd . (ID(q, qd, qdd) - tau(q, qd)), without armature's and applied forces' parts.

        Those two do not depend on the state, but for the forces of servos; of armature, and of the
        inertia that implicit damping adds, what varies is there. Without `qdd` it is
        -virtual_qd . net_forces(of_twist=True) but for the applied forces.
        """
        applied = split(joint_f, [len(axes) for axes in self.axes])
        accelerations = self.accelerations(qdd, of_twist=qdd is None)
        parts = split(virtual_qd, [len(axes) for axes in self.axes])
        still = [self.zero] * len(virtual_qd)
        moved = split(still if qdd is None else qdd, [len(axes) for axes in self.axes])
        virtual: list[Vector] = []
        power = self.zero
        for i, link in enumerate(self.links):
            own = self.combination(i, parts[i])
            virtual.append(own if link.parent < 0 else add(virtual[link.parent], own))
            power = power + self.inertial_power(i, accelerations[i], virtual[i])
            if isinstance(link.armature, Expression):
                power = power + link.armature * dot(parts[i], moved[i])
            if isinstance(link.damping, Expression) and self.mechanism.implicit_damping:
                power = power + link.damping * self._length_of_step() * dot(parts[i], moved[i])
            for point, force in ground_forces(self, i):
                speed = add(virtual[i][:3], cross(virtual[i][3:], point))
                power = power - dot(force, speed)
            for point, force, torque in passive_wrenches(self, i):
                speed = add(virtual[i][:3], cross(virtual[i][3:], point))
                power = power - dot(force, speed)
                if torque is not None:
                    power = power - dot(torque, virtual[i][3:])
            if link.kind == "spherical" and link.damping:
                power = power + link.damping * dot(parts[i], self.qd[i])
            if link.pulls_back:
                power = power - dot(parts[i], self.ball_force(i))
            if link.kind in ("revolute", "prismatic"):
                power = power - parts[i][0] * self.passive_force(i)
            if link.has_servo:
                power = power - parts[i][0] * self.servo_force(i, applied[i][0])
        for coupling, pull in coupling_pulls(self):
            for i, weight in zip(coupling.links, coupling.weights, strict=True):
                power = power - (weight * parts[i][0]) * pull
        return power

    def mass_matrix(self) -> dict[tuple[int, int], Expression]:
        """M by composite bodies (Featherstone 2008, section 6.2): (row, column) -> entry.

        Of its symmetric entries those with column <= row that are not zero for every such tree.
        """
        composite = [self._spatial_inertia(i) for i in range(len(self.links))]
        ends = np.cumsum([len(axes) for axes in self.axes]).tolist()
        found: dict[tuple[int, int], Expression] = {}
        for i in reversed(range(len(self.links))):
            link = self.links[i]
            if link.parent >= 0:
                composite[link.parent] = [
                    add(a, b) for a, b in zip(composite[link.parent], composite[i], strict=True)
                ]
            for k, axis in enumerate(self.axes[i]):
                row, momentum = ends[i] - len(self.axes[i]) + k, matrix_vector(composite[i], axis)
                above = i
                while above >= 0:
                    first = ends[above] - len(self.axes[above])
                    for column, other in enumerate(self.axes[above], first):
                        if column <= row:
                            found[row, column] = dot(other, momentum)
                    above = self.links[above].parent
                found[row, row] = found[row, row] + link.armature
                if self.mechanism.implicit_damping:
                    found[row, row] = found[row, row] + link.damping * self._length_of_step()
        return found

    def factor(self) -> Factor:
        """Eliminate the joints from the leaves to the roots."""
        inertia = [self._spatial_inertia(i) for i in range(len(self.links))]
        forces: list[list[Vector]] = [[] for _ in self.links]
        blocks: list[tuple[Matrix, Vector]] = [([], []) for _ in self.links]
        for i in reversed(range(len(self.links))):
            link, axes = self.links[i], self.axes[i]
            forces[i] = [matrix_vector(inertia[i], axis) for axis in axes]
            block = [[dot(a, force) for force in forces[i]] for a in axes]
            for k in range(len(axes)):
                block[k][k] = block[k][k] + link.armature
                if self.mechanism.implicit_damping:
                    block[k][k] = block[k][k] + link.damping * self._length_of_step()
            blocks[i] = factorize(block)
            if link.parent >= 0:
                rest = _eliminated(inertia[i], forces[i], blocks[i])
                inertia[link.parent] = [
                    add(a, b) for a, b in zip(inertia[link.parent], rest, strict=True)
                ]
        return Factor(forces, blocks)

    def _length_of_step(self) -> Expression:
        return self.zero.trace.input("dt", 0)  # traced where it is asked for, and once

    def solve(self, factor: Factor, right: Vector) -> Vector:
        """M^-1 right."""
        left = split(list(right), [len(axes) for axes in self.axes])
        wrenches: list[Vector] = [[self.zero] * 6 for _ in self.links]
        for i in reversed(range(len(self.links))):
            parent = self.links[i].parent
            left[i] = [
                value - dot(axis, wrenches[i])
                for value, axis in zip(left[i], self.axes[i], strict=True)
            ]
            if parent >= 0:
                weights = solve_factorized(factor.blocks[i], left[i])
                wrench = wrenches[i]
                for force, weight in zip(factor.forces[i], weights, strict=True):
                    wrench = add(wrench, scale(force, weight))
                wrenches[parent] = add(wrenches[parent], wrench)
        accelerations: list[Vector] = []
        for i, link in enumerate(self.links):
            carried = [self.zero] * 6 if link.parent < 0 else accelerations[link.parent]
            rest = [
                value - dot(force, carried)
                for value, force in zip(left[i], factor.forces[i], strict=True)
            ]
            left[i] = solve_factorized(factor.blocks[i], rest)
            accelerations.append(add(carried, self.combination(i, left[i])))
        return [value for part in left for value in part]

    def _spatial_inertia(self, i: int) -> Matrix:
        """A link's inertia about the origin, (6, 6), as `spatial.rigid_inertia` has it."""
        mass, com = self.links[i].mass, self.com[i]
        h = scale(com, mass)
        k, terms = self.inertia_terms[i]
        square = dot(h, com)
        rotational: Matrix = [[self.zero] * 3 for _ in range(3)]
        for x in range(3):
            for y in range(x, 3):
                entry = (k + square if x == y else self.zero) - h[x] * com[y]
                for b, n in terms:
                    entry = entry + b * n[x] * n[y]
                rotational[x][y] = rotational[y][x] = entry
        o, m = self.zero, self.zero + mass
        skew = [[o, -h[2], h[1]], [h[2], o, -h[0]], [-h[1], h[0], o]]
        linear = [[m, o, o], [o, m, o], [o, o, m]]
        upper = [[*linear[x], *[-entry for entry in skew[x]]] for x in range(3)]
        return upper + [[*skew[x], *rotational[x]] for x in range(3)]


def _hinge(place: Vector, axis: Vector) -> Vector:
    """The motion of turning about an axis through a place."""
    return [*cross(place, axis), *axis]


def _turn_about_z(frame: Matrix, angle: Expression) -> Matrix:
    """The frame turned about its own z axis."""
    c, s = cos(angle), sin(angle)
    return [[c * row[0] + s * row[1], c * row[1] - s * row[0], row[2]] for row in frame]


def _eliminated(inertia: Matrix, forces: list[Vector], block: tuple[Matrix, Vector]) -> Matrix:
    """What is felt through a joint that moves freely: inertia - U (L D L^T)^-1 U^T."""
    weights = [solve_factorized(block, [force[x] for force in forces]) for x in range(6)]
    rest: Matrix = [list(row) for row in inertia]
    for x in range(6):
        for y in range(x, 6):
            entry = inertia[x][y]
            for weight, force in zip(weights[x], forces, strict=True):
                entry = entry - weight * force[y]
            rest[x][y] = rest[y][x] = entry
    return rest


def split(values: Sequence[Expression], counts: Sequence[int]) -> list[list[Expression]]:
    """Consecutive parts of the given lengths."""
    ends = np.cumsum(counts)
    return [list(values[end - count : end]) for end, count in zip(ends, counts, strict=True)]
