"""CUDA graphs of torch's work: what a function of tensors does on a GPU, captured, then replayed.

A small network's fit is hundreds of operations of some microseconds each, and the host takes longer
to launch one than a GPU to do it. A graph launches them all at once. On a CPU, and where
`learner.graphs` is off, a function is called as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import torch

WARM_UPS = 3
"""Calls of a shape before it is captured, as torch asks for: libraries allocate in the first."""
MOST_GRAPHS = 4
"""Of one function: each keeps its own memory, and windows may come in many lengths."""

Results = tuple[torch.Tensor, ...]


class Graphed:
    """A function that a GPU does by one launch where it has met the arguments' shapes before.

    It takes tensors, numbers, tuples and dataclasses of these, and returns tensors. Beside them it
    may read and change only what stays where it is on the device, as parameters and Adam's moments
    do; it may not wait for the device. Numbers come to it as 0-d tensors on a GPU, for a number of
    Python's would be that of the capture for ever.
    """

    def __init__(self, function: Callable[..., Results], *, enabled: bool = True) -> None:
        """Prepare; `enabled` says whether a GPU may capture."""
        self._function = function
        self._enabled = enabled
        self._calls: Counter[Any] = Counter()
        self._captured: dict[Any, _Captured] = {}

    def __call__(self, *arguments: Any) -> Results:
        """The function's results; the next call does not change them."""
        tensors = _leaves(arguments, torch.Tensor)
        if not self._enabled or not on_gpu(tensors[0]):
            return self._function(*arguments)
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        if shapes not in self._captured:
            device = tensors[0].device
            if self._calls[shapes] < WARM_UPS or len(self._captured) == MOST_GRAPHS:
                self._calls[shapes] += 1
                with side_stream(device):
                    return self._function(*_on_device(arguments, device))
            self._captured[shapes] = _Captured(self._function, _on_device(arguments, device))
        return self._captured[shapes].replay(arguments)


class _Captured:
    """One graph, and where its arguments and results lie."""

    def __init__(self, function: Callable[..., Results], arguments: tuple[Any, ...]) -> None:
        """Capture; nothing is computed yet. All arguments are on the device."""
        copies = _mapped(torch.clone, arguments)
        self._arguments: list[torch.Tensor] = _leaves(copies, torch.Tensor)
        self._graph = torch.cuda.CUDAGraph()
        device = self._arguments[0].device
        with torch.cuda.device(device), torch.cuda.graph(self._graph, stream=_stream(device)):
            self._results = function(*copies)

    def replay(self, arguments: tuple[Any, ...]) -> Results:
        """Copy the arguments in, replay, copy the results out."""
        given = _leaves(arguments, (torch.Tensor, float, int))
        tensors: list[torch.Tensor] = []
        static: list[torch.Tensor] = []
        for own, new in zip(self._arguments, given, strict=True):
            if isinstance(new, torch.Tensor):
                static.append(own)
                tensors.append(new)
            else:
                own.fill_(new)
        torch._foreach_copy_(static, tensors)  # pyright: ignore[reportPrivateImportUsage]
        self._graph.replay()
        return tuple(result.clone() for result in self._results)


def on_gpu(tensor: torch.Tensor) -> bool:
    """Whether a tensor's operations are launches on a GPU."""
    return tensor.is_cuda


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Work on the stream of captures, after what was queued before; what follows waits for it."""
    with torch.cuda.device(device):
        current, own = torch.cuda.current_stream(), _stream(device)
        own.wait_stream(current)
        with torch.cuda.stream(own):
            yield
        current.wait_stream(own)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _on_device(arguments: tuple[Any, ...], device: torch.device) -> tuple[Any, ...]:
    """The arguments with numbers as tensors, by a kernel: a copy from the host would be waited for.

    In single precision, as torch's fused Adam takes its rate.
    """

    def moved(leaf: Any) -> torch.Tensor:
        if isinstance(leaf, torch.Tensor):
            return leaf
        return torch.full((), float(leaf), dtype=torch.float32, device=device)

    return _mapped(moved, arguments)


def _mapped(function: Callable[[Any], Any], argument: Any) -> Any:
    """The argument with the function's results in place of its tensors and numbers."""
    if isinstance(argument, tuple):
        return tuple(_mapped(function, part) for part in argument)
    if is_dataclass(argument) and not isinstance(argument, type):
        parts = {part.name: getattr(argument, part.name) for part in fields(argument)}
        return replace(argument, **{name: _mapped(function, x) for name, x in parts.items()})
    return function(argument)


def _leaves(argument: Any, kinds: Any) -> list[Any]:
    found: list[Any] = []
    _mapped(lambda leaf: found.append(leaf) if isinstance(leaf, kinds) else None, argument)
    return found
