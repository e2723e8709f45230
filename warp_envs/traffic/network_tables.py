"""A road network as the tables over lanes and routes that its kernels read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kernels.traffic.car_following import CarFollowing
from kernels.traffic.network import LONGEST
from kernels.traffic.network_merges import NEARER_FIRST, ZIPPER
from warp_envs.checks import ArgumentError
from warp_envs.traffic.models import check_names, check_number_of
from warp_envs.traffic.network import COLOURS, Network

Priorities = dict[tuple[str, int, str], bool | tuple[str, tuple[bool, ...]]]
"""Of ways from a road's lane to the next road: whether they have priority, or by which signal's
phases."""


@dataclass(frozen=True)
class Tables:
    """The arrays by name, and what the lanes are called.

    Attributes:
        integers: int32 arrays.
        lengths: float arrays, in m or m/s.
        times: float64 arrays [s], of signals.
        lane_names: (segment, lane) of each lane.
        first_lane: of each segment by name.
        signals_differ: whether at some time lanes of a segment are not alike in having priority.
    """

    integers: dict[str, np.ndarray]
    lengths: dict[str, np.ndarray]
    times: dict[str, np.ndarray]
    lane_names: list[tuple[str, int]]
    first_lane: dict[str, int]
    signals_differ: bool

    @property
    def num_ways(self) -> int:
        """Ways that signals govern."""
        return len(self.times["light_cycle"])

    @property
    def outlook(self) -> int:
        """Most lanes of a segment, where SUMO's drivers choose among them by signals; else 0."""
        return int(self.integers["lane_place"].max()) + 1 if self.signals_differ else 0


def make_tables(network: Network, merge_zone: float, *, zippers: bool = False) -> Tables:
    """The tables that `kernels.traffic.network`, `network_drive` and `network_lanes` describe.

    Args:
        network: it.
        merge_zone: how far before a merge vehicles order themselves [m].
        zippers: whether connections that are zippers are SUMO's.
    """
    lane_names = [(s.name, lane) for s in network.segments for lane in range(s.num_lanes)]
    first_lane: dict[str, int] = {}
    for place, (segment, lane) in enumerate(lane_names):
        if lane == 0:
            first_lane[segment] = place
    segment_of = {segment.name: k for k, segment in enumerate(network.segments)}
    lengths = np.array([network.segments[segment_of[s]].lengths[lane] for s, lane in lane_names])
    limits = np.array([network.segments[segment_of[s]].limits[lane] for s, lane in lane_names])
    right, left = [], []
    for place, (name, lane) in enumerate(lane_names):
        segment = network.segments[segment_of[name]]
        right.append(place - 1 if not segment.inner and lane > 0 else -1)
        last = lane + 1 == segment.num_lanes
        left.append(place + 1 if not segment.inner and not last else -1)
    links: dict[int, list[int]] = defaultdict(list)
    gives: dict[tuple[int, int], int] = {}
    for c in network.connections:
        source, target = first_lane[c.source] + c.source_lane, first_lane[c.target] + c.target_lane
        links[source].append(target)
        gives[source, target] = ZIPPER if zippers and c.zipper else int(c.gives_way)
    integers = {
        "lane_right": np.array(right),
        "lane_left": np.array(left),
        "lane_inner": np.array([network.segments[segment_of[s]].inner for s, _ in lane_names]),
        "lane_segment": np.array([segment_of[s] for s, _ in lane_names]),
    }
    counts = [s.num_lanes for s in network.segments]
    integers["lane_place"] = np.array([lane for _, lane in lane_names])
    integers["lane_alone"] = np.repeat([count == 1 for count in counts], counts)
    integers["wide_lanes"] = _wide_lanes(network, first_lane)
    priorities = find_priorities(network)
    tables = Tables(
        integers,
        {"lane_length": lengths, "lane_limit": limits},
        {},
        lane_names,
        first_lane,
        signals_differ=_signals_differ(network, priorities),
    )
    _add_routes(tables, network, links, priorities)
    _add_tails(tables, links)
    _add_merges(tables, links, gives, merge_zone)
    _add_loops(tables, network)
    _add_signals(tables, network)
    _add_ways(tables, network)
    for name, array in tables.integers.items():
        tables.integers[name] = np.ascontiguousarray(array, dtype=np.int32)
    return tables


def flow_tables(
    network: Network, tables: Tables, model: CarFollowing
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the flows are: arrays by name, and their drivers' numbers (num_flows, numbers).

    Raises:
        ArgumentError: a parameter that the model lacks, or a value that it may not have.
    """
    lanes: list[list[tuple]] = []
    numbers = []
    places = {number.name: k for k, number in enumerate(model.numbers)}
    for flow in network.flows:
        segment = network.segment(network.routes[flow.route][0])
        choice = [tables.first_lane[segment.name] + k for k in range(segment.num_lanes)]
        if flow.lane is None:
            off = tables.integers["changes"][list(network.routes).index(flow.route)]
            lanes.append([(lane,) for lane in choice if off[lane] == 0])
        else:
            lanes.append([(choice[flow.lane],)])
        check_names(flow.parameters, model.numbers, model.name)
        row = np.full(len(model.numbers), math.nan)
        for name, value in flow.parameters.items():
            try:
                given = torch.tensor(value, dtype=torch.float64)
                check_number_of(model.numbers[places[name]], given)
            except ArgumentError as error:
                raise error.renamed(f"flow {flow.name}: {name}") from None
            row[places[name]] = value
        numbers.append(row)
    routes = list(network.routes)
    count = len(network.flows)
    start, (lane,) = _compressed(lanes, 1)
    arrays = {
        "flow_route": np.array([routes.index(f.route) for f in network.flows], dtype=np.int32),
        "flow_start": start.astype(np.int32),
        "flow_lane": lane.astype(np.int32),
        "flow_speed": np.array([math.inf if f.speed is None else f.speed for f in network.flows]),
        "flow_begin": np.array([f.begin for f in network.flows], dtype=np.float64),
        "flow_end": np.array([min(f.end, 1e15) for f in network.flows], dtype=np.float64),
    }
    return arrays, np.array(numbers).reshape(count, len(model.numbers))


def _add_routes(
    tables: Tables, network: Network, links: dict[int, list[int]], priorities: Priorities
) -> None:
    """Where a route goes on from a lane, for how long, and how many lanes it is off."""
    shape = (len(network.routes), len(tables.lane_names))
    next_lane = np.full(shape, -1)
    usable = np.zeros(shape)
    changes = np.zeros(shape, dtype=int)
    reach = np.zeros(shape)
    better = np.zeros(shape, dtype=int)
    elsewhere = np.zeros(shape, dtype=int)
    has_priority = np.ones(shape, dtype=int)
    inner = {segment.name for segment in network.segments if segment.inner}
    for r, route in enumerate(network.routes.values()):
        for k in range(len(route) - 1, -1, -1):
            segment = network.segment(route[k])
            first = tables.first_lane[segment.name]
            lanes = list(range(first, first + segment.num_lanes))
            if k == len(route) - 1:
                usable[r, lanes] = math.inf
                reach[r, lanes] = tables.lengths["lane_length"][lanes]
                continue
            after = tables.first_lane[route[k + 1]]
            beyond = range(after, after + network.segment(route[k + 1]).num_lanes)
            for lane in lanes:
                length = tables.lengths["lane_length"][lane]
                usable[r, lane] = length
                elsewhere[r, lane] = len(links[lane]) > 0
                for there in links[lane]:
                    if there in beyond:
                        next_lane[r, lane] = there
                        usable[r, lane] = length + usable[r, there]
                        elsewhere[r, lane] = elsewhere[r, there]
            changes[r, lanes] = _to_best(usable[r, lanes])
            # SUMO's: of lanes that all need changes later those that need the fewest go as far as
            # if these were made.
            later = {k: next_lane[r, k] for k in lanes if next_lane[r, k] >= 0}
            fewest = min(abs(better[r, there]) for there in later.values())
            for lane in lanes:
                inside = tables.integers["lane_inner"][lane]  # which SUMO does not count
                reach[r, lane] = 0.0 if inside else tables.lengths["lane_length"][lane]
                if lane in later:
                    there = later[lane]
                    whole = abs(better[r, there]) == fewest
                    reach[r, lane] += max(reach[r, beyond]) if whole else reach[r, there]
                    way = (segment.name, lane - first, _road_after(route, k, inner))
                    has_priority[r, lane] = priorities.get(way) is not False
            # Of those that go as far it should be in one that has priority, before it ends.
            farthest = reach[r, lanes] == reach[r, lanes].max()
            most = has_priority[r, lanes][farthest].max()
            yields = np.array([lane in later for lane in lanes]) & (has_priority[r, lanes] < most)
            reach[r, lanes] = np.where(
                yields, tables.lengths["lane_length"][lanes], reach[r, lanes]
            )
            better[r, lanes] = _to_best(reach[r, lanes])
    tables.integers.update(next_lane=next_lane, has_priority=has_priority)
    tables.integers.update(changes=changes, better=better, elsewhere=elsewhere)
    tables.lengths.update(usable=usable, reach=reach)


def find_priorities(network: Network) -> Priorities:
    """Of the ways from each road's lanes, those inside junctions left out."""
    inner = {segment.name for segment in network.segments if segment.inner}
    into: dict[tuple[str, int], list[tuple[str, bool]]] = defaultdict(list)  # of inner lanes
    for c in network.connections:
        if c.source in inner:
            into[c.source, c.source_lane].append((c.target, not c.gives_way))
    shown: dict[tuple[str, int, str], bool | tuple[str, tuple[bool, ...]]] = {}
    for signal in network.signals:
        for index, way in enumerate(signal.ways):
            first = tuple(state[index].isupper() for _, state in signal.phases)
            shown[way] = first[0] if len(set(first)) == 1 else (signal.name, first)
    result: Priorities = {}
    for c in network.connections:
        if c.source in inner:
            continue
        way = (c.source, c.source_lane, c.target)
        targets = into[c.target, c.target_lane] if c.target in inner else [(c.target, True)]
        for road, goes_first in targets:
            has = not c.gives_way and goes_first
            result[c.source, c.source_lane, road] = shown.get(way, has)
    return result


def _road_after(route: Sequence[str], k: int, inner: set[str]) -> str:
    """The next segment of a route that is not inside a junction."""
    return next((name for name in route[k + 1 :] if name not in inner), "")


def _signals_differ(network: Network, priorities: Priorities) -> bool:
    """Whether signals give priority to some of the lanes that lead from one road to another."""
    alike: dict[tuple[str, str], set[object]] = defaultdict(set)
    signalled = {(source, lane) for signal in network.signals for source, lane, _ in signal.ways}
    lit = set()
    for (source, lane, target), has in priorities.items():
        alike[source, target].add(has)
        if (source, lane) in signalled:
            lit.add((source, target))
    return any(len(alike[pair]) > 1 for pair in lit)


def _wide_lanes(network: Network, first_lane: dict[str, int]) -> np.ndarray:
    """First lane and end of each segment where SUMO changes lanes, those after it before it."""
    after: dict[str, list[str]] = defaultdict(list)
    for c in network.connections:
        after[c.source].append(c.target)
    rows, inner, seen = [], [], set()
    for start in network.segments:
        stack = [(start.name, False)]
        while stack:
            name, done = stack.pop()
            if done:
                segment = network.segment(name)
                alike = len(set(segment.lengths)) == 1  # inside a junction they may not be
                if segment.num_lanes > 1 and alike:
                    lanes = (first_lane[name], first_lane[name] + segment.num_lanes)
                    (inner if segment.inner else rows).append(lanes)
            elif name not in seen:
                seen.add(name)
                stack.append((name, True))
                stack.extend((there, False) for there in after[name])
    # SUMO's come in the order in which they were last empty: those inside junctions, then the rest.
    return np.array(inner + rows, dtype=int).reshape(-1, 2)


def _to_best(ways: np.ndarray) -> np.ndarray:
    """How many lanes each lane is off the nearest of those that go farthest, + to the left."""
    good = np.flatnonzero(ways == ways.max())
    lanes = np.arange(len(ways))
    return good[np.abs(good - lanes[:, None]).argmin(1)] - lanes


def _compressed(rows: list[list[tuple]], width: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows of tuples as starts (len + 1) and one flat array for each place of the tuples."""
    starts = np.cumsum([0, *[len(row) for row in rows]])
    flat = [entry for row in rows for entry in row]
    return starts, [np.array([entry[k] for entry in flat]) for k in range(width)]


def _add_tails(tables: Tables, links: dict[int, list[int]]) -> None:
    """What lies within a vehicle's length beyond each lane's end."""
    lengths = tables.lengths["lane_length"]
    rows = []
    for lane in range(len(lengths)):
        row, stack = [], [(lane, 0.0)]
        while stack:
            via, distance = stack.pop()
            for there in links[via]:
                row.append((there, via, distance))
                if distance + lengths[there] < LONGEST:  # a rear may still be in it
                    stack.append((there, distance + float(lengths[there])))
        rows.append(row if len({entry[0] for entry in row}) > 1 else [])
    starts, (lane, via, distance) = _compressed(rows, 3)
    tables.integers.update(tail_start=starts, tail_lane=lane, tail_via=via)
    tables.lengths["tail_distance"] = distance.astype(float)


def _add_merges(
    tables: Tables,
    links: dict[int, list[int]],
    gives: dict[tuple[int, int], int],
    zone: float,
) -> None:
    """Lanes into which several lead, what leads to them, and from where routes come to them."""
    lengths = tables.lengths["lane_length"]
    count = len(lengths)
    sources: dict[int, list[int]] = defaultdict(list)
    for source, targets in links.items():
        for target in targets:
            sources[target].append(source)
    merges = {lane for lane in range(count) if len(sources[lane]) > 1}
    gives_way: dict[tuple[int, int], int] = {}
    rows: list[list[tuple]] = [[] for _ in range(count)]
    for merge in merges:
        ways = {gives[branch, merge] for branch in sources[merge]}
        zipper = ZIPPER in ways
        for branch in sources[merge]:
            way = gives[branch, merge] if len(ways) > 1 else NEARER_FIRST
            gives_way[branch, merge] = ZIPPER if zipper else way
            lane, distance = branch, 0.0
            while True:
                rows[merge].append((lane, branch, distance, gives_way[branch, merge]))
                distance += float(lengths[lane])
                if lane in merges or len(sources[lane]) != 1 or (distance >= zone and not zipper):
                    break
                (lane,) = sources[lane]
    starts, (lane, branch, distance, way) = _compressed(rows, 4)
    tables.integers.update(approach_start=starts, approach_lane=lane, approach_branch=branch)
    tables.integers["approach_gives"] = way
    tables.lengths["approach_distance"] = distance.astype(float)

    next_lane = tables.integers["next_lane"]
    merge_lane = np.full(next_lane.shape, -1)
    merge_branch = np.full(next_lane.shape, -1)
    merge_distance = np.zeros(next_lane.shape)
    merge_gives = np.full(next_lane.shape, -1)
    farthest = math.inf if ZIPPER in gives.values() else zone
    near = {(lane, branch, merge) for merge, row in enumerate(rows) for lane, branch, *_ in row}
    for r, lane in np.ndindex(*next_lane.shape):
        here, distance = lane, 0.0
        while next_lane[r, here] >= 0 and distance <= farthest:
            there = int(next_lane[r, here])
            if there in merges:
                if (lane, here, there) in near:
                    merge_lane[r, lane], merge_branch[r, lane] = there, here
                    merge_gives[r, lane] = gives_way[here, there]
                    merge_distance[r, lane] = distance
                break
            distance += float(lengths[there])
            here = there
    tables.integers.update(merge_lane=merge_lane, merge_branch=merge_branch)
    tables.integers["merge_gives"] = merge_gives
    tables.lengths["merge_distance"] = merge_distance


def _add_loops(tables: Tables, network: Network) -> None:
    rows: list[list[tuple]] = [[] for _ in tables.lane_names]
    for index, loop in enumerate(network.loops):
        first = tables.first_lane[loop.segment]
        lanes = range(network.segment(loop.segment).num_lanes) if loop.lane is None else [loop.lane]
        for lane in lanes:
            rows[first + lane].append((loop.x, index))
    starts, (x, index) = _compressed(rows, 2)
    tables.integers.update(loop_start=starts, loop_index=index)
    tables.lengths["loop_x"] = x.astype(float)


def _add_ways(tables: Tables, network: Network) -> None:
    """Segments of each route, one after the other, and where each is among them."""
    names = [segment.name for segment in network.segments]
    starts = np.cumsum([0, *[len(route) for route in network.routes.values()]])
    place = np.full((len(network.routes), len(names)), -1)
    for r, route in enumerate(network.routes.values()):
        for k, name in enumerate(route):
            place[r, names.index(name)] = starts[r] + k
    flat = [names.index(name) for route in network.routes.values() for name in route]
    first = np.cumsum([0, *[segment.num_lanes for segment in network.segments]])
    tables.integers.update(
        route_end=starts[1:], route_segment=np.array(flat), route_place=place, segment_lane=first
    )


def _add_signals(tables: Tables, network: Network) -> None:
    """What governs the end of a lane on each route, and when each way shows which colour."""
    next_lane = tables.integers["next_lane"]
    signal_way = np.full(next_lane.shape, -1)
    cycles, offsets, rows, firsts = [], [], [], []
    for signal in network.signals:
        until = np.cumsum([duration for duration, _ in signal.phases])
        for index, (source, lane, target) in enumerate(signal.ways):
            here = tables.first_lane[source] + lane
            first = tables.first_lane[target]
            there = next_lane[:, here]
            along = (first <= there) & (there < first + network.segment(target).num_lanes)
            signal_way[along, here] = len(rows)
            colours = [COLOURS[state[index]] for _, state in signal.phases]
            firsts += [state[index].isupper() for _, state in signal.phases]
            rows.append([*zip(until.tolist(), colours, strict=True)])
            cycles.append(until[-1])
            offsets.append(signal.offset)
    starts, (until, colour) = _compressed(rows, 2)
    tables.integers.update(signal_way=signal_way, light_start=starts, light_colour=colour)
    tables.integers["light_first"] = np.array(firsts)
    times = {"light_cycle": cycles, "light_offset": offsets, "light_until": until}
    tables.times.update({name: np.array(rows, dtype=float) for name, rows in times.items()})
