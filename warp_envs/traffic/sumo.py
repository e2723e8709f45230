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

import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from warp_envs.checks import ArgumentError
from warp_envs.traffic.network import Connection, Flow, Loop, Network, Segment
from warp_envs.traffic.network_tables import find_priorities
from warp_envs.traffic.sumo_demand import Demand, read_demand
from warp_envs.traffic.sumo_signals import SumoSignals
from warp_envs.traffic.sumo_xml import elements, number, parse

GIVING_WAY = {"M": False, "m": True, "Z": False}
"""Whether a connection's vehicles let others go first, by its state: major, minor, zipper."""


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
        ArgumentError: a file that cannot be read, and what cannot be driven as SUMO would, by file,
            element and reason.
    """
    road = _Roads(Path(net))
    demand = read_demand(Path(routes))
    pieces: dict[str, Segment] = {}
    links: dict[tuple[str, int, str], Connection] = {}
    ways: dict[str, list[str]] = {}
    for name, edges in demand.routes.items():
        ways[name] = road.follow(name, edges, pieces, links)
    road.refuse_crossings(set(links))
    road.settle_turns(links)
    loops = [] if additional is None else _read_loops(Path(additional), pieces)
    network = Network(
        [*pieces.values()],
        [*links.values()],
        ways,
        _flows(demand, pieces, ways),
        loops,
        road.lights.signals(),
    )
    notes = [
        "lane changes, where TrafficNetwork is given mobil, follow rules of SUMO's LC2013 with its "
        "driving 'sumo', else MOBIL",
        *demand.notes,
        *_notes(network),
    ]
    return SumoNetwork(network, demand.single, notes)


def _flows(demand: Demand, pieces: dict[str, Segment], ways: dict[str, list[str]]) -> list[Flow]:
    for flow in demand.flows:
        lanes = pieces[ways[flow.route][0]].num_lanes
        if flow.lane is not None and flow.lane >= lanes:
            raise ArgumentError(
                f"{demand.path}: {flow.name}", f"departLane {flow.lane}", f"0 to {lanes - 1}"
            )
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


class _Roads:
    """A net.xml."""

    def __init__(self, path: Path) -> None:
        self.path = path
        root = parse(path, "net")
        self.edges = {e.get("id", ""): e for e in root.iter("edge")}
        self.junctions = {j.get("id", ""): j for j in root.iter("junction")}
        self.between: dict[tuple[str, str], list[ET.Element]] = defaultdict(list)
        for connection in root.iter("connection"):
            self.between[connection.get("from", ""), connection.get("to", "")].append(connection)
        self.lights = SumoSignals(path, root)
        self.used: list[ET.Element] = []
        self._steps: dict[tuple[str, int, str], list[tuple[str, int, str]]] = {}

    def follow(
        self,
        route: str,
        edges: list[str],
        pieces: dict[str, Segment],
        links: dict[tuple[str, int, str], Connection],
    ) -> list[str]:
        """The segments of a route, those inside junctions included; adds what is new."""
        way = [edges[0]]
        self._add_edge(edges[0], pieces)
        for here, there in pairwise(edges):
            connections = self.between.get((here, there), [])
            if not connections:
                raise ArgumentError(
                    f"{self.path}: edge {here}", f"no connection to {there} (route {route})", "one"
                )
            self._add_edge(there, pieces)
            vias = {self._edge_of(c.get("via", "")) for c in connections}
            if len(vias) > 1:
                given = f"ways to {there} by {sorted(vias)}"
                raise ArgumentError(f"{self.path}: edge {here}", given, "one inner edge")
            (via,) = vias
            for connection in connections:
                self._add_connection(connection, via, here, there, links)
            if via:
                self._add_inner(via, here, there, pieces)
                way.append(via)
            way.append(there)
        return way

    def refuse_crossings(self, links: set[tuple[str, int, str]]) -> None:
        """Refuse ways through a junction that conflict but do not end in one lane."""
        for junction in self.junctions.values():
            ways = self._ways(junction)
            for request in junction.iter("request"):
                index = int(request.get("index", "0"))
                foes = request.get("foes", "")[::-1]
                if index >= len(ways) or ways[index] not in self.used:
                    continue
                for other, flag in enumerate(foes):
                    if flag == "1" and other < len(ways) and ways[other] in self.used:
                        self._refuse_conflict(ways[index], ways[other])

    def settle_turns(self, links: dict[tuple[str, int, str], Connection]) -> None:
        """Let those give way at merges whose signals say so."""
        into: dict[tuple[str, str], list[ET.Element]] = defaultdict(list)
        for way in self.used:
            if way not in into[way.get("to", ""), way.get("toLane", "")]:
                into[way.get("to", ""), way.get("toLane", "")].append(way)
        for group in into.values():
            yields = self.lights.yields(group) if any(way.get("tl") for way in group) else {}
            for (edge, lane, to), gives_way in yields.items():
                for key in self._steps[edge, int(lane), to]:
                    links[key] = replace(links[key], gives_way=gives_way)

    def _refuse_conflict(self, way: ET.Element, foe: ET.Element) -> None:
        same_end = (way.get("to"), way.get("toLane")) == (foe.get("to"), foe.get("toLane"))
        same_start = (way.get("from"), way.get("fromLane")) == (
            foe.get("from"),
            foe.get("fromLane"),
        )
        if not (same_end or same_start):
            given = (
                f"its way to {way.get('to')} crosses that from {foe.get('from')} to {foe.get('to')}"
            )
            raise ArgumentError(f"{self.path}: edge {way.get('from')}", given, "ways that merge")

    def _ways(self, junction: ET.Element) -> list[ET.Element]:
        """The connections over a junction in the order of its requests: by lane, as they stand."""
        incoming = junction.get("incLanes", "").split()
        inner = junction.get("intLanes", "").split()
        every = [c for group in self.between.values() for c in group]
        outer = [c for c in every if f"{c.get('from')}_{c.get('fromLane')}" in incoming]
        if inner:
            by_via = {c.get("via"): c for c in outer}
            return [by_via[via] for via in inner if via in by_via]
        return sorted(outer, key=lambda c: incoming.index(f"{c.get('from')}_{c.get('fromLane')}"))

    def _edge_of(self, lane: str) -> str:
        return lane.rpartition("_")[0]

    def _add_edge(self, name: str, pieces: dict[str, Segment]) -> None:
        if name in pieces:
            return
        edge = self.edges.get(name)
        if edge is None:
            raise ArgumentError(f"{self.path}: edge {name}", "none of that name", "one of the net")
        if edge.get("function", "normal") != "normal":
            given = f"function {edge.get('function')!r}"
            raise ArgumentError(f"{self.path}: edge {name}", given, "a normal edge")
        if next(edge.iter("stopOffset"), None) is not None:
            raise ArgumentError(f"{self.path}: edge {name}", "a stopOffset", "none")
        for lane in edge.iter("lane"):
            allowed = lane.get("allow", "passenger").split()
            barred = lane.get("disallow", "").split()
            cars = {"passenger", "all"}
            if not cars & set(allowed) or cars & set(barred):
                given = f"lane {lane.get('id')} closed to passenger cars"
                raise ArgumentError(f"{self.path}: edge {name}", given, "lanes open to them")
        pieces[name] = self._segment(name, [*edge.iter("lane")], inner=False)

    def _segment(self, name: str, lanes: list[ET.Element], *, inner: bool) -> Segment:
        key = f"{self.path}: edge {name}"
        lengths = tuple(number(key, lane, "length") for lane in lanes)
        limits = tuple(number(key, lane, "speed") for lane in lanes)
        if len(set(lengths)) == 1:
            return Segment(name, lengths[0], len(lanes), limits, inner)
        if not inner:
            raise ArgumentError(key, f"lanes of {sorted(set(lengths))} m", "lanes of one length")
        return Segment(name, lengths, len(lanes), limits, inner)

    def _add_inner(self, via: str, here: str, there: str, pieces: dict[str, Segment]) -> None:
        if via not in pieces:
            lanes = [*self.edges[via].iter("lane")]
            pieces[via] = self._segment(via, lanes, inner=True)

    def _add_connection(
        self,
        connection: ET.Element,
        via: str,
        here: str,
        there: str,
        links: dict[tuple[str, int, str], Connection],
    ) -> None:
        key = f"{self.path}: edge {here}"
        source, target = int(connection.get("fromLane", "0")), int(connection.get("toLane", "0"))
        signal = connection.get("tl") is not None
        state = "M" if signal else connection.get("state", "M")
        if state not in GIVING_WAY:
            given = f"right of way {state!r} to {there}"
            raise ArgumentError(key, given, "major (M), minor (m) or zipper (Z)")
        if signal:
            self.lights.letters(connection)
            if (here, source, there) not in self._steps:
                self.lights.govern(connection, (here, source, via or there))
        self.used.append(connection)
        steps = [(here, source, via or there)]
        if via:
            steps.append((via, int(connection.get("via", "").rpartition("_")[2]), there))
        self._steps[here, source, there] = steps
        order = {"gives_way": GIVING_WAY[state], "zipper": state == "Z"}
        if not via:
            links[here, source, there] = Connection(here, source, there, target, **order)
            return
        inner = int(connection.get("via", "").rpartition("_")[2])
        after = [c for c in self.between.get((via, there), []) if c.get("fromLane") == str(inner)]
        if len(after) != 1 or not {"via", "tl"}.isdisjoint(after[0].keys()):
            raise ArgumentError(
                key, f"a way to {there} that waits inside the junction", "a plain one"
            )
        links[here, source, via] = Connection(here, source, via, inner)
        links[via, inner, there] = Connection(via, inner, there, target, **order)


def _read_loops(path: Path, pieces: dict[str, Segment]) -> list[Loop]:
    loops = []
    for element in elements(parse(path, "additional")):
        name = element.get("id", "")
        if element.tag not in ("inductionLoop", "e1Detector"):
            raise ArgumentError(f"{path}: {element.tag} {name}", "that", "induction loops")
        lane = element.get("lane", "")
        segment, _, index = lane.rpartition("_")
        if segment not in pieces:
            raise ArgumentError(f"{path}: loop {name}", f"lane {lane!r}", "a lane of the routes")
        at = number(f"{path}: loop {name}", element, "pos")
        length = pieces[segment].lengths[int(index)]
        loops.append(Loop(name, segment, at + length if at < 0.0 else at, int(index)))
    return loops
