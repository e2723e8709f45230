"""The optional native passes: what torch's operations do, in one call each, on a CPU.

A small network on a few thousand samples spends half of torch's time in allocation, bookkeeping and
one sweep through memory per operation. Here an Adam step is one call, a loss with its gradient
through the network is one call, and so is a whole fit of squares; a network's pass and products
with its derivative by the parameters are in `gippo.networks.native_function`. Everything works
without: `learner.native` says whether it is used, and the tests hold each call against torch's
operations. A loss takes part where `native_twin` names its twin in `kernels.perceptron.losses`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import warp as wp

from kernels.perceptron.adam import AdamSettings, adam_task
from kernels.perceptron.native_task import NativeTask
from kernels.perceptron.passes import plan_pass
from kernels.perceptron.tasks import (
    FIT_SETTINGS,
    mlp_descent_task,
    mlp_fit_task,
)
from warp_envs.bridge.devices import scalar_type
from warp_envs.bridge.start import load_module
from warp_envs.bridge.turns import launching

__all__ = [
    "AdamSettings",
    "NativeAdam",
    "NativeDescent",
    "NativeFit",
    "native_twin",
    "twin_of",
]

LAYER_NORM_EPS = 1e-5
"""Added to the variance in a normalisation; torch's default."""

Settings = Sequence[float | torch.Tensor]
"""Of a loss, from call to call."""
Loss = TypeVar("Loss", bound=Callable[..., torch.Tensor])

_TWINS: dict[Callable[..., torch.Tensor], str] = {}


def native_twin(name: str) -> Callable[[Loss], Loss]:
    """Say that a loss has the same equations, columns and settings as one of the native losses.

    Args:
        name: of the latter, in `kernels.perceptron.losses`.
    """

    def named(loss: Loss) -> Loss:
        _TWINS[loss] = name
        return loss

    return named


def twin_of(loss: Callable[..., torch.Tensor]) -> str | None:
    """The name of a loss's native twin, None if it has none."""
    return _TWINS.get(loss)


_PREPARING = threading.Lock()
"""Warp's compiler keeps global state, and tasks are prepared on the threads that use them."""


class PreparedTask:
    """A launch that may be repeated on any thread."""

    def __init__(self, task: NativeTask, **arguments: Any) -> None:
        """Compile, at the first use on a machine, and bind the arguments.

        Args:
            task: what to launch.
            arguments: by name: torch tensors, contiguous, which must not move, and numbers.
        """
        with _PREPARING, launching():
            self._arguments = task.arguments()
            for name, value in arguments.items():
                if isinstance(value, torch.Tensor):
                    value = wp.from_torch(value.detach(), requires_grad=False)
                setattr(self._arguments, name, value)
            load_module(task.kernel.module, wp.get_device("cpu"))
            self._launch: Any = wp.launch(
                task.kernel, 1, inputs=[self._arguments], device="cpu", record_cmd=True
            )

    def launch(self) -> None:
        """Do the task."""
        with launching():
            self._launch.launch()


class NativeAdam:
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


class NativeDescent:
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
        """
        plan = plan_pass(sizes)
        dtype = parameters.dtype
        self._inputs = torch.empty(rows, sizes[0], dtype=dtype)
        self._columns = torch.empty(rows, num_columns, dtype=dtype)
        self._output = torch.empty(rows, sizes[-1], dtype=dtype)
        self._losses = torch.empty(rows, dtype=dtype)
        self._settings = torch.empty(1 + num_settings, dtype=torch.float64)
        self.workspace = torch.empty(plan.size, dtype=dtype)
        """What blocks leave for the next; `passes.plan_pass` tells where it lies."""
        self._evaluate, self._descend = (
            PreparedTask(
                mlp_descent_task(scalar_type(dtype), loss),
                plan=torch.tensor(plan.layers, dtype=torch.int32),
                epsilon=LAYER_NORM_EPS,
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
        self, x: torch.Tensor, columns: torch.Tensor, settings: Settings
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (rows,) and outputs (rows, num_outputs), which the next call overwrites.

        Args:
            x: (rows, num_inputs).
            columns: (rows, num_columns).
            settings: of the loss.
        """
        return self._run(self._evaluate, x, columns, (0.0, *settings))

    def descend(
        self, x: torch.Tensor, columns: torch.Tensor, settings: Settings, factor: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, and `factor` times the gradient of the losses' sum to `totals`."""
        return self._run(self._descend, x, columns, (factor, *settings))

    def _run(
        self,
        task: PreparedTask,
        x: torch.Tensor,
        columns: torch.Tensor,
        settings: Settings,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self._inputs.copy_(x)
        self._columns.copy_(columns)
        numbers = [float(setting) for setting in settings]
        self._settings.copy_(torch.tensor(numbers, dtype=torch.float64))
        task.launch()
        return self._losses, self._output


class NativeFit:
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
    ) -> None:
        """Compile, at the first use on a machine, and bind the tensors, which must not move.

        Args:
            sizes: numbers of inputs, of each hidden layer's outputs, of outputs.
            rows: of the inputs.
            num_minibatches: of contiguous rows, equally many but in the last; less if there are
                not as many.
            iterations: over all of them.
            parameters: (P,), as `NativeDescent` takes them; changed in place.
            mean: Adam's, (P,), which every fit goes on with.
            square: Adam's mean square, likewise.
        """
        most = -(-rows // num_minibatches)
        plan = plan_pass(sizes)
        dtype = parameters.dtype
        self.num_descents = -(-rows // most) * iterations
        """Of a fit."""
        self._settings = torch.zeros(len(FIT_SETTINGS), dtype=torch.float64)
        self._inputs = torch.empty(rows, sizes[0], dtype=dtype)
        self._target = torch.empty(rows, dtype=dtype)
        self._losses = torch.empty(-(-rows // most), dtype=dtype)
        self._fit = PreparedTask(
            mlp_fit_task(scalar_type(dtype)),
            plan=torch.tensor(plan.layers, dtype=torch.int32),
            epsilon=LAYER_NORM_EPS,
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
            workspace=torch.empty(plan.size, dtype=dtype),
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
