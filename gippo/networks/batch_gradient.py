"""Losses of a network over large batches, and their gradients with respect to its parameters.

A loss is a torch function of the network's output and of whatever else it needs of each sample:

    loss(output, *columns, *settings) -> (n,)

with output (n, num_outputs), columns (n, ...) and settings, numbers or 0-d tensors that may differ
from call to call. Its gradient is autograd's. On a CPU a loss that has a native twin is taken by
`gippo.networks.native_gradient` instead: the same numbers, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import torch

from gippo.distributed import SINGLE, Ranks
from gippo.networks.adam import ParameterVector
from gippo.networks.native import twin_of
from gippo.networks.native_gradient import NativeGradient, Part, split_in_parts
from gippo.networks.perceptron import Ensemble, Mlp

Loss = Callable[..., torch.Tensor]
Setting = float | torch.Tensor


@dataclass
class Batch:
    """Samples: a network's inputs (B, num_inputs), and what losses need beside its output."""

    inputs: torch.Tensor
    columns: tuple[torch.Tensor, ...]
    """(B, ...) each."""

    @cached_property
    def parts(self) -> list[Part]:
        """The same as the native passes take it."""
        return split_in_parts(self.inputs, self.columns)


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


class BatchGradient:
    """Mean losses over batches and their gradients with respect to a network's parameters."""

    def __init__(
        self,
        mlp: Mlp | Ensemble,
        parameters: ParameterVector,
        helper: ThreadPoolExecutor | None = None,
        ranks: Ranks = SINGLE,
    ) -> None:
        """Prepare.

        Args:
            mlp: the network; of an ensemble, losses are the means of the members' own.
            parameters: of the module that is, or holds nothing but, `mlp`.
            helper: one more thread, which native passes ask for half of the work if it is idle.
            ranks: the processes, each of which has an equal part of every batch.
        """
        self._mlp = mlp
        self._parameters = parameters
        self._ranks = ranks
        members = mlp.networks if isinstance(mlp, Ensemble) else [mlp]
        self._native: list[NativeGradient] = []
        """Of each member of an ensemble, or of the one network there is; none if torch does it."""
        if parameters.native and all(member.has_native_form for member in members):
            vectors = parameters.vector.chunk(len(members))
            self._native = [
                NativeGradient(member.sizes, vector, helper)
                for member, vector in zip(members, vectors, strict=True)
            ]

    def evaluate(
        self, batch: Batch, loss: Loss, *settings: Setting
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean loss (0-d), over all processes, and the network's outputs (B, num_outputs)."""
        twin = twin_of(loss)
        if self._native and twin is not None:
            results = [native.evaluate(batch.parts, twin, settings) for native in self._native]
            mean, output = _side_by_side(*zip(*results, strict=True))
        else:
            with torch.no_grad():
                output = self._mlp.forward(batch.inputs)
                mean = loss(output, *batch.columns, *settings).mean()
        return self._ranks.mean(mean), output

    def descent(
        self, batch: Batch, loss: Loss, *settings: Setting
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same and the mean loss's gradient, laid out as the parameter vector.

        The next call may overwrite the gradient.
        """
        twin = twin_of(loss)
        if self._native and twin is not None:
            mean, output, gradient = self._native_descent(batch, twin, settings)
        else:
            output = self._mlp.forward(batch.inputs)
            mean = loss(output, *batch.columns, *settings).mean()
            gradient = self._parameters.gradient(mean)
            mean, output = mean.detach(), output.detach()
        mean, gradient = self._ranks.means(mean, gradient)
        return mean, output, gradient

    def _native_descent(
        self, batch: Batch, twin: str, settings: Sequence[Setting]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        first, *others = self._native
        if not others:
            return first.descent(batch.parts, twin, settings)
        results = [native.descent(batch.parts, twin, settings) for native in self._native]
        means, outputs, gradients = zip(*results, strict=True)
        return (*_side_by_side(means, outputs), torch.cat(gradients) / len(results))


def _side_by_side(
    means: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """An ensemble's mean loss and outputs, of its members'."""
    if len(means) == 1:
        return means[0], outputs[0]
    return torch.stack(list(means)).mean(), torch.cat(list(outputs), dim=-1)
