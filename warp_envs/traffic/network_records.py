"""Trajectories of a road network's vehicles as SUMO's FCD XML and as CSV.

recorder = TrajectoryRecorder(traffic)
for _ in range(600):
    traffic.step()
    recorder.capture()
recorder.write_fcd("fcd.xml")
recorder.write_csv("trajectories.csv")
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from warp_envs.checks import ArgumentError, check_callable_with, check_integer
from warp_envs.traffic.network_sim import TrafficNetwork

Row = tuple[float, str, str, float, float]
"""time [s], vehicle, lane, x of the front [m], speed [m/s]."""


class TrajectoryRecorder:
    """What the vehicles of one network of a batch did."""

    def __init__(
        self,
        traffic: TrafficNetwork,
        env: int = 0,
        vehicle_name: Callable[[int, int], str] | None = None,
    ) -> None:
        """Record nothing yet but where they are now.

        Args:
            traffic: the networks.
            env: which of them.
            vehicle_name: of a flow's index and a vehicle's number in it, as
                `SumoNetwork.vehicle_name`; "flow.number" if None. One that came with no flow is
                "slot.index".

        Raises:
            ArgumentError: no `TrafficNetwork`, no such network in it, or no function of two.
        """
        if not isinstance(traffic, TrafficNetwork):
            raise ArgumentError("traffic", f"a {type(traffic).__name__}", "a TrafficNetwork")
        if vehicle_name is not None:
            check_callable_with("vehicle_name", vehicle_name, 2, "(flow, number)")
        check_integer("env", env, 0, traffic.num_envs - 1)
        self._traffic, self._env = traffic, env
        flows = [flow.name for flow in traffic.network.flows]
        self._name = vehicle_name or (lambda flow, number: f"{flows[flow]}.{number}")
        self._times: list[float] = []
        self._columns: list[tuple[np.ndarray, ...]] = []
        self.capture()

    def capture(self) -> None:
        """Add the present: call it after each step that is to be recorded."""
        state = self._traffic.get_state()
        names = ("lane", "flow", "number", "x", "speed")
        self._times.append(self._traffic.time)
        self._columns.append(tuple(state[n][self._env].detach().cpu().numpy() for n in names))

    def rows(self) -> Iterator[Row]:
        """One row a vehicle and time, in the order of time."""
        for k in range(len(self._times)):
            yield from self._rows_at(k)

    def write_fcd(self, path: str | Path) -> None:
        """Write SUMO's floating car data: id, lane, pos and speed of every vehicle.

        x, y and angle are left out, as a network has no shape (SUMO leaves them out where it is
        told which attributes to write).
        """
        with Path(path).open("w", encoding="utf-8") as file:
            file.write('<?xml version="1.0" encoding="UTF-8"?>\n<fcd-export>\n')
            for k, time in enumerate(self._times):
                file.write(f'    <timestep time="{time:.3f}">\n')
                for _, vehicle, lane, x, speed in self._rows_at(k):
                    file.write(
                        f"        <vehicle id={quoteattr(vehicle)} lane={quoteattr(lane)} "
                        f'pos="{x:.6f}" speed="{speed:.6f}"/>\n'
                    )
                file.write("    </timestep>\n")
            file.write("</fcd-export>\n")

    def write_csv(self, path: str | Path) -> None:
        """Write the same as comma-separated values, with the columns' names on top."""
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("time", "vehicle", "lane", "x", "speed"))
            for time, vehicle, lane, x, speed in self.rows():
                writer.writerow((f"{time:.3f}", vehicle, lane, f"{x:.6f}", f"{speed:.6f}"))

    def _rows_at(self, k: int) -> Iterator[Row]:
        lane, flow, number, x, speed = self._columns[k]
        for i in np.flatnonzero(lane >= 0):
            known = flow[i] >= 0
            vehicle = self._name(int(flow[i]), int(number[i])) if known else f"slot.{i}"
            segment, index = self._traffic.lane_names[lane[i]]
            yield self._times[k], vehicle, f"{segment}_{index}", float(x[i]), float(speed[i])
