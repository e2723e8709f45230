"""What a road network is: segments, how their lanes join, routes, flows, loops, signals.

    network = Network(
        segments=[Segment("road", 1000.0, 2), Segment("ramp", 300.0), Segment("on", 200.0, 3), ...],
        connections=[Connection("road", 0, "on", 1), Connection("ramp", 0, "on", 0), ...],
        routes={"through": ["road", "on", "off"], "entering": ["ramp", "on", "off"]},
        flows=[Flow("cars", "through", rate=3000.0), Flow("joining", "entering", rate=600.0)],
        loops=[Loop("after", "off", 100.0)],
    )

`warp_envs.traffic.network_sim.TrafficNetwork` simulates batches of one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kernels.traffic.network_signals import GREEN, RED, YELLOW
from warp_envs.checks import (
    LARGEST,
    ArgumentError,
    check_flag,
    check_integer,
    check_number,
    check_positive,
    check_sequence,
    near_matches,
)


@dataclass(frozen=True)
class Segment:
    """A stretch of road with the same lanes from start to end.

    Attributes:
        name: by which connections and routes know it.
        length: [m], of all lanes or, of an inner one, one of each.
        num_lanes: lane 0 is the rightmost.
        speed_limit: [m/s], of all lanes or one of each; infinite for none.
        inner: whether it lies inside a junction, where no lanes are changed.
    """

    name: str
    length: float | tuple[float, ...]
    num_lanes: int = 1
    speed_limit: float | tuple[float, ...] = math.inf
    inner: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ArgumentError: no name, no positive length, number of lanes or limit, or not one limit a
                lane.
        """
        _check_text("segment: name", self.name)
        key = f"segment {self.name}"
        check_integer(f"{key}: num_lanes", self.num_lanes, 1)
        check_flag(f"{key}: inner", self.inner)
        for name, values in {"length": self.lengths, "speed_limit": self.limits}.items():
            if len(values) != self.num_lanes:
                accepted = f"one or {self.num_lanes}"
                raise ArgumentError(f"{key}: {name}", f"{len(values)} of them", accepted)
        for length in self.lengths:
            check_positive(f"{key}: length", length)
        if not self.inner and len(set(self.lengths)) > 1:
            raise ArgumentError(f"{key}: length", repr(self.length), "one of all lanes")
        for limit in self.limits:
            if not _is_number(limit) or not limit > 0.0:
                accepted = "a positive number or inf, or a tuple of one a lane"
                raise ArgumentError(f"{key}: speed_limit", repr(limit), accepted)

    @property
    def lengths(self) -> tuple[float, ...]:
        """Of each lane [m]."""
        return self.length if isinstance(self.length, tuple) else (self.length,) * self.num_lanes

    @property
    def limits(self) -> tuple[float, ...]:
        """Of each lane [m/s]."""
        if isinstance(self.speed_limit, tuple):
            return self.speed_limit
        return (self.speed_limit,) * self.num_lanes


@dataclass(frozen=True)
class Connection:
    """A lane that leads on into a lane of another segment.

    Attributes:
        source: name of the segment that ends.
        source_lane: its lane.
        target: name of the segment that begins.
        target_lane: its lane.
        gives_way: whether, where several lanes lead into one, those of this one let the vehicles
            of the others go first. Where all do or none, who is nearer goes first.
        zipper: whether, where two lanes lead into one, who goes first is as at SUMO's zipper: by
            times of arrival (`driving="sumo"`; else who is nearer).
    """

    source: str
    source_lane: int
    target: str
    target_lane: int
    gives_way: bool = False
    zipper: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ArgumentError: an empty name, a lane that is no integer >= 0, or a flag that is none.
        """
        for name in ("source", "target"):
            _check_text(f"connection: {name}", getattr(self, name))
        for name in ("source_lane", "target_lane"):
            key = f"connection of {self.source} to {self.target}: {name}"
            check_integer(key, getattr(self, name), 0)
        for name in ("gives_way", "zipper"):
            check_flag(f"connection {self.source}_{self.source_lane}: {name}", getattr(self, name))


@dataclass(frozen=True)
class Flow:
    """Vehicles that enter at the start of a route, one every 3600 / rate seconds.

    Attributes:
        name: its own.
        route: name of the route they take.
        rate: vehicles an hour; `TrafficNetwork` may be given others.
        lane: of the route's first segment, or None for the one with the fewest vehicles of those
            that lead on without a change of lanes.
        speed: with which they enter [m/s]; None for the highest safe one up to the limit.
        begin: when the first is due [s].
        end: when no more are [s]; infinite for never.
        parameters: of these drivers and vehicles by name, in place of those of the network.
    """

    name: str
    route: str
    rate: float
    lane: int | None = None
    speed: float | None = None
    begin: float = 0.0
    end: float = math.inf
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ArgumentError: an empty name, a number out of range, or parameters that are no numbers
                by name.
        """
        _check_text("flow: name", self.name)
        key = f"flow {self.name}"
        _check_text(f"{key}: route", self.route)
        check_number(f"{key}: rate", self.rate)
        if self.lane is not None:
            check_integer(f"{key}: lane", self.lane, 0)
        if self.speed is not None:
            check_number(f"{key}: speed", self.speed)
        check_number(f"{key}: begin", self.begin)
        if not _is_number(self.end) or not self.end >= self.begin:
            accepted = f"a number >= {self.begin} or inf"
            raise ArgumentError(f"{key}: end", repr(self.end), accepted)
        if not isinstance(self.parameters, Mapping):
            raise ArgumentError(f"{key}: parameters", repr(self.parameters), "numbers by name")
        for name, value in self.parameters.items():
            _check_text(f"{key}: parameters", name)
            if not _is_number(value):
                raise ArgumentError(f"{key}: {name}", repr(value), "a number")


@dataclass(frozen=True)
class Loop:
    """An induction loop: counts the vehicles whose front passes.

    Attributes:
        name: its own.
        segment: where it lies.
        x: from the segment's start [m].
        lane: None for all lanes together.
    """

    name: str
    segment: str
    x: float
    lane: int | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ArgumentError: an empty name, or a place or lane that is no number >= 0.
        """
        _check_text("loop: name", self.name)
        _check_text(f"loop {self.name}: segment", self.segment)
        check_number(f"loop {self.name}: x", self.x)
        if self.lane is not None:
            check_integer(f"loop {self.name}: lane", self.lane, 0)


@dataclass(frozen=True)
class Signal:
    """A fixed-time signal: at the ends of the lanes that it governs vehicles stop.

    Attributes:
        name: its own.
        ways: the connections that it governs: segment, its lane, the segment to which that leads.
        phases: how long each lasts [s] and what it shows, a letter a way: "G" and "g" green, "Y"
            and "y" yellow, "r" red. After the last comes the first. Of lanes that go as far SUMO's
            drivers prefer those that show a capital when they come to the segment; who gives way is
            told by the connection.
        offset: when a first phase begins [s].
    """

    name: str
    ways: Sequence[tuple[str, int, str]]
    phases: Sequence[tuple[float, str]]
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ArgumentError: an empty name, no way or phase or one of another form, a duration that is
                not positive, a colour there is not, or not one a way.
        """
        _check_text("signal: name", self.name)
        key = f"signal {self.name}"
        for what, parts in {"ways": self.ways, "phases": self.phases}.items():
            check_sequence(f"{key}: {what}", parts)
            if not parts:
                raise ArgumentError(f"{key}: {what}", "none", "at least one")
        for way in self.ways:
            if not isinstance(way, tuple) or len(way) != 3:
                accepted = "tuples: segment, its lane, the segment to which that leads"
                raise ArgumentError(f"{key}: ways", repr(way), accepted)
            for name in (way[0], way[2]):
                _check_text(f"{key}: ways", name)
            check_integer(f"{key}: ways: lane of {way[0]}", way[1], 0)
        check_number(f"{key}: offset", self.offset, -LARGEST)
        for phase in self.phases:
            if not isinstance(phase, (tuple, list)) or len(phase) != 2:
                raise ArgumentError(f"{key}: phases", repr(phase), "pairs: duration, letters")
            duration, state = phase
            check_positive(f"{key}: duration", duration)
            fits = isinstance(state, str) and len(state) == len(self.ways)
            if not fits or set(state) - set(COLOURS):
                accepted = f"{len(self.ways)} letters of {''.join(COLOURS)}, one a way"
                raise ArgumentError(f"{key}: state", repr(state), accepted)


COLOURS = {"G": GREEN, "g": GREEN, "y": YELLOW, "Y": YELLOW, "r": RED}
"""What the letters of a signal let drivers do."""


@dataclass(frozen=True)
class Network:
    """Roads that join and part, with the vehicles' routes, flows, loops and signals.

    Attributes:
        segments: in any order.
        connections: of their lanes. A lane that leads nowhere on a vehicle's route dead-ends.
        routes: segments by the route's name, each joined to the next by at least one lane; none
            visits a segment twice.
        flows: what enters.
        loops: what counts.
        signals: what stops vehicles, each connection by one at most.
    """

    segments: Sequence[Segment]
    connections: Sequence[Connection]
    routes: Mapping[str, Sequence[str]]
    flows: Sequence[Flow] = ()
    loops: Sequence[Loop] = ()
    signals: Sequence[Signal] = ()

    def __post_init__(self) -> None:
        """Check that the parts fit.

        Raises:
            ArgumentError: parts of another kind, a name that is given twice or that nothing has, a
                lane that its segment lacks, a loop off its segment, two connections of a lane into
                one segment, zippers that give way or lead into a lane with others, a route that is
                empty, broken or comes by a segment twice, or a signal of what is no connection or
                has another one.
        """
        for what, kind in _PARTS.items():
            check_sequence(what, getattr(self, what))
            for part in getattr(self, what):
                if not isinstance(part, kind):
                    raise ArgumentError(what, repr(part), f"a {kind.__name__}")
        if not isinstance(self.routes, Mapping):
            raise ArgumentError(
                "routes", repr(self.routes), "lists of segments by the route's name"
            )
        if not self.segments:
            raise ArgumentError("segments", "none", "at least one")
        if not self.routes:
            raise ArgumentError("routes", "none", "at least one")
        for what, parts in (
            ("segments", self.segments),
            ("flows", self.flows),
            ("loops", self.loops),
            ("signals", self.signals),
        ):
            for name, times in Counter(part.name for part in parts).items():
                if times > 1:
                    raise ArgumentError(what, f"{name!r} {times} times", "each name once")
        self._check_connections()
        self._check_signals()
        for name, route in self.routes.items():
            self._check_route(name, route)
        for flow in self.flows:
            if flow.route not in self.routes:
                hint = near_matches(flow.route, self.routes)
                raise ArgumentError(
                    f"flow {flow.name}: route", repr(flow.route), f"any of {[*self.routes]}", hint
                )
            self._check_lane(f"flow {flow.name}", self.routes[flow.route][0], flow.lane)
        for loop in self.loops:
            self._check_lane(f"loop {loop.name}", loop.segment, loop.lane)
            length = min(self.segment(loop.segment).lengths)
            check_number(f"loop {loop.name}: x", loop.x, 0.0, length)

    def segment(self, name: str) -> Segment:
        """The segment of a name.

        Raises:
            ArgumentError: there is none.
        """
        _check_text("segment", name)
        by_name = {segment.name: segment for segment in self.segments}
        if name not in by_name:
            raise ArgumentError("segment", repr(name), "one there is", near_matches(name, by_name))
        return by_name[name]

    def _check_connections(self) -> None:
        pairs = set()
        for connection in self.connections:
            key = f"connection {connection.source}_{connection.source_lane}"
            self._check_lane(key, connection.source, connection.source_lane)
            self._check_lane(key, connection.target, connection.target_lane)
            pair = (connection.source, connection.source_lane, connection.target)
            if pair in pairs:
                raise ArgumentError(key, f"a second one into {connection.target!r}", "one")
            pairs.add(pair)
        into: dict[tuple[str, int], set[bool]] = {}
        for connection in self.connections:
            place = (connection.target, connection.target_lane)
            into.setdefault(place, set()).add(connection.zipper)
            key = f"connection {connection.source}_{connection.source_lane}: zipper"
            if connection.zipper and connection.gives_way:
                raise ArgumentError(key, "True with gives_way", "one of the two")
            if len(into[place]) > 1:
                given = f"{connection.zipper}, and another into lane {place[1]} of {place[0]!r} not"
                raise ArgumentError(key, given, "all that lead into a lane or none")

    def _check_signals(self) -> None:
        joined = {(c.source, c.source_lane, c.target) for c in self.connections}
        governed = set()
        for signal in self.signals:
            for way in signal.ways:
                given = f"the way from {way[0]!r}, lane {way[1]}, to {way[2]!r}"
                if way not in joined:
                    raise ArgumentError(f"signal {signal.name}", given, "one that is connected")
                if way in governed:
                    accepted = "one that no signal governs yet"
                    raise ArgumentError(f"signal {signal.name}", given, accepted)
                governed.add(way)

    def _check_lane(self, key: str, segment: str, lane: int | None) -> None:
        found = {s.name: s for s in self.segments}
        if segment not in found:
            raise ArgumentError(
                key, f"segment {segment!r}", "one there is", near_matches(segment, found)
            )
        if lane is not None:
            check_integer(f"{key}: lane of {segment}", lane, 0, found[segment].num_lanes - 1)

    def _check_route(self, name: str, route: Sequence[str]) -> None:
        _check_text("routes", name)
        key = f"route {name}"
        check_sequence(key, route)
        for segment in route:
            _check_text(key, segment)
        if not route:
            raise ArgumentError(key, "no segment", "at least one")
        for segment in route:
            self._check_lane(key, segment, None)
            if list(route).count(segment) > 1:
                raise ArgumentError(key, f"{segment!r} twice", "each segment once")
        joined = {(c.source, c.target) for c in self.connections}
        for here, there in pairwise(route):
            if (here, there) not in joined:
                raise ArgumentError(key, f"{there!r} after {here!r}", "segments that are connected")


_PARTS = {
    "segments": Segment,
    "connections": Connection,
    "flows": Flow,
    "loops": Loop,
    "signals": Signal,
}


def _is_number(value: Any) -> bool:
    """Whether it is one, maybe infinite or NaN; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_text(key: str, value: Any) -> None:
    """Raise ArgumentError unless `value` can be a name: SUMO's have any letters."""
    if not isinstance(value, str) or not value:
        raise ArgumentError(key, repr(value), "a name, a text that is not empty")
