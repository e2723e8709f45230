"""Native losses over batches and their gradients, by two threads if there is another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from gippo.networks.native import NativeDescent, Settings

SPLIT = 2048
"""Samples that are worth two threads."""

Part = tuple[torch.Tensor, torch.Tensor]
"""Some samples' inputs, and all columns that their loss needs side by side."""
Evaluated = tuple[torch.Tensor, torch.Tensor]
"""Losses (n,) and outputs (n, num_outputs)."""
Work = Callable[["_Worker", Part], Evaluated]


def split_in_parts(inputs: torch.Tensor, columns: Sequence[torch.Tensor]) -> list[Part]:
    """Lay a batch out as `NativeGradient` takes it: (B, num_inputs), and (B, ...) each."""
    size = len(inputs)
    side_by_side = torch.cat([column.reshape(size, -1) for column in columns], dim=1)
    count = 2 if size >= SPLIT else 1
    return list(zip(inputs.tensor_split(count), side_by_side.tensor_split(count), strict=True))


class _Worker:
    """Works on a part of a batch at a time; the next call may overwrite what it returns."""

    def __init__(self, sizes: Sequence[int], parameters: torch.Tensor) -> None:
        self._sizes = sizes
        self._parameters = parameters
        self.gradient = torch.zeros_like(parameters)
        """What `descend` leaves."""
        self._descents: dict[tuple[int, str], NativeDescent] = {}

    def evaluate(self, part: Part, twin: str, settings: Settings) -> Evaluated:
        """Of the part's samples."""
        return self._descent(part, twin, settings).evaluate(*part, settings)

    def descend(self, part: Part, twin: str, settings: Settings, share: float) -> Evaluated:
        """The same, and the gradient, to which each sample gives its `share`."""
        return self._descent(part, twin, settings).descend(*part, settings, share)

    def _descent(self, part: Part, twin: str, settings: Settings) -> NativeDescent:
        inputs, columns = part
        key = (len(inputs), twin)
        if key not in self._descents:
            self._descents[key] = NativeDescent(
                self._sizes,
                len(inputs),
                columns.shape[1],
                twin,
                len(settings),
                self._parameters,
                self.gradient,
            )
        return self._descents[key]


class NativeGradient:
    """Mean losses over batches and their gradients, by two threads if there is another.

    A large batch is split into the same halves, which are summed in the same order, whether a
    second thread had time to help or not.
    """

    def __init__(
        self, sizes: Sequence[int], parameters: torch.Tensor, helper: ThreadPoolExecutor | None
    ) -> None:
        """Prepare.

        Args:
            sizes: the network's, as `NativeDescent` takes them.
            parameters: (P,), likewise.
            helper: one more thread, asked for half of the work if it is idle.
        """
        self._workers = [_Worker(sizes, parameters) for _ in range(2)]
        self._helper = helper

    def evaluate(self, parts: list[Part], twin: str, settings: Settings) -> Evaluated:
        """The mean loss (0-d) and the network's outputs (B, num_outputs)."""
        return self._share(lambda worker, part: worker.evaluate(part, twin, settings), parts)

    def descent(
        self, parts: list[Part], twin: str, settings: Settings
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same and the mean loss's gradient (P,), which the next call overwrites."""
        share = 1.0 / sum(len(inputs) for inputs, _ in parts)
        mean, outputs = self._share(
            lambda worker, part: worker.descend(part, twin, settings, share), parts
        )
        gradient = self._workers[0].gradient
        if len(parts) > 1:
            gradient.add_(self._workers[1].gradient)
        return mean, outputs, gradient

    def _share(self, work: Work, parts: list[Part]) -> Evaluated:
        """Do the first half here, and the second on the helper unless it is busy elsewhere.

        Returns:
            The mean loss, and all outputs, a new tensor.
        """
        if len(parts) == 1:
            losses, output = work(self._workers[0], parts[0])
            return losses.mean(), output.clone()
        (here, other), (first, second) = self._workers, parts
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
