"""What the page is given is what the file holds: places, shapes, looks, signals, the camera."""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pxr import Gf, Usd, UsdGeom

from tests.warp_envs.recording.recorded import Cars, Puppet, nested, stage_of, world_matrix
from tests.warp_envs.recording.test_recorder import LAYOUTS, record
from tests.warp_envs.viewing.pages import read_page
from warp_envs.usd.description import rotation_matrix
from warp_envs.viewing.page import write_page
from warp_envs.viewing.playback import STATIC, read_playback


def matrix_of(playback, part, frame):
    """Where a part is drawn, as the page works it out; None where it is hidden."""
    if part.mover == STATIC:
        return part.matrix
    pose = playback.poses[frame, part.mover]
    if np.isnan(pose[0]):
        return None
    carrier = np.eye(4)
    carrier[:3, :3], carrier[3, :3] = rotation_matrix(pose[3:]).T, pose[:3]
    return part.matrix @ carrier


def drawn(playback, frame, kind):
    """The places of all parts of a kind, in an order of their own."""
    chosen = [part for part in playback.parts if playback.shapes[part.shape]["kind"] == kind]
    found = [matrix_of(playback, part, frame) for part in chosen]
    return np.array(sorted(m.round(5).tolist() for m in found if m is not None))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_robots_stand_where_the_file_has_them(layout, tmp_path):
    """Also bodies below bodies, below transforms and scales, and in other units."""
    (tmp_path / "puppet.usda").write_text(nested(**LAYOUTS[layout]))
    record(Puppet(tmp_path / "puppet.usda", num_envs=2), tmp_path / "out.usdc")
    playback, stage = read_playback(tmp_path / "out.usdc"), stage_of(tmp_path / "out.usdc")
    assert playback.poses.shape == (9, 6, 7)
    for kind, name in (("sphere", "group/hand/ball"), ("capsule", "base/arm/bone")):
        for frame in (0, 3, 8):
            paths = [f"/World/envs/env_{k}/Robot/{name}" for k in range(2)]
            wanted = [world_matrix(stage, path, frame).round(5).tolist() for path in paths]
            assert_allclose(drawn(playback, frame, kind), sorted(wanted), atol=2e-5)
    assert {part.env for part in playback.parts} == {STATIC, 0, 1}


def test_assets_of_other_units_are_shown_in_metres(tmp_path):
    for name, options in (("m", {}), ("cm", {"unit": 0.01, "up": "Y"})):
        (tmp_path / f"{name}.usda").write_text(nested(**options))
    metres, centimetres = (read_playback(tmp_path / f"{name}.usda") for name in ("m", "cm"))
    assert metres.poses.shape == centimetres.poses.shape == (1, 0, 7)
    sizes = [float(np.linalg.norm(drawn(p, 0, "box")[0][0][:3])) for p in (metres, centimetres)]
    edges = [p.shapes[p.parts[0].shape]["size"] for p in (metres, centimetres)]
    assert sizes[0] * edges[0] == pytest.approx(sizes[1] * edges[1]) == pytest.approx(0.5)
    assert_allclose(drawn(metres, 0, "box")[0][3], [0.0, 0.0, 0.5, 1.0], atol=1e-6)
    # What the y-up file calls (0, 0, h) lies along -y of the z-up world.
    assert_allclose(drawn(centimetres, 0, "box")[0][3], [0.0, -0.5, 0.0, 1.0], atol=1e-6)


def test_many_cars_are_drawn_as_single_ones_are(tmp_path):
    """Of one road as prims, and of two as instances, the first road is the same."""
    record(Cars(num_vehicles=11), tmp_path / "single.usdc")
    record(Cars(num_vehicles=11, num_envs=2), tmp_path / "many.usdc")
    single, many = (read_playback(tmp_path / f"{name}.usdc") for name in ("single", "many"))
    assert single.poses.shape[1] == 11
    assert many.poses.shape[1] == 22
    for frame, there in ((3, 11), (4, 10)):  # the third car is gone from frame 4 on
        one, two = (drawn(p, frame, "cylinder") for p in (single, many))
        assert (len(one), len(two)) == (4 * there, 8 * there)
        first = two[two[:, 3, 1] < np.median(two[:, 3, 1])]
        shift = one[:, 3, 1].min() - first[:, 3, 1].min()
        first[:, 3, 1] += shift
        assert_allclose(first, one, atol=2e-5)
    colors = {single.looks[part.look]["color"] for part in single.parts}
    assert {pytest.approx((0.9, 0.3, 0.05)) == color for color in colors} == {True, False}


def test_signals_and_camera(tmp_path):
    (tmp_path / "puppet.usda").write_text(nested())
    env = Puppet(tmp_path / "puppet.usda", num_envs=2, speed=1.0)
    record(env, tmp_path / "out.usdc", steps=30, fps=25)
    playback, stage = read_playback(tmp_path / "out.usdc"), stage_of(tmp_path / "out.usdc")
    assert (playback.fps, playback.envs) == (25.0, ["env_0", "env_1"])
    assert playback.signals["reward"][:3].tolist() == [[0, 0], [1, 1], [1, 1]]
    assert playback.signals["return"][:6, 1].tolist() == [0, 1, 2, 3, 4, 1]
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/Camera")).GetCamera(20)
    assert playback.camera is not None
    eye, aim = playback.camera["eye"], playback.camera["aim"]
    assert eye.shape == aim.shape == (31, 3)
    assert_allclose(eye[20], camera.transform.ExtractTranslation(), atol=1e-6)
    along = (aim[20] - eye[20]) / np.linalg.norm(aim[20] - eye[20])
    assert_allclose(along, camera.transform.TransformDir(Gf.Vec3d(0, 0, -1)), atol=1e-6)
    assert playback.camera["angle"] == pytest.approx(camera.GetFieldOfView(camera.FOVVertical))


def test_meshes_as_triangles_and_colours_without_material(tmp_path):
    stage = Usd.Stage.CreateNew(str(tmp_path / "mesh.usda"))
    UsdGeom.SetStageUpAxis(stage, "Z")
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    mesh = UsdGeom.Mesh.Define(stage, "/mesh")
    mesh.CreatePointsAttr([(0, 0, 0), (2, 0, 0), (2, 1, 0), (0, 1, 0), (0, 0, 3)])
    mesh.CreateFaceVertexCountsAttr([4, 3])
    mesh.CreateFaceVertexIndicesAttr([0, 1, 2, 3, 0, 3, 4])
    mesh.CreateDisplayColorAttr([(0.1, 0.2, 0.3)])
    stage.Save()
    playback = read_playback(tmp_path / "mesh.usda")
    (shape,), (look,) = playback.shapes, playback.looks
    wanted = [[0, 0, 0, 2, 0, 0, 2, 1, 0], [0, 0, 0, 2, 1, 0, 0, 1, 0], [0, 0, 0, 0, 1, 0, 0, 0, 3]]
    assert shape["corners"].reshape(3, 9).tolist() == wanted
    assert look["color"] == pytest.approx((0.1, 0.2, 0.3))
    write_page(tmp_path / "mesh.usda", tmp_path / "mesh.html")  # without a camera or movers


def test_the_page_holds_the_numbers_and_refers_to_nothing_outside(tmp_path):
    poses = record(Cars(num_vehicles=3), tmp_path / "out.usdc")
    write_page(
        tmp_path / "out.usdc", tmp_path / "out.html", title="</title><script>x</script>@CARS@"
    )
    page = read_page(tmp_path / "out.html")
    assert "<title>&lt;/title&gt;&lt;script&gt;x&lt;/script&gt;@CARS@</title>" in page.text
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", page.text)
    (scene,) = page.rollouts
    stored = page.block(scene["poses"], 7, scene["movers"], scene["frames"])
    assert_allclose(stored[0, 0], poses[:, 0, 0, 0], atol=1e-6)
    assert_allclose(stored[1, 0], poses[:, 0, 0, 1], atol=1e-6)
