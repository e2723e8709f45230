"""Gradients of mean losses over large batches, without autograd's cost.

A fit evaluates one small network on the same number of samples dozens of times per epoch. Done
plainly, half of the time goes into allocation, bookkeeping and one sweep through memory per
operation, and one core stands idle. Here, on a CPU, network, losses and all that goes back are one
call, for half of a large batch, and the other half is a second thread's whenever it is idle. The
plain form is `gippo.networks.perceptron.Mlp.forward` under `torch.autograd.grad`: the same numbers,
to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch.nn.functional import elu

from gippo.distributed import SINGLE, Ranks
from gippo.networks.adam import ParameterVector
from gippo.networks.native_descent import MlpDescent
from gippo.networks.perceptron import LAYER_NORM_EPS, Mlp

SPLIT = 2048
"""Samples that are worth two threads."""

Evaluated = tuple[torch.Tensor, torch.Tensor]
"""Losses (n,) and outputs (n, num_outputs)."""


@dataclass(frozen=True)
class SampleLoss:
    """A loss of each sample, twice: as torch operations and for one call on a CPU."""

    plain: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    """outputs (n, num_outputs), *columns (n, ...) -> each sample's loss (n,) and its gradient with
    respect to the sample's outputs (n, num_outputs), a new tensor."""
    native: str
    """The same of the same columns side by side, (n, all), by its name in
    `kernels.perceptron.losses`."""
    settings: tuple[float, ...] = ()
    """Of the latter."""


class Batch(NamedTuple):
    """Samples, split as they are worked on."""

    parts: list[tuple[torch.Tensor, ...]]
    """Inputs and columns of each."""
    size: int


class _PlainPass:
    """The network's passes by torch's operations, for devices other than a CPU."""

    def __init__(self, mlp: Mlp, gradients: Sequence[torch.Tensor]) -> None:
        """Take the network, and where `backward` writes, in its parameters' order."""
        self._hidden, self._last = mlp.layers
        n = len(self._hidden)
        self._of_weights, self._of_biases = gradients[: n + 1], gradients[n + 1 : 2 * n + 2]
        self._of_norms = list(zip(gradients[-2 * n : -n], gradients[-n:], strict=True))
        self._inputs: list[torch.Tensor] = []
        self._activations: list[tuple[torch.Tensor, ...]] = []

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (rows, num_inputs) to (rows, num_outputs)."""
        self._inputs, self._activations = [x], []
        for weight, bias, norm_weight, norm_bias in self._hidden:
            z = elu(torch.addmm(bias, x, weight.t()), inplace=True)
            x, mean, scale = torch.native_layer_norm(
                z, norm_bias.shape, norm_weight, norm_bias, LAYER_NORM_EPS
            )
            self._activations.append((z, mean, scale))
            self._inputs.append(x)
        weight, bias = self._last
        return torch.addmm(bias, x, weight.t())

    @torch.no_grad()
    def backward(self, gradient: torch.Tensor) -> None:
        """Write the parameters' gradients, given that of the last output."""
        weight = self._last[0]
        for i in range(len(self._hidden), -1, -1):
            if i < len(self._hidden):
                _, _, norm_weight, norm_bias = self._hidden[i]
                z, mean, scale = self._activations[i]
                gradient, *of_norm = torch.ops.aten.native_layer_norm_backward(
                    gradient @ weight,
                    z,
                    norm_bias.shape,
                    mean,
                    scale,
                    norm_weight,
                    norm_bias,
                    [True, True, True],
                )
                for total, value in zip(self._of_norms[i], of_norm, strict=True):
                    total.copy_(value)
                gradient = gradient * z.clamp(max=0.0).add_(1.0)
                weight = self._hidden[i][0]
            self._of_biases[i].copy_(gradient.sum(0))
            torch.mm(gradient.t(), self._inputs[i], out=self._of_weights[i])


class _Worker(Protocol):
    """Works on a part of a batch at a time."""

    gradient: torch.Tensor
    """What `descend` leaves, laid out as the parameter vector."""

    def evaluate(self, part: tuple[torch.Tensor, ...], loss: SampleLoss) -> Evaluated:
        """Of the part's samples; the next call may overwrite them."""
        ...

    def descend(self, part: tuple[torch.Tensor, ...], loss: SampleLoss, share: float) -> Evaluated:
        """The same, and the gradient, to which each sample gives its `share`."""
        ...


class _NativeWorker:
    """On a CPU, in one call."""

    def __init__(self, mlp: Mlp, parameters: ParameterVector) -> None:
        self._sizes = mlp.sizes
        self._vector = parameters.vector
        self.gradient = torch.zeros_like(parameters.vector)
        self._descents: dict[tuple[int, str], MlpDescent] = {}

    def evaluate(self, part: tuple[torch.Tensor, ...], loss: SampleLoss) -> Evaluated:
        inputs, columns = part
        return self._descent(part, loss).evaluate(inputs, columns, loss.settings)

    def descend(self, part: tuple[torch.Tensor, ...], loss: SampleLoss, share: float) -> Evaluated:
        inputs, columns = part
        return self._descent(part, loss).descend(inputs, columns, loss.settings, share)

    def _descent(self, part: tuple[torch.Tensor, ...], loss: SampleLoss) -> MlpDescent:
        inputs, columns = part
        key = (len(inputs), loss.native)
        if key not in self._descents:
            self._descents[key] = MlpDescent(
                self._sizes,
                len(inputs),
                columns.shape[1],
                loss.native,
                len(loss.settings),
                self._vector,
                self.gradient,
                LAYER_NORM_EPS,
            )
        return self._descents[key]


class _PlainWorker:
    """On any device, by torch's operations."""

    def __init__(self, mlp: Mlp, parameters: ParameterVector) -> None:
        self.gradient = torch.zeros_like(parameters.vector)
        self._pass = _PlainPass(mlp, parameters.views(self.gradient))

    def evaluate(self, part: tuple[torch.Tensor, ...], loss: SampleLoss) -> Evaluated:
        inputs, *columns = part
        output = self._pass.forward(inputs)
        return loss.plain(output, *columns)[0], output

    def descend(self, part: tuple[torch.Tensor, ...], loss: SampleLoss, share: float) -> Evaluated:
        inputs, *columns = part
        output = self._pass.forward(inputs)
        losses, gradient = loss.plain(output, *columns)
        self._pass.backward(gradient.mul_(share))
        return losses, output


def helper_thread() -> ThreadPoolExecutor:
    """One more thread, whose numbers are those of the calling one to the last bit.

    How many threads torch's operations use is each thread's own setting, and the products of small
    matrices are rounded differently for another number.
    """
    return ThreadPoolExecutor(
        1,
        thread_name_prefix="update",
        initializer=torch.set_num_threads,
        initargs=(torch.get_num_threads(),),
    )


Work = Callable[[_Worker, tuple[torch.Tensor, ...]], Evaluated]


class BatchGradient:
    """Losses over batches and their gradients with respect to a network's parameters.

    A batch is split into the same halves, which are summed in the same order, whether a second
    thread had time to help or not.
    """

    def __init__(
        self,
        mlp: Mlp,
        parameters: ParameterVector,
        helper: ThreadPoolExecutor | None = None,
        ranks: Ranks = SINGLE,
    ) -> None:
        """Prepare.

        Args:
            mlp: the network.
            parameters: of the module that is, or holds nothing but, `mlp`.
            helper: one more thread, asked for half of the work if it is idle.
            ranks: the processes, each of which has an equal part of every batch.
        """
        self._on_cpu = parameters.vector.device.type == "cpu"
        self._workers: list[_Worker] = [_PlainWorker(mlp, parameters)]
        if self._on_cpu:
            self._workers = [_NativeWorker(mlp, parameters) for _ in range(2)]
        self._helper = helper
        self._ranks = ranks

    def batch(self, inputs: torch.Tensor, *columns: torch.Tensor) -> Batch:
        """Split inputs (B, num_inputs) and whatever else the losses need, (B, ...) each."""
        size = len(inputs)
        if not self._on_cpu:
            return Batch([(inputs, *columns)], size)
        side_by_side = torch.cat([column.reshape(size, -1) for column in columns], dim=1)
        count = 2 if size >= SPLIT else 1
        split = (column.tensor_split(count) for column in (inputs, side_by_side))
        return Batch(list(zip(*split, strict=True)), size)

    def evaluate(self, batch: Batch, loss: SampleLoss) -> Evaluated:
        """The mean loss (0-d), over all processes, and the network's outputs (B, num_outputs)."""
        mean, outputs = self._share(lambda worker, part: worker.evaluate(part, loss), batch)
        return self._ranks.mean(mean), outputs

    def descent(
        self, batch: Batch, loss: SampleLoss
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same and the mean loss's gradient, laid out as the parameter vector.

        The next call overwrites the gradient.
        """
        share = 1.0 / batch.size
        mean, outputs = self._share(lambda worker, part: worker.descend(part, loss, share), batch)
        gradient = self._workers[0].gradient
        if len(batch.parts) > 1:
            gradient.add_(self._workers[1].gradient)
        mean, gradient = self._ranks.means(mean, gradient)
        return mean, outputs, gradient

    def _share(self, work: Work, batch: Batch) -> Evaluated:
        """Do the first half here, and the second on the helper unless it is busy elsewhere.

        Returns:
            The mean loss, and all outputs, a new tensor.
        """
        if len(batch.parts) == 1:
            losses, output = work(self._workers[0], batch.parts[0])
            return losses.mean(), output.clone()
        (here, other), (first, second) = self._workers, batch.parts
        if self._helper is None:
            halves = work(here, first), work(other, second)
        else:
            future = self._helper.submit(work, other, second)
            try:
                own = work(here, first)
            except BaseException:
                future.cancel()
                raise
            halves = own, work(other, second) if future.cancel() else future.result()
        losses, outputs = zip(*halves, strict=True)
        return torch.cat(losses).mean(), torch.cat(outputs)
