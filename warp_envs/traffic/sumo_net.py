"""SUMO's roads (net.xml) as segments and connections of a `Network`, along the routes asked for."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from warp_envs.checks import ArgumentError
from warp_envs.traffic.network import Connection, Segment
from warp_envs.traffic.sumo_signals import SumoSignals
from warp_envs.traffic.sumo_xml import (
    CARS,
    FALSE,
    TRUE,
    Attributes,
    by_id,
    elements,
    lane_of,
    number,
    parse,
    shown,
    whole,
)

GIVING_WAY = {"M": False, "m": True, "Z": False}
"""Whether a connection's vehicles let others go first, by its state: major, minor, zipper."""

LIT = (*GIVING_WAY, "O", "o", "=", "-", "s", "w")
"""States of connections with a signal, which alone tells who goes first."""

NET = Attributes(
    # netconvert's own settings, of what it has written already.
    idle=(
        *("version", "junctionCornerDetail", "junctionLinkDetail", "rectangularLaneCut"),
        *("walkingareas", "limitTurnSpeed", "checkLaneFoesAll", "checkLaneFoesRoundabout"),
        *("tlsIgnoreInternalJunctionJam", "spreadType", "avoidOverlap"),
        *("internalJunctionsVehicleWidth", "junctionsMinimalShape", "junctionsEndpointShape"),
    ),
    fixed={"lefthand": FALSE, "junctionHigherSpeed": FALSE},
    # Read of them are edges, their types and connections, junctions, roundabouts, lights. SUMO
    # itself does not drive by prohibitions, districts (taz) and drawings; a WAUT is met by its
    # wautJunction.
    children=(
        *("edge", "junction", "connection", "tlLogic", "type", "roundabout", "wautJunction"),
        *("location", "prohibition", "taz", "WAUT", "param", "poly", "poi"),
    ),
)
EDGE = Attributes(
    read=("id", "function", "type"),
    # Its length is that of its lanes, its junctions are those that name these; priority has been
    # made right of way, and nobody looks for a route.
    idle=(
        *("from", "to", "name", "priority", "shape", "spreadType", "distance", "length"),
        *("crossingEdges", "routingType"),
    ),
    children=("lane", "param"),
)
LANE = Attributes(
    read=("id", "index", "speed", "length"),
    # acceleration marks on-ramps, where SUMO's LC2013 heeds it with lcExperimental1 alone; of
    # endOffset the lane's length knows; prefer is for who looks for a route.
    idle=(
        *("shape", "width", "acceleration", "customShape", "outlineShape", "type", "endOffset"),
        "prefer",
    ),
    fixed={"friction": 1.0},
    classes=("allow", "disallow", "changeLeft", "changeRight"),
    children=("param",),
)
HANDED_ON = ("speed", "length", "friction", "changeLeft", "changeRight")
"""What netconvert gives on from a connection to its inner lane, by which SUMO drives."""

CONNECTION = Attributes(
    read=(
        *("from", "to", "fromLane", "toLane", "via", "tl", "linkIndex", "state", "visibility"),
        *HANDED_ON,
    ),
    # pass and uncontrolled have become the state; contPos tells where inside to wait.
    idle=("dir", "shape", "pass", "uncontrolled", "contPos", "type"),
    fixed={"keepClear": TRUE, "indirect": FALSE},
    classes=("allow", "disallow"),
    children=("param",),
)
JUNCTION = Attributes(
    # Beyond "internal" (a place to wait inside) the type has become the states of the connections,
    # as has rightOfWay.
    read=("id", "incLanes", "intLanes", "type"),
    idle=(
        *("x", "y", "z", "shape", "radius", "customShape", "rightOfWay", "fringe", "name"),
        "roundabout",
    ),
    children=("request", "param"),
)
REQUEST = Attributes(read=("index", "foes"), idle=("response", "cont"))


class SumoRoads:
    """A net.xml, of which is taken up what the routes come by.

    Attributes:
        pieces: what was taken up of edges, those inside junctions included, by name.
        links: connections by segment, lane and the segment to which they lead.
        lights: what governs them.
        notes: what SUMO does otherwise.
    """

    def __init__(self, path: Path) -> None:
        """Read the file and take up nothing yet.

        Raises:
            ArgumentError: a file that cannot be read, and a name that two have.
        """
        self.path = path
        root = parse(path, "net")
        NET.check(str(path), root)
        tags: dict[str, list[ET.Element]] = defaultdict(list)
        for element in elements(root):
            tags[element.tag].append(element)
        self.edges = by_id(path, tags["edge"])
        self.junctions = by_id(path, tags["junction"])
        self.between: dict[tuple[str, str], list[ET.Element]] = defaultdict(list)
        self.leaving: dict[str, list[ET.Element]] = defaultdict(list)
        for connection in tags["connection"]:
            ends = connection.get("from", ""), connection.get("to", "")
            for name, edge in zip(("from", "to"), ends, strict=True):
                if edge not in self.edges:
                    key = f"{path}: connection from {ends[0]!r} to {ends[1]!r}: {name}"
                    raise ArgumentError(key, shown(connection, name), "an edge of the net")
            self.between[ends].append(connection)
            self.leaving[_lane_before(connection)].append(connection)
        self.lights = SumoSignals(path, tags["tlLogic"], tags["wautJunction"])
        self.round = {e for r in tags["roundabout"] for e in r.get("edges", "").split()}
        self.slow = {t.get("id", "") for t in tags["type"] if any(map(_is_of_cars, t))}
        self.pieces: dict[str, Segment] = {}
        self.links: dict[tuple[str, int, str], Connection] = {}
        self.notes: list[str] = []
        self.used: list[ET.Element] = []
        self._inside: dict[tuple[str, str], str] = {}
        self._steps: dict[tuple[str, int, str], list[tuple[str, int, str]]] = {}

    def follow(self, route: str, edges: list[str]) -> list[str]:
        """The segments of a route, those inside junctions included; takes up what is new."""
        self._add_edge(edges[0], route)
        way = [edges[0]]
        for here, there in pairwise(edges):
            self._add_edge(there, route)
            if (here, there) not in self._inside:
                self._inside[here, there] = self._join(here, there, route)
            way += [*filter(None, [self._inside[here, there]]), there]
        return way

    def refuse_crossings(self) -> None:
        """Refuse ways through a junction that conflict but do not end in one lane."""
        used = {id(way) for way in self.used}
        left = {_lane_before(way) for way in self.used}
        for name, junction in self.junctions.items():
            incoming = junction.get("incLanes", "").split()
            if left.isdisjoint(incoming) or junction.get("type") == "internal":
                continue
            key = f"{self.path}: junction {name}"
            JUNCTION.check(key, junction)
            ways = self._ways(incoming, junction.get("intLanes", "").split())
            told = {id(way) for way in ways}
            for way in (way for lane in incoming for way in self.leaving.get(lane, ())):
                if id(way) in used and id(way) not in told:
                    given = f"{shown(junction, 'intLanes')}, without {way.get('via')!r}"
                    raise ArgumentError(f"{key}: intLanes", given, "all that lead over it")
            for index, foes in enumerate(_conflicts(key, junction, len(ways))):
                way = ways[index] if index < len(ways) else None
                if way is None or id(way) not in used:
                    continue
                for foe, flag in zip(ways, foes, strict=False):
                    if flag == "1" and foe is not None and id(foe) in used:
                        self._refuse_conflict(way, foe)
        known = {e for j in self.junctions.values() for e in j.get("incLanes", "").split()}
        self.notes += [
            f"lane {lane} is before no junction of {self.path}: ways that cross are not seen there"
            for lane in sorted(left - known)
        ]

    def settle_turns(self) -> None:
        """Let those give way at merges whose signals say so."""
        into: dict[tuple[str, str], list[ET.Element]] = defaultdict(list)
        for way in self.used:
            into[way.get("to", ""), way.get("toLane", "")].append(way)
        for group in into.values():
            yields = self.lights.yields(group) if any(way.get("tl") for way in group) else {}
            for (edge, lane, to), gives_way in yields.items():
                for key in self._steps[edge, int(lane), to]:
                    self.links[key] = replace(self.links[key], gives_way=gives_way)

    def _refuse_conflict(self, way: ET.Element, foe: ET.Element) -> None:
        same_end = (way.get("to"), way.get("toLane")) == (foe.get("to"), foe.get("toLane"))
        if not (same_end or _lane_before(way) == _lane_before(foe)):
            given = (
                f"its way to {way.get('to')} crosses that from {foe.get('from')} to {foe.get('to')}"
            )
            raise ArgumentError(f"{self.path}: edge {way.get('from')}", given, "ways that merge")

    def _ways(self, incoming: list[str], inner: list[str]) -> list[ET.Element | None]:
        """The connections over a junction in the order of its requests: by lane, as they stand.

        None for one that is not read: over a crossing, or with a place to wait inside.
        """
        outer = [c for lane in incoming for c in self.leaving.get(lane, ())]
        if not inner:
            return [*outer]
        by_via = {c.get("via"): c for c in outer}
        return [by_via.get(via) for via in inner]

    def _add_edge(self, name: str, route: str) -> None:
        if name in self.pieces:
            return
        edge = self.edges.get(name)
        if edge is None:
            given = f"none of that name (route {route})"
            raise ArgumentError(f"{self.path}: edge {name}", given, "one of the net")
        if edge.get("function", "normal") != "normal":
            given = f"function {edge.get('function')!r}"
            raise ArgumentError(f"{self.path}: edge {name}", given, "a normal edge")
        self.pieces[name] = self._segment(edge, inner=False)
        if name in self.round:
            self.notes.append(f"edge {name}: SUMO's drivers choose lanes otherwise in a roundabout")

    def _segment(self, edge: ET.Element, *, inner: bool) -> Segment:
        name = edge.get("id", "")
        key = f"{self.path}: edge {name}"
        EDGE.check(key, edge)
        if edge.get("type") in self.slow:
            given = f"{edge.get('type')!r}, with a restriction of passenger cars"
            raise ArgumentError(f"{key}: type", given, "one without")
        lanes = edge.findall("lane")
        if not lanes:
            raise ArgumentError(key, "no lane", "at least one")
        lengths, limits = [], []
        for index, lane in enumerate(lanes):
            own = f"{key}: lane {lane.get('id', '')}"
            # Connections and loops tell lanes by their numbers, junctions by their names.
            for what, wanted in {"index": f"{index}", "id": f"{name}_{index}"}.items():
                if lane.get(what) != wanted:
                    accepted = f"{wanted!r}: lanes from 0 on, in their order"
                    raise ArgumentError(f"{own}: {what}", shown(lane, what), accepted)
            LANE.check(own, lane)
            lengths.append(number(own, lane, "length", low=0.0, above=True))
            limits.append(number(own, lane, "speed", low=0.0, above=True))
        if len(set(lengths)) == 1:
            return Segment(name, lengths[0], len(lanes), tuple(limits), inner)
        if not inner:
            raise ArgumentError(key, f"lanes of {sorted(set(lengths))} m", "lanes of one length")
        return Segment(name, tuple(lengths), len(lanes), tuple(limits), inner)

    def _join(self, here: str, there: str, route: str) -> str:
        """Take up the ways between two edges; the inner edge between them, or an empty name."""
        key = f"{self.path}: edge {here}"
        connections = self.between.get((here, there), [])
        if not connections:
            raise ArgumentError(key, f"no connection to {there} (route {route})", "one")
        vias = {self._via(f"{key}: connection to {there}", c)[0] for c in connections}
        if len(vias) > 1:
            raise ArgumentError(key, f"ways to {there} by {sorted(vias)}", "one inner edge")
        (via,) = vias
        if via and via not in self.pieces:
            self.pieces[via] = self._segment(self.edges[via], inner=True)
        for connection in connections:
            self._add_connection(connection, here, there)
        return via

    def _via(self, key: str, connection: ET.Element) -> tuple[str, int]:
        """The inner edge of a connection and the lane there, or an empty name and 0."""
        text = connection.get("via", "")
        if not text:
            return "", 0
        via, lane = lane_of(text) or ("", 0)
        edge = self.edges.get(via)
        if edge is None or edge.get("function") != "internal" or lane >= len(edge.findall("lane")):
            raise ArgumentError(f"{key}: via", repr(text), "a lane of an inner edge of the net")
        return via, lane

    def _add_connection(self, connection: ET.Element, here: str, there: str) -> None:
        key = f"{self.path}: edge {here}"
        own = f"{key}: connection to {there}"
        CONNECTION.check(own, connection)
        source = whole(own, connection, "fromLane", self.pieces[here].num_lanes - 1)
        target = whole(own, connection, "toLane", self.pieces[there].num_lanes - 1)
        if (here, source, there) in self._steps:
            # SUMO's drivers take the one that suits the rest of their route; those here know one.
            accepted = "one from each lane (a connection file of netconvert may say which)"
            raise ArgumentError(own, f"a second one from lane {source}", accepted)
        via, inner = self._via(own, connection)
        for name in () if via else HANDED_ON:
            if name in connection.keys():  # noqa: SIM118, an element iterates over its children
                raise ArgumentError(f"{own}: {name}", shown(connection, name), "none without 'via'")
        steps = [(here, source, via or there)]
        if via:
            steps.append((via, inner, there))
            self._check_inner(own, via, inner, there, connection)
        order = self._order(key, connection, there, steps[0])
        self.used.append(connection)
        self._steps[here, source, there] = steps
        if via:
            self.links[steps[0]] = Connection(*steps[0], inner)
        self.links[steps[-1]] = Connection(*steps[-1], target, **order)

    def _order(
        self, key: str, connection: ET.Element, there: str, way: tuple[str, int, str]
    ) -> dict[str, bool]:
        """Who goes first at the end of a way, by its state, or else by its signal."""
        lit, state = connection.get("tl") is not None, connection.get("state", "")
        if state not in (LIT if lit else GIVING_WAY):
            given = f"right of way {shown(connection, 'state')} to {there}"
            raise ArgumentError(key, given, "major (M), minor (m) or zipper (Z)")
        # From how far drivers see whom they give way to; those here as by SUMO's default.
        if (lit or state != "M") and connection.get("visibility") is not None:
            given = shown(connection, "visibility")
            raise ArgumentError(f"{key}: connection to {there}: visibility", given, "none")
        if lit:
            self.lights.letters(connection)
            self.lights.govern(connection, way)
            return {"gives_way": False, "zipper": False}
        return {"gives_way": GIVING_WAY[state], "zipper": state == "Z"}

    def _check_inner(
        self, key: str, via: str, inner: int, there: str, connection: ET.Element
    ) -> None:
        """Refuse a way that does not lead on plainly from its inner lane."""
        after = [c for c in self.between.get((via, there), []) if c.get("fromLane") == str(inner)]
        if len(after) != 1 or not {"via", "tl"}.isdisjoint(after[0].keys()):
            given = (
                f"{len(after)} ways on from {via}_{inner}, or one that waits inside the junction"
            )
            raise ArgumentError(key, given, "a plain one")
        own = f"{self.path}: edge {via}: connection to {there}"
        CONNECTION.check(own, after[0])
        if after[0].get("state") != "M":
            raise ArgumentError(f"{own}: state", shown(after[0], "state"), "'M', inside a junction")
        if after[0].get("toLane") != connection.get("toLane"):
            given = f"{shown(after[0], 'toLane')} from {via}_{inner}"
            raise ArgumentError(
                f"{key}: toLane", given, f"{shown(connection, 'toLane')}, as before"
            )


def _conflicts(key: str, junction: ET.Element, ways: int) -> list[str]:
    """Of each way over a junction a letter for each: 1 where it conflicts with that one."""
    requests = junction.findall("request")
    found: dict[int, str] = {}
    for request in requests:
        own = f"{key}: request {request.get('index', '')}"
        REQUEST.check(own, request)
        index = whole(own, request, "index", len(requests) - 1)
        if index in found:
            raise ArgumentError(f"{own}: index", f"{index} a second time", "each once")
        found[index] = request.get("foes", "")[::-1]
        if len(found[index]) != len(requests) or set(found[index]) - {"0", "1"}:
            accepted = f"{len(requests)} zeros and ones, one for each request"
            raise ArgumentError(f"{own}: foes", shown(request, "foes"), accepted)
    if found and len(found) < ways:
        raise ArgumentError(key, f"{len(found)} requests for {ways} ways over it", "one for each")
    return [found[index] for index in sorted(found)]


def _lane_before(connection: ET.Element) -> str:
    return f"{connection.get('from')}_{connection.get('fromLane')}"


def _is_of_cars(element: ET.Element) -> bool:
    """Whether an element of a type of edges restricts passenger cars."""
    return element.tag == "restriction" and element.get("vClass") in CARS
