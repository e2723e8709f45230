"""A network as one function, in native passes on a CPU: values, slopes, Jacobian products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from gippo.networks.native import LAYER_NORM_EPS, PreparedTask
from kernels.perceptron.passes import BLOCK, plan_pass
from kernels.perceptron.tasks import (
    BACKWARD,
    FORWARD,
    LINEARISE,
    PACK,
    TIMES,
    TRANSPOSED,
    mlp_function_task,
    mlp_jacobian_task,
)
from warp_envs.bridge.devices import scalar_type
from warp_envs.bridge.threads import get_num_threads, thread_pool

SHARE = 10_000_000
"""Multiplications that are worth a thread: some 300 microseconds. From a tenth of it nothing is
gained."""


class NativeFunction:
    """A multilayer perceptron that torch differentiates with respect to its inputs.

    Hidden layers are Linear -> ELU -> LayerNorm, the last one is linear. A small batch, such as a
    step of a rollout, costs torch ten calls for three hidden layers, their reverse and autograd's
    bookkeeping; here it costs one each way. The backward pass goes forward again, so that nothing
    is kept but the inputs.
    """

    def __init__(self, sizes: Sequence[int], dtype: torch.dtype, epsilon: float) -> None:
        """Prepare; what is compiled is compiled at the first call on a machine.

        Args:
            sizes: numbers of inputs, of each hidden layer's outputs, of outputs.
            dtype: of all tensors, torch.float32 or torch.float64.
            epsilon: added to the normalisation's variance.
        """
        self.sizes = tuple(sizes)
        self.dtype = dtype
        self.epsilon = epsilon
        self.parameters = torch.empty(0, dtype=dtype)
        """(P,), frozen."""
        self.version = 0
        """The number of times that other parameters were frozen."""
        self._batches: dict[int, _Batch] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has launches of its own, and nothing frozen."""
        return NativeFunction, (self.sizes, self.dtype, self.epsilon)

    def freeze(self, parameters: Sequence[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        """The function for parameters as they are now: (..., num_inputs) -> (..., num_outputs).

        Args:
            parameters: the layers' weights (outputs, inputs), their biases, the normalisations'
                weights, their biases.

        Returns:
            What may be called and differentiated, second derivatives apart, until other parameters
            are frozen; later both raise RuntimeError.
        """
        vector = torch.cat([p.detach().reshape(-1) for p in parameters])
        if not torch.equal(self.parameters, vector):
            self.parameters.resize_(vector.shape).copy_(vector)
            self.version += 1
        version = self.version

        def function(x: torch.Tensor) -> torch.Tensor:
            rows = x.reshape(-1, self.sizes[0])
            output = _Apply.apply(self, version, rows)
            return output.view(*x.shape[:-1], self.sizes[-1])  # type: ignore[no-any-return]

        return function

    def batch(self, rows: int, version: int) -> _Batch:
        """The launches for so many rows, with the parameters packed."""
        if version != self.version:
            raise RuntimeError("the network: its parameters have changed since it was frozen")
        if rows not in self._batches:
            self._batches[rows] = _Batch(self, rows)
        batch = self._batches[rows]
        if batch.packed != version:
            batch.run(PACK)
            batch.packed = version
        return batch


class _Batch:
    """Launches for a number of rows, split among threads if there are many.

    The kernel's blocks stay whole, so that the split does not show in the results: rows by fours
    and single ones may be rounded differently.
    """

    def __init__(self, function: NativeFunction, rows: int) -> None:
        sizes, dtype = function.sizes, function.dtype
        plan = plan_pass(sizes)
        self.inputs, self.gradient = torch.empty(2, rows, sizes[0], dtype=dtype)
        self.output, self.seed = torch.empty(2, rows, sizes[-1], dtype=dtype)
        self.packed = -1
        """Version of the parameters in the workspaces."""
        work = rows * function.parameters.numel()
        count = max(1, min(get_num_threads(), work // SHARE))
        length = BLOCK * -(-rows // (BLOCK * count))
        rowwise = (self.inputs, self.output, self.seed, self.gradient)
        self._parts: list[list[PreparedTask]] = []
        for part in zip(*(tensor.split(length) for tensor in rowwise), strict=True):
            inputs, output, seed, gradient = part
            workspace = torch.empty(plan.size, dtype=dtype)
            self._parts.append(
                [
                    PreparedTask(
                        mlp_function_task(scalar_type(dtype)),
                        plan=torch.tensor(plan.layers, dtype=torch.int32),
                        epsilon=function.epsilon,
                        step=step,
                        parameters=function.parameters,
                        inputs=inputs,
                        output=output,
                        seed=seed,
                        gradient=gradient,
                        workspace=workspace,
                    )
                    for step in (PACK, FORWARD, BACKWARD)
                ]
            )

    def run(self, step: int) -> None:
        """Do a step for all rows."""
        others = [thread_pool().submit(part[step].launch) for part in self._parts[1:]]
        self._parts[0][step].launch()
        for other in others:
            other.result()


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: NativeFunction, version: int, x: torch.Tensor) -> torch.Tensor:
        batch = function.batch(x.shape[0], version)
        ctx.function, ctx.version = function, version
        ctx.save_for_backward(x)
        batch.inputs.copy_(x)
        batch.run(FORWARD)
        return batch.output.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, seed: torch.Tensor) -> tuple[None, None, torch.Tensor]:
        (x,) = ctx.saved_tensors
        batch = ctx.function.batch(x.shape[0], ctx.version)
        batch.inputs.copy_(x)
        batch.seed.copy_(seed)
        batch.run(BACKWARD)
        return None, None, batch.gradient.clone()


MOST_PARTS = 16
"""That products are shared out in."""


class NativeJacobian:
    """A multilayer perceptron's outputs, and their derivative J by its parameters.

    Hidden layers are Linear -> ELU -> LayerNorm, the last one is linear. It belongs to one thread
    at a time, and shares its work with others.
    """

    def __init__(self, sizes: Sequence[int], dtype: torch.dtype) -> None:
        """Prepare; what is compiled is compiled at the first call on a machine.

        Args:
            sizes: numbers of inputs, of each hidden layer's outputs, of outputs.
            dtype: that is calculated in, torch.float32 or torch.float64.
        """
        self.sizes = tuple(sizes)
        self._dtype = dtype
        self._rows: dict[int, _LinearRows] = {}
        self._at: _LinearRows | None = None

    def at(self, parameters: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Linearise there, which the products are of until the next call.

        Args:
            parameters: (P,), as `NativeDescent` takes them.
            x: (n, num_inputs).

        Returns:
            The outputs, (n, num_outputs).
        """
        if len(x) not in self._rows:
            self._rows[len(x)] = _LinearRows(self.sizes, len(x), len(parameters), self._dtype)
        self._at = self._rows[len(x)]
        self._at.parameters.copy_(parameters)
        self._at.inputs.copy_(x)
        self._at.run(LINEARISE)
        return self._at.output.clone()

    def times(self, change: torch.Tensor) -> torch.Tensor:
        """The outputs' change J v (n, num_outputs) for that of the parameters, (P,)."""
        assert self._at is not None, "at comes first"
        self._at.change.copy_(change)
        self._at.run(TIMES)
        return self._at.output.clone()

    def transposed(self, seed: torch.Tensor) -> torch.Tensor:
        """The gradient J^T u (P,) of the outputs times u, (n, num_outputs)."""
        assert self._at is not None, "at comes first"
        self._at.seed.copy_(seed)
        self._at.run(TRANSPOSED)
        return self._at.totals.sum(0)


class _LinearRows:
    """Launches for a number of rows, in parts that are the same for any number of threads."""

    def __init__(
        self, sizes: tuple[int, ...], rows: int, num_parameters: int, dtype: torch.dtype
    ) -> None:
        plan = plan_pass(sizes)
        length = -(-rows // min(2 * -(-rows // (4 * BLOCK)), MOST_PARTS))
        kept = plan.shared + plan.block * -(-length // BLOCK)
        self.parameters, self.change = torch.empty(2, num_parameters, dtype=dtype)
        self.inputs = torch.empty(rows, sizes[0], dtype=dtype)
        self.output, self.seed = torch.empty(2, rows, sizes[-1], dtype=dtype)
        rowwise = (self.inputs, self.output, self.seed)
        parts = list(zip(*(tensor.split(length) for tensor in rowwise), strict=True))
        self.totals = torch.empty(len(parts), num_parameters, dtype=dtype)
        """Of each part."""
        worth = 8 * rows * num_parameters // SHARE
        self._threads = max(1, min(get_num_threads(), worth, len(parts)))
        self._parts = [
            [
                PreparedTask(
                    mlp_jacobian_task(scalar_type(dtype)),
                    plan=torch.tensor(plan.layers, dtype=torch.int32),
                    block=plan.block,
                    epsilon=LAYER_NORM_EPS,
                    step=step,
                    parameters=self.parameters,
                    inputs=inputs,
                    output=output,
                    seed=seed,
                    change=self.change,
                    totals=totals,
                    workspace=workspace,
                )
                for step in (LINEARISE, TIMES, TRANSPOSED)
            ]
            for (inputs, output, seed), totals, workspace in zip(
                parts, self.totals, torch.zeros(len(parts), kept, dtype=dtype), strict=True
            )
        ]

    def run(self, step: int) -> None:
        """Do a step for all rows."""
        count = self._threads
        others = [thread_pool().submit(self._some, step, i) for i in range(1, count)]
        self._some(step, 0)
        for other in others:
            other.result()

    def _some(self, step: int, thread: int) -> None:
        for part in self._parts[thread :: self._threads]:
            part[step].launch()
