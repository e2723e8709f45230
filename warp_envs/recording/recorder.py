"""Recording of environments while they run, as USD files for Omniverse, usdview and Blender.

    with RolloutRecorder(env, "rollout.usdc") as recorder:
        for _ in range(1000):
            obs, reward, terminated, truncated, info = recorder.step(policy(obs))

What the file holds is told in docs/rollouts.md. While recording, frames go to an unnamed file on
disk in blocks, so memory does not grow. The USD file is written when the first frame is there, now
and then in between, and at the end: also when an exception ends the recording. A run killed
outright leaves the last file written, which lacks the frames after it.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from pxr import Sdf, UsdUtils

from warp_envs.checks import ArgumentError, check_positive
from warp_envs.recording.road import LaneRoads, Road
from warp_envs.recording.scenes import (
    NOTHING_TOUCHES,
    Recorded,
    RobotScene,
    Scene,
    Touching,
    TrafficScene,
)

SUFFIXES = (".usdc", ".usda", ".usdz")

DETAILED = 16
"""Environments up to which everything is recorded unless it is asked for."""

_BLOCK = 64  # frames held in memory
_PATIENCE = 10.0  # USD holds all frames of a thing together: to write anew takes 1/10 of the time


@runtime_checkable
class RobotSource(Protocol):
    """What an environment with a robot offers to be recorded.

    Attributes:
        num_envs: copies of the robot.
        control_step: time between frames [s].
        asset_path: the robot's USD file.
        body_paths: prim paths of its bodies there, absolute or from the default prim.

    It may have a ``ground_surface`` besides, a `warp_envs.usd.ground.Ground` that is drawn; without
    one, or with None, the floor is at z = 0, or below everything.
    """

    num_envs: int
    control_step: float

    @property
    def asset_path(self) -> str | os.PathLike[str]: ...  # noqa: D102

    @property
    def body_paths(self) -> Sequence[str]: ...  # noqa: D102

    def body_poses(self) -> torch.Tensor:
        """(num_envs, bodies, 7): position [m] and unit quaternion xyzw, z up."""
        ...


@runtime_checkable
class PosableRobotSource(RobotSource, Protocol):
    """A `RobotSource` that tells the poses of many frames at once, which costs far less."""

    def joint_positions(self) -> torch.Tensor:
        """A new tensor (num_envs, n): what the poses follow from."""
        ...

    def body_poses_at(self, joint_positions: torch.Tensor) -> torch.Tensor:
        """(rows, bodies, 7) of any number of such rows (rows, n)."""
        ...


class GroundForces(Protocol):
    """How the ground holds a robot, such as `warp_envs.articulation.ground_contacts` finds it.

    Attributes:
        bodies: which of the robot's `body_paths` can touch the ground.
    """

    bodies: Sequence[int]

    def at(self, states: torch.Tensor) -> torch.Tensor:
        """Of any number of states (rows, n): forces and where they act, (rows, bodies, 6).

        A force [N] in world axes, then the place in the world [m]; zeros where a body does not
        touch.
        """
        ...


@runtime_checkable
class TouchingRobotSource(RobotSource, Protocol):
    """A `RobotSource` that tells the ground's forces on its bodies.

    Attributes:
        weight: the force that holds it up at rest [N].
        ground_contacts: the forces in states.
    """

    weight: float

    @property
    def ground_contacts(self) -> GroundForces: ...  # noqa: D102

    def contact_states(self) -> torch.Tensor:
        """A new tensor (num_envs, n): what the forces follow from."""
        ...


@runtime_checkable
class TrafficSource(Protocol):
    """What an environment with roads offers to be recorded.

    Attributes:
        num_envs: roads.
        control_step: time between frames [s].
        num_lanes: of each road; lane i is centred on y = i * lane_width.
        lane_width: [m].
        vehicle_lengths: of the vehicles of a road [m], shape (num_vehicles,).
        num_autonomous: how many of them, the first, are autonomous (drawn in another colour).

    Where lanes lie otherwise, ``lane_lines()`` tells: starts and ends of
    straight pieces [m], (pieces, 2, 2), and ``view_center`` of long roads where to look [m]. Where
    there are signals, ``stop_lines()`` tells where vehicles stop for them, from the lane's right
    edge to its left [m], (lines, 2, 2), and ``lights`` what they show, (num_envs, lines): 0 green,
    1 yellow, 2 red.
    """

    num_envs: int
    control_step: float
    num_lanes: int
    lane_width: float
    num_autonomous: int

    @property
    def vehicle_lengths(self) -> Sequence[float]: ...  # noqa: D102

    def vehicle_poses(self) -> torch.Tensor:
        """(num_envs, num_vehicles, 3): x, y [m], heading [rad]; NaN for a vehicle not there."""
        ...


class _Frame(NamedTuple):
    """What `RolloutRecorder.capture` was given, for all copies of the environment."""

    snapshot: torch.Tensor
    action: torch.Tensor | None
    reward: torch.Tensor | None
    terms: torch.Tensor | None
    ended: torch.Tensor | None


class FrameSpool:
    """Rows of numbers on disk, appended in blocks and read in columns."""

    def __init__(self, folder: Path, width: int, dtype: np.dtype) -> None:
        """Open an unnamed file in `folder`, gone when it is closed or the process ends."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed in close)
        self.width, self.dtype = width, dtype
        self.num_frames = 0

    def append(self, rows: np.ndarray) -> None:
        """Append rows (n, width)."""
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
        self.num_frames += len(rows)

    def columns(self, start: int, stop: int) -> np.ndarray:
        """The columns from `start` to `stop` of all rows, (frames, stop - start)."""
        self._file.flush()
        shape = (self.num_frames, self.width)
        return np.array(np.memmap(self._file, self.dtype, "r", shape=shape)[:, start:stop])

    def close(self) -> None:
        """Free the file."""
        self._file.close()


class RolloutRecorder:
    """Records the poses of an environment frame by frame into one USD file.

    Frame k is time code k. Frame 0 is where the environment stands before the first step. With
    Gymnasium's same-step reset, the frame after an episode's last step shows the next one's start,
    while its reward and return are those of the step that ended.

    The file is complete after the ``with`` block, however that ends.
    """

    def __init__(
        self,
        env: Any,
        path: str | os.PathLike[str],
        *,
        env_indices: Sequence[int] | None = None,
        fps: float | None = None,
        details: bool | None = None,
    ) -> None:
        """Prepare a recording; nothing is written yet.

        Args:
            env: a `RobotSource` or a `TrafficSource`.
            path: of the file to write, ending in .usdc, .usda or .usdz.
            env_indices: which of the environment's copies are recorded; None for all.
            fps: frames shown in a second; None for real time.
            details: whether the reward's terms and the ground's forces are recorded where the
                environment tells them, which make the file up to a third larger; None: of up to
                `DETAILED` environments.

        Raises:
            ValueError: an environment with nothing to draw, a path with another ending or in a
                folder that does not exist, or an index or rate out of range.
        """
        self.path = _check_path(path)
        self._env = env
        self._indices = _check_indices(env_indices, env)
        detailed = len(self._indices) <= DETAILED if details is None else details
        scene = _scene(env, self._indices, self.path.parent, detailed)
        if scene is None:
            name = getattr(getattr(env, "spec", None), "id", type(env).__name__)
            raise ArgumentError("env", name, "one with bodies or vehicles to record")
        self._scene: Scene = scene
        self.fps = 1.0 / float(env.control_step) if fps is None else _check_fps(fps)
        self._terms: tuple[str, ...] = tuple(getattr(env, "reward_terms", ())) if detailed else ()
        # Of each environment and frame, after its poses: name -> numbers
        self._widths = {
            "action": int(getattr(env, "num_actions", 0)),
            "reward": 1,
            "return": 1,
            "rewardTerms": len(self._terms),
            "contacts": scene.contact_width,
        }
        self._spool: FrameSpool | None = None
        self._block: list[_Frame] = []
        self._returns = np.zeros(len(self._indices))
        self._given: set[str] = set()
        self._written = 0
        self._write_from = -np.inf  # the time from which the file may be written anew [s]

    @property
    def num_frames(self) -> int:
        """Frames captured so far."""
        return len(self._block) + (self._spool.num_frames if self._spool else 0)

    # The loop -----------------------------------------------------------------------------------

    def __enter__(self) -> RolloutRecorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None or self.num_frames > 0:
            self.close()

    def step(self, actions: torch.Tensor) -> tuple[Any, ...]:
        """Step the environment and capture the frame; the first call captures frame 0 before."""
        if self.num_frames == 0:
            self.capture()
        result = self._env.step(actions)
        _, reward, terminated, truncated, info = result
        self.capture(actions, reward, terminated | truncated, info.get("reward_terms"))
        return result

    def capture(
        self,
        action: torch.Tensor | None = None,
        reward: torch.Tensor | None = None,
        ended: torch.Tensor | None = None,
        reward_terms: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Record the environment as it stands, as the next frame.

        Args:
            action: what led here, (num_envs, num_actions).
            reward: what it earned, (num_envs,).
            ended: whether the episode ended with it, bool (num_envs,): the return starts again.
            reward_terms: what the reward is the sum of, name -> (num_envs,), of the names that the
                environment's ``reward_terms`` tells; one that is not finite is recorded as 0.

        Raises:
            ValueError: a pose of this frame, or of one shortly before, is not finite; a term that
                `reward_terms` lacks.
        """
        terms = None if reward_terms is None else self._in_order(reward_terms)
        if action is not None:
            action = action.detach().clone()  # the caller's, who may write into it
        with torch.no_grad():
            snapshot = self._scene.snapshot(self._env)
        self._block.append(_Frame(snapshot, action, reward, terms, ended))
        due = time.perf_counter() >= self._write_from
        if due or len(self._block) >= _BLOCK:
            self._flush()
        if due:
            self._write()

    def close(self) -> None:
        """Write the file with all frames captured.

        Raises:
            ValueError: no frame has been captured.
        """
        if self.num_frames == 0:
            raise ArgumentError(str(self.path), "nothing captured", "one frame or more")
        try:
            self._flush()
        finally:
            if self._spool is not None:
                if self._spool.num_frames > self._written:
                    self._write()
                self._spool.close()

    # Inside -------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Move the block from memory to disk, and note where its bodies were.

        Raises:
            ValueError: a pose is not finite; the frames before it are kept.
        """
        block, self._block = self._block, []
        if not block:
            return
        count, length = len(self._indices), len(block)
        with torch.no_grad():
            snapshots = self._stack([frame.snapshot for frame in block])
            seen = [self._scene.poses(self._env, snapshots)]
            seen += [self._scene.contacts(self._env, snapshots)]
        poses, contacts = (numbers.cpu().numpy().reshape(length, count, -1) for numbers in seen)
        if self._spool is None:
            dtype = np.dtype(np.float64 if poses.dtype == np.float64 else np.float32)
            width = count * (poses.shape[2] + sum(self._widths.values())) + 3
            self._spool = FrameSpool(self.path.parent, width, dtype)
        bad = self._scene.first_bad_frame(poses)
        if bad == 0:
            raise ArgumentError("poses", f"frame {self._spool.num_frames}", "finite numbers")
        contacts = np.where(np.isfinite(contacts), contacts, 0.0)
        parts = [poses, *self._signals(block), contacts]
        center = self._scene.observe(poses[:bad])
        rows = np.concatenate(parts, axis=2, dtype=self._spool.dtype).reshape(length, -1)
        self._spool.append(np.concatenate([rows[:bad], center], axis=1))
        if bad is not None:
            raise ArgumentError("poses", f"frame {self._spool.num_frames}", "finite numbers")

    def _stack(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """Tensors (num_envs, ...) of consecutive frames as (frames, recorded envs, ...)."""
        stacked = torch.stack(tensors).detach()
        everything = self._indices == tuple(range(stacked.shape[1]))
        return stacked if everything else stacked[:, list(self._indices)]

    def _in_order(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """The environment's terms as columns (num_envs, terms), None if it tells of none."""
        if not self._terms:
            return None
        if missing := [name for name in self._terms if name not in terms]:
            raise ArgumentError("reward_terms", f"{list(terms)}", f"{missing}, too")
        return torch.stack([terms[name].detach() for name in self._terms], dim=1)

    def _signals(self, block: list[_Frame]) -> list[np.ndarray]:
        """Actions, rewards, returns and terms of the reward, each (frames, envs, numbers)."""
        shape = (len(block), len(self._indices))
        wide = ("action", "reward", "return", "rewardTerms")
        action, reward, returns, terms = (np.zeros((*shape, self._widths[name])) for name in wide)
        ended = np.zeros((*shape, 1), dtype=bool)
        rows_of = {"action": action, "reward": reward, "terms": terms, "ended": ended}
        for known, rows in rows_of.items():
            given = [k for k, frame in enumerate(block) if getattr(frame, known) is not None]
            if given and rows.size > 0:
                values = self._stack([getattr(block[k], known) for k in given])
                rows[given] = values.cpu().numpy().reshape(len(given), *rows.shape[1:])
                self._given.add(known)
        for k in range(len(block)):
            self._returns += reward[k, :, 0]
            returns[k, :, 0] = self._returns
            self._returns[ended[k, :, 0]] = 0.0
        return [action, reward, returns, np.where(np.isfinite(terms), terms, 0.0)]

    def _write(self) -> None:
        """Write the file anew and put it in its place at once."""
        spool = self._spool
        assert spool is not None
        started = time.perf_counter()
        work = self.path.with_name(f".{self.path.stem}.{uuid.uuid4().hex[:8]}.usdc")
        try:
            self._build(work, spool)
            _finish(work, self.path)
        finally:
            work.unlink(missing_ok=True)
        self._written = spool.num_frames
        ended = time.perf_counter()
        self._write_from = ended + _PATIENCE * (ended - started)

    def _build(self, work: Path, spool: FrameSpool) -> None:
        layer = Sdf.Layer.CreateNew(str(work))
        count = len(self._indices)
        per_env = (spool.width - 3) // count
        needs = {"action": "action", "reward": "reward", "return": "reward", "rewardTerms": "terms"}
        widths = list(self._widths.values())
        starts = per_env - sum(widths) + np.cumsum([0, *widths[:-1]])

        def recorded(number: int) -> Recorded:
            rows = spool.columns(number * per_env, (number + 1) * per_env)
            ends = zip(self._widths, starts, widths, strict=True)
            parts = {name: rows[:, start : start + width] for name, start, width in ends}
            signals = {name: parts[name] for name, needed in needs.items() if needed in self._given}
            return Recorded(rows[:, : starts[0]], signals, self._terms, parts["contacts"])

        track = spool.columns(spool.width - 3, spool.width)
        pieces = self._scene.build(layer, self.fps, track, recorded)
        _save_by_pieces(layer, pieces)


def _save_by_pieces(layer: Sdf.Layer, pieces: Iterator[int]) -> None:
    """Save a layer while it is written: what has been saved need not stay in memory."""
    pending = 0
    for written in pieces:
        pending += written
        if pending > 200_000:
            layer.Save()
            pending = 0
    layer.Save()


def _finish(work: Path, path: Path) -> None:
    """Turn the .usdc file `work` into `path`, which changes in one go."""
    if path.suffix == ".usdc":
        os.replace(work, path)
        return
    made = work.with_suffix(path.suffix)
    try:
        if path.suffix == ".usda":
            Sdf.Layer.FindOrOpen(str(work)).Export(str(made))
        else:
            UsdUtils.CreateNewUsdzPackage(str(work), str(made), f"{path.stem}.usdc")
        os.replace(made, path)
    finally:
        made.unlink(missing_ok=True)


def _scene(env: Any, indices: Sequence[int], folder: Path, detailed: bool) -> Scene | None:
    if isinstance(env, RobotSource):
        touching = detailed and isinstance(env, TouchingRobotSource)
        return RobotScene(
            env.asset_path,
            env.body_paths,
            indices,
            folder,
            isinstance(env, PosableRobotSource),
            getattr(env, "ground_surface", None),
            Touching(env.ground_contacts.bodies, env.weight) if touching else NOTHING_TOUCHES,
        )
    if isinstance(env, TrafficSource):
        lengths = np.asarray(env.vehicle_lengths, dtype=np.float64)
        lines = getattr(env, "lane_lines", None)
        width = env.lane_width
        count, center = env.num_lanes, getattr(env, "view_center", None)
        road = Road(count, width) if lines is None else LaneRoads(lines(), count, width, center)
        stops = env.stop_lines() if hasattr(env, "stop_lines") else np.zeros((0, 2, 2))
        lines = stops if len(stops) else None
        return TrafficScene(road, lengths, env.num_autonomous, indices, lines)
    return None


def _check_path(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ArgumentError("path", repr(str(path)), f"a file ending in {SUFFIXES}")
    if not path.parent.is_dir():
        raise ArgumentError("path", repr(str(path)), "a file in an existing folder")
    return path


def _check_indices(indices: Sequence[int] | None, env: Any) -> tuple[int, ...]:
    num_envs = int(env.num_envs)
    chosen = tuple(range(num_envs)) if indices is None else tuple(int(i) for i in indices)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(num_envs)):
        accepted = f"different numbers from 0 to {num_envs - 1}"
        raise ArgumentError("env_indices", repr(indices), accepted)
    return chosen


def _check_fps(fps: float) -> float:
    check_positive("fps", fps)
    return float(fps)
