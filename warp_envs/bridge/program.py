"""The bridge between Warp and torch: a recorded sequence of launches as one torch function.

A `Program` records kernel launches once, over arrays it keeps, captures them into graphs and
replays those. Torch sees one differentiable function per program: forward copies its inputs in,
replays the launches and copies the outputs out; backward copies the saved inputs in again and
replays the launches' adjoints in reverse order, over what the forward launches left behind.

What they leave behind lies in a `_Slot`, one set of the program's arrays, which a call holds as
long as torch's graph holds the call. A window of 32 calls takes 32 slots, the next window the same
ones again. So windows may have any length, backward may run twice, and nothing of one window can
leak into the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
import warp as wp
from torch.autograd.function import once_differentiable

from warp_envs.bridge.threads import thread_pool
from warp_envs.checks import ArgumentError

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
        raise ArgumentError(
            "device", repr(str(device)), f"one of {known}", " here (what Warp and torch both find)"
        )
    return name


def scalar_type(dtype: torch.dtype) -> type:
    """The Warp scalar of a torch dtype.

    Raises:
        ValueError: `dtype` is neither torch.float32 nor torch.float64.
    """
    if dtype not in _SCALARS:
        raise ArgumentError("dtype", str(dtype), "torch.float32 or torch.float64")
    return _SCALARS[dtype]


@dataclass(frozen=True)
class _Launch:
    """A kernel with the arguments it was recorded with."""

    kernel: wp.Kernel
    dim: tuple[int, ...]
    arguments: list[Any]
    adjoint: bool
    """Takes part in the backward pass."""
    repeated: bool
    """Runs again before the backward pass."""
    condition: wp.array | None
    """On a CPU, run only if any of these flags is set."""


class Program:
    """Kernel launches recorded once, replayed forward and, by Warp's adjoints, backward.

    The rules that keep the adjoints exact: within one run no array element is overwritten after a
    kernel whose adjoint reads it has read it, and every kernel writes each scratch element that it
    or a later kernel reads (an accumulator is stored to before it is added to).

    By default a program has one set of arrays, and backward replays the forward launches to fill
    them again. One that remembers has a set for every call that torch may still differentiate;
    there, only launches recorded as `repeated` run again, because they fill arrays that are shared
    by all calls.

    On a CPU the rows of a program, its environments, may be split into blocks that run on a thread
    each, from the first launch to the last: Warp runs a graph on the calling thread and lets go of
    the interpreter lock. Every row is computed alike in any block, so results do not depend on
    their number.
    """

    def __init__(
        self,
        device: str,
        *,
        num_rows: int | None = None,
        num_blocks: int = 1,
        remember: bool = False,
    ) -> None:
        """Make an empty program.

        Args:
            device: a Warp device, "cpu" or "cuda:0".
            num_rows: first dimension of every launch and of the arrays that blocks share out.
            num_blocks: at most so many blocks of rows, a thread each.
            remember: keep every call's arrays until torch lets go of the call.
        """
        self.device = wp.get_device(device)
        self.remember = remember
        self.blocks = _blocks(num_rows, num_blocks)
        self.launches: list[_Launch] = []
        self.gradients: list[wp.array] = []
        self._num_rows = num_rows
        self._own: list[wp.array] = []  # of each slot its own
        self._shared: list[wp.array] = []
        self._rows: set[int] = set()
        self._without_gradient = False
        self._condition: wp.array | None = None

    # Recording ----------------------------------------------------------------------------------

    def array(
        self,
        shape: int | tuple[int, ...],
        dtype: Any,
        requires_grad: bool = True,
        *,
        shared: bool = False,
    ) -> wp.array:
        """Allocate a zeroed array that lives as long as the program.

        Its gradient, if it has one, is zeroed before every backward pass.

        Args:
            shape: of the array.
            dtype: Warp's.
            requires_grad: whether it has a gradient.
            shared: one array for all calls of a program that remembers: what persists from call to
                call, what no adjoint reads, or what a `repeated` launch fills again.
        """
        array = wp.zeros(shape, dtype=dtype, device=self.device, requires_grad=requires_grad)
        if requires_grad:
            self.gradients.append(array.grad)
        (self._shared if shared or not self.remember else self._own).append(array)
        if array.shape[0] == self._num_rows:
            self._rows.update(id(a) for a in (array, array.grad) if a is not None)
        return array

    def launch(
        self,
        kernel: wp.Kernel,
        dim: int | tuple[int, ...],
        inputs: Sequence[Any],
        *,
        repeated: bool = False,
    ) -> None:
        """Append a launch, and its adjoint unless the kernel is compiled without one.

        Args:
            kernel: what to launch.
            dim: over how many threads, environments first.
            inputs: its arguments.
            repeated: run again before the backward pass, to fill arrays that are `shared`.
        """
        arguments = list(inputs)
        if kernel.is_generic:
            # Instantiated here, compiled at the first run: one build for all overloads.
            wp.overload(kernel, kernel.infer_argument_types(arguments))
        conditional = self._condition is not None
        with_adjoint = kernel.options.get("enable_backward") is not False
        self.launches.append(
            _Launch(
                kernel,
                (dim,) if isinstance(dim, int) else tuple(dim),
                arguments,
                adjoint=with_adjoint and not self._without_gradient and not conditional,
                repeated=(repeated or not self.remember) and not conditional,
                condition=self._condition,
            )
        )

    @contextmanager
    def without_gradient(self) -> Iterator[None]:
        """Launches appended inside take no part in the backward pass."""
        before, self._without_gradient = self._without_gradient, True
        try:
            yield
        finally:
            self._without_gradient = before

    @contextmanager
    def only_if_any(self, flags: wp.array) -> Iterator[None]:
        """Launches appended inside may be left out where no element of `flags` is set.

        They must come last and change nothing then. On a CPU they are left out; on a GPU, where
        looking would stall the stream, they run. They take no part in the backward pass.
        """
        self._condition = flags
        try:
            yield
        finally:
            self._condition = None

    # Running ------------------------------------------------------------------------------------

    def function(self, inputs: Sequence[wp.array], outputs: Sequence[wp.array]) -> TorchFunction:
        """The program as a function of torch tensors, shaped as `inputs`, giving `outputs`.

        An output without ``requires_grad`` is marked non-differentiable. The function may be called
        and differentiated once (second derivatives raise), any number of times.
        """
        # torch keeps the inputs for as long as they are needed
        kept = {id(array) for array in inputs}
        self._own = [array for array in self._own if id(array) not in kept]
        self._shared += inputs
        bound = _BoundProgram(self, inputs, outputs)

        def call(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return _RunProgram.apply(bound, *tensors)  # type: ignore[no-any-return]

        return call

    def count_launches(self) -> tuple[int, int]:
        """Launches of a run forward, conditional ones included, and backward."""
        repeated = sum(launch.repeated for launch in self.launches)
        return len(self.launches), repeated + sum(launch.adjoint for launch in self.launches)

    def replay(self) -> None:
        """Run the recorded launches, on a GPU on torch's current stream."""
        self.first_slot.forward()

    @cached_property
    def first_slot(self) -> _Slot:
        """The slot of the arrays that the launches were recorded with."""
        return _Slot(self, {})

    def new_slot(self) -> _Slot:
        """Another set of the arrays that are not shared; gradients are, always."""
        twins: dict[int, wp.array] = {}
        for array in self._own:
            twin = wp.clone(array, requires_grad=False)
            if array.requires_grad:
                twin.grad = array.grad
            twins[id(array)] = twin
        return _Slot(self, twins)

    def is_shared_out(self, array: wp.array) -> bool:
        """Whether blocks have rows of their own in an array."""
        return id(array) in self._rows

    @property
    def torch_device(self) -> torch.device:
        """The torch device on which the program's tensors lie."""
        return torch.device(wp.device_to_torch(self.device))


class _Slot:
    """One set of a program's arrays, with its launches captured over them.

    Capturing costs what some hundred replays cost, a replay next to nothing: one call that runs
    all launches of a block in C++, on a GPU a CUDA graph.
    """

    def __init__(self, program: Program, twins: dict[int, wp.array]) -> None:
        self._program = program
        self._twins = twins

    def array(self, recorded: wp.array) -> wp.array:
        """This slot's array in place of the recorded one."""
        return self._twins.get(id(recorded), recorded)

    def forward(self) -> None:
        """Replay the launches."""
        self._run(self._forward)

    def backward(self) -> None:
        """Zero all gradients but the outputs' and replay the adjoints, last launch first."""
        self._run(self._backward)

    @cached_property
    def _forward(self) -> list[list[_Stretch]]:
        return [self._capture_forward(block) for block in self._program.blocks]

    def _capture_forward(self, block: slice | None) -> list[_Stretch]:
        """Graphs of the launches, each of those under one condition."""
        stretches: list[_Stretch] = []
        pending = list(self._program.launches)
        while pending:
            condition = pending[0].condition
            count = next(
                (i for i, launch in enumerate(pending) if launch.condition is not condition),
                len(pending),
            )
            graph = self._capture([(launch, False) for launch in pending[:count]], block)
            stretches.append(_Stretch(graph, self._flags(condition, block)))
            pending = pending[count:]
        return stretches

    @cached_property
    def _backward(self) -> list[list[_Stretch]]:
        launches = self._program.launches
        steps = [(launch, False) for launch in launches if launch.repeated]
        steps += [(launch, True) for launch in reversed(launches) if launch.adjoint]
        return [[_Stretch(self._capture(steps, block))] for block in self._program.blocks]

    def _capture(self, steps: list[tuple[_Launch, bool]], block: slice | None) -> Any:
        """A graph of launches or, where the flag says so, of their adjoints."""
        device = self._program.device
        # What is not loaded yet cannot be while a GPU captures.
        for launch, _ in steps:
            wp.load_module(launch.kernel.module, device)
        # torch's default stream is CUDA's legacy one, on which nothing can be captured.
        stream = _capture_stream(device) if device.is_cuda else None
        with wp.ScopedCapture(device=device, stream=stream) as capture:
            for launch, adjoint in steps:
                self._launch(launch, block, adjoint, stream)
        return capture.graph

    def _launch(
        self, launch: _Launch, block: slice | None, adjoint: bool, stream: wp.Stream | None
    ) -> None:
        arguments = [self._part(argument, block) for argument in launch.arguments]
        dim = launch.dim
        if block is not None:
            dim = (block.stop - block.start, *dim[1:])
        options: dict[str, Any] = {}
        if adjoint:
            # A struct argument gets a struct of gradients.
            adjoint_of = wp.Tape().get_adjoint
            options = {"adjoint": True, "adj_inputs": [adjoint_of(a) for a in arguments]}
        wp.launch(
            launch.kernel,
            dim,
            inputs=arguments,
            device=self._program.device,
            stream=stream,
            record_tape=False,
            **options,
        )

    def _part(self, argument: Any, block: slice | None) -> Any:
        """This slot's array, or its rows of a block; a struct has parts of its own."""
        if isinstance(argument, wp.array):
            array = self.array(argument)
            whole = block is None or not self._program.is_shared_out(argument)
            return array if whole else array[block]
        if hasattr(argument, "_cls"):
            part = argument._cls()
            for name in argument._cls.vars:
                setattr(part, name, self._part(getattr(argument, name), block))
            return part
        return argument

    def _flags(self, condition: wp.array | None, block: slice | None) -> np.ndarray | None:
        """What to look at before a stretch of conditional launches."""
        if condition is None or self._program.device.is_cuda:
            return None
        return self._part(condition, block).numpy()

    def _run(self, blocks: list[list[_Stretch]]) -> None:
        program = self._program
        stream = wp.stream_from_torch(program.torch_device) if program.device.is_cuda else None

        def run(stretches: list[_Stretch]) -> None:
            for stretch in stretches:
                if stretch.flags is None or stretch.flags.any():
                    wp.capture_launch(stretch.graph, stream)

        others = [thread_pool().submit(run, stretches) for stretches in blocks[1:]]
        run(blocks[0])
        for other in others:
            other.result()


@dataclass(frozen=True)
class _Stretch:
    """A graph, run if `flags` is None or any of them is set."""

    graph: Any
    flags: np.ndarray | None = None


class _Lease:
    """A slot that is somebody's until they are gone."""

    def __init__(self, slot: _BoundSlot, free: list[_BoundSlot]) -> None:
        self.slot = slot
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.slot)


class _BoundSlot:
    """A slot with the torch views of the arrays that come out of it."""

    def __init__(self, slot: _Slot, outputs: Sequence[wp.array]) -> None:
        self.slot = slot
        self.outputs = [_view(slot.array(array)) for array in outputs]


class _BoundProgram:
    """A program with the torch views of the arrays that go in and come out, and its free slots."""

    def __init__(
        self, program: Program, inputs: Sequence[wp.array], outputs: Sequence[wp.array]
    ) -> None:
        self._program = program
        self._outputs = outputs
        self._inputs = [_view(array) for array in inputs]
        self._input_gradients = [_gradient_view(array) for array in inputs]
        self.output_gradients = [_gradient_view(array) for array in outputs]
        seeded = {id(array.grad) for array in outputs if array.requires_grad}
        self._zeroed = [_view(grad) for grad in program.gradients if id(grad) not in seeded]
        self._first = _BoundSlot(program.first_slot, outputs)
        self._free = [self._first]

    def take(self) -> _Lease:
        """A slot that no call in torch's graph holds; the one slot of a program that forgets."""
        if not self._program.remember:
            return _Lease(self._first, [])
        if not self._free:
            self._free.append(_BoundSlot(self._program.new_slot(), self._outputs))
        return _Lease(self._free.pop(), self._free)

    def run(self, bound: _BoundSlot, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        self._load(tensors)
        bound.slot.forward()
        return tuple([output.clone() for output in bound.outputs])

    def differentiate(
        self,
        bound: _BoundSlot,
        tensors: Sequence[torch.Tensor],
        seeds: Sequence[torch.Tensor | None],
        wanted: Sequence[bool],
    ) -> list[torch.Tensor | None]:
        self._load(tensors)
        torch._foreach_zero_(self._zeroed)
        for gradient, seed in zip(self.output_gradients, seeds, strict=True):
            if gradient is None:
                continue
            if seed is None:
                gradient.zero_()
            else:
                gradient.copy_(seed)
        bound.slot.backward()
        return [
            gradient.clone() if gradient is not None and want else None
            for gradient, want in zip(self._input_gradients, wanted, strict=True)
        ]

    def _load(self, tensors: Sequence[torch.Tensor]) -> None:
        for array, tensor in zip(self._inputs, tensors, strict=True):
            array.copy_(tensor)


class _RunProgram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bound: _BoundProgram, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.bound = bound
        ctx.lease = bound.take()
        outputs = bound.run(ctx.lease.slot, tensors)
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
        tensors, wanted = ctx.saved_tensors, ctx.needs_input_grad[1:]
        return (None, *ctx.bound.differentiate(ctx.lease.slot, tensors, seeds, wanted))


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
def _capture_stream(device: wp.Device) -> wp.Stream:
    return wp.Stream(device)
