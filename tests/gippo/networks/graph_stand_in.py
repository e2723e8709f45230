"""CUDA graphs without a GPU: operations noted while a function runs, and done again on replay.

As in a graph, numbers of Python's are those of the capture, tensors stay where they lay, a capture
changes nothing, and whatever the host would have to wait for is refused.
"""

from contextlib import contextmanager, nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from gippo.networks import graphs

WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal")


class StandIn(TorchDispatchMode):
    """The work of one capture."""

    def __init__(self):
        super().__init__()
        self.work, self.before, self.own, self.replays = [], {}, set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if str(func).startswith(WAITS):
            raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
        written = _written(func, args, kwargs)
        for tensor in written:
            if _memory(tensor) not in self.own:
                self.before.setdefault(_memory(tensor), (_plain(tensor), tensor.clone()))
        results = func(*args, **kwargs)
        if any(info is not None and not info.is_write for info in _aliases(func)):
            return results  # a view: nothing is computed
        outputs = [] if written else _tensors(results)
        self.own.update(map(_memory, outputs))
        self.work.append((func, *tree_map(_plain, (args, kwargs, outputs))))
        return results

    def undo(self):
        """Put back what was there before the capture."""
        for tensor, before in self.before.values():
            tensor.copy_(before)

    @torch.no_grad()
    def replay(self):
        """Do the work again, in place."""
        self.replays += 1
        for func, args, kwargs, outputs in self.work:
            results = _tensors(func(*args, **kwargs))
            for own, new in zip(outputs, results, strict=False):
                own.copy_(new)


def _aliases(func):
    return [value.alias_info for value in func._schema.returns]


def _written(func, args, kwargs):
    """The tensors that an operation changes."""
    arguments = func._schema.arguments
    given = [*zip(arguments, args, strict=False)]
    given += [
        (argument, kwargs[argument.name]) for argument in arguments if argument.name in kwargs
    ]
    return _tensors([x for a, x in given if a.alias_info is not None and a.alias_info.is_write])


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _memory(tensor):
    return tensor.untyped_storage().data_ptr()


def _plain(leaf):
    """The same memory, of which autograd knows nothing."""
    return leaf.data if isinstance(leaf, torch.Tensor) else leaf


@contextmanager
def _captured(stand_in, stream=None):
    with stand_in:
        yield
    stand_in.undo()


def as_on_a_gpu(monkeypatch):
    """Take a GPU's way on the CPU; the captures made are listed in what is returned."""
    made = []

    def graph():
        made.append(StandIn())
        return made[-1]

    monkeypatch.setattr(graphs, "on_gpu", lambda tensor: True)
    monkeypatch.setattr(graphs, "side_stream", nullcontext)
    monkeypatch.setattr(graphs, "_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", _captured)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr("warp_envs.bridge.function._on_gpu", lambda tensor: True)
    monkeypatch.setattr("warp_envs.vector_env.check_finite", lambda key, value: None)
    return made
