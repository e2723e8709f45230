"""One set of a program's arrays, with its launches captured into graphs over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
import warp as wp

from warp_envs.bridge.building import load_kernels, nothing_runs
from warp_envs.bridge.start import BLOCK_DIM
from warp_envs.bridge.threads import thread_pool
from warp_envs.bridge.turns import capturing

Rows = slice | None
"""A block of rows that a thread computes; None: all of them."""

_Stretches = list[tuple[Any, np.ndarray | None]]
"""Graphs, each with the flags of which any must be set for it to run."""


class Launch(NamedTuple):
    """A kernel with the arguments it was recorded with."""

    kernel: wp.Kernel
    dim: tuple[int, ...]
    arguments: list[Any]
    adjoint: bool
    """Takes part in the backward pass."""
    repeated: bool
    """Runs again before the backward pass."""
    condition: wp.array | None
    """Run only if any of these flags is set."""
    name: str
    """What it is to people, where the kernel's own name says too little; else empty."""


class Turn:
    """Whose turn a program's arrays are in, of torch's streams of work on a GPU.

    Calls on one stream follow each other. A call on another waits for what was queued on the
    stream before, as all calls share arrays; and torch's allocator is told what it reads.
    """

    def __init__(self) -> None:
        self._last: torch.cuda.Stream | None = None

    def take(self, device: torch.device, tensors: Iterable[torch.Tensor | None]) -> None:
        """Begin a call on the device's current stream, which reads `tensors`."""
        current = torch.cuda.current_stream(device)
        if self._last is not None and self._last != current:
            current.wait_stream(self._last)
            for tensor in tensors:
                if tensor is not None:
                    tensor.record_stream(current)
        self._last = current


class Slot:
    """One set of a program's arrays: its launches captured over them, and torch's views of them.

    Capturing costs what some hundred replays cost, a replay next to nothing: one call that runs
    all launches of a block in C++, on a GPU a CUDA graph. It happens at the first replay, forward
    and backward apart.
    """

    def __init__(
        self,
        device: wp.Device,
        launches: Sequence[Launch],
        blocks: Sequence[Rows],
        part: Callable[[wp.array, Rows], wp.array],
        *,
        inputs: Sequence[wp.array] = (),
        outputs: Sequence[wp.array] = (),
        gradients: Sequence[wp.array] = (),
        turn: Turn,
    ) -> None:
        """Make the slot; nothing is captured yet.

        Args:
            device: of all arrays.
            launches: in order, over the arrays that were recorded.
            blocks: what of the rows a thread computes, one block a thread.
            part: the slot's array in place of a recorded one, or a block's rows of it.
            inputs: recorded arrays that a call copies its tensors to.
            outputs: recorded arrays that a call returns copies of.
            gradients: of all arrays that have one.
            turn: the program's, of all its slots.
        """
        self._device = device
        self._launches = launches
        self._blocks = blocks
        self._part = part
        self._turn = turn
        self._torch_device = torch.device(wp.device_to_torch(device)) if device.is_cuda else None
        outputs = [part(array, None) for array in outputs]
        seeded = {id(array.grad) for array in outputs if array.requires_grad}
        self.inputs = [_view(part(array, None)) for array in inputs]
        self.outputs = [_view(array) for array in outputs]
        self.input_gradients = [_gradient_view(array) for array in inputs]
        self.output_gradients = [_gradient_view(array) for array in outputs]
        self.constants = [i for i, array in enumerate(outputs) if not array.requires_grad]
        """Which outputs have no gradient."""
        self.inner_gradients = [_view(grad) for grad in gradients if id(grad) not in seeded]
        """Gradients of everything but the outputs: what a backward pass accumulates into."""

    def begin(self, tensors: Iterable[torch.Tensor | None] = ()) -> None:
        """Say that a call begins, which reads `tensors`; a GPU's streams take turns."""
        if self._torch_device is not None:
            self._turn.take(self._torch_device, tensors)

    def forward(self) -> None:
        """Replay the launches."""
        self._run(self._forward)

    def backward(self) -> None:
        """Replay what is repeated, then the adjoints, last launch first."""
        self._run(self._backward)

    @cached_property
    def _forward(self) -> list[_Stretches]:
        """Of each block a graph of the launches and, on a CPU, one of those under a condition."""
        return [self._capture_forward(rows) for rows in self._blocks]

    def _capture_forward(self, rows: Rows) -> _Stretches:
        stretches: _Stretches = []
        for _, group in groupby(self._launches, key=lambda launch: id(launch.condition)):
            steps = [(launch, False) for launch in group]
            condition = steps[0][0].condition
            flags = None if condition is None else self._part(condition, rows).numpy()
            stretches.append((self._capture(steps, rows), flags))
        return stretches

    @cached_property
    def _backward(self) -> list[_Stretches]:
        steps = [(launch, False) for launch in self._launches if launch.repeated]
        steps += [(launch, True) for launch in reversed(self._launches) if launch.adjoint]
        return [[(self._capture(steps, rows), None)] for rows in self._blocks]

    def _capture(self, steps: list[tuple[Launch, bool]], rows: Rows) -> Any:
        """A graph of launches or, where the flag says so, of their adjoints; None: nothing runs."""
        # What is not loaded yet cannot be while a GPU captures.
        if not load_kernels([(launch.kernel, launch.name) for launch, _ in steps], self._device):
            return None
        stream = None
        if self._device.is_cuda:
            # torch's default stream is CUDA's legacy one, on which nothing can be captured. Arrays
            # were filled on Warp's stream, for which torch's side streams would not wait.
            stream = _capture_stream(self._device)
            wp.synchronize_device(self._device)
        # All there is has been loaded: an older driver would have Warp build whatever is imported.
        options: dict[str, Any] = {"device": self._device, "stream": stream}
        with capturing(), wp.ScopedCapture(**options, force_module_load=False) as capture:
            for launch, adjoint in steps:
                self._launch(launch, rows, adjoint, stream)
        return capture.graph

    def _launch(self, launch: Launch, rows: Rows, adjoint: bool, stream: wp.Stream | None) -> None:
        arguments = [self._argument(argument, rows) for argument in launch.arguments]
        options: dict[str, Any] = {}
        if adjoint:
            # A struct argument gets a struct of gradients.
            adjoint_of = wp.Tape().get_adjoint
            options = {"adjoint": True, "adj_inputs": [adjoint_of(a) for a in arguments]}
        if self._device.is_cuda:
            options["block_dim"] = BLOCK_DIM
        wp.launch(
            launch.kernel,
            launch.dim if rows is None else (rows.stop - rows.start, *launch.dim[1:]),
            inputs=arguments,
            device=self._device,
            stream=stream,
            record_tape=False,
            **options,
        )

    def _argument(self, recorded: Any, rows: Rows) -> Any:
        """An argument with this slot's arrays in place of the recorded; a struct is a new one."""
        if isinstance(recorded, wp.array):
            return self._part(recorded, rows)
        if hasattr(recorded, "_cls"):
            struct = recorded._cls()
            for name in recorded._cls.vars:
                setattr(struct, name, self._argument(getattr(recorded, name), rows))
            return struct
        return recorded

    def _run(self, blocks: list[_Stretches]) -> None:
        """Launch the graphs, the first block's on the calling thread, on a GPU in torch's order."""
        if self._torch_device is not None:
            # torch's default stream has no handle of its own: it is the current device's.
            with torch.cuda.device(self._torch_device):
                _launch_graphs(blocks[0], wp.stream_from_torch(self._torch_device))
            return
        others = [thread_pool().submit(_launch_graphs, block, None) for block in blocks[1:]]
        _launch_graphs(blocks[0], None)
        for other in others:
            other.result()


def _launch_graphs(stretches: _Stretches, stream: wp.Stream | None) -> None:
    for graph, flags in stretches:
        if graph is None:
            if not nothing_runs():
                raise RuntimeError("this was made while nothing ran and holds no launches")
        elif flags is None or np.count_nonzero(flags):  # a fifth of the time of flags.any()
            wp.capture_launch(graph, stream)


def _view(array: wp.array) -> torch.Tensor:
    return wp.to_torch(array, requires_grad=False)


def _gradient_view(array: wp.array) -> torch.Tensor | None:
    return _view(array.grad) if array.requires_grad else None


@cache
def _capture_stream(device: wp.Device) -> wp.Stream:
    return wp.Stream(device)
