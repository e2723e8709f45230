"""Record what SUMO does on ramps, a drop, a zipper and at signals, for tests of `TrafficNetwork`.

    python benchmarks/sumo_networks.py tests/data

It needs eclipse-sumo (`pip install eclipse-sumo`), whose netconvert and sumo it runs. Written are
the networks and demands as SUMO has them (net.xml, rou.xml), and sumo_networks.npz: of each demand
the vehicles that passed each loop, the mean travel time and number of arrivals of each route, and
the first minutes' positions where nobody changes lanes.
"""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

END = 1800  # [s]
STEP = 0.5  # [s]
TYPE = (
    '<vType id="car" carFollowModel="IDM" length="5" minGap="2" accel="1.5" decel="2" tau="1.2" '
    'delta="4" emergencyDecel="9" maxSpeed="33" speedFactor="1" speedDev="0"/>'
)
NODES: dict[str, dict[str, tuple[float, float]]] = {
    "onramp": {"0": (0, 0), "r": (700, -100), "1": (1000, 0), "2": (1250, 0), "3": (2250, 0)},
    "short": {"0": (0, 0), "r": (700, -100), "1": (1000, 0), "2": (1100, 0), "3": (2100, 0)},
    "offramp": {"0": (0, 0), "1": (1000, 0), "2": (1250, 0), "3": (2050, 0), "e": (1650, -100)},
    "drop": {"0": (0, 0), "1": (1000, 0), "2": (2000, 0)},
    "zipper": {"0": (0, 0), "1": (1000, 0), "2": (2000, 0)},
    "series": {"0": (0, 0), "1": (500, 0), "2": (900, 0), "3": (1200, 0)},
    "lights": {"0": (0, 0), "1": (400, 0), "2": (700, 0), "3": (1000, 0)},
    "signal": {"0": (0, 0), "1": (600, 0), "2": (1200, 0)},
    "turns": {"0": (0, 0), "1": (600, 0), "2": (1200, 0)},
    "meter": {
        "0": (0, 0), "r": (400, -200), "m": (820, -60),
        "1": (1000, 0), "2": (1250, 0), "3": (2250, 0),
    },
}  # fmt: skip
JUNCTIONS = {("zipper", "1"): "zipper"}  # others: priority, or signals:
Light = tuple[float, list[tuple[float, str]]]
"""Offset, and of each phase how long it lasts [s] and what it shows."""
LIGHTS: dict[str, dict[str, Light]] = {
    "lights": {"1": (0, [(22, "G"), (4, "y"), (24, "r")]), "2": (13, [(25, "G"), (25, "r")])},
    "signal": {"1": (7, [(30, "GG"), (3, "yy"), (27, "rr")])},
    "turns": {
        "1": (0, [(25, "GrG"), (3, "yrG"), (2, "rrG"), (15, "rGG"), (3, "ryy"), (12, "rrr")])
    },
    "meter": {"m": (0, [(2, "G"), (1, "y"), (6, "r")])},
}
EDGES: dict[str, dict[str, tuple[str, str, int, float]]] = {  # (from, to, lanes, limit)
    "onramp": {
        "main": ("0", "1", 2, 30),
        "ramp": ("r", "1", 1, 22),
        "on": ("1", "2", 3, 30),
        "after": ("2", "3", 2, 30),
    },
    "offramp": {
        "main": ("0", "1", 2, 30),
        "off": ("1", "2", 3, 30),
        "after": ("2", "3", 2, 30),
        "exit": ("2", "e", 1, 22),
    },
    "drop": {"wide": ("0", "1", 3, 30), "narrow": ("1", "2", 2, 30)},
    "zipper": {"wide": ("0", "1", 3, 30), "narrow": ("1", "2", 2, 30)},
    "series": {"a": ("0", "1", 1, 30), "b": ("1", "2", 1, 20), "c": ("2", "3", 1, 30)},
    "lights": {"a": ("0", "1", 1, 20), "b": ("1", "2", 1, 20), "c": ("2", "3", 1, 20)},
    "signal": {"a": ("0", "1", 2, 20), "b": ("1", "2", 2, 20)},
    "turns": {"wide": ("0", "1", 3, 20), "narrow": ("1", "2", 2, 20)},
    "meter": {
        "main": ("0", "1", 2, 30),
        "ramp": ("r", "m", 1, 16),
        "join": ("m", "1", 1, 22),
        "on": ("1", "2", 3, 30),
        "after": ("2", "3", 2, 30),
    },
}
LINKS = {  # from, lane, to, lane
    "onramp": [
        ("main", 0, "on", 1),
        ("main", 1, "on", 2),
        ("ramp", 0, "on", 0),
        ("on", 1, "after", 0),
        ("on", 2, "after", 1),
    ],
    "offramp": [
        ("main", 0, "off", 1),
        ("main", 1, "off", 2),
        ("off", 0, "exit", 0),
        ("off", 1, "after", 0),
        ("off", 2, "after", 1),
    ],
    "drop": [("wide", 1, "narrow", 0), ("wide", 2, "narrow", 1)],
    "zipper": [("wide", 0, "narrow", 0), ("wide", 1, "narrow", 1), ("wide", 2, "narrow", 1)],
    "series": [("a", 0, "b", 0), ("b", 0, "c", 0)],
    "lights": [("a", 0, "b", 0), ("b", 0, "c", 0)],
    "signal": [("a", 0, "b", 0), ("a", 1, "b", 1)],
    "turns": [("wide", 0, "narrow", 0), ("wide", 1, "narrow", 0), ("wide", 2, "narrow", 1)],
    "meter": [
        ("main", 0, "on", 1),
        ("main", 1, "on", 2),
        ("ramp", 0, "join", 0),
        ("join", 0, "on", 0),
        ("on", 1, "after", 0),
        ("on", 2, "after", 1),
    ],
}
ROUTES = {
    "onramp": {"through": "main on after", "entering": "ramp on after"},
    "offramp": {"through": "main off after", "leaving": "main off exit"},
    "drop": {"through": "wide narrow"},
    "zipper": {"through": "wide narrow"},
    "series": {"through": "a b c"},
    "lights": {"through": "a b c"},
    "signal": {"through": "a b"},
    "turns": {"through": "wide narrow"},
    "meter": {"through": "main on after", "entering": "ramp join on after"},
}
LOOPS = {
    "onramp": [("main", 2, 800), ("after", 2, 500)],
    "offramp": [("after", 2, 500), ("exit", 1, 200)],
    "drop": [("wide", 3, 800), ("narrow", 2, 500)],
    "zipper": [("wide", 3, 800), ("narrow", 2, 500)],
    "series": [("b", 1, 100), ("c", 1, 200)],
    "lights": [("b", 1, 100), ("c", 1, 200)],
    "signal": [("a", 2, 300), ("b", 2, 300)],
    "turns": [("narrow", 2, 300)],
    "meter": [("join", 1, 100), ("after", 2, 500)],
}
# The on-ramp, with 100 m to accelerate.
EDGES["short"], LINKS["short"] = EDGES["onramp"], LINKS["onramp"]
ROUTES["short"], LOOPS["short"] = ROUTES["onramp"], LOOPS["onramp"]
DEMANDS = {  # of each route, vehicles an hour
    "onramp": {"light": (1500, 300), "medium": (2000, 400), "heavy": (2600, 500)},
    "short": {"light": (1200, 250)},
    "offramp": {"medium": (1800, 500)},
    "drop": {"light": (1500,), "medium": (2200,), "heavy": (2800,)},
    "zipper": {"light": (1500,), "medium": (2200,), "heavy": (2800,)},
    "series": {"free": (900,)},
    "lights": {"even": (500,)},
    "signal": {"even": (1400,)},
    "turns": {"even": (1200,)},
    "meter": {"even": (1800, 500)},
}
FOLLOWED = {"series": 120.0, "lights": 240.0}
"""[s] How long every vehicle's place is recorded, where nobody changes lanes."""


NAMES = ("time", "car", "lane", "x", "speed")


def main() -> None:
    folder = Path(sys.argv[1])
    results: dict[str, np.ndarray] = {"end": np.array(END), "step": np.array(STEP)}
    with tempfile.TemporaryDirectory() as scratch:
        for name in NODES:
            net = folder / f"sumo_{name}.net.xml"
            kinds = {node: kind for (place, node), kind in JUNCTIONS.items() if place == name}
            lights = LIGHTS.get(name, {})
            make_network(NODES[name], kinds, EDGES[name], LINKS[name], Path(scratch), net, lights)
            (folder / f"sumo_{name}.add.xml").write_text(loops_of(LOOPS[name]))
            for demand, rates in DEMANDS[name].items():
                routes = folder / f"sumo_{name}_{demand}.rou.xml"
                routes.write_text(routes_of(ROUTES[name], EDGES[name], rates))
                record(name, demand, folder, Path(scratch), results)
    np.savez_compressed(folder / "sumo_networks.npz", allow_pickle=False, **results)


def make_network(
    places: dict[str, tuple[float, float]],
    junctions: dict[str, str],
    roads: dict[str, tuple[str, str, int, float]],
    lanes: list[tuple[str, int, str, int]],
    scratch: Path,
    target: Path,
    lights: dict[str, Light] | None = None,
) -> None:
    """By netconvert, of nodes, their types, edges, links and lights as the tables have them."""
    lights = lights or {}
    junctions = {**junctions, **dict.fromkeys(lights, "traffic_light")}
    nodes = "".join(
        f'<node id="{k}" x="{x}" y="{y}" type="{junctions.get(k, "priority")}"/>'
        for k, (x, y) in places.items()
    )
    logics = "".join(
        f'<tlLogic id="{k}" type="static" programID="0" offset="{offset}">'
        + "".join(f'<phase duration="{seconds}" state="{state}"/>' for seconds, state in phases)
        + "</tlLogic>"
        for k, (offset, phases) in lights.items()
    )
    edges = "".join(
        f'<edge id="{k}" from="{a}" to="{b}" numLanes="{n}" speed="{v}"/>'
        for k, (a, b, n, v) in roads.items()
    )
    links = "".join(
        f'<connection from="{a}" fromLane="{k}" to="{b}" toLane="{m}"/>' for a, k, b, m in lanes
    )
    for kind, tag, text in (
        ("nod", "nodes", nodes),
        ("edg", "edges", edges),
        ("con", "connections", links),
        ("tll", "tlLogics", logics),
    ):
        (scratch / f"{kind}.xml").write_text(f"<{tag}>{text}</{tag}>")
    files = [
        f"--{what}={scratch / kind}.xml"
        for what, kind in {
            "node-files": "nod",
            "edge-files": "edg",
            "connection-files": "con",
            **({"tllogic-files": "tll"} if lights else {}),
        }.items()
    ]
    subprocess.run(
        ["netconvert", *files, "--no-turnarounds", "--no-warnings", "-o", str(target)], check=True
    )
    # Without the comment on top, which has the date and paths.
    ET.ElementTree(ET.parse(target).getroot()).write(target, encoding="utf-8")


def routes_of(
    ways: dict[str, str], roads: dict[str, tuple[str, str, int, float]], rates: tuple[float, ...]
) -> str:
    """Flows lane by lane; those of a route's lanes begin half a second apart."""
    routes = "".join(f'<route id="{r}" edges="{way}"/>' for r, way in ways.items())
    flows = []
    for (route, way), rate in zip(ways.items(), rates, strict=True):
        lanes = roads[way.split()[0]][2]
        flows += [(0.5 * k, route, k, rate / lanes) for k in range(lanes)]
    text = "".join(
        f'<flow id="{route}{k}" type="car" route="{route}" begin="{begin}" end="{END}" '
        f'vehsPerHour="{rate:g}" departLane="{k}" departSpeed="max"/>'
        for begin, route, k, rate in sorted(flows)
    )
    return f"<routes>{TYPE}{routes}{text}</routes>\n"


def loops_of(places: Sequence[tuple[str, int, float]]) -> str:
    """Of an edge, its lanes and where on them [m]."""
    loops = "".join(
        f'<inductionLoop id="{edge}_{k}" lane="{edge}_{k}" pos="{x}" period="{END}" '
        'file="loops.xml"/>'
        for edge, lanes, x in places
        for k in range(lanes)
    )
    return f"<additional>{loops}</additional>\n"


def record(
    name: str, demand: str, folder: Path, scratch: Path, results: dict[str, np.ndarray]
) -> None:
    additional = scratch / "add.xml"
    additional.write_text(loops_of(LOOPS[name]))
    followed = FOLLOWED.get(name, 0.0)
    files = ["-n", f"{folder}/sumo_{name}.net.xml", "-r", f"{folder}/sumo_{name}_{demand}.rou.xml"]
    outputs = ["--tripinfo-output", "trips.xml", "--statistic-output", "statistics.xml"]
    if followed:
        outputs += ["--fcd-output", "fcd.xml", "--device.fcd.period", str(STEP)]
    settings = ["--step-length", str(STEP), "--end", str(END), "--precision", "9"]
    settings += ["--time-to-teleport", "-1", "--collision.action", "warn", "--no-step-log"]
    command = ["sumo", *[str(Path(f).resolve()) if "/" in f else f for f in files]]
    subprocess.run([*command, "-a", "add.xml", *outputs, *settings], check=True, cwd=scratch)
    key = f"{name}_{demand}"
    loops = ET.parse(scratch / "loops.xml").getroot()
    results[f"{key}_loops"] = np.array([loop.attrib["id"] for loop in loops])
    results[f"{key}_counts"] = np.array([float(loop.attrib["nVehContrib"]) for loop in loops])
    durations: dict[str, list[float]] = {route: [] for route in ROUTES[name]}
    for trip in ET.parse(scratch / "trips.xml").getroot():
        durations[trip.attrib["id"].split(".")[0].rstrip("0123456789")].append(
            float(trip.attrib["duration"])
        )
    results[f"{key}_arrived"] = np.array([len(d) for d in durations.values()])
    results[f"{key}_travel_time"] = np.array([np.mean(d) for d in durations.values()])
    (safety,) = ET.parse(scratch / "statistics.xml").getroot().iter("safety")
    results[f"{key}_collisions"] = np.array(int(safety.attrib["collisions"]))
    if followed:
        rows = [
            (float(step.attrib["time"]), int(car.attrib["id"].split(".")[1]), car.attrib["lane"],
             float(car.attrib["pos"]), float(car.attrib["speed"]))
            for step in ET.parse(scratch / "fcd.xml").getroot()
            if float(step.attrib["time"]) <= followed
            for car in step
        ]  # fmt: skip
        for column, values in zip(NAMES, zip(*rows, strict=True), strict=True):
            results[f"{key}_{column}"] = np.array(values)


if __name__ == "__main__":
    main()
