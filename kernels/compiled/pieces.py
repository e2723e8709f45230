"""Long straight-line programs cut into pieces that a compiler takes one by one.

A compiler's time grows faster than the length of a function. Pieces are functions of their own;
what one computes and a later one reads goes through slots of an array between them, each slot
free again after its last reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kernels.compiled.tracer import Expression, Node, Op, live

_AT_USE = (Op.CONSTANT, Op.INPUT, Op.LESS)
"""Written down in every piece that reads them; a comparison is no number to be kept."""


@dataclass
class Piece:
    """Operations in order, between what they read from slots and what they leave there.

    Attributes:
        loads: (node, slot) of earlier pieces' values.
        nodes: the operations with their indices.
        stores: (node, slot) of values that later pieces read.
    """

    loads: list[tuple[int, int]] = field(default_factory=list)
    nodes: list[tuple[int, Node]] = field(default_factory=list)
    stores: list[tuple[int, int]] = field(default_factory=list)


def cut(values: Sequence[Expression], size: int) -> tuple[list[Piece], int]:
    """The computation of `values` in pieces, and the number of slots between them.

    The last piece computes nothing: it has all of `values` at hand.

    Args:
        values: what is computed, all of one trace.
        size: operations of a piece.
    """
    nodes = dict(live(values))
    computed = [index for index, node in nodes.items() if node.op not in _AT_USE]
    chunks = [computed[start : start + size] for start in range(0, len(computed), size)]
    home = {index: number for number, chunk in enumerate(chunks) for index in chunk}
    wanted = [_wanted(nodes, chunk) for chunk in chunks]
    wanted.append(_with_operands(nodes, [value.index for value in values]))
    last = {index: number for number, found in enumerate(wanted) for index in found}
    slots: dict[int, int] = {}
    free: list[int] = []
    count = 0
    pieces = []
    for number, found in enumerate(wanted):
        chunk = chunks[number] if number < len(chunks) else []
        piece = Piece(
            loads=[(i, slots[i]) for i in found if home.get(i, number) != number],
            nodes=[(i, nodes[i]) for i in found if i not in home or home[i] == number],
        )
        for index in chunk:
            if last[index] > number:
                if not free:
                    free, count = [count], count + 1
                slots[index] = free.pop()
                piece.stores.append((index, slots[index]))
        free += [slots[i] for i, _ in piece.loads if last[i] == number]
        pieces.append(piece)
    return pieces, count


def _wanted(nodes: dict[int, Node], chunk: Sequence[int]) -> list[int]:
    """The nodes of a chunk with all that it reads, in order of computation."""
    operands = [operand for index in chunk for operand in nodes[index].operands]
    return _with_operands(nodes, [*chunk, *operands])


def _with_operands(nodes: dict[int, Node], found: Sequence[int]) -> list[int]:
    """`found` with the operands of its comparisons, each once, in order of computation."""
    compared = [o for index in found if nodes[index].op is Op.LESS for o in nodes[index].operands]
    return sorted({*found, *compared})
