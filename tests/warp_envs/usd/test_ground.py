"""The ground of a USD file: planes at any pose, grids of heights, and what is none."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.warp_envs.usd.usd_text import body
from warp_envs.usd.ground import HeightField, Plane


def of_world(type_name, inside):
    return f"""
def {type_name} "ground" (prepend apiSchemas = ["PhysicsCollisionAPI"])
{{
{inside}
}}
"""


def grid(x, y, heights):
    points = ", ".join(
        f"({a}, {b}, {heights[i, j]})" for i, a in enumerate(x) for j, b in enumerate(y)
    )
    return f"point3f[] points = [{points}]"


def test_without_a_collider_of_the_world_the_ground_is_level_at_zero(load):
    ground = load(body("a")).ground
    assert isinstance(ground, Plane) and ground.height == 0.0 and ground.is_level


def test_a_plane_is_the_ground_at_any_pose(load):
    turned = """uniform token axis = "X"
double3 xformOp:translate = (1, 0, 0.5)
double xformOp:rotateY = -60
uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:rotateY"]"""
    ground = load(body("a") + of_world("Plane", turned)).ground
    # x points up along (1/2, 0, sqrt(3)/2)
    assert_allclose(ground.slope, (-1.0 / np.sqrt(3.0), 0.0), atol=1e-12)
    assert_allclose(ground.surface(np.array([1.0, 3.0]))[0], 0.5)


def test_a_mesh_whose_points_are_a_grid_is_a_height_field(load):
    x, y = np.linspace(-1.0, 1.0, 5), np.linspace(0.0, 0.9, 4)
    heights = np.random.default_rng(0).normal(size=(5, 4)).round(3)
    ground = load(body("a") + of_world("Mesh", grid(x, y, heights))).ground
    assert isinstance(ground, HeightField)
    assert_allclose(ground.heights, heights, atol=1e-6)
    assert_allclose([*ground.corner, *ground.cell], (-1.0, 0.0, 0.5, 0.3), atol=1e-6)
    assert_allclose(ground.surface(np.array([-0.75, 0.15]))[0], heights[:2, :2].mean(), atol=1e-6)


def test_what_cannot_be_a_ground_is_told_of(load):
    robot = load(body("a") + of_world("Mesh", grid([0, 1, 3], [0, 1], np.zeros((3, 2)))))
    assert isinstance(robot.ground, Plane)
    (note,) = robot.notes
    assert note.startswith("/robot/ground, a Mesh of the world, touches nothing")


def test_two_grounds_are_refused(load):
    second = of_world("Plane", "").replace('"ground"', '"other"')
    with pytest.raises(ValueError, match="a second ground beside /robot/ground"):
        load(body("a") + of_world("Plane", "") + second)


def test_a_field_goes_on_level_beyond_its_edges_without_a_jump():
    rng = np.random.default_rng(1)
    field = HeightField(rng.normal(size=(4, 3)), np.zeros(2), np.array([0.5, 0.25]))
    way = np.stack([np.linspace(-2, 4, 60001), np.full(60001, 0.2)], axis=1)
    found = field.surface(way)
    assert np.abs(np.diff(found, axis=0)).max() < 2e-3
    assert_allclose(found[0], field.surface(np.array([-1.0, 0.2])))
    assert found[0, 1] == 0.0 and found[-1, 1] == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plane(0.0, (9.0, 0.0)), "slopes up to 4"),
        (lambda: Plane(np.nan), "three finite numbers"),
        (lambda: HeightField([[0.0, 1.0]], (0, 0), (1, 1)), "2 x 2 or more"),
        (lambda: HeightField(np.zeros((3, 3)), (0, 0), (1, 0)), "positive distances"),
        (lambda: HeightField(np.full((3, 3), np.inf), (0, 0), (1, 1)), "finite numbers"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
