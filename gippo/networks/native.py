"""The optional native passes: what torch's operations do, in one call each, on a CPU.

A small network on a few thousand samples spends half of torch's time in allocation, bookkeeping and
one sweep through memory per operation. Here an Adam step is one call, a loss with its gradient
through the network is one call, and so are a whole fit of squares, a pass of a network whose
parameters stand still, with its reverse, and a product with its derivative by the parameters.
Everything works without: `learner.native` says whether it is used, and the tests hold each call
against torch's operations. A loss takes part where `native_twin` names its twin in
`kernels.perceptron.losses`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import warp as wp
from torch.autograd.function import once_differentiable

from kernels.perceptron.adam import AdamSettings, adam_task
from kernels.perceptron.native_task import NativeTask
from kernels.perceptron.passes import BLOCK, plan_pass
from kernels.perceptron.tasks import (
    BACKWARD,
    FIT_SETTINGS,
    FORWARD,
    LINEARISE,
    PACK,
    TIMES,
    TRANSPOSED,
    mlp_descent_task,
    mlp_fit_task,
    mlp_function_task,
    mlp_jacobian_task,
)
from warp_envs.bridge.devices import scalar_type
from warp_envs.bridge.start import load_module
from warp_envs.bridge.threads import get_num_threads, thread_pool
from warp_envs.bridge.turns import launching

__all__ = [
    "AdamSettings",
    "NativeAdam",
    "NativeDescent",
    "NativeFit",
    "NativeFunction",
    "NativeJacobian",
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
