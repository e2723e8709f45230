"""The Warp side of `TrafficSim`: leader search, lane changes and the step, as recorded programs."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import warp as wp

from kernels.traffic import mobil, mobil_vectors, vectors
from kernels.traffic import road as traffic
from kernels.traffic.car_following import CarFollowing
from warp_envs.bridge.devices import scalar_type
from warp_envs.bridge.function import TorchFunction
from warp_envs.bridge.program import Program
from warp_envs.checks import LARGEST, check_number
from warp_envs.traffic.movement import Advance

# Up to here one thread sorts a road of its own on a GPU; beyond, torch's parallel sort does.
_LARGEST_ROAD_OF_A_GPU_THREAD = 512


@dataclass(frozen=True)
class Mobil:
    """MOBIL lane changes (Kesting, Treiber and Helbing 2007, theirs: safe_decel and threshold).

    Drivers take turns: each looks to either side once in four steps.

    Attributes:
        politeness: weight p of the others' accelerations, 0 (egoistic) to 1.
        safe_decel: the hardest braking b_safe [m/s^2] a change may ask of anyone.
        threshold: the least gain of acceleration [m/s^2].
        bias: added to the threshold of a change to a higher lane, taken off it to a lower [m/s^2].
    """

    politeness: float = 0.2
    safe_decel: float = 4.0
    threshold: float = 0.1
    bias: float = 0.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ArgumentError: no number, or a negative politeness, safe_decel or threshold.
        """
        for name in ("politeness", "safe_decel", "threshold"):
            check_number(name, getattr(self, name))
        check_number("bias", self.bias, -LARGEST)


def driver_type(model: CarFollowing, scalar: type) -> Any:
    """The Warp type of one vehicle's numbers, in the order of `CarFollowing.numbers`."""
    return wp.types.vector(len(model.numbers), scalar)


def record_advance(
    program: Program,
    advance: Advance,
    *,
    x: wp.array,
    speed: wp.array,
    command: wp.array,
    leader: wp.array,
    driver: wp.array,
    next_x: wp.array,
    next_speed: wp.array,
) -> None:
    """Append the launches of one step of all vehicles.

    Args:
        program: takes them.
        advance: how.
        x: flat, (num_roads * num_vehicles,), read; so are all arrays here.
        speed: read.
        command: accelerations [m/s^2], NaN for a driver's own.
        leader: as `kernels.traffic.road.order_vehicles` names them.
        driver: numbers, of `driver_type`.
        next_x: written; may be x where no gradient is wanted.
        next_speed: written; may be speed where no gradient is wanted.
    """
    scalar, shape = x.dtype, x.shape
    grad = x.requires_grad
    ring_length, dt = scalar(advance.ring_length), scalar(advance.dt)

    def rows() -> wp.array:
        return program.array(shape, scalar, requires_grad=grad)

    gap, leader_speed = rows(), rows()
    inputs = [x, speed, leader, driver, ring_length, gap, leader_speed]
    program.launch(traffic.measure_gap, shape, inputs)
    planned = speed
    plan = traffic.plan_speed(advance.model, advance.sumo)
    part = scalar(advance.dt / advance.parts)
    for _ in range(advance.parts):
        later, later_gap = rows(), rows()
        inputs = [planned, gap, leader_speed, driver, part, later, later_gap]
        program.launch(plan, shape, inputs)
        planned, gap = later, later_gap
    settings = [driver, advance.integrator, ring_length, dt]
    inputs = [x, speed, planned, command, leader, *settings, next_x, next_speed]
    program.launch(traffic.move(advance.model, advance.sumo), shape, inputs)


class LeaderSearch:
    """Who follows whom, kept in order from step to step.

    Public: `x`, `speed` and `driver` are where the search looks, `lane` (int32, -1 for none) what
    it goes by and what lane changes alter, `leader` its result, an index among all vehicles. The
    tensors are (num_roads, num_vehicles), the arrays the same memory, flat.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        num_lanes: int,
        advance: Advance,
        *,
        scalar: type,
        device: str,
    ) -> None:
        """Allocate for `shape` roads and vehicles that move by `advance`."""
        self._program = Program(device)
        self._shape, self._num_lanes = shape, num_lanes
        self._advance, self._scalar = advance, scalar
        ring = advance.ring_length > 0.0
        self.x_array, self.speed_array = self._flat(scalar), self._flat(scalar)
        self.driver_array = self._flat(driver_type(advance.model, scalar))
        self._lane_array, self._order = self._flat(wp.int32), self._flat(wp.int32)
        self._lane_order, self.leader_array = self._flat(wp.int32), self._flat(wp.int32)
        self._lane_start = self._program.array((shape[0], num_lanes + 2), wp.int32, False)
        self.x, self.speed = self._view(self.x_array), self._view(self.speed_array)
        self.driver = self._view(self.driver_array)
        self.lane, self.leader = self._view(self._lane_array), self._view(self.leader_array)
        order = self._view(self._order)
        order.copy_(torch.arange(order.numel(), dtype=torch.int32).view(shape))
        self._sort_by_torch = self._program.device.is_cuda and (
            shape[1] > _LARGEST_ROAD_OF_A_GPU_THREAD
        )
        seen_lane, following = self._flat(wp.int32), self._flat(wp.int32)
        seen_lane.fill_(-2)
        following.fill_(-1)
        stale = self._program.array(shape[0], wp.int32, requires_grad=False)
        now = [self.x_array, self._lane_array]
        kernel, dim = traffic.find_stale_roads, shape[0] * shape[1]
        if not self._program.device.is_cuda:
            kernel, dim = vectors.find_stale(scalar), math.ceil(dim / vectors.VEHICLES)
        self._program.launch(kernel, dim, [*now, seen_lane, following, shape[1], stale])
        outputs = [seen_lane, following, self._lane_start, self._lane_order, self.leader_array]
        inputs = [*now, shape[1], ring, stale, self._order, self._flat(wp.int32), *outputs]
        self._program.launch(traffic.order_vehicles, shape[0], inputs)
        self._changes: list[Program] = []

    def record_lane_changes(self, rule: Mobil, alike: bool) -> None:
        """Prepare `change_lanes`; `alike` says whether the first driver's numbers are all's."""
        advance, (roads, per_road) = self._advance, self._shape
        ring_length = self._scalar(advance.ring_length)
        weights = [rule.politeness, rule.safe_decel, rule.threshold, rule.bias]
        weights = [self._scalar(weight) for weight in weights]
        vehicles = [self.x_array, self.speed_array, self.driver_array]
        neighbours = [self._lane_start, self._lane_order, self.leader_array]
        kernel, settings = None, [per_road]
        if not self._program.device.is_cuda:
            kernel = mobil_vectors.change_lanes(advance.model, advance.sumo, self._scalar)
        if kernel is None:
            kernel, dim = mobil.change_lanes(advance.model, advance.sumo), self.x.numel()
        else:
            together = max(1, vectors.VEHICLES // per_road)
            settings, dim = [per_road, together, int(alike)], math.ceil(roads / together)
        for side, turn in itertools.product((1, -1), (0, 1)):
            program = Program(str(self._program.device))
            choices = [*settings, ring_length, side, turn, *weights, self._lane_array]
            program.launch(kernel, dim, [*vehicles, *neighbours, *choices])
            self._changes.append(program)

    def find_leaders(self) -> None:
        """Write `leader` from `x` and `lane`."""
        if self._sort_by_torch:
            lane_start, lane_order, leader = order_in_parallel(
                self.x, self.lane, self._num_lanes, self._advance.ring_length > 0.0
            )
            wp.to_torch(self._lane_start).copy_(lane_start)
            self._view(self._lane_order).copy_(lane_order)
            self.leader.copy_(leader)
        else:
            self._program.replay()

    def change_lanes(self, step: int) -> None:
        """Let the drivers whose turn it is change lanes, and find the leaders anew."""
        self._changes[step % len(self._changes)].replay()
        self.find_leaders()

    def _flat(self, dtype: Any) -> wp.array:
        return self._program.array(self._shape[0] * self._shape[1], dtype, requires_grad=False)

    def _view(self, array: wp.array) -> torch.Tensor:
        flat = wp.to_torch(array, requires_grad=False)
        return flat.view(*self._shape, *flat.shape[1:])


def order_in_parallel(
    x: torch.Tensor, lane: torch.Tensor, num_lanes: int, ring: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `kernels.traffic.road.order_vehicles` does, by torch's sort: for large roads on a GPU.

    Returns:
        lane_start (num_roads, num_lanes + 2), lane_order and leader (num_roads, num_vehicles), with
        indices among all vehicles.
    """
    roads, per_road = x.shape
    base = torch.arange(roads, device=x.device)[:, None] * per_road
    bucket = torch.where(lane < 0, num_lanes, lane).long()
    along = torch.argsort(x, dim=1, stable=True)
    by_lane = torch.argsort(bucket.gather(1, along), dim=1, stable=True)
    lane_order = along.gather(1, by_lane)
    sorted_bucket = bucket.gather(1, lane_order)
    lanes = torch.arange(num_lanes + 2, device=x.device).expand(roads, -1).contiguous()
    lane_start = torch.searchsorted(sorted_bucket, lanes)
    ahead = torch.arange(1, per_road + 1, device=x.device).expand_as(lane_order)
    in_lane = ahead < lane_start.gather(1, sorted_bucket + 1)
    place = torch.where(in_lane, ahead, lane_start.gather(1, sorted_bucket))
    found = lane_order.gather(1, place) + base
    found = torch.where(in_lane | ring, found, int(traffic.FREE))
    found = torch.where(sorted_bucket == num_lanes, int(traffic.ABSENT), found)
    leader = torch.empty_like(found).scatter_(1, lane_order, found)
    return lane_start + base, lane_order + base, leader


class PlainStep:
    """One step of all vehicles by `kernels.traffic.road`: on a GPU, and for any model."""

    def __init__(
        self, shape: tuple[int, int], dtype: torch.dtype, device: str, advance: Advance
    ) -> None:
        """Prepare for `shape` roads and vehicles of each."""
        self._shape, self._advance, self._scalar = shape, advance, scalar_type(dtype)
        self._program = Program(device)
        number = shape[0] * shape[1]
        command = self._program.array(number, self._scalar, requires_grad=False)
        self._command = command
        self._commands = wp.to_torch(command, requires_grad=False).view(shape)
        self._nobody = torch.full_like(self._commands, math.nan)

    def in_place(self, search: LeaderSearch, command: torch.Tensor | None) -> None:
        """Move the vehicles of `search`: commands [m/s^2] are NaN for a driver's own."""
        self._commands.copy_(self._nobody if command is None else command)
        if not self._recorded:
            record_advance(
                self._program,
                self._advance,
                x=search.x_array,
                speed=search.speed_array,
                command=self._command,
                leader=search.leader_array,
                driver=search.driver_array,
                next_x=search.x_array,
                next_speed=search.speed_array,
            )
            self._recorded = True
        self._program.replay()

    _recorded = False

    def __call__(
        self,
        x: torch.Tensor,
        speed: torch.Tensor,
        leader: torch.Tensor,
        driver: torch.Tensor,
        command: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions and speeds after a step, as `warp_envs.traffic.vectors.VectorStep` has it."""
        rows = [t.reshape(-1) for t in (x, speed, self._nobody if command is None else command)]
        next_x, next_speed = self._function(
            *rows, driver.reshape(-1, driver.shape[-1]), leader.reshape(-1)
        )
        return next_x.view(self._shape), next_speed.view(self._shape)

    @cached_property
    def _function(self) -> TorchFunction:
        program, number = Program(str(self._program.device)), self._command.size
        x, speed, command, next_x, next_speed = (
            program.array(number, self._scalar) for _ in range(5)
        )
        driver = program.array(number, driver_type(self._advance.model, self._scalar))
        leader = program.array(number, wp.int32, requires_grad=False)
        record_advance(
            program,
            self._advance,
            x=x,
            speed=speed,
            command=command,
            leader=leader,
            driver=driver,
            next_x=next_x,
            next_speed=next_speed,
        )
        return program.function([x, speed, command, driver, leader], [next_x, next_speed])
