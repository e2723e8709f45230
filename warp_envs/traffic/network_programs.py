"""The Warp side of `TrafficNetwork`: its arrays, and the parts of a step as recorded programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import warp as wp

from kernels.traffic import network as roads
from kernels.traffic import network_drive, network_inflow, network_lanes, network_merges
from warp_envs.bridge.devices import scalar_type
from warp_envs.bridge.program import Program
from warp_envs.traffic.network_tables import Tables
from warp_envs.traffic.programs import Advance, Mobil, driver_type

_INT_ROWS = ("lane", "route", "previous", "flow", "number", "aside")
_HEEDED = ("heeded", "offset")
_AHEAD = ("stop", "limit", "slower_at", "slower", "cap", "merge_at", "hold")


@dataclass(frozen=True)
class Sizes:
    """Of a batch: networks, vehicles of each, flows, loops."""

    networks: int
    vehicles: int
    flows: int
    loops: int

    @property
    def rows(self) -> int:
        """Vehicles of all networks."""
        return self.networks * self.vehicles


@dataclass(frozen=True)
class Rules:
    """What drivers do beside following.

    Attributes:
        look_ahead: how far they look beyond their lane [m] (SUMO's: as it has it).
        merge_zone: [m].
        head_start: of those that are yielded to [s].
        mobil: None for no lane changes.
        horizon: of lane changes that must be [s].
    """

    look_ahead: float
    merge_zone: float
    head_start: float
    mobil: Mobil | None
    horizon: float


class NetworkPrograms:
    """The state of a batch of networks in Warp's arrays and what happens to it in place.

    `rows` has the arrays over vehicles by name, flat: x, speed, driver, slot_driver, entered, the
    integers lane, route, previous, flow and number, the bools inserted and stopped, passed [m], and
    what drivers heed: heeded, offset, bound, stop, limit, slower_at, slower, hold. `tensors` are
    torch's views of them, (networks, vehicles, ...).
    """

    def __init__(
        self,
        sizes: Sizes,
        tables: Tables,
        flows: tuple[dict[str, np.ndarray], np.ndarray],
        advance: Advance,
        rules: Rules,
        *,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        """Allocate, copy the tables and record."""
        self.sizes, self._advance, self._rules = sizes, advance, rules
        self._device = device
        self._scalar = scalar_type(dtype)
        self._programs = {
            name: Program(device)
            for name in ("order", "look", "drive", "cross", "change", "insert", "tick")
        }
        self._keep = Program(device)  # of all arrays
        self._allocate(tables)
        self._copy_tables(tables, flows)
        self._record_order(self._programs["order"])
        self._record_look()
        self._record_drive()
        self._record_cross()
        if rules.mobil is not None:
            self._record_change(rules.mobil)
        self._record_insert()

    def run(self, name: str) -> None:
        """Run "order", "look", "drive", "cross", "change", "insert" or "tick"."""
        self._programs[name].replay()

    # Arrays -------------------------------------------------------------------------------------

    def _array(self, shape: int | tuple[int, ...], dtype: Any) -> wp.array:
        return self._keep.array(shape, dtype, requires_grad=False)

    def _allocate(self, tables: Tables) -> None:
        sizes, scalar = self.sizes, self._scalar
        driver = driver_type(self._advance.model, scalar)
        n, lanes = sizes.rows, len(tables.lane_names)
        heeded = roads.NUM_HEEDED
        self.rows = {
            **{name: self._array(n, scalar) for name in ("x", "speed", "entered", "passed")},
            **{name: self._array(n, scalar) for name in ("new_x", "new_speed")},
            "command": self._array(n, scalar),
            "driver": self._array(n, driver),
            "slot_driver": self._array(n, driver),
            **{name: self._array(n, wp.int32) for name in _INT_ROWS},
            "target": self._array(n, wp.int32),
            "toward": self._array(n, wp.int32),
            "gap": self._array(n, wp.uint64),
            **{name: self._array(n, wp.bool) for name in ("inserted", "stopped")},
            "heeded": self._array((n, heeded), wp.int32),
            "offset": self._array((n, heeded), scalar),
            **{name: self._array(n, scalar) for name in _AHEAD},
            "order": self._array(n, wp.int32),
            "scratch": self._array(n, wp.int32),
        }
        networks = sizes.networks
        num_routes = tables.integers["next_lane"].shape[0]
        self.shared = {
            "lane_start": self._array((networks, lanes + 2), wp.int32),
            "entering": self._array((networks, lanes), wp.uint64),
            "clock": self._array(networks, wp.int64),
            "rate": self._array((networks, max(sizes.flows, 1)), wp.float64),
            "departed": self._array((networks, max(sizes.flows, 1)), wp.int32),
            "counts": self._array((networks, 1), wp.int32),
            "loops": self._array((networks, max(sizes.loops, 1), 4), scalar),
            "trips": self._array((networks, num_routes, 2), scalar),
        }
        self.tensors = {}
        for name, array in self.rows.items():
            if array.dtype != wp.uint64:
                flat = wp.to_torch(array, requires_grad=False)
                shape = (networks, sizes.vehicles, *flat.shape[1:])
                self.tensors[name] = flat.view(shape)
        for name, array in self.shared.items():
            if array.dtype != wp.uint64:
                self.tensors[name] = wp.to_torch(array, requires_grad=False)
        order = torch.arange(n, dtype=torch.int32).view(networks, sizes.vehicles)
        self.tensors["order"].copy_(order)
        for name in ("lane", "previous", "flow", "number", "aside"):
            self.tensors[name].fill_(-1)
        self.tensors["command"].fill_(float("nan"))

    def _copy_tables(self, tables: Tables, flows: tuple[dict[str, np.ndarray], np.ndarray]) -> None:
        arrays: dict[str, tuple[np.ndarray, Any]] = {}
        for name, values in tables.integers.items():
            arrays[name] = (values, wp.int32)
        for name, values in tables.lengths.items():
            arrays[name] = (values, self._scalar)
        for name, values in flows[0].items():
            times = name in ("flow_begin", "flow_end")
            dtype = wp.float64 if times else self._scalar if name == "flow_speed" else wp.int32
            arrays[name] = (values, dtype)
        self.tables = {
            name: wp.array(values, dtype=dtype, device=self._device)
            for name, (values, dtype) in arrays.items()
        }
        driver = driver_type(self._advance.model, self._scalar)
        self.tables["flow_driver"] = wp.array(flows[1], dtype=driver, device=self._device)

    def _arguments(self, names: str) -> list[wp.array]:
        known = {**self.rows, **self.shared, **self.tables}
        return [known[name] for name in names.split()]

    # Programs -----------------------------------------------------------------------------------

    def _record_order(self, program: Program) -> None:
        per_network = self.sizes.vehicles
        inputs = [
            *self._arguments("x lane"),
            per_network,
            *self._arguments("order scratch lane_start"),
        ]
        program.launch(roads.order_by_lane, self.sizes.networks, inputs)

    def _record_look(self) -> None:
        program, advance, rules = self._programs["look"], self._advance, self._rules
        scalar = self._scalar
        n, per_network = self.sizes.rows, self.sizes.vehicles
        dt = scalar(advance.dt)
        inputs = [
            *self._arguments("x speed driver lane route previous order lane_start"),
            *(per_network, advance.integrator, scalar(rules.look_ahead), dt),
            *self._arguments("lane_length lane_limit lane_inner next_lane usable"),
            *self._arguments("tail_start tail_lane tail_via tail_distance"),
            *self._arguments(
                "heeded offset stop limit slower_at slower cap merge_at hold entering"
            ),
        ]
        program.launch(roads.look_ahead(advance.model, advance.sumo), n, inputs)
        self._record_entering(program)
        if self.tables["approach_lane"].shape[0]:
            inputs = [
                *self._arguments("x speed driver lane route order lane_start"),
                *(per_network, scalar(rules.merge_zone), scalar(rules.head_start), dt),
                *self._arguments("lane_length merge_lane merge_distance merge_branch merge_gives"),
                *self._arguments("approach_start approach_lane approach_branch"),
                *self._arguments("approach_distance approach_gives"),
                *self._arguments("heeded offset merge_at hold"),
            ]
            program.launch(network_merges.await_turn, n, inputs)
        if rules.mobil is not None:
            inputs = [
                *self._arguments("lane route aside"),
                per_network,
                *self._arguments("lane_length lane_segment next_lane heeded offset"),
            ]
            program.launch(network_lanes.heed_aside, n, inputs)

    def _record_entering(self, program: Program) -> None:
        entering = self.shared["entering"]
        program.launch(roads.clear_entering, entering.shape, [entering])
        inputs = [
            *self._arguments("x route order lane_start"),
            self._scalar(self._rules.look_ahead),
            *self._arguments("lane_length next_lane entering"),
        ]
        program.launch(roads.mark_entering, entering.shape, inputs)

    def _record_drive(self) -> None:
        rows = {name: self.rows[name] for name in ("x", "speed", "command", "driver")}
        rows.update({name: self.rows[name] for name in (*_HEEDED, *_AHEAD)})
        self.record_drive_into(self._programs["drive"], rows, *self._arguments("new_x new_speed"))

    def record_drive_into(
        self, program: Program, rows: dict[str, wp.array], next_x: wp.array, next_speed: wp.array
    ) -> None:
        """Append `kernels.traffic.network_drive.drive` over these arrays."""
        advance, scalar = self._advance, self._scalar
        kernel = network_drive.drive(advance.model, advance.sumo, advance.parts)
        inputs = [rows[name] for name in ("x", "speed", "command", "driver", *_HEEDED, *_AHEAD)]
        part = scalar(advance.dt / advance.parts)
        zone = scalar(self._rules.merge_zone)
        settings = [zone, advance.integrator, part, scalar(advance.dt)]
        program.launch(kernel, next_x.shape, [*inputs, *settings, next_x, next_speed])

    def _record_cross(self) -> None:
        dt = self._scalar(self._advance.dt)
        inputs = [
            *self._arguments("x new_x new_speed driver route entered clock"),
            *(self.sizes.vehicles, dt),
            *self._arguments("lane_length next_lane usable loop_start loop_x loop_index"),
            *self._arguments("lane previous loops trips x speed passed stopped"),
        ]
        self._programs["cross"].launch(network_drive.cross, self.sizes.rows, inputs)

    def _record_change(self, mobil: Mobil) -> None:
        program, advance, rules = self._programs["change"], self._advance, self._rules
        n = self.sizes.rows
        weights = [mobil.politeness, mobil.safe_decel, mobil.threshold, mobil.bias]
        weights = [rules.look_ahead, rules.horizon, advance.dt, *weights]
        program.launch(network_lanes.ask_nobody, n, self._arguments("gap toward"))
        for side in (1, -1):
            self._record_order(program)
            self._record_entering(program)
            inputs = [
                *self._arguments("x speed driver route previous lane order lane_start entering"),
                *self._arguments("clock"),
                *(self.sizes.vehicles, side),
                *[self._scalar(weight) for weight in weights],
                *self._arguments("lane_length lane_limit lane_inner lane_right lane_left"),
                *self._arguments("next_lane usable changes target gap toward"),
            ]
            program.launch(network_lanes.change_lanes(advance.model, advance.sumo), n, inputs)
            inputs = [
                *self._arguments("target gap toward"),
                self.sizes.vehicles,
                *self._arguments("lane previous aside"),
            ]
            program.launch(network_lanes.move_over, n, inputs)

    def _record_insert(self) -> None:
        program, advance, scalar = self._programs["insert"], self._advance, self._scalar
        self._programs["tick"].launch(
            network_inflow.tick, self.sizes.networks, self._arguments("clock")
        )
        if not self.sizes.flows:
            return
        self._record_entering(program)
        part, dt = scalar(advance.dt / advance.parts), scalar(advance.dt)
        inputs = [
            *self._arguments("order lane_start entering clock rate"),
            *(self.sizes.vehicles, advance.integrator),
            *(scalar(self._rules.look_ahead), part, dt),
            *self._arguments("lane_length lane_limit lane_inner next_lane"),
            *self._arguments("flow_route flow_lanes flow_speed"),
            *self._arguments("flow_begin flow_end flow_driver slot_driver"),
            wp.float64(advance.dt),
            *self._arguments("x speed driver lane route previous flow number entered"),
            *self._arguments("departed counts inserted"),
        ]
        kernel = network_inflow.insert(advance.model, advance.sumo, advance.parts)
        program.launch(kernel, self.sizes.networks, inputs)


class DifferentiableDrive:
    """What the program "drive" does, as a torch function of x, speed, commands and drivers."""

    def __init__(self, programs: NetworkPrograms, dtype: torch.dtype, device: str) -> None:
        """Record it."""
        program, scalar = Program(device), scalar_type(dtype)
        n = programs.sizes.rows
        self._shape = (programs.sizes.networks, programs.sizes.vehicles)
        rows = {name: program.array(n, scalar) for name in ("x", "speed", "command")}
        rows["driver"] = program.array(n, programs.rows["driver"].dtype)
        for name in (*_HEEDED, *_AHEAD):
            like = programs.rows[name]
            rows[name] = program.array(like.shape, like.dtype, requires_grad=False)
        next_x, next_speed = program.array(n, scalar), program.array(n, scalar)
        programs.record_drive_into(program, rows, next_x, next_speed)
        self._function = program.function([*rows.values()], [next_x, next_speed])

    def __call__(
        self,
        x: torch.Tensor,
        speed: torch.Tensor,
        command: torch.Tensor,
        driver: torch.Tensor,
        rows: dict[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions, counted on beyond the lanes' ends, and speeds after a step.

        All (networks, vehicles), `driver` with the numbers in a third dimension; of `rows` what
        drivers heed, by name, is copied.
        """
        given = [x.reshape(-1), speed.reshape(-1), command.reshape(-1)]
        given.append(driver.reshape(-1, driver.shape[-1]))
        for name in (*_HEEDED, *_AHEAD):
            row = rows[name]
            given.append(row.clone().reshape(-1, *row.shape[2:]))
        next_x, next_speed = self._function(*given)
        return next_x.view(self._shape), next_speed.view(self._shape)
