"""A control step of a mechanism as traced programs, forward and reverse.

The reverse of a substep needs neither the derivative of the mass matrix's factor nor of the solve:
from ID(q, qd, qdd) = tau the implicit function theorem gives, for an adjoint g of qdd,
lambda = M^-1 g, the adjoints lambda of tau and -d/d(q, qd) [lambda . (ID(q, qd, qdd) - tau(q, qd))]
of the state; of an applied force that a servo bounds, the same derivative. The two are blocks of
their own, so that nothing of the solve waits while the derivative is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kernels.compiled.algebra import (
    Vector,
    add,
    matrix_vector,
    quaternion_matrix,
    scale,
    subtract,
    turned,
    unit,
)
from kernels.compiled.dynamics import Posture, split
from kernels.compiled.mechanism import NQ, NV, Mechanism
from kernels.compiled.tracer import Expression, Trace, gradient, rearranged


def entered(mechanism: Mechanism, q: Vector) -> Vector:
    """The coordinates substeps work on: unit quaternions, centres of mass of free links."""
    found: list[Expression] = []
    for link, part in zip(mechanism.links, _coordinates(mechanism, q), strict=True):
        if link.kind == "free":
            orientation = unit(part[3:])
            com = add(part[:3], matrix_vector(quaternion_matrix(orientation), link.offset))
            found += [*com, *orientation]
        else:
            found += unit(part) if link.kind == "spherical" else part
    return found


def left(mechanism: Mechanism, q: Vector) -> Vector:
    """The coordinates outside, from those of `entered`."""
    found: list[Expression] = []
    for link, part in zip(mechanism.links, _coordinates(mechanism, q), strict=True):
        if link.kind == "free":
            arm = matrix_vector(quaternion_matrix(part[3:]), link.offset)
            part = [*subtract(part[:3], arm), *part[3:]]
        found += part
    return found


def integrated(
    mechanism: Mechanism, q: Vector, qd: Vector, qdd: Vector, dt: Expression
) -> tuple[Vector, Vector]:
    """Semi-implicit Euler: qd' = qd + dt qdd, then q' = q + dt qd' in the joint's own terms."""
    next_qd = add(qd, scale(qdd, dt))
    speeds = split(next_qd, [NV[link.kind] for link in mechanism.links])
    next_q: list[Expression] = []
    parts = zip(mechanism.links, _coordinates(mechanism, q), speeds, strict=True)
    for link, part, speed in parts:
        if link.kind == "free":
            next_q += [*add(part[:3], scale(speed[:3], dt)), *turned(part[3:], speed[3:], dt)]
        elif link.kind == "spherical":
            next_q += turned(part, speed, dt)
        else:
            next_q += add(part, scale(speed, dt))
    return next_q, next_qd


def _coordinates(mechanism: Mechanism, q: Vector) -> list[list[Expression]]:
    return split(q, [NQ[link.kind] for link in mechanism.links])


@dataclass(frozen=True)
class Block:
    """A straight-line program that stores `values` in elements of arrays, all at its end.

    Attributes:
        targets: (array, element) of each value.
        values: what is stored there; inputs are elements of arrays too.
        ranks: of each array's elements, for `limb_by_limb`.
    """

    targets: tuple[tuple[str, int], ...]
    values: tuple[Expression, ...]
    ranks: Mapping[str, Sequence[int]]

    @property
    def limb_by_limb(self) -> list[Expression]:
        """The values, computed with as few numbers as can be waiting for use."""
        return rearranged(self.values, lambda array, element: self.ranks[array][element])


def block(ranks: Mapping[str, Sequence[int]], **arrays: Vector) -> Block:
    """What is stored to each array; elements that keep their value are left out."""
    stores = [
        ((array, i), value)
        for array, values in arrays.items()
        for i, value in enumerate(values)
        if value.node.payload != (array, i)
    ]
    targets, values = tuple(target for target, _ in stores), tuple(value for _, value in stores)
    return Block(targets, values, ranks)


def _ranks(mechanism: Mechanism, num_parameters: int) -> dict[str, list[int]]:
    """The place of each array's elements in a walk along limb after limb, the last limb first.

    Sums over a link's limbs are taken from the last on, forward in `Posture.factor` and reverse.
    """
    order: list[int] = []
    pending = [i for i, link in enumerate(mechanism.links) if link.parent < 0]
    while pending:
        order.append(pending.pop())
        pending += [i for i, link in enumerate(mechanism.links) if link.parent == order[-1]]
    place = {link: rank for rank, link in enumerate(order)}
    q, v = (
        [place[i] for i, link in enumerate(mechanism.links) for _ in range(width[link.kind])]
        for width in (NQ, NV)
    )
    velocities = dict.fromkeys(("qd", "f", "qdd", "multipliers", "adj_qd", "adj_f"), v)
    shared = {"dt": [0], **dict.fromkeys(("p", "adj_p"), [0] * num_parameters)}
    return {"q": q, "adj_q": q, **velocities, **shared}


def through(mechanism: Mechanism, served: Vector, free: Vector) -> Vector:
    """Adjoints of applied forces: where a servo may stop one from getting through, `served`."""
    bounded = [link.has_servo for link in mechanism.links for _ in range(NV[link.kind])]
    return [a if b else c for b, a, c in zip(bounded, served, free, strict=True)]


@dataclass(frozen=True)
class Variation:
    """What of a mechanism varies from environment to environment.

    Attributes:
        count: numbers that say so, those of the array p.
        apply: the mechanism with expressions of these numbers in place of what varies.
    """

    count: int
    apply: Callable[[Mechanism, Vector], Mechanism]


class StepEquations:
    """The blocks of a control step of one mechanism, forward and reverse.

    Arrays: q, qd state; f applied joint forces; qdd accelerations; dt[0] the substep [s]; p what
    varies; adj_q, adj_qd, adj_f, adj_p adjoints; multipliers the lambda above. `enter` and `leave`
    change q from the coordinates outside to those of the substeps and back; `substep` turns q, qd
    into those after it and stores qdd. The reverse blocks turn the adjoints after into those
    before, given q, qd (and qdd) from before; `adj_f` and `adj_p` accumulate. A substep has two:
    `substep_solve_reverse` leaves multipliers to `substep_reverse`.
    """

    every: int = 1
    """Substeps from one mass matrix to the next; see `kernels.compiled.held`."""

    def __init__(self, mechanism: Mechanism, variation: Variation | None = None) -> None:
        """Trace all blocks."""
        self.nq, self.nv = mechanism.nq, mechanism.nv
        self.num_parameters = 0 if variation is None else variation.count
        self._variation = variation
        self._ranks = _ranks(mechanism, self.num_parameters)
        self.enter, self.enter_reverse = self._change(mechanism, entered)
        self.leave, self.leave_reverse = self._change(mechanism, left)
        self.substep = self._substep(mechanism)
        self.substep_solve_reverse = self._substep_solve_reverse(mechanism)
        self.substep_reverse = self._substep_reverse(mechanism)

    def _varied(self, mechanism: Mechanism, trace: Trace) -> tuple[Mechanism, Vector]:
        """The mechanism in a trace, and what varies there."""
        parameters = trace.inputs("p", self.num_parameters)
        if self._variation is None:
            return mechanism, parameters
        return self._variation.apply(mechanism, parameters), parameters

    def _change(
        self, mechanism: Mechanism, function: Callable[[Mechanism, Vector], Vector]
    ) -> tuple[Block, Block]:
        trace = Trace()
        q, adjoint = trace.inputs("q", self.nq), trace.inputs("adj_q", self.nq)
        mechanism, p = self._varied(mechanism, trace)
        outside = function(mechanism, q)
        found = gradient(outside, adjoint, q + p)
        adj_p = add(trace.inputs("adj_p", len(p)), found[self.nq :])
        forward = block(self._ranks, q=outside)
        return forward, block(self._ranks, adj_q=found[: self.nq], adj_p=adj_p)

    def _substep(self, mechanism: Mechanism) -> Block:
        trace = Trace()
        mechanism, _ = self._varied(mechanism, trace)
        q, qd = trace.inputs("q", self.nq), trace.inputs("qd", self.nv)
        posture = Posture(mechanism, q, qd)
        qdd = posture.solve(posture.factor(), posture.net_forces(trace.inputs("f", self.nv)))
        next_q, next_qd = integrated(mechanism, q, qd, qdd, trace.input("dt", 0))
        return block(self._ranks, q=next_q, qd=next_qd, qdd=qdd)

    def _substep_solve_reverse(self, mechanism: Mechanism) -> Block:
        """The reverse of the integration and of the solve."""
        trace = Trace()
        mechanism, _ = self._varied(mechanism, trace)
        q, qd = trace.inputs("q", self.nq), trace.inputs("qd", self.nv)
        qdd = trace.inputs("qdd", self.nv)
        adjoints = trace.inputs("adj_q", self.nq) + trace.inputs("adj_qd", self.nv)
        next_q, next_qd = integrated(mechanism, q, qd, qdd, trace.input("dt", 0))
        found = gradient(next_q + next_qd, adjoints, q + qd + qdd)
        adj_q, adj_qd, adj_qdd = split(found, [self.nq, self.nv, self.nv])
        posture = Posture(mechanism, q, qd)
        multipliers = posture.solve(posture.factor(), adj_qdd)
        return block(self._ranks, adj_q=adj_q, adj_qd=adj_qd, multipliers=multipliers)

    def _substep_reverse(self, mechanism: Mechanism) -> Block:
        """The derivative of the power of what the multipliers do."""
        trace = Trace()
        mechanism, p = self._varied(mechanism, trace)
        q, qd = trace.inputs("q", self.nq), trace.inputs("qd", self.nv)
        qdd, f = trace.inputs("qdd", self.nv), trace.inputs("f", self.nv)
        multipliers = trace.inputs("multipliers", self.nv)
        power = Posture(mechanism, q, qd).virtual_power(qdd, multipliers, f)
        found = gradient([power], [-1.0], q + qd + f + p)
        of_q, of_qd, of_f, of_p = split(found, [self.nq, self.nv, self.nv, len(p)])
        return block(
            self._ranks,
            adj_q=add(trace.inputs("adj_q", self.nq), of_q),
            adj_qd=add(trace.inputs("adj_qd", self.nv), of_qd),
            adj_f=add(trace.inputs("adj_f", self.nv), through(mechanism, of_f, multipliers)),
            adj_p=add(trace.inputs("adj_p", len(p)), of_p),
        )
