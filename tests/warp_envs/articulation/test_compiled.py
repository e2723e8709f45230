from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.kernels.articulation import robots
from tests.kernels.articulation.control_steps import (
    program,
    random_inputs,
    values_and_gradients,
    worst,
)
from warp_envs.articulation import compiled
from warp_envs.articulation.compiled import mechanism_of
from warp_envs.robots.base import asset_path
from warp_envs.usd.description import Joint, RobotDescription, Shape
from warp_envs.usd.loader import load_robot

HINGE = {"kind": "revolute", "axis": [0.0, 1.0, 0.0]}
ARM = [robots.capsule([0, 0, 0], [0.3, 0, 0], 0.1)]


@pytest.mark.parametrize("name", ["cartpole", "ant", "hopper"])
def test_shipped_robots_step_and_differentiate_as_the_plain_kernels_do(name):
    robot = load_robot(asset_path(f"{name}.usda"))
    inputs, seeds = random_inputs(robot, 37, seed=5)
    if name == "ant":  # from deep in the ground to above it
        inputs[0][:, 2] = torch.linspace(0.2, 1.2, 37, dtype=torch.float64)
    if name == "hopper":
        inputs[0][:, 1] = torch.linspace(-0.3, 0.2, 37, dtype=torch.float64)
    plain = program(robot, 37, torch.float64, 4, plain=True)
    expected = values_and_gradients(plain, inputs, seeds)
    inputs, seeds = ([x.float() for x in part] for part in (inputs, seeds))
    found = values_and_gradients(program(robot, 37, torch.float32, 4), inputs, seeds)
    assert worst(found, expected) < 1e-5


def test_a_robot_read_again_has_its_kernel_and_another_its_own(monkeypatch):
    traced, trace = [], compiled.equations_of
    monkeypatch.setattr(
        compiled, "equations_of", lambda *args: traced.append(args[0].name) or trace(*args)
    )
    for name, gravity in (("one", 9.8), ("one", 9.8), ("one", 1.6), ("other", 9.8)):
        read = load_robot(asset_path("cartpole.usda"))
        pull = np.array([0.0, 0.0, -gravity])
        program(replace(read, name=f"{name}'s cartpole", gravity=pull), 2, torch.float64, 1)
    assert traced == ["one's cartpole", "one's cartpole", "other's cartpole"]


def test_welded_bodies_are_one_link():
    bodies = (
        robots.body("arm", -1, Joint("hinge", **HINGE), ARM),
        robots.body(
            "hand", 0, Joint("weld", kind="fixed", parent_position=np.array([0.3, 0, 0])), ARM
        ),
    )
    (link,) = mechanism_of(RobotDescription("welded", "", bodies)).links
    assert link.mass == pytest.approx(2.0 * bodies[0].mass)
    # x towards the mass of the arm, z along the hinge
    np.testing.assert_allclose(link.com, [0.3, 0.0, 0.0], atol=1e-12)
    np.testing.assert_array_equal(link.frame[:, 2], [0.0, 1.0, 0.0])


def test_bodies_welded_to_the_world_are_left_out():
    weld = Joint("weld", kind="fixed", parent_position=np.array([0.0, 0.0, 2.0]))
    bodies = (
        robots.body("stand", -1, weld, ARM),
        robots.body(
            "arm", 0, Joint("hinge", parent_position=np.array([0.0, 1.0, 0.0]), **HINGE), ARM
        ),
    )
    (link,) = mechanism_of(RobotDescription("stand", "", bodies)).links
    assert link.parent == -1
    np.testing.assert_array_equal(link.anchor, [0.0, 1.0, 2.0])


def test_points_that_coincide_are_one_contact():
    shapes = [
        robots.capsule([0, 0, 0], [0.3, 0, 0], 0.1),
        robots.capsule([0, 0, 0], [0.0, 0.3, 0], 0.1),
        Shape("sphere", radius=0.2),
        Shape("box", half_extents=np.array([0.1, 0.1, 0.1]), collides=False),
    ]
    free = RobotDescription("star", "", (robots.body("star", -1, Joint("root"), shapes),))
    (link,) = mechanism_of(free).links
    assert [(contact.radius, contact.count) for contact in link.contacts] == [
        (0.1, 2),
        (0.1, 1),
        (0.1, 1),
        (0.2, 1),
    ]


def test_a_robot_that_cannot_move_is_refused():
    weld = robots.body("rock", -1, Joint("weld", kind="fixed"), ARM)
    with pytest.raises(ValueError, match="rock_garden without a joint that moves"):
        mechanism_of(RobotDescription("rock_garden", "", (weld,)))
