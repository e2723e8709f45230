"""Signals' stop lines in a recorded scene, in the colour that is shown at the moment.

A line is three stripes in one place, of which one at a time is visible: any viewer knows visibility
that changes with time, few a colour that does.
"""

from __future__ import annotations

import numpy as np
from pxr import Sdf, Usd, UsdGeom

from warp_envs.recording.road import add_stripes
from warp_envs.usd.samples import write_values
from warp_envs.usd.scene import Look, add_look, bind

_COLOURS = {
    "green": Look((0.05, 0.65, 0.15), 0.6),
    "yellow": Look((0.95, 0.70, 0.05), 0.6),
    "red": Look((0.80, 0.04, 0.03), 0.6),
}
"""In the order in which `Network`'s signals number them."""

_WIDTH = 1.0  # of a line, along its lane [m]
_HEIGHT = 0.02  # above the road's markings [m]


def add_stop_lines(stage: Usd.Stage, path: Sdf.Path, lines: np.ndarray) -> None:
    """Write a stripe of each colour for each line.

    Args:
        stage: takes them.
        path: of the prim that has the lines below it.
        lines: (lines, 2, 2) [m]: where vehicles stop, from the right edge to the left as they see
            it; the stripe lies before it.
    """
    UsdGeom.Scope.Define(stage, path)
    looks = {name: add_look(stage, f"{name}_light", look) for name, look in _COLOURS.items()}
    across = lines[:, 1] - lines[:, 0]
    across = across / np.linalg.norm(across, axis=1, keepdims=True)
    along = np.stack([across[:, 1], -across[:, 0]], axis=1)
    middles = lines - 0.5 * _WIDTH * along[:, None]
    for number, middle in enumerate(middles):
        line = UsdGeom.Xform.Define(stage, path.AppendChild(f"line_{number}")).GetPath()
        for name, look in looks.items():
            stripe = line.AppendChild(name)
            add_stripes(stage, stripe, middle[None], 0.5 * _WIDTH, _HEIGHT)
            bind(stage.GetPrimAtPath(stripe), look)


def write_lights(layer: Sdf.Layer, path: Sdf.Path, lights: np.ndarray) -> int:
    """Write which stripes are visible.

    Args:
        layer: that of the stage.
        path: as `add_stop_lines` was given it.
        lights: (frames, lines): 0 green, 1 yellow, 2 red.

    Returns:
        The number of samples written.
    """
    written = 0
    for number, shown in enumerate(lights.T):
        for colour, name in enumerate(_COLOURS):
            prim = layer.GetPrimAtPath(path.AppendPath(f"line_{number}/{name}"))
            tokens = np.where(shown == colour, "inherited", "invisible").tolist()
            same = len(set(tokens)) == 1
            written += write_values(prim, "visibility", "token", tokens[:1] if same else tokens)
    return written
