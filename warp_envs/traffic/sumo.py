"""SUMO's networks and demand as a `Network`: what of net.xml and rou.xml it can express.

    read = read_sumo("net.xml", "rou.xml")
    traffic = TrafficNetwork(read.network, 1, 500, driving="sumo", integrator="semi_implicit")

Motorways: roads that join and part, with signals of fixed times. Edges on routes are refused, by
name and reason, for ways that cross, right before left and stop signs, signals that depend on
traffic, and whatever else would be driven otherwise than SUMO does; demand for anything random.
What is read otherwise than SUMO has it is in the notes.
The formats: https://sumo.dlr.de/docs/Networks/SUMO_Road_Networks.html and
https://sumo.dlr.de/docs/Definition_of_Vehicles%2C_Vehicle_Types%2C_and_Routes.html
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from warp_envs.checks import ArgumentError
from warp_envs.traffic.network import Flow, Loop, Network, Segment
from warp_envs.traffic.network_tables import find_priorities
from warp_envs.traffic.sumo_demand import Demand, read_demand
from warp_envs.traffic.sumo_net import SumoRoads
from warp_envs.traffic.sumo_xml import (
    Attributes,
    elements,
    identify,
    lane_of,
    number,
    parse,
    shown,
)

LOOP = Attributes(
    read=("id", "lane", "pos"),
    # What is written where and how often; a place off the lane is refused, so friendlyPos moves
    # nothing.
    idle=("file", "freq", "period", "name", "friendlyPos", "output"),
    # Ours count every vehicle.
    fixed={"vTypes": ("",), "nextEdges": ("",), "detectPersons": ("",)},
    children=("param",),
)
ADDITIONAL = Attributes(children=("inductionLoop", "e1Detector"))


@dataclass
class SumoNetwork:
    """What was read.

    Attributes:
        network: segments are edges, those inside junctions included, by SUMO's names; so lane
            (segment, k) is SUMO's ``segment_k``. Flows are SUMO's flows and single vehicles.
        single: names of flows that are single vehicles.
        notes: what SUMO does otherwise, one line each.
    """

    network: Network
    single: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def vehicle_name(self, flow: int, number: int) -> str:
        """SUMO's name of a vehicle of a flow, by the state's `flow` and `number`."""
        name = self.network.flows[flow].name
        return name if name in self.single else f"{name}.{number}"


def read_sumo(
    net: str | Path, routes: str | Path, additional: str | Path | None = None
) -> SumoNetwork:
    """Read a network and its demand.

    Args:
        net: net.xml, as netconvert writes it, with or without internal lanes.
        routes: rou.xml: vehicle types of the IDM, routes, flows and vehicles.
        additional: add.xml, whose induction loops (E1) are read.

    Raises:
        ArgumentError: a file that cannot be read, what cannot be driven as SUMO would, an attribute
            that is not known, and a name that two have, by file, element and reason.
    """
    road = SumoRoads(Path(net))
    demand = read_demand(Path(routes))
    ways = {name: road.follow(name, edges) for name, edges in demand.routes.items()}
    road.refuse_crossings()
    road.settle_turns()
    loops = [] if additional is None else _read_loops(Path(additional), road.pieces)
    roads = [*road.pieces.values()], [*road.links.values()], ways
    flows, signals = _flows(demand, road.pieces, ways), road.lights.signals()
    try:
        network = Network(*roads, flows, loops, signals)
    except ArgumentError as error:  # of what the net's roads make together
        raise error.renamed(f"{net}: {error.key}") from None
    notes = [
        "lane changes, where TrafficNetwork is given mobil, follow rules of SUMO's LC2013 with its "
        "driving 'sumo', else MOBIL",
        *demand.notes,
        *road.notes,
        *_notes(network),
    ]
    return SumoNetwork(network, demand.single, notes)


def _flows(demand: Demand, pieces: dict[str, Segment], ways: dict[str, list[str]]) -> list[Flow]:
    for flow in demand.flows:
        lanes = pieces[ways[flow.route][0]].num_lanes
        if flow.lane is not None and flow.lane >= lanes:
            kind = "vehicle" if flow.name in demand.single else "flow"
            key = f"{demand.path}: {kind} {flow.name}: departLane"
            raise ArgumentError(key, f"{flow.lane}", f"0 to {lanes - 1}")
    return demand.flows


def _notes(network: Network) -> list[str]:
    """Which flows SUMO lets in otherwise: by departLane "best" where lanes differ in priority."""
    given: dict[str, set[object]] = defaultdict(set)
    for (road, _, _), has in find_priorities(network).items():
        given[road].add(has)
    return [
        f"{flow.name}: departLane 'best' of SUMO leaves out lanes that have no priority just then"
        for flow in network.flows
        if flow.lane is None and len(given[network.routes[flow.route][0]]) > 1
    ]


def _read_loops(path: Path, pieces: dict[str, Segment]) -> list[Loop]:
    root = parse(path, "additional")
    ADDITIONAL.check(str(path), root)
    loops: dict[str, Loop] = {}
    for element in elements(root):
        name = identify(path, element, loops)
        key = f"{path}: loop {name}"
        LOOP.check(key, element)
        segment, lane = lane_of(element.get("lane", "")) or ("", 0)
        if segment not in pieces or lane >= pieces[segment].num_lanes:
            raise ArgumentError(f"{key}: lane", shown(element, "lane"), "a lane of the routes")
        at = number(key, element, "pos")
        x = at + pieces[segment].lengths[lane] if at < 0.0 else at
        # Inner lanes of a segment may differ in length; its positions go to the shortest one's end.
        end = min(pieces[segment].lengths)
        if not 0.0 <= x <= end:
            accepted = f"a place of lane {segment}_{lane}, 0 to {end:g}, or below 0 from its end"
            raise ArgumentError(f"{key}: pos", shown(element, "pos"), accepted)
        loops[name] = Loop(name, segment, x, lane)
    return [*loops.values()]
