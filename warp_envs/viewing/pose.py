"""A still picture of a robot in one pose, from its USD file, without a simulation."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from warp_envs.articulation.stiffness import place_bodies
from warp_envs.recording.recorder import RolloutRecorder
from warp_envs.usd.description import RobotDescription
from warp_envs.usd.ground import Ground
from warp_envs.usd.stage import quat_of_matrix
from warp_envs.viewing.preview import render_contact_sheet


class _Posed:
    """A `RobotSource` of one robot that stands still."""

    num_envs = 1
    control_step = 1.0 / 60.0

    def __init__(self, asset: Path, robot: RobotDescription, q: np.ndarray) -> None:
        self.asset_path = asset
        self.body_paths = tuple(body.path for body in robot.bodies)
        self.ground_surface: Ground | None = robot.ground if robot.touches_ground else None
        poses = [[*p.position, *quat_of_matrix(p.rotation)] for p in place_bodies(robot, q)]
        self._poses = torch.tensor(np.array(poses)[None])

    def body_poses(self) -> torch.Tensor:
        """(1, bodies, 7): position [m] and unit quaternion xyzw, z up."""
        return self._poses


def render_pose(
    asset: str | os.PathLike[str],
    robot: RobotDescription,
    q: np.ndarray,
    png_path: str | os.PathLike[str],
) -> None:
    """Draw a robot at the coordinates q (nq,).

    Args:
        asset: its USD file.
        robot: what was read from it.
        q: coordinates.
        png_path: of the picture.

    Raises:
        ValueError: a file that cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        still = Path(folder) / "pose.usdc"
        with RolloutRecorder(_Posed(Path(asset), robot, q), still) as recorder:
            recorder.capture()
        render_contact_sheet(still, png_path, frames=1, columns=1)
