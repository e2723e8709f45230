"""SUMO's demand: vehicle types, routes, flows and vehicles of a rou.xml."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

from warp_envs.checks import ArgumentError
from warp_envs.traffic.network import Flow
from warp_envs.traffic.sumo_xml import elements, number, parse, refuse_others, seconds

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

LOOKS = ("color", "guiShape", "width", "height", "imgFile", "id", "sigma")
"""Attributes that do not change how a type drives; the IDM has no sigma."""

FIXED = {"carFollowModel": "IDM", "vClass": "passenger", "speedFactor": 1.0, "speedDev": 0.0}
"""Attributes that must be so; random desired speeds are not ours."""

DEPARTURE = ("id", "type", "route", "departLane", "departPos", "departSpeed", "color", *(
    "arrivalLane", "arrivalPos", "arrivalSpeed"
))  # fmt: skip
ARRIVAL = {"arrivalLane": "current", "arrivalPos": "max", "arrivalSpeed": "current"}


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
    for element in elements(parse(path, "routes")):
        name = element.get("id", "")
        key = f"{path}: {element.tag} {name}"
        if element.tag == "vType":
            demand.types[name] = _read_type(key, element, demand)
        elif element.tag == "route":
            refuse_others(key, element, ("id", "edges", "color"))
            demand.routes[name] = element.get("edges", "").split()
        elif element.tag in ("flow", "vehicle"):
            flow = _read_flow(key, element, demand)
            if demand.flows and flow.begin < demand.flows[-1].begin:
                given = f"a begin before that of {demand.flows[-1].name!r}"
                raise ArgumentError(key, given, "the order of departure (SUMO leaves it out)")
            demand.flows.append(flow)
        else:
            raise ArgumentError(key, "that", "vType, route, flow and vehicle")
    if not demand.routes:
        raise ArgumentError(str(path), "no route", "at least one")
    return demand


def _read_type(key: str, element: ET.Element, demand: Demand) -> dict[str, float]:
    refuse_others(key, element, [*IDM, *LOOKS, *FIXED])
    for child in elements(element):
        raise ArgumentError(key, f"<{child.tag}> in it", "attributes alone")
    for name, wanted in FIXED.items():
        text = element.get(name)
        if isinstance(wanted, float):
            if number(key, element, name, 0.1 if name == "speedDev" else 1.0) != wanted:
                raise ArgumentError(f"{key}: {name}", repr(text or "SUMO's 0.1"), f"{wanted:g}")
        elif (text or ("Krauss" if name == "carFollowModel" else wanted)) != wanted:
            raise ArgumentError(f"{key}: {name}", repr(text or "Krauss"), repr(wanted))
    if element.get("carFollowModel") is None:
        raise ArgumentError(f"{key}: carFollowModel", "SUMO's default", "'IDM'")
    numbers = {ours: number(key, element, name, value) for name, (ours, value) in IDM.items()}
    # As SUMO: an emergency's braking is not below the comfortable one.
    numbers["emergency_decel"] = max(numbers["emergency_decel"], numbers["b"])
    if numbers["b"] < 1.5:
        demand.notes.append(f"{key}: SUMO brakes by up to 1.5 m/s^2 where decel is less")
    return numbers


def _read_flow(key: str, element: ET.Element, demand: Demand) -> Flow:
    single = element.tag == "vehicle"
    timing = ("depart",) if single else ("begin", "end", "number", "vehsPerHour", "period")
    refuse_others(key, element, [*DEPARTURE, *timing])
    for name, wanted in {**ARRIVAL, "departPos": "base"}.items():
        if element.get(name, wanted) != wanted:
            raise ArgumentError(f"{key}: {name}", repr(element.get(name)), repr(wanted))
    name = element.get("id", "")
    route = element.get("route", "")
    for child in elements(element):
        if child.tag != "route" or route:
            raise ArgumentError(key, f"<{child.tag}> in it", "one route")
        refuse_others(key, child, ("edges",))
        route = f"!{name}"
        demand.routes[route] = child.get("edges", "").split()
    if route not in demand.routes:
        raise ArgumentError(f"{key}: route", repr(route), "one that stands before it")
    kind = element.get("type", "")
    if kind not in demand.types:
        raise ArgumentError(f"{key}: type", repr(kind), "a vType that stands before it")
    begin, end, rate = _one_departure(key, element) if single else _departures(key, element)
    if single:
        demand.single.add(name)
    lane = element.get("departLane", "first")
    speed = element.get("departSpeed", "0")
    return Flow(
        name,
        route,
        rate,
        lane=_lane(key, lane),
        speed=None if speed in ("max", "desired") else number(key, element, "departSpeed", 0.0),
        begin=begin,
        end=end,
        parameters=demand.types[kind],
    )


def _lane(key: str, text: str) -> int | None:
    if text == "best":
        return None
    if text == "first":
        return 0
    if not text.isdecimal():
        raise ArgumentError(f"{key}: departLane", repr(text), "a number, 'first' or 'best'")
    return int(text)


def _one_departure(key: str, element: ET.Element) -> tuple[float, float, float]:
    at = seconds(key, element, "depart", math.nan)
    if not at >= 0.0:
        raise ArgumentError(f"{key}: depart", repr(element.get("depart")), "a time")
    return at, at + 1.0, 3600.0


def _departures(key: str, element: ET.Element) -> tuple[float, float, float]:
    """Begin [s], end [s] and vehicles an hour of a flow."""
    begin = seconds(key, element, "begin", 0.0)
    end = seconds(key, element, "end", math.inf)
    count = number(key, element, "number", math.inf)
    given = [name for name in ("vehsPerHour", "period") if element.get(name) is not None]
    if len(given) > 1:
        raise ArgumentError(key, " and ".join(given), "one of them")
    if not given:
        if math.isinf(count) or math.isinf(end):
            raise ArgumentError(key, "no rate", "vehsPerHour, period, or number and end")
        return begin, end, _in_milliseconds(3600.0 * count / (end - begin))
    rate = number(key, element, given[0])
    if given[0] == "period":
        if not rate > 0.0:
            raise ArgumentError(f"{key}: period", repr(element.get("period")), "a time")
        rate = 3600.0 / rate
    rate = _in_milliseconds(rate)
    if math.isfinite(count):
        end = min(end, begin + count * 3600.0 / rate)
    return begin, end, rate


def _in_milliseconds(rate: float) -> float:
    """Vehicles an hour as SUMO sends them, whose times are whole milliseconds."""
    period = round(3.6e6 / rate) if rate > 0.0 else 0
    return 3.6e6 / period if period else rate
