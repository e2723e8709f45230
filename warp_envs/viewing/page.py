"""Recordings as a page for the browser: one file, which needs no network and no server.

The page holds the recordings' numbers and three.js, which draws them (warp_envs/viewer).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from warp_envs.checks import ArgumentError
from warp_envs.viewing.playback import Playback, read_playback
from warp_envs.viewing.told import Contacts

MOST_RECORDINGS = 6
SCRIPTS = ("view.js", "charts.js", "video.js", "page.js")  # parts of one module, in this order


def write_page(
    usd_path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    html_path: str | os.PathLike[str],
    title: str | Sequence[str] | None = None,
) -> list[str]:
    """Write a page that plays a recording, or several side by side by one clock.

    Args:
        usd_path: a file that `RolloutRecorder` wrote, or any whose things move as rigid bodies;
            or up to six of them.
        html_path: of the page.
        title: of the recording, or one for each; None for the file's name.

    Returns:
        A line for each thing of the files that the page does not show.

    Raises:
        ValueError: a file that cannot be read, none or too many of them, or not as many titles.
    """
    paths = [usd_path] if isinstance(usd_path, (str, os.PathLike)) else list(usd_path)
    if not 1 <= len(paths) <= MOST_RECORDINGS:
        raise ArgumentError("recordings", str(len(paths)), f"1 to {MOST_RECORDINGS} on a page")
    given = [title] if isinstance(title, str) else title
    titles = [Path(path).name for path in paths] if given is None else list(given)
    if len(titles) != len(paths):
        raise ArgumentError("title", f"{len(titles)} titles", f"{len(paths)}")
    packer, scenes, problems = _Packer(), [], []
    for path, name in zip(paths, titles, strict=True):
        playback = read_playback(path, share=1.0 / len(paths))
        scenes.append({"title": name, **_describe(playback, packer)})
        where = f"{name}: " if len(paths) > 1 else ""
        problems += [where + line for line in playback.problems]
    described = json.dumps(scenes, separators=(",", ":"), allow_nan=False)
    filled = {
        "TITLE": html.escape(", ".join(titles)),
        "STYLE": _part("page.css"),
        "THREE": _part("three.module.js"),
        "NUMBERS": packer.text(),
        # Nothing in it may end the script it stands in.
        "SCENES": described.replace("<", "\\u003c"),
        "SCRIPT": "\n".join(map(_part, SCRIPTS)),
    }
    pieces = _part("page.html").split("@")
    pieces[1::2] = [filled[name] for name in pieces[1::2]]
    Path(html_path).write_text("".join(pieces), encoding="utf-8")
    return problems


class _Packer:
    """Arrays as one block of float32 numbers, to which a description refers."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._length = 0
        self._places: dict[bytes, dict[str, int]] = {}

    def add(self, values: np.ndarray) -> dict[str, int]:
        """Where the values lie; the same ones, as of two runs of one robot, lie there once."""
        flat = np.ascontiguousarray(values, dtype="<f4").reshape(-1)
        key = hashlib.sha256(flat.tobytes()).digest()
        if key not in self._places:
            self._arrays.append(flat)
            self._places[key] = {"at": self._length, "count": flat.size}
            self._length += flat.size
        return self._places[key]

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
        "terms": {name: packer.add(v.T) for name, v in playback.terms.items()},
        "contacts": _describe_contacts(playback.contacts, packer),
        "camera": {
            "angle": camera["angle"],
            "eye": packer.add(camera["eye"]),
            "aim": packer.add(camera["aim"]),
        },
    }


def _describe_contacts(contacts: Contacts | None, packer: _Packer) -> dict[str, Any] | None:
    if contacts is None:
        return None
    return {
        "bodies": contacts.bodies,
        "envs": contacts.envs.tolist(),
        "forces": packer.add(contacts.forces.transpose(2, 1, 0)),
        "points": packer.add(contacts.points.transpose(2, 1, 0)),
        "weight": contacts.weight,
        "length": contacts.length,
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
