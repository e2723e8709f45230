"""The merge: a motorway that an on-ramp disturbs, with a share of autonomous cars."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import warp as wp

from kernels.traffic import merge, network_env
from warp_envs.bridge.program import Program
from warp_envs.options.traffic import check_merge
from warp_envs.traffic.network import Connection, Flow, Network, Segment
from warp_envs.traffic.network_env import FLOW_IDM, NetworkEnv
from warp_envs.traffic.ring import HUMAN_IDM
from warp_envs.vector_env import Arrays

SPEED_LIMIT = 30.0
INFLOW_LENGTH, MERGE_LENGTH, AFTER_LENGTH = 100.0, 100.0, 100.0
MAIN_SPEED, RAMP_SPEED = 10.0, 7.5
LEAST_HEADWAY = 1.0
HEADWAY_WEIGHT = 0.1


class MergeEnv(NetworkEnv):
    """Autonomous cars among those on a motorway of one lane, before a ramp that joins it.

    The merge of Vinitsky et al. (2018, *Benchmarks for reinforcement learning in mixed-autonomy
    traffic*, CoRL), `merge0` of Flow: vehicles from the ramp brake those on the motorway, and the
    disturbance grows as it travels back; a tenth of the cars, autonomous, is to damp it.

    | | what | unit |
    |---|---|---|
    | action (5) | acceleration / 1.5 m/s^2, of the k-th autonomous car on the road | 1 |
    | obs (5 each) | own speed / 30 m/s; (leader's - own) / 30 m/s; gap to it / all roads | 1 |
    | | (own - follower's) / 30 m/s; gap from it / that length | 1 |
    | reward: speed | max(0, 1 - RMS of (v - 20 m/s) over all cars / 20 m/s), 0 on empty roads | 1 |
    | reward: headway | 0.1 sum over those commanded of min(0, gap / v - 1 s) | 1 |

    Numbers are counted from the front, as cars come and go in order; more than `num_controlled`
    drive as humans, an action without a car does nothing and sees zeros. Without a leader its speed
    counts as 30 m/s and the gap as the length of the roads. An episode lasts 750 s, 750 actions,
    and does not end before. Humans have the numbers of the ring's drivers; an autonomous car's own
    driver, whom it is never faster than, those of Flow's, `FLOW_IDM`. Who is nearer to the merge
    goes first.
    """

    name = "merge"
    max_episode_steps = 750
    reward_terms = ("speed", "headway")
    driver_numbers = human_driver = HUMAN_IDM

    def __init__(
        self,
        *,
        flow_rate: float = 2000.0,
        ramp_rate: float = 500.0,
        share: float = 0.1,
        num_controlled: int = 5,
        main_length: float = 500.0,
        max_acceleration: float = 1.5,
        target_speed: float = 20.0,
        num_vehicles: int = 100,
        sims_per_step: int = 2,
        autonomous: bool = True,
        **options: Any,
    ) -> None:
        """Make merges.

        Args:
            flow_rate: on the motorway [vehicles/h].
            ramp_rate: from the ramp [vehicles/h]. Flow's is 100; up to 400 the motorway here takes
                them in without breaking down.
            share: of the motorway's vehicles that is autonomous.
            num_controlled: autonomous cars with an action each.
            main_length: of the motorway between where cars enter and the merge, beside 100 m
                before and after [m].
            max_acceleration: what an action of 1 asks for [m/s^2]; -1 asks for as much braking.
            target_speed: rewarded [m/s].
            num_vehicles: slots of each network.
            sims_per_step: simulation steps of 0.5 s for which an action holds.
            autonomous: False: all drive as humans, whatever the action.
            options: as `NetworkEnv`.

        Raises:
            ValueError: an option out of range.
        """
        check_merge(
            ramp_rate=ramp_rate,
            num_controlled=num_controlled,
            main_length=main_length,
            target_speed=target_speed,
            num_vehicles=num_vehicles,
        )
        self.ramp_rate, self.num_controlled = ramp_rate, num_controlled
        self.main_length, self.target_speed = main_length, target_speed
        self.num_actions, self.num_obs = num_controlled, 5 * num_controlled
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
        """Flow's `MergeNetwork`; who is nearer to the merge goes first."""
        main = ["inflow", "main", "after"]
        ramp = ["ramp_inflow", "ramp", "after"]
        lengths = {
            "inflow": INFLOW_LENGTH,
            "main": self.main_length,
            "after": AFTER_LENGTH,
            "ramp_inflow": INFLOW_LENGTH,
            "ramp": MERGE_LENGTH,
        }
        human = self.flow_rate * (1.0 - self.share)
        own = FLOW_IDM if self.autonomous else HUMAN_IDM
        return Network(
            segments=[Segment(k, v, speed_limit=SPEED_LIMIT) for k, v in lengths.items()],
            connections=[
                Connection("inflow", 0, "main", 0),
                Connection("main", 0, "after", 0),
                Connection("ramp_inflow", 0, "ramp", 0),
                Connection("ramp", 0, "after", 0),
            ],
            routes={"main": main, "ramp": ramp},
            flows=[
                Flow("human", "main", human, speed=MAIN_SPEED, parameters=HUMAN_IDM),
                Flow(
                    self.AUTONOMOUS,
                    "main",
                    self.flow_rate * self.share,
                    speed=MAIN_SPEED,
                    parameters=own,
                ),
                Flow("ramp", "ramp", self.ramp_rate, speed=RAMP_SPEED, parameters=HUMAN_IDM),
            ],
        )

    def record_command(self, program: Program, rows: dict[str, wp.array], action: wp.array) -> None:
        """An acceleration for the first autonomous cars."""
        n = rows["x"].shape[0]
        who = program.array(n, wp.int32, requires_grad=False)
        most = self.num_controlled if self.autonomous else 0
        inputs = [rows[name] for name in ("lane", "flow", "number")]
        inputs += [self.num_vehicles, self.autonomous_flow, most, who]
        program.launch(merge.rank, n, inputs)
        most_acceleration = self.scalar(self.max_acceleration)
        inputs = [action, who, self.num_vehicles, most_acceleration, rows["command"]]
        program.launch(network_env.command_acceleration, n, inputs)

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """What the cars' own sensors tell."""
        shape = (self.num_envs, self.num_controlled)
        seen = program.array((*shape, 3), wp.int32, requires_grad=False)
        starts = self._path_start()
        inputs = [state[name] for name in ("x", "lane", "flow", "number")]
        program.launch(merge.find_neighbours, shape, [*inputs, self.autonomous_flow, starts, seen])
        scales = [FLOW_IDM["length"], SPEED_LIMIT, self._distance_scale]
        inputs = [state[name] for name in ("x", "speed", "lane")]
        inputs += [seen, starts, *map(self.scalar, scales), obs]
        program.launch(merge.observe, shape, inputs)
        self._seen = seen  # of the state observed last: in a step, the new one

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """Everybody's speed, and headways; nothing terminates."""
        n, scalar = self.num_envs, self.scalar
        count = program.array(n, scalar, requires_grad=False)
        squares, short = program.array(n, scalar), program.array((n, self.num_controlled), scalar)
        target = scalar(self.target_speed)
        program.launch(merge.count_vehicles, n, [next_state["lane"], count])
        inputs = [next_state["speed"], next_state["lane"], target, squares]
        program.launch(merge.spread, n, inputs)
        inputs = [next_state[name] for name in ("x", "speed", "lane")]
        numbers = [scalar(FLOW_IDM["length"]), scalar(LEAST_HEADWAY)]
        inputs += [self._seen, self._path_start(), *numbers, short]
        program.launch(merge.headways, short.shape, inputs)
        inputs = [count, squares, short, target, scalar(HEADWAY_WEIGHT), reward_terms]
        program.launch(merge.reward, n, inputs)

    def _path_start(self) -> wp.array:
        """Of each lane along the main road [m], -1 off it."""
        at = {"inflow": 0.0, "main": INFLOW_LENGTH, "after": INFLOW_LENGTH + self.main_length}
        starts = [at.get(name, -1.0) for name, _ in self._tables.lane_names]
        return wp.array(starts, dtype=self.scalar, device=str(self.device))

    @property
    def _distance_scale(self) -> float:
        return float(sum(self._tables.lengths["lane_length"]))

    # What controllers, figures and a recorder ask -----------------------------------------------

    def read_leader(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Own speed, the leader's [m/s] and the gap [m], (n, num_controlled), of observations."""
        seen = obs.reshape(len(obs), self.num_controlled, 5)
        speed = SPEED_LIMIT * seen[..., 0]
        return speed, speed + SPEED_LIMIT * seen[..., 1], self._distance_scale * seen[..., 2]

    @property
    def view_center(self) -> tuple[float, float]:
        """Where a recording looks [m]: before the merge."""
        return INFLOW_LENGTH + self.main_length - 60.0, 0.0

    def lane_lines(self) -> np.ndarray:
        """The motorway along x, the ramp at 45 degrees."""
        at = INFLOW_LENGTH + self.main_length
        slope = math.sqrt(0.5)
        corner = [at - MERGE_LENGTH * slope, -MERGE_LENGTH * slope]
        both = (MERGE_LENGTH + INFLOW_LENGTH) * slope
        far = [at - both, -both]
        return np.array(
            [
                [[0.0, 0.0], [INFLOW_LENGTH, 0.0]],
                [[INFLOW_LENGTH, 0.0], [at, 0.0]],
                [[at, 0.0], [at + AFTER_LENGTH, 0.0]],
                [far, corner],
                [corner, [at, 0.0]],
            ]
        )
