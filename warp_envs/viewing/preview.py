"""A still picture of a recording, drawn without a viewer, a GPU or a display.

It shows the file as it lies on disk: its shapes and materials, through its camera.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pxr import Usd, UsdGeom

from warp_envs.checks import ArgumentError
from warp_envs.usd.stage import Stage
from warp_envs.viewing.drawing import Drawing, Solid, camera_matrices
from warp_envs.viewing.raster import Canvas, fan

_SUN = np.array([0.33, -0.52, 0.79])  # towards it, as in the recorded scene
_SKY_TOP, _SKY_LOW = np.array([0.62, 0.74, 0.88]), np.array([0.90, 0.93, 0.96])
_PANEL = (576, 324)  # pixels
_DPI = 120
_FINER = 2  # pixels drawn for each one shown, across and up
_FLAT = 0.1  # [m]: what is no higher than this above the floor takes shadows and casts none


def render_contact_sheet(
    usd_path: str | os.PathLike[str],
    png_path: str | os.PathLike[str],
    frames: int | Sequence[int] = 6,
    columns: int = 3,
) -> list[str]:
    """Draw frames of a recording side by side.

    Args:
        usd_path: a file that `RolloutRecorder` wrote.
        png_path: of the picture.
        frames: how many, evenly spread from first to last, or which.
        columns: pictures in a row.

    Returns:
        A line for each prim that could not be drawn: its path and the reason.

    Raises:
        ValueError: a file that cannot be read or has no camera, or frames out of range.
    """
    stage = Stage(os.fspath(usd_path)).usd
    camera = find_camera(stage, usd_path)
    times = _times(stage, frames)
    columns = max(1, min(columns, len(times)))
    rows = -(-len(times) // columns)
    width, height = _PANEL[0] * columns, _PANEL[1] * rows
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    drawing = Drawing(stage)
    for number, time in enumerate(times):
        row, column = divmod(number, columns)
        place = (column / columns, 1.0 - (row + 1) / rows, 1.0 / columns, 1.0 / rows)
        axes = figure.add_axes((place[0], place[1], place[2] - 4 / width, place[3] - 4 / height))
        axes.set_axis_off()
        matrix, tangents = camera_matrices(camera, time)
        axes.imshow(picture(drawing.frame(time), matrix, tangents), aspect="auto")
        text = {"transform": axes.transAxes, "va": "top", "fontsize": 9, "color": "0.15"}
        axes.text(0.02, 0.95, _caption(stage, time), **text)
    FigureCanvasAgg(figure).print_png(os.fspath(png_path))
    return drawing.problems.lines()


def find_camera(stage: Usd.Stage, usd_path: str | os.PathLike[str]) -> UsdGeom.Camera:
    """The first camera of a recording.

    Raises:
        ArgumentError: there is none.
    """
    camera = next((UsdGeom.Camera(p) for p in stage.Traverse() if p.IsA(UsdGeom.Camera)), None)
    if camera is None:
        raise ArgumentError("usd_path", repr(os.fspath(usd_path)), "a file with a camera")
    return camera


def _times(stage: Usd.Stage, frames: int | Sequence[int]) -> list[float]:
    first, last = stage.GetStartTimeCode(), stage.GetEndTimeCode()
    if isinstance(frames, int):
        if frames < 1:
            raise ArgumentError("frames", str(frames), "a positive number")
        return sorted(set(np.round(np.linspace(first, last, frames)).tolist()))
    if not frames or not all(first <= frame <= last for frame in frames):
        raise ArgumentError("frames", repr(frames), f"numbers from {first:g} to {last:g}")
    return [float(frame) for frame in frames]


def _caption(stage: Usd.Stage, time: float) -> str:
    """The time, and the return where one environment was recorded."""
    text = f"{time / stage.GetTimeCodesPerSecond():.2f} s"
    envs = stage.GetPrimAtPath("/World/envs")
    children = envs.GetChildren() if envs else []
    attribute = children[0].GetAttribute("gippo:return") if len(children) == 1 else None
    return f"{text}   return {attribute.Get(time):.1f}" if attribute else text


def picture(placed: list[Solid], matrix: np.ndarray, tangents: np.ndarray) -> np.ndarray:
    """Draw shapes through a camera; (height, width, 3) from 0 to 1."""
    width, height = (_FINER * size for size in _PANEL)
    parts = [fan(shape.points, shape.faces) for shape in placed]
    triangles = np.concatenate([np.zeros((0, 3, 3)), *parts])
    flat = _lies_flat(placed)
    owner = np.repeat(np.arange(len(placed)), [len(part) for part in parts])
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 1])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    light = 0.48 + 0.5 * np.clip(normals @ _SUN, 0.0, None) + 0.1 * normals[:, 2]
    colors = np.array([shape.color for shape in placed]).reshape(-1, 3)[owner] * light[:, None]

    canvas = Canvas(width, height, tangents)
    canvas.draw(_seen(triangles, matrix), np.arange(len(triangles)))
    sky = np.linspace(_SKY_TOP, _SKY_LOW, height)[:, None]
    hit = canvas.nearest >= 0
    shown = np.where(hit[..., None], colors[canvas.nearest], sky)
    on_floor = hit & flat[owner[canvas.nearest]]
    shown[on_floor & _shadow(triangles, normals, flat[owner], matrix, tangents)] *= 0.7
    nearness = np.where(hit, canvas.nearness, 1.0)
    clear = np.exp(-((_typical_nearness(canvas, on_floor) / 3.0 / nearness) ** 2))
    clear = np.where(hit, clear, 1.0)[..., None]
    shown = shown * clear + _SKY_LOW * (1.0 - clear)
    blocks = shown.reshape(_PANEL[1], _FINER, _PANEL[0], _FINER, 3)
    return np.clip(blocks.mean(axis=(1, 3)), 0.0, 1.0)


def _seen(triangles: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Triangles of the world in the camera's frame, which looks along -z."""
    return triangles @ matrix[:3, :3] + matrix[3, :3]


def _lies_flat(placed: list[Solid]) -> np.ndarray:
    """Which shapes belong to the floor: none of them rises above the widest one's top."""
    if not placed:
        return np.zeros(0, dtype=bool)
    tops = np.array([shape.points[:, 2].max(initial=-np.inf) for shape in placed])
    widths = [np.ptp(shape.points[:, 0]) if len(shape.points) else 0.0 for shape in placed]
    return tops < tops[int(np.argmax(widths))] + _FLAT


def _shadow(
    triangles: np.ndarray,
    normals: np.ndarray,
    flat: np.ndarray,
    matrix: np.ndarray,
    tangents: np.ndarray,
) -> np.ndarray:
    """Where the floor lies in the shadow of what stands on it, (height, width)."""
    canvas = Canvas(_FINER * _PANEL[0], _FINER * _PANEL[1], tangents)
    casting = ~flat & (normals @ _SUN > 0.0)
    if casting.any() and flat.any():
        height = triangles[flat][..., 2].max()
        cast = triangles[casting]
        cast = cast - ((cast[..., 2:] - height) / _SUN[2]) * _SUN
        canvas.draw(_seen(cast, matrix), np.arange(len(cast)))
    return canvas.nearest >= 0


def _typical_nearness(canvas: Canvas, on_floor: np.ndarray) -> float:
    """Of what stands on the floor, or of all there is; nothing near it is lost in haze."""
    standing = canvas.nearness[(canvas.nearest >= 0) & ~on_floor]
    among = standing if len(standing) else canvas.nearness[canvas.nearness > 0.0]
    return float(np.median(among)) if len(among) else 1.0
