"""A recording as a page for the browser: one file, which needs no network and no server.

The page holds the recording's numbers and three.js, which draws them (warp_envs/viewer).
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from warp_envs.viewing.playback import Playback, read_playback


def write_page(
    usd_path: str | os.PathLike[str],
    html_path: str | os.PathLike[str],
    title: str | None = None,
) -> list[str]:
    """Write a page that plays a recording.

    Args:
        usd_path: a file that `RolloutRecorder` wrote, or any whose things move as rigid bodies.
        html_path: of the page.
        title: shown above the curves; None for the file's name.

    Returns:
        A line for each thing of the file that the page does not show.

    Raises:
        ValueError: a file that cannot be read.
    """
    packer = _Packer()
    playback = read_playback(usd_path)
    scene = _describe(playback, packer)
    filled = {
        "TITLE": html.escape(Path(usd_path).name if title is None else title),
        "STYLE": _part("page.css"),
        "THREE": _part("three.module.js"),
        "NUMBERS": packer.text(),
        # Nothing in it may end the script it stands in.
        "SCENE": json.dumps(scene, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "SCRIPT": _part("page.js"),
    }
    pieces = _part("page.html").split("@")
    pieces[1::2] = [filled[name] for name in pieces[1::2]]
    Path(html_path).write_text("".join(pieces), encoding="utf-8")
    return playback.problems


class _Packer:
    """Arrays as one block of float32 numbers, to which a description refers."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._length = 0

    def add(self, values: np.ndarray) -> dict[str, int]:
        flat = np.ascontiguousarray(values, dtype="<f4").reshape(-1)
        self._arrays.append(flat)
        self._length += flat.size
        return {"at": self._length - flat.size, "count": flat.size}

    def text(self) -> str:
        """All numbers, gzip in base64."""
        block = b"".join(array.tobytes() for array in self._arrays)
        return base64.b64encode(gzip.compress(block, compresslevel=5, mtime=0)).decode()


def _describe(playback: Playback, packer: _Packer) -> dict[str, Any]:
    """What the page's script reads; its arrays go to the packer, time running fastest."""
    frames, movers, _ = playback.poses.shape
    camera = playback.camera or _overview(playback)
    return {
        "frames": frames,
        "fps": playback.fps,
        "movers": movers,
        "poses": packer.add(playback.poses.transpose(2, 1, 0)),
        "shapes": [
            {**shape, "corners": packer.add(shape["corners"])} if "corners" in shape else shape
            for shape in playback.shapes
        ],
        "looks": playback.looks,
        "parts": [
            {
                "shape": part.shape,
                "look": part.look,
                "mover": part.mover,
                "env": part.env,
                "matrix": np.round(part.matrix.reshape(-1), 9).tolist(),
            }
            for part in playback.parts
        ],
        "envs": playback.envs,
        "signals": {name: packer.add(v.T) for name, v in playback.signals.items()},
        "camera": {
            "angle": camera["angle"],
            "eye": packer.add(camera["eye"]),
            "aim": packer.add(camera["aim"]),
        },
    }


def _overview(playback: Playback) -> dict[str, Any]:
    """A camera for a stage without one: everything that moves, else the origin, in view."""
    places = playback.poses[..., :3].reshape(-1, 3)
    places = places[np.isfinite(places).all(axis=1)]
    places = places if len(places) else np.zeros((1, 3))
    aim = 0.5 * (places.min(axis=0) + places.max(axis=0))
    away = 2.0 + 1.5 * float(np.ptp(places, axis=0).max())
    eye = aim + away * np.array([0.3, -1.0, 0.5])
    return {"eye": eye[None], "aim": aim[None], "angle": 35.0}


def _part(name: str) -> str:
    return (files("warp_envs.viewing") / "web" / name).read_text(encoding="utf-8")
