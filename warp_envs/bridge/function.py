"""What a call of a program does, as one torch function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from warp_envs.bridge.slots import Slot

TorchFunction = Callable[..., tuple[torch.Tensor, ...]]


class Call(torch.autograd.Function):
    """One call of a program: a step of an environment, forward and back.

    The call holds a slot from forward until torch's graph lets go of it, so that backward finds
    what the launches left behind, however often and however late it runs.
    """

    @staticmethod
    def forward(
        ctx: Any, lend: Callable[[], Iterator[Slot]], *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Copy the inputs in, replay the launches, copy the outputs out."""
        ctx.loan = lend()
        ctx.slot = slot = next(ctx.loan)
        slot.begin(tensors)
        _copy(slot.inputs, tensors)
        slot.forward()
        outputs = _copies(slot.outputs)
        _tell_autograd(ctx, tensors, outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *seeds: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """Copy the inputs in, zero and seed the gradients, replay the adjoints, copy them out."""
        slot, tensors = ctx.slot, ctx.saved_tensors
        slot.begin((*tensors, *seeds))
        _copy(slot.inputs, tensors)
        _seed(slot, seeds)
        slot.backward()
        return (None, *_gradients(slot, ctx.needs_input_grad[1:]))


def lend(free: list[Slot], make: Callable[[], Slot]) -> Iterator[Slot]:
    """Yield one slot, a new one if none is free; it is free once the iterator is let go of."""
    slot = free.pop() if free else make()
    try:
        yield slot
    finally:
        free.append(slot)


def _copy(to: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor]) -> None:
    """Copy each; on a GPU by one kernel for all, where each would have its own."""
    if to and _on_gpu(to[0]):
        torch._foreach_copy_(list(to), list(tensors))
        return
    for array, tensor in zip(to, tensors, strict=True):
        array.copy_(tensor)


def _copies(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """A copy of each; on a GPU by one kernel for all of a type."""
    if not tensors or not _on_gpu(tensors[0]):
        return tuple([tensor.clone() for tensor in tensors])
    copies = tuple([torch.empty_like(tensor) for tensor in tensors])
    for dtype in {tensor.dtype for tensor in tensors}:
        pairs = [(a, b) for a, b in zip(copies, tensors, strict=True) if b.dtype == dtype]
        _copy(*zip(*pairs, strict=True))
    return copies


def _on_gpu(tensor: torch.Tensor) -> bool:
    return tensor.is_cuda


def _tell_autograd(
    ctx: Any, tensors: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
) -> None:
    """Save the inputs; outputs without a gradient array have none, and no gradient is None."""
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*[outputs[i] for i in ctx.slot.constants])


def _seed(slot: Slot, seeds: Sequence[torch.Tensor | None]) -> None:
    """Let the adjoints start from the outputs' gradients; those that torch leaves out are zero."""
    zeroed, seeded, given = list(slot.inner_gradients), [], []
    for gradient, seed in zip(slot.output_gradients, seeds, strict=True):
        if gradient is None:
            continue
        if seed is None:
            zeroed.append(gradient)
        else:
            seeded.append(gradient)
            given.append(seed)
    torch._foreach_zero_(zeroed)
    _copy(seeded, given)


def _gradients(slot: Slot, wanted: Sequence[bool]) -> list[torch.Tensor | None]:
    gradients = [g if want else None for g, want in zip(slot.input_gradients, wanted, strict=True)]
    copies = iter(_copies([gradient for gradient in gradients if gradient is not None]))
    return [None if gradient is None else next(copies) for gradient in gradients]
