"""Grounds to train on, by name, and from files of heights.

| kind | what | options |
|---|---|---|
| flat | the plane z = 0 | |
| rough | smooth random hills and hollows | height, spacing, seed |
| slope | rises along x | angle |
| stairs | go up along x | height, length |

All but the first are height fields on a square of edge `size`, centred on the start, of cells of
edge `cell`; level, and at z = 0, within 1 m of the start; level again beyond their edges.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from warp_envs.checks import ArgumentError
from warp_envs.options.ground import FILE, points, read_ground
from warp_envs.usd.ground import Ground, HeightField, Plane

_LEVEL = 1.0  # [m] around the start
_RISE = 1.0  # [m] from there on, over which hills grow to their height


def make_ground(given: Any) -> Ground:
    """The ground that an option names.

    Args:
        given: a kind of the table above; a mapping of ``kind`` and options; the path of an .npy
            file of heights [m] (rows along x, columns along y), centred on the start; a mapping of
            ``file``, ``cell`` [m] (0.1) and ``corner`` [m], the place of the first height.

    Raises:
        ValueError: naming the option, its value and what is accepted.
    """
    kind, options = read_ground(given)
    if kind == FILE:
        return _from_file(**options)
    return _generated(_KINDS[kind], **options) if kind in _KINDS else Plane()


def _from_file(file: str, cell: float, corner: Any) -> HeightField:
    path = Path(str(file))
    try:
        heights = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArgumentError("ground.file", f"{str(path)!r} ({error})", "an .npy file") from None
    if heights.ndim != 2 or heights.dtype.kind not in "fiu":
        given = f"{heights.dtype} numbers of shape {heights.shape}"
        raise ArgumentError("ground.file", given, "heights [m] of shape (rows, columns)")
    if corner is None:
        corner = -0.5 * cell * (np.array(heights.shape) - 1)
    return HeightField(heights, np.asarray(corner), np.full(2, float(cell)))


def _generated(
    shape: Callable[..., np.ndarray], size: float, cell: float, **options: Any
) -> Ground:
    count = points(size, cell)
    line = (np.arange(count) - 0.5 * (count - 1)) * cell
    x, y = np.meshgrid(line, line, indexing="ij")
    return HeightField(shape(x, y, cell, **options), line[[0, 0]], np.full(2, float(cell)))


def _rough(
    x: np.ndarray, y: np.ndarray, cell: float, height: float, spacing: float, seed: int
) -> np.ndarray:
    """White noise, smoothed: hills about `spacing` across, the highest and lowest `height` high."""
    noise = np.random.default_rng(int(seed)).normal(size=x.shape)
    hills = gaussian_filter(noise, 0.5 * spacing / cell, mode="wrap")
    grown = np.clip((np.hypot(x, y) - _LEVEL) / _RISE, 0.0, 1.0)
    hills = hills * grown**2 * (3.0 - 2.0 * grown)
    return height * hills / max(float(np.abs(hills).max()), 1e-12)


def _slope(x: np.ndarray, y: np.ndarray, cell: float, angle: float) -> np.ndarray:
    return np.tan(np.radians(angle)) * np.maximum(x - _LEVEL, 0.0)


def _stairs(x: np.ndarray, y: np.ndarray, cell: float, height: float, length: float) -> np.ndarray:
    # a half cell more: a place that rounding leaves just below a step is on it
    return height * np.maximum(np.floor((x - _LEVEL + 0.5 * cell) / length) + 1.0, 0.0)


_KINDS = {"rough": _rough, "slope": _slope, "stairs": _stairs}
