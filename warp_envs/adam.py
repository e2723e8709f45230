"""Adam's steps on a torch vector on a CPU, in one launch each."""

from __future__ import annotations

import torch
import warp as wp

from kernels.adam import AdamSettings, adam_kernel
from warp_envs.bridge import scalar_type
from warp_envs.mlp_descent import PREPARING, prepared

__all__ = ["AdamSettings", "AdamStep"]


class AdamStep:
    """Steps of parameters along gradients."""

    def __init__(self, parameters: torch.Tensor, mean: torch.Tensor, square: torch.Tensor) -> None:
        """Compile, at the first use on a machine, and bind the tensors, which must not move.

        Args:
            parameters: (P,), changed in place.
            mean: Adam's, (P,), likewise.
            square: Adam's mean square, (P,), likewise.
        """
        self._gradient = torch.empty_like(parameters)
        self._settings = torch.empty(len(AdamSettings._fields), dtype=torch.float64)
        tensors = (self._settings, self._gradient, parameters, mean, square)
        self._kept = tensors
        arrays: list[object] = [
            wp.from_torch(tensor.detach(), requires_grad=False) for tensor in tensors
        ]
        with PREPARING:
            self._step = prepared(adam_kernel(scalar_type(parameters.dtype)), arrays)

    def step(self, gradient: torch.Tensor, settings: AdamSettings) -> None:
        """Descend once along `gradient`, (P,)."""
        self._gradient.copy_(gradient)
        self._settings.copy_(torch.tensor(settings, dtype=torch.float64))
        self._step.launch()
