"""Fits of a network of one output over torch tensors on a CPU, in one launch each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gippo.networks.native_adam import AdamSettings
from gippo.networks.native_task import PreparedTask
from kernels.perceptron.fit import SETTINGS, mlp_fit_task
from kernels.perceptron.passes import plan_pass
from warp_envs.bridge.devices import scalar_type


class MlpFit:
    """Fits of a multilayer perceptron by mean squared error, over a fixed number of rows.

    Hidden layers are Linear -> ELU -> LayerNorm, the last one is linear, of one output. Fits may
    run on any thread.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rows: int,
        num_minibatches: int,
        iterations: int,
        parameters: torch.Tensor,
        mean: torch.Tensor,
        square: torch.Tensor,
        epsilon: float,
    ) -> None:
        """Compile, at the first use on a machine, and bind the tensors, which must not move.

        Args:
            sizes: numbers of inputs, of each hidden layer's outputs, of outputs.
            rows: of the inputs.
            num_minibatches: of contiguous rows, equally many but in the last; less if there are
                not as many.
            iterations: over all of them.
            parameters: (P,), as `MlpDescent` takes them; changed in place.
            mean: Adam's, (P,), which every fit goes on with.
            square: Adam's mean square, likewise.
            epsilon: added to the normalisation's variance.
        """
        most = -(-rows // num_minibatches)
        plan, size = plan_pass(sizes)
        dtype = parameters.dtype
        self.num_descents = -(-rows // most) * iterations
        """Of a fit."""
        self._settings = torch.zeros(len(SETTINGS), dtype=torch.float64)
        self._inputs = torch.empty(rows, sizes[0], dtype=dtype)
        self._target = torch.empty(rows, dtype=dtype)
        self._losses = torch.empty(-(-rows // most), dtype=dtype)
        self._fit = PreparedTask(
            mlp_fit_task(scalar_type(dtype)),
            plan=torch.tensor(plan, dtype=torch.int32),
            epsilon=epsilon,
            settings=self._settings,
            iterations=iterations,
            parameters=parameters,
            means=mean,
            squares=square,
            inputs=self._inputs,
            target=self._target,
            losses=self._losses,
            output=torch.empty(most, 1, dtype=dtype),
            totals=torch.empty_like(parameters),
            workspace=torch.empty(size, dtype=dtype),
        )

    def fit(
        self,
        inputs: torch.Tensor,
        target: torch.Tensor,
        adam: AdamSettings,
        unit: float,
        offset: float,
    ) -> torch.Tensor:
        """Descend.

        Args:
            inputs: (rows, num_inputs).
            target: (rows,), of ``unit * output + offset``.
            adam: settings of the first step.
            unit: of the network's output.
            offset: of the network's output.

        Returns:
            Each minibatch's loss before its step of the last iteration, (minibatches,).
        """
        self._inputs.copy_(inputs)
        self._target.copy_(target)
        settings = (*adam, unit, offset)
        self._settings.copy_(torch.tensor(settings, dtype=torch.float64))
        self._fit.launch()
        return self._losses.clone()
