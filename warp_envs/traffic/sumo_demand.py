"""SUMO's demand: vehicle types, routes, flows and vehicles of a rou.xml."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from warp_envs.checks import ArgumentError
from warp_envs.traffic.network import Flow
from warp_envs.traffic.sumo_xml import (
    Attributes,
    as_whole,
    elements,
    identify,
    number,
    parse,
    seconds,
    shown,
    whole,
)

IDM = {
    "length": ("length", 5.0),
    "minGap": ("s0", 2.5),
    "accel": ("a", 2.6),
    "decel": ("b", 4.5),
    "emergencyDecel": ("emergency_decel", 9.0),
    "tau": ("T", 1.0),
    "delta": ("delta", 4.0),
    "maxSpeed": ("v0", 200.0 / 3.6),
}
"""Of SUMO's attributes of a passenger car the names of ours, and SUMO's defaults."""

MAY_BE_ZERO = ("minGap", "tau")

FIXED = {"carFollowModel": "IDM", "vClass": "passenger", "speedFactor": 1.0, "speedDev": 0.0}
"""Attributes that must be so; random desired speeds are not ours."""

DEFAULTS = {**FIXED, "carFollowModel": "Krauss", "speedDev": 0.1}
"""What SUMO takes where they are not given."""

TYPE = Attributes(
    read=("id", *IDM, *FIXED),
    # How it looks; the IDM has no sigma.
    idle=("color", "guiShape", "width", "height", "imgFile", "sigma"),
)
ROUTE = Attributes(read=("id", "edges"), idle=("color",), children=("param",))
OWN_ROUTE = Attributes(read=("edges",), idle=("color",), children=("param",))
"""Of a flow or vehicle, inside it."""

DEPARTURE = ("id", "type", "route", "departLane", "departSpeed")
ARRIVAL = {
    "departPos": ("base",),
    "arrivalLane": ("current",),
    "arrivalPos": ("max",),
    "arrivalSpeed": ("current",),
}
FLOW = Attributes(
    read=(*DEPARTURE, "begin", "end", "number", "vehsPerHour", "period"),
    idle=("color",),
    fixed=ARRIVAL,
    children=("route",),
)
VEHICLE = Attributes((*DEPARTURE, "depart"), idle=("color",), fixed=ARRIVAL, children=("route",))
ROUTES = Attributes(children=("vType", "route", "flow", "vehicle"))


@dataclass
class Demand:
    """What a rou.xml asks for.

    Attributes:
        path: of the file.
        routes: edges by the route's name.
        flows: in the order of the file, single vehicles among them.
        single: names of these.
        notes: what SUMO does otherwise.
    """

    path: Path
    routes: dict[str, list[str]] = field(default_factory=dict)
    flows: list[Flow] = field(default_factory=list)
    single: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    types: dict[str, dict[str, float]] = field(default_factory=dict)


def read_demand(path: Path) -> Demand:
    """Read a rou.xml.

    Raises:
        ArgumentError: what is random, or not driven as SUMO does, by element and reason.
    """
    demand = Demand(path)
    root = parse(path, "routes")
    ROUTES.check(str(path), root)
    names: set[str] = set()
    for element in elements(root):
        taken = {"vType": demand.types, "route": demand.routes}.get(element.tag, names)
        name = identify(path, element, taken)
        key = f"{path}: {element.tag} {name}"
        if element.tag == "vType":
            demand.types[name] = _read_type(key, element, demand)
        elif element.tag == "route":
            ROUTE.check(key, element)
            demand.routes[name] = _edges(key, element)
        else:
            flow = _read_flow(key, name, element, demand)
            if demand.flows and flow.begin < demand.flows[-1].begin:
                given = f"a begin before that of {demand.flows[-1].name!r}"
                raise ArgumentError(key, given, "the order of departure (SUMO leaves it out)")
            demand.flows.append(flow)
            names.add(name)
    if not demand.routes:
        raise ArgumentError(str(path), "no route", "at least one")
    for name in sorted(demand.single):
        _refuse_name_of_another(f"{path}: vehicle {name}: id", name, names - demand.single)
    return demand


def _refuse_name_of_another(key: str, name: str, flows: set[str]) -> None:
    """Vehicle k of a flow is the flow's name, a dot and k to SUMO and in what is recorded."""
    flow, _, text = name.rpartition(".")
    index = as_whole(text)
    if flow in flows and index is not None and text == f"{index}":
        given = f"{name!r}, which is a vehicle of flow {flow!r}"
        raise ArgumentError(key, given, "a name of its own")


def _edges(key: str, element: ET.Element) -> list[str]:
    edges = element.get("edges", "").split()
    if not edges:
        raise ArgumentError(f"{key}: edges", shown(element, "edges"), "at least one edge")
    for edge, times in Counter(edges).items():
        if times > 1:
            raise ArgumentError(f"{key}: edges", f"{edge!r} {times} times", "each once")
    return edges


def _read_type(key: str, element: ET.Element, demand: Demand) -> dict[str, float]:
    TYPE.check(key, element)
    for name, wanted in FIXED.items():
        text = element.get(name)
        if isinstance(wanted, float):
            has = number(key, element, name, float(DEFAULTS[name]))
        else:
            has = DEFAULTS[name] if text is None else text
        if has != wanted:
            given = f"none (SUMO's default is {has!r})" if text is None else repr(text)
            raise ArgumentError(f"{key}: {name}", given, repr(wanted))
    numbers = {
        ours: number(key, element, name, value, 0.0, above=name not in MAY_BE_ZERO)
        for name, (ours, value) in IDM.items()
    }
    # As SUMO: an emergency's braking is not below the comfortable one.
    numbers["emergency_decel"] = max(numbers["emergency_decel"], numbers["b"])
    if numbers["b"] < 1.5:
        demand.notes.append(f"{key}: SUMO brakes by up to 1.5 m/s^2 where decel is less")
    return numbers


def _read_flow(key: str, name: str, element: ET.Element, demand: Demand) -> Flow:
    single = element.tag == "vehicle"
    (VEHICLE if single else FLOW).check(key, element)
    route = element.get("route", "")
    for child in elements(element):
        if route:
            raise ArgumentError(f"{key}: route in it", f"another than {route!r}", "one route")
        own = f"{key}: route"
        OWN_ROUTE.check(own, child)
        route = f"!{name}"
        if route in demand.routes:
            raise ArgumentError(
                own, f"one, where there is a route {route!r}", "another name of that"
            )
        demand.routes[route] = _edges(own, child)
    if route not in demand.routes:
        given = shown(element, "route")
        raise ArgumentError(f"{key}: route", given, "one that stands before it")
    kind = element.get("type", "")
    if kind not in demand.types:
        given = shown(element, "type")
        raise ArgumentError(f"{key}: type", given, "a vType that stands before it")
    begin, end, rate = _one_departure(key, element) if single else _departures(key, element)
    if single:
        demand.single.add(name)
    speed = element.get("departSpeed", "0")
    try:
        return Flow(
            name,
            route,
            rate,
            lane=_lane(key, element),
            speed=None
            if speed in ("max", "desired")
            else number(key, element, "departSpeed", 0.0, 0.0),
            begin=begin,
            end=end,
            parameters=demand.types[kind],
        )
    except ArgumentError as error:  # of a rate out of all numbers
        if error.key.startswith(key):
            raise
        raise error.renamed(f"{demand.path}: {error.key}") from None


def _lane(key: str, element: ET.Element) -> int | None:
    text = element.get("departLane", "first")
    if text == "best":
        return None
    if text == "first":
        return 0
    lane = as_whole(text)
    if lane is None:
        raise ArgumentError(f"{key}: departLane", repr(text), "a number, 'first' or 'best'")
    return lane


def _one_departure(key: str, element: ET.Element) -> tuple[float, float, float]:
    at = seconds(key, element, "depart")
    return at, at + 1.0, 3600.0


def _departures(key: str, element: ET.Element) -> tuple[float, float, float]:
    """Begin [s], end [s] and vehicles an hour of a flow."""
    begin = seconds(key, element, "begin", 0.0)
    end = seconds(key, element, "end", math.inf)
    if end < begin:
        given = shown(element, "end")
        raise ArgumentError(f"{key}: end", given, f"a time of at least its begin, {begin:g} s")
    counted = element.get("number") is not None
    given = [name for name in ("vehsPerHour", "period") if element.get(name) is not None]
    if len(given) > 1:
        raise ArgumentError(key, " and ".join(given), "one of them")
    if not given:
        if not counted or math.isinf(end):
            raise ArgumentError(key, "no rate", "vehsPerHour, period, or number and end")
        if end == begin:
            accepted = f"a time after its begin, {begin:g} s, for 'number' to be spread"
            raise ArgumentError(f"{key}: end", shown(element, "end"), accepted)
        return begin, end, _in_milliseconds(3600.0 * whole(key, element, "number") / (end - begin))
    if given[0] == "period":
        # SUMO's times are whole milliseconds.
        rate = 3600.0 / number(key, element, "period", low=1e-3)
    else:
        # Of no vehicles an hour there are never so many.
        rate = number(key, element, "vehsPerHour", low=0.0, above=counted)
    rate = _in_milliseconds(rate)
    if counted:
        end = min(end, begin + whole(key, element, "number") * 3600.0 / rate)
    return begin, end, rate


def _in_milliseconds(rate: float) -> float:
    """Vehicles an hour as SUMO sends them, whose times are whole milliseconds."""
    period = 3.6e6 / rate if rate > 0.0 else 0.0
    return 3.6e6 / round(period) if 0.5 < period < math.inf else rate
