"""The ground in recordings, and a camera that keeps the robot in view whatever it does."""

import numpy as np
import pytest
import torch
from pxr import Usd, UsdGeom, UsdPhysics

from warp_envs.recording.recorder import RolloutRecorder
from warp_envs.robots.base import asset_path
from warp_envs.robots.terrain import make_ground
from warp_envs.usd.ground import Plane
from warp_envs.usd.loader import load_robot
from warp_envs.viewing.drawing import camera_matrices
from warp_envs.viewing.playback import read_playback

ASSET = asset_path("cartpole.usda")  # two bodies; where they are is made up here


class Flying:
    """A robot whose bodies are where it is told, all in one place."""

    num_envs = 1
    control_step = 0.1
    asset_path = ASSET
    body_paths = tuple(body.path for body in load_robot(ASSET).bodies)

    def __init__(self, ground=None):
        self.ground_surface = ground
        self.place = np.zeros(3)

    def body_poses(self):
        pose = np.array([*self.place, 0.0, 0.0, 0.0, 1.0])
        return torch.tensor(np.tile(pose, (1, len(self.body_paths), 1)))


def record(path, places, ground=None):
    robot = Flying(ground)
    with RolloutRecorder(robot, path) as recorder:
        for place in places:
            robot.place = np.array(place)
            recorder.capture()
    return Usd.Stage.Open(str(path))


STRAIGHT = np.linspace(0.0, 1.0, 60)[:, None]
WAYS = {
    "falls": STRAIGHT**2 * [0.0, 0.0, -2000.0],
    "flies": STRAIGHT**3 * [1e7, 2e6, 3e5],
    "starts again": np.where(STRAIGHT < 0.5, STRAIGHT, STRAIGHT - 0.5) * [40.0, 5.0, 0.0],
}


@pytest.mark.parametrize("way", WAYS)
def test_the_robot_is_in_view_in_every_frame(tmp_path, way):
    stage = record(tmp_path / "way.usdc", WAYS[way])
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/Camera"))
    for frame, place in enumerate(WAYS[way]):
        matrix, tangents = camera_matrices(camera, frame)
        seen = np.append(place, 1.0) @ matrix
        assert np.all(np.abs(seen[:2] / -seen[2]) < tangents) and 0.5 < -seen[2] < 100.0
    tiles = UsdGeom.Mesh(stage.GetPrimAtPath("/World/Ground/light_tiles"))
    points = np.array(tiles.GetPointsAttr().Get())
    assert len(points) < 10_000 and np.abs(points[:, :2]).max() < 1e4


def test_a_tilted_plane_is_drawn_where_it_is(tmp_path):
    ground = Plane(0.3, np.array([0.2, -0.1]))
    stage = record(tmp_path / "plane.usdc", [[0.0, 0.0, 1.0]] * 2, ground)
    prim = stage.GetPrimAtPath("/World/Ground/light_tiles")
    matrix = np.array(UsdGeom.XformCache().GetLocalToWorldTransform(prim))
    points = np.array(UsdGeom.Mesh(prim).GetPointsAttr().Get()) @ matrix[:3, :3] + matrix[3, :3]
    np.testing.assert_allclose(points[:, 2], ground.surface(points[:, :2])[:, 0], atol=1e-5)


def test_a_height_field_is_drawn_around_the_robot_and_is_a_collider(tmp_path):
    ground = make_ground("stairs")
    path = tmp_path / "stairs.usdc"
    stage = record(path, [[0.0, 0.0, 1.0], [6.0, 0.0, 1.0]], ground)
    for name in ("light", "dark"):
        prim = stage.GetPrimAtPath(f"/World/Ground/env_0/{name}")
        assert prim.HasAPI(UsdPhysics.CollisionAPI)
        points = np.array(UsdGeom.Mesh(prim).GetPointsAttr().Get())
        np.testing.assert_allclose(points[:, 2], ground.surface(points[:, :2])[:, 0], atol=1e-5)
        assert points[:, 0].max() > 6.0 and len(points) < 161**2 + 1
    assert sum(shape["kind"] == "mesh" for shape in read_playback(path).shapes) == 2


def test_the_ground_of_an_asset_is_not_copied_with_each_robot(tmp_path):
    asset = tmp_path / "robot.usda"
    text = ASSET.read_text()
    at = text.rindex("}")
    asset.write_text(
        text[:at]
        + 'def Plane "floor" (prepend apiSchemas = ["PhysicsCollisionAPI"])\n{\n}\n'
        + text[at:]
    )
    robot = Flying(Plane())
    robot.asset_path = asset
    with RolloutRecorder(robot, tmp_path / "copy.usda") as recorder:
        recorder.capture()
    assert "Plane" not in (tmp_path / "copy.usda").read_text()
