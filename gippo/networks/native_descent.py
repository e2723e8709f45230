"""Mean losses of a network over torch tensors on a CPU and their gradients, in one launch each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gippo.networks.native_task import PreparedTask
from kernels.perceptron.descent import mlp_descent_task
from kernels.perceptron.passes import plan_pass
from warp_envs.bridge.devices import scalar_type


class MlpDescent:
    """Losses of a multilayer perceptron over a fixed number of rows, and their gradient.

    Hidden layers are Linear -> ELU -> LayerNorm, the last one is linear. It may run on any thread;
    torch's autograd does not see it.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rows: int,
        num_columns: int,
        loss: str,
        num_settings: int,
        parameters: torch.Tensor,
        totals: torch.Tensor,
        epsilon: float,
    ) -> None:
        """Compile, at the first use on a machine, and bind the tensors, which must not move.

        Args:
            sizes: numbers of inputs, of each hidden layer's outputs, of outputs.
            rows: of the inputs.
            num_columns: that the loss needs beside the network's output.
            loss: the name of one of `kernels.perceptron.losses`.
            num_settings: the loss's.
            parameters: (P,): the layers' weights (outputs, inputs), their biases, the
                normalisations' weights, their biases; as they are at each call.
            totals: (P,), where gradients are written.
            epsilon: added to the normalisation's variance.
        """
        plan, size = plan_pass(sizes)
        dtype = parameters.dtype
        self._inputs = torch.empty(rows, sizes[0], dtype=dtype)
        self._columns = torch.empty(rows, num_columns, dtype=dtype)
        self._output = torch.empty(rows, sizes[-1], dtype=dtype)
        self._losses = torch.empty(rows, dtype=dtype)
        self._settings = torch.empty(1 + num_settings, dtype=torch.float64)
        self.workspace = torch.empty(size, dtype=dtype)
        """What blocks leave for the next; `passes.plan_pass` tells where it lies."""
        self._evaluate, self._descend = (
            PreparedTask(
                mlp_descent_task(scalar_type(dtype), loss),
                plan=torch.tensor(plan, dtype=torch.int32),
                epsilon=epsilon,
                descend=flag,
                settings=self._settings,
                parameters=parameters,
                inputs=self._inputs,
                columns=self._columns,
                output=self._output,
                losses=self._losses,
                totals=totals,
                workspace=self.workspace,
            )
            for flag in (0, 1)
        )

    def evaluate(
        self, x: torch.Tensor, columns: torch.Tensor, settings: Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (rows,) and outputs (rows, num_outputs), which the next call overwrites.

        Args:
            x: (rows, num_inputs).
            columns: (rows, num_columns).
            settings: of the loss.
        """
        return self._run(self._evaluate, x, columns, (0.0, *settings))

    def descend(
        self, x: torch.Tensor, columns: torch.Tensor, settings: Sequence[float], factor: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, and `factor` times the gradient of the losses' sum to `totals`."""
        return self._run(self._descend, x, columns, (factor, *settings))

    def _run(
        self,
        task: PreparedTask,
        x: torch.Tensor,
        columns: torch.Tensor,
        settings: tuple[float, ...],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self._inputs.copy_(x)
        self._columns.copy_(columns)
        self._settings.copy_(torch.tensor(settings, dtype=torch.float64))
        task.launch()
        return self._losses, self._output
