"""What a recording shows: where the environments stand, and how robots and traffic are written."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pxr import Sdf, Usd, UsdGeom

from warp_envs.recording.road import (
    CAR_HEIGHT,
    MAX_SINGLE_CARS,
    CarWriter,
    LaneRoads,
    Road,
    add_cars,
    declare_env,
)
from warp_envs.recording.robots import ENVS, PROTOTYPE, RobotAsset, RobotWriter
from warp_envs.recording.signals import write_contacts, write_signals
from warp_envs.recording.stop_lines import add_stop_lines, write_lights
from warp_envs.usd.ground import Ground, HeightField, Plane
from warp_envs.usd.scene import (
    MEADOW,
    STUDIO,
    WORLD,
    Box,
    Timing,
    add_camera,
    add_field,
    add_ground,
    add_lights,
    add_physics,
    new_stage,
)


class Recorded(NamedTuple):
    """What was recorded of an environment."""

    poses: np.ndarray
    """(frames, n)."""
    signals: dict[str, np.ndarray]
    """Name -> (frames, n)."""
    terms: Sequence[str]
    """Names of the reward's terms, of which ``signals["rewardTerms"]`` has the columns."""
    contacts: np.ndarray
    """The ground's force on each body that can touch it, and where, (frames, 6 bodies)."""


class Touching(NamedTuple):
    """What of a robot touches the ground."""

    bodies: Sequence[int]
    """Indices among its bodies."""
    weight: float
    """The force that holds it up at rest [N]."""


NOTHING_TOUCHES = Touching((), 0.0)


_STOP_LINES = "StopLines"
_TRAVELS = 2.0  # robots that go this many times their own length stand side by side
_LANE = 3.0  # there none has more room across than this many times its own width
_FOLLOW = 2.0  # the camera follows what ranges over this many times its own size
_LAG = 0.5  # but no point of its path is further from what it follows, of that one's size
_SHOULDER = 0.6  # [m] of uneven ground around where a robot has been
_SMOOTHING = 0.7  # [s], of the camera's path


class Extents:
    """Where the environments' contents were, in each one's own frame.

    Attributes:
        lower: least corner over all frames (envs, 3) [m].
        upper: greatest corner.
        near_lower: the same, seen from the centre of the frame's contents.
        near_upper: the same.
    """

    def __init__(self, num_envs: int) -> None:
        """Nothing seen yet."""
        self.lower = np.full((num_envs, 3), np.inf)
        self.near_lower = np.full((num_envs, 3), np.inf)
        self.upper = np.full((num_envs, 3), -np.inf)
        self.near_upper = np.full((num_envs, 3), -np.inf)

    def add(self, lower: np.ndarray, upper: np.ndarray, center: np.ndarray) -> None:
        """Take in corners (frames, envs, 3) and the contents' centre (frames, 3)."""
        self.lower = np.minimum(self.lower, lower.min(axis=0))
        self.upper = np.maximum(self.upper, upper.max(axis=0))
        self.near_lower = np.minimum(self.near_lower, (lower - center[:, None]).min(axis=0))
        self.near_upper = np.maximum(self.near_upper, (upper - center[:, None]).max(axis=0))

    def whole(self, offsets: np.ndarray) -> Box:
        """The box around everything, the environments standing at `offsets` (envs, 3)."""
        return Box((self.lower + offsets).min(axis=0), (self.upper + offsets).max(axis=0))

    def near(self, offsets: np.ndarray) -> Box:
        """The box that, moved with the centre, has everything in it."""
        return Box((self.near_lower + offsets).min(axis=0), (self.near_upper + offsets).max(axis=0))


class Scene(ABC):
    """What is recorded and how it is written."""

    def __init__(self, indices: Sequence[int]) -> None:
        """Of the environments with these indices."""
        self.indices = indices
        self.extents = Extents(len(indices))
        self.footprint = np.zeros(2)  # room that a thing takes where it stands, still parts and all
        self.contact_width = 0  # numbers of an environment in what `contacts` returns

    @abstractmethod
    def snapshot(self, env: Any) -> torch.Tensor:
        """What the current poses of all environments follow from, (num_envs, ...)."""

    def poses(self, env: Any, snapshots: torch.Tensor) -> torch.Tensor:
        """Poses (frames, envs, ...) of snapshots (frames, envs, ...): here, these themselves."""
        return snapshots

    def contacts(self, env: Any, snapshots: torch.Tensor) -> torch.Tensor:
        """The ground's forces in snapshots, (frames, envs, contact_width): here, none."""
        return snapshots.new_zeros((*snapshots.shape[:2], 0))

    def first_bad_frame(self, poses: np.ndarray) -> int | None:
        """The first of (frames, envs, numbers) with a pose that is not finite, None without one."""
        finite = np.isfinite(poses).all(axis=(1, 2))
        return None if finite.all() else int(finite.argmin())

    @abstractmethod
    def observe(self, poses: np.ndarray) -> np.ndarray:
        """Take notice of a block of frames.

        Args:
            poses: (frames, envs, numbers).

        Returns:
            The centre of what there is to see in each frame, (frames, 3) [m].
        """

    @abstractmethod
    def build(
        self,
        layer: Sdf.Layer,
        fps: float,
        track: np.ndarray,
        recorded: Callable[[int], Recorded],
    ) -> Iterator[int]:
        """Write everything into an empty layer; gives the samples written, piece by piece.

        Args:
            layer: takes it.
            fps: frames in a second.
            track: what `observe` returned, all frames.
            recorded: what there is of an environment, by its number.
        """

    def _add_camera(
        self, layer: Sdf.Layer, offsets: np.ndarray, track: np.ndarray, fps: float, road: bool
    ) -> None:
        whole, near = self.extents.whole(offsets), self.extents.near(offsets)
        own = max(np.max(near.size[:2]), np.max(self.footprint))
        rises = whole.size[2] > _FOLLOW * max(own, near.size[2])
        if np.max(whole.size[:2]) <= _FOLLOW * own and not rises:
            add_camera(layer, whole, along_road=road)
            return
        path = _smooth(track, max(1, round(_SMOOTHING * fps)))
        reach = _LAG * max(own, near.size[2])
        path = track - np.clip(track - path, -reach, reach)  # at a jump it jumps along
        if not rises:
            path[:, 2] = path[:, 2].mean()  # it does not bounce along
        aside = np.abs(track - path).max(axis=0) * [1.0, 1.0, float(rises)]
        start = Box(near.lower + path[0] - aside, near.upper + path[0] + aside)
        add_camera(layer, start, path, along_road=road)


class RobotScene(Scene):
    """Robots on a chequered floor."""

    def __init__(
        self,
        asset: str | os.PathLike[str],
        body_paths: Sequence[str],
        indices: Sequence[int],
        folder: Path,
        posable: bool,
        ground: Ground | None = None,
        touching: Touching = NOTHING_TOUCHES,
    ) -> None:
        """Robots from an asset.

        Args:
            asset: the robot's file.
            body_paths: as `RobotAsset` wants them.
            indices: of the environments.
            folder: where the recording will be.
            posable: whether the environment is a `PosableRobotSource`.
            ground: what the robots stand on; None: a floor below everything, at z = 0 at most.
            touching: what is recorded of contacts, by which the environment is a
                `TouchingRobotSource`.
        """
        super().__init__(indices)
        self.ground = ground
        self.asset = RobotAsset(asset, body_paths)
        self.prototype = self.asset.prototype(folder)
        self.posable = posable
        self.touching = touching
        self.contact_width = 6 * len(touching.bodies)
        self.footprint = np.maximum(self.asset.rest_box.size[:2], 0.1)

    def snapshot(self, env: Any) -> torch.Tensor:
        """Poses of the bodies, or joint positions if these are enough, then what contacts take."""
        stance = env.joint_positions() if self.posable else env.body_poses()
        if not self.touching.bodies:
            return stance
        stance = stance.flatten(1)
        self._stance_width = stance.shape[1]
        return torch.cat([stance, env.contact_states()], dim=1)

    def poses(self, env: Any, snapshots: torch.Tensor) -> torch.Tensor:
        """Of the bodies."""
        if self.touching.bodies:
            snapshots = snapshots[..., : self._stance_width]
        return env.body_poses_at(snapshots.flatten(0, 1)) if self.posable else snapshots

    def contacts(self, env: Any, snapshots: torch.Tensor) -> torch.Tensor:
        """Of the bodies that can touch the ground: force and place."""
        if not self.touching.bodies:
            return super().contacts(env, snapshots)
        states = snapshots[..., self._stance_width :]
        return env.ground_contacts.at(states.flatten(0, 1)).reshape(*states.shape[:2], -1)

    def observe(self, poses: np.ndarray) -> np.ndarray:
        """The mean of the robots' first bodies is the centre."""
        posed = poses.reshape(*poses.shape[:2], -1, 7)
        lower, upper = self.asset.corners(posed)
        center = posed[:, :, 0, :3].mean(axis=1)
        self.extents.add(lower, upper, center)
        return center

    def offsets(self) -> np.ndarray:
        """Where the environments stand, (envs, 3) [m]: a grid, or side by side if they travel."""
        rest = self.asset.rest_box
        # What of the asset does not move (a rail) needs its room, too.
        size = np.maximum((self.extents.upper - self.extents.lower).max(axis=0), rest.size)[:2]
        footprint, count = self.footprint, len(self.indices)
        if size[0] > (1.0 + _TRAVELS) * footprint[0] and not isinstance(self.ground, HeightField):
            return self._on_plane(self._side_by_side(footprint[1]))
        step = size + 0.25 * np.minimum(footprint, size) + 0.1
        if isinstance(self.ground, HeightField):
            step = size + 2.5 * _SHOULDER  # each has a piece of ground of its own
        columns = max(1, round(np.sqrt(count * step[1] / step[0])))
        rows = -(-count // columns)
        number = np.arange(count)
        x = (number % columns - 0.5 * (columns - 1)) * step[0]
        y = (number // columns - 0.5 * (rows - 1)) * step[1]
        return self._on_plane(np.stack([x, y, np.zeros(count)], axis=1))

    def _on_plane(self, offsets: np.ndarray) -> np.ndarray:
        """Offsets along a sloped plane, so that all environments share it."""
        if isinstance(self.ground, Plane):
            offsets[:, 2] = offsets[:, :2] @ self.ground.slope
        return offsets

    def _add_floor(self, stage: Usd.Stage, whole: Box, offsets: np.ndarray) -> None:
        if isinstance(self.ground, HeightField):
            lower, upper = self.extents.lower - _SHOULDER, self.extents.upper + _SHOULDER
            for number, offset in enumerate(offsets):
                path = WORLD.AppendPath(f"Ground/env_{self.indices[number]}")
                add_field(stage, path, self.ground, Box(lower[number], upper[number]), offset)
        elif self.ground is not None:
            add_ground(stage, whole, self.ground.height, STUDIO, self.ground.slope)
        else:
            lowest = float(whole.lower[2])
            height = 0.0 if lowest > -0.2 else lowest - 0.05 * float(np.max(whole.size))
            add_ground(stage, whole, height, STUDIO)

    def _side_by_side(self, footprint: float) -> np.ndarray:
        """Each robot has the room across that it took beside the others' common way."""
        extents = self.extents
        reach = 0.5 * _LANE * footprint
        lower = np.clip(extents.near_lower[:, 1], -reach, -0.5 * footprint)
        upper = np.clip(extents.near_upper[:, 1], 0.5 * footprint, reach)
        ends = np.cumsum(upper - lower + 0.25 * footprint)
        offsets = np.zeros((len(lower), 3))
        offsets[:, 1] = ends - upper - 0.5 * ends[-1]
        return offsets

    def build(
        self,
        layer: Sdf.Layer,
        fps: float,
        track: np.ndarray,
        recorded: Callable[[int], Recorded],
    ) -> Iterator[int]:
        """The ground that the robots touch; else a floor at z = 0, or below everything."""
        offsets = self.offsets()
        rest = self.asset.rest_box
        self.extents.lower = np.minimum(self.extents.lower, rest.lower)
        self.extents.upper = np.maximum(self.extents.upper, rest.upper)
        whole = self.extents.whole(offsets)
        comment = f"{len(offsets)} x {self.asset.name}, recorded by gippo"
        stage = new_stage(layer, Timing(len(track), fps), comment)
        self._add_floor(stage, whole, offsets)
        add_lights(stage)
        add_physics(stage, self.asset.gravity())
        del stage  # what follows goes past it, faster
        self._add_camera(layer, offsets, track, fps, road=False)
        prototypes = PROTOTYPE.GetParentPath()
        Sdf.CreatePrimInLayer(layer, prototypes)
        Sdf.CopySpec(self.prototype, prototypes, layer, prototypes)
        writer = RobotWriter(layer, self.asset)
        for number, index in enumerate(self.indices):
            seen = recorded(number)
            name = f"env_{index}"
            poses = seen.poses.reshape(len(seen.poses), -1, 7)
            yield from writer.write(name, offsets[number], poses)
            path = ENVS.AppendChild(name)
            yield write_signals(layer, path, seen.signals, seen.terms)
            bodies = [self.asset.bodies[body].path for body in self.touching.bodies]
            yield write_contacts(layer, path, bodies, self.touching.weight, seen.contacts)


class TrafficScene(Scene):
    """Cars on roads that lie side by side."""

    def __init__(
        self,
        road: Road | LaneRoads,
        lengths: np.ndarray,
        num_autonomous: int,
        indices: Sequence[int],
        stop_lines: np.ndarray | None = None,
    ) -> None:
        """Roads of one kind, see `CarWriter`; of signals' lines see `add_stop_lines`."""
        super().__init__(indices)
        self.road, self.stop_lines = road, stop_lines
        self.lengths, self.num_autonomous = lengths, num_autonomous

    def snapshot(self, env: Any) -> torch.Tensor:
        """Poses of the vehicles, then what signals show if there are any: (num_envs, n)."""
        poses = env.vehicle_poses().flatten(1)
        return poses if self.stop_lines is None else torch.cat([poses, env.lights.to(poses)], dim=1)

    def first_bad_frame(self, poses: np.ndarray) -> int | None:
        """The first with an infinite pose; NaN stands for a vehicle that is not there."""
        return super().first_bad_frame(np.nan_to_num(poses, nan=0.0, posinf=np.inf, neginf=-np.inf))

    def observe(self, poses: np.ndarray) -> np.ndarray:
        """The mean of the vehicles there, in the road's middle, is the centre.

        Of lanes that lie anywhere it is their middle: all of them are seen.
        """
        posed = self._vehicles(poses)[..., :2]
        there = ~np.isnan(posed).any(axis=-1, keepdims=True)
        count = np.maximum(there.sum(axis=(1, 2)), 1)[:, 0]
        center = np.zeros((len(posed), 3))
        center[:, 0] = np.where(there, posed, 0.0)[..., 0].sum(axis=(1, 2)) / count
        center[:, 1] = 0.5 * sum(self.road.edges)
        if isinstance(self.road, LaneRoads):
            box = self.road.box
            center[:, 0] = 0.5 * (box.lower[0] + box.upper[0])
            shape = (len(posed), posed.shape[1], 1)
            self.extents.add(np.tile(box.lower, shape), np.tile(box.upper, shape), center)
            return center
        far = 0.5 * self.lengths.max()
        road = np.tile(center[:, None, None, :2], (1, *posed.shape[1:3], 1))
        lower = np.where(there, posed - far, road).min(axis=2)
        upper = np.where(there, posed + far, road).max(axis=2)
        ground = np.zeros((*lower.shape[:2], 1))
        self.extents.add(
            np.dstack([lower, ground]), np.dstack([upper, ground + CAR_HEIGHT]), center
        )
        return center

    def _vehicles(self, rows: np.ndarray) -> np.ndarray:
        """Of rows (..., n) the vehicles' poses (..., vehicles, 3)."""
        return rows[..., : 3 * len(self.lengths)].reshape(*rows.shape[:-1], -1, 3)

    def build(
        self,
        layer: Sdf.Layer,
        fps: float,
        track: np.ndarray,
        recorded: Callable[[int], Recorded],
    ) -> Iterator[int]:
        """Roads on a plain floor."""
        count = len(self.indices)
        width = self.road.edges[1] - self.road.edges[0] + 4.0
        offsets = np.zeros((count, 3))
        offsets[:, 1] = (np.arange(count) - 0.5 * (count - 1)) * width
        whole = self.extents.whole(offsets)
        comment = f"{count} x {self.road.num_lanes} lanes of traffic, recorded by gippo"
        stage = new_stage(layer, Timing(len(track), fps), comment)
        add_ground(stage, whole, -0.05, MEADOW)
        add_lights(stage)
        add_cars(stage)
        UsdGeom.Scope.Define(stage, ENVS)
        for index, offset in zip(self.indices, offsets, strict=True):
            env = ENVS.AppendChild(f"env_{index}")
            declare_env(layer, env, offset)
            first, last = float(whole.lower[0]), float(whole.upper[0])
            self.road.write(stage, env.AppendChild("Road"), first, last)
            if self.stop_lines is not None:
                add_stop_lines(stage, env.AppendChild(_STOP_LINES), self.stop_lines)
        del stage
        layer.GetPrimAtPath(ENVS).SetInfo("kind", "group")
        self._add_camera(layer, offsets, track, fps, road=True)
        instanced = count * len(self.lengths) > MAX_SINGLE_CARS
        writer = CarWriter(layer, self.lengths, self.num_autonomous)
        for number, index in enumerate(self.indices):
            seen = recorded(number)
            env = ENVS.AppendChild(f"env_{index}")
            yield from writer.write(env, self._vehicles(seen.poses), instanced)
            if self.stop_lines is not None:
                lights = seen.poses[:, 3 * len(self.lengths) :].round()
                yield write_lights(layer, env.AppendChild(_STOP_LINES), lights)
            yield write_signals(layer, env, seen.signals, seen.terms)


def _smooth(track: np.ndarray, window: int) -> np.ndarray:
    """The moving average of a path (frames, 3) over up to `window` frames to either side."""
    padded = np.pad(track.astype(np.float64), ((window, window), (0, 0)), mode="edge")
    total = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0)
    return (total[2 * window + 1 :] - total[: -2 * window - 1]) / (2 * window + 1)
