"""How far SUMO and `TrafficNetwork` are apart, and how far each is from itself begun otherwise.

    python benchmarks/sumo_spread.py [NAME_DEMAND ...] [steps=0.1,0.5,1.0] [shifts=0,0.5,1,1.5,2]

The networks and demands of `sumo_networks.py`, as tests/data has them. A shift s lets the flow
that begins at b begin at b + s (b + 1), in both: where traffic breaks down, a second decides when.
SUMO's own seed changes nothing here. It needs eclipse-sumo (`pip install eclipse-sumo`).

One row for each demand and step: flow over the loops after the merge and mean travel time of each
route, SUMO's and ours, as the mean over the shifts ± standard deviation (the least and the
greatest), and the means' difference.
"""

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from warp_envs.traffic import Mobil, TrafficNetwork, read_sumo

DATA = Path(__file__).parents[1] / "tests" / "data"
END = 1800.0
CASES = [
    f"{network}_{demand}"
    for network in ("onramp", "drop", "zipper")
    for demand in ("light", "medium", "heavy")
]
AFTER = ("after", "narrow")
"""Edges behind the merge."""


def main() -> None:
    options = dict(a.split("=") for a in sys.argv[1:] if "=" in a)
    cases = [a for a in sys.argv[1:] if "=" not in a] or CASES
    steps = [float(s) for s in options.get("steps", "0.5").split(",")]
    shifts = [float(s) for s in options.get("shifts", "0,0.5,1,1.5,2").split(",")]
    print("| | step | what | SUMO | here | |\n|---|---|---|---|---|---|")
    for case in cases:
        for step in steps:
            compare(case, step, shifts)


def compare(case: str, step: float, shifts: list[float]) -> None:
    found: dict[str, list[list[float]]] = {}
    for shift in shifts:
        with tempfile.TemporaryDirectory() as scratch:
            routes = shifted(DATA / f"sumo_{case}.rou.xml", shift, Path(scratch))
            network = case.split("_")[0]
            net, loops = (DATA / f"sumo_{network}.{kind}.xml" for kind in ("net", "add"))
            for who, run in enumerate((simulate_sumo, simulate_here)):
                for what, value in run(net, routes, loops, step, AFTER).items():
                    found.setdefault(what, [[], []])[who].append(value)
    for what, rows in found.items():
        means = [float(np.mean(row)) for row in rows]
        told = [
            f"{mean:.1f} ± {np.std(row):.1f} ({min(row):.0f} to {max(row):.0f})"
            for mean, row in zip(means, rows, strict=True)
        ]
        apart = f"{means[1] / means[0] - 1.0:+.1%}" if means[0] else ""
        print(f"| {case} | {step:g} | {what} | {' | '.join(told)} | {apart} |", flush=True)


def shifted(demand: Path, shift: float, scratch: Path) -> Path:
    """A copy of a rou.xml whose flows begin later."""
    text = demand.read_text()

    def later(match: re.Match[str]) -> str:
        begin = float(match[1])
        return f'begin="{begin + shift * (begin + 1.0):g}"'

    routes = scratch / "shifted.rou.xml"
    routes.write_text(re.sub(r'begin="([\d.]+)"', later, text))
    return routes


def simulate_sumo(
    net: Path, routes: Path, loops: Path, step: float, after: Collection[str], end: float = END
) -> dict[str, float]:
    """Vehicles an hour over the loops of some edges, mean travel times [s] and collisions."""
    scratch = routes.parent
    (scratch / "loops.add.xml").write_text(loops.read_text())
    command = ["sumo", "-n", net, "-r", routes, "-a", "loops.add.xml", "--step-length", step]
    command += ["--tripinfo-output", "trips.xml", "--statistic-output", "statistics.xml"]
    command += ["--end", end, "--time-to-teleport", -1, "--collision.action", "warn"]
    command += ["--no-step-log", "--no-warnings"]
    subprocess.run([str(c) for c in command], check=True, cwd=scratch)
    durations: dict[str, list[float]] = {}
    for trip in ET.parse(scratch / "trips.xml").getroot():
        route = trip.attrib["id"].split(".")[0].rstrip("0123456789")
        durations.setdefault(route, []).append(float(trip.attrib["duration"]))
    counts = ET.parse(scratch / "loops.xml").getroot()
    flow = sum(float(c.attrib["nVehContrib"]) for c in counts if edge_of(c.attrib["id"]) in after)
    (safety,) = ET.parse(scratch / "statistics.xml").getroot().iter("safety")
    return {
        "flow": flow * 3600.0 / end,
        **{f"time {route}": float(np.mean(d)) for route, d in sorted(durations.items())},
        "collisions": float(safety.attrib["collisions"]),
    }


def simulate_here(
    net: Path, routes: Path, loops: Path, step: float, after: Collection[str], end: float = END
) -> dict[str, float]:
    """The same by `TrafficNetwork`."""
    read = read_sumo(net, routes, loops)
    traffic = TrafficNetwork(
        read.network,
        1,
        500,
        dt=step,
        mobil=Mobil(),
        driving="sumo",
        integrator="semi_implicit",
        dtype=torch.float64,
    )
    overlapping = 0
    for _ in range(round(end / step)):
        traffic.step()
        overlapping += int(traffic.overlapping().any())
    counted = [loop.segment in after for loop in read.network.loops]
    flow = traffic.loops()["count"][0].numpy()[counted].sum() * 3600.0 / end
    times = zip(read.network.routes, traffic.travel_time[0].tolist(), strict=True)
    return {
        "flow": float(flow),
        **{f"time {route}": time for route, time in sorted(times)},
        "collisions": float(overlapping),
    }


def edge_of(lane: str) -> str:
    """The edge of a lane's name."""
    return lane.rpartition("_")[0]


if __name__ == "__main__":
    main()
