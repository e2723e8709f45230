"""SUMO's traffic lights (tlLogic of net.xml) as signals of a `Network`.

Fixed-time ones of one program: https://sumo.dlr.de/docs/Simulation/Traffic_Lights.html
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from warp_envs.checks import ArgumentError
from warp_envs.traffic.network import Signal
from warp_envs.traffic.sumo_xml import Attributes, number, shown, whole

LOGIC = Attributes(read=("id", "type", "offset"), idle=("programID",), children=("phase",))
PHASE = Attributes(read=("duration", "state"), idle=("name", "minDur", "maxDur"))
"""Bounds of a duration are those of lights that depend on traffic."""

_SHOWN = {"G": "G", "g": "g", "O": "G", "y": "y", "Y": "Y", "r": "r", "u": "r"}
"""What a letter of SUMO's is here: O (switched off) is green, u (red and yellow) red.

g is the green of one who yields; to whom is looked at in `SumoSignals.yields`.
"""


@dataclass
class _Light:
    """A tlLogic that is used: its phases, and the connections it governs with their way here."""

    logic: ET.Element
    phases: list[tuple[float, str]]
    links: list[tuple[ET.Element, tuple[str, int, str]]] = field(default_factory=list)


class SumoSignals:
    """The traffic lights of a net.xml, taken up as connections ask for them."""

    def __init__(self, path: Path, logics: list[ET.Element], wauts: list[ET.Element]) -> None:
        """Look at none yet.

        Args:
            path: of the file, for errors.
            logics: its tlLogic.
            wauts: its wautJunction, by which programs are switched.
        """
        self._path = path
        self._logics: dict[str, list[ET.Element]] = defaultdict(list)
        for logic in logics:
            self._logics[logic.get("id", "")].append(logic)
        self._wauts = {waut.get("junctionID", ""): waut for waut in wauts}
        self._lights: dict[str, _Light] = {}

    def letters(self, connection: ET.Element) -> str:
        """What the light of a connection shows, a letter a phase.

        Raises:
            ArgumentError: there is no such light, or one that is not fixed in time or has a phase
                that is not known.
        """
        name, edge = connection.get("tl", ""), connection.get("from", "")
        key = f"{self._path}: edge {edge}"
        if name not in self._lights:
            self._lights[name] = self._read(key, name)
        index = whole(key, connection, "linkIndex")
        shown = ""
        for _, state in self._lights[name].phases:
            letter = state[index] if index < len(state) else "none"
            if letter not in _SHOWN:
                given = f"a signal ({name}) to {connection.get('to')} that shows {letter!r}"
                raise ArgumentError(key, given, f"letters of {''.join(_SHOWN)}")
            shown += letter
        return shown

    def govern(self, connection: ET.Element, way: tuple[str, int, str]) -> None:
        """Take up a connection, whose `letters` have been looked at, with its way here."""
        self._lights[connection.get("tl", "")].links.append((connection, way))

    def yields(self, connections: list[ET.Element]) -> dict[tuple[str, str, str], bool]:
        """Of connections into one lane, by edge, lane and next edge: whether it gives way.

        Those that are open at once by one light give way by their letters.

        Raises:
            ArgumentError: two that are open at once of which not just one yields, always the same;
                one that yields to nobody, before which SUMO's drivers slow down all the same.
        """
        result = {_place(c): False for c in connections if c.get("tl")}
        for one, other in combinations(connections, 2):
            given = (
                f"a signal ({one.get('tl')}) to {one.get('to')} that is green together with that "
                f"from {other.get('from')} to the same lane"
            )
            key = f"{self._path}: edge {one.get('from')}"
            accepted = "G for one and g for the other, always the same, of one traffic light"
            if one.get("tl") != other.get("tl"):
                raise ArgumentError(key, given, accepted)
            first, second = self.letters(one), self.letters(other)
            met = {pair for pair in zip(first, second, strict=True) if set(pair) <= {*"GgO"}}
            yielding = {(pair[0] == "g", pair[1] == "g") for pair in met}
            if yielding and yielding not in ({(True, False)}, {(False, True)}):
                raise ArgumentError(key, given, accepted)
            for mine, theirs in yielding:
                result[_place(one)] |= mine
                result[_place(other)] |= theirs
        for c in connections:
            if c.get("tl") and "g" in self.letters(c) and not result[_place(c)]:
                given = f"a signal ({c.get('tl')}) to {c.get('to')} with 'g' where nobody is met"
                raise ArgumentError(f"{self._path}: edge {c.get('from')}", given, "G")
        return result

    def signals(self) -> list[Signal]:
        """The lights that govern what was taken up."""
        result = []
        for name, light in self._lights.items():
            indices = [int(c.get("linkIndex", "0")) for c, _ in light.links]
            phases = [
                (duration, "".join(_SHOWN[state[k]] for k in indices))
                for duration, state in light.phases
            ]
            offset = number(f"{self._path}: tlLogic {name}", light.logic, "offset", 0.0)
            result.append(Signal(name, [way for _, way in light.links], phases, offset))
        return result

    def _read(self, key: str, name: str) -> _Light:
        found = self._logics.get(name, [])
        if len(found) != 1:
            given = f"a signal ({name}) of {len(found)} programs"
            raise ArgumentError(key, given, "one of one program")
        (logic,) = found
        kind = logic.get("type", "static")
        if kind != "static":
            given = f"a signal ({name}) of type {kind!r}"
            raise ArgumentError(key, given, "type 'static', fixed in time")
        own = f"{self._path}: tlLogic {name}"
        LOGIC.check(own, logic)
        phases = []
        for phase in logic:
            PHASE.check(f"{own}: phase", phase)
            state = phase.get("state", "")
            if not state:
                raise ArgumentError(f"{own}: phase: state", shown(phase, "state"), "letters")
            duration = number(f"{own}: phase", phase, "duration", low=0.0, above=True)
            phases.append((duration, state))
        if not phases:
            raise ArgumentError(own, "no phase", "at least one")
        if name in self._wauts:
            given = f"a WAUT ({self._wauts[name].get('wautID')})"
            raise ArgumentError(own, given, "none")
        return _Light(logic, phases)


def _place(connection: ET.Element) -> tuple[str, str, str]:
    return (
        connection.get("from", ""),
        connection.get("fromLane", ""),
        connection.get("to", ""),
    )
