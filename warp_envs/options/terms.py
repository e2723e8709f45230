"""A task in words: which terms of `kernels.robots.terms`, with which weights and parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernels.robots.library import Term, library
from warp_envs.checks import LARGEST, ArgumentError, check_number, near_matches

_MORE = ("scale", "clip")  # of an observation, beside its parameters
NAMED = ("joint", "body")
"""Parameters whose values are names."""


@dataclass(frozen=True)
class Choice:
    """A term as a task has it.

    Attributes:
        key: where the task says so, as "reward.height".
        label: what the term is called in the task and in what is logged.
        term: of the library.
        parameters: name -> value.
        weight: of a reward.
        scale: of an observation, applied after `clip`.
        clip: of an observation, in the term's unit.
    """

    key: str
    label: str
    term: Term
    parameters: dict[str, Any]
    weight: float = 1.0
    scale: float = 1.0
    clip: float = LARGEST


REWARD = {"progress": 1.0, "effort": -0.1}
OBSERVE = ("joint_q", "joint_qd")


def read_task(
    reward: Any, terminate: Any, observe: Any, command: Any
) -> tuple[tuple[Choice, ...], tuple[Choice, ...], tuple[Choice, ...], Commands | None]:
    """Rewards, ends, observations and commands of a task; None stands for what there is by default.

    Raises:
        ArgumentError: as those that read each; a term that follows a command where there is none.
    """
    rewards = read_rewards(REWARD if reward is None else reward)
    observed = read_observations(OBSERVE if observe is None else observe)
    ends, commands = read_ends(terminate), read_commands(command)
    for choice in (*rewards, *observed):
        if choice.term.command and commands is None:
            raise ArgumentError(choice.key, "no command to follow", "command={forward: ...}")
    return rewards, ends, observed, commands


def read_rewards(given: Any) -> tuple[Choice, ...]:
    """The rewards of ``{progress: 1, height: {above: 0.3, weight: 10}}``: a number is the weight.

    Raises:
        ArgumentError: an unknown term or parameter, a parameter that is missing, no number.
    """
    found = []
    for key, label, value in _entries("reward", given):
        settings = dict(value) if isinstance(value, Mapping) else {"weight": value}
        term, parameters = _read(key, label, settings, library().rewards, extra=("weight",))
        if "weight" not in settings:
            raise ArgumentError(f"{key}.weight", "no value", "a number")
        check_number(f"{key}.weight", settings["weight"], -LARGEST)
        found.append(Choice(key, label, term, parameters, weight=float(settings["weight"])))
    if not found:
        raise ArgumentError("reward", repr(given), f"at least one of {list(library().rewards)}")
    return tuple(found)


def read_ends(given: Any) -> tuple[Choice, ...]:
    """The ends of ``{height_below: 0.25, tilt_above: 60}``: a number is the limit.

    Raises:
        ArgumentError: as `read_rewards`.
    """
    found = []
    for key, label, value in _entries("terminate", {} if given is None else given):
        settings = dict(value) if isinstance(value, Mapping) else {"limit": value}
        found.append(Choice(key, label, *_read(key, label, settings, library().ends)))
    return tuple(found)


def read_observations(given: Any) -> tuple[Choice, ...]:
    """The observations of ``[height, joint_positions, {joint_velocities: {scale: 0.1}}]``.

    Raises:
        ArgumentError: as `read_rewards`.
    """
    accepted = f"a list of {list(library().observations)}"
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise ArgumentError("observe", repr(given), accepted)
    found = []
    for entry in given:
        one = entry if isinstance(entry, Mapping) else {entry: {}}
        if len(one) != 1 or not isinstance(next(iter(one)), str):
            raise ArgumentError("observe", repr(entry), accepted)
        ((name, settings),) = one.items()
        key = f"observe.{name}"
        if not isinstance(settings, Mapping):
            raise ArgumentError(key, repr(settings), "a mapping with scale and clip")
        term, parameters = _read(
            key, name, settings, library().observations, extra=("scale", "clip")
        )
        scale, clip = settings.get("scale", 1.0), settings.get("clip", LARGEST)
        check_number(f"{key}.scale", scale, -LARGEST)
        check_number(f"{key}.clip", clip, open_low=True)
        found.append(Choice(key, name, term, parameters, scale=float(scale), clip=float(clip)))
    return tuple(found)


def _entries(key: str, given: Any) -> list[tuple[str, str, Any]]:
    if not isinstance(given, Mapping):
        raise ArgumentError(key, repr(given), "a mapping of terms, as {name: number}")
    return [(f"{key}.{label}", str(label), value) for label, value in given.items()]


def _read(
    key: str,
    label: str,
    settings: Mapping[str, Any],
    terms: Mapping[str, Term],
    extra: Sequence[str] = (),
) -> tuple[Term, dict[str, Any]]:
    """The term of an entry and its parameters, all of them given or at their defaults."""
    name = settings.get("term", label)
    if not isinstance(name, str) or name not in terms:
        section = key.partition(".")[0]
        hint = near_matches(name, terms) if isinstance(name, str) else ""
        where = f"{key}.term" if "term" in settings else section
        raise ArgumentError(where, repr(name), f"one of {list(terms)}", hint)
    term = terms[name]
    known = [*term.parameters, *extra, "term"]
    for parameter in settings:
        if parameter not in known:
            listed = f"one of {known}"
            if parameter == "limit":  # a bare number
                listed = f"a mapping with {list(term.parameters)}"
                raise ArgumentError(key, repr(settings[parameter]), listed)
            raise ArgumentError(
                f"{key}.{parameter}",
                repr(settings[parameter]),
                listed,
                near_matches(str(parameter), known),
            )
    parameters: dict[str, Any] = {}
    for parameter, default in term.parameters.items():
        value = settings.get(parameter, default)
        if parameter in NAMED:
            if not isinstance(value, str):
                raise ArgumentError(f"{key}.{parameter}", repr(value), f"the name of a {parameter}")
        else:
            if value is None:
                raise ArgumentError(f"{key}.{parameter}", "no value", "a number")
            positive = parameter == "sigma"
            check_number(
                f"{key}.{parameter}", value, 0.0 if positive else -LARGEST, open_low=positive
            )
        parameters[parameter] = value
    return term, parameters


@dataclass(frozen=True)
class Commands:
    """Velocities that a robot is to follow, drawn uniformly anew now and then.

    Attributes:
        low: least velocity forward and to the left [m/s] and yaw rate [rad/s].
        high: greatest.
        every: seconds that one holds, None for a whole episode.
        standing: share of them that is to stand still.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    every: float | None
    standing: float


_AXES = ("forward", "left", "turn")


def read_commands(given: Any) -> Commands | None:
    """The commands of ``{forward: [0, 1], turn: [-1, 1], every: 5, standing: 0.1}``.

    Raises:
        ArgumentError: an unknown key, no range of numbers.
    """
    if given is None:
        return None
    known = [*_AXES, "every", "standing"]
    if not isinstance(given, Mapping) or not any(axis in given for axis in _AXES):
        raise ArgumentError("command", repr(given), f"a mapping of some of {known}")
    for name in given:
        if name not in known:
            hint = near_matches(str(name), known)
            raise ArgumentError(f"command.{name}", repr(given[name]), f"one of {known}", hint)
    ranges = [_range(f"command.{axis}", given.get(axis, 0.0)) for axis in _AXES]
    every, standing = given.get("every"), given.get("standing", 0.0)
    if every is not None:
        check_number("command.every", every, open_low=True)
    check_number("command.standing", standing, 0.0, 1.0)
    low, high = (tuple(r[k] for r in ranges) for k in (0, 1))
    return Commands(low, high, every, float(standing))  # type: ignore[arg-type]


def _range(key: str, given: Any) -> tuple[float, float]:
    """Two numbers in order, or one, which is both."""
    pair = given if isinstance(given, Sequence) and not isinstance(given, str) else [given, given]
    accepted = "a number, or [least, greatest]"
    if len(pair) != 2:
        raise ArgumentError(key, repr(given), accepted)
    for number in pair:
        check_number(key, number, -LARGEST)
    if pair[0] > pair[1]:
        raise ArgumentError(key, repr(given), accepted)
    return float(pair[0]), float(pair[1])
