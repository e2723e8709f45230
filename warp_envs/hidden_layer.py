"""ELU and layer normalisation of a network's hidden layer on a CPU, for torch tensors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
import warp as wp

from kernels.hidden_layer import elu_layer_norm_kernels
from warp_envs.bridge import scalar_type

# Warp's compiler keeps global state, and networks are prepared on the threads that use them.
_preparing = threading.Lock()


class EluLayerNorm:
    """LayerNorm(ELU(z)) of rows and its reverse, in buffers given once.

    `forward` and `backward` may run on any thread; torch's autograd does not see them.
    """

    def __init__(
        self,
        linear: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        gradient: torch.Tensor,
        sums: Sequence[torch.Tensor],
        epsilon: float,
    ) -> None:
        """Compile, at the first use on a machine, and bind the buffers, which must not move.

        Args:
            linear: z, (rows, width), contiguous, on the CPU; replaced by ELU(z).
            weight: of the normalisation, (width,).
            bias: of the normalisation, (width,).
            gradient: (rows, width): `backward` takes it with respect to the output, and leaves it
                there with respect to z.
            sums: what `backward` adds to, (width,) each: the gradients of weight and of bias, and
                the sum of z's over the rows.
            epsilon: added to the variance.
        """
        rows = len(linear)
        self.output = torch.empty_like(linear)
        """(rows, width)."""
        scalar = scalar_type(linear.dtype)
        mean, scale = linear.new_empty(rows), linear.new_empty(rows)
        z, w, b, g, y, m, s = (
            wp.from_torch(x.detach(), dtype=scalar, requires_grad=False)
            for x in (linear, weight, bias, gradient, self.output, mean, scale)
        )
        totals = [wp.from_torch(x, dtype=scalar, requires_grad=False) for x in sums]
        self._kept = (linear, weight, bias, gradient, mean, scale, *sums)
        with _preparing:
            forward, backward = elu_layer_norm_kernels(scalar)
            self._forward = _prepared(forward, [scalar(epsilon), z, w, b, y, m, s])
            self._backward = _prepared(backward, [z, w, m, s, g, *totals])

    def forward(self) -> torch.Tensor:
        """Turn what stands in `linear` into `output`."""
        self._forward.launch()
        return self.output

    def backward(self) -> None:
        """Turn what stands in `gradient` into the gradient with respect to z; add to `sums`."""
        self._backward.launch()


def _prepared(kernel: wp.Kernel, inputs: list[object]) -> Any:
    return wp.launch(kernel, 1, inputs=inputs, device="cpu", record_cmd=True)
