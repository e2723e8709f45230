"""Scalar programs written down as they are computed: folded, shared, differentiated, evaluated.

Python code that runs on `Expression`s leaves a straight-line program in their `Trace`. Constants
are folded, equal subexpressions are one node, and `gradient` appends the reverse of what was
traced. `kernels.compiled.cpp` writes a trace as C++; `evaluate` runs it on numpy arrays.

Folding takes operands for finite numbers (``0 * x`` is 0, ``x - x`` is 0) and rounding as it comes:
``c * (d * x)`` becomes ``(c * d) * x``. Nothing depends on hash order or addresses: the same calls
give the same trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import numpy as np


class Op(Enum):
    """What a node computes. A condition (LESS) is of use to SELECT only."""

    CONSTANT = "constant"
    INPUT = "input"
    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    RECIPROCAL = "reciprocal"
    NEGATE = "negate"
    SQRT = "sqrt"
    SIN = "sin"
    COS = "cos"
    TANH = "tanh"
    LOG = "log"
    POWER = "power"
    FLOOR = "floor"
    GATHER = "gather"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    LESS = "less"
    SELECT = "select"


Partial = Callable[..., "Expression"]


@dataclass(frozen=True)
class Rule:
    """What an operation does.

    Attributes:
        value: its result on numpy arrays.
        partials: per operand, the operand's share of the result's adjoint, from
            ``(adjoint, result, *operands)``; None for a condition, which has no derivative.
    """

    value: Callable[..., Any]
    partials: tuple[Partial | None, ...] = ()


RULES: dict[Op, Rule] = {
    Op.ADD: Rule(np.add, (lambda g, y, a, b: g, lambda g, y, a, b: g)),
    Op.SUBTRACT: Rule(np.subtract, (lambda g, y, a, b: g, lambda g, y, a, b: -g)),
    Op.MULTIPLY: Rule(np.multiply, (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a)),
    Op.RECIPROCAL: Rule(lambda a: 1.0 / a, (lambda g, y, a: -(g * y * y),)),
    Op.NEGATE: Rule(np.negative, (lambda g, y, a: -g,)),
    Op.SQRT: Rule(np.sqrt, (lambda g, y, a: g * 0.5 * reciprocal(y),)),
    Op.SIN: Rule(np.sin, (lambda g, y, a: g * cos(a),)),
    Op.COS: Rule(np.cos, (lambda g, y, a: -(g * sin(a)),)),
    Op.TANH: Rule(np.tanh, (lambda g, y, a: g * (1.0 - y * y),)),
    Op.LOG: Rule(np.log, (lambda g, y, a: g * reciprocal(a),)),
    Op.POWER: Rule(
        lambda a, b: np.where(a > 0.0, np.power(np.maximum(a, 0.0), b), 0.0),
        (
            lambda g, y, a, b: g * b * power(a, b - 1.0),
            lambda g, y, a, b: g * y * log(select(0.0 < a, a, 1.0)),
        ),
    ),
    # steps and jumps have no derivative
    Op.FLOOR: Rule(np.floor, (None,)),
    Op.GATHER: Rule(lambda i, values: np.asarray(values)[np.asarray(i).astype(int)], (None,)),
    # where both are equal the second operand takes the adjoint, as in Warp
    Op.MINIMUM: Rule(
        np.minimum,
        (lambda g, y, a, b: select(a < b, g, 0.0), lambda g, y, a, b: select(a < b, 0.0, g)),
    ),
    Op.MAXIMUM: Rule(
        np.maximum,
        (lambda g, y, a, b: select(b < a, g, 0.0), lambda g, y, a, b: select(b < a, 0.0, g)),
    ),
    Op.LESS: Rule(np.less, (None, None)),
    Op.SELECT: Rule(
        np.where,
        (None, lambda g, y, c, a, b: select(c, g, 0.0), lambda g, y, c, a, b: select(c, 0.0, g)),
    ),
}

_COMMUTATIVE = (Op.ADD, Op.MULTIPLY)


class Node(NamedTuple):
    """One operation of a trace: `operands` are indices of earlier nodes.

    `payload` is the number of a CONSTANT and the (array, element) of an INPUT; of a GATHER the
    array and what is added to its operand to make the element.
    """

    op: Op
    operands: tuple[int, ...]
    payload: float | tuple[str, int] | None = None


class Trace:
    """A straight-line program, one node per distinct operation, in the order of computation."""

    def __init__(self) -> None:
        """Make an empty trace."""
        self.nodes: list[Node] = []
        self._index: dict[Node, int] = {}

    def constant(self, value: float) -> Expression:
        """A number."""
        # + 0.0 makes one zero of the two
        return self._node(Node(Op.CONSTANT, (), float(value) + 0.0))

    def input(self, array: str, element: int) -> Expression:
        """Element `element` of the array named `array`."""
        return self._node(Node(Op.INPUT, (), (array, element)))

    def inputs(self, array: str, count: int) -> list[Expression]:
        """The first `count` elements of an array."""
        return [self.input(array, element) for element in range(count)]

    def operation(self, op: Op, *operands: Expression) -> Expression:
        """An operation as it stands; the functions of this module simplify before they call it."""
        if op in _COMMUTATIVE:
            operands = tuple(sorted(operands, key=lambda operand: operand.index))
        return self._node(Node(op, tuple(operand.index for operand in operands)))

    def _node(self, node: Node) -> Expression:
        index = self._index.get(node)
        if index is None:
            index = self._index[node] = len(self.nodes)
            self.nodes.append(node)
        return Expression(self, index)


class Expression:
    """The value of one node of a trace; arithmetic on it appends to the trace."""

    __slots__ = ("index", "trace")
    __hash__ = None  # type: ignore[assignment]  # compare by `index`; == would hide that

    def __init__(self, trace: Trace, index: int) -> None:
        """The value of node `index` of `trace`."""
        self.trace = trace
        self.index = index

    @property
    def node(self) -> Node:
        """The node itself."""
        return self.trace.nodes[self.index]

    @property
    def number(self) -> float | None:
        """The value, if it is a constant."""
        node = self.node
        return node.payload if node.op is Op.CONSTANT else None  # type: ignore[return-value]

    def operand(self, position: int) -> Expression:
        """One of the operands."""
        return Expression(self.trace, self.node.operands[position])

    def __add__(self, other: Expression | float) -> Expression:
        return _add(self, self._lift(other))

    __radd__ = __add__

    def __sub__(self, other: Expression | float) -> Expression:
        return _subtract(self, self._lift(other))

    def __rsub__(self, other: Expression | float) -> Expression:
        return _subtract(self._lift(other), self)

    def __mul__(self, other: Expression | float) -> Expression:
        return _multiply(self, self._lift(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Expression | float) -> Expression:
        return self * reciprocal(self._lift(other))

    def __rtruediv__(self, other: Expression | float) -> Expression:
        return other * reciprocal(self)

    def __neg__(self) -> Expression:
        return _negate(self)

    def __lt__(self, other: Expression | float) -> Expression:
        return _less(self, self._lift(other))

    def __gt__(self, other: Expression | float) -> Expression:
        return _less(self._lift(other), self)

    def _lift(self, value: Expression | float) -> Expression:
        return value if isinstance(value, Expression) else self.trace.constant(value)


# Operations, simplified ------------------------------------------------------------------------


def _is(a: Expression, op: Op) -> bool:
    return a.node.op is op


def _add(a: Expression, b: Expression) -> Expression:
    x, y = a.number, b.number
    if x is not None and y is not None:
        return a.trace.constant(x + y)
    if x == 0.0:
        return b
    if y == 0.0:
        return a
    if _is(b, Op.NEGATE):
        return _subtract(a, b.operand(0))
    if _is(a, Op.NEGATE):
        return _subtract(b, a.operand(0))
    return a.trace.operation(Op.ADD, a, b)


def _subtract(a: Expression, b: Expression) -> Expression:
    x, y = a.number, b.number
    if x is not None and y is not None:
        return a.trace.constant(x - y)
    if a.index == b.index:
        return a.trace.constant(0.0)
    if y == 0.0:
        return a
    if x == 0.0:
        return -b
    if _is(b, Op.NEGATE):
        return a + b.operand(0)
    if _is(a, Op.NEGATE):
        return -(a.operand(0) + b)
    return a.trace.operation(Op.SUBTRACT, a, b)


def _multiply(a: Expression, b: Expression) -> Expression:
    if b.number is not None:
        a, b = b, a
    x, y = a.number, b.number
    if x is not None:
        if y is not None:
            return a.trace.constant(x * y)
        if x == 0.0:
            return a
        if x == 1.0:
            return b
        if x == -1.0:
            return -b
        if _is(b, Op.NEGATE):
            return -x * b.operand(0)
        if _is(b, Op.MULTIPLY):
            for i in (0, 1):
                z = b.operand(i).number
                if z is not None:
                    return (x * z) * b.operand(1 - i)
    if _is(a, Op.NEGATE):
        return -(a.operand(0) * b)
    if _is(b, Op.NEGATE):
        return -(a * b.operand(0))
    return a.trace.operation(Op.MULTIPLY, a, b)


def _negate(a: Expression) -> Expression:
    if a.number is not None:
        return a.trace.constant(-a.number)
    if _is(a, Op.NEGATE):
        return a.operand(0)
    if _is(a, Op.SUBTRACT):
        return a.operand(1) - a.operand(0)
    if _is(a, Op.MULTIPLY):
        for i in (0, 1):
            number = a.operand(i).number
            if number is not None:
                return -number * a.operand(1 - i)
    return a.trace.operation(Op.NEGATE, a)


def _less(a: Expression, b: Expression) -> Expression:
    if a.number is not None and b.number is not None:
        return a.trace.constant(float(a.number < b.number))
    return a.trace.operation(Op.LESS, a, b)


def _unary(op: Op, function: Callable[[float], float], a: Expression) -> Expression:
    if a.number is not None:
        return a.trace.constant(function(a.number))
    return a.trace.operation(op, a)


def reciprocal(a: Expression) -> Expression:
    """1 / a."""
    return _unary(Op.RECIPROCAL, lambda x: 1.0 / x, a)


def sqrt(a: Expression) -> Expression:
    """The square root; its gradient at zero is not finite."""
    return _unary(Op.SQRT, math.sqrt, a)


def sin(a: Expression) -> Expression:
    """The sine of an angle [rad]."""
    return _unary(Op.SIN, math.sin, a)


def cos(a: Expression) -> Expression:
    """The cosine of an angle [rad]."""
    return _unary(Op.COS, math.cos, a)


def tanh(a: Expression) -> Expression:
    """The hyperbolic tangent."""
    return _unary(Op.TANH, math.tanh, a)


def log(a: Expression) -> Expression:
    """The natural logarithm of a positive number."""
    return _unary(Op.LOG, math.log, a)


def power(a: Expression, b: Expression | float) -> Expression:
    """a^b, zero for a <= 0, and its gradient with it."""
    return a.trace.operation(Op.POWER, a, a._lift(b))


def floor(a: Expression) -> Expression:
    """The greatest whole number not above; it has no gradient."""
    return _unary(Op.FLOOR, math.floor, a)


def gather(array: str, index: Expression, offset: int) -> Expression:
    """Element `index` + `offset` of an array that all environments share; it has no gradient.

    The index is a whole number that each environment computes, and within the array.
    """
    return index.trace._node(Node(Op.GATHER, (index.index,), (array, offset)))


def minimum(a: Expression, b: Expression | float) -> Expression:
    """The smaller; of two equal ones `b` takes the gradient."""
    return _extreme(Op.MINIMUM, min, a, a._lift(b))


def maximum(a: Expression, b: Expression | float) -> Expression:
    """The larger; of two equal ones `b` takes the gradient."""
    return _extreme(Op.MAXIMUM, max, a, a._lift(b))


def _extreme(op: Op, function: Callable[..., float], a: Expression, b: Expression) -> Expression:
    if a.number is not None and b.number is not None:
        return a.trace.constant(function(a.number, b.number))
    return a if a.index == b.index else a.trace.operation(op, a, b)


def select(condition: Expression, a: Expression | float, b: Expression | float) -> Expression:
    """`a` where the condition (a comparison) holds, else `b`; only the one taken has a gradient."""
    a, b = condition._lift(a), condition._lift(b)
    if condition.number is not None:
        return a if condition.number else b
    return a if a.index == b.index else condition.trace.operation(Op.SELECT, condition, a, b)


# Whole programs --------------------------------------------------------------------------------


def gradient(
    outputs: Sequence[Expression],
    seeds: Sequence[Expression | float],
    inputs: Sequence[Expression],
) -> list[Expression]:
    """The adjoints of `inputs`: sum over outputs of seed * d output / d input (reverse mode).

    Args:
        outputs: what is differentiated, all of one trace, at least one.
        seeds: the adjoint of each output.
        inputs: nodes, inner ones too, taken as independent.
    """
    trace = outputs[0].trace
    count = 1 + max(output.index for output in outputs)
    independent = {i.index for i in inputs}
    varies = _varying(trace, count, independent)
    adjoints: list[Expression | None] = [None] * count

    def accumulate(index: int, adjoint: Expression) -> None:
        before = adjoints[index]
        adjoints[index] = adjoint if before is None else before + adjoint

    for output, seed in zip(outputs, seeds, strict=True):
        if varies[output.index]:
            accumulate(output.index, output._lift(seed))
    for index in range(count - 1, -1, -1):
        adjoint = adjoints[index]
        if adjoint is None or index in independent:
            continue
        op, operands, _ = trace.nodes[index]
        arguments = [Expression(trace, operand) for operand in operands]
        for operand, partial in zip(operands, RULES[op].partials, strict=True):
            if partial is not None and varies[operand]:
                accumulate(operand, partial(adjoint, Expression(trace, index), *arguments))
    # an input after the last output cannot be among what it was computed from
    found = [adjoints[i.index] if i.index < count else None for i in inputs]
    return [trace.constant(0.0) if adjoint is None else adjoint for adjoint in found]


def _varying(trace: Trace, count: int, inputs: set[int]) -> list[bool]:
    """Which of the first `count` nodes depend on `inputs`."""
    varies = [False] * count
    for index, node in enumerate(trace.nodes[:count]):
        if index in inputs:
            varies[index] = True
        elif node.op is not Op.LESS:
            varies[index] = any(varies[operand] for operand in node.operands)
    return varies


def live(outputs: Iterable[Expression]) -> list[tuple[int, Node]]:
    """The nodes that `outputs` are computed from, with their indices, in order of computation."""
    outputs = list(outputs)
    if not outputs:
        return []
    nodes = outputs[0].trace.nodes
    found: set[int] = set()
    pending = [output.index for output in outputs]
    while pending:
        index = pending.pop()
        if index not in found:
            found.add(index)
            pending.extend(nodes[index].operands)
    return [(index, nodes[index]) for index in sorted(found)]


def rearranged(outputs: Sequence[Expression], rank: Callable[[str, int], int]) -> list[Expression]:
    """The outputs in a trace of their own, which computes the same in another order.

    A node goes with the greatest rank of the inputs it depends on, so that what belongs to one
    rank is computed, and most of it used up, before the next begins: fewer numbers wait for use at
    any time, and a compiler keeps more of them in registers.

    Args:
        outputs: all of one trace.
        rank: of an input, given its array and element.
    """
    ranks: dict[int, int] = {}
    nodes = live(outputs)
    for index, node in nodes:
        if node.op is Op.INPUT:
            ranks[index] = rank(*node.payload)  # type: ignore[misc]
        else:
            ranks[index] = max((ranks[operand] for operand in node.operands), default=0)
    trace = Trace()
    moved: dict[int, Expression] = {}
    for index, node in sorted(nodes, key=lambda item: (ranks[item[0]], item[0])):
        operands = tuple(moved[operand].index for operand in node.operands)
        moved[index] = trace._node(node._replace(operands=operands))
    return [moved[output.index] for output in outputs]


def evaluate(
    outputs: Sequence[Expression], inputs: Mapping[str, Sequence[Any]]
) -> list[np.ndarray]:
    """The outputs by numpy, for elements of `inputs` that are numbers or arrays that broadcast."""
    values: dict[int, Any] = {}
    for index, node in live(outputs):
        if node.op is Op.CONSTANT:
            values[index] = node.payload
        elif node.op is Op.INPUT:
            array, element = node.payload  # type: ignore[misc]
            values[index] = inputs[array][element]
        elif node.op is Op.GATHER:
            array, offset = node.payload  # type: ignore[misc]
            at = values[node.operands[0]] + offset
            values[index] = RULES[node.op].value(at, inputs[array])
        else:
            values[index] = RULES[node.op].value(*(values[i] for i in node.operands))
    return [np.asarray(values[output.index]) for output in outputs]
