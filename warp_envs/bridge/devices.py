"""Devices and precisions that Warp and torch both have."""

from __future__ import annotations

import math
from typing import Any

import torch
import warp as wp

from warp_envs.checks import ArgumentError

_SCALARS = {torch.float32: wp.float32, torch.float64: wp.float64}


def check_device(device: str | torch.device) -> str:
    """The name of a device that Warp and torch both have; "cuda" is the first GPU.

    Raises:
        ValueError: it is none.
    """
    both = torch.cuda.is_available()
    known = [wp.device_to_torch(d) for d in wp.get_devices() if d.is_cpu or both]
    name = "cuda:0" if str(device) == "cuda" else str(device)
    if name not in known:
        raise ArgumentError(
            "device", repr(str(device)), f"one of {known}", " here (what Warp and torch both find)"
        )
    return name


def scalar_type(dtype: torch.dtype) -> type:
    """The Warp scalar of a torch dtype.

    Raises:
        ValueError: `dtype` is neither torch.float32 nor torch.float64.
    """
    if dtype not in _SCALARS:
        raise ArgumentError("dtype", str(dtype), "torch.float32 or torch.float64")
    return _SCALARS[dtype]


def check_finite(key: str, value: torch.Tensor) -> None:
    """Raise ArgumentError unless all numbers of a tensor (rows, n) on a CPU are finite.

    On a GPU nothing is looked at, which would wait for it.
    """
    # A sum costs a third of looking at every number, and only finite numbers have a finite one.
    if value.device.type == "cpu" and not math.isfinite(value.detach().sum().item()):
        for row, i in (~torch.isfinite(value)).nonzero()[:1].tolist():
            raise ArgumentError(key, f"{value[row, i].item()} at [{row}, {i}]", "finite numbers")


def check_tensor(
    key: str,
    value: Any,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device | str,
) -> None:
    """Raise ArgumentError unless `value` is a tensor of this shape and type on this device."""
    given = f"a {type(value).__name__}"
    if isinstance(value, torch.Tensor):
        where = torch.device(device) if isinstance(device, str) else device
        if value.shape == shape and value.dtype == dtype and value.device == where:
            return  # every step comes by here: no words before there is something to refuse
        given = f"{tuple(value.shape)}, {value.dtype} on {value.device}"
    raise ArgumentError(key, given, f"a tensor {tuple(shape)}, {dtype} on {device}")
