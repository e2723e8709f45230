"""Adam's steps on a torch vector on a CPU, in one launch each."""

from __future__ import annotations

import torch

from gippo.networks.native_task import PreparedTask
from kernels.perceptron.adam import AdamSettings, adam_task
from warp_envs.bridge.devices import scalar_type

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
        self._step = PreparedTask(
            adam_task(scalar_type(parameters.dtype)),
            settings=self._settings,
            gradient=self._gradient,
            parameters=parameters,
            means=mean,
            squares=square,
        )

    def step(self, gradient: torch.Tensor, settings: AdamSettings) -> None:
        """Descend once along `gradient`, (P,)."""
        self._gradient.copy_(gradient)
        self._settings.copy_(torch.tensor(settings, dtype=torch.float64))
        self._step.launch()
