"""The pace-car problem: one autonomous car that sets the speed of the human traffic behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import warp as wp

from kernels.traffic import pace_car
from warp_envs.bridge.program import Program
from warp_envs.declarations import Quantity
from warp_envs.options.traffic import check_pace_car
from warp_envs.traffic.human_drivers import HumanDriversEnv
from warp_envs.traffic.models import TREIBER_2000
from warp_envs.vector_env import Arrays

# The IDM of the authors' runs: a = 1.75 v0, b = 1.25 v0, s0 = 0.3 length.
PAPER_IDM: dict[str, float] = {
    "v0": 20.0,
    "T": 0.4,
    "a": 35.0,
    "b": 25.0,
    "s0": 1.5,
    "delta": 4.0,
    "length": 5.0,
    "emergency_decel": math.inf,
}


@dataclass(frozen=True)
class PaceCarPhysics:
    """What the two presets differ in, and the numbers they share; SI units."""

    idm: dict[str, float] = field(default_factory=lambda: dict(PAPER_IDM))
    dt: float = 0.03
    lowest_speed: float = -40.0
    highest_speed: float = 40.0
    box_collision: bool = False  # else: centres within collision_distance
    leader_speed_along_lane: bool = False  # else: the leader's speed, whatever its heading
    collision_distance: float = 2.5
    car_width: float = 1.8
    lane_width: float = 4.0
    max_acceleration: float = 8.0
    max_steering: float = math.radians(20.0)
    max_distance: float = 100.0
    target_speed: float = 10.0
    spacing: float = 10.0
    lead: float = 50.0


PAPER = PaceCarPhysics()
REALISTIC = PaceCarPhysics(
    idm=dict(TREIBER_2000),
    dt=0.1,
    lowest_speed=0.0,
    box_collision=True,
    leader_speed_along_lane=True,
)


class PaceCarEnv(HumanDriversEnv):
    """An autonomous car ahead of `num_vehicles` human ones, which it is to hold at 10 m/s.

    | | what | unit |
    |---|---|---|
    | action (2) | acceleration / 8 m/s^2, steering / 20 degrees | 1 |
    | obs (4 (N + 1)) | x of every vehicle, then every y, v_x, v_y; x, y from car 0 | m, m/s |
    | reward: speed | 1 - mean over human vehicles of min(abs(v - 10) / 10, 1) | 1 |
    | reward: terminated | -1 on termination, when the other term is 0 | 1 |

    Car 0 is the autonomous one. An episode lasts 1000 steps. It terminates when that car collides,
    is in no lane, has its nearest vehicle over 100 m away, or has a human vehicle ahead of it. All
    start at rest, human vehicles 10 m apart in lanes of 4 m, the autonomous car 50 m ahead of the
    foremost vehicle of a random lane.

    State, each (num_envs, N + 1): ``x``, ``y`` [m], ``speed`` [m/s],
    ``heading`` [rad]. The gradient through lane membership and the choice of the leader is zero.
    """

    name = "pace_car"
    num_actions = 2
    max_episode_steps = 1000
    reward_terms = ("speed", "terminated")

    def __init__(
        self,
        *,
        num_lanes: int = 1,
        num_vehicles: int = 1,
        realistic: bool = False,
        reward_clip: str = "each",
        **options: Any,
    ) -> None:
        """Make roads.

        Args:
            num_lanes: lanes of a road.
            num_vehicles: human vehicles of a road, spread evenly over its lanes.
            realistic: the physically plausible preset `REALISTIC` in place of `PAPER`'s.
            reward_clip: "each" clips every vehicle's deviation at 1 (the paper), "mean" their mean
                (the authors' code).
            options: as `HumanDriversEnv`.

        Raises:
            ValueError: an option out of range.
        """
        check_pace_car(
            num_lanes=num_lanes,
            num_vehicles=num_vehicles,
            realistic=realistic,
            reward_clip=reward_clip,
        )
        self.num_lanes, self.num_vehicles = num_lanes, num_vehicles
        self.reward_clip = reward_clip
        self.physics = REALISTIC if realistic else PAPER
        self.driver_numbers = self.physics.idm
        self.num_slots, self.first_human = num_vehicles + 1, 1
        steering = f"{math.degrees(self.physics.max_steering):g} degrees"
        self.action_quantities = (
            Quantity("acceleration", f"{self.physics.max_acceleration:g} m/s^2"),
            Quantity("steering", steering),
        )
        cars = num_vehicles + 1
        self.obs_quantities = (
            *(Quantity(f"{axis} of every vehicle", "m", cars) for axis in "xy"),
            *(Quantity(f"velocity along {axis} of every vehicle", "m/s", cars) for axis in "xy"),
        )
        self.num_obs = 4 * cars
        self.state_layout = dict.fromkeys(("x", "y", "speed", "heading"), cars)
        self.rows_per_block = math.ceil(50.0 / (0.2 * cars))
        super().__init__(**options)

    def record_step(
        self, program: Program, state: Arrays, action: wp.array, next_state: Arrays
    ) -> None:
        """Find every vehicle's leader, then drive."""
        physics, scalar = self.physics, self.scalar
        shape = (self.num_envs, self.num_vehicles + 1)
        leader = program.array(shape, wp.int32, requires_grad=False)
        inputs = [state["x"], state["y"], scalar(physics.lane_width), self.num_lanes, leader]
        program.launch(pace_car.find_leaders, shape, inputs)
        drivers = self.record_drivers(program, state.parameters)
        limits = [physics.max_acceleration, physics.max_steering]
        limits += [physics.lowest_speed, physics.highest_speed, physics.idm["length"]]
        inputs = [
            *state.values(),
            *(action, leader, drivers),
            *[scalar(limit) for limit in limits],
            *(physics.leader_speed_along_lane, scalar(physics.dt)),
            *next_state.values(),
        ]
        program.launch(pace_car.drive, shape, inputs)

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """Relative positions and velocities."""
        program.launch(pace_car.observe, state["x"].shape, [*state.values(), obs])

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """Termination by the autonomous car's place, reward by the human vehicles' speeds."""
        physics, scalar = self.physics, self.scalar
        road = [scalar(physics.lane_width), self.num_lanes]
        sizes = [physics.idm["length"], physics.car_width, physics.max_distance]
        inputs = [
            *[next_state[name] for name in ("x", "y", "heading")],
            *(*road, scalar(physics.collision_distance), physics.box_collision),
            *[scalar(size) for size in sizes],
            terminated,
        ]
        program.launch(pace_car.terminate, self.num_envs, inputs)
        goal = [scalar(physics.target_speed), self.reward_clip == "each"]
        program.launch(
            pace_car.reward,
            self.num_envs,
            [next_state["speed"], terminated, *goal, reward_terms],
        )

    def record_initial_state(self, program: Program, rng: wp.array, state: Arrays) -> None:
        """At rest, the autonomous car ahead of a random lane."""
        physics, scalar = self.physics, self.scalar
        sizes = [scalar(size) for size in (physics.lane_width, physics.spacing, physics.lead)]
        inputs = [rng, self.num_lanes, *sizes, *state.values()]
        program.launch(pace_car.start, self.num_envs, inputs)

    # What a recorder reads ----------------------------------------------------------------------

    num_autonomous = 1

    @property
    def control_step(self) -> float:
        """Time between two steps [s]."""
        return self.physics.dt

    @property
    def lane_width(self) -> float:
        """Distance of two lanes' centre lines [m]."""
        return self.physics.lane_width

    @property
    def vehicle_lengths(self) -> list[float]:
        """Of the autonomous car and the human vehicles [m]."""
        return [self.physics.idm["length"]] * (self.num_vehicles + 1)

    def vehicle_poses(self) -> torch.Tensor:
        """x, y [m] and heading [rad] of every vehicle, (num_envs, num_vehicles + 1, 3)."""
        state = self._split_state()
        return torch.stack([state[name].detach() for name in ("x", "y", "heading")], dim=-1)
