"""What varies of a robot, written into its mechanism as traced numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kernels.compiled.algebra import Vector
from kernels.compiled.mechanism import Cord, Ground, Link, Mechanism, Number, Terms, rank_one_terms
from kernels.compiled.step_equations import Variation
from kernels.compiled.tracer import Expression
from warp_envs.articulation.columns import Columns
from warp_envs.usd.description import Body, RobotDescription
from warp_envs.usd.mass import MassProperties, combine_mass_properties


@dataclass(frozen=True, eq=False)
class Member:
    """A body in its link.

    Attributes:
        index: of the body.
        rotation: of its frame in the link's, (3, 3).
        position: of its frame in the link's, (3,) [m].
    """

    index: int
    rotation: np.ndarray
    position: np.ndarray


@dataclass(frozen=True)
class _Solid:
    """Mass, its centre in the link's frame, and the inertia about that in the link's axes."""

    mass: Number
    com: list[Any]
    terms: Terms


def variation_of(
    description: RobotDescription, members: Sequence[Sequence[Member]], columns: Columns
) -> Variation | None:
    """How the columns change the robot's mechanism; None where none of them does.

    Args:
        description: the robot.
        members: the bodies of each link, first the one that the link's joint carries.
        columns: what varies.
    """
    if not columns.keys:
        return None
    varied = _Varied(description, members, columns)
    return Variation(columns.count, varied.apply)


class _Varied:
    """The parts of a mechanism with their columns in place."""

    def __init__(
        self,
        description: RobotDescription,
        members: Sequence[Sequence[Member]],
        columns: Columns,
    ) -> None:
        self._description, self._members, self._columns = description, members, columns

    def apply(self, mechanism: Mechanism, p: Vector) -> Mechanism:
        """The mechanism with expressions of the columns' numbers `p`."""
        shifts = [self._shift(link, i, p) for i, link in enumerate(mechanism.links)]
        links = [self._link(link, i, shifts, p) for i, link in enumerate(mechanism.links)]
        gravity = self._numbers(p, "gravity", 0) or mechanism.gravity
        ground = self._ground(mechanism.ground, p)
        cords = tuple(_shifted(cord, shifts) for cord in mechanism.cords)
        fields = {"links": tuple(links), "gravity": gravity, "ground": ground, "cords": cords}
        return replace(mechanism, **fields)

    def _numbers(self, p: Vector, quantity: str, index: int) -> Vector | None:
        columns = self._columns.of(quantity, index)
        return None if columns is None else [p[column] for column in columns]

    def _number(self, p: Vector, quantity: str, index: int, constant: Number) -> Number:
        found = self._numbers(p, quantity, index)
        return constant if found is None else found[0]

    def _ground(self, ground: Ground | None, p: Vector) -> Ground | None:
        if ground is None:
            return None
        names = {"ke": "contact_ke", "kd": "contact_kd", "kf": "contact_kf", "mu": "friction"}
        varied = {
            field: self._number(p, quantity, 0, getattr(ground, field))
            for field, quantity in names.items()
        }
        return replace(ground, **varied)

    def _shift(self, link: Link, i: int, p: Vector) -> Vector | None:
        """How far a free link's frame, its body's centre of mass, is from where it was laid out."""
        index = self._members[i][0].index
        com = self._numbers(p, "com", index)
        if link.kind != "free" or com is None:
            return None
        return [x - c for x, c in zip(com, self._description.bodies[index].com, strict=True)]

    def _link(self, link: Link, i: int, shifts: Sequence[Vector | None], p: Vector) -> Link:
        index = self._members[i][0].index
        joint = self._description.bodies[index].joint
        fields: dict[str, Any] = {"armature": self._number(p, "armature", index, link.armature)}
        if link.kind in ("revolute", "prismatic"):
            for name in ("stiffness", "rest", "limit_ke"):
                fields[name] = self._number(p, name, index, getattr(link, name))
            for name in ("servo_kp", "servo_kd"):
                fields[name] = self._number(p, name, index, getattr(link, name))
            force = self._numbers(p, "servo_force", index)
            if force is not None:
                fields["servo_range"] = (-force[0], force[0])
            damping = self._number(p, "damping", index, joint.damping)
            fields["damping"] = damping + self._number(p, "limit_kd", index, joint.limit_kd)
        if link.kind == "spherical":
            fields["damping"] = self._number(p, "damping", index, link.damping)
        fields["anchor"] = (
            link.anchor if link.parent < 0 else _less(link.anchor, shifts[link.parent])
        )
        shift = shifts[i]
        if shift is not None:
            fields["offset"] = [x + s for x, s in zip(link.offset, shift, strict=True)]
            for name in ("contacts", "lifts", "drags"):
                parts = getattr(link, name)
                moved = [part._replace(point=_less(part.point, shift)) for part in parts]
                fields[name] = tuple(moved)
        return replace(link, **fields, **self._solid(link, i, shift, p))

    def _solid(self, link: Link, i: int, shift: Vector | None, p: Vector) -> dict[str, Any]:
        """Mass, centre of mass and inertia of a link of which a body's vary; else nothing."""
        varied, constant = [], []
        for member in self._members[i]:
            of = [self._columns.of(name, member.index) for name in ("mass", "com", "inertia_scale")]
            of.append(self._columns.of("second_moment", member.index))
            (constant if of == [None] * 4 else varied).append(member)
        if not varied and shift is None:
            return {}
        solids = [self._varied_solid(member, shift, p) for member in varied]
        rest = combine_mass_properties([self._placed(member) for member in constant])
        if rest.mass > 0.0 or np.any(rest.inertia):
            solids.append(_Solid(rest.mass, _less(rest.com, shift), rank_one_terms(rest.inertia)))
        if link.kind == "free" and shift is not None:
            solids[0] = replace(solids[0], com=[0.0 * s for s in shift])  # where the frame is
        return _combined(solids)

    def _placed(self, member: Member) -> MassProperties:
        """A body's constants in its link's frame."""
        body, turn = self._description.bodies[member.index], member.rotation
        com = member.position + turn @ body.com
        return MassProperties(body.mass, com, turn @ body.inertia @ turn.T)

    def _varied_solid(self, member: Member, shift: Vector | None, p: Vector) -> _Solid:
        body, turn = self._description.bodies[member.index], member.rotation
        placed = self._placed(member)
        com: list[Any] = list(placed.com)
        own = self._numbers(p, "com", member.index)
        if own is not None:
            com = [x + _dot(row, own) for x, row in zip(member.position, turn, strict=True)]
        mass = self._number(p, "mass", member.index, body.mass)
        return _Solid(mass, _less(com, shift), self._terms(body, member, placed.inertia, p))

    def _terms(self, body: Body, member: Member, inertia: np.ndarray, p: Vector) -> Any:
        factor = self._numbers(p, "second_moment", member.index)
        if factor is not None:
            zero = factor[0] * 0.0
            a, b, c, d, e, f = factor
            own = [[a, zero, zero], [b, d, zero], [c, e, f]]  # columns of L
            columns = [[_dot(row, column) for row in member.rotation] for column in own]
            trace = a * a + b * b + c * c + d * d + e * e + f * f
            return trace, [(-1.0, column) for column in columns]
        k, terms = rank_one_terms(inertia)
        scale = self._number(p, "inertia_scale", member.index, 1.0)
        mass = self._numbers(p, "mass", member.index)
        if mass is not None and body.mass > 0.0:  # the same shape, of another density
            scale = scale * (mass[0] * (1.0 / body.mass))
        return k * scale, [(b * scale, n) for b, n in terms]


def _shifted(cord: Cord, shifts: Sequence[Vector | None]) -> Cord:
    places = zip(cord.links, cord.points, strict=True)
    return cord._replace(points=tuple(_less(at, shifts[i] if i >= 0 else None) for i, at in places))


def _combined(solids: Sequence[_Solid]) -> dict[str, Any]:
    """The fields of a link that is several solids, by the parallel-axis theorem."""
    if len(solids) == 1:
        (solid,) = solids
        return {"mass": solid.mass, "com": solid.com, "terms": solid.terms}
    mass = _sum([solid.mass for solid in solids])
    moments = [[solid.mass * c for c in solid.com] for solid in solids]
    com = [_sum(list(parts)) / mass for parts in zip(*moments, strict=True)]
    k: list[Number] = [solid.terms[0] for solid in solids]
    terms = [term for solid in solids for term in solid.terms[1]]
    for solid in solids:
        d = [x - c for x, c in zip(solid.com, com, strict=True)]
        k.append(solid.mass * _sum([x * x for x in d]))
        terms.append((-solid.mass, d))
    return {"mass": mass, "com": com, "terms": (_sum(k), terms)}


def _less(values: Any, shift: Vector | None) -> Any:
    if shift is None:
        return values
    return [
        float(x) - s if not isinstance(x, Expression) else x - s
        for x, s in zip(values, shift, strict=True)
    ]


def _dot(row: np.ndarray, vector: Sequence[Any]) -> Any:
    return _sum([float(a) * x for a, x in zip(row, vector, strict=True)])


def _sum(values: Sequence[Any]) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
