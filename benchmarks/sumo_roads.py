"""SUMO and `TrafficNetwork` on ramps, drops, forks and limits that neither was made for.

    python benchmarks/sumo_roads.py [NAME ...] [begins=1] [steps=0.1,...] [demands=light,...]
                                    [end=900]

Roads of NETWORKS, each in three demands and, unless told otherwise, in the step of its row. It
needs eclipse-sumo (`pip install eclipse-sumo`). One row for each demand and step: flow over the
loops behind the junction and mean travel time of each route in SUMO, the difference of ours, and
collisions in either; all are means over flows that begin at 0, 0.5, 1, ... seconds. In bold is what
is more than 3 % (flow) or 5 % (time) apart, with the standard deviations over begins, SUMO's and
ours.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sumo_networks import TYPE, loops_of, make_network, routes_of
from sumo_spread import shifted, simulate_here, simulate_sumo

Demand = tuple[float, ...]
"""Of each route, vehicles an hour."""

CAR = TYPE
SWIFT = (
    '<vType id="car" carFollowModel="IDM" length="5" minGap="2.5" accel="2.6" decel="4.5" '
    'tau="1" delta="4" emergencyDecel="9" maxSpeed="38" speedFactor="1" speedDev="0"/>'
)
"""SUMO's own numbers of a passenger car."""


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


def straight(source: str, target: str, lanes: int, shift: int = 0, first: int = 0) -> list:
    """Lane k from `first` on leads into lane k + shift."""
    return [(source, k, target, k + shift) for k in range(first, first + lanes)]


def on_ramp(lanes: int, length: float, demands: tuple, step: float = 0.5) -> Roads:
    end = 1000.0 + length
    return Roads(
        {"0": (0, 0), "r": (700, -100), "1": (1000, 0), "2": (end, 0), "3": (end + 1000.0, 0)},
        {
            "main": ("0", "1", lanes, 30),
            "ramp": ("r", "1", 1, 22),
            "on": ("1", "2", lanes + 1, 30),
            "after": ("2", "3", lanes, 30),
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
    )


def off_ramp(lanes: int, length: float, demands: tuple, step: float = 0.5, car: str = CAR) -> Roads:
    end = 1000.0 + length
    return Roads(
        {"0": (0, 0), "1": (1000, 0), "2": (end, 0), "3": (end + 800.0, 0), "e": (end + 400, -100)},
        {
            "main": ("0", "1", lanes, 30),
            "off": ("1", "2", lanes + 1, 30),
            "after": ("2", "3", lanes, 30),
            "exit": ("2", "e", 1, 22),
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
        car,
    )


def drop(
    before: int,
    after: int,
    demands: tuple,
    limits: tuple[float, float] = (30, 30),
    step: float = 0.5,
    car: str = CAR,
) -> Roads:
    return Roads(
        {"0": (0, 0), "1": (1000, 0), "2": (2000, 0)},
        {"wide": ("0", "1", before, limits[0]), "narrow": ("1", "2", after, limits[1])},
        straight("wide", "narrow", after, after - before, before - after),
        {"through": "wide narrow"},
        [("narrow", after, 500)],
        demands,
        step,
        car,
    )


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
}  # fmt: skip
DEMANDS = ("light", "medium", "heavy")
BOUNDS = {"flow": 0.03, "time": 0.05}


def main() -> None:
    options = dict(a.split("=") for a in sys.argv[1:] if "=" in a)
    names = [a for a in sys.argv[1:] if "=" not in a] or [*NETWORKS]
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
    make_network(roads.nodes, {}, roads.edges, roads.links, folder, net)
    text = routes_of(roads.routes, roads.edges, roads.demands[demand])
    routes.write_text(text.replace(TYPE, roads.car))
    loops.write_text(loops_of(roads.loops))
    return net, routes, loops


if __name__ == "__main__":
    main()
