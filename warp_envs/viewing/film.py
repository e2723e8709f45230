"""A film of a recording, GIF or MP4, drawn as the still pictures are, without a GPU."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pxr import UsdGeom

from warp_envs.checks import ArgumentError, check_positive
from warp_envs.usd.stage import Stage
from warp_envs.viewing.drawing import Drawing, camera_matrices
from warp_envs.viewing.preview import find_camera, picture

FORMATS = (".gif", ".mp4")


def check_film(path: str | os.PathLike[str]) -> Path:
    """The path of a film that can be written here.

    Raises:
        ArgumentError: another ending, or an MP4 without the package that encodes it.
    """
    out = Path(path)
    if out.suffix not in FORMATS:
        raise ArgumentError("out", repr(str(out)), f"a file ending in one of {list(FORMATS)}")
    if out.suffix == ".mp4":
        _ffmpeg()
    return out


def render_film(
    usd_path: str | os.PathLike[str], out: str | os.PathLike[str], *, fps: float = 20.0
) -> list[str]:
    """Draw a recording through its camera, in its own time.

    Args:
        usd_path: a file that `RolloutRecorder` wrote.
        out: .gif, or .mp4 (which takes imageio-ffmpeg).
        fps: pictures for each second, as many as the recording has frames at most.

    Returns:
        A line for each prim that could not be drawn: its path and the reason.

    Raises:
        ValueError: a file that cannot be read or has no camera, or as `check_film`.
    """
    path = check_film(out)
    check_positive("fps", fps)
    stage = Stage(os.fspath(usd_path)).usd
    camera, drawing = find_camera(stage, usd_path), Drawing(stage)
    recorded = stage.GetTimeCodesPerSecond()
    every = max(1, round(recorded / fps))
    times = np.arange(stage.GetStartTimeCode(), stage.GetEndTimeCode() + 0.5, every)
    frames = _frames(drawing, camera, times)
    unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    try:
        if path.suffix == ".gif":
            _write_gif(unfinished, frames, every / recorded)
        else:
            _write_mp4(unfinished, frames, recorded / every)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return drawing.problems.lines()


def _frames(drawing: Drawing, camera: UsdGeom.Camera, times: np.ndarray) -> Iterator[np.ndarray]:
    """Pictures (height, width, 3), bytes."""
    for time in times.tolist():
        shown = picture(drawing.frame(time), *camera_matrices(camera, time))
        yield np.round(255.0 * shown).astype(np.uint8)


def _write_gif(path: Path, frames: Iterator[np.ndarray], seconds: float) -> None:
    # One palette for all, of the first picture: each its own would flicker.
    first = Image.fromarray(next(frames)).quantize(method=Image.Quantize.MEDIANCUT)
    rest = [Image.fromarray(frame).quantize(palette=first) for frame in frames]
    first.save(
        path,
        save_all=True,
        append_images=rest,
        duration=round(100.0 * seconds) * 10,  # [ms], of which GIF keeps tens
        loop=0,
    )


def _write_mp4(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    first = next(frames)
    size = (first.shape[1], first.shape[0])
    writer = _ffmpeg().write_frames(str(path), size, fps=fps, macro_block_size=2)
    writer.send(None)
    try:
        writer.send(np.ascontiguousarray(first))
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()


def _ffmpeg() -> Any:
    try:
        return importlib.import_module("imageio_ffmpeg")
    except ImportError as error:
        raise ArgumentError(
            "out",
            "an .mp4 file",
            "a .gif",
            "; imageio-ffmpeg encodes the former: pip install '.[video]' in the checkout",
        ) from error
