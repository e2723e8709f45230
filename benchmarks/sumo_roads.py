"""SUMO and `TrafficNetwork` on ramps, drops, forks and limits that neither was made for.

    python benchmarks/sumo_roads.py [NAME ... | traced | unseen] [begins=1] [steps=0.1,...]
                                    [demands=light,...] [end=900]

Roads of NETWORKS, each in three demands and, unless told otherwise, in the step of its row: those
of TRACED, where rules were looked for vehicle by vehicle, and the others. It
needs eclipse-sumo (`pip install eclipse-sumo`). One row for each demand and step: flow over the
loops behind the junction and mean travel time of each route in SUMO, the difference of ours, and
collisions in either; all are means over flows that begin at 0, 0.5, 1, ... seconds. In bold is what
is more than 3 % (flow) or 5 % (time) apart, with the standard deviations over begins, SUMO's and
ours.
"""

import sys
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sumo_networks import TYPE, Light, loops_of, make_network, routes_of
from sumo_spread import shifted, simulate_here, simulate_sumo

Demand = tuple[float, ...]
"""Of each route, vehicles an hour."""

CAR = TYPE
SWIFT = (
    '<vType id="car" carFollowModel="IDM" length="5" minGap="2.5" accel="2.6" decel="4.5" '
    'tau="1" delta="4" emergencyDecel="9" maxSpeed="38" speedFactor="1" speedDev="0"/>'
)
"""SUMO's own numbers of a passenger car."""
TRUCK = (
    '<vType id="truck" carFollowModel="IDM" length="12" minGap="2.5" accel="1" decel="2" tau="1.5" '
    'delta="4" emergencyDecel="9" maxSpeed="22" speedFactor="1" speedDev="0"/>'
)


@dataclass(frozen=True)
class Roads:
    """Edges (from, to, lanes, limit) between nodes, links of lanes, routes and loops."""

    nodes: dict[str, tuple[float, float]]
    edges: dict[str, tuple[str, str, int, float]]
    links: list[tuple[str, int, str, int]]
    routes: dict[str, str]
    loops: list[tuple[str, int, float]]
    demands: tuple[Demand, Demand, Demand]
    step: float = 0.5
    car: str = CAR
    trucks: float = 0.0  # share
    zippers: tuple[str, ...] = ()  # nodes
    lights: dict[str, Light] = field(default_factory=dict)  # of nodes


def straight(source: str, target: str, lanes: int, shift: int = 0, first: int = 0) -> list:
    """Lane k from `first` on leads into lane k + shift."""
    return [(source, k, target, k + shift) for k in range(first, first + lanes)]


def on_ramp(
    lanes: int, length: float, demands: tuple, step: float = 0.5, limit: float = 30, **more: Any
) -> Roads:
    end = 1000.0 + length
    return Roads(
        {"0": (0, 0), "r": (700, -100), "1": (1000, 0), "2": (end, 0), "3": (end + 1000.0, 0)},
        {
            "main": ("0", "1", lanes, limit),
            "ramp": ("r", "1", 1, min(limit, 22)),
            "on": ("1", "2", lanes + 1, limit),
            "after": ("2", "3", lanes, limit),
        },
        [
            *straight("main", "on", lanes, 1),
            ("ramp", 0, "on", 0),
            *straight("on", "after", lanes, -1, 1),
        ],
        {"through": "main on after", "entering": "ramp on after"},
        [("after", lanes, 500)],
        demands,
        step,
        **more,
    )


def off_ramp(
    lanes: int, length: float, demands: tuple, step: float = 0.5, limit: float = 30, **more: Any
) -> Roads:
    end = 1000.0 + length
    return Roads(
        {"0": (0, 0), "1": (1000, 0), "2": (end, 0), "3": (end + 800.0, 0), "e": (end + 400, -100)},
        {
            "main": ("0", "1", lanes, limit),
            "off": ("1", "2", lanes + 1, limit),
            "after": ("2", "3", lanes, limit),
            "exit": ("2", "e", 1, min(limit, 22)),
        },
        [
            *straight("main", "off", lanes, 1),
            ("off", 0, "exit", 0),
            *straight("off", "after", lanes, -1, 1),
        ],
        {"through": "main off after", "leaving": "main off exit"},
        [("after", lanes, 500), ("exit", 1, 200)],
        demands,
        step,
        **more,
    )


def drop(
    before: int,
    after: int,
    demands: tuple,
    limits: tuple[float, float] = (30, 30),
    step: float = 0.5,
    **more: Any,
) -> Roads:
    return Roads(
        {"0": (0, 0), "1": (1000, 0), "2": (2000, 0)},
        {"wide": ("0", "1", before, limits[0]), "narrow": ("1", "2", after, limits[1])},
        straight("wide", "narrow", after, after - before, before - after),
        {"through": "wide narrow"},
        [("narrow", after, 500)],
        demands,
        step,
        **more,
    )


def zipper(lanes: int, demands: tuple, step: float = 0.5, limit: float = 30) -> Roads:
    """The two rightmost lanes go on as one."""
    links = [("wide", 0, "narrow", 0), *straight("wide", "narrow", lanes - 1, -1, 1)]
    roads = drop(lanes, lanes - 1, demands, (limit, limit), step)
    return replace(roads, links=links, zippers=("1",))


NETWORKS = {
    "onramp1": on_ramp(1, 200, ((500, 150), (800, 250), (1100, 350)), step=0.25),
    "onramp3": on_ramp(3, 300, ((2000, 300), (3200, 450), (4000, 600)), step=0.5),
    "onramp_short": on_ramp(2, 100, ((1200, 250), (1800, 350), (2300, 450)), step=0.5),
    "onramp_long": on_ramp(2, 500, ((1500, 400), (2100, 600), (2500, 700)), step=1.0),
    "offramp": off_ramp(2, 250, ((1200, 300), (1800, 500), (2300, 700)), step=0.5),
    "offramp3": off_ramp(3, 150, ((2000, 400), (3000, 700), (3800, 900)), step=1.0, car=SWIFT),
    "drop21": drop(2, 1, ((600,), (1000,), (1300,)), step=0.1),
    "drop32_slower": drop(3, 2, ((1500,), (2200,), (2800,)), (33, 22), step=0.25),
    "drop42": drop(4, 2, ((1500,), (2200,), (2700,)), step=0.5),
    "drop32_swift": drop(3, 2, ((1600,), (2400,), (3000,)), step=1.0, car=SWIFT),
    "town": drop(3, 2, ((1200,), (1800,), (2400,)), (14, 14), step=0.5, car=SWIFT),
    "fork": Roads(
        {"0": (0, 0), "1": (1200, 0), "2": (2000, 0), "3": (1900, -300)},
        {"main": ("0", "1", 4, 30), "left": ("1", "2", 2, 30), "right": ("1", "3", 2, 25)},
        [*straight("main", "right", 2), *straight("main", "left", 2, -2, 2)],
        {"on": "main left", "aside": "main right"},
        [("left", 2, 500), ("right", 2, 200)],
        ((1200, 800), (1800, 1300), (2300, 1800)),
        step=0.5,
    ),
    "weaving": Roads(
        {
            "0": (0, 0), "r": (500, -100), "1": (800, 0), "2": (1300, 0), "3": (2000, 0),
            "e": (1600, -90),
        },
        {
            "main": ("0", "1", 2, 28),
            "ramp": ("r", "1", 1, 20),
            "weave": ("1", "2", 3, 28),
            "after": ("2", "3", 2, 28),
            "exit": ("2", "e", 1, 20),
        },
        [
            *straight("main", "weave", 2, 1),
            ("ramp", 0, "weave", 0),
            ("weave", 0, "exit", 0),
            *straight("weave", "after", 2, -1, 1),
        ],
        {
            "through": "main weave after",
            "entering": "ramp weave after",
            "leaving": "main weave exit",
        },
        [("after", 2, 300), ("exit", 1, 100)],
        ((1000, 200, 200), (1500, 300, 300), (1900, 400, 400)),
        step=0.25,
    ),
    "limits": Roads(
        {"0": (0, 0), "1": (700, 0), "2": (1200, 0), "3": (1500, 0), "4": (2300, 0)},
        {
            "a": ("0", "1", 2, 33),
            "b": ("1", "2", 2, 22),
            "c": ("2", "3", 2, 14),
            "d": ("3", "4", 2, 30),
        },
        [*straight("a", "b", 2), *straight("b", "c", 2), *straight("c", "d", 2)],
        {"through": "a b c d"},
        [("d", 2, 400)],
        ((1200,), (2000,), (2600,)),
        step=0.5,
    ),
    "ramp60": on_ramp(2, 60, ((1000, 150), (1600, 250), (2200, 350)), step=0.5),
    "ramp150": on_ramp(3, 150, ((2000, 250), (3200, 350), (4000, 450)), step=0.2),
    "ramp250_trucks": on_ramp(2, 250, ((1200, 250), (1800, 400), (2200, 500)), trucks=0.15),
    "ramp300_town": on_ramp(2, 300, ((1200, 300), (1800, 500), (2200, 700)), limit=60 / 3.6),
    "ramp300_fast": on_ramp(
        3, 300, ((2000, 400), (3300, 600), (4500, 800)), limit=130 / 3.6, car=SWIFT
    ),
    "ramp400": on_ramp(4, 400, ((3000, 400), (4500, 600), (5600, 800)), step=1.0),
    "drop31": drop(3, 1, ((600,), (900,), (1200,)), step=0.2),
    "drop32_trucks": drop(3, 2, ((1200,), (1800,), (2300,)), step=1.0, trucks=0.2),
    "drop43_fast": drop(4, 3, ((2500,), (3800,), (5000,)), (130 / 3.6, 130 / 3.6), 0.5, car=SWIFT),
    "off60": off_ramp(2, 60, ((1000, 400), (1500, 700), (1900, 900)), step=0.2),
    "off400_trucks": off_ramp(3, 400, ((1800, 600), (2700, 900), (3300, 1100)), trucks=0.15),
    "zipper43": zipper(4, ((2200,), (3200,), (4000,)), step=0.5),
    "zipper21_town": zipper(2, ((600,), (900,), (1200,)), step=1.0, limit=50 / 3.6),
    "two_ramps": Roads(
        {
            "0": (0, 0), "r": (500, -100), "1": (800, 0), "2": (1050, 0), "q": (1200, -100),
            "3": (1500, 0), "4": (1700, 0), "5": (2500, 0),
        },
        {
            "main": ("0", "1", 2, 30), "first": ("r", "1", 1, 22), "on": ("1", "2", 3, 30),
            "between": ("2", "3", 2, 30), "second": ("q", "3", 1, 22), "also": ("3", "4", 3, 30),
            "after": ("4", "5", 2, 30),
        },
        [
            *straight("main", "on", 2, 1), ("first", 0, "on", 0),
            *straight("on", "between", 2, -1, 1),
            *straight("between", "also", 2, 1), ("second", 0, "also", 0),
            *straight("also", "after", 2, -1, 1),
        ],
        {
            "through": "main on between also after",
            "early": "first on between also after",
            "late": "second also after",
        },
        [("after", 2, 300)],
        ((1000, 150, 150), (1600, 250, 250), (2000, 350, 350)),
        step=0.5,
    ),
    "meter": Roads(
        {
            "0": (0, 0), "r": (400, -200), "m": (820, -60),
            "1": (1000, 0), "2": (1250, 0), "3": (2250, 0),
        },
        {
            "main": ("0", "1", 2, 30),
            "ramp": ("r", "m", 1, 16),
            "join": ("m", "1", 1, 22),
            "on": ("1", "2", 3, 30),
            "after": ("2", "3", 2, 30),
        },
        [
            *straight("main", "on", 2, 1), ("ramp", 0, "join", 0), ("join", 0, "on", 0),
            *straight("on", "after", 2, -1, 1),
        ],
        {"through": "main on after", "entering": "ramp join on after"},
        [("after", 2, 500)],
        ((1400, 300), (1800, 400), (2200, 500)),
        lights={"m": (0, [(2, "G"), (1, "y"), (6, "r")])},
    ),
    "signals": Roads(
        {"0": (0, 0), "1": (600, 0), "2": (1000, 0), "3": (1500, 0)},
        {"a": ("0", "1", 2, 20), "b": ("1", "2", 2, 20), "c": ("2", "3", 2, 20)},
        [*straight("a", "b", 2), *straight("b", "c", 2)],
        {"through": "a b c"},
        [("c", 2, 200)],
        ((800,), (1200,), (1500,)),
        lights={
            "1": (7, [(35, "GG"), (3, "yy"), (22, "rr")]),
            "2": (27, [(30, "GG"), (3, "yy"), (27, "rr")]),
        },
    ),
    "lane_signals": Roads(
        {"0": (0, 0), "1": (600, 0), "2": (1200, 0)},
        {"wide": ("0", "1", 2, 20), "narrow": ("1", "2", 1, 20)},
        [("wide", 0, "narrow", 0), ("wide", 1, "narrow", 0)],
        {"through": "wide narrow"},
        [("narrow", 1, 300)],
        ((500,), (800,), (1000,)),
        lights={"1": (0, [(20, "Gr"), (3, "yr"), (2, "rr"), (20, "rG"), (3, "ry"), (2, "rr")])},
    ),
}  # fmt: skip
TRACED = ("onramp_short", "onramp_long")
DEMANDS = ("light", "medium", "heavy")
BOUNDS = {"flow": 0.03, "time": 0.05}


def main() -> None:
    options = dict(a.split("=") for a in sys.argv[1:] if "=" in a)
    kinds = {"traced": TRACED, "unseen": [name for name in NETWORKS if name not in TRACED]}
    asked = [a for a in sys.argv[1:] if "=" not in a] or [*NETWORKS]
    names = [name for a in asked for name in kinds.get(a, [a])]
    shifts = [0.5 * k for k in range(int(options.get("begins", "1")))]
    end = float(options.get("end", "900"))
    demands = options.get("demands", ",".join(DEMANDS)).split(",")
    print("| roads | vehicles an hour | step | flow | travel times | collisions, SUMO and here |")
    print("|---|---|---|---|---|---|")
    for name in names:
        steps = options.get("steps", f"{NETWORKS[name].step:g}").split(",")
        for demand in demands:
            for step in steps:
                print(row(name, DEMANDS.index(demand), float(step), shifts, end), flush=True)


def row(name: str, demand: int, step: float, shifts: list[float], end: float) -> str:
    """One line of the table."""
    roads = NETWORKS[name]
    found: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        files = written(roads, demand, Path(scratch))
        after = {edge for edge, *_ in roads.loops}
        for shift in shifts:
            routes = shifted(files[1], shift, Path(scratch))
            for who, run in enumerate((simulate_sumo, simulate_here)):
                result = run(files[0], routes, files[2], step, after, end)
                for what, value in result.items():
                    found.setdefault(what, [[], []])[who].append(value)
    rates = " + ".join(f"{rate:,g}" for rate in roads.demands[demand])
    flow = told("flow", *found.pop("flow"))
    collided = ", ".join(f"{np.mean(values):g}" for values in found.pop("collisions"))
    times = "; ".join(told(what, *values) for what, values in found.items())
    return f"| {name} | {rates} | {step:g} s | {flow} | {times} | {collided} |"


def told(what: str, theirs: list[float], ours: list[float]) -> str:
    """SUMO's mean and how far ours is from it, bold with both deviations beyond the bound."""
    kind, _, route = what.partition(" ")
    mean = float(np.mean(theirs))
    apart = float(np.mean(ours)) / mean - 1.0
    text = f"{route} {mean:.0f} {'vehicles/h' if kind == 'flow' else 's'}".strip()
    if abs(apart) <= BOUNDS[kind]:
        return f"{text} {apart:+.1%}"
    return f"{text} **{apart:+.1%}** ({np.std(theirs):.1f}, {np.std(ours):.1f})"


def written(roads: Roads, demand: int, folder: Path) -> tuple[Path, Path, Path]:
    """Files of the network, the demand and the loops."""
    net, routes, loops = (folder / f"roads.{kind}.xml" for kind in ("net", "rou", "add"))
    junctions = dict.fromkeys(roads.zippers, "zipper")
    make_network(roads.nodes, junctions, roads.edges, roads.links, folder, net, roads.lights)
    text = routes_of(roads.routes, roads.edges, roads.demands[demand]).replace(TYPE, roads.car)
    routes.write_text(with_trucks(text, roads.trucks) if roads.trucks else text)
    loops.write_text(loops_of(roads.loops))
    return net, routes, loops


def with_trucks(text: str, share: float) -> str:
    """Of each flow that share as trucks, in a flow of its own that begins later."""
    root = ET.fromstring(text)
    flows = root.findall("flow")
    for flow in flows:
        root.remove(flow)
        rate = float(flow.attrib["vehsPerHour"])
        trucks = ET.Element("flow", flow.attrib)
        flow.set("vehsPerHour", f"{rate * (1.0 - share):g}")
        trucks.attrib.update(
            id=f"{flow.attrib['id']}0", type="truck", vehsPerHour=f"{rate * share:g}"
        )
        trucks.set("begin", f"{float(flow.attrib['begin']) + 5.25:g}")
        flows = [*flows, trucks]
    root.insert(0, ET.fromstring(TRUCK))
    root.extend(sorted(flows, key=lambda flow: float(flow.attrib["begin"])))
    return ET.tostring(root, encoding="unicode")


if __name__ == "__main__":
    main()
