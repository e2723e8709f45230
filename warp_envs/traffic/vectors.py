"""A step of vehicles side by side in a CPU's vectors, on torch's own memory."""

from __future__ import annotations

import math
from typing import Any

import torch
import warp as wp
from torch.autograd.function import once_differentiable

from kernels.traffic import road as traffic
from kernels.traffic import vectors
from warp_envs.bridge.devices import scalar_type
from warp_envs.bridge.program import Program
from warp_envs.traffic.movement import Advance
from warp_envs.traffic.programs import LeaderSearch

OF_OLD_AND_NEW = {
    int(traffic.EULER): (1.0, 0.0),
    int(traffic.SEMI_IMPLICIT): (0.0, 1.0),
    int(traffic.BALLISTIC): (0.5, 0.5),
}
"""The mean speed of a step by integrator: what it has of the speed before and of that after."""

_PLACES = [*vectors.ARRAYS, *(f"of_{array}" for array in vectors.ADJOINTS)]


class VectorStep:
    """One step of all vehicles, and its adjoint: `kernels.traffic.vectors` on tensors.

    Tensors are handed over by address, so that nothing is copied; they are contiguous, of one
    type, and stay where they are while a call lasts.
    """

    def __init__(
        self,
        kernels: tuple[wp.Kernel, wp.Kernel],
        shape: tuple[int, int],
        dtype: torch.dtype,
        advance: Advance,
        alike: bool,
    ) -> None:
        """Prepare both; see `vector_step`."""
        number, scalar = shape[0] * shape[1], scalar_type(dtype)
        per_task = shape[1] * max(1, vectors.VEHICLES // shape[1])
        shares = [scalar(share) for share in OF_OLD_AND_NEW[advance.integrator]]
        settings = [advance.parts, scalar(advance.ring_length), scalar(advance.dt)]
        self._programs = [Program("cpu") for _ in kernels]
        self._where = wp.zeros(len(_PLACES), dtype=wp.uint64, device="cpu")
        for program, kernel in zip(self._programs, kernels, strict=True):
            arguments = [self._where, number, per_task, int(alike), *shares, *settings]
            name = f"the drivers of {advance.model.name!r}"
            program.launch(kernel, math.ceil(number / per_task), arguments, name=name)
        self._addresses = self._where.numpy()
        self._scratch = {name: torch.empty(number, dtype=dtype) for name in ("gap", "leader_speed")}

    def run(self, **tensors: torch.Tensor | None) -> None:
        """Drive: tensors by the names of `vectors.ARRAYS`."""
        self._run(0, tensors)

    def run_back(self, **tensors: torch.Tensor | None) -> None:
        """Add to adjoints: tensors by the same names, and adjoints as `of_` and a name."""
        self._run(1, tensors)

    def in_place(self, search: LeaderSearch, command: torch.Tensor | None) -> None:
        """Move the vehicles of `search`: commands [m/s^2] are NaN for a driver's own."""
        x, speed = search.x, search.speed
        given = None if command is None else command.detach().contiguous()
        tensors = _named((x, speed, search.leader, search.driver, given))
        self.run(**tensors, next_x=x, next_speed=speed)

    def __call__(
        self,
        x: torch.Tensor,
        speed: torch.Tensor,
        leader: torch.Tensor,
        driver: torch.Tensor,
        command: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions and speeds after a step, differentiable; nothing of it may change until then.

        Args:
            x: (num_roads, num_vehicles) [m], as are the others.
            speed: [m/s].
            leader: as `kernels.traffic.road.order_vehicles` names them.
            driver: numbers, in a third dimension.
            command: accelerations [m/s^2], NaN for a driver's own; None for nobody's.
        """
        return _Step.apply(self, x, speed, leader, driver, command)

    def _run(self, which: int, tensors: dict[str, Any]) -> None:
        for place, name in enumerate(_PLACES):
            tensor = tensors.get(name, self._scratch.get(name))
            self._addresses[place] = 0 if tensor is None else tensor.data_ptr()
        self._programs[which].replay()


def vector_step(
    shape: tuple[int, int], dtype: torch.dtype, advance: Advance, *, alike: bool, learned: bool
) -> VectorStep | None:
    """A step on the CPU; None for a model that has none (`kernels.traffic.traced`).

    Args:
        shape: roads and vehicles of each.
        dtype: of all numbers.
        advance: how vehicles move.
        alike: whether the first one's numbers are those of all.
        learned: whether gradients in the drivers' numbers may be asked for.
    """
    if advance.parts > vectors.MOST_PARTS:
        return None
    kernels = vectors.drive(advance.model, advance.sumo, scalar_type(dtype), learned)
    return None if kernels is None else VectorStep(kernels, shape, dtype, advance, alike)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        step: VectorStep,
        x: torch.Tensor,
        speed: torch.Tensor,
        leader: torch.Tensor,
        driver: torch.Tensor,
        command: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        given = [None if t is None else t.contiguous() for t in (x, speed, leader, driver, command)]
        ctx.step = step
        ctx.save_for_backward(*given)
        ctx.set_materialize_grads(False)
        next_x, next_speed = torch.empty_like(given[0]), torch.empty_like(given[1])
        step.run(**_named(given), next_x=next_x, next_speed=next_speed)
        return next_x, next_speed

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_next_x: torch.Tensor | None, of_next_speed: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        given = ctx.saved_tensors
        found = [
            torch.zeros_like(tensor) if wanted else None
            for tensor, wanted in zip(given, ctx.needs_input_grad[1:], strict=True)
        ]
        seeds = [None if seed is None else seed.contiguous() for seed in (of_next_x, of_next_speed)]
        ctx.step.run_back(
            **_named(given),
            **{f"of_{name}": tensor for name, tensor in _named(found).items()},
            of_next_x=seeds[0],
            of_next_speed=seeds[1],
        )
        return (None, *found)


def _named(tensors: Any) -> dict[str, Any]:
    return dict(zip(("x", "speed", "leader", "driver", "command"), tensors, strict=True))
