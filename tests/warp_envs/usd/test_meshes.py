"""Meshes of STL and OBJ files: mass and touching points as MuJoCo has them."""

import mujoco
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from tests.warp_envs.usd.mujoco_judge import deviation
from warp_envs.articulation.articulation import Articulation
from warp_envs.usd.conversion.convert import convert_robot
from warp_envs.usd.description import rotation_matrix

trimesh = pytest.importorskip("trimesh", reason="the extra gippo[convert] is not installed")

ARM = """
<mujoco><compiler angle="radian"/><asset><mesh name="m" file="{}" {}/></asset><worldbody>
  <geom type="plane" size="5 5 1"/>
  <body name="a" pos="0 0 1"><joint axis="0 1 0"/>
    <geom type="capsule" size=".03" fromto="0 0 0 0 0 .3" mass="1"/>
    <body name="b" pos="0 0 .3"><joint axis="1 0 0"/><joint axis="0 0 1"/>
      <geom type="mesh" mesh="m" {}/></body></body></worldbody></mujoco>"""


def solids():
    """A wedge, an L of two boxes, and the wedge with holes and inside out."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 3)) * [0.1, 0.05, 0.15] + [0.05, 0.02, -0.1]
    wedge = trimesh.convex.convex_hull(points)
    arm = trimesh.creation.box((0.05, 0.2, 0.05))
    arm.apply_translation((0.125, 0.1, 0.0))
    corner = trimesh.util.concatenate([trimesh.creation.box((0.3, 0.05, 0.05)), arm])
    opened, flipped = wedge.copy(), wedge.copy()
    opened.update_faces(np.arange(len(opened.faces)) > 3)
    flipped.invert()
    return {"wedge": wedge, "corner": corner, "opened": opened, "flipped": flipped}


def reach(points, directions):
    """How far points (n, 3) go along directions (k, 3)."""
    return (points @ directions.T).max(axis=0)


@pytest.mark.parametrize(
    ("file", "asset", "geom"),
    [
        ("wedge.stl", 'scale="1 -1 2"', ""),
        ("corner.obj", 'inertia="exact"', ""),
        ("corner.stl", 'inertia="legacy" refpos=".1 0 .05"', 'mass="2.5" euler=".3 .2 .1"'),
        ("corner.obj", 'inertia="shell" refquat="1 1 0 0"', 'density="500" pos=".1 .05 .2"'),
        ("opened.obj", 'inertia="convex"', ""),
        ("opened.stl", 'inertia="shell"', ""),
        ("flipped.stl", 'inertia="convex"', 'quat="1 .5 0 .2"'),
    ],
)
def test_a_mesh_weighs_and_touches_as_in_mujoco(tmp_path, file, asset, geom):
    name, _ = file.split(".")
    solids()[name].export(tmp_path / file)
    source, usd = tmp_path / "arm.xml", tmp_path / "arm.usda"
    source.write_text(ARM.format(file, asset, geom))
    convert_robot(source, usd)
    mass, acceleration = deviation(usd, source, 5)
    assert mass < 1e-6
    assert acceleration < 1e-5

    robot = Articulation.from_usd(usd, num_envs=1, dtype=torch.float64)
    (shape,) = robot.description.bodies[-1].shapes
    model = mujoco.MjModel.from_xml_path(str(source))
    turn = np.empty(9)
    mujoco.mju_quat2Mat(turn, model.geom_quat[-1])
    theirs = model.mesh_vert @ turn.reshape(3, 3).T + model.geom_pos[-1]
    directions = np.random.default_rng(1).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ours = shape.points @ rotation_matrix(shape.rotation).T + shape.position
    assert_allclose(reach(ours, directions), reach(theirs, directions), atol=1e-5)
