"""Options of robots: of all of them, and of one put together from a file and terms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from warp_envs.checks import (
    LARGEST,
    ArgumentError,
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_positive,
    near_matches,
)
from warp_envs.options.ground import read_ground
from warp_envs.options.parameters import check_varying
from warp_envs.options.terms import read_task
from warp_envs.references import file_of, is_reference

KINDS = ("motor", "position", "velocity")
"""Of actuators."""
_KEYS = {
    "motor": ("kind", "gear", "range", "force", "armature"),
    "position": ("kind", "gear", "range", "kp", "kd", "force", "armature"),
    "velocity": ("kind", "gear", "range", "kd", "force", "armature"),
}
_SCATTER = {"spread": "start_q_spread", "speed_spread": "start_qd_spread"}
START_KEYS = ("keyframe", "joints", "height", *_SCATTER)
_LONGEST_DELAY = 100


def check_articulated(
    *,
    compiled: Any,
    mass_matrix_every: Any,
    parameters: Any,
    randomize: Any,
    action_delay: Any,
    observation_noise: Any,
) -> None:
    """Raise ArgumentError naming an option of `ArticulatedEnv` that no robot accepts."""
    if compiled not in (True, False, None):
        raise ArgumentError("compiled", repr(compiled), "True, False or None")
    check_integer("mass_matrix_every", mass_matrix_every, 1)
    check_varying(parameters=parameters, randomize=randomize)
    read_delay(action_delay)
    read_noise(observation_noise)


def check_robot(
    *,
    asset: Any,
    reward: Any,
    terminate: Any,
    observe: Any,
    task: Any,
    command: Any,
    gear: Any,
    actuators: Any,
    control_step: Any,
    substeps: Any,
    ground: Any,
    implicit_damping: Any,
    max_speed: Any,
    start: Any,
) -> None:
    """Raise ArgumentError naming an option of `RobotEnv` that no robot accepts."""
    check_stepping(control_step, substeps, max_speed)
    asset_file(asset)
    if task is not None:
        given = {"reward": reward, "terminate": terminate, "observe": observe}
        for name, value in given.items():
            if value is not None:
                raise ArgumentError(name, repr(value), "nothing beside a task")
        if not isinstance(task, type) and not is_reference(str(task)):
            raise ArgumentError("task", repr(task), "a class, or module:Class")
    read_task(reward, terminate, observe, command)
    check_gear(gear)
    check_actuators(actuators)
    if ground is not None:
        read_ground(ground)
    check_flag("implicit_damping", implicit_damping)
    read_start(split_start(start)[0])


def asset_file(asset: Any) -> Path:
    """The file of `asset`, which may lie in a package.

    Raises:
        ArgumentError: there is none.
    """
    path = file_of(asset)
    if not path.is_file():
        raise ArgumentError(
            "asset", repr(os.fspath(asset)), "an existing USD file, or one in MJCF or URDF"
        )
    return path


MOST_SUBSTEPS = 100_000
"""In one control step; its kernels keep as many states."""


def check_stepping(control_step: Any, substeps: Any, max_speed: Any) -> None:
    """Raise ArgumentError naming one of these that is out of range."""
    check_positive("control_step", control_step)
    if substeps != "auto":
        check_integer("substeps", substeps, 1, MOST_SUBSTEPS)
    if max_speed is not None:
        check_positive("max_speed", max_speed)


def read_delay(given: int | Sequence[int]) -> tuple[int, int]:
    """Least and most control steps of a delay."""
    pair = given if isinstance(given, Sequence) and not isinstance(given, str) else (given, given)
    accepted = f"a whole number from 0 to {_LONGEST_DELAY}, or [least, most]"
    if len(pair) != 2:
        raise ArgumentError("action_delay", repr(given), accepted)
    try:
        least, most = (check_integer("action_delay", x, 0, _LONGEST_DELAY) for x in pair)
    except ArgumentError:
        raise ArgumentError("action_delay", repr(given), accepted) from None
    if least > most:
        raise ArgumentError("action_delay", repr(given), accepted)
    return least, most


def read_noise(given: float | Sequence[float]) -> np.ndarray | None:
    """Spread of what is observed, one number or one for each; None: no noise."""
    accepted = "a number of at least 0, or one for each that is observed"
    try:
        spread = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentError("observation_noise", repr(given), accepted) from None
    if spread.ndim > 1 or not np.all(np.isfinite(spread)) or np.any(spread < 0.0):
        raise ArgumentError("observation_noise", repr(given), accepted)
    return spread if np.any(spread) else None


def split_start(
    start: Any,
) -> tuple[str | Mapping[str, Any] | None, dict[str, float]]:
    """`start` without what it says of scattering, and that by a robot's attributes.

    Raises:
        ValueError: a spread that is negative or no number.
    """
    if not isinstance(start, Mapping):
        return start, {}
    for key in set(_SCATTER) & set(start):
        check_number(f"start.{key}", start[key])
    found = {name: float(start[key]) for key, name in _SCATTER.items() if key in start}
    return {key: value for key, value in start.items() if key not in _SCATTER}, found


def read_start(start: Any) -> dict[str, Any]:
    """`start` as a mapping, without what it says of scattering.

    Raises:
        ArgumentError: it is none, or has other keys or values that are none of theirs.
    """
    if start is None:
        return {}
    if isinstance(start, str):
        return {"keyframe": start}
    accepted = f"a keyframe's name or a mapping with {list(START_KEYS)}"
    if not isinstance(start, Mapping):
        raise ArgumentError("start", repr(start), accepted)
    for key in start:
        if key not in START_KEYS:
            raise ArgumentError(
                "start", f"key {key!r}", accepted, near_matches(str(key), START_KEYS)
            )
    if not isinstance(start.get("joints") or {}, Mapping):
        raise ArgumentError("start.joints", repr(start["joints"]), "joint names and values")
    height = start.get("height")
    if height not in (None, "auto"):
        if isinstance(height, str):
            raise ArgumentError("start.height", repr(height), "a height in metres or 'auto'")
        check_number("start.height", height, -1e6, 1e6)
    return dict(start)


def check_gear(gear: Any) -> None:
    """Raise ArgumentError unless `gear` is None, a number, or one for each action."""
    if gear is None:
        return
    for value in gear if isinstance(gear, Sequence) and not isinstance(gear, str) else [gear]:
        check_number("gear", value, -LARGEST)


def check_actuators(given: Any) -> None:
    """Raise ArgumentError unless `given` is None or a mapping to settings of actuators."""
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise ArgumentError("actuators", repr(given), "a mapping of joints to settings")
    for pattern, settings in given.items():
        key = f"actuators.{pattern}"
        if not isinstance(settings, Mapping):
            raise ArgumentError(key, repr(settings), "a mapping of settings")
        if "kind" in settings:  # otherwise the file may say it
            check_settings(key, settings["kind"], settings)


def check_settings(key: str, kind: Any, settings: Mapping[str, Any]) -> None:
    """Raise ArgumentError naming a setting that actuators of a kind have not, or a wrong value."""
    check_choice(f"{key}.kind", kind, KINDS)
    for name, value in settings.items():
        if name not in _KEYS[kind]:
            accepted = f"one of {list(_KEYS[kind])} of a {kind} actuator"
            hint = near_matches(str(name), _KEYS[kind])
            raise ArgumentError(f"{key}.{name}", repr(value), accepted, hint)
    for name, low in (("gear", -LARGEST), ("kp", 0.0), ("kd", 0.0), ("armature", 0.0)):
        if name in settings:
            check_number(f"{key}.{name}", settings[name], low)
    for name in ("range", "force"):
        read_range(f"{key}.{name}", settings.get(name))


def read_range(key: str, given: Any) -> Sequence[float] | None:
    """[least, greatest], or one number that bounds either way; None: no bounds."""
    if given is None:
        return None
    accepted = "[least, greatest], or a positive number either way"
    if isinstance(given, (list, tuple)):
        pair = given
    else:
        check_positive(key, given)
        pair = [-given, given]
    numbers = [isinstance(x, (int, float)) and not isinstance(x, bool) for x in pair]
    if len(pair) != 2 or not all(numbers) or not pair[0] < pair[1]:
        raise ArgumentError(key, repr(given), accepted)
    return pair
