"""A differentiable microscopic simulator of road networks.

    traffic = TrafficNetwork(network, num_envs=64, num_vehicles=400, dt=0.1, mobil=Mobil())
    for _ in range(6000):
        state = traffic.step()
    traffic.loops()["flow"]

The equations are in `kernels.traffic`: `network`, `network_drive`, `network_lanes` and
`network_inflow`; docs/traffic.md tells what the gradients mean.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping

import torch

from kernels.traffic import road
from kernels.traffic.car_following import CarFollowing
from kernels.traffic.network_drive import MOST_PARTS
from warp_envs.bridge.devices import check_device, check_tensor, scalar_type
from warp_envs.checks import ArgumentError, check_choice, check_flag, check_integer, check_positive
from warp_envs.traffic.models import Number, check_names, find_model, read_parameter
from warp_envs.traffic.movement import Advance
from warp_envs.traffic.network import Network
from warp_envs.traffic.network_launches import Rules, Sizes
from warp_envs.traffic.network_programs import DifferentiableDrive, NetworkPrograms
from warp_envs.traffic.network_state import OF_VEHICLES, State, check_state, completed
from warp_envs.traffic.network_tables import flow_tables, make_tables
from warp_envs.traffic.programs import Mobil
from warp_envs.traffic.simulator import DRIVING, INTEGRATORS

HORIZON = 10.0
"""By default how long before a dead end drivers begin to change lanes for it [s]."""


class TrafficNetwork:
    """Batches of one road network, each with vehicles of its own.

    State (`get_state`, `set_state`), (num_envs, num_vehicles) where not told otherwise:

    | name | what | unit | type |
    |---|---|---|---|
    | x | position of the vehicle's front along its lane | m | dtype |
    | speed | along the lane, never negative | m/s | dtype |
    | lane | index of its lane among all (`lane_names`); -1 for a free slot | 1 | int32 |
    | route | index of its route | 1 | int32 |
    | previous | the lane its front came from; -1 where its rear cannot lie there | 1 | int32 |
    | aside | whom it heeds in another lane for a change of lanes; -1 for nobody | 1 | int32 |
    | flow, number | which vehicle of which flow; -1 for one that was set | 1 | int32 |
    | entered | when | s | dtype |
    | memory | of SUMO's drivers (.., 6 or more): `network_sumo_habits`, `network_outlook` | | |
    | advised | to SUMO's drivers: the highest acceleration in the next step | m/s² | dtype |
    | order | slots as last sorted: by lane, then free ones as they will be taken | 1 | int32 |
    | departed | vehicles of each flow so far, (num_envs, num_flows) | 1 | int32 |
    | asked_at | steps before the next of each flow asked for room, -1 if not (SUMO's) | 1 | int32 |
    | step_count | steps so far, (1,) | 1 | int64 |

    `x` and `speed` are differentiable in the `x` and `speed` handed to `set_state`, in commanded
    accelerations and in parameters that require a gradient, through any number of steps, over the
    borders of segments and through merges. Which lane a vehicle is in, whom it heeds, when it
    enters and leaves is discrete: no gradient passes through that. Where no gradient is asked for,
    steps run in place and record nothing.
    """

    def __init__(
        self,
        network: Network,
        num_envs: int,
        num_vehicles: int,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        model: str | CarFollowing = "idm",
        driving: str = "plain",
        planning_step: float | None = None,
        integrator: str = "euler",
        dt: float = 0.1,
        mobil: Mobil | None = None,
        horizon: float = HORIZON,
        look_ahead: float = 300.0,
        merge_zone: float = 100.0,
        head_start: float = 3.0,
        rates: torch.Tensor | None = None,
        **parameters: Number,
    ) -> None:
        """Make `num_envs` empty networks; flows that begin at 0 send their first vehicles.

        Args:
            network: the roads.
            num_envs: networks, stepped together.
            num_vehicles: slots for vehicles in each. Where none is free, queues wait
                (`slots_short`).
            device: "cpu" or "cuda:0".
            dtype: torch.float32 or torch.float64.
            model: of car-following, as `TrafficSim`'s; it needs a parameter v0.
            driving: "plain" or "sumo", as `TrafficSim`'s.
            planning_step: as `TrafficSim`'s; at most 16 parts.
            integrator: "euler", "semi_implicit" or "ballistic".
            dt: step [s].
            mobil: lane changes; None for none. With "sumo" driving `Mobil()`, and lanes are changed
                as SUMO's drivers do (`kernels.traffic.network_sumo_lanes`).
            horizon: how long before a dead end, at the desired speed and for each lane to cross,
                drivers begin to change lanes for it [s]; it needs `mobil` and "plain" driving, as
                SUMO's drivers have numbers of their own.
            look_ahead: how far beyond their lane drivers look [m]; of "sumo" driving it is SUMO's
                distance, and this that of lane changes alone.
            merge_zone: how far before a merge vehicles order themselves [m].
            head_start: that much later [s] vehicles of a lane that is yielded to still go first.
            rates: vehicles an hour, broadcast to (num_envs, num_flows); the flows' own if None.
            parameters: the model's and the vehicle's, as `TrafficSim`'s: a slot's, for whoever
                takes it, where the flow does not say otherwise.

        Raises:
            ArgumentError: any of these out of range, or an unknown name.
        """
        if not isinstance(network, Network):
            raise ArgumentError("network", f"a {type(network).__name__}", "a Network")
        for name, count in {"num_envs": num_envs, "num_vehicles": num_vehicles}.items():
            check_integer(name, count, 1)
        check_choice("integrator", integrator, INTEGRATORS)
        check_choice("driving", driving, DRIVING)
        if mobil is not None and not isinstance(mobil, Mobil):
            raise ArgumentError("mobil", repr(mobil), "a Mobil or None")
        if driving == "sumo" and mobil not in (None, Mobil()):
            accepted = "Mobil() or None with sumo driving, whose drivers weigh lanes as SUMO's"
            raise ArgumentError("mobil", repr(mobil), accepted)
        if horizon != HORIZON and (driving == "sumo" or mobil is None):
            why = "with sumo driving, whose D is SUMO's" if driving == "sumo" else "without mobil"
            raise ArgumentError("horizon", repr(horizon), f"{HORIZON} {why}")
        sizes = {
            "dt": dt,
            "horizon": horizon,
            "look_ahead": look_ahead,
            "merge_zone": merge_zone,
            "head_start": head_start,
        }
        if planning_step is not None:
            sizes["planning_step"] = planning_step
        for name, size in sizes.items():
            check_positive(name, size)
        scalar_type(dtype)
        self.model = find_model(model)
        self._check_model(driving, parameters)
        planned = planning_step or DRIVING[driving] or dt
        parts = max(1, int(dt / planned + 0.5))
        if parts > MOST_PARTS:
            raise ArgumentError("planning_step", f"{planned} of a dt of {dt}", "dt / 16 at least")
        device = check_device(device)
        self.network = network
        self.num_envs, self.num_vehicles = num_envs, num_vehicles
        self.shape = (num_envs, num_vehicles)
        self.dtype, self.device, self.dt, self.mobil = dtype, torch.device(device), dt, mobil
        places = (self.shape, self.dtype, self.device)
        self._parameters = {
            number.name: read_parameter(
                number, parameters.get(number.name, number.default), *places
            )
            for number in self.model.numbers
        }
        tables = make_tables(network, merge_zone, zippers=driving == "sumo")
        self.lane_names = tables.lane_names
        """(segment, lane in it) of each lane, in the order of the state's `lane`."""
        self._first_lane = tables.first_lane
        self._tables = tables
        flows = flow_tables(network, tables, self.model)
        self._programs = NetworkPrograms(
            Sizes(num_envs, num_vehicles, len(network.flows), len(network.loops)),
            tables,
            flows,
            Advance(self.model, driving == "sumo", INTEGRATORS[integrator], parts, 0.0, dt),
            Rules(look_ahead, merge_zone, head_start, mobil, horizon),
            dtype=dtype,
            device=device,
        )
        self._rows = self._programs.tensors
        self._flow_numbers = torch.as_tensor(flows[1], dtype=dtype, device=self.device)
        self._learned = [value for value in self._parameters.values() if value.requires_grad]
        self._rows["slot_driver"].copy_(self._pack_parameters().detach())
        self._rows["driver"].copy_(self._rows["slot_driver"])
        self._no_command = self._rows["command"].clone()
        self._differentiable: DifferentiableDrive | None = None
        self._x, self._speed = self._rows["x"], self._rows["speed"]
        self.set_rates(rates)
        self._insert()

    # State --------------------------------------------------------------------------------------

    @property
    def x(self) -> torch.Tensor:
        """Positions of the fronts along their lanes [m], (num_envs, num_vehicles)."""
        return self._x.clone() if self._x is self._rows["x"] else self._x

    @property
    def speed(self) -> torch.Tensor:
        """Speeds [m/s], (num_envs, num_vehicles)."""
        return self._speed.clone() if self._speed is self._rows["speed"] else self._speed

    @property
    def lane(self) -> torch.Tensor:
        """Lanes, (num_envs, num_vehicles), int32; -1 in free slots."""
        return self._rows["lane"].clone()

    @property
    def active(self) -> torch.Tensor:
        """Slots whose vehicle is on the roads, (num_envs, num_vehicles), bool."""
        return self._rows["lane"] >= 0

    @property
    def step_count(self) -> int:
        """Steps so far."""
        return self._step_count  # the clock lies on the device, which is not waited for

    @property
    def time(self) -> float:
        """Time so far [s]."""
        return self.step_count * self.dt

    @property
    def departed(self) -> torch.Tensor:
        """Vehicles of each flow that have entered, (num_envs, num_flows), int32."""
        return self._rows["departed"][:, : len(self.network.flows)].clone()

    @property
    def arrived(self) -> torch.Tensor:
        """Vehicles that have come to the end of each route, (num_envs, num_routes), int64."""
        return self._rows["trips"][..., 0].long()

    @property
    def travel_time(self) -> torch.Tensor:
        """Mean time on the roads of those that have arrived [s], (num_envs, num_routes)."""
        return self._rows["trips"][..., 1] / self._rows["trips"][..., 0]

    @property
    def waiting(self) -> torch.Tensor:
        """Vehicles of each flow that are due and have found no room, (num_envs, num_flows)."""
        flows = self.network.flows
        begin = torch.tensor([f.begin for f in flows], dtype=torch.float64)
        end = torch.tensor([f.end for f in flows], dtype=torch.float64)
        rate = self._rates.cpu() / 3600.0
        due = torch.floor((self.time - begin + 1e-9) * rate) + 1.0
        due = torch.minimum(due, torch.ceil((end - begin) * rate - 1e-9))
        due = torch.where((rate > 0.0) & (self.time >= begin), due, torch.zeros_like(due))
        return due.to(torch.int32).to(self.device) - self.departed

    @property
    def slots_short(self) -> torch.Tensor:
        """Insertions put off as no slot was free, (num_envs,): more `num_vehicles` mend it."""
        return self._rows["counts"][:, 0].clone()

    @property
    def lights(self) -> torch.Tensor:
        """What signals show now, (num_envs, num_ways), int32: 0 green, 1 yellow, 2 red.

        Of the ways of one signal after the other, in their order.
        """
        self._programs.run("light")
        return self._rows["light"][:, : self._tables.num_ways].clone()

    @property
    def _rates(self) -> torch.Tensor:
        return self._rows["rate"][:, : len(self.network.flows)]

    @property
    def _rows_clock(self) -> torch.Tensor:
        return self._rows["clock"]

    def set_rates(self, rates: torch.Tensor | None) -> None:
        """Send other numbers of vehicles an hour from now on; None for the flows' own.

        A flow's vehicle k is due at begin + k 3600 / rate, of the rate of the moment.

        Raises:
            ArgumentError: no tensor, rates that do not broadcast to (num_envs, num_flows), or
                negative ones.
        """
        own = torch.tensor([flow.rate for flow in self.network.flows], dtype=torch.float64)
        given = own if rates is None else rates
        if not isinstance(given, torch.Tensor) or given.is_complex() or given.dtype == torch.bool:
            raise ArgumentError("rates", repr(given), "a tensor of numbers, or None")
        try:
            wanted = given.to(torch.float64).expand(self._rates.shape)
        except RuntimeError as error:
            raise ArgumentError(
                "rates", f"shape {tuple(given.shape)}", f"one that fits {tuple(self._rates.shape)}"
            ) from error
        if not bool((torch.isfinite(wanted) & (wanted >= 0.0)).all()):
            raise ArgumentError("rates", str(given.tolist()), "numbers >= 0")
        self._rates.copy_(wanted)

    def loops(self, *, reset: bool = False) -> dict[str, torch.Tensor]:
        """What the loops have counted since the start or the last reset; (num_envs, num_loops).

        Args:
            reset: count from zero again.

        Returns:
            count: vehicles; speed: their mean [m/s]; harmonic_speed: its harmonic mean, over space
            rather than over those who pass [m/s]; time: that a loop was covered, the sum of length
            / speed [s]. Mean speeds of nobody are NaN. `flow` is count an hour and `occupancy` a
            share of the time, over what has passed since then.
        """
        check_flag("reset", reset)
        sums = self._rows["loops"][:, : len(self.network.loops)].clone()
        count, speed, slowness, covered = sums.unbind(dim=-1)
        passed = (self.step_count - self._loops_since) * self.dt
        result = {
            "count": count,
            "speed": speed / count,
            "harmonic_speed": count / slowness,
            "flow": count * 3600.0 / passed if passed else torch.zeros_like(count),
            "occupancy": covered / passed if passed else torch.zeros_like(count),
        }
        if reset:
            self._rows["loops"].zero_()
            self._loops_since = self.step_count
        return result

    _loops_since = 0
    _step_count = 0

    def lane_index(self, segment: str, lane: int = 0) -> int:
        """The index among all lanes of one of a segment."""
        check_integer("lane", lane, 0, self.network.segment(segment).num_lanes - 1)
        return self._first_lane[segment] + lane

    def get_state(self) -> State:
        """The current state; x and speed carry their gradient, later steps do not change it."""
        return {
            "x": self.x,
            "speed": self.speed,
            **{name: self._rows[name].clone() for name in OF_VEHICLES},
            "order": self._rows["order"] % self.num_vehicles,
            "departed": self.departed,
            "asked_at": self._rows["asked_at"][:, : len(self.network.flows)].clone(),
            "step_count": torch.tensor([self.step_count]),
        }

    def set_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from `state`; what it does not name stays. Gradients reach its x and speed.

        Where it names lanes and not previous, aside or asked_at, these are -1, and without order
        free slots fill up from the lowest on. What loops and trips have counted stays.

        Raises:
            ArgumentError: an unknown name; a tensor of wrong shape, type or device; a speed that is
                negative or not finite, an x off its lane; a lane or route that does not exist, or a
                lane that the route does not have; an order without each slot once. Nothing has
                been set then.
        """
        new = completed(state, self.get_state())
        check_state(new, self.network, self._tables)
        self._x, self._speed = new["x"].clone(), new["speed"].clone()
        for name in OF_VEHICLES:
            self._rows[name].copy_(new[name])
        first = torch.arange(self.num_envs, device=self.device) * self.num_vehicles
        self._rows["order"].copy_(new["order"] + first[:, None])
        for name in ("departed", "asked_at"):
            self._rows[name][:, : len(self.network.flows)] = new[name]
        self._loops_since += int(new["step_count"]) - self._step_count  # no time passes by this
        self._step_count = int(new["step_count"])
        self._rows_clock.fill_(self._step_count)
        self._rows["driver"].copy_(self._drivers().detach())

    def detach(self) -> None:
        """Start a new gradient window where the vehicles are."""
        self._x, self._speed = self._x.detach(), self._speed.detach()

    # Time ---------------------------------------------------------------------------------------

    def step(self, acceleration: torch.Tensor | None = None) -> State:
        """Advance all networks by dt: motion, lanes, lane changes, then who enters.

        Args:
            acceleration: (num_envs, num_vehicles) [m/s^2]: drives a vehicle in its driver's place
                where it is not NaN. It does not reverse, whatever is asked of it.

        Returns:
            The new state, as `get_state` gives it.

        Raises:
            ArgumentError: acceleration infinite, or of wrong shape, dtype or device.
        """
        self._advance(acceleration)
        return self.get_state()

    def run(self, num_steps: int) -> State:
        """Advance by `num_steps` steps and return the state after the last."""
        check_integer("num_steps", num_steps, 0)
        for _ in range(num_steps):
            self._advance(None)
        return self.get_state()

    def heeded(self) -> dict[str, torch.Tensor]:
        """Whom each vehicle heeds, (num_envs, num_vehicles) int64, an index in its network.

        leader (the next on its way; -1 for nobody, -2 in free slots), tail (one whose rear is still
        in its lane), beyond (a slow one beyond the lane's end; SUMO's drivers), merging (before it
        in a merge's order), gap (in another lane, for a change of lanes or, SUMO's drivers, at a
        zipper); and `distance` [m], bumper to bumper to the leader, infinite without one.
        """
        self._look()
        who = self._rows["heeded"].long()
        local = torch.where(who < 0, who, who % self.num_vehicles)
        result = {
            name: local[..., k]
            for k, name in enumerate(("leader", "tail", "beyond", "merging", "gap"))
        }
        leader = local[..., 0].clamp(min=0)
        rear = self._rows["x"] - self._rows["driver"][..., 0]
        distance = rear.gather(1, leader) + self._rows["offset"][..., 0] - self._rows["x"]
        result["distance"] = torch.where(local[..., 0] < 0, math.inf, distance)
        return result

    def overlapping(self) -> torch.Tensor:
        """Vehicles whose front is in the next one's rear, (num_envs, num_vehicles), bool.

        Of those that follow each other by the same lane: where branches merge, one may wait beside
        another's rear.
        """
        heeded, lane, previous = self.heeded(), self._rows["lane"], self._rows["previous"]
        leader = heeded["leader"].clamp(min=0)
        same = lane.gather(1, leader) == lane
        behind = previous.gather(1, leader) == lane
        return (heeded["leader"] >= 0) & (heeded["distance"] < 0.0) & (same | behind)

    def _advance(self, acceleration: torch.Tensor | None) -> None:
        if acceleration is not None:
            check_tensor("acceleration", acceleration, self.shape, self.dtype, self.device)
            if bool(torch.isinf(acceleration).any()):
                raise ArgumentError("acceleration", "an infinite one", "finite numbers, or NaN")
        command = self._no_command if acceleration is None else acceleration
        self._look()
        inputs = (self._x, self._speed, command, *self._learned)
        recorded = torch.is_grad_enabled() and any(value.requires_grad for value in inputs)
        rows = self._rows
        if recorded:
            if self._differentiable is None:
                self._differentiable = DifferentiableDrive(
                    self._programs, self.dtype, str(self.device)
                )
            driver = self._drivers() if self._learned else rows["driver"].clone()
            x, speed = self._differentiable(self.x, self.speed, command, driver, rows)
            rows["new_x"].copy_(x.detach())
            rows["new_speed"].copy_(speed.detach())
            self._programs.run("cross")
            # Who is stopped at the end of its lane is there whatever came before.
            stopped = rows["stopped"].clone()  # read in the backward pass, after later steps
            x = torch.where(stopped, rows["x"], x - rows["passed"])
            speed = torch.where(stopped, 0.0, speed)
        else:
            rows["command"].copy_(command)
            self._programs.run("drive")
            self._programs.run("cross")
            x, speed = rows["x"], rows["speed"]
        self._programs.run("tick")
        self._step_count += 1
        if self.mobil is not None:
            self._programs.run("change")
        self._insert()
        if recorded:
            inserted = rows["inserted"].clone()
            x = torch.where(inserted, rows["x"], x)
            speed = torch.where(inserted, rows["speed"], speed)
        self._x, self._speed = x, speed

    def _insert(self) -> None:
        if self.network.flows:
            self._programs.run("order")
            self._programs.run("insert")

    def _look(self) -> None:
        """Let the search see the vehicles where they are, and find whom they heed."""
        for name, value in (("x", self._x), ("speed", self._speed)):
            if value is not self._rows[name]:
                self._rows[name].copy_(value.detach())
        if self._learned:
            self._rows["driver"].copy_(self._drivers().detach())
        self._programs.run("order")
        self._programs.run("look")

    # Construction and checks --------------------------------------------------------------------

    def _pack_parameters(self) -> torch.Tensor:
        """(num_envs, num_vehicles, numbers), in the order of the model's `numbers`."""
        return torch.stack([self._parameters[n.name] for n in self.model.numbers], dim=-1)

    def _drivers(self) -> torch.Tensor:
        """The same of those who are there: of their flow, else of their slot."""
        own = self._pack_parameters()
        if not len(self._flow_numbers):
            return own
        flow = self._rows["flow"].long()
        given = self._flow_numbers[flow.clamp(min=0)]
        given = given.masked_fill((flow < 0)[..., None], math.nan)
        return torch.where(torch.isnan(given), own, given)

    def _check_model(self, driving: str, given: Mapping[str, Number]) -> None:
        check_names(given, self.model.numbers, self.model.name)
        names = {number.name for number in self.model.numbers}
        taken = names & set(inspect.signature(TrafficNetwork).parameters)
        if taken:
            accepted = "names not TrafficNetwork's"
            raise ArgumentError(f"model {self.model.name}", f"parameters {sorted(taken)}", accepted)
        needed = set(road.SUMO_NAMES) if driving == "sumo" else {"v0"}
        if not needed <= names:
            accepted = f"one with {', '.join(sorted(needed))}"
            raise ArgumentError("model", f"{self.model.name!r} with {driving} driving", accepted)
