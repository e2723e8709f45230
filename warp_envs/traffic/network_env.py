"""Environments over road networks: the vehicles as an environment's state, stepped and drawn."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import Counter
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
import warp as wp

from kernels.traffic import network_env as rows_kernels
from kernels.traffic.idm import MODEL as IDM
from kernels.traffic.road import SEMI_IMPLICIT
from warp_envs.bridge.function import TorchFunction
from warp_envs.bridge.program import Program
from warp_envs.checks import ArgumentError
from warp_envs.options.traffic import NETWORK_STEPS, check_network
from warp_envs.traffic.human_drivers import HumanDriversEnv
from warp_envs.traffic.movement import Advance
from warp_envs.traffic.network import Network
from warp_envs.traffic.network_launches import HEEDED, NetworkLaunches, Rules, Sizes
from warp_envs.traffic.network_tables import flow_tables, make_tables
from warp_envs.vector_env import Arrays

_log = logging.getLogger("warp_envs")

_OF_VEHICLES = ("lane", "previous", "aside", "flow", "number")
_KEPT = ("command", "driver", *HEEDED, "new_x", "new_speed")
"""Of a simulation step its own, with what lies ahead: what adjoints read."""
_KEPT_AFTER = ("passed", "stopped", "inserted")

# The defaults of Flow's cars that SUMO drives: its IDM.
FLOW_IDM: dict[str, float] = {
    "v0": 30.0,
    "T": 1.0,
    "a": 2.6,
    "b": 4.5,
    "s0": 2.5,
    "delta": 4.0,
    "length": 5.0,
    "emergency_decel": float("inf"),
}


class NetworkEnv(HumanDriversEnv):
    """Road networks whose autonomous vehicles a policy commands.

    A subclass names its roads, `make_network`, in which the flow `AUTONOMOUS` has the autonomous
    vehicles, and appends what commands them, `record_command`. Drivers follow SUMO's IDM with the
    numbers of their flow, in steps of `dt` by SUMO's integration; nobody changes lanes. A commanded
    vehicle goes no faster than its own driver would, so that nobody collides. Where the numbers of
    human drivers vary, all of them start from `driver_numbers`, and a driver has those of the slot
    that its vehicle takes; what an autonomous vehicle's own driver is does not vary.

    State, (num_envs, num_vehicles) slots: ``x`` [m] of the front along its lane, ``speed`` [m/s],
    and the integers ``lane`` (-1 for a free slot), ``previous``, ``aside``, ``flow`` and
    ``number``, as `TrafficNetwork`'s; ``departed`` (num_envs, num_flows); ``clock`` (num_envs, 1),
    the simulation steps since the flows began. x and speed are differentiable, the others are not.

    An episode starts with empty roads, at a random time within the flows' first minute, which
    says when who comes, lasts `EPISODE_STEPS` of `dt` and does not end before.
    """

    EPISODE_STEPS: ClassVar[int] = NETWORK_STEPS

    AUTONOMOUS: ClassVar[str] = "autonomous"
    dt: ClassVar[float] = 0.5
    state_integers = (*_OF_VEHICLES, "departed", "clock")
    num_autonomous: int
    lane_width = 3.2
    num_lanes = 1

    def __init__(
        self,
        *,
        flow_rate: float,
        share: float,
        max_acceleration: float,
        num_vehicles: int,
        sims_per_step: int,
        autonomous: bool,
        num_blocks: int | None = None,
        **options: Any,
    ) -> None:
        """Make the roads; a subclass, which says the defaults, has set its own options before.

        Args:
            flow_rate: of the flow of which a part is autonomous [vehicles/h].
            share: that part; 0 asks for `autonomous` False.
            max_acceleration: of a commanded vehicle, and its braking [m/s^2].
            num_vehicles: slots of each network.
            sims_per_step: simulation steps of `dt` for which an action holds.
            autonomous: False: all drive as humans, whatever the action.
            num_blocks: 1.
            options: as `HumanDriversEnv`.

        Raises:
            ArgumentError: an option out of range; several blocks, which the roads' kernels do not
                have.
        """
        check_network(
            flow_rate=flow_rate,
            share=share,
            max_acceleration=max_acceleration,
            num_vehicles=num_vehicles,
            sims_per_step=sims_per_step,
            autonomous=autonomous,
        )
        self.flow_rate, self.share, self.autonomous = flow_rate, share, autonomous
        self.max_acceleration, self.num_vehicles = max_acceleration, num_vehicles
        self.sims_per_step = sims_per_step
        self.max_episode_steps = self.EPISODE_STEPS // sims_per_step
        if num_blocks not in (None, 1):
            raise ArgumentError("num_blocks", repr(num_blocks), "1: roads are stepped together")
        self.network = self.make_network()
        self.flow_names = [flow.name for flow in self.network.flows]
        self.autonomous_flow = self.flow_names.index(self.AUTONOMOUS)
        vehicles = self.num_slots = self.num_vehicles
        self.num_autonomous = vehicles  # as they are drawn, see `vehicle_poses`
        self.state_layout = {
            "x": vehicles,
            "speed": vehicles,
            **dict.fromkeys(_OF_VEHICLES, vehicles),
            "departed": len(self.network.flows),
            "clock": 1,
        }
        self._tables = make_tables(self.network, merge_zone=100.0)
        self._roads: NetworkLaunches | None = None
        self._told_full = False
        super().__init__(num_blocks=1, **options)

    # What a subclass supplies -------------------------------------------------------------------

    @abstractmethod
    def make_network(self) -> Network:
        """The roads, with a flow `AUTONOMOUS`."""

    @abstractmethod
    def record_command(self, program: Program, rows: dict[str, wp.array], action: wp.array) -> None:
        """Append what writes ``rows["command"]`` [m/s^2], NaN for a driver's own, from actions.

        `rows` are flat, over all vehicles, as `NetworkLaunches.layout` has them.
        """

    def record_commanded_drivers(
        self, program: Program, rows: dict[str, wp.array], action: wp.array
    ) -> None:
        """Append what puts numbers of drivers that actions say in place of ``rows["driver"]``.

        For environments that command by them; before who follows whom is looked up.
        """

    # The step -----------------------------------------------------------------------------------

    @property
    def roads(self) -> NetworkLaunches:
        """The launches of a step, with the roads' tables."""
        if self._roads is None:
            flows = self.network.flows
            self._roads = NetworkLaunches(
                Sizes(self.num_envs, self.num_vehicles, len(flows), 0),
                self._tables,
                self._flow_tables(),
                Advance(IDM, True, SEMI_IMPLICIT, round(self.dt / 0.25), 0.0, self.dt),
                Rules(look_ahead=300.0, merge_zone=100.0, head_start=3.0, mobil=None, horizon=10.0),
                scalar=self.scalar,
                device=str(self.device),
            )
            rates = np.tile([flow.rate for flow in flows], (self.num_envs, 1))
            self._rate = wp.array(rates, dtype=wp.float64, device=str(self.device))
            # Each flow has the numbers of all its drivers, unless these vary; nobody is without a
            # flow.
            self._slot_driver = wp.zeros(
                self.num_envs * self.num_vehicles, self._roads.driver, device=str(self.device)
            )
        return self._roads

    def _flow_tables(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The flows', without the numbers that human drivers have from their slots."""
        arrays, numbers = flow_tables(self.network, self._tables, IDM)
        human = [not self.autonomous or name != self.AUTONOMOUS for name in self.flow_names]
        varied = [] if self.varying.parameters is None else self.varying.parameters.chosen
        for name in varied:
            numbers[human, IDM.place(name)] = np.nan
        return arrays, numbers

    def _allocate(self, program: Program, names: tuple[str, ...]) -> dict[str, wp.array]:
        layout = self.roads.layout
        return {name: program.array(*layout[name], requires_grad=False) for name in names}

    def record_step(
        self, program: Program, state: Arrays, action: wp.array, next_state: Arrays
    ) -> None:
        """Drive, cross borders and let in, as often as a step has simulation steps."""
        roads, shape = self.roads, state["x"].shape
        n = self.num_envs * self.num_vehicles
        shared = {
            name: program.array(*kind, requires_grad=False, shared=True)
            for name, kind in roads.layout.items()
            if name not in (*_KEPT, *roads.ahead, *_KEPT_AFTER, "x", "speed", "rate", "slot_driver")
        }
        shared.update(rate=self._rate, slot_driver=self._slot_driver)
        drivers = self.record_drivers(program, state.parameters)
        vary = isinstance(drivers, wp.array)
        if vary:
            shared["slot_driver"] = program.array(n, roads.driver, False, shared=True)
            program.launch(rows_kernels.lay_flat, shape, [drivers, shared["slot_driver"]])
        placed = {
            name: program.array(*roads.layout[name], requires_grad=False, shared=True)
            for name in ("x", "speed", "driver")
        }
        inputs = [
            *[state[name] for name in _OF_VEHICLES],
            *[roads.tables[name] for name in ("flow_route", "flow_driver")],
            *[shared[name] for name in (*_OF_VEHICLES, "route")],
            *(placed["driver"], shared["order"]),
        ]
        program.launch(rows_kernels.take_vehicles, shape, inputs)
        inputs = [state["clock"], state["departed"], shared["clock"], shared["departed"]]
        program.launch(rows_kernels.take_counts, self.num_envs, inputs)
        motion = [program.array(n, self.scalar) for _ in range(2)]
        inputs = [state["x"], state["speed"], *motion]
        program.launch(rows_kernels.take_motion, shape, inputs)
        for _ in range(self.sims_per_step):
            inputs = [program, shared, placed, motion, action, drivers if vary else None]
            motion = self._record_simulation_step(*inputs)
        inputs = [*motion, next_state["x"], next_state["speed"]]
        program.launch(rows_kernels.put_motion, shape, inputs)
        inputs = [shared[name] for name in _OF_VEHICLES]
        inputs += [next_state[name] for name in _OF_VEHICLES]
        program.launch(rows_kernels.put_vehicles, shape, inputs)
        inputs = [shared["clock"], shared["departed"], next_state["clock"], next_state["departed"]]
        program.launch(rows_kernels.put_counts, self.num_envs, inputs)

    def _record_simulation_step(
        self,
        program: Program,
        shared: dict[str, wp.array],
        placed: dict[str, wp.array],
        motion: list[wp.array],
        action: wp.array,
        drivers: wp.array | None,
    ) -> list[wp.array]:
        """Append one step of dt; gives back x and speed after it.

        `shared` and `placed` change in place, no adjoint reads them: the former is what has no
        gradient, the latter x, speed and drivers of those who come in. `drivers` are those of the
        slots where they vary.
        """
        roads, n = self.roads, self.num_envs * self.num_vehicles
        kept = {
            **self._allocate(program, ("driver", *HEEDED, *roads.ahead, *_KEPT_AFTER)),
            **{name: program.array(n, self.scalar) for name in ("command", "new_x", "new_speed")},
        }
        rows = {**shared, **kept, "x": motion[0], "speed": motion[1]}
        if drivers is None:
            program.launch(rows_kernels.copy_drivers, n, [placed["driver"], rows["driver"]])
        else:
            rows["driver"] = self._record_varied_drivers(program, shared["flow"], drivers)
            program.launch(rows_kernels.copy_drivers, n, [rows["driver"], placed["driver"]])
        self.record_commanded_drivers(program, rows, action)
        roads.order(program, rows)
        roads.look(program, rows)
        self.record_command(program, rows, action)
        roads.drive(program, rows, fail_safe=True)
        after = {**rows, **placed}
        roads.cross(program, after, motion[0])
        roads.tick(program, after)
        roads.order(program, after)
        roads.insert(program, after)
        settled = [program.array(n, self.scalar) for _ in range(2)]
        inputs = [rows[name] for name in ("new_x", "new_speed", *_KEPT_AFTER)]
        inputs += [placed["x"], placed["speed"], *settled]
        program.launch(rows_kernels.settle, n, inputs)
        return settled

    def _record_varied_drivers(
        self, program: Program, flow: wp.array, drivers: wp.array
    ) -> wp.array:
        """Append what gives each vehicle the numbers of its flow, and those that its slot has."""
        held = program.array(flow.shape, wp.int32, requires_grad=False)
        program.launch(rows_kernels.hold_flows, flow.shape, [flow, held])
        own = program.array(flow.shape, self.roads.driver)
        inputs = [held, drivers, self.roads.tables["flow_driver"], own]
        program.launch(rows_kernels.take_drivers(len(IDM.numbers)), flow.shape, inputs)
        return own

    def record_initial_state(self, program: Program, rng: wp.array, state: Arrays) -> None:
        """Empty roads, at a random time of the flows' first minute."""
        tables = self.roads.tables
        inputs = [
            *(rng, round(60.0 / self.dt), self._rate, tables["flow_begin"], tables["flow_end"]),
            wp.float64(self.dt),
            *[state[name] for name in ("x", "speed", *_OF_VEHICLES, "departed", "clock")],
        ]
        program.launch(rows_kernels.start_empty, self.num_envs, inputs)

    def detach(self) -> None:
        """Start a new gradient window; say once when a network has had no slot left at its start.

        Whoever is due then waits although there is room.
        """
        super().detach()
        lane = self._split_state()["lane"]
        if not self._told_full and bool((lane >= 0.0).all(1).any()):
            self._told_full = True
            _log.warning(
                "env.num_vehicles: all %d slots of a network are taken, and vehicles that are due "
                "wait: more are needed",
                self.num_vehicles,
            )

    # What figures and a recorder read -----------------------------------------------------------

    @property
    def control_step(self) -> float:
        """Time between two steps [s]."""
        return self.sims_per_step * self.dt

    def mean_speed(self) -> torch.Tensor:
        """Of the vehicles on each network [m/s], (num_envs,); NaN without any."""
        state = self._split_state()
        there = state["lane"] >= 0.0
        speed = torch.where(there, state["speed"], 0.0).sum(1).detach()
        return speed / there.sum(1)

    @property
    def vehicle_lengths(self) -> list[float]:
        """Of the cars drawn [m]: each slot once as an autonomous car, once as a human one."""
        return [FLOW_IDM["length"]] * (2 * self.num_vehicles)

    def along_road(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the cars are [m] along the way that lanes lie on in x, and their speeds [m/s].

        (num_envs, 2 num_vehicles), as `vehicle_poses`; lanes beside each other are one, and off the
        way that begins at x = 0 nobody is told.
        """
        poses = self.vehicle_poses()
        place = poses[..., 0].masked_fill(poses[..., 2] != 0.0, torch.nan)
        speed = self._split_state()["speed"].detach().repeat(1, 2)
        return place, speed.masked_fill(place.isnan(), torch.nan)

    def lane_lines(self) -> np.ndarray:
        """Where lanes lie: their start and end [m], (lanes, 2, 2), in the order of `lane`."""
        raise NotImplementedError

    @property
    def lights(self) -> torch.Tensor:
        """What signals show now, (num_envs, num_ways), int32, as `TrafficNetwork.lights`."""
        clock = self._split_state()["clock"][:, 0].detach().round().to(torch.int64)
        return self._show_lights(clock)[0][:, : self.roads.num_ways]

    @cached_property
    def _show_lights(self) -> TorchFunction:
        program = Program(str(self.device))
        rows = self._allocate(program, ("clock", "light"))
        self.roads.light(program, rows, 0)
        return program.function([rows["clock"]], [rows["light"]])

    def stop_lines(self) -> np.ndarray:
        """Where vehicles stop for signals [m], across the ends of their lanes: (num_ways, 2, 2).

        Each from right to left, in the order of `lights`; ways from one lane share its width, the
        first on the right.
        """
        lines, lanes = self.lane_lines(), self._tables.lane_names
        ends = [lanes.index(way[:2]) for signal in self.network.signals for way in signal.ways]
        shared, taken = Counter(ends), Counter[int]()
        found = []
        for lane in ends:
            start, end = lines[lane]
            along = (end - start) / np.linalg.norm(end - start)
            across = self.lane_width * np.array([-along[1], along[0]])
            parts = np.array([taken[lane], taken[lane] + 1]) / shared[lane] - 0.5
            found.append(end + parts[:, None] * across)
            taken[lane] += 1
        return np.array(found).reshape(-1, 2, 2)

    def vehicle_poses(self) -> torch.Tensor:
        """x, y [m] and heading [rad] of the cars' middles, (num_envs, 2 num_vehicles, 3).

        The first half are the slots of autonomous cars, the second those of human ones; NaN where
        nobody is.
        """
        state = {name: value.detach() for name, value in self._split_state().items()}
        line = torch.as_tensor(self.lane_lines(), dtype=self.dtype, device=state["x"].device)
        lane = state["lane"].round().long()
        start, way = line[:, 0], line[:, 1] - line[:, 0]
        length = way.norm(dim=-1, keepdim=True)
        along = way / length
        chosen = lane.clamp(min=0)
        # Lanes are drawn as long as they look, whatever their length is.
        scale = length[:, 0] / torch.as_tensor(
            self._tables.lengths["lane_length"], dtype=self.dtype, device=line.device
        )
        middle = (state["x"] * scale[chosen] - 0.5 * FLOW_IDM["length"])[..., None]
        place = start[chosen] + middle * along[chosen]
        heading = torch.atan2(along[:, 1], along[:, 0])[chosen]
        poses = torch.cat([place, heading[..., None]], dim=-1)
        poses = poses.masked_fill((lane < 0)[..., None], torch.nan)
        autonomous = (state["flow"].round() == self.autonomous_flow)[..., None]
        halves = [
            poses.masked_fill(~autonomous, torch.nan),
            poses.masked_fill(autonomous, torch.nan),
        ]
        return torch.cat(halves, dim=1)
