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
        _copy_in(slot, tensors)
        slot.forward()
        outputs = tuple([output.clone() for output in slot.outputs])
        _tell_autograd(ctx, tensors, outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *seeds: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """Copy the inputs in, zero and seed the gradients, replay the adjoints, copy them out."""
        slot, tensors = ctx.slot, ctx.saved_tensors
        slot.begin((*tensors, *seeds))
        _copy_in(slot, tensors)
        torch._foreach_zero_(slot.inner_gradients)
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


def _copy_in(slot: Slot, tensors: Sequence[torch.Tensor]) -> None:
    for array, tensor in zip(slot.inputs, tensors, strict=True):
        array.copy_(tensor)


def _tell_autograd(
    ctx: Any, tensors: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
) -> None:
    """Save the inputs; outputs without a gradient array have none, and no gradient is None."""
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*[outputs[i] for i in ctx.slot.constants])


def _seed(slot: Slot, seeds: Sequence[torch.Tensor | None]) -> None:
    """Let the adjoints start from the outputs' gradients; those that torch leaves out are zero."""
    for gradient, seed in zip(slot.output_gradients, seeds, strict=True):
        if gradient is None:
            continue
        if seed is None:
            gradient.zero_()
        else:
            gradient.copy_(seed)


def _gradients(slot: Slot, wanted: Sequence[bool]) -> list[torch.Tensor | None]:
    return [
        gradient.clone() if gradient is not None and want else None
        for gradient, want in zip(slot.input_gradients, wanted, strict=True)
    ]
