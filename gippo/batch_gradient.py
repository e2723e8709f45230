"""Gradients of mean losses over large batches, without autograd's cost.

A fit evaluates one small network on the same number of samples dozens of times per epoch. Done
plainly, half of the time goes into allocation, bookkeeping and one sweep through memory per
operation, and one core stands idle. Here the passes run into buffers made once, in chunks that stay
in the cache, on a second thread as well whenever it is idle. The plain form is
`gippo.networks.Mlp.forward` under `torch.autograd.grad`: the same numbers, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch.nn.functional import elu

from gippo.distributed import SINGLE, Ranks
from gippo.networks import Mlp
from gippo.optimization import ParameterVector
from warp_envs.hidden_layer import EluLayerNorm

CHUNK = 2048
"""Samples per pass on a CPU at most, where a layer's buffers should stay in the cache; a batch of
that many is worth two passes, for two threads."""
LAYER_NORM_EPS = 1e-5
"""torch's default."""

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


class _Layer(NamedTuple):
    """A hidden layer's weights and its buffers."""

    weight: torch.Tensor
    """(width, number of inputs)."""
    bias: torch.Tensor
    linear: torch.Tensor
    """(rows, width), before the activation; see `activation` for what it becomes."""
    activation: EluLayerNorm | PlainEluLayerNorm
    gradient: torch.Tensor
    """Of the output, then of `linear`, (rows, width)."""
    product: torch.Tensor
    """See `_add_product`."""
    weight_gradient: torch.Tensor
    """Where it is added to."""


class MlpPass:
    """Passes of an Mlp over a fixed number of rows, forward and then backward."""

    def __init__(self, mlp: Mlp, rows: int, gradients: Sequence[torch.Tensor]) -> None:
        """Allocate the buffers; the parameters are the network's own, as they are at each pass.

        Args:
            mlp: the network.
            rows: of the inputs.
            gradients: what `backward` adds to, shaped and ordered as the network's parameters.
        """
        hidden, (weight, bias) = mlp.layers
        n = len(hidden)
        weights, biases, norms = (
            gradients[: n + 1],
            gradients[n + 1 : 2 * n + 2],
            gradients[-2 * n :],
        )
        activation = EluLayerNorm if weight.device.type == "cpu" else PlainEluLayerNorm
        self._hidden: list[_Layer] = []
        for i, parameters in enumerate(hidden):
            w, b, norm_weight, norm_bias = (p.detach() for p in parameters)
            linear, gradient = w.new_empty(rows, len(w)), w.new_empty(rows, len(w))
            sums = (norms[i], norms[n + i], biases[i])
            normalized = activation(linear, norm_weight, norm_bias, gradient, sums, LAYER_NORM_EPS)
            product = _product_buffer(w)
            self._hidden.append(_Layer(w, b, linear, normalized, gradient, product, weights[i]))
        self._weight, self._bias = weight.detach(), bias.detach()
        self._output = self._weight.new_empty(rows, len(bias))
        self._product = _product_buffer(self._weight)
        self._weight_gradient, self._bias_gradient = weights[n], biases[n]
        self._inputs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (rows, num_inputs) to (rows, num_outputs), a buffer that the next pass overwrites."""
        self._inputs = [x]
        for layer in self._hidden:
            torch.addmm(layer.bias, x, layer.weight.t(), out=layer.linear)
            x = layer.activation.forward()
            self._inputs.append(x)
        return torch.addmm(self._bias, x, self._weight.t(), out=self._output)

    def backward(self, gradient: torch.Tensor) -> None:
        """Add the parameters' gradients, given that of the last output, once per forward pass."""
        self._bias_gradient.add_(gradient.sum(0))
        _add_product(self._weight_gradient, gradient, self._inputs[-1], self._product)
        weight = self._weight
        for layer, x in zip(reversed(self._hidden), reversed(self._inputs[:-1]), strict=True):
            torch.mm(gradient, weight, out=layer.gradient)
            layer.activation.backward()
            gradient, weight = layer.gradient, layer.weight
            _add_product(layer.weight_gradient, gradient, x, layer.product)


def _add_product(
    total: torch.Tensor, gradient: torch.Tensor, x: torch.Tensor, buffer: torch.Tensor
) -> None:
    """Add gradient^T x, (width, number of inputs), to `total` by way of a buffer.

    The product is made with its longer side last, as the buffer's shape says: with few inputs, as
    robots have, the other way takes up to six times as long.
    """
    if buffer.shape == total.shape:
        total.add_(torch.mm(gradient.t(), x, out=buffer))
    else:
        total.add_(torch.mm(x.t(), gradient, out=buffer).t())


def _product_buffer(weight: torch.Tensor) -> torch.Tensor:
    """For `_add_product` to a gradient of the weight's shape."""
    width, num_inputs = weight.shape
    return weight.new_empty((width, num_inputs) if num_inputs >= width else (num_inputs, width))


class PlainEluLayerNorm:
    """`warp_envs.hidden_layer.EluLayerNorm` by torch's operations, for other devices."""

    def __init__(
        self,
        linear: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        gradient: torch.Tensor,
        sums: Sequence[torch.Tensor],
        epsilon: float,
    ) -> None:
        """Bind the buffers."""
        self._linear, self._weight, self._bias, self._gradient = linear, weight, bias, gradient
        self._sums = sums
        self._epsilon = epsilon
        self._moments = (weight, weight)

    def forward(self) -> torch.Tensor:
        """Turn what stands in `linear` into LayerNorm(ELU(linear)), (rows, width)."""
        elu(self._linear, inplace=True)
        output, *self._moments = torch.native_layer_norm(
            self._linear, self._bias.shape, self._weight, self._bias, self._epsilon
        )
        return output

    def backward(self) -> None:
        """Turn what stands in `gradient` into the gradient with respect to z; add to `sums`."""
        before, of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(
            self._gradient,
            self._linear,
            self._bias.shape,
            *self._moments,
            self._weight,
            self._bias,
            [True, True, True],
        )
        torch.mul(before, self._linear.clamp(max=0.0).add_(1.0), out=self._gradient)
        for total, value in zip(
            self._sums, (of_weight, of_bias, self._gradient.sum(0)), strict=True
        ):
            total.add_(value)


class _Worker:
    """One thread's passes and the gradient they sum up."""

    def __init__(self, mlp: Mlp, parameters: ParameterVector) -> None:
        self._mlp = mlp
        self._passes: dict[int, MlpPass] = {}
        self.gradient = torch.zeros_like(parameters.vector)
        self._views = parameters.views(self.gradient)

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

    def _pass(self, rows: int) -> MlpPass:
        if rows not in self._passes:
            self._passes[rows] = MlpPass(self._mlp, rows, self._views)
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
