"""What is known of a recorded environment beside its motion: custom attributes of its prim.

| attribute | what |
|---|---|
| `gippo:action` | float[] |
| `gippo:reward`, `gippo:return` | float |
| `gippo:rewardTerms`, `gippo:rewardTermNames` | float[] in each frame, and what they are |
| `gippo:contactForces`, `gippo:contactPoints` | float3[]: forces [N] and where [m] |
| `gippo:contactBodies` | the bodies they belong to, as paths from the environment's prim |
| `gippo:weight` | the force that holds the robot up at rest [N] |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pxr import Sdf, Vt

from warp_envs.usd.samples import declare, write_samples

_SCALARS = ("reward", "return")


def write_signals(
    layer: Sdf.Layer, path: Sdf.Path, signals: dict[str, np.ndarray], terms: Sequence[str]
) -> int:
    """Write actions, rewards, returns and terms of the reward.

    Args:
        layer: takes them.
        path: of the environment's prim.
        signals: name -> (frames, n); those without columns are left out.
        terms: names of the columns of ``signals["rewardTerms"]``.

    Returns:
        The number of samples written.
    """
    prim = layer.GetPrimAtPath(path)
    written = 0
    for name, values in signals.items():
        if values.shape[1] > 0:
            type_name = "float" if name in _SCALARS else "float[]"
            written += write_samples(prim, f"gippo:{name}", type_name, values, custom=True)
    if len(terms) and "rewardTerms" in signals:
        _write_names(prim, "gippo:rewardTermNames", terms)
    return written


def write_contacts(
    layer: Sdf.Layer,
    path: Sdf.Path,
    bodies: Sequence[str],
    weight: float,
    contacts: np.ndarray,
) -> int:
    """Write the ground's forces on the bodies that ever touch it.

    Args:
        layer: takes them.
        path: of the environment's prim.
        bodies: paths of the bodies that can touch the ground, from the robot's prim.
        weight: the force that holds the robot up at rest [N].
        contacts: (frames, 6 bodies): of each body force [N] and place [m].

    Returns:
        The number of samples written.
    """
    rows = contacts.reshape(len(contacts), len(bodies), 6)
    touching = rows[..., :3].any(axis=(0, 2))
    if not touching.any():
        return 0
    prim = layer.GetPrimAtPath(path)
    robot = Sdf.Path("Robot")
    names = [str(robot.AppendPath(b)) for b, there in zip(bodies, touching, strict=True) if there]
    _write_names(prim, "gippo:contactBodies", names)
    declare(prim, "gippo:weight", "float", custom=True).default = weight
    written = 0
    for name, columns in (("Forces", slice(0, 3)), ("Points", slice(3, 6))):
        values = rows[:, touching, columns].reshape(len(rows), -1)
        written += write_samples(prim, f"gippo:contact{name}", "float3[]", values, custom=True)
    return written


def _write_names(prim: Sdf.PrimSpec, name: str, names: Sequence[str]) -> None:
    declare(prim, name, "token[]", uniform=True, custom=True).default = Vt.TokenArray(list(names))
