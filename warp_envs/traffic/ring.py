"""The ring: one autonomous car among human drivers whose stop-and-go waves it is to damp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import warp as wp

from kernels.traffic import ring
from kernels.traffic.idm import MODEL as IDM
from warp_envs.bridge.program import Program
from warp_envs.options.traffic import BUNCHING, CAR_LENGTH, RING_STEPS, check_ring
from warp_envs.traffic.car_following import equilibrium_speed
from warp_envs.traffic.human_drivers import HumanDriversEnv
from warp_envs.traffic.programs import driver_type
from warp_envs.vector_env import Arrays

# Wu et al. (2022, IEEE Trans. Robotics 38, 1270) and the published configuration of their Flow.
HUMAN_IDM: dict[str, float] = {
    "v0": 30.0,
    "T": 1.0,
    "a": 1.0,
    "b": 1.5,
    "s0": 2.0,
    "delta": 4.0,
    "length": CAR_LENGTH,
    "emergency_decel": math.inf,
}
# The defaults of the car that SUMO's safe speed stops there.
SAFE_IDM: dict[str, float] = {**HUMAN_IDM, "a": 2.6, "b": 4.5, "s0": 2.5}

DT = 0.1
SPEED_SCALE = 15.0
SPEED_WEIGHT = 4.0 / 20.0
ACTION_WEIGHT = 4.0


class RingEnv(HumanDriversEnv):
    """An autonomous car and 21 human ones on a ring of one lane, 220 to 270 m long.

    The single-lane ring of Wu et al. (2022), after the experiments of Sugiyama et al. (2008) and
    Stern et al. (2018): human traffic of this density stops and goes, one car can smooth it.

    | | what | unit |
    |---|---|---|
    | action (1) | acceleration / 1 m/s^2 | 1 |
    | obs (3) | own speed / 15 m/s, (leader's - own) / 15 m/s, distance to the leader / 270 m | 1 |
    | reward: speed | 4 / 20 mean speed of all cars; 0 on termination | 1 |
    | reward: action | - 4 abs(commanded acceleration); 0 on termination | 1 |

    Car 0 is the autonomous one, and car i follows car i + 1. An episode lasts 3000 steps of 0.1 s;
    it terminates when two cars touch. It starts with 75 s in which all drive as humans, from rest
    and evenly spaced but for a hole of 50 m; the length of the ring is drawn uniformly. Humans
    follow the IDM with normal noise on every step's acceleration, which follows from the seed, the
    environment's number and its counters. The autonomous car's acceleration is at most that of the
    IDM with SUMO's numbers, `SAFE_IDM`, which keeps it from running into its leader.

    State: ``x`` [m] in [0, ring_length) and ``speed`` [m/s], (num_envs, num_vehicles + 1),
    ``ring_length`` [m], (num_envs, 1). Everything is differentiable in these and in actions, where
    the fail-safe binds with the gradient of its own. To a critic, the ring's length is one of the
    numbers drawn for an episode (``randomize_observed="critic"``): it sets the speed that can be
    had, and the observation does not tell it.
    """

    name = "ring"
    num_actions = 1
    num_obs = 3
    max_episode_steps = RING_STEPS
    reward_terms = ("speed", "action")
    driver_numbers = human_driver = HUMAN_IDM

    def __init__(
        self,
        *,
        num_vehicles: int = 21,
        min_ring_length: float = 220.0,
        max_ring_length: float = 270.0,
        noise: float = 0.2,
        warm_up_steps: int = 750,
        max_acceleration: float = 1.0,
        action_weight: float = ACTION_WEIGHT,
        sims_per_step: int = 1,
        fail_safe: bool = True,
        autonomous: bool = True,
        **options: Any,
    ) -> None:
        """Make rings.

        Args:
            num_vehicles: human cars of a ring.
            min_ring_length: least length of a ring [m]; the start must have room for all cars and
                the hole, each with 0.5 m to spare.
            max_ring_length: greatest length [m], which also scales the distance observed.
            noise: standard deviation of what is added to a human's acceleration [m/s^2].
            warm_up_steps: human driving before an episode begins.
            max_acceleration: what an action of 1 asks for [m/s^2]; -1 asks for as much braking.
            action_weight: of the commanded acceleration in the reward [s^2/m]; the mean speed's is
                0.2 s/m.
            sims_per_step: simulation steps of 0.1 s for which an action holds; an episode lasts
                300 s in any case. Reward and observation are of the last one.
            fail_safe: bound the autonomous car's acceleration by that of `SAFE_IDM`.
            autonomous: False: car 0 drives as the others, whatever the action, which the reward
                still counts.
            options: as `HumanDriversEnv`.

        Raises:
            ValueError: an option out of range.
        """
        check_ring(
            num_vehicles=num_vehicles,
            min_ring_length=min_ring_length,
            max_ring_length=max_ring_length,
            noise=noise,
            warm_up_steps=warm_up_steps,
            max_acceleration=max_acceleration,
            action_weight=action_weight,
            sims_per_step=sims_per_step,
            fail_safe=fail_safe,
            autonomous=autonomous,
        )
        cars = num_vehicles + 1
        self.num_vehicles = num_vehicles
        self.num_slots, self.first_human = cars, int(autonomous)
        self.min_ring_length, self.max_ring_length = min_ring_length, max_ring_length
        self.noise, self.warm_up_steps = noise, warm_up_steps
        self.max_acceleration, self.sims_per_step = max_acceleration, sims_per_step
        self.action_weight = action_weight
        self.max_episode_steps = type(self).max_episode_steps // sims_per_step
        self.fail_safe, self.autonomous = fail_safe, autonomous
        self.state_layout = {"x": cars, "speed": cars, "ring_length": 1}
        self.rows_per_block = math.ceil(50.0 / (0.1 * cars * sims_per_step))
        super().__init__(**options)

    def record_step(
        self, program: Program, state: Arrays, action: wp.array, next_state: Arrays
    ) -> None:
        """Draw the noise, then drive, as often as a step has simulation steps."""
        scalar, shape = self.scalar, state["x"].shape
        rng = self.step_random_numbers(program)
        self._touching = program.array(self.num_envs, wp.bool, requires_grad=False)
        safe = driver_type(IDM, scalar)(*[SAFE_IDM[n.name] for n in IDM.numbers])
        drivers = [self.record_drivers(program, state.parameters), safe]
        settings = [scalar(self.max_acceleration), self.autonomous, self.fail_safe, scalar(DT)]
        length = scalar(HUMAN_IDM["length"])
        for substep in range(self.sims_per_step):
            last = substep == self.sims_per_step - 1
            after = next_state if last else self._rows_of_state(program)
            noise = program.array(shape, scalar, requires_grad=False)
            program.launch(ring.draw_noise, shape, [rng, substep, scalar(self.noise), noise])
            inputs = [*state.values(), action, noise, *drivers, *settings, *after.values()]
            program.launch(ring.drive, shape, inputs)
            inputs = [after["x"], after["ring_length"], length, substep, self._touching]
            program.launch(ring.note_touching, self.num_envs, inputs)
            state = after

    def _rows_of_state(self, program: Program) -> Arrays:
        rows = Arrays("state")
        for name, width in self.state_layout.items():
            rows[name] = program.array((self.num_envs, width), self.scalar)
        return rows

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """What a car's own sensors tell."""
        scales = [self.scalar(SPEED_SCALE), self.scalar(self.max_ring_length)]
        program.launch(ring.observe, self.num_envs, [*state.values(), *scales, obs])

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """Termination by a collision, reward by everybody's speed and the own effort."""
        program.launch(ring.terminate, self.num_envs, [self._touching, terminated])
        weights = [SPEED_WEIGHT, self.action_weight, self.max_acceleration]
        inputs = [next_state["speed"], action, terminated, *map(self.scalar, weights), reward_terms]
        program.launch(ring.reward, self.num_envs, inputs)

    def record_initial_state(self, program: Program, rng: wp.array, state: Arrays) -> None:
        """Draw the ring, then let all drive as humans."""
        scalar = self.scalar
        sizes = [scalar(s) for s in (self.min_ring_length, self.max_ring_length, BUNCHING)]
        warm_up = [scalar(self.noise), self.warm_up_steps, scalar(DT)]
        drivers = self.record_drivers(program, state.parameters)
        inputs = [rng, *sizes, drivers, *warm_up, *state.values()]
        program.launch(ring.start, self.num_envs, inputs)

    def _drawn(self) -> list[torch.Tensor]:
        length = self._split_state()["ring_length"].detach()
        middle = 0.5 * (self.min_ring_length + self.max_ring_length)
        half = max(self.max_ring_length - middle, 1e-3)  # rings may all be as long
        return [(length - middle) / half, *super()._drawn()]

    # What controllers and figures ask -----------------------------------------------------------

    def read_leader(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Own speed, the leader's [m/s] and the gap [m], (n, 1), of observations (n, 3)."""
        speed, difference = SPEED_SCALE * obs[:, :1], SPEED_SCALE * obs[:, 1:2]
        gap = self.max_ring_length * obs[:, 2:] - HUMAN_IDM["length"]
        return speed, speed + difference, gap

    def equilibrium_speed(self) -> torch.Tensor:
        """The speed [m/s] at which human cars fill each ring, (num_envs,), double.

        All of them drive as fast as each other; where drivers differ their gaps do, too.
        """
        cars = self.num_vehicles + 1
        gaps = self.get_state()["ring_length"][:, 0].double() - cars * HUMAN_IDM["length"]
        numbers: dict[str, Any] = {n.name: HUMAN_IDM[n.name] for n in IDM.parameters}
        varied = self.get_parameters()
        if not varied:
            return equilibrium_speed(IDM, gaps / cars, **numbers)
        of_car = [torch.full((len(gaps), cars), x, dtype=torch.float64) for x in numbers.values()]
        numbers = dict(zip(numbers, of_car, strict=True))
        for name, values in varied.items():
            numbers[name][:, self.first_human :] = values.detach().cpu().double()
        return _common_speed(gaps.cpu(), numbers).to(gaps.device)

    # What a recorder reads ----------------------------------------------------------------------

    num_lanes = 1

    @property
    def lane_width(self) -> float:
        """Of the circular road as drawn, on which rings of all lengths lie [m]."""
        return 4.0 + (self.max_ring_length - self.min_ring_length) / math.tau

    @property
    def num_autonomous(self) -> int:
        """Cars drawn as autonomous, the first ones."""
        return int(self.autonomous)

    @property
    def control_step(self) -> float:
        """Time between two steps [s]."""
        return self.sims_per_step * DT

    @property
    def vehicle_lengths(self) -> list[float]:
        """Of the cars [m]."""
        return [HUMAN_IDM["length"]] * (self.num_vehicles + 1)

    def lane_lines(self) -> np.ndarray:
        """The road as drawn, a circle in straight pieces: starts and ends [m], (pieces, 2, 2)."""
        angle = np.linspace(0.0, math.tau, 97)
        radius = 0.5 * (self.min_ring_length + self.max_ring_length) / math.tau
        points = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.stack([points[:-1], points[1:]], axis=1)

    def vehicle_poses(self) -> torch.Tensor:
        """x, y [m] and heading [rad] of every car, (num_envs, num_vehicles + 1, 3).

        On a circle of the ring's length about the origin, counter-clockwise.
        """
        state = self._split_state()
        radius = state["ring_length"].detach() / math.tau
        angle = state["x"].detach() / radius
        place = [radius * angle.cos(), radius * angle.sin()]
        return torch.stack([*place, angle + 0.5 * math.pi], dim=-1)


def _common_speed(room: torch.Tensor, numbers: dict[str, torch.Tensor]) -> torch.Tensor:
    """The speed (n,) at which the IDM's gaps (n, cars) add up to `room` (n,), by bisection.

    At a common speed v, dv/dt = 0 where s = (s0 + v T) / sqrt(1 - (v / v0)^delta). Neither a nor b
    matters.
    """
    low, high = torch.zeros_like(room), numbers["v0"].min(dim=1).values
    for _ in range(60):
        speed = 0.5 * (low + high)
        v = speed[:, None]
        free = 1.0 - (v / numbers["v0"]) ** numbers["delta"]
        gaps = (numbers["s0"] + v * numbers["T"]) / free.sqrt()
        wider = gaps.sum(dim=1) < room
        low, high = torch.where(wider, speed, low), torch.where(wider, high, speed)
    return 0.5 * (low + high)
