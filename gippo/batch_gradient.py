"""Gradients of mean losses over large batches, without autograd's cost.

A fit evaluates one small network on the same number of samples dozens of times per epoch. Done
plainly, half of the time goes into allocation, bookkeeping and one sweep through memory per
operation, and one core stands idle. Here a pass forward or backward is one call (on a CPU), in two
chunks or more, on a second thread as well whenever it is idle. The plain form is
`gippo.networks.Mlp.forward` under `torch.autograd.grad`: the same numbers, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch.nn.functional import elu

from gippo.distributed import SINGLE, Ranks
from gippo.networks import LAYER_NORM_EPS, Mlp
from gippo.optimization import ParameterVector
from warp_envs.mlp_pass import MlpPass

CHUNK = 2048
"""Samples per pass on a CPU at most; a batch of that many is worth two passes, for two threads."""

SampleLosses = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""outputs (n, num_outputs), *columns (n, ...) -> each sample's loss (n,) and its gradient with
respect to the sample's outputs (n, num_outputs), a new tensor."""

Chunks = list[tuple[torch.Tensor, ...]]
Evaluated = tuple[torch.Tensor, torch.Tensor]
"""Losses and outputs."""


class Batch(NamedTuple):
    """Samples, split as they are worked on."""

    chunks: Chunks
    """Inputs and further columns of each."""
    share: torch.Tensor
    """Of a sample in the mean, 0-d."""


class PlainMlpPass:
    """`warp_envs.mlp_pass.MlpPass` by torch's operations, for other devices and any rows."""

    def __init__(self, mlp: Mlp, gradients: Sequence[torch.Tensor]) -> None:
        """Take the network, and what `backward` adds to, in its parameters' order."""
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
        """Add the parameters' gradients, given that of the last output, once per forward pass."""
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
                    total.add_(value)
                gradient = gradient * z.clamp(max=0.0).add_(1.0)
                weight = self._hidden[i][0]
            self._of_biases[i].add_(gradient.sum(0))
            self._of_weights[i].addmm_(gradient.t(), self._inputs[i])


class _Worker:
    """One thread's passes and the gradient they sum up."""

    def __init__(self, mlp: Mlp, parameters: ParameterVector) -> None:
        self._sizes = mlp.sizes
        self._vector = parameters.vector
        self.gradient = torch.zeros_like(parameters.vector)
        self._passes: dict[int, MlpPass] = {}
        self._plain = PlainMlpPass(mlp, parameters.views(self.gradient))

    def evaluate(self, chunks: Chunks, losses: SampleLosses) -> list[Evaluated]:
        """Losses (n,) and outputs of each chunk."""
        results = []
        for inputs, *columns in chunks:
            output = self._pass(len(inputs)).forward(inputs).clone()
            results.append((losses(output, *columns)[0], output))
        return results

    def descend(self, chunks: Chunks, losses: SampleLosses, share: torch.Tensor) -> list[Evaluated]:
        """The same, and `gradient` anew, to which each sample gives its `share`."""
        self.gradient.zero_()
        results = []
        for inputs, *columns in chunks:
            network = self._pass(len(inputs))
            output = network.forward(inputs).clone()
            values, gradient = losses(output, *columns)
            network.backward(gradient.mul_(share))
            results.append((values, output))
        return results

    def _pass(self, rows: int) -> MlpPass | PlainMlpPass:
        if self._vector.device.type != "cpu":
            return self._plain
        if rows not in self._passes:
            self._passes[rows] = MlpPass(
                self._sizes, rows, self._vector, self.gradient, LAYER_NORM_EPS
            )
        return self._passes[rows]


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


Work = Callable[[_Worker, Chunks], list[Evaluated]]


class BatchGradient:
    """Losses over batches and their gradients with respect to a network's parameters.

    A batch is split into the same chunks, which are summed in the same order, whether a second
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
        self._workers = [_Worker(mlp, parameters), _Worker(mlp, parameters)]
        self._helper = helper
        self._ranks = ranks
        self._on_cpu = parameters.vector.device.type == "cpu"

    def batch(self, inputs: torch.Tensor, *columns: torch.Tensor) -> Batch:
        """Split inputs (B, num_inputs) and whatever else the losses need, (B, ...) each."""
        size = len(inputs)
        parts = max(2, -(-size // CHUNK)) if self._on_cpu and size >= CHUNK else 1
        split = (column.tensor_split(parts) for column in (inputs, *columns))
        chunks = list(zip(*split, strict=True))
        return Batch(chunks, inputs.new_full((), 1.0 / size))

    def evaluate(self, batch: Batch, losses: SampleLosses) -> Evaluated:
        """The mean loss (0-d), over all processes, and the network's outputs (B, num_outputs)."""
        loss, outputs = _mean(
            self._share(lambda worker, chunks: worker.evaluate(chunks, losses), batch.chunks)
        )
        return self._ranks.mean(loss), outputs

    def descent(
        self, batch: Batch, losses: SampleLosses
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same and the mean loss's gradient, laid out as the parameter vector.

        The next call overwrites the gradient.
        """
        results = self._share(
            lambda worker, chunks: worker.descend(chunks, losses, batch.share), batch.chunks
        )
        gradient = self._workers[0].gradient
        if len(results) > 1:
            gradient.add_(self._workers[1].gradient)
        loss, outputs = _mean(results)
        loss, gradient = self._ranks.means(loss, gradient)
        return loss, outputs, gradient

    def _share(self, work: Work, chunks: Chunks) -> list[Evaluated]:
        """Do the first half here, and the second on the helper unless it is busy elsewhere."""
        here, other = self._workers
        half = (len(chunks) + 1) // 2
        if half == len(chunks):
            return work(here, chunks)
        if self._helper is None:
            return work(here, chunks[:half]) + work(other, chunks[half:])
        future = self._helper.submit(work, other, chunks[half:])
        try:
            first = work(here, chunks[:half])
        except BaseException:
            future.cancel()
            raise
        return first + (work(other, chunks[half:]) if future.cancel() else future.result())


def _mean(results: list[Evaluated]) -> Evaluated:
    """The mean loss, and all outputs."""
    if len(results) == 1:
        return results[0][0].mean(), results[0][1]
    losses, outputs = zip(*results, strict=True)
    return torch.cat(losses).mean(), torch.cat(outputs)
