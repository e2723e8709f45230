"""A network with constant parameters as a function of torch tensors on a CPU, one launch a pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from gippo.networks.native_task import PreparedTask
from kernels.perceptron.function import BACKWARD, FORWARD, PACK, mlp_function_task
from kernels.perceptron.passes import BLOCK, plan_pass
from warp_envs.bridge.devices import scalar_type
from warp_envs.bridge.threads import get_num_threads, thread_pool

SHARE = 10_000_000
"""Multiplications that are worth a thread: some 300 microseconds. From a tenth of it nothing is
gained."""


class MlpFunction:
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
        """How often other parameters were frozen."""
        self._batches: dict[int, _Batch] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has launches of its own, and nothing frozen."""
        return MlpFunction, (self.sizes, self.dtype, self.epsilon)

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

    def __init__(self, function: MlpFunction, rows: int) -> None:
        sizes, dtype = function.sizes, function.dtype
        plan, size = plan_pass(sizes)
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
            workspace = torch.empty(size, dtype=dtype)
            self._parts.append(
                [
                    PreparedTask(
                        mlp_function_task(scalar_type(dtype)),
                        plan=torch.tensor(plan, dtype=torch.int32),
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
    def forward(ctx: Any, function: MlpFunction, version: int, x: torch.Tensor) -> torch.Tensor:
        batch = function.batch(len(x), version)
        ctx.function, ctx.version = function, version
        ctx.save_for_backward(x)
        batch.inputs.copy_(x)
        batch.run(FORWARD)
        return batch.output.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, seed: torch.Tensor) -> tuple[None, None, torch.Tensor]:
        (x,) = ctx.saved_tensors
        batch = ctx.function.batch(len(x), ctx.version)
        batch.inputs.copy_(x)
        batch.seed.copy_(seed)
        batch.run(BACKWARD)
        return None, None, batch.gradient.clone()
