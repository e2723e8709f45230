"""The IDM's acceleration as a function of torch tensors."""

from __future__ import annotations

from typing import Any

import torch
import warp as wp
from torch.autograd.function import once_differentiable

from kernels.traffic import idm
from warp_envs.bridge.devices import scalar_type
from warp_envs.checks import ArgumentError

Number = float | torch.Tensor

_MUST_BE_POSITIVE = ("v0", "a", "b", "delta")


def idm_acceleration(
    speed: Number,
    gap: Number,
    speed_difference: Number,
    *,
    v0: Number,
    T: Number,  # noqa: N803 (the literature's name)
    a: Number,
    b: Number,
    s0: Number,
    delta: Number,
    min_desired_gap: Number = 0.0,
) -> torch.Tensor:
    """The acceleration [m/s^2] of the Intelligent Driver Model, elementwise.

        a (1 - (v / v0)^delta - (max(s*, min_desired_gap) / max(gap, 1e-3))^2)
        s* = s0 + v T + v dv / (2 sqrt(a b))                       (Treiber et al. 2000, Eqs. 3, 4)

    Arguments broadcast against each other; float64 if any is a float64 tensor, else float32. The
    result is differentiable once, in every argument; at a clamp the gradient is that of the
    constant side, zero, and so it is for (v / v0)^delta at v <= 0, whose value is zero there.

    Args:
        speed: own speed v [m/s].
        gap: bumper to bumper [m]; infinite without a leader.
        speed_difference: own speed minus the leader's, dv [m/s]; without a leader any finite one.
        v0: desired speed [m/s].
        T: time headway [s].
        a: maximum acceleration [m/s^2].
        b: comfortable deceleration [m/s^2].
        s0: gap at rest [m].
        delta: acceleration exponent.
        min_desired_gap: lower bound of s* [m]: 0 as in the paper, s0 as in SUMO, -inf for none
            (then a much faster leader repels, as in HighwayEnv).

    Raises:
        ValueError: v0, a, b or delta not positive, tensors on different devices or of other types
            than float32 and float64, or shapes that do not broadcast.
    """
    named: dict[str, Number] = {
        "speed": speed,
        "gap": gap,
        "speed_difference": speed_difference,
        "v0": v0,
        "T": T,
        "a": a,
        "b": b,
        "s0": s0,
        "delta": delta,
        "min_desired_gap": min_desired_gap,
    }
    tensors = _as_tensors(named)
    for name in _MUST_BE_POSITIVE:
        check_all_positive(name, tensors[name])
    try:
        shape = torch.broadcast_shapes(*[tensor.shape for tensor in tensors.values()])
    except RuntimeError as error:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise ArgumentError("shapes", str(shapes), "shapes that broadcast") from error
    flat = [tensor.expand(shape).reshape(-1) for tensor in tensors.values()]
    return _Accelerate.apply(*flat).reshape(shape)


def check_all_positive(name: str, value: torch.Tensor) -> None:
    """Raise a ValueError naming an argument that holds a number <= 0, or NaN."""
    if not bool((value > 0).all()):
        worst = float(value.detach().min())
        raise ArgumentError(name, str(worst), "positive numbers")


def _as_tensors(named: dict[str, Number]) -> dict[str, torch.Tensor]:
    given = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
    for name, value in given.items():
        if value.dtype not in (torch.float32, torch.float64):
            raise ArgumentError(name, str(value.dtype), "torch.float32 or float64")
    devices = {value.device for value in given.values() if value.ndim > 0}
    if len(devices) > 1:
        raise ArgumentError("devices", str(sorted(map(str, devices))), "one device")
    device = devices.pop() if devices else torch.device("cpu")
    double = any(value.dtype == torch.float64 for value in given.values())
    dtype = torch.float64 if double else torch.float32
    return {
        name: torch.as_tensor(value, dtype=dtype, device=device) for name, value in named.items()
    }


class _Accelerate(torch.autograd.Function):
    """`kernels.traffic.idm.accelerate` on flat tensors of one length, type and device."""

    @staticmethod
    def forward(ctx: Any, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*tensors)
        result = torch.empty_like(tensors[0], memory_format=torch.contiguous_format)
        _launch(tensors, result, None, None)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, seed: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tensors = ctx.saved_tensors
        gradients = [
            torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device) if needed else None
            for tensor, needed in zip(tensors, ctx.needs_input_grad, strict=True)
        ]
        _launch(tensors, torch.empty_like(seed), gradients, seed.contiguous().clone())
        return tuple(gradients)


def _launch(
    tensors: tuple[torch.Tensor, ...],
    result: torch.Tensor,
    gradients: list[torch.Tensor | None] | None,
    seed: torch.Tensor | None,
) -> None:
    device = wp.device_from_torch(result.device)
    scalar = scalar_type(result.dtype)

    def view(tensor: torch.Tensor | None) -> wp.array | None:
        if tensor is None:
            return None
        return wp.from_torch(tensor.detach(), dtype=scalar, requires_grad=False)

    wp.launch(
        idm.accelerate,
        result.numel(),
        inputs=[view(tensor) for tensor in tensors],
        outputs=[view(result)],
        adj_inputs=[] if gradients is None else [view(gradient) for gradient in gradients],
        adj_outputs=[] if gradients is None else [view(seed)],
        adjoint=gradients is not None,
        device=device,
        stream=wp.stream_from_torch(result.device) if device.is_cuda else None,
    )
