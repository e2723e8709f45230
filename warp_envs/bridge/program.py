"""The bridge between Warp and torch: a recorded sequence of launches as one torch function.

A `Program` records kernel launches once, over arrays it keeps, captures them into graphs and
replays those. Torch sees one differentiable function per program, and `function.Call` says what a
call of it does: forward copies its inputs in, replays the launches and copies the outputs out;
backward copies the saved inputs in again and replays the launches' adjoints in reverse order, over
what the forward launches left behind.

What they leave behind lies in a `slots.Slot`, one set of the program's arrays, which a call holds
as long as torch's graph holds the call. A window of 32 calls takes 32 slots, the next window the
same ones again. So windows may have any length, backward may run twice, and nothing of one window
can leak into the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import warp as wp

from warp_envs.bridge.function import Call, TorchFunction, lend
from warp_envs.bridge.slots import Launch, Rows, Slot, Turn

GUARD = 1024
"""Elements behind every array that belong to nothing, in which a write past its end shows."""


class Program:
    """Kernel launches recorded once, replayed forward and, by Warp's adjoints, backward.

    An environment's ``record_*`` methods get the program of its step: they take scratch arrays from
    `array` and append kernels with `launch`; nothing runs yet. By itself a program is made, filled
    and turned into a function of torch tensors (or run in place by `replay`):

        program = Program("cpu")
        x, y = program.array(5, wp.float32), program.array(5, wp.float32)
        program.launch(square, 5, [x, y])
        function = program.function([x], [y])
        (result,) = function(torch.ones(5, requires_grad=True))
        result.sum().backward()

    What keeps the gradients exact is up to the kernels. Within one run no array element may be
    overwritten after a kernel whose adjoint reads it has read it; and every kernel must write each
    scratch element that it or a later kernel reads, for arrays keep what an earlier run left (an
    accumulator is stored to before it is added to). Values that are not arrays are recorded as
    they are.

    By default a program has one set of arrays, and backward replays the forward launches to fill
    them again. One that remembers, as an environment's step does, has a set for every call that
    torch may still differentiate; there, only launches recorded as `repeated` run again, because
    they fill arrays that are `shared` by all calls.

    On a CPU the rows of a program, its environments, may be split into blocks that run on a thread
    each, from the first launch to the last: Warp runs a graph on the calling thread and lets go of
    the interpreter lock. Every row is computed alike in any block, so results do not depend on
    their number; a kernel must not read or write another row's elements.
    """

    device: wp.Device
    """Of all arrays and launches."""
    remember: bool
    """Whether every call keeps its arrays until torch lets go of the call."""
    blocks: list[Rows]
    """The rows that a thread computes, a slice each; of a program in one block, one None."""

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
            num_blocks: at most so many blocks of rows, a thread each; a GPU takes all rows at once.
            remember: keep every call's arrays until torch lets go of the call.
        """
        self.device = wp.get_device(device)
        self.remember = remember
        self.blocks = _blocks(num_rows, 1 if self.device.is_cuda else num_blocks)
        self._num_rows = num_rows
        self._launches: list[Launch] = []
        self._guards: list[tuple[wp.array, wp.array]] = []
        self._gradients: list[wp.array] = []
        self._own: list[wp.array] = []  # of each slot its own
        self._shared: list[wp.array] = []
        self._shared_out: set[int] = set()  # by identity: blocks have rows of their own in them
        self._without_gradient = False
        self._condition: wp.array | None = None
        self._turn = Turn()

    # Recording ----------------------------------------------------------------------------------

    def array(
        self,
        shape: int | tuple[int, ...],
        dtype: Any,
        requires_grad: bool = True,
        *,
        shared: bool = False,
    ) -> wp.array:
        """Allocate a zeroed array that lives as long as the program or a function made of it.

        Its gradient, if it has one, is zeroed before every backward pass.

        Args:
            shape: of the array.
            dtype: Warp's.
            requires_grad: whether it has a gradient.
            shared: one array for all calls of a program that remembers: what persists from call to
                call, what no adjoint reads, or what a `repeated` launch fills again.
        """
        count = math.prod((shape,) if isinstance(shape, int) else shape)
        whole = wp.zeros(
            count + GUARD, dtype=dtype, device=self.device, requires_grad=requires_grad
        )
        guard = cast("wp.array", whole[count:])
        guard.fill_(1)
        array = cast("wp.array", whole[:count]).reshape(shape)
        self._guards.append((array, guard))
        if requires_grad:
            self._gradients.append(array.grad)
        (self._shared if shared or not self.remember else self._own).append(array)
        if array.shape[0] == self._num_rows:
            self._shared_out.update(id(a) for a in (array, array.grad) if a is not None)
        return array

    def launch(
        self,
        kernel: wp.Kernel,
        dim: int | tuple[int, ...],
        inputs: Sequence[Any],
        *,
        repeated: bool = False,
        name: str = "",
    ) -> None:
        """Append a launch, and its adjoint unless the kernel is compiled without one.

        Args:
            kernel: what to launch.
            dim: over how many threads, environments first.
            inputs: its arguments.
            repeated: run again before the backward pass, to fill arrays that are `shared`.
            name: what it is to people, said if it must be built and that takes long.
        """
        arguments = list(inputs)
        if kernel.is_generic:
            # Instantiated here, compiled at the first run: one build for all overloads.
            wp.overload(kernel, kernel.infer_argument_types(arguments))
        conditional = self._condition is not None
        on_condition = conditional and not self.device.is_cuda
        with_adjoint = kernel.options.get("enable_backward") is not False
        self._launches.append(
            Launch(
                kernel,
                (dim,) if isinstance(dim, int) else tuple(dim),
                arguments,
                adjoint=with_adjoint and not self._without_gradient and not conditional,
                repeated=(repeated or not self.remember) and not conditional,
                condition=self._condition if on_condition else None,
                name=name,
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

        They must come last and change nothing then. On a CPU each block leaves them out where none
        of its flags is set; on a GPU, where looking would stall the stream, they always run, in one
        graph with the rest. They take no part in the backward pass.
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

        Args:
            inputs: recorded arrays that a call copies its tensors to.
            outputs: recorded arrays, copies of which a call returns as tensors.
        """
        # torch keeps the inputs for as long as they are needed
        kept = {id(array) for array in inputs}
        self._own = [array for array in self._own if id(array) not in kept]
        self._shared += inputs
        first = self._make_slot(inputs, outputs, {})
        if not self.remember:
            return partial(Call.apply, partial(iter, [first]))
        return partial(Call.apply, partial(lend, [first], partial(self._new_slot, inputs, outputs)))

    def memory(self) -> tuple[int, int]:
        """Bytes of all arrays with their gradients, and those that a further slot takes."""
        own, whole = (
            sum(array.size * wp.types.type_size_in_bytes(array.dtype) for array in arrays)
            for arrays in (self._own, [*self._own, *self._shared, *self._gradients])
        )
        return whole, own

    def count_launches(self) -> tuple[int, int]:
        """Launches of a run forward, conditional ones included, and backward."""
        repeated = sum(launch.repeated for launch in self._launches)
        return len(self._launches), repeated + sum(launch.adjoint for launch in self._launches)

    def overrun(self) -> list[wp.array]:
        """The arrays past whose end a launch of the first run has written; the device is done then.

        Warp reads arrays on a stream of its own, which does not wait for torch's side streams.
        """
        wp.synchronize_device(self.device)
        return [array for array, guard in self._guards if not np.all(guard.numpy() == 1)]

    def replay(self) -> None:
        """Run the recorded launches, on a GPU on torch's current stream."""
        self._replayed.begin()
        self._replayed.forward()

    @cached_property
    def _replayed(self) -> Slot:
        return self._make_slot([], [], {})

    def _new_slot(self, inputs: Sequence[wp.array], outputs: Sequence[wp.array]) -> Slot:
        """Another set of the arrays that are not shared; gradients are, always."""
        twins: dict[int, wp.array] = {}
        for array in self._own:
            twin = wp.clone(array, requires_grad=False)
            if array.requires_grad:
                twin.grad = array.grad
            twins[id(array)] = twin
        return self._make_slot(inputs, outputs, twins)

    def _make_slot(
        self,
        inputs: Sequence[wp.array],
        outputs: Sequence[wp.array],
        twins: Mapping[int, wp.array],
    ) -> Slot:
        """A slot with `twins` in place of recorded arrays, by their identity."""

        def part(recorded: wp.array, rows: Rows) -> Any:
            array = twins.get(id(recorded), recorded)
            whole = rows is None or id(recorded) not in self._shared_out
            return array if whole else cast("wp.array", array[rows])

        return Slot(
            self.device,
            self._launches,
            self.blocks,
            part,
            inputs=inputs,
            outputs=outputs,
            gradients=self._gradients,
            turn=self._turn,
        )


def _blocks(num_rows: int | None, num_blocks: int) -> list[Rows]:
    """Slices of rows, multiples of 16 long where possible: the width of the widest vector unit."""
    if num_rows is None or num_blocks < 2 or num_rows <= 16:
        return [None]
    length = -(-num_rows // num_blocks)
    length = -(-length // 16) * 16
    starts = range(0, num_rows, length)
    return [slice(start, min(start + length, num_rows)) for start in starts]
