"""The launches of a road network's step, over any arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from kernels.traffic import network as roads
from kernels.traffic import (
    network_drive,
    network_inflow,
    network_lanes,
    network_merges,
    network_outlook,
    network_signals,
    network_zipper,
)
from kernels.traffic import network_sumo_habits as habits
from kernels.traffic import network_sumo_lanes as sumo_lanes
from warp_envs.bridge.program import Program
from warp_envs.traffic.movement import Advance
from warp_envs.traffic.network_tables import Tables
from warp_envs.traffic.programs import Mobil, driver_type

Rows = Mapping[str, wp.array]
"""Arrays by name, as `NetworkLaunches.layout` has them."""

HEEDED = ("heeded", "offset")
AHEAD = ("stop", "limit", "slower_at", "slower", "cap", "merge_at", "hold", "line")
AHEAD = (*AHEAD, "nearing", "advice", "cramped", "light_at")
"""What lies ahead of vehicles, in the order in which `network_drive.drive` has it."""
_INT_ROWS = ("lane", "route", "previous", "flow", "number", "aside")


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


class NetworkLaunches:
    """What happens to the vehicles of a batch of networks in a step, part by part.

    Each part appends its launches to a program, over arrays that the caller names: `layout` says
    which there are. The tables of the roads are here.
    """

    def __init__(
        self,
        sizes: Sizes,
        tables: Tables,
        flows: tuple[dict[str, np.ndarray], np.ndarray],
        advance: Advance,
        rules: Rules,
        *,
        scalar: Any,
        device: str,
    ) -> None:
        """Copy the tables to the device."""
        self.sizes, self.advance, self.rules, self.scalar = sizes, advance, rules, scalar
        self.driver = driver_type(advance.model, scalar)
        arrays: dict[str, tuple[np.ndarray, Any]] = {}
        for name, values in tables.integers.items():
            arrays[name] = (values, wp.int32)
        for name, values in tables.lengths.items():
            arrays[name] = (values, scalar)
        for name, values in tables.times.items():
            arrays[name] = (values, wp.float64)
        for name, values in flows[0].items():
            times = name in ("flow_begin", "flow_end")
            dtype = wp.float64 if times else scalar if name == "flow_speed" else wp.int32
            arrays[name] = (values, dtype)
        arrays["flow_driver"] = (flows[1], self.driver)
        self.tables = {
            name: wp.array(values, dtype=dtype, device=device)
            for name, (values, dtype) in arrays.items()
        }
        self._zippers = bool((tables.integers["merge_gives"] == network_merges.ZIPPER).any())
        self._num_routes, self._num_lanes = tables.integers["next_lane"].shape
        self.num_ways = tables.num_ways
        """Ways that signals govern."""
        self._outlook = tables.outlook if rules.mobil is not None and advance.sumo else 0
        unread = {"light_at"} if not self.num_ways else set()
        unread |= {"line", "nearing"} if not advance.sumo else set()
        self.ahead = tuple(name for name in AHEAD if name not in unread)
        """Of `AHEAD` what is read here."""

    @property
    def layout(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Name -> shape and type of the arrays that launches read and write.

        Those over vehicles are flat, networks * vehicles: x, speed, driver, slot_driver, command,
        entered, new_x and new_speed, the integers lane, route, previous, flow, number and aside,
        the bools inserted and stopped, passed [m], and what drivers heed.
        """
        sizes, scalar = self.sizes, self.scalar
        n, networks, lanes = sizes.rows, sizes.networks, self._num_lanes
        reals = ("x", "speed", "entered", "passed", "new_x", "new_speed", "command", *self.ahead)
        reals = (*reals, "advised", "speed_before", "space", "reserved")
        integers = (*_INT_ROWS, "target", "toward", "asked", "wants", "order", "scratch", "next")
        return {
            **{name: ((n,), scalar) for name in reals},
            **{name: ((n,), self.driver) for name in ("driver", "slot_driver")},
            **{name: ((n,), wp.int32) for name in integers},
            **{name: ((n,), wp.bool) for name in ("inserted", "stopped")},
            "gap": ((n,), wp.uint64),
            "passage": ((n, network_zipper.PASSAGE), scalar),
            "memory": ((n, network_outlook.num_memories(self._outlook)), scalar),
            "heeded": ((n, roads.NUM_HEEDED), wp.int32),
            "offset": ((n, roads.NUM_HEEDED), scalar),
            "lane_start": ((networks, lanes + 2), wp.int32),
            "entering": ((networks, lanes), wp.uint64),
            **{name: ((networks, lanes), scalar) for name in ("taken", "filled")},
            "passing": ((networks, lanes, habits.NUM_PASSING), wp.int32),
            "light": ((networks, max(self.num_ways, 1)), wp.int32),
            "clock": ((networks,), wp.int64),
            "found_last": ((networks,), wp.int32),
            "refused": ((networks, lanes), wp.int32),
            "rate": ((networks, max(sizes.flows, 1)), wp.float64),
            "departed": ((networks, max(sizes.flows, 1)), wp.int32),
            "asked_at": ((networks, max(sizes.flows, 1)), wp.int32),
            "counts": ((networks, 1), wp.int32),
            "loops": ((networks, max(sizes.loops, 1), 4), scalar),
            "trips": ((networks, self._num_routes, 2), scalar),
        }

    def _arguments(self, rows: Rows, names: str) -> list[wp.array]:
        return [rows[name] if name in rows else self.tables[name] for name in names.split()]

    def _ahead(self, rows: Rows, name: str) -> wp.array:
        """One of `AHEAD`; in the place of one that is not read, another."""
        return rows[name if name in self.ahead else "stop"]

    def light(self, program: Program, rows: Rows, ahead: int) -> None:
        """Find what signals show now, or `ahead` steps later."""
        if self.num_ways:
            inputs = [rows["clock"], ahead, wp.float64(self.advance.dt)]
            inputs += self._arguments(rows, "light_cycle light_offset light_start light_until")
            inputs += self._arguments(rows, "light_colour light")
            shape = (self.sizes.networks, self.num_ways)
            program.launch(network_signals.show_lights, shape, inputs)

    def order(self, program: Program, rows: Rows) -> None:
        """Sort each lane's vehicles."""
        inputs = [
            *self._arguments(rows, "x lane"),
            self.sizes.vehicles,
            *self._arguments(rows, "order scratch lane_start next"),
        ]
        program.launch(roads.order_by_lane, self.sizes.networks, inputs)

    def look(self, program: Program, rows: Rows) -> None:
        """Find what everybody heeds, of vehicles in order."""
        advance, rules, scalar = self.advance, self.rules, self.scalar
        n, per_network, dt = self.sizes.rows, self.sizes.vehicles, scalar(advance.dt)
        signals = self.num_ways > 0
        self.light(program, rows, 1)
        inputs = [
            *self._arguments(rows, "x speed driver lane route previous order next"),
            rows["lane_start"],
            *(per_network, advance.integrator, scalar(rules.look_ahead), dt),
            *self._arguments(rows, "lane_length lane_limit lane_inner next_lane usable"),
            *self._arguments(rows, "tail_start tail_lane tail_via tail_distance signal_way light"),
            *self._arguments(
                rows, "heeded offset stop limit slower_at slower cap merge_at hold advice"
            ),
            self._ahead(rows, "light_at"),
        ]
        program.launch(roads.look_ahead(advance.model, advance.sumo, signals), n, inputs)
        self._enter(program, rows)
        if self.tables["approach_lane"].shape[0]:
            inputs = [
                *self._arguments(rows, "x speed driver lane route order lane_start"),
                *(per_network, scalar(rules.merge_zone), scalar(rules.head_start), dt),
                *(signals, self._ahead(rows, "light_at"), self.tables["signal_way"], rows["light"]),
                *self._arguments(rows, "next_lane"),
                *self._arguments(rows, "lane_length lane_inner merge_lane merge_distance"),
                *self._arguments(rows, "merge_branch merge_gives approach_start approach_lane"),
                *self._arguments(rows, "approach_branch approach_distance approach_gives"),
                *self._arguments(rows, "heeded offset merge_at hold"),
            ]
            program.launch(network_merges.await_turn, n, inputs)
        if self._zippers:
            self._zip(program, rows)
        if rules.mobil is None:
            return
        if advance.sumo:
            inputs = self._arguments(rows, "speed lane memory advised")
            inputs += self._arguments(rows, "cap speed_before advice cramped")
            program.launch(habits.heed_advice, n, inputs)
            return
        inputs = [
            *self._arguments(rows, "lane route aside"),
            per_network,
            *self._arguments(rows, "lane_length lane_segment next_lane heeded offset"),
        ]
        program.launch(network_lanes.heed_aside, n, inputs)

    def _zip(self, program: Program, rows: Rows) -> None:
        advance, scalar, n = self.advance, self.scalar, self.sizes.rows
        times = [scalar(advance.dt / advance.parts), scalar(advance.dt)]
        inputs = [
            *self._arguments(rows, "x speed driver lane route heeded offset limit"),
            *times,
            *self._arguments(rows, "lane_length lane_limit lane_inner next_lane merge_lane"),
            *self._arguments(rows, "merge_distance merge_branch merge_gives line nearing passage"),
        ]
        program.launch(network_zipper.approach_line(advance.model, advance.parts), n, inputs)
        inputs = [
            *self._arguments(rows, "x speed driver lane route limit line nearing passage"),
            *self._arguments(rows, "order lane_start"),
            *(self.sizes.vehicles, *times),
            *self._arguments(rows, "merge_lane merge_branch approach_start approach_lane"),
            *self._arguments(rows, "approach_branch heeded offset"),
        ]
        program.launch(network_zipper.await_zipper(advance.model, advance.parts), n, inputs)

    def _enter(self, program: Program, rows: Rows) -> None:
        entering = rows["entering"]
        program.launch(roads.clear_entering, entering.shape, [entering])
        inputs = [
            *self._arguments(rows, "x route order lane_start"),
            self.scalar(math.inf if self.advance.sumo else self.rules.look_ahead),
            *self._arguments(rows, "lane_length next_lane entering"),
        ]
        program.launch(roads.mark_entering, entering.shape, inputs)

    def drive(self, program: Program, rows: Rows, *, fail_safe: bool = False) -> None:
        """Write new_x and new_speed, differentiable in x, speed, command and driver.

        Args:
            program: takes the launch.
            rows: arrays by name.
            fail_safe: whether who is commanded goes no faster than its driver would.
        """
        advance, scalar = self.advance, self.scalar
        signals = self.num_ways > 0
        kernel = network_drive.drive(advance.model, advance.sumo, advance.parts, signals)
        inputs = [rows[name] for name in ("x", "speed", "command", "driver", *HEEDED)]
        inputs += [self._ahead(rows, name) for name in AHEAD]
        part = scalar(advance.dt / advance.parts)
        zone = scalar(self.rules.merge_zone)
        settings = [zone, advance.integrator, fail_safe, part, scalar(advance.dt)]
        outputs = [rows["new_x"], rows["new_speed"]]
        program.launch(kernel, self.sizes.rows, [*inputs, *settings, *outputs])

    def cross(self, program: Program, rows: Rows, x_before: wp.array) -> None:
        """From new_x and new_speed to x, speed and the lanes; `x_before` may be x."""
        early = network_drive.SUMO_ARRIVES if self.advance.sumo else 0.0
        inputs = [
            x_before,
            *self._arguments(rows, "new_x new_speed driver route entered clock"),
            *(self.sizes.vehicles, self.scalar(self.advance.dt), self.scalar(early)),
            *(
                self.num_ways > 0,
                self._ahead(rows, "light_at"),
                self.tables["signal_way"],
                rows["light"],
            ),
            *self._arguments(rows, "lane_length next_lane usable loop_start loop_x loop_index"),
            *self._arguments(rows, "lane previous loops trips x speed passed stopped"),
        ]
        program.launch(network_drive.cross, self.sizes.rows, inputs)

    def tick(self, program: Program, rows: Rows) -> None:
        """Count the step."""
        program.launch(network_inflow.tick, self.sizes.networks, [rows["clock"]])

    def change(self, program: Program, rows: Rows, mobil: Mobil) -> None:
        """Change lanes: by MOBIL, or as SUMO's drivers do."""
        if self.advance.sumo:
            self._change_as_sumo(program, rows)
            return
        rules, n = self.rules, self.sizes.rows
        weights = [mobil.politeness, mobil.safe_decel, mobil.threshold, mobil.bias]
        weights = [rules.look_ahead, rules.horizon, *weights]
        program.launch(network_lanes.ask_nobody, n, self._arguments(rows, "gap toward"))
        for side in (1, -1):
            self.order(program, rows)
            self._enter(program, rows)
            inputs = [
                *self._arguments(rows, "x speed driver route previous lane order lane_start"),
                *self._arguments(rows, "entering clock"),
                *(self.sizes.vehicles, side),
                *[self.scalar(weight) for weight in weights],
                *self._arguments(rows, "lane_length lane_limit lane_inner lane_right lane_left"),
                *self._arguments(rows, "next_lane usable changes found_last target gap"),
                rows["toward"],
            ]
            program.launch(network_lanes.change_lanes(self.advance.model), n, inputs)
            inputs = [
                *self._arguments(rows, "target gap toward"),
                self.sizes.vehicles,
                *self._arguments(rows, "lane previous aside"),
            ]
            program.launch(network_lanes.move_over, n, inputs)

    def _change_as_sumo(self, program: Program, rows: Rows) -> None:
        advance, n, dt = self.advance, self.sizes.rows, self.scalar(self.advance.dt)
        inputs = [*self._arguments(rows, "speed lane"), dt]
        inputs += self._arguments(rows, "lane_alone memory advised asked wants space reserved")
        program.launch(habits.start_advising, n, inputs)
        self._look_out(program, rows)
        self.order(program, rows)
        self._enter(program, rows)
        inputs = [
            *self._arguments(rows, "x speed speed_before driver route order lane_start entering"),
            dt,
            *self._arguments(rows, "wide_lanes lane_length lane_limit lane_inner lane_place"),
            *self._arguments(
                rows, "next_lane reach better elsewhere passage merge_lane merge_distance"
            ),
            *self._arguments(rows, "merge_branch merge_gives approach_start approach_lane"),
            *self._arguments(rows, "approach_branch lane previous memory passing taken filled"),
            *self._arguments(rows, "wants space reserved asked advised"),
        ]
        change = sumo_lanes.change_lanes(advance.model, advance.parts, self._outlook)
        program.launch(change, self.sizes.networks, inputs)
        inputs = [
            *self._arguments(rows, "x speed driver lane route passing wants space reserved"),
            *(self.sizes.vehicles, dt),
            *self._arguments(rows, "lane_length lane_limit lane_inner next_lane memory advised"),
        ]
        program.launch(habits.settle_advice(advance.model, advance.parts), n, inputs)

    def _look_out(self, program: Program, rows: Rows) -> None:
        if self._outlook:
            inputs = [
                *self._arguments(rows, "lane route clock"),
                *(self.sizes.vehicles, wp.float64(self.advance.dt)),
                *self._arguments(rows, "lane_length lane_inner lane_segment lane_place next_lane"),
                *self._arguments(rows, "has_priority segment_lane route_end route_segment"),
                *self._arguments(rows, "route_place signal_way light_cycle light_offset"),
                *self._arguments(rows, "light_start light_until light_first memory"),
            ]
            program.launch(network_outlook.look_out(self._outlook), self.sizes.rows, inputs)

    def insert(self, program: Program, rows: Rows) -> None:
        """Let in who is due and has room, of vehicles in order; there must be flows."""
        advance, scalar = self.advance, self.scalar
        self._enter(program, rows)
        self.light(program, rows, 0)
        part, dt = scalar(advance.dt / advance.parts), scalar(advance.dt)
        inputs = [
            *self._arguments(rows, "order lane_start entering clock rate"),
            *(self.sizes.vehicles, advance.integrator),
            *(scalar(self.rules.look_ahead), part, dt),
            *self._arguments(rows, "lane_length lane_limit lane_inner next_lane signal_way light"),
            *self._arguments(rows, "flow_route flow_start flow_lane flow_speed"),
            *self._arguments(rows, "flow_begin flow_end flow_driver slot_driver"),
            wp.float64(advance.dt),
            *self._arguments(rows, "x speed driver lane route previous flow number entered"),
            *self._arguments(rows, "departed counts inserted refused asked_at memory advised"),
        ]
        kernel = network_inflow.insert(
            advance.model,
            advance.sumo,
            advance.parts,
            signals=self.num_ways > 0,
            outlook=self._outlook > 0,
        )
        program.launch(kernel, self.sizes.networks, inputs)
        self._look_out(program, rows)
