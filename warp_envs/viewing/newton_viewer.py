"""A recording in one of Newton's viewers: the extra ``gippo[newton]`` and what a viewer needs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import warp as wp

from warp_envs.bridge.start import start_warp
from warp_envs.checks import ArgumentError
from warp_envs.viewing.playback import (
    STATIC,
    Playback,
    poses_of,
    quat_product,
    read_playback,
    rotate,
)

start_warp()

VIEWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gl": ("ViewerGL", {}),
    "viser": ("ViewerViser", {}),
    "rerun": ("ViewerRerun", {"keep_historical_data": True}),
}
"""Name here -> class in ``newton.viewer``, and how it is made."""

_HAS_TIMELINE = "rerun"  # keeps what it was shown and plays it itself

_AWAY = -1e3  # height of what is hidden [m]
_NEAR = 0.005  # what is nearer than this part of the way to the scene is not drawn
# Newton's round shapes lie along z: what turns z into an axis, xyzw.
_ALONG = {
    "X": np.array([0.0, np.sqrt(0.5), 0.0, np.sqrt(0.5)]),
    "Y": np.array([-np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)]),
    "Z": np.array([0.0, 0.0, 0.0, 1.0]),
}


def import_newton() -> ModuleType:
    """Newton, if it is installed.

    Raises:
        ValueError: it is not; the message names the extra.
    """
    try:
        import newton  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        hint = f"not installed ({error}); pip install '.[newton]' brings it"
        raise ArgumentError("newton", hint) from error
    return newton


@dataclass(frozen=True)
class _Batch:
    """Parts of one geometry and look, which the viewer draws at once.

    Attributes:
        kind: name of Newton's GeoType.
        scale: sizes as `log_geo` wants them [m].
        corners: triangles of a mesh (n, 3, 3) [m], else None.
        look: number of their look.
        movers: what carries each, (parts,).
        poses: each one's place in its mover, (parts, 7).
    """

    kind: str
    scale: tuple[float, ...]
    corners: np.ndarray | None
    look: int
    movers: np.ndarray
    poses: np.ndarray


def show_in_newton(usd_path: str | os.PathLike[str], viewer_name: str) -> None:
    """Open one of Newton's viewers and play a recording, again and again until it is closed.

    A viewer with a timeline of its own is shown the recording once.

    Args:
        usd_path: a file that `RolloutRecorder` wrote.
        viewer_name: a key of `VIEWERS`.

    Raises:
        ValueError: another viewer, one that is not installed, or a file that cannot be read.
    """
    if viewer_name not in VIEWERS:
        raise ArgumentError("viewer", repr(viewer_name), f"one of {list(VIEWERS)}")
    newton = import_newton()
    playback = read_playback(usd_path)
    class_name, options = VIEWERS[viewer_name]
    try:
        viewer = getattr(newton.viewer, class_name)(**options)
    except ImportError as error:
        accepted = f"one that is installed ({error})"
        raise ArgumentError("viewer", repr(viewer_name), accepted) from error
    try:
        if viewer_name == _HAS_TIMELINE:
            _aim_rerun(playback)
        while viewer.is_running():
            play_in_newton(playback, viewer, real_time=viewer_name != _HAS_TIMELINE)
            while viewer_name == _HAS_TIMELINE and viewer.is_running():
                time.sleep(0.1)
    finally:
        viewer.close()


def play_in_newton(playback: Playback, viewer: Any, real_time: bool = True) -> None:
    """Show each frame once.

    Args:
        playback: what to show.
        viewer: a `newton.viewer.ViewerBase`.
        real_time: wait between frames as long as they last.
    """
    newton = import_newton()
    batches = list(_batches(playback))
    for number, batch in enumerate(batches):
        mesh = _mesh(newton, batch.corners)
        geometry = newton.GeoType[batch.kind], batch.scale, 0.0, True, mesh
        viewer.log_geo(f"/rollout/shape_{number}", *geometry, hidden=True)
    started = time.perf_counter()
    for frame, movers in enumerate(playback.poses):
        if not viewer.is_running():
            return
        _aim(viewer, playback, frame)
        viewer.begin_frame(frame / playback.fps)
        for number, batch in enumerate(batches):
            viewer.log_instances(
                f"/rollout/batch_{number}",
                f"/rollout/shape_{number}",
                wp.array(_placed(batch, movers), dtype=wp.transform),
                wp.array([wp.vec3(1.0, 1.0, 1.0)] * len(batch.movers), dtype=wp.vec3),
                # What is given again is sent again, with the shape.
                *(_look(batch, playback) if frame == 0 else (None, None)),
            )
        viewer.end_frame()
        if real_time:
            time.sleep(max(0.0, started + (frame + 1) / playback.fps - time.perf_counter()))


def _aim(viewer: Any, playback: Playback, frame: int) -> None:
    """Look as the recorded camera does; one that stands still is left to the user."""
    if playback.camera is None or frame >= len(playback.camera["eye"]):
        return
    eye, aim = playback.camera["eye"][frame], playback.camera["aim"][frame]
    x, y, z = (aim - eye) / np.linalg.norm(aim - eye)
    pitch, yaw = np.degrees([np.arcsin(z), np.arctan2(y, x)]).tolist()
    viewer.set_camera(wp.vec3(*eye.tolist()), pitch, yaw)
    camera = getattr(viewer, "camera", None)
    if camera is not None:
        camera.fov = playback.camera["angle"]
        camera.near = _NEAR * float(np.linalg.norm(aim - eye))


def _aim_rerun(playback: Playback) -> None:
    """Look as the recorded camera does at first; Newton leaves that to rerun, which shows all."""
    if playback.camera is None:
        return
    import rerun as rr  # pyright: ignore[reportMissingImports]
    import rerun.blueprint as rrb  # pyright: ignore[reportMissingImports]

    eye, aim = (playback.camera[end][0].tolist() for end in ("eye", "aim"))
    controls = rrb.EyeControls3D(position=eye, look_target=aim, eye_up=(0.0, 0.0, 1.0))
    panel = rrb.TimePanel(timeline="time", state="collapsed")
    view = rrb.Spatial3DView(eye_controls=controls)
    rr.send_blueprint(rrb.Blueprint(view, panel, collapse_panels=True))


def _batches(playback: Playback) -> Iterator[_Batch]:
    """The parts by shape, look and scale; Newton's instances have no scale of their own."""
    groups: dict[tuple[int, int, tuple[float, ...]], list[tuple[int, np.ndarray]]] = {}
    for part in playback.parts:
        lengths = np.linalg.norm(part.matrix[:3, :3], axis=1)
        key = (part.shape, part.look, tuple(np.round(lengths, 6).tolist()))
        turned = part.matrix.copy()
        turned[:3, :3] /= lengths[:, None]
        groups.setdefault(key, []).append((part.mover, turned))
    for (shape, look, lengths), members in groups.items():
        kind, scale, turn, corners = _geometry(playback.shapes[shape], np.array(lengths))
        poses = poses_of(np.stack([matrix for _, matrix in members]))
        poses[:, 3:] = quat_product(poses[:, 3:], turn)
        movers = np.array([mover for mover, _ in members])
        yield _Batch(kind, scale, corners, look, movers, poses)


def _geometry(
    shape: dict[str, Any], lengths: np.ndarray
) -> tuple[str, tuple[float, ...], np.ndarray, np.ndarray | None]:
    """Newton's type, sizes, turn and triangles of a shape that is scaled by `lengths` (3,)."""
    kind, turn = shape["kind"], _ALONG["Z"]
    if kind == "mesh":
        return "MESH", (1.0, 1.0, 1.0), turn, shape["corners"] * lengths
    if kind == "box":
        return "BOX", tuple((0.5 * shape["size"] * lengths).tolist()), turn, None
    if kind == "sphere":
        return "SPHERE", (shape["radius"] * float(lengths.mean()),), turn, None
    along = "XYZ".index(shape["axis"])
    radius = shape["radius"] * float(np.delete(lengths, along).mean())
    half = 0.5 * shape["height"] * float(lengths[along])
    return kind.upper(), (radius, half), _ALONG[shape["axis"]], None


def _look(batch: _Batch, playback: Playback) -> tuple[wp.array, wp.array]:
    """Colours and materials of a batch's parts."""
    look, count = playback.looks[batch.look], len(batch.movers)
    material = wp.vec4(look["roughness"], look["metallic"], 0.0, 0.0)
    return (
        wp.array([wp.vec3(*look["color"])] * count, dtype=wp.vec3),
        wp.array([material] * count, dtype=wp.vec4),
    )


def _mesh(newton: Any, corners: np.ndarray | None) -> Any:
    if corners is None:
        return None
    points = corners.reshape(-1, 3).astype(np.float32)
    return newton.Mesh(points, np.arange(len(points), dtype=np.int32), compute_inertia=False)


def _placed(batch: _Batch, movers: np.ndarray) -> np.ndarray:
    """Poses of a batch's parts in the world, (parts, 7) float32."""
    still = batch.movers == STATIC
    carriers = np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], (len(still), 1))
    carriers[~still] = movers[batch.movers[~still]]
    position = carriers[:, :3] + rotate(carriers[:, 3:], batch.poses[:, :3])
    quat = quat_product(carriers[:, 3:], batch.poses[:, 3:])
    hidden = np.isnan(position).any(axis=1)
    position[hidden], quat[hidden] = (0.0, 0.0, _AWAY), (0.0, 0.0, 0.0, 1.0)
    return np.concatenate([position, quat], axis=1).astype(np.float32)
