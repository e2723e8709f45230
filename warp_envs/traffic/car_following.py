"""A car-following model's acceleration as a function of torch tensors."""

from __future__ import annotations

from typing import Any

import torch
import warp as wp
from torch.autograd.function import once_differentiable

from kernels.traffic.car_following import CarFollowing
from kernels.traffic.road import accelerate
from warp_envs.bridge.devices import scalar_type
from warp_envs.checks import ArgumentError
from warp_envs.traffic.models import Number, check_names, check_number_of, find_model


def acceleration(
    model: str | CarFollowing,
    speed: Number,
    gap: Number,
    speed_difference: Number,
    **parameters: Number,
) -> torch.Tensor:
    """The acceleration [m/s^2] of a model's drivers, elementwise: the function that simulates them.

    Arguments broadcast against each other; float64 if any is a float64 tensor, else float32. The
    result is differentiable once, in every argument; the model's file tells of its kinks.

    Args:
        model: as `TrafficSim`'s.
        speed: own speed v [m/s].
        gap: bumper to bumper [m]; infinite without a leader.
        speed_difference: own speed minus the leader's [m/s]; without a leader any finite one.
        parameters: the model's, its defaults where not given.

    Raises:
        ArgumentError: an unknown model or parameter, a parameter out of range, tensors on different
            devices or of other types than float32 and float64, or shapes that do not broadcast.
    """
    model = find_model(model)
    check_names(parameters, model.parameters, model.name)
    numbers = {p.name: parameters.get(p.name, p.default) for p in model.parameters}
    state = {"speed": speed, "gap": gap, "speed_difference": speed_difference}
    tensors = _as_tensors({**state, **numbers})
    for parameter in model.parameters:
        check_number_of(parameter, tensors[parameter.name])
    try:
        rows = torch.broadcast_tensors(*tensors.values())
    except RuntimeError as error:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise ArgumentError("shapes", str(shapes), "shapes that broadcast") from error
    flat = [row.reshape(-1) for row in rows]
    driver = torch.stack(flat[3:], dim=-1)
    return _Accelerate.apply(model, *flat[:3], driver).reshape(rows[0].shape)


def equilibrium_speed(
    model: str | CarFollowing, gap: Number, *, highest: float = 100.0, **parameters: Number
) -> torch.Tensor:
    """The speed [m/s] at which a driver behind an equally fast leader keeps a gap, elementwise.

    Found by bisection between 0 and `highest`, to the last bit: the acceleration falls as the
    speed rises. 0 where the driver would brake at any speed, `highest` where at none. No gradient.

    Args:
        model: as `TrafficSim`'s.
        gap: bumper to bumper [m].
        highest: speed [m/s] up to which one is sought.
        parameters: the model's, its defaults where not given.

    Raises:
        ArgumentError: as `acceleration`.
    """
    with torch.no_grad():
        gap = torch.as_tensor(gap, dtype=torch.float64)
        shape = acceleration(model, torch.zeros_like(gap), gap, 0.0, **parameters).shape
        low = torch.zeros(shape, dtype=torch.float64, device=gap.device)
        high = torch.full_like(low, highest)
        for _ in range(60):
            speed = 0.5 * (low + high)
            faster = acceleration(model, speed, gap, 0.0, **parameters) > 0.0
            low, high = torch.where(faster, speed, low), torch.where(faster, high, speed)
    return 0.5 * (low + high)


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
    """`kernels.traffic.road.accelerate` on [n], [n], [n] and [n, parameters] of one type."""

    @staticmethod
    def forward(ctx: Any, model: CarFollowing, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.model = model
        ctx.save_for_backward(*tensors)
        result = torch.empty_like(tensors[0], memory_format=torch.contiguous_format)
        _launch(model, tensors, result, None, None)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, seed: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tensors = ctx.saved_tensors
        gradients = [
            torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device) if needed else None
            for tensor, needed in zip(tensors, ctx.needs_input_grad[1:], strict=True)
        ]
        _launch(ctx.model, tensors, torch.empty_like(seed), gradients, seed.contiguous().clone())
        return (None, *gradients)


def _launch(
    model: CarFollowing,
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
        dtype = scalar if tensor.ndim == 1 else wp.types.vector(tensor.shape[1], scalar)
        return wp.from_torch(tensor.detach().contiguous(), dtype=dtype, requires_grad=False)

    wp.launch(
        accelerate(model),
        result.numel(),
        inputs=[view(tensor) for tensor in tensors],
        outputs=[view(result)],
        adj_inputs=[] if gradients is None else [view(gradient) for gradient in gradients],
        adj_outputs=[] if gradients is None else [view(seed)],
        adjoint=gradients is not None,
        device=device,
        stream=wp.stream_from_torch(result.device) if device.is_cuda else None,
    )
