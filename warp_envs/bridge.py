"""The bridge between Warp and torch: a recorded sequence of launches as one torch function.

A `Program` records kernel launches once, over arrays it keeps, and replays them. Torch sees one
differentiable function per program: forward copies its inputs in, replays the launches and copies
the outputs out; backward copies the saved inputs in again, replays the launches, and then replays
their adjoints in reverse order. Only a call's inputs live in torch's graph, so windows may have any
length, backward may run twice, and nothing of one window can leak into the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

import torch
import warp as wp
from torch.autograd.function import once_differentiable

TorchFunction = Callable[..., tuple[torch.Tensor, ...]]

_SCALARS = {torch.float32: wp.float32, torch.float64: wp.float64}


def check_device(device: str | torch.device) -> str:
    """The name of a device that Warp and torch both have; "cuda" is the first GPU.

    Raises:
        ValueError: it is none.
    """
    both = torch.cuda.is_available()
    known = [wp.device_to_torch(d) for d in wp.get_devices() if d.is_cpu or both]
    name = "cuda:0" if str(device) == "cuda" else str(device)
    if name not in known:
        raise ValueError(
            f"device: {str(device)!r} given, one of {known} accepted here (what Warp and torch "
            "both find)"
        )
    return name


def scalar_type(dtype: torch.dtype) -> type:
    """The Warp scalar of a torch dtype.

    Raises:
        ValueError: `dtype` is neither torch.float32 nor torch.float64.
    """
    if dtype not in _SCALARS:
        raise ValueError(f"dtype: {dtype} given, torch.float32 or torch.float64 accepted")
    return _SCALARS[dtype]


class Program:
    """Kernel launches recorded once, replayed forward and, by Warp's adjoints, backward.

    The rules that keep the adjoints exact: within one run no array element is overwritten after a
    kernel has read it, and every kernel writes each scratch element that it or a later kernel
    reads (an accumulator is stored to before it is added to).

    On a CPU the rows of a program, its environments, may be split into blocks that run on a thread
    each, from the first launch to the last: Warp runs a launch on the calling thread and lets go of
    the interpreter lock. Every row is computed alike in any block, so results do not depend on
    their number.
    """

    def __init__(self, device: str, *, num_rows: int | None = None, num_blocks: int = 1) -> None:
        """Make an empty program.

        Args:
            device: a Warp device, "cpu" or "cuda:0".
            num_rows: first dimension of every launch and of the arrays that blocks share out.
            num_blocks: at most so many blocks of rows, a thread each.
        """
        self.device = wp.get_device(device)
        self._num_rows = num_rows
        self._blocks = _blocks(num_rows, num_blocks)
        self._recorded: list[tuple[wp.Kernel, int | tuple[int, ...], list[Any], bool]] = []
        self._rows: set[int] = set()
        self._kept: list[wp.array] = []
        self._gradients: list[torch.Tensor] = []
        self._recording_adjoints = True

    def array(
        self, shape: int | tuple[int, ...], dtype: Any, requires_grad: bool = True
    ) -> wp.array:
        """Allocate a zeroed array that lives as long as the program.

        Its gradient, if it has one, is zeroed before every backward pass.
        """
        array = wp.zeros(shape, dtype=dtype, device=self.device, requires_grad=requires_grad)
        if requires_grad:
            self._gradients.append(wp.to_torch(array.grad, requires_grad=False))
        if array.shape[0] == self._num_rows:
            self._rows.add(id(array))
            self._kept.append(array)  # so that its id stays its own
        return array

    def launch(self, kernel: wp.Kernel, dim: int | tuple[int, ...], inputs: Sequence[Any]) -> None:
        """Append a launch, and its adjoint unless the kernel is compiled without one."""
        arguments = list(inputs)
        if kernel.is_generic:
            # Instantiated here, compiled at the first run: one build for all overloads.
            wp.overload(kernel, kernel.infer_argument_types(arguments))
        adjoint = self._recording_adjoints and kernel.options.get("enable_backward") is not False
        self._recorded.append((kernel, dim, arguments, adjoint))

    @cached_property
    def _forward(self) -> list[list[Any]]:
        """The launches of every block."""
        return [
            [self._prepare(*launch[:3], block, adjoint=False) for launch in self._recorded]
            for block in self._blocks
        ]

    @cached_property
    def _adjoint(self) -> list[list[Any]]:
        """The adjoint launches of every block, last kernel first."""
        return [
            [
                self._prepare(*launch[:3], block, adjoint=True)
                for launch in reversed(self._recorded)
                if launch[3]
            ]
            for block in self._blocks
        ]

    def _prepare(
        self,
        kernel: wp.Kernel,
        dim: int | tuple[int, ...],
        arguments: list[Any],
        block: slice | None,
        adjoint: bool,
    ) -> Any:
        if block is not None:
            sizes = (dim,) if isinstance(dim, int) else dim
            dim = (block.stop - block.start, *sizes[1:])
            arguments = [self._part(argument, block) for argument in arguments]
        options: dict[str, Any] = {}
        if adjoint:
            # A struct argument gets a struct of gradients.
            adjoint_of = wp.Tape().get_adjoint
            options = {"adjoint": True, "adj_inputs": [adjoint_of(a) for a in arguments]}
        return wp.launch(
            kernel, dim, inputs=arguments, device=self.device, record_cmd=True, **options
        )

    def _part(self, argument: Any, block: slice) -> Any:
        """The block's rows of an array, or of the arrays in a struct."""
        if isinstance(argument, wp.array):
            return argument[block] if id(argument) in self._rows else argument
        if hasattr(argument, "_cls"):
            part = argument._cls()
            for name in argument._cls.vars:
                setattr(part, name, self._part(getattr(argument, name), block))
            return part
        return argument

    @contextmanager
    def without_gradient(self) -> Iterator[None]:
        """Launches appended inside take no part in the backward pass."""
        before, self._recording_adjoints = self._recording_adjoints, False
        try:
            yield
        finally:
            self._recording_adjoints = before

    def function(self, inputs: Sequence[wp.array], outputs: Sequence[wp.array]) -> TorchFunction:
        """The program as a function of torch tensors, shaped as `inputs`, giving `outputs`.

        An output without ``requires_grad`` is marked non-differentiable. The function may be called
        and differentiated once (second derivatives raise), any number of times.
        """
        bound = _BoundProgram(self, inputs, outputs)

        def call(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return _RunProgram.apply(bound, *tensors)  # type: ignore[no-any-return]

        return call

    def replay(self) -> None:
        """Run the recorded launches, on a GPU on torch's current stream."""
        self._run(self._forward)

    def replay_adjoint(self) -> None:
        """Run the adjoints, last launch first."""
        self._run(self._adjoint)

    def zero_gradients(self) -> None:
        """Set the gradient of every array of this program to zero."""
        torch._foreach_zero_(self._gradients)

    def _run(self, blocks: list[list[Any]]) -> None:
        stream = wp.stream_from_torch(self.torch_device) if self.device.is_cuda else None

        def run(launches: list[Any]) -> None:
            for launch in launches:
                launch.launch(stream=stream)

        others = [_threads().submit(run, launches) for launches in blocks[1:]]
        run(blocks[0])
        for other in others:
            other.result()

    @property
    def torch_device(self) -> torch.device:
        """The torch device on which the program's tensors lie."""
        return torch.device(wp.device_to_torch(self.device))


class _BoundProgram:
    """A program with the torch views of the arrays that go in and come out."""

    def __init__(
        self, program: Program, inputs: Sequence[wp.array], outputs: Sequence[wp.array]
    ) -> None:
        self.program = program
        self.inputs = [_view(array) for array in inputs]
        self.outputs = [_view(array) for array in outputs]
        self.input_gradients = [_gradient_view(array) for array in inputs]
        self.output_gradients = [_gradient_view(array) for array in outputs]

    def run(self, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        self._load(tensors)
        self.program.replay()
        return tuple([output.clone() for output in self.outputs])

    def differentiate(
        self, tensors: Sequence[torch.Tensor], seeds: Sequence[torch.Tensor | None]
    ) -> list[torch.Tensor | None]:
        self._load(tensors)
        self.program.replay()
        self.program.zero_gradients()
        for gradient, seed in zip(self.output_gradients, seeds, strict=True):
            if gradient is not None and seed is not None:
                gradient.copy_(seed)
        self.program.replay_adjoint()
        return [None if gradient is None else gradient.clone() for gradient in self.input_gradients]

    def _load(self, tensors: Sequence[torch.Tensor]) -> None:
        for array, tensor in zip(self.inputs, tensors, strict=True):
            array.copy_(tensor)


class _RunProgram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bound: _BoundProgram, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = bound.run(tensors)
        ctx.bound = bound
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(
            *[
                output
                for output, gradient in zip(outputs, bound.output_gradients, strict=True)
                if gradient is None
            ]
        )
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *seeds: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        return (None, *ctx.bound.differentiate(ctx.saved_tensors, seeds))


def _view(array: wp.array) -> torch.Tensor:
    return wp.to_torch(array, requires_grad=False)


def _gradient_view(array: wp.array) -> torch.Tensor | None:
    return _view(array.grad) if array.requires_grad else None


def _blocks(num_rows: int | None, num_blocks: int) -> list[slice | None]:
    """Slices of rows, multiples of 16 long where possible: the width of the widest vector unit."""
    if num_rows is None or num_blocks < 2 or num_rows <= 16:
        return [None]
    length = -(-num_rows // num_blocks)
    length = -(-length // 16) * 16
    starts = range(0, num_rows, length)
    return [slice(start, min(start + length, num_rows)) for start in starts]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="warp")
