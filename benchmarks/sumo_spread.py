"""How far SUMO and `TrafficNetwork` are apart, and how far each is from itself begun otherwise.

    python benchmarks/sumo_spread.py [NAME_DEMAND ...] [steps=0.1,0.5,1.0] [shifts=0,0.5,1,1.5,2]

The networks and demands of `sumo_networks.py`, as tests/data has them. A shift s lets the flow
that begins at b begin at b + s (b + 1), in both: where traffic breaks down, a second decides when.
SUMO's own seed changes nothing here. It needs eclipse-sumo (`pip install eclipse-sumo`).

One row for each demand and step: flow over the loops after the merge and mean travel time of each
route, SUMO's and ours, as the mean over the shifts (the least and the greatest), and the means'
difference.
"""

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
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
            routes = shifted(case, shift, Path(scratch))
            for who, run in enumerate((run_sumo, run_here)):
                for what, value in run(case, routes, step).items():
                    found.setdefault(what, [[], []])[who].append(value)
    for what, rows in found.items():
        means = [float(np.mean(row)) for row in rows]
        told = [
            f"{mean:.1f} ({min(row):.0f} to {max(row):.0f})"
            for mean, row in zip(means, rows, strict=True)
        ]
        apart = f"{means[1] / means[0] - 1.0:+.1%}" if means[0] else ""
        print(f"| {case} | {step:g} | {what} | {' | '.join(told)} | {apart} |", flush=True)


def shifted(case: str, shift: float, scratch: Path) -> Path:
    text = (DATA / f"sumo_{case}.rou.xml").read_text()

    def later(match: re.Match[str]) -> str:
        begin = float(match[1])
        return f'begin="{begin + shift * (begin + 1.0):g}"'

    routes = scratch / "routes.rou.xml"
    routes.write_text(re.sub(r'begin="([\d.]+)"', later, text))
    return routes


def files(case: str, routes: Path) -> list[Path]:
    network = case.split("_")[0]
    return [DATA / f"sumo_{network}.net.xml", routes, DATA / f"sumo_{network}.add.xml"]


def run_sumo(case: str, routes: Path, step: float) -> dict[str, float]:
    network, demand, loops = files(case, routes)
    scratch = routes.parent
    (scratch / "add.xml").write_text(loops.read_text())
    command = ["sumo", "-n", network, "-r", demand, "-a", "add.xml", "--step-length", step]
    command += ["--tripinfo-output", "trips.xml", "--statistic-output", "statistics.xml"]
    command += ["--end", END, "--time-to-teleport", -1, "--collision.action", "warn"]
    command += ["--no-step-log", "--no-warnings"]
    subprocess.run([str(c) for c in command], check=True, cwd=scratch)
    durations: dict[str, list[float]] = {}
    for trip in ET.parse(scratch / "trips.xml").getroot():
        route = trip.attrib["id"].split(".")[0].rstrip("0123456789")
        durations.setdefault(route, []).append(float(trip.attrib["duration"]))
    counts = ET.parse(scratch / "loops.xml").getroot()
    flow = sum(float(c.attrib["nVehContrib"]) for c in counts if c.attrib["id"].startswith(AFTER))
    (safety,) = ET.parse(scratch / "statistics.xml").getroot().iter("safety")
    return {
        "flow": flow * 3600.0 / END,
        **{f"time {route}": float(np.mean(d)) for route, d in sorted(durations.items())},
        "collisions": float(safety.attrib["collisions"]),
    }


def run_here(case: str, routes: Path, step: float) -> dict[str, float]:
    read = read_sumo(*files(case, routes))
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
    for _ in range(round(END / step)):
        traffic.step()
        overlapping += int(traffic.overlapping().any())
    after = [loop.segment in AFTER for loop in read.network.loops]
    flow = traffic.loops()["count"][0].numpy()[after].sum() * 3600.0 / END
    times = zip(read.network.routes, traffic.travel_time[0].tolist(), strict=True)
    return {
        "flow": float(flow),
        **{f"time {route}": time for route, time in sorted(times)},
        "collisions": float(overlapping),
    }


if __name__ == "__main__":
    main()
