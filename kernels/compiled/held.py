"""A control step whose mass matrix is that of some of its substeps only, held in between.

The simulator of Xu et al. (2022) takes the mass matrix M of a substep through the following ones,
while all forces are those of each substep:

    M(q_0) a_t = tau(q_t, qd_t) - c(q_t, qd_t)

Of a floating body a is the acceleration of its twist, about the point at which its centre of mass
was at q_0: there M is constant. In the coordinates of this package, the velocity v of the centre of
mass, which has moved on by d, and the angular velocity omega, with the force f and the moment m
about the centre of mass and a = (a_v, a_omega),

    moment about the point  m + d x f          v' = a_v + a_omega x d + omega x v

The adjoint of M, -lambda a^T with lambda = M^-1 (adjoint of a), is summed over the substeps that
used it and goes into q_0 once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kernels.compiled.algebra import Vector, add, cross, dot, subtract
from kernels.compiled.dynamics import Posture, split
from kernels.compiled.mechanism import NQ, NV, Mechanism
from kernels.compiled.step_equations import (
    Block,
    StepEquations,
    Variation,
    block,
    integrated,
    through,
)
from kernels.compiled.tracer import Expression, Trace, gradient, reciprocal

Pair = tuple[int, int]


class HeldStepEquations(StepEquations):
    """`StepEquations` with a mass matrix that every `every`-th substep renews.

    Further arrays: `held`, what is held, and `adj_held`, the adjoint of the matrix and of the
    floating bodies' places there. `hold` fills the first from q; `hold_reverse` adds what the
    second says to adj_q and adj_p, and zeroes it. `substep` stores a as qdd.
    """

    def __init__(
        self, mechanism: Mechanism, every: int, variation: Variation | None = None
    ) -> None:
        """Trace all blocks."""
        self.every = every
        super().__init__(mechanism, variation)

    def _hold(self, mechanism: Mechanism) -> None:
        """Trace what is held, and lay it out."""
        trace = Trace()
        mechanism, p = self._varied(mechanism, trace)
        q = trace.inputs("q", self.nq)
        entries = Posture(mechanism, q, [trace.constant(0.0)] * self.nv).mass_matrix()
        self._places, self._speeds = _free(mechanism)
        places = [q[start + k] for start in self._places for k in range(3)]
        factor = _factorized(entries, self.nv)
        self._factor, self._entries = _Layout(factor), _Layout(entries)
        held = [*self._factor.kept(factor), *places]
        kept = [*self._entries.kept(entries), *places]
        self.num_held, self.num_adj_held = len(held), len(kept)
        rank = self._ranks["qd"]
        of_places = [rank[start] for start in self._speeds for _ in range(3)]
        self._ranks["held"] = [rank[row] for row, _ in self._factor.keys] + of_places
        self._ranks["adj_held"] = [rank[row] for row, _ in self._entries.keys] + of_places
        self.hold = block(self._ranks, held=held)
        adjoint = trace.inputs("adj_held", len(kept))
        found = gradient(kept, adjoint, q + p) if kept else [trace.constant(0.0)] * len(q + p)
        self.hold_reverse = block(
            self._ranks,
            adj_q=add(trace.inputs("adj_q", self.nq), found[: self.nq]),
            adj_p=add(trace.inputs("adj_p", len(p)), found[self.nq :]),
            adj_held=[trace.constant(0.0)] * len(kept),
        )

    def _substep(self, mechanism: Mechanism) -> Block:
        self._hold(mechanism)
        trace = Trace()
        mechanism, _ = self._varied(mechanism, trace)
        q, qd = trace.inputs("q", self.nq), trace.inputs("qd", self.nv)
        factor, places = self._recalled(trace)
        arms = self._arms(q, places)
        net = Posture(mechanism, q, qd).net_forces(trace.inputs("f", self.nv), of_twist=True)
        for first, arm in zip(self._speeds, arms, strict=True):
            net[first + 3 : first + 6] = add(
                net[first + 3 : first + 6], cross(arm, net[first : first + 3])
            )
        a = _solved(factor, net)
        next_q, next_qd = integrated(
            mechanism, q, qd, self._carried(a, qd, arms), trace.input("dt", 0)
        )
        return block(self._ranks, q=next_q, qd=next_qd, qdd=a)

    def _substep_solve_reverse(self, mechanism: Mechanism) -> Block:
        trace = Trace()
        mechanism, _ = self._varied(mechanism, trace)
        q, qd = trace.inputs("q", self.nq), trace.inputs("qd", self.nv)
        a = trace.inputs("qdd", self.nv)
        factor, places = self._recalled(trace)
        arms = self._arms(q, places)
        adjoints = trace.inputs("adj_q", self.nq) + trace.inputs("adj_qd", self.nv)
        next_q, next_qd = integrated(
            mechanism, q, qd, self._carried(a, qd, arms), trace.input("dt", 0)
        )
        found = gradient(next_q + next_qd, adjoints, q + qd + places + a)
        adj_q, adj_qd, of_places, adj_a = split(found, [self.nq, self.nv, len(places), self.nv])
        unchanged = [trace.constant(0.0)] * len(self._entries.keys)
        return block(
            self._ranks,
            adj_q=adj_q,
            adj_qd=adj_qd,
            adj_held=add(trace.inputs("adj_held", self.num_adj_held), unchanged + of_places),
            multipliers=_solved(factor, adj_a),
        )

    def _substep_reverse(self, mechanism: Mechanism) -> Block:
        trace = Trace()
        mechanism, p = self._varied(mechanism, trace)
        q, qd = trace.inputs("q", self.nq), trace.inputs("qd", self.nv)
        f, a = trace.inputs("f", self.nv), trace.inputs("qdd", self.nv)
        multipliers = trace.inputs("multipliers", self.nv)
        _, places = self._recalled(trace)
        virtual, applied = list(multipliers), trace.constant(0.0)
        for first, arm in zip(self._speeds, self._arms(q, places), strict=True):
            carried = cross(multipliers[first + 3 : first + 6], arm)
            virtual[first : first + 3] = add(multipliers[first : first + 3], carried)
            applied = applied + dot(carried, f[first : first + 3])
        power = Posture(mechanism, q, qd).virtual_power(None, virtual, f) - applied
        found = gradient([power], [-1.0], q + qd + places + f + p)
        sizes = [self.nq, self.nv, len(places), self.nv, len(p)]
        of_q, of_qd, of_places, of_f, of_p = split(found, sizes)
        entries = {
            (i, j): -multipliers[i] * a[j] - (multipliers[j] * a[i] if i != j else 0.0)
            for i, j in self._entries.keys
        }
        held = [*self._entries.kept(entries), *of_places]
        return block(
            self._ranks,
            adj_q=add(trace.inputs("adj_q", self.nq), of_q),
            adj_qd=add(trace.inputs("adj_qd", self.nv), of_qd),
            adj_f=add(trace.inputs("adj_f", self.nv), through(mechanism, of_f, virtual)),
            adj_p=add(trace.inputs("adj_p", len(p)), of_p),
            adj_held=add(trace.inputs("adj_held", len(held)), held),
        )

    def _recalled(self, trace: Trace) -> tuple[dict[Pair, Expression], Vector]:
        """The factor of the matrix, and where floating bodies were."""
        held = trace.inputs("held", self.num_held)
        split = self.num_held - 3 * len(self._places)
        return self._factor.recalled(trace, held[:split]), held[split:]

    def _arms(self, q: Vector, places: Vector) -> list[Vector]:
        """How far each floating body has moved on, d."""
        return [
            subtract(q[start : start + 3], places[3 * k : 3 * k + 3])
            for k, start in enumerate(self._places)
        ]

    def _carried(self, a: Vector, qd: Vector, arms: list[Vector]) -> Vector:
        """Accelerations in this package's coordinates."""
        qdd = list(a)
        for first, arm in zip(self._speeds, arms, strict=True):
            angular, v, omega = a[first + 3 : first + 6], qd[first : first + 3], qd[first + 3 :][:3]
            carried = add(cross(angular, arm), cross(omega, v))
            qdd[first : first + 3] = add(a[first : first + 3], carried)
        return qdd


class _Layout:
    """Which of the entries of a sparse matrix are constant, and which are kept, in this order."""

    def __init__(self, entries: Mapping[Pair, Expression]) -> None:
        self._numbers = {pair: entry.number for pair, entry in entries.items()}
        self.keys = [pair for pair, number in self._numbers.items() if number is None]

    def kept(self, entries: Mapping[Pair, Expression]) -> Vector:
        return [entries[pair] for pair in self.keys]

    def recalled(self, trace: Trace, kept: Vector) -> dict[Pair, Expression]:
        found = dict(zip(self.keys, kept, strict=True))
        return {
            pair: found[pair] if number is None else trace.constant(number)
            for pair, number in self._numbers.items()
        }


def _free(mechanism: Mechanism) -> tuple[list[int], list[int]]:
    """First coordinates and first velocities of the floating links."""
    places, speeds, at_q, at_v = [], [], 0, 0
    for link in mechanism.links:
        if link.kind == "free":
            places.append(at_q)
            speeds.append(at_v)
        at_q, at_v = at_q + NQ[link.kind], at_v + NV[link.kind]
    return places, speeds


def _columns(pairs: Sequence[Pair] | Mapping[Pair, Expression]) -> dict[int, list[int]]:
    """Columns below the diagonal of each row."""
    found: dict[int, list[int]] = {}
    for row, column in sorted(pairs):
        if column < row:
            found.setdefault(row, []).append(column)
    return found


def _factorized(entries: Mapping[Pair, Expression], size: int) -> dict[Pair, Expression]:
    """L and, on the diagonal, the reciprocals of D, with M = L^T D L as sparse as M.

    Featherstone (2008), section 6.5: a tree's matrix has no fill-in in this order.
    """
    left, above = dict(entries), _columns(entries)
    found: dict[Pair, Expression] = {}
    for k in reversed(range(size)):
        found[k, k] = reciprocal(left[k, k])
        for i in above.get(k, ()):
            found[k, i] = left[k, i] * found[k, k]
            for j in (*above.get(i, ()), i):
                left[i, j] = left[i, j] - found[k, i] * left[k, j]
    return found


def _solved(factor: Mapping[Pair, Expression], right: Vector) -> Vector:
    """M^-1 right."""
    x, above = list(right), _columns(factor)
    for k in reversed(range(len(x))):
        for i in above.get(k, ()):
            x[i] = x[i] - factor[k, i] * x[k]
    x = [value * factor[k, k] for k, value in enumerate(x)]
    for k in range(len(x)):
        for i in above.get(k, ()):
            x[k] = x[k] - factor[k, i] * x[i]
    return x
