"""A differentiable microscopic traffic simulator: car-following on multi-lane roads.

    traffic = TrafficSim(num_envs=64, num_lanes=2, num_vehicles=40, ring_length=1000.0, dt=0.1)
    for _ in range(600):
        state = traffic.step()

The equations are in `kernels.traffic`: `idm`, `ovm`, `road`, `mobil`; docs/traffic.md tells what
the gradients mean.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch

from kernels.traffic import road as traffic
from kernels.traffic.car_following import CarFollowing
from warp_envs.bridge.devices import check_device, check_tensor, scalar_type
from warp_envs.checks import ArgumentError, check_choice, check_integer, check_positive
from warp_envs.traffic.models import Number, check_names, find_model, read_parameter
from warp_envs.traffic.movement import Advance
from warp_envs.traffic.programs import LeaderSearch, Mobil, PlainStep
from warp_envs.traffic.vectors import VectorStep, vector_step

__all__ = ["Mobil", "TrafficSim"]

State = dict[str, torch.Tensor]

INTEGRATORS = {
    "euler": int(traffic.EULER),
    "semi_implicit": int(traffic.SEMI_IMPLICIT),
    "ballistic": int(traffic.BALLISTIC),
}

DRIVING = {"plain": None, "sumo": 0.25}
"""How vehicles are driven, and the longest part of a step that is planned at once [s]."""


_STATE = ("x", "y", "speed", "lane", "step_count")


class TrafficSim:
    """Batches of straight multi-lane roads with human drivers, who follow a car-following model.

    State (`get_state`, `set_state`), (num_envs, num_vehicles) where not told otherwise:

    | name | what | unit | type |
    |---|---|---|---|
    | x | position of the vehicle's centre along the road | m | dtype |
    | speed | along the road, never negative | m/s | dtype |
    | lane | index of its lane, 0 the rightmost; -1 for a free slot | 1 | int32 |
    | step_count | steps so far, (1,): whose turn it is to change lanes | 1 | int64 |

    The vehicle of a free slot stands still, and nobody sees it.

    `x` and `speed` are differentiable in the `x` and `speed` handed to `set_state`, in commanded
    accelerations and in parameters that require a gradient, through any number of steps. Lane
    membership and the choice of the leader are discrete: no gradient passes through them. Where no
    gradient is asked for, steps run in place and record nothing.
    """

    def __init__(
        self,
        num_envs: int,
        num_lanes: int,
        num_vehicles: int,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        model: str | CarFollowing = "idm",
        driving: str = "plain",
        planning_step: float | None = None,
        integrator: str = "euler",
        dt: float = 0.1,
        ring_length: float | None = None,
        road_length: float | None = None,
        lane_width: float = 4.0,
        mobil: Mobil | None = None,
        **parameters: Number,
    ) -> None:
        """Put `num_vehicles` at rest on each of `num_envs` roads, spread evenly over the lanes.

        On an open road they stand two lengths of the longest vehicle apart, from x = 0 on; on a
        ring at equal distances.

        Args:
            num_envs: roads, stepped together.
            num_lanes: lanes of each road.
            num_vehicles: slots for vehicles on each road; all are taken at first.
            device: "cpu" or "cuda:0".
            dtype: torch.float32 or torch.float64. Positions beyond some 50 km want float64.
            model: of car-following: "idm", "ovm", one's own as "module:NAME", or the
                `kernels.traffic.car_following.CarFollowing` itself.
            driving: "plain", or "sumo": speeds also at most v + a dt and v0, and at least v - b dt
                unless the model brakes harder; the IDM's desired gap at least s0; planned in parts.
                The model must have parameters v0, a and b.
            planning_step: a step is planned in round(dt / this) parts [s], for a leader of constant
                speed; None for a plan of one part, with "sumo" for 0.25 (its `idm_stepping`).
            integrator: "euler" (position with the old speed), "semi_implicit" (with the new) or
                "ballistic" (with their mean).
            dt: step [s].
            ring_length: length of a ring road [m], with room for all; None for an open road.
            road_length: on an open road, where vehicles leave it [m]; None for an endless one.
            lane_width: [m].
            mobil: lane changes of human vehicles; None for none.
            parameters: the model's and the vehicle's (length, emergency_decel), each a number or a
                tensor of `dtype` that broadcasts to (num_envs, num_vehicles); the model's defaults
                where not given.

        Raises:
            ValueError: any of these out of range, or an unknown name.
        """
        counts = {"num_envs": num_envs, "num_lanes": num_lanes, "num_vehicles": num_vehicles}
        for name, count in counts.items():
            check_integer(name, count, 1)
        check_choice("integrator", integrator, INTEGRATORS)
        check_choice("driving", driving, DRIVING)
        if mobil is not None and not isinstance(mobil, Mobil):
            raise ArgumentError("mobil", repr(mobil), "a Mobil or None")
        self.model = find_model(model)
        self._check_parameter_names(driving, parameters)
        if ring_length is not None and road_length is not None:
            raise ArgumentError("road_length", str(road_length), "None", " on a ring")
        optional = {
            "ring_length": ring_length,
            "road_length": road_length,
            "planning_step": planning_step,
        }
        given = {name: size for name, size in optional.items() if size is not None}
        for name, size in {"dt": dt, "lane_width": lane_width, **given}.items():
            check_positive(name, size)
        scalar_type(dtype)
        device = check_device(device)
        self.num_envs, self.num_lanes, self.num_vehicles = num_envs, num_lanes, num_vehicles
        self.shape = (num_envs, num_vehicles)
        self.dtype, self.device = dtype, torch.device(device)
        self.driving, self.integrator = driving, integrator
        self.dt, self.lane_width = dt, lane_width
        self.ring_length, self.road_length, self.mobil = ring_length, road_length, mobil
        self._parameters = self._read_parameters(parameters)
        planned = planning_step or DRIVING[driving] or dt
        self._movement = Advance(
            self.model,
            sumo=driving == "sumo",
            integrator=INTEGRATORS[integrator],
            parts=max(1, int(dt / planned + 0.5)),
            ring_length=ring_length or 0.0,
            dt=dt,
        )
        self._step_count = 0
        self._build()
        self._place_vehicles()

    # State --------------------------------------------------------------------------------------

    @property
    def x(self) -> torch.Tensor:
        """Positions along the road [m], (num_envs, num_vehicles)."""
        return self._x.clone() if self._x is self._search.x else self._x

    @property
    def speed(self) -> torch.Tensor:
        """Speeds [m/s], (num_envs, num_vehicles)."""
        return self._speed.clone() if self._speed is self._search.speed else self._speed

    @property
    def y(self) -> torch.Tensor:
        """Centre lines of the vehicles' lanes [m], (num_envs, num_vehicles); 0 in free slots."""
        return self._search.lane.clamp(min=0).to(self.dtype) * self.lane_width

    @property
    def lane(self) -> torch.Tensor:
        """Lanes, (num_envs, num_vehicles), int32; -1 in free slots."""
        return self._search.lane.clone()

    @property
    def active(self) -> torch.Tensor:
        """Which slots hold a vehicle, (num_envs, num_vehicles), bool."""
        return self._search.lane >= 0

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The vehicles' and drivers' numbers by name, each (num_envs, num_vehicles).

        Those that require a gradient are read anew each step; of the others these are copies.
        """
        found = self._parameters.items()
        return {name: value if value.requires_grad else value.clone() for name, value in found}

    @property
    def leader(self) -> torch.Tensor:
        """Whom each vehicle follows, (num_envs, num_vehicles), int32: an index within the road.

        -1 without a leader, -2 in free slots.
        """
        self._find_leaders()
        leader = self._search.leader
        return torch.where(leader < 0, leader, leader % self.num_vehicles)

    # What a recorder reads: `RolloutRecorder.capture` after each step.

    num_autonomous = 0

    @property
    def control_step(self) -> float:
        """Time between two steps [s]."""
        return self.dt

    @property
    def vehicle_lengths(self) -> list[float]:
        """Of the first road's vehicles [m]; the recorder draws all roads' with these."""
        return self._parameters["length"].detach().expand(self.shape)[0].tolist()

    def vehicle_poses(self) -> torch.Tensor:
        """x, y [m], heading [rad], (num_envs, num_vehicles, 3); NaN in a free slot."""
        poses = torch.stack([self.x, self.y, torch.zeros_like(self.x)], dim=-1).detach()
        return poses.masked_fill(~self.active[..., None], torch.nan)

    def get_state(self) -> State:
        """The current state; x and speed carry their gradient, later steps do not change it."""
        return {
            "x": self.x,
            "speed": self.speed,
            "lane": self.lane,
            "step_count": torch.tensor([self._step_count]),
        }

    def set_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from `state`; what it does not name stays. Gradients reach its x and speed.

        Lanes may be given as `y` instead, whose lane is that of the nearest centre line. Vehicles
        may stand in any order.

        Raises:
            ValueError: an unknown name; a tensor of wrong shape, dtype or device; a non-finite or
                negative speed, a non-finite x or one off the ring; a lane that does not exist, or
                lane and y that disagree. Nothing has been set then.
        """
        if not isinstance(state, Mapping):
            raise ArgumentError("state", f"a {type(state).__name__}", "tensors by name")
        steps = state.get("step_count", torch.tensor([self._step_count]))
        for name, value in state.items():
            if name not in _STATE:
                raise ArgumentError("state", repr(name), f"any of {[*_STATE]}")
            if name != "step_count":
                self._check_tensor(name, value)
        whole = isinstance(steps, torch.Tensor) and not steps.is_floating_point()
        if not whole or steps.shape != (1,) or int(steps) < 0:
            raise ArgumentError("step_count", str(steps), "one integer >= 0", ", shape (1,)")
        x, speed = state.get("x", self._x), state.get("speed", self._speed)
        lane = self._read_lane(state)
        present = lane >= 0
        self._check_all("x", x, torch.isfinite(x), "finite positions")
        if self.ring_length is not None:
            on_ring = (x >= 0.0) & (x < self.ring_length)
            self._check_all("x", x, on_ring | ~present, f"0 <= x < {self.ring_length}")
        self._check_all("speed", speed, torch.isfinite(speed) & (speed >= 0.0), "numbers >= 0")
        self._x, self._speed, self._step_count = x.clone(), speed.clone(), int(steps)
        self._search.lane.copy_(lane)

    def detach(self) -> None:
        """Start a new gradient window where the vehicles stand."""
        self._x, self._speed = self._x.detach(), self._speed.detach()

    # Time ---------------------------------------------------------------------------------------

    def step(self, acceleration: torch.Tensor | None = None) -> State:
        """Advance all roads by dt: lane changes, leaders, accelerations, speeds and positions.

        Args:
            acceleration: (num_envs, num_vehicles) [m/s^2]: drives a vehicle in its driver's place
                where it is not NaN. It does not reverse, whatever is asked of it.

        Returns:
            The new state, as `get_state` gives it.

        Raises:
            ValueError: acceleration infinite, or of wrong shape, dtype or device.
        """
        self._advance(acceleration)
        return self.get_state()

    def run(self, num_steps: int) -> State:
        """Advance by `num_steps` steps and return the state after the last."""
        check_integer("num_steps", num_steps, 0)
        for _ in range(num_steps):
            self._advance(None)
        return self.get_state()

    def enter(
        self, road: torch.Tensor, lane: torch.Tensor, x: torch.Tensor, speed: torch.Tensor
    ) -> torch.Tensor:
        """Put vehicles into free slots; each brings nothing but the parameters of its slot.

        Whether there is room on the road is the caller's care.

        Args:
            road: (n,) integers, which road each enters; roads may repeat.
            lane: (n,) integers, which lane.
            x: (n,) positions of their centres [m].
            speed: (n,) [m/s].

        Returns:
            (n,) integers: the slots they took, in their roads.

        Raises:
            ValueError: a tensor of another shape, dtype or device, no slot free on a road, or a
                value out of range. Nobody has entered then.
        """
        shape = (road.numel(),) if isinstance(road, torch.Tensor) else (1,)
        for name, value in {"road": road, "lane": lane, "x": x, "speed": speed}.items():
            self._check_tensor(name, value, shape)
        road, lane = road.long(), lane.to(torch.int32)
        if not bool(((road >= 0) & (road < self.num_envs)).all()):
            raise ArgumentError("road", str(road.tolist()), f"0 to {self.num_envs - 1}")
        if not bool((lane >= 0).all()):
            raise ArgumentError("lane", str(lane.tolist()), f"0 to {self.num_lanes - 1}")
        slot = self._free_slots(road)
        entered = {
            "x": self._x.index_put((road, slot), x),
            "speed": self._speed.index_put((road, slot), speed),
            "lane": self._search.lane.index_put((road, slot), lane),
        }
        self.set_state(entered)
        return slot

    def leave(self, gone: torch.Tensor) -> None:
        """Free slots: those where `gone` (num_envs, num_vehicles), bool, is True."""
        self._check_tensor("gone", gone)
        self._search.lane.masked_fill_(gone, -1)

    def _advance(self, acceleration: torch.Tensor | None) -> None:
        if acceleration is not None:
            self._check_tensor("acceleration", acceleration)
            finite = ~torch.isinf(acceleration)
            self._check_all("acceleration", acceleration, finite, "finite numbers, or NaN,")
        self._find_leaders()
        if self.mobil is not None:
            self._search.change_lanes(self._step_count)
        inputs = [self._x, self._speed, *self._learned]
        inputs += [] if acceleration is None else [acceleration]
        if torch.is_grad_enabled() and any(value.requires_grad for value in inputs):
            self._advance_differentiably(acceleration)
        else:
            self._advance_in_place(acceleration)
        self._step_count += 1
        if self.road_length is not None:
            self._search.lane.masked_fill_(self._x.detach() > self.road_length, -1)

    def _advance_differentiably(self, acceleration: torch.Tensor | None) -> None:
        driver = self._pack_parameters() if self._learned else self._search.driver
        leader = self._search.leader.clone()
        self._x, self._speed = self._drive(self.x, self.speed, leader, driver, acceleration)

    def _advance_in_place(self, acceleration: torch.Tensor | None) -> None:
        if self._speed is not self._search.speed:
            self._search.speed.copy_(self._speed.detach())
        self._drive.in_place(self._search, acceleration)
        self._x, self._speed = self._search.x, self._search.speed

    def _find_leaders(self) -> None:
        """Let the search see the vehicles where they are, and find their leaders."""
        if self._x is not self._search.x:
            self._search.x.copy_(self._x.detach())
        if self._speed is not self._search.speed and self.mobil is not None:
            self._search.speed.copy_(self._speed.detach())
        if self._learned:
            self._search.driver.copy_(self._pack_parameters().detach())
        self._search.find_leaders()

    # Construction and checks --------------------------------------------------------------------

    def _build(self) -> None:
        """Allocate, and record the step in place."""
        scalar = scalar_type(self.dtype)
        search = LeaderSearch(
            self.shape,
            self.num_lanes,
            self._movement,
            scalar=scalar,
            device=str(self.device),
        )
        self._learned = [value for value in self._parameters.values() if value.requires_grad]
        search.driver.copy_(self._pack_parameters().detach())
        # Learned numbers may come to differ.
        alike = not self._learned and all(
            not any(value.stride()) for value in self._parameters.values()
        )
        if self.mobil is not None:
            search.record_lane_changes(self.mobil, alike)
        settings = (self.shape, self.dtype)
        drive: VectorStep | PlainStep | None = None
        if self.device.type == "cpu":
            learned = bool(self._learned)
            drive = vector_step(*settings, self._movement, alike=alike, learned=learned)
        self._drive = drive or PlainStep(*settings, str(self.device), self._movement)
        self._search = search
        self._x, self._speed = search.x, search.speed

    def _pack_parameters(self) -> torch.Tensor:
        """(num_envs, num_vehicles, numbers), in the order of the model's `numbers`."""
        return torch.stack([self._parameters[n.name] for n in self.model.numbers], dim=-1)

    def _place_vehicles(self) -> None:
        """Vehicles evenly over lanes, the remainder to the first; in a row from x = 0, at rest."""
        parts = torch.arange(self.num_vehicles).tensor_split(self.num_lanes)
        lane = torch.cat([torch.full_like(part, i) for i, part in enumerate(parts)])
        place = torch.cat([torch.arange(len(part)) for part in parts]).to(self.dtype)
        if self.ring_length is None:
            spacing = 2.0 * self._parameters["length"].detach().amax(dim=1, keepdim=True)
        else:
            self._check_room(self.ring_length, parts)
            counts = torch.tensor([len(part) for part in parts], dtype=self.dtype)
            spacing = self.ring_length / counts[lane].to(self.device)
        self._x.copy_(place.to(self.device) * spacing)
        self._search.lane.copy_(lane.to(torch.int32))

    def _check_room(self, ring_length: float, parts: Sequence[torch.Tensor]) -> None:
        """Nobody starts in the one ahead where the vehicles of each lane stand evenly on a ring."""
        lengths = self._parameters["length"].detach().double()
        least = 0.0
        for part in filter(len, parts):
            length = lengths[:, part.to(self.device)]
            pairs = 0.5 * (length + length.roll(-1, dims=1))
            least = max(least, len(part) * float(pairs.max()))
        if ring_length < least:
            accepted = f"room for the vehicles at equal distances, {least:g} m at least,"
            raise ArgumentError("ring_length", repr(ring_length), accepted)

    def _check_parameter_names(self, driving: str, given: Mapping[str, Number]) -> None:
        """Every name is the model's, and the model has what is asked of it."""
        check_names(given, self.model.numbers, self.model.name)
        names = [number.name for number in self.model.numbers]
        taken = set(names) & set(inspect.signature(TrafficSim).parameters)
        if taken:
            raise ArgumentError(
                f"model {self.model.name}", f"parameters {sorted(taken)}", "names not TrafficSim's"
            )
        if driving == "sumo" and not set(traffic.SUMO_NAMES) <= set(names):
            accepted = f"a model with {', '.join(traffic.SUMO_NAMES)}"
            raise ArgumentError("driving", f"'sumo' of {self.model.name!r}", accepted)

    def _read_parameters(self, given: Mapping[str, Number]) -> dict[str, torch.Tensor]:
        places = (self.shape, self.dtype, self.device)
        return {
            number.name: read_parameter(number, given.get(number.name, number.default), *places)
            for number in self.model.numbers
        }

    def _read_lane(self, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The lanes that a new state asks for; -1 for free slots."""
        lane = state.get("lane", self._search.lane)
        if "y" in state:
            nearest = torch.round(state["y"].detach() / self.lane_width).to(lane.dtype)
            exists = (nearest >= 0) & (nearest < self.num_lanes)
            self._check_all("y", state["y"], exists, "y of a lane")
            if "lane" in state:
                same = (nearest == lane) | (lane < 0)
                self._check_all("y", state["y"], same, "y of the lane given with it, or no lane,")
            else:
                lane = nearest
        in_range = (lane >= -1) & (lane < self.num_lanes)
        self._check_all("lane", lane, in_range, f"-1 to {self.num_lanes - 1}")
        return lane

    def _free_slots(self, road: torch.Tensor) -> torch.Tensor:
        """For each entry of `road` a free slot of that road, distinct where roads repeat."""
        by_road = torch.argsort(road, stable=True)
        grouped = road[by_road]
        rank = torch.arange(len(road), device=road.device)
        rank = rank - torch.searchsorted(grouped, grouped)
        nth_free = torch.cumsum(self._search.lane[grouped] < 0, dim=1)
        if len(road) and bool((nth_free[:, -1] <= rank).any()):
            full = int(grouped[nth_free[:, -1] <= rank][0])
            given = f"more vehicles for road {full} than its free slots"
            raise ArgumentError("road", given, "as many at most")
        slot = torch.empty_like(road)
        slot[by_road] = torch.searchsorted(nth_free, (rank + 1)[:, None])[:, 0]
        return slot

    def _check_tensor(
        self, name: str, value: torch.Tensor, shape: tuple[int, ...] | None = None
    ) -> None:
        """Right type, shape (that of the vehicles if None) and place."""
        dtypes = {
            "acceleration": (self.dtype,),
            "gone": (torch.bool,),
            "road": (torch.int32, torch.int64),
            "x": (self.dtype,),
            "y": (self.dtype,),
            "speed": (self.dtype,),
            "lane": (torch.int32, torch.int64),
        }
        fits = isinstance(value, torch.Tensor) and value.dtype in dtypes[name]
        dtype = value.dtype if fits else dtypes[name][0]
        check_tensor(name, value, self.shape if shape is None else shape, dtype, self.device)

    @staticmethod
    def _check_all(name: str, value: torch.Tensor, fine: torch.Tensor, accepted: str) -> None:
        if not bool(fine.all()):
            wrong = value.detach()[~fine][0].item()
            raise ArgumentError(name, str(wrong), accepted)
