"""Actuators of a compiled MuJoCo model as `warp_envs.usd.description.Actuator` has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from warp_envs.usd.conversion.mujoco_model import import_mujoco, joint_kind
from warp_envs.usd.conversion.source import Source
from warp_envs.usd.description import Actuator

_PLAIN = {
    "dyntype": ("none", "filter", "filterexact"),
    "gaintype": ("fixed",),
    "biastype": ("none", "affine"),
}
"""Kinds that the equation of an `Actuator` describes, but for the lag of filters, which is told."""


def driven_joint(source: Source, actuator: int) -> int | None:
    """The hinge or slide that an actuator acts on directly, None if it acts on something else."""
    model = source.model
    if _word(model, actuator, "trntype") not in ("joint", "jointinparent"):
        return None
    joint = int(model.actuator_trnid[actuator][0])
    return joint if joint_kind(model, joint) in ("hinge", "slide") else None


def read_actuators(source: Source) -> list[tuple[int, Actuator]]:
    """The actuators that drive one hinge or slide, with its index, in the source's order."""
    if source.is_off("ACTUATION"):
        return []
    return [
        (joint, _actuator(source, index, joint))
        for index in range(_count(source.model))
        if _obstacle(source, index) is None and (joint := driven_joint(source, index)) is not None
    ]


def describe_actuators(source: Source) -> Iterator[str]:
    """What of the actuators is not taken over, one line each."""
    if source.is_off("ACTUATION"):
        if _count(source.model):
            yield "actuators, which the source disables: left out"
        return
    for index in range(_count(source.model)):
        obstacle = _obstacle(source, index)
        if obstacle is not None:
            yield f"actuator {source.name('actuator', index)}, {obstacle}: left out"
    lagging = [i for i in range(_count(source.model)) if _lags(source.model, i)]
    if lagging:
        names = ", ".join(source.name("actuator", index) for index in lagging)
        yield f"lag of actuators {names}: they act at once"


def joint_force_range(source: Source, joint: int) -> np.ndarray | None:
    """Least and greatest force of all actuators on a joint [N or N m], None without bounds."""
    model = source.model
    return np.array(model.jnt_actfrcrange[joint]) if model.jnt_actfrclimited[joint] else None


def _count(model: Any) -> int:
    return int(model.nactuator)


def _word(model: Any, index: int, field: str) -> str:
    """How MJCF writes an actuator's trntype, dyntype, gaintype or biastype."""
    kinds = {"trntype": "Trn", "dyntype": "Dyn", "gaintype": "Gain", "biastype": "Bias"}
    enum = getattr(import_mujoco(), f"mjt{kinds[field]}")
    value = int(getattr(model, f"actuator_{field}")[index])
    return enum(value).name.partition("_")[2].lower()


def _lags(model: Any, index: int) -> bool:
    filtered = _word(model, index, "dyntype") in ("filter", "filterexact")
    return bool(filtered or model.actuator_delay[index] != 0.0)


def _obstacle(source: Source, index: int) -> str | None:
    """Why the equation of `Actuator` does not describe one, None if it does."""
    model = source.model
    if driven_joint(source, index) is None:
        kind = _word(model, index, "trntype")
        return f"which acts on a {'ball or free joint' if kind.startswith('joint') else kind}"
    if model.opt.disableactuator & (1 << int(model.actuator_group[index]) % 31):
        return "which the source disables"
    for field, plain in _PLAIN.items():
        kind = _word(model, index, field)
        if kind not in plain:
            return f"whose {field} is {kind}"
    return None


def _actuator(source: Source, index: int, joint: int) -> Actuator:
    model = source.model
    affine = _word(model, index, "biastype") == "affine"
    everything = np.array([-np.inf, np.inf])
    clamped = model.actuator_ctrllimited[index] and not source.is_off("CLAMPCTRL")
    return Actuator(
        name=source.name("actuator", index),
        joint=source.name("joint", joint),
        gear=float(model.actuator_gear[index][0]),
        gain=float(model.actuator_gainprm[index][0]),
        bias=model.actuator_biasprm[index][:3] if affine else np.zeros(3),
        control_range=model.actuator_ctrlrange[index] if clamped else everything,
        force_range=(
            model.actuator_forcerange[index] if model.actuator_forcelimited[index] else everything
        ),
    )
