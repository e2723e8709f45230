"""Arrays as USD time samples: one attribute, one value for each frame, written straight to a layer.

Time codes are frame numbers. The default value is that of frame 0, and an attribute that never
changes has no samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pxr import Sdf, Vt


def _numbers(values: np.ndarray) -> list[float]:
    return values[:, 0].tolist()


def _arrays(values: np.ndarray) -> list[Vt.FloatArray]:
    return [Vt.FloatArray.FromNumpy(row) for row in np.ascontiguousarray(values)]


def _vectors(values: np.ndarray) -> list[Vt.Vec3fArray]:
    return [Vt.Vec3fArray.FromNumpy(row) for row in values.reshape(len(values), -1, 3)]


# USD type -> numpy type of a component, and what turns rows of them into USD values. A quaternion
# lies in memory as (x, y, z, w), as ours. There is no quatf: OpenUSD turns the quaternion of an
# orient op into an angle by acos(w), which near w = 1 makes 3e-4 rad of a float's last digit.
_TYPES: dict[str, tuple[type, Callable[[np.ndarray], Any]]] = {
    "double": (np.float64, _numbers),
    "float": (np.float32, _numbers),
    "float[]": (np.float32, _arrays),
    "float3[]": (np.float32, _vectors),
    "float3": (np.float32, Vt.Vec3fArray.FromNumpy),
    "double3": (np.float64, Vt.Vec3dArray.FromNumpy),
    "quatd": (np.float64, Vt.QuatdArray.FromNumpy),
}


def write_samples(
    prim: Sdf.PrimSpec, name: str, type_name: str, values: np.ndarray, custom: bool = False
) -> int:
    """Write an attribute with a value for each frame.

    Args:
        prim: the spec that gets the attribute; its layer must have no stage that listens.
        name: of the attribute.
        type_name: its USD type, a key of `_TYPES`.
        values: (frames, components).
        custom: whether no schema knows the attribute.

    Returns:
        The number of samples written, 0 if all frames have the same value.
    """
    component, convert = _TYPES[type_name]
    rows = np.ascontiguousarray(values, dtype=component)
    constant = bool((rows == rows[:1]).all())
    samples = convert(rows[:1] if constant else rows)
    return write_values(prim, name, type_name, samples, custom)


def write_values(
    prim: Sdf.PrimSpec, name: str, type_name: str, values: Any, custom: bool = False
) -> int:
    """Write an attribute from a sequence of USD values, one for each frame, or one for all."""
    spec = declare(prim, name, type_name, custom=custom)
    spec.default = values[0]
    if len(values) == 1:
        return 0
    # Sdf takes samples one by one: there is no call in Python for many.
    set_sample, path = prim.layer.SetTimeSample, spec.path
    with Sdf.ChangeBlock():
        for frame, value in enumerate(values):
            set_sample(path, frame, value)
    return len(values)


def declare(
    prim: Sdf.PrimSpec, name: str, type_name: str, uniform: bool = False, custom: bool = False
) -> Sdf.AttributeSpec:
    """An attribute without a value."""
    variability = Sdf.VariabilityUniform if uniform else Sdf.VariabilityVarying
    value_type = Sdf.ValueTypeNames.Find(type_name)
    return Sdf.AttributeSpec(prim, name, value_type, variability, declaresCustom=custom)


def write_constant(
    prim: Sdf.PrimSpec, name: str, type_name: str, value: Any, uniform: bool = False
) -> None:
    """Write an attribute that has one value for all times."""
    declare(prim, name, type_name, uniform).default = value


def continuous_quats(quats: np.ndarray) -> np.ndarray:
    """Unit quaternions (frames, 4) of the same rotations, each on the side of the one before.

    q and -q are one rotation, but what interpolates between them turns the long way round.
    """
    unit = quats.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    turned = np.einsum("fi,fi->f", unit[1:], unit[:-1]) < 0.0
    signs = np.where(np.cumsum(turned) % 2 == 1, -1.0, 1.0)
    unit[1:] *= signs[:, None]
    return unit
