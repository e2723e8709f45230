"""Recorded trajectories of vehicles: the layouts of NGSIM, highD, SUMO's FCD and the project's CSV.

A driver is followed wherever it has the same leader in the same lane at every sample: a stretch.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gippo.errors import UserError
from gippo.files import reason
from warp_envs.checks import ArgumentError
from warp_envs.traffic.sumo_xml import number, parse

_FOOT = 0.3048
_HIGHD_RATE = 25.0  # frames a second, of all its recordings
# Of its files without a header; those of roads in towns have other ones.
_NGSIM_TEXT = [
    *("Vehicle_ID", "Frame_ID", "Total_Frames", "Global_Time", "Local_X", "Local_Y"),
    *("Global_X", "Global_Y", "v_Length", "v_Width", "v_Class", "v_Vel", "v_Acc"),
    *("Lane_ID", "Preceding", "Following", "Space_Headway", "Time_Headway"),
]
_UNEVEN = 0.01
"""Share of the interval by which times may differ from even ones."""


class Trajectories(NamedTuple):
    """What a file tells of vehicles' motion: arrays with a row for each vehicle and time.

    Attributes:
        vehicle: who, as text or number.
        time: [s].
        lane: as text or number.
        x: of the front, along the road or the lane [m].
        speed: [m/s].
        length: [m], NaN where the file does not tell.
        leader: who drives ahead in the lane, as `vehicle`, or of another kind for nobody; None
            where the file does not tell: then it is the next of those in the lane.
    """

    vehicle: np.ndarray
    time: np.ndarray
    lane: np.ndarray
    x: np.ndarray
    speed: np.ndarray
    length: np.ndarray
    leader: np.ndarray | None


@dataclass(frozen=True)
class Stretch:
    """A driver's motion behind one leader, sampled at even times.

    Attributes:
        driver: name.
        start: time of the first sample [s].
        x: of the front, (samples,) [m].
        speed: [m/s].
        rear: of the leader [m].
        leader_speed: [m/s].
    """

    driver: str
    start: float
    x: np.ndarray
    speed: np.ndarray
    rear: np.ndarray
    leader_speed: np.ndarray


def read_trajectories(path: Path, key: str = "data") -> Trajectories:
    """Trajectories from a file of one of the layouts of docs/identification.md.

    Args:
        path: .xml is SUMO's FCD, .csv by its columns NGSIM's, highD's or the project's own, .txt
            NGSIM's without a header.
        key: what the file is called in errors.

    Raises:
        UserError: no such file, another layout, or what is no number.
    """
    if path.suffix not in (".csv", ".txt", ".xml"):
        raise UserError(f"{key}: {str(path)!r} given, a .csv, .txt or .xml file accepted")
    try:
        found = _read_fcd(path) if path.suffix == ".xml" else _read_table(path)
    except (ArgumentError, OSError, ValueError) as error:
        raise UserError(f"{key}: {path}: {reason(error)}") from error
    for name in ("time", "x", "speed"):
        values = getattr(found, name)
        wrong = np.flatnonzero(~np.isfinite(values) | ((name == "speed") & (values < 0.0)))
        if len(wrong):
            k = wrong[0]
            where = f"vehicle {found.vehicle[k]} at {found.time[k]:g} s: {name} {values[k]:g}"
            accepted = "a speed of at least 0" if name == "speed" else "a finite number"
            raise UserError(f"{key}: {path}: {where}, {accepted} accepted")
    if len(found.x) == 0:
        raise UserError(f"{key}: {path}: no vehicle")
    return found


def _read_fcd(path: Path) -> Trajectories:
    rows = []
    for k, step in enumerate(parse(path, "fcd-export").iter("timestep")):
        time = number(f"timestep {k}", step, "time")
        for vehicle in step.iter("vehicle"):
            name = vehicle.get("id", "")
            where = f"vehicle {name!r} at {time:g} s"
            if vehicle.get("lane") is None:
                raise ArgumentError(f"{where}: lane", "none", "the attributes id, lane, pos, speed")
            x, speed = (number(where, vehicle, attribute) for attribute in ("pos", "speed"))
            rows.append((name, time, vehicle.get("lane", ""), x, speed))
    return _own(rows)


def _own(rows: Sequence[tuple], length: bool = False, leader: bool = False) -> Trajectories:
    """Rows of vehicle, time, lane, x, speed and perhaps length and leader."""
    columns = [np.array(column) for column in zip(*rows, strict=True)] or [np.zeros(0)] * 7
    vehicle, time, lane, x, speed, *more = columns
    lengths = _floats("length", more[0], vehicle) if length else np.full(len(x), np.nan)
    time, x, speed = (
        _floats(name, values, vehicle)
        for name, values in (("time", time), ("x", x), ("speed", speed))
    )
    return Trajectories(vehicle, time, lane, x, speed, lengths, more[-1] if leader else None)


def _floats(name: str, texts: np.ndarray, vehicle: np.ndarray) -> np.ndarray:
    try:
        return texts.astype(float)
    except ValueError:
        for k, text in enumerate(texts):
            try:
                float(text)
            except ValueError:
                where = f"row {k + 1}, vehicle {vehicle[k]}: {name}"
                raise ArgumentError(where, repr(str(text)), "a number") from None
        raise


def _read_table(path: Path) -> Trajectories:
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = next(csv.reader(file), [])
    names = [name.strip() for name in header]
    known = {name.lower(): k for k, name in enumerate(names)}
    if {"vehicle_id", "local_y"} <= known.keys():
        return _read_ngsim(path, known, ",", 1)
    if {"id", "xvelocity", "precedingid"} <= known.keys():
        return _read_highd(path, known)
    if {"time", "vehicle", "lane", "x", "speed"} <= known.keys():
        return _read_own(path, known)
    if path.suffix == ".txt":
        columns = header[0].split() if len(header) == 1 else []
        if len(columns) != len(_NGSIM_TEXT):
            given = f"{len(columns)} columns"
            raise ArgumentError("layout", given, f"the {len(_NGSIM_TEXT)} of NGSIM's highways")
        known = {name.lower(): k for k, name in enumerate(_NGSIM_TEXT)}
        return _read_ngsim(path, known, None, 0)
    accepted = (
        "NGSIM's (Vehicle_ID, Local_Y, ...), highD's (id, xVelocity, precedingId, ...) or "
        "time, vehicle, lane, x, speed"
    )
    raise ArgumentError("columns", ", ".join(names) or "none", accepted)


def _read_own(path: Path, known: dict[str, int]) -> Trajectories:
    more = [name for name in ("length", "leader") if name in known]
    places = [known[name] for name in ("vehicle", "time", "lane", "x", "speed", *more)]
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        next(lines)
        try:
            rows = [tuple(line[k] for k in places) for line in lines if line]
        except IndexError as error:
            raise ValueError("a line with fewer entries than the first") from error
    return _own(rows, "length" in more, "leader" in more)


def _read_ngsim(
    path: Path, known: dict[str, int], delimiter: str | None, skipped: int
) -> Trajectories:
    """Feet and milliseconds. Numbers of vehicles are used again, with another total of frames."""
    names = [
        "vehicle_id",
        "total_frames",
        "global_time",
        "local_y",
        "v_length",
        "v_vel",
        "lane_id",
        "preceding",
    ]
    if "preceeding" in known:  # so it is spelt in some of its files
        known = {**known, "preceding": known["preceeding"]}
    vehicle, total, time, y, length, speed, lane, leader = _numbers(
        path, known, names, delimiter, skipped
    )
    if "location" in known:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            next(lines)
            places = {line[known["location"]] for line in lines if line}
        if len(places) > 1:
            raise ArgumentError("Location", str(sorted(places)), "one place in a file")
    name = np.array([f"{v:.0f}.{t:.0f}" for v, t in zip(vehicle, total, strict=True)])
    time = 1e-3 * (time - time.min())
    # A leader is named by its number alone: its frames are told apart by the time.
    by_number = {(t, v): n for t, v, n in zip(time, vehicle, name, strict=True)}
    leaders = np.array([by_number.get((t, v), "") for t, v in zip(time, leader, strict=True)])
    return Trajectories(name, time, lane, _FOOT * y, _FOOT * speed, _FOOT * length, leaders)


def _read_highd(path: Path, known: dict[str, int]) -> Trajectories:
    """X is that of the left edge of a vehicle's box, whichever way it drives; width its length."""
    names = ["id", "frame", "x", "width", "xvelocity", "laneid", "precedingid"]
    vehicle, frame, left, length, velocity, lane, leader = _numbers(path, known, names, ",", 1)
    who, row = np.unique(vehicle, return_inverse=True)
    leftwards = (np.bincount(row, velocity, minlength=len(who)) < 0.0)[row]
    x = np.where(leftwards, -left, left + length)
    speed = np.maximum(np.where(leftwards, -velocity, velocity), 0.0)
    return Trajectories(vehicle, frame / _HIGHD_RATE, lane, x, speed, length, leader)


def _numbers(
    path: Path,
    known: dict[str, int],
    names: Sequence[str],
    delimiter: str | None,
    skipped: int,
) -> np.ndarray:
    for name in names:
        if name not in known:
            raise ArgumentError("columns", f"no {name!r} among {[*known]}", f"{list(names)}")
    places = [known[name] for name in names]
    return np.loadtxt(
        path, delimiter=delimiter, skiprows=skipped, usecols=places, unpack=True, ndmin=2,
        encoding="utf-8-sig", quotechar='"',
    )  # fmt: skip


def stretches(found: Trajectories, length: float) -> tuple[list[Stretch], float, list[str]]:
    """Every driver's motion behind one leader in one lane.

    Samples at which vehicles would overlap are left out, and so is who has no leader.

    Args:
        found: the trajectories.
        length: of vehicles of which the file does not tell it [m].

    Returns:
        The stretches, of at least two samples, by driver and time; the interval of the samples
        [s]; and notes on what was left out.

    Raises:
        UserError: no driver follows another.
    """
    _, vehicle = np.unique(found.vehicle, return_inverse=True)
    _, lane = np.unique(found.lane, return_inverse=True)
    order = np.lexsort((found.time, vehicle))
    vehicle, lane, time, x, speed, lengths = (
        rows[order] for rows in (vehicle, lane, found.time, found.x, found.speed, found.length)
    )
    lengths = np.where(np.isnan(lengths), length, lengths)
    name = found.vehicle[order]
    own = vehicle[1:] == vehicle[:-1]
    twice = np.flatnonzero(own & (np.diff(time) <= 0.0))
    if len(twice):
        where = f"vehicle {name[twice[0]]} is there twice at {time[twice[0]]:g} s"
        raise UserError(f"data: {where}; a sample of each vehicle at each time is accepted")
    after = np.diff(time)[own]
    if after.size == 0:
        raise UserError("data: a vehicle at two times at least is accepted")
    interval = float(np.median(after))
    if found.leader is None:
        ahead = _next_in_lane(time, lane, x)
    else:
        ahead = _named(time, name, found.leader[order])
    follows = ahead >= 0
    rear = x[ahead] - lengths[ahead]
    apart = rear > x
    notes = []
    overlapping = int(np.sum(follows & ~apart))
    if overlapping:
        notes.append(f"{overlapping} samples left out at which a vehicle overlaps its leader")
    uneven = int(np.sum(np.abs(after - interval) > _UNEVEN * interval))
    if uneven:
        notes.append(f"{uneven} of {len(after)} intervals are not {interval:g} s: cut there")
    follows &= apart
    same = (
        (vehicle[1:] == vehicle[:-1])
        & (vehicle[ahead[1:]] == vehicle[ahead[:-1]])
        & (lane[1:] == lane[:-1])
        & (lane[ahead[1:]] == lane[ahead[:-1]])
        & (np.abs(np.diff(time) - interval) <= _UNEVEN * interval)
        & follows[1:]
        & follows[:-1]
    )
    found_stretches = []
    for part in np.split(np.arange(len(x)), np.flatnonzero(~same) + 1):
        if len(part) > 1:
            rows = x[part], speed[part], rear[part], speed[ahead[part]]
            driver = name[part[0]]
            text = str(driver) if isinstance(driver, str) else f"{driver:g}"
            found_stretches.append(Stretch(text, float(time[part[0]]), *rows))
    if not found_stretches:
        raise UserError("data: no vehicle that follows another in its lane")
    return found_stretches, interval, notes


def _next_in_lane(time: np.ndarray, lane: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The row of who is ahead at the time, -1 for nobody."""
    order = np.lexsort((x, lane, time))
    ahead = np.full(len(x), -1)
    together = (time[order][1:] == time[order][:-1]) & (lane[order][1:] == lane[order][:-1])
    ahead[order[:-1][together]] = order[1:][together]
    return ahead


def _named(time: np.ndarray, name: np.ndarray, leader: np.ndarray) -> np.ndarray:
    """The row of who is named at the time, -1 where nobody of that name is there."""
    rows = {key: k for k, key in enumerate(zip(time.tolist(), name.tolist(), strict=True))}
    keys = zip(time.tolist(), leader.tolist(), strict=True)
    return np.array([rows.get(key, -1) for key in keys])
