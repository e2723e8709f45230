"""A GPU's memory without a GPU: tensors that count as lying there, and what the host waits for.

The device is "cpu:0", which torch takes for the CPU and tells apart from "cpu" wherever a device is
named. What is made there, what Warp's arrays hold and what is computed from either lies on it. The
host waits where a number, a truth or a whole tensor goes to it, where a tensor comes from it, and
where a shape depends on values. What a GPU refuses, tensors of both in one operation, is refused.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import warp as wp
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig
from gippo.environment import make_env
from gippo.learner import Learner
from gippo.networks import graphs
from tests.gippo.networks.graph_stand_in import as_on_a_gpu

DEVICE = torch.device("cpu", 0)
ROOT = Path(__file__).parents[2]

SHAPED_BY_VALUES = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")
SHAPED_BY_VALUES += ("_unique2", "unique_dim", "unique_consecutive", "bincount")
SHAPED_BY_VALUES += ("repeat_interleave", "_linalg_check_errors", "histc", "item")
BETWEEN = ("copy_", "_to_copy", "index", "index_put_", "_foreach_copy_", "lift_fresh")
"""Which may take tensors of both."""
ALIKE = ("cat", "stack")
"""Which take not even a number of the other."""
TO_HOST = ("cpu", "tolist", "numpy")
FROM_HOST = ("tensor", "as_tensor", "asarray", "from_numpy", "new_tensor")


class DeviceStandIn:
    """Where tensors lie, and by place in the code how often the host has waited."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self._there: dict[int, StorageWeakRef] = {}

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether it lies on the device."""
        return _storage(tensor)._cdata in self._there

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """From now on it lies on the device."""
        storage = _storage(tensor)
        # A weak reference keeps the address from being another storage's.
        self._there[storage._cdata] = StorageWeakRef(storage)
        return tensor

    def wait(self, what: str) -> None:
        """Note that the host waits, and for which line of the project."""
        self.waits[f"{_place()} ({what})"] += 1

    @contextmanager
    def active(self) -> Iterator[None]:
        """Watch all that happens inside."""
        view, numpy, cpu = wp.to_torch, wp.array.numpy, wp.get_device("cpu")

        def read(array: wp.array) -> Any:
            self.wait("wp.array.numpy")
            return numpy(array)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wp, "to_torch", lambda *args, **kwargs: self.keep(view(*args, **kwargs)))
            patch.setattr(wp.array, "numpy", read)
            patch.setattr(wp, "device_to_torch", lambda device: str(DEVICE))
            patch.setitem(cpu.runtime.device_map, str(DEVICE), cpu)
            with _Operations(self), _Calls(self):
                yield


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage:
    """Where its numbers are, of one inside `vmap` and `grad`, too."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor.untyped_storage()


class _Calls(TorchFunctionMode):
    """Python's calls, of which a CPU's tensors let some pass without an operation."""

    def __init__(self, device: DeviceStandIn) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, device = getattr(func, "__name__", ""), self._device
        held = bool(args) and isinstance(args[0], torch.Tensor) and device.holds(args[0])
        if getattr(func, "__self__", None) is torch.Tensor.device:
            return DEVICE if held else func(*args)
        if held and (name in TO_HOST or (name == "to" and _asked(args[1:], kwargs) == "host")):
            device.wait(name)
            with _disable_current_modes():
                host = args[0].clone() if not args[0].requires_grad else args[0].detach().clone()
                more = args[1:] if name == "to" else ()
                return func(host, *more, **kwargs)
        if held and name == "as_tensor" and not _asked(args[1:], kwargs):
            return args[0].to(*args[1:], **kwargs)
        result = func(*args, **kwargs)
        if name in FROM_HOST and _asked((), kwargs) == "device" and not held:
            device.wait(f"torch.{name}")
            device.keep(result)
        return result


class _Operations(TorchDispatchMode):
    """What is computed, and where the results lie."""

    def __init__(self, device: DeviceStandIn) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, device = func._schema.name.partition("::")[2], self._device
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        there = [x for x in given if device.holds(x)]
        here = [x for x in given if not device.holds(x)]
        if there and here and name not in BETWEEN:
            strays = here if name in ALIKE else [x for x in here if x.ndim]
            if strays:
                raise RuntimeError(f"{_place()}: {func} of tensors on the device and on the host")
        if there and name in SHAPED_BY_VALUES:
            device.wait(name)
        if there and name in ("index", "index_put_"):
            self._look_up(name, args, len(here))
        result = func(*args, **kwargs)
        if name == "_local_scalar_dense":
            return result
        asked = _asked((), kwargs)
        if name in ("copy_", "_foreach_copy_"):
            if there and here:
                device.wait(name)
            return result
        if name == "_to_copy" and asked and (asked == "device") != bool(there):
            device.wait("to")
        if asked == "device" or (there and asked != "host"):
            for x in tree_leaves(result):
                if isinstance(x, torch.Tensor) and not device.holds(x):
                    device.keep(x)
        return result

    def _look_up(self, name: str, args: Any, num_here: int) -> None:
        """By truths places are found first, unless one number is put; the host's are moved."""
        truths = [x for x in args[1] if x is not None and x.dtype in (torch.bool, torch.uint8)]
        filled = name == "index_put_" and args[2].numel() == 1
        if truths and not filled:
            self._device.wait(f"{name} by truths")
        elif any(x is not None and not self._device.holds(x) for x in args[1]) and num_here:
            self._device.wait(f"{name} by indices of the host")


def waits_of_an_epoch(*keys: str) -> tuple[Counter[str], dict[str, float]]:
    """Where the host waits in the third epoch, which replays graphs, and what it tells.

    They are captured in the second, two epochs earlier than on a GPU.

    Args:
        keys: of the run, as for `gippo train`.
    """
    given = ["env.num_envs=8", *keys, "learner.native=false", "learner.parallel_updates=false"]
    config = configure("train", TrainConfig, given)
    device = DeviceStandIn()
    with pytest.MonkeyPatch.context() as patch, device.active():
        as_on_a_gpu(patch)
        patch.setattr(graphs, "WARM_UPS", 1)
        env = make_env(config.env, device=str(DEVICE), seed=config.seed)
        learner = Learner(env, config.learner_config, config.method_config, num_epochs=20, seed=0)
        metrics: dict[str, float] = {}
        for _ in range(3):
            device.waits.clear()
            metrics = learner.train_epoch()
    return device.waits, metrics


def _asked(args: Any, kwargs: Any) -> str:
    """The place that a call names: "device", "host" or none."""
    named = [kwargs["device"]] if kwargs.get("device") is not None else []
    named += [x for x in args if isinstance(x, torch.device | str)]
    if not named:
        return ""
    return "device" if torch.device(named[0]).index == 0 else "host"


def _place() -> str:
    """The innermost line of the project's packages."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ("gippo", "warp_envs"):
            return f"{path.relative_to(ROOT)}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"
