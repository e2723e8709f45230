"""The Warp side of `TrafficNetwork`: its arrays, and the parts of a step as recorded programs."""

from __future__ import annotations

import numpy as np
import torch
import warp as wp

from warp_envs.bridge.devices import scalar_type
from warp_envs.bridge.program import Program
from warp_envs.traffic.movement import Advance
from warp_envs.traffic.network_launches import HEEDED, NetworkLaunches, Rules, Sizes
from warp_envs.traffic.network_tables import Tables

_BY_NETWORK = ("lane_start", "entering", "clock", "found_last", "rate", "departed", "counts")
_BY_NETWORK = (*_BY_NETWORK, "loops", "trips", "taken", "filled", "passing", "light", "refused")
_BY_NETWORK = (*_BY_NETWORK, "asked_at")


class NetworkPrograms:
    """The state of a batch of networks in Warp's arrays and what happens to it in place.

    `rows` has the arrays of `NetworkLaunches.layout` by name; `tensors` are torch's views of them,
    those over vehicles (networks, vehicles, ...).
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
        self.sizes = sizes
        scalar = scalar_type(dtype)
        self.launches = NetworkLaunches(
            sizes, tables, flows, advance, rules, scalar=scalar, device=device
        )
        self._keep = Program(device)  # of all arrays
        self._allocate()
        self._programs = {
            name: Program(device)
            for name in ("order", "look", "drive", "cross", "change", "insert", "tick", "light")
        }
        launches, programs, rows = self.launches, self._programs, self.rows
        launches.order(programs["order"], rows)
        launches.look(programs["look"], rows)
        launches.drive(programs["drive"], rows)
        launches.cross(programs["cross"], rows, rows["x"])
        launches.tick(programs["tick"], rows)
        launches.light(programs["light"], rows, 0)
        if rules.mobil is not None:
            launches.change(programs["change"], rows, rules.mobil)
        if sizes.flows:
            launches.insert(programs["insert"], rows)

    def run(self, name: str) -> None:
        """Run "order", "look", "drive", "cross", "change", "insert", "tick" or "light"."""
        self._programs[name].replay()

    def _allocate(self) -> None:
        self.rows: dict[str, wp.array] = {
            name: self._keep.array(shape, dtype, requires_grad=False)
            for name, (shape, dtype) in self.launches.layout.items()
        }
        self.tensors = {}
        for name, array in self.rows.items():
            if array.dtype == wp.uint64:  # torch's has no arithmetic
                continue
            tensor = wp.to_torch(array, requires_grad=False)
            if name not in _BY_NETWORK:
                tensor = tensor.view(self.sizes.networks, self.sizes.vehicles, *tensor.shape[1:])
            self.tensors[name] = tensor
        n = self.sizes.rows
        order = torch.arange(n, dtype=torch.int32).view(self.sizes.networks, self.sizes.vehicles)
        self.tensors["order"].copy_(order)
        for name in ("lane", "previous", "flow", "number", "aside", "asked_at"):
            self.tensors[name].fill_(-1)
        self.tensors["command"].fill_(float("nan"))
        self.tensors["advised"].fill_(float("inf"))


class DifferentiableDrive:
    """What the program "drive" does, as a torch function of x, speed, commands and drivers."""

    def __init__(self, programs: NetworkPrograms, dtype: torch.dtype, device: str) -> None:
        """Record it."""
        program, scalar = Program(device), scalar_type(dtype)
        n = programs.sizes.rows
        self._heeded = (*HEEDED, *programs.launches.ahead)
        self._shape = (programs.sizes.networks, programs.sizes.vehicles)
        rows = {name: program.array(n, scalar) for name in ("x", "speed", "command")}
        rows["driver"] = program.array(n, programs.rows["driver"].dtype)
        for name in self._heeded:
            like = programs.rows[name]
            rows[name] = program.array(like.shape, like.dtype, requires_grad=False)
        new = {name: program.array(n, scalar) for name in ("new_x", "new_speed")}
        programs.launches.drive(program, {**rows, **new})
        self._function = program.function([*rows.values()], [*new.values()])

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
        for name in self._heeded:
            row = rows[name]
            given.append(row.clone().reshape(-1, *row.shape[2:]))
        next_x, next_speed = self._function(*given)
        return next_x.view(self._shape), next_speed.view(self._shape)
