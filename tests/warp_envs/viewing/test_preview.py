"""Contact sheets show what the file holds, and the rasteriser draws what is nearest."""

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.testing import assert_allclose

from tests.warp_envs.recording.recorded import Cars, Puppet, nested
from tests.warp_envs.recording.test_recorder import record
from warp_envs.viewing.preview import render_contact_sheet
from warp_envs.viewing.raster import Canvas, clip, fan

TANGENTS = np.array([1.0, 1.0])


def square(depth, half=0.5, shift=0.0):
    """Two triangles facing a camera at the origin, `depth` before it."""
    x, y = np.array([-half, half, half, -half]) + shift, np.array([-half, -half, half, half])
    points = np.column_stack([x, y, np.full(4, -depth)])
    return fan(points, np.array([[0, 1, 2, 3]]))


def test_pixels_of_a_square():
    canvas = Canvas(40, 20, TANGENTS)
    canvas.draw(square(1.0), np.array([7, 7]))
    inside = np.zeros((20, 40), dtype=bool)
    inside[5:15, 10:30] = True
    assert ((canvas.nearest == 7) == inside).all()
    assert_allclose(canvas.nearness[inside], 1.0)


@pytest.mark.parametrize("order", [(1.0, 2.0), (2.0, 1.0)])
def test_nearest_wins(order):
    canvas = Canvas(64, 64, TANGENTS)
    for depth in order:
        canvas.draw(square(depth, half=0.5 * depth), np.full(2, int(depth)))
    assert set(np.unique(canvas.nearest)) == {-1, 1}


def test_depth_within_one_triangle():
    """1 / depth is linear across the picture; two tilted squares meet in a line."""
    points = np.array([[-1.0, -1.0, -1.0], [1.0, -1.0, -3.0], [1.0, 1.0, -3.0], [-1.0, 1.0, -1.0]])
    mirrored = points[[1, 0, 3, 2]] * [-1.0, 1.0, 1.0]
    canvas = Canvas(200, 200, TANGENTS)
    for name, corners in enumerate((points, mirrored[::-1][[1, 0, 3, 2]])):
        canvas.draw(fan(corners, np.array([[0, 1, 2, 3]])), np.full(2, name))
    row = canvas.nearest[100]
    assert (row[60:99] == 0).all()
    assert (row[101:140] == 1).all()


def test_back_sides_are_not_drawn():
    canvas = Canvas(20, 20, TANGENTS)
    canvas.draw(square(1.0)[:, ::-1], np.zeros(2, dtype=int))
    assert (canvas.nearest == -1).all()


def test_what_reaches_behind_the_camera_is_cut():
    floor = np.array([[-9.0, -1.0, 9.0], [9.0, -1.0, 9.0], [0.0, -1.0, -9.0]])[None]
    kept, names = clip(floor, np.array([3]))
    assert (kept[..., 2] <= -0.049).all()
    assert set(names) == {3}
    canvas = Canvas(40, 40, TANGENTS)
    canvas.draw(floor, np.array([3]))
    assert (canvas.nearest[-1] == 3).all()
    assert (canvas.nearest[:20] == -1).all()


@pytest.mark.parametrize(("count", "columns", "shape"), [(6, 3, (648, 1728)), (1, 3, (324, 576))])
def test_contact_sheet_of_a_robot(tmp_path, count, columns, shape):
    asset = tmp_path / "puppet.usda"
    asset.write_text(nested())
    record(Puppet(asset), tmp_path / "out.usdc", steps=20)
    render_contact_sheet(tmp_path / "out.usdc", tmp_path / "out.png", count, columns)
    picture = imread(tmp_path / "out.png")[..., :3]
    assert picture.shape[:2] == shape
    panel = picture[:320, :570]
    assert panel.std() > 0.05  # neither blank nor of one colour
    if count > 1:
        assert np.abs(panel - picture[:320, 576:1146]).max() > 0.2  # it moves


@pytest.mark.parametrize("num_vehicles", [4, 21])
def test_contact_sheet_of_a_road(tmp_path, num_vehicles):
    """The autonomous car is orange, whether cars are prims or instances."""
    record(Cars(num_vehicles=num_vehicles, num_lanes=4), tmp_path / "out.usdz", steps=3)
    render_contact_sheet(tmp_path / "out.usdz", tmp_path / "out.png", frames=[0])
    red, _, blue = np.moveaxis(imread(tmp_path / "out.png")[..., :3], -1, 0)
    assert 4 < np.sum(red - blue > 0.25) < 5000


def test_frames_out_of_range(tmp_path):
    record(Cars(), tmp_path / "out.usdc", steps=3)
    for frames in (0, [], [4], [-1]):
        with pytest.raises(ValueError, match=r"frames: .* accepted"):
            render_contact_sheet(tmp_path / "out.usdc", tmp_path / "out.png", frames)


def test_file_without_camera(tmp_path):
    (tmp_path / "robot.usda").write_text(nested())
    with pytest.raises(ValueError, match=r"usd_path: .* a file with a camera accepted"):
        render_contact_sheet(tmp_path / "robot.usda", tmp_path / "out.png")
    with pytest.raises(ValueError, match="an existing USD file accepted"):
        render_contact_sheet(tmp_path / "none.usdc", tmp_path / "out.png")
