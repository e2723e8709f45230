"""Newton's viewers are given the robots and cars where the file has them."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.warp_envs.recording.recorded import Cars, Puppet, nested, stage_of, world_matrix
from tests.warp_envs.recording.test_recorder import record
from warp_envs.usd.description import rotation_matrix
from warp_envs.viewing.newton_viewer import play_in_newton, show_in_newton
from warp_envs.viewing.playback import read_playback


@pytest.fixture(scope="module")
def newton():
    """Imported where it is used: that takes seconds, and one of several workers needs it."""
    return pytest.importorskip("newton", reason="the extra gippo[newton] is not installed")


def shown(newton, path):
    """Of each frame what was logged: type, sizes and poses of each batch."""
    frames: list = []
    shapes = {}

    class Viewer(newton.viewer.ViewerNull):
        def begin_frame(self, time):
            super().begin_frame(time)
            frames.append([])

        def log_geo(self, name, geo_type, geo_scale, *others, **options):
            shapes[name] = (newton.GeoType(geo_type).name, geo_scale)
            super().log_geo(name, geo_type, geo_scale, *others, **options)

        def log_instances(self, name, mesh, xforms, scales, colors, materials, **options):
            first = len(frames) == 1
            assert (colors is not None) == (materials is not None) == first
            frames[-1].append((*shapes[mesh], xforms.numpy()))
            super().log_instances(name, mesh, xforms, scales, colors, materials, **options)

    playback = read_playback(path)
    viewer = Viewer(num_frames=10_000)
    viewer.camera = SimpleNamespace(fov=45.0, near=0.01)
    play_in_newton(playback, viewer, real_time=False)
    assert viewer.camera.fov == playback.camera["angle"]
    away = np.linalg.norm(playback.camera["aim"][-1] - playback.camera["eye"][-1])
    assert_allclose(viewer.camera.near, 0.005 * away)
    assert len(frames) == len(playback.poses)
    return frames


def test_robots(newton, tmp_path):
    (tmp_path / "puppet.usda").write_text(nested(unit=0.01, up="Y"))
    record(Puppet(tmp_path / "puppet.usda", num_envs=2), tmp_path / "out.usdc")
    stage = stage_of(tmp_path / "out.usdc")
    frames = shown(newton, tmp_path / "out.usdc")
    for frame in (0, 5):
        (bones,) = [batch for batch in frames[frame] if batch[0] == "CAPSULE"]
        assert_allclose(bones[1], (0.1, 0.25), atol=1e-6)  # centimetres became metres
        for env, pose in enumerate(bones[2]):
            path = f"/World/envs/env_{env}/Robot/base/arm/bone"
            matrix = world_matrix(stage, path, frame)
            assert_allclose(pose[:3], matrix[3, :3], atol=1e-5)
            along = rotation_matrix(pose[3:].astype(float))[:, 2]  # the bone lies along its x
            axis = matrix[0, :3] / np.linalg.norm(matrix[0, :3])
            assert_allclose(along, axis, atol=1e-5)


def test_cars(newton, tmp_path):
    record(Cars(num_vehicles=3), tmp_path / "out.usdc")
    frames = shown(newton, tmp_path / "out.usdc")
    wheels = [np.concatenate([b[2] for b in f if b[0] == "CYLINDER"]) for f in frames]
    assert [len(poses) for poses in wheels] == [12] * 9
    assert [(poses[:, 2] > 0.0).sum() for poses in wheels] == [12] * 4 + [8] * 5  # one is gone
    assert any(batch[0] == "MESH" for batch in frames[0])


def test_unknown_viewers_are_refused(newton, tmp_path):
    with pytest.raises(
        ValueError, match=r"viewer: 'vrml' given, one of \['gl', 'viser', 'rerun'\]"
    ):
        show_in_newton(tmp_path / "out.usdc", "vrml")
