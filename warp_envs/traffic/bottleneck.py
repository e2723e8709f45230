"""The bottleneck: four lanes become two and one, autonomous cars are told speeds by place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import warp as wp

from kernels.traffic import bottleneck, network_env
from kernels.traffic.idm import MODEL as IDM
from warp_envs.bridge.program import Program
from warp_envs.checks import ArgumentError
from warp_envs.options.traffic import check_bottleneck
from warp_envs.traffic.network import Connection, Flow, Network, Segment
from warp_envs.traffic.network_env import FLOW_IDM, NetworkEnv
from warp_envs.vector_env import Arrays

SPEED_LIMIT = 23.0
ENTERING_SPEED = 10.0
ROADS = {"1": (100.0, 4), "2": (310.0, 4), "3": (140.0, 4), "4": (280.0, 2), "5": (155.0, 1)}
"""Length [m] and lanes of each."""
COMMANDED = {"2": 2, "3": 2, "4": 2}
"""Into how many cells each lane of a road is cut for actions."""
OBSERVED = {"1": 1, "2": 3, "3": 3, "4": 3, "5": 1}
"""The same for observations."""
COUNT_SCALE, SPEED_SCALE, FLOW_SCALE = 20.0, 50.0, 2000.0
RESPONSE_TIME = 2.0
"""In which a car takes up a speed near its own [s]."""


class BottleneckEnv(NetworkEnv):
    """Autonomous cars that are told speeds before and in a bottleneck, to raise its outflow.

    The bottleneck of Vinitsky et al. (2018, *Lagrangian control through deep-RL: applications to
    bottleneck decongestion*, ITSC), `bottleneck0` of the *Benchmarks for reinforcement learning in
    mixed-autonomy traffic* (CoRL 2018): four lanes that merge, zipper by zipper, into two and into
    one. Beyond the bottleneck's capacity the queue before it lowers the flow; a tenth of the cars,
    autonomous, is told speeds, by the cell of road it is in.

    | | what | unit |
    |---|---|---|
    | action (20) | 2 v / 23 m/s - 1, v wanted in a cell; 2 a lane of roads 2, 3, 4 | 1 |
    | obs (35 each) | human cars / 20, autonomous / 20, mean speeds / 50 m/s of a cell | 1 |
    | obs (1) | outflow / 2000 vehicles/h | 1 |
    | reward: outflow | outflow / 2000 vehicles/h | 1 |

    To observe, the lanes of roads 1 to 5 have 1, 3, 3, 3, 1 cells. Cells are numbered by road,
    along it, and by lane, lane 0 (the rightmost) first. A car takes up the speed wanted by
    3 tanh((v_wanted - v) / 6 m/s) m/s^2, if its driver would not be slower. With
    ``command="headway"`` a cell's action is instead the time headway T of its autonomous cars, who
    drive by their own model with it: 0.5 s at -1 to 3 s at 1, linearly. The outflow is that of
    the last road by Edie's definition, the sum of the speeds there over its length, which has a
    gradient where a count of cars has none. An episode lasts 750 s, 1500 actions, and does not end
    before.
    """

    name = "bottleneck"
    max_episode_steps = 1500
    reward_terms = ("outflow",)
    driver_numbers = FLOW_IDM

    def __init__(
        self,
        *,
        flow_rate: float = 2400.0,
        share: float = 0.1,
        max_acceleration: float = 3.0,
        num_vehicles: int = 250,
        sims_per_step: int = 1,
        autonomous: bool = True,
        command: str = "speed",
        min_headway: float = 0.5,
        max_headway: float = 3.0,
        **options: Any,
    ) -> None:
        """Make bottlenecks.

        Args:
            flow_rate: that arrives, over all lanes [vehicles/h]. Flow's is 2000, which these
                zippers let through.
            share: of the vehicles that is autonomous.
            max_acceleration: of a car that takes up a speed, and its braking [m/s^2].
            num_vehicles: slots of each network.
            sims_per_step: simulation steps of 0.5 s for which an action holds.
            autonomous: False: all drive as humans, whatever the action.
            command: what an action is, a "speed" or a "headway".
            min_headway: that an action of -1 asks for [s].
            max_headway: that an action of 1 asks for [s].
            options: as `NetworkEnv`.

        Raises:
            ValueError: an option out of range.
        """
        check_bottleneck(command=command, min_headway=min_headway, max_headway=max_headway)
        self.command, self.min_headway, self.max_headway = command, min_headway, max_headway
        self.num_actions = _num_cells(COMMANDED)
        self.num_cells = _num_cells(OBSERVED)
        self.num_obs = 4 * self.num_cells + 1
        super().__init__(
            flow_rate=flow_rate,
            share=share,
            max_acceleration=max_acceleration,
            num_vehicles=num_vehicles,
            sims_per_step=sims_per_step,
            autonomous=autonomous,
            **options,
        )

    def make_network(self) -> Network:
        """Flow's `BottleneckNetwork`, scaling 1."""
        connections = []
        for source, target in (("1", "2"), ("2", "3"), ("3", "4"), ("4", "5")):
            lanes, beyond = ROADS[source][1], ROADS[target][1]
            connections += [
                Connection(source, lane, target, lane * beyond // lanes) for lane in range(lanes)
            ]
        return Network(
            segments=[
                Segment(name, length, num_lanes=lanes, speed_limit=SPEED_LIMIT)
                for name, (length, lanes) in ROADS.items()
            ],
            connections=connections,
            routes={"through": list(ROADS)},
            flows=[
                Flow(name, "through", rate, speed=ENTERING_SPEED, parameters=FLOW_IDM)
                for name, rate in (
                    ("human", self.flow_rate * (1.0 - self.share)),
                    (self.AUTONOMOUS, self.flow_rate * self.share),
                )
            ],
        )

    def _cells(self, counts: dict[str, int]) -> list[wp.array]:
        """The tables of `kernels.traffic.bottleneck` for so many cells of roads' lanes."""
        first, stride, count = [], [], []
        start = 0
        for name, (_, lanes) in ROADS.items():
            cells = counts.get(name, 0)
            first += [start + lane if cells else -1 for lane in range(lanes)]
            stride += [lanes] * lanes
            count += [cells] * lanes
            start += cells * lanes
        device = str(self.device)
        return [wp.array(table, dtype=wp.int32, device=device) for table in (first, stride, count)]

    def record_command(self, program: Program, rows: dict[str, wp.array], action: wp.array) -> None:
        """The speed of its cell for every autonomous car; headways: `record_commanded_drivers`."""
        if self.command == "headway":
            return
        n, who = rows["x"].shape[0], self._find_commanders(program, rows)
        numbers = [SPEED_LIMIT, self.max_acceleration, RESPONSE_TIME]
        inputs = [action, who, rows["speed"], self.num_vehicles, *map(self.scalar, numbers)]
        program.launch(network_env.command_speed, n, [*inputs, rows["command"]])

    def record_commanded_drivers(
        self, program: Program, rows: dict[str, wp.array], action: wp.array
    ) -> None:
        """The headway of its cell for every autonomous car, if that is what is commanded."""
        if self.command != "headway":
            return
        given, who = rows["driver"], self._find_commanders(program, rows)
        rows["driver"] = program.array(given.shape, given.dtype)
        bounds = map(self.scalar, (self.min_headway, self.max_headway))
        inputs = [given, action, who, self.num_vehicles, IDM.place("T"), *bounds]
        outputs = [rows["driver"], rows["command"]]
        program.launch(network_env.command_headway, given.shape, [*inputs, *outputs])

    def _find_commanders(self, program: Program, rows: dict[str, wp.array]) -> wp.array:
        """By whose action each vehicle drives, -1 for nobody's."""
        n = rows["x"].shape[0]
        who = program.array(n, wp.int32, requires_grad=False)
        tables = [self.roads.tables["lane_length"], *self._cells(COMMANDED)]
        flow = self.autonomous_flow if self.autonomous else len(self.flow_names)
        inputs = [rows["x"], rows["lane"], rows["flow"], flow, *tables, who]
        program.launch(bottleneck.find_commander, n, inputs)
        return who

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """Who is where, how fast, and the outflow."""
        shape = (self.num_envs, self.num_vehicles)
        cell = program.array(shape, wp.int32, requires_grad=False)
        tables = [self.roads.tables["lane_length"], *self._cells(OBSERVED)]
        inputs = [state["x"], state["lane"], state["flow"]]
        inputs += [self.autonomous_flow, self.num_cells, *tables, cell]
        program.launch(bottleneck.find_cells, shape, inputs)
        kinds = (self.num_envs, 2 * self.num_cells)
        count = program.array(kinds, wp.int32, requires_grad=False)
        inputs = [cell, self.scalar(COUNT_SCALE), count, obs]
        program.launch(bottleneck.count, self.num_envs, inputs)
        total = program.array(kinds, self.scalar)
        inputs = [state["speed"], cell, count, self.scalar(SPEED_SCALE), total, obs]
        program.launch(bottleneck.observe, self.num_envs, inputs)
        self._record_outflow(program, state, 4 * self.num_cells, obs)

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """The outflow; nothing terminates."""
        self._record_outflow(program, next_state, 0, reward_terms)

    def _record_outflow(self, program: Program, state: Arrays, column: int, out: wp.array) -> None:
        first = self._tables.first_lane["5"]
        numbers = [self.scalar(ROADS["5"][0]), self.scalar(FLOW_SCALE)]
        inputs = [state["speed"], state["lane"], first, first + ROADS["5"][1], *numbers, column]
        program.launch(bottleneck.observe_outflow, self.num_envs, [*inputs, out])

    # What controllers, figures and a recorder ask -----------------------------------------------

    speed_limit = SPEED_LIMIT

    def speed_actions(self, speed: float) -> torch.Tensor:
        """Actions (num_envs, num_actions) that ask for one speed [m/s] in every cell."""
        if self.command == "headway":
            raise ArgumentError("env.command", repr(self.command), "'speed', for a speed limit")
        action = 2.0 * speed / SPEED_LIMIT - 1.0
        shape = (self.num_envs, self.num_actions)
        return torch.full(shape, action, dtype=self.dtype, device=self._state.device)

    num_lanes = 4
    view_center = (520.0, 0.0)  # [m], before the first zipper

    def lane_lines(self) -> np.ndarray:
        """Along x, the lanes of each road about the middle."""
        lines, start = [], 0.0
        for length, lanes in ROADS.values():
            for lane in range(lanes):
                y = self.lane_width * (lane - 0.5 * (lanes - 1))
                lines.append([[start, y], [start + length, y]])
            start += length
        return np.array(lines)


def _num_cells(counts: dict[str, int]) -> int:
    return sum(cells * ROADS[name][1] for name, cells in counts.items())
