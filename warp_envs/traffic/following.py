"""Drivers behind leaders whose motion is known: simulation, and derivatives in their numbers."""

from __future__ import annotations

import torch
import warp as wp

from kernels.traffic import following
from kernels.traffic.car_following import CarFollowing
from warp_envs.checks import ArgumentError, check_choice, check_positive
from warp_envs.traffic.models import find_model
from warp_envs.traffic.programs import driver_type
from warp_envs.traffic.simulator import DRIVING, INTEGRATORS


class Following:
    """Windows of drivers' motion, each behind a leader whose motion is given.

    What they do is what `TrafficSim` has them do with the same options. Everything is in double
    precision and on the CPU; `starts` sets of numbers drive the same windows side by side. The
    numbers of a driver are those of `CarFollowing.numbers`, in that order.
    """

    def __init__(
        self,
        model: str | CarFollowing,
        rear: torch.Tensor,
        leader_speed: torch.Tensor,
        *,
        dt: float,
        driving: str = "plain",
        integrator: str = "euler",
        planning_step: float | None = None,
    ) -> None:
        """Take the leaders' motion.

        Args:
            model: as `TrafficSim`'s.
            rear: position of the leader's rear at the start of each step, (windows, steps) [m].
            leader_speed: its speed then, (windows, steps) [m/s].
            dt: a step [s].
            driving: as `TrafficSim`'s.
            integrator: as `TrafficSim`'s.
            planning_step: as `TrafficSim`'s [s].

        Raises:
            ArgumentError: a value out of range.
        """
        check_choice("driving", driving, DRIVING)
        check_choice("integrator", integrator, INTEGRATORS)
        check_positive("dt", dt)
        if planning_step is not None:
            check_positive("planning_step", planning_step)
        if rear.ndim != 2 or leader_speed.shape != rear.shape:
            shapes = f"{tuple(rear.shape)} and {tuple(leader_speed.shape)}"
            raise ArgumentError("leader_speed", f"shapes {shapes}", "one (windows, steps) for both")
        self.model = find_model(model)
        parts = max(1, int(dt / (planning_step or DRIVING[driving] or dt) + 0.5))
        options = self.model, driving == "sumo", parts
        self._follow, self._step = following.follow(*options), following.follow_step(*options)
        self._rear, self._leader_speed = (
            t.detach().to("cpu", torch.float64).contiguous() for t in (rear, leader_speed)
        )
        self._settings = [INTEGRATORS[integrator], wp.float64(dt)]

    def simulate(
        self, x: torch.Tensor, speed: torch.Tensor, driver: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions of the front [m] and speeds [m/s], each (starts, windows, steps + 1).

        Args:
            x: at first, (starts, windows) [m].
            speed: at first [m/s].
            driver: numbers, (starts, windows, numbers).
        """
        windows, steps = self._rear.shape
        found = []
        for first in (x, speed):
            rows = torch.zeros(len(driver), windows, steps + 1, dtype=torch.float64)
            rows[:, :, 0] = first
            found.append(rows)
        inputs = [_array(self._rear), _array(self._leader_speed), self._driver(driver)]
        outputs = [_array(rows) for rows in found]
        wp.launch(
            self._follow, (len(driver), windows), [*inputs, *self._settings, *outputs], device="cpu"
        )
        return found[0], found[1]

    def derivatives(
        self, x: torch.Tensor, speed: torch.Tensor, driver: torch.Tensor
    ) -> torch.Tensor:
        """Derivatives of what was simulated, (starts, windows, steps + 1, 2, numbers + 2).

        Of position and speed, in the driver's numbers and then in the first position and speed.

        Args:
            x: as `simulate` gave them; so is `speed`.
            speed: [m/s].
            driver: numbers, (starts, windows, numbers).
        """
        starts, windows, numbers = driver.shape
        steps = self._rear.shape[1]
        each = driver[:, :, None].expand(-1, -1, steps, -1)
        tensors = [x[:, :, :-1].contiguous(), speed[:, :, :-1].contiguous(), each.contiguous()]
        arrays = [_array(tensors[0]), _array(tensors[1]), self._driver(tensors[2])]
        inputs = [*arrays, _array(self._rear), _array(self._leader_speed), *self._settings]
        results = [torch.zeros_like(tensors[0]) for _ in range(2)]
        by_state, by_driver = [], []
        for result in range(2):
            adjoints = [torch.zeros_like(tensor) for tensor in tensors]
            seeds = [torch.full_like(tensors[0], float(result == k)) for k in range(2)]
            wp.launch(
                self._step,
                (starts, windows, steps),
                inputs=inputs,
                outputs=[_array(rows) for rows in results],
                adj_inputs=[
                    *(_array(adjoints[0]), _array(adjoints[1]), self._driver(adjoints[2])),
                    *[None] * 4,
                ],
                adj_outputs=[_array(seed) for seed in seeds],
                adjoint=True,
                device="cpu",
            )
            by_state.append(torch.stack(adjoints[:2], dim=-1))
            by_driver.append(adjoints[2])
        shape = (starts * windows, steps, 2, -1)
        parts = [torch.stack(part, dim=3).reshape(shape) for part in (by_state, by_driver)]
        carried = torch.zeros(starts * windows, steps + 1, 2, numbers + 2, dtype=torch.float64)
        inputs = [_array(part) for part in (*parts, carried)]
        wp.launch(following.carry, (starts * windows, numbers + 2), inputs, device="cpu")
        return carried.unflatten(0, (starts, windows))

    def _driver(self, numbers: torch.Tensor) -> wp.array:
        return _array(numbers, driver_type(self.model, wp.float64))


def _array(tensor: torch.Tensor, dtype: type = wp.float64) -> wp.array:
    return wp.from_torch(tensor.contiguous(), dtype=dtype, requires_grad=False)
