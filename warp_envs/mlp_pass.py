"""Passes of a network over torch tensors on a CPU, in one launch each."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
import warp as wp

from kernels.mlp_pass import mlp_pass_kernels, plan_pass
from warp_envs.bridge import scalar_type

PREPARING = threading.Lock()
"""Warp's compiler keeps global state, and networks are prepared on the threads that use them."""


class MlpPass:
    """Passes of a multilayer perceptron over a fixed number of rows, forward and then backward.

    Hidden layers are Linear -> ELU -> LayerNorm, the last one is linear. Passes may run on any
    thread; torch's autograd does not see them.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rows: int,
        parameters: torch.Tensor,
        totals: torch.Tensor,
        epsilon: float,
    ) -> None:
        """Compile, at the first use on a machine, and bind the tensors, which must not move.

        Args:
            sizes: numbers of inputs, of each hidden layer's outputs, of outputs.
            rows: of the inputs.
            parameters: (P,): the layers' weights (outputs, inputs), their biases, the
                normalisations' weights, their biases; as they are at each pass.
            totals: (P,), what `backward` adds to.
            epsilon: added to the normalisation's variance.
        """
        plan, size = plan_pass(sizes, rows)
        dtype = parameters.dtype
        self._inputs = torch.empty(rows, sizes[0], dtype=dtype)
        self._output, self._gradient = torch.empty(2, rows, sizes[-1], dtype=dtype)
        self.workspace = torch.empty(size, dtype=dtype)
        """What passes leave for the next; `kernels.mlp_pass.plan_pass` tells where it lies."""
        scalar = scalar_type(dtype)
        tensors = (parameters, self._inputs, self._output, self._gradient, totals, self.workspace)
        p, x, y, g, t, w = (
            wp.from_torch(tensor.detach(), dtype=scalar, requires_grad=False) for tensor in tensors
        )
        table = wp.array(plan, dtype=int, ndim=2, device="cpu")
        self._kept = (parameters, totals, table)
        with PREPARING:
            forward, backward = mlp_pass_kernels(scalar)
            self._forward = prepared(forward, [table, scalar(epsilon), p, x, y, w])
            self._backward = prepared(backward, [table, p, g, t, w])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (rows, num_inputs) to (rows, num_outputs), a buffer that the next pass overwrites."""
        self._inputs.copy_(x)
        self._forward.launch()
        return self._output

    def backward(self, gradient: torch.Tensor) -> None:
        """Add the parameters' gradients, given that of the last output, once per forward pass."""
        self._gradient.copy_(gradient)
        self._backward.launch()


def prepared(kernel: wp.Kernel, inputs: list[object]) -> Any:
    """A launch of one task, to be repeated with the same arguments."""
    return wp.launch(kernel, 1, inputs=inputs, device="cpu", record_cmd=True)
