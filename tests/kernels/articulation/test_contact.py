"""Contact of every shape with every ground: closed forms, gradients, plain and compiled kernels."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from tests.kernels.articulation import robots
from tests.kernels.articulation.control_steps import (
    by_numpy,
    program,
    random_inputs,
    values_and_gradients,
    worst,
)
from warp_envs.articulation.contacts import contact_points
from warp_envs.usd.description import ContactMaterial, Joint, RobotDescription, Shape
from warp_envs.usd.ground import HeightField, Plane

SOFT = ContactMaterial(ke=2000.0, kd=4000.0, kf=60.0, mu=0.7)
SIDE = np.array([0.0, np.sqrt(0.5), 0.0, np.sqrt(0.5)])  # z to x
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
SHAPES = {
    "sphere": Shape("sphere", radius=0.2),
    "capsule": Shape("capsule", radius=0.1, half_length=0.2),
    "box": Shape("box", half_extents=np.array([0.2, 0.15, 0.1])),
    "cylinder": Shape("cylinder", radius=0.2, half_length=0.1),
    "ellipsoid": Shape("ellipsoid", half_extents=np.array([0.3, 0.2, 0.1])),
    "mesh": Shape("mesh", points=CUBE * [0.2, 0.15, 0.1]),
}
RNG = np.random.default_rng(0)
GROUNDS = {
    "level": Plane(),
    "tilted": Plane(0.1, np.array([0.2, -0.3])),
    "rough": HeightField(0.06 * RNG.normal(size=(9, 7)), np.array([-1.2, -0.9]), np.full(2, 0.3)),
}


def solid(shape, ground="level", density=100.0):
    """A free body of one shape."""
    shape = replace(SHAPES[shape], density=density)
    root = robots.body("solid", -1, Joint("root"), [shape])
    return RobotDescription("solid", "", (root,), contact=SOFT, ground=GROUNDS[ground])


@cache
def everything(ground):
    """Six bodies, one of each shape, on one tree: a kernel for all."""
    bodies = [robots.body("sphere", -1, Joint("root"), [SHAPES["sphere"]])]
    rng = np.random.default_rng(3)
    for number, name in enumerate([*SHAPES][1:]):
        place = rng.normal(size=3) * 0.3
        quat = rng.normal(size=4)
        hinge = Joint(
            name, kind="revolute", axis=np.eye(3)[number % 3], parent_position=place,
            parent_rotation=quat / np.linalg.norm(quat), damping=2.0, armature=0.1,
        )  # fmt: skip
        shape = replace(SHAPES[name], density=300.0)
        bodies.append(robots.body(name, number // 2, hinge, [shape]))
    return RobotDescription("all", "", tuple(bodies), contact=SOFT, ground=GROUNDS[ground])


def states(robot, num_envs, seed):
    """Random states from inside the ground to above it."""
    inputs, seeds = random_inputs(robot, num_envs, seed)
    inputs[0][:, 2] = torch.linspace(-0.187, 0.5, num_envs, dtype=torch.float64)
    return inputs, seeds


def rest(robot, quat, height=0.2, place=(0.0, 0.0), seconds=4):
    """Coordinates (7,) and velocities (6,) after some time on the ground."""
    step = program(robot, 1, torch.float64, 16, plain=True)
    q = torch.tensor([[*place, height, *quat]], dtype=torch.float64)
    qd = torch.zeros(1, 6, dtype=torch.float64)
    for _ in range(60 * seconds):
        q, qd = step(q, qd, torch.zeros_like(qd))
    return q[0].numpy(), qd[0].numpy()


@pytest.mark.parametrize(
    ("shape", "quat", "half", "points"),
    [
        ("box", [0, 0, 0, 1], 0.1, 4),
        ("mesh", [0, 0, 0, 1], 0.1, 4),
        ("cylinder", [0, 0, 0, 1], 0.1, 3),
        ("cylinder", SIDE, 0.2, 2),
        ("ellipsoid", [0, 0, 0, 1], 0.1, 1),
    ],
)
def test_a_resting_solid_sinks_by_its_weight_on_the_points_that_touch(shape, quat, half, points):
    robot = solid(shape)
    q, qd = rest(robot, quat)
    depth = robot.bodies[0].mass * 9.81 / (points * SOFT.ke)
    assert q[2] == pytest.approx(half - depth, abs=1e-6)
    assert np.abs(qd).max() < 1e-5


def test_a_box_stays_on_a_slope_that_friction_holds_and_lies_along_it():
    ground = Plane(0.3, np.array([0.4, 0.0]))  # tan 0.4 < mu
    robot = replace(solid("box"), ground=ground)
    tilt = -0.5 * np.arctan(0.4)
    q, qd = rest(robot, [0, np.sin(tilt), 0, np.cos(tilt)], height=0.42, seconds=6)
    # viscous friction creeps: four points hold the weight along the slope
    weight = robot.bodies[0].mass * 9.81
    creep = weight * np.sin(np.arctan(0.4)) / (4 * SOFT.kf)
    assert np.linalg.norm(qd[:3]) == pytest.approx(creep, rel=1e-3)
    assert qd[2] / qd[0] == pytest.approx(0.4, rel=1e-6)
    normal = np.array([-0.4, 0.0, 1.0]) / np.hypot(0.4, 1.0)
    away = (q[2] - ground.surface(q[:2])[0]) * normal[2]
    depth = weight * normal[2] / (4 * SOFT.ke)
    assert away == pytest.approx(0.1 - depth, abs=2e-3)  # it leans downhill a little


def test_a_sphere_on_a_sloped_field_feels_the_plane_of_that_slope():
    plane = Plane(0.05, np.array([0.3, -0.2]))
    x, y = np.meshgrid(np.linspace(-3, 3, 31), np.linspace(-3, 3, 31), indexing="ij")
    heights = plane.surface(np.stack([x, y], axis=-1))[..., 0]
    field = HeightField(heights, np.array([-3.0, -3.0]), np.array([0.2, 0.2]))
    inputs, seeds = states(solid("sphere"), 5, seed=1)
    found, expected = (
        values_and_gradients(
            program(replace(solid("sphere"), ground=g), 5, torch.float64, 4, plain=True),
            inputs, seeds,
        )
        for g in (field, plane)
    )  # fmt: skip
    assert worst(found, expected) < 1e-12


def test_a_cylinder_near_upright_feels_the_same_whichever_way_it_leans():
    robot = solid("cylinder")
    accelerations = []
    for way in np.linspace(0.0, 2.0 * np.pi, 7):
        half = 0.5e-3
        quat = [half * np.cos(way), half * np.sin(way), 0.0, np.sqrt(1 - half**2)]
        inputs = [torch.tensor([[0.0, 0.0, 0.09, *quat]], dtype=torch.float64)]
        inputs += [torch.zeros(1, 6, dtype=torch.float64)] * 2
        qd = program(robot, 1, torch.float64, 1, plain=True)(*inputs)[1][0].numpy()
        turned = np.cross([np.cos(way), np.sin(way), 0.0], qd[3:])
        accelerations.append([qd[2], np.dot(qd[3:], [np.cos(way), np.sin(way), 0.0]), turned[2]])
    np.testing.assert_allclose(accelerations, accelerations[:1] * 7, atol=1e-7)


@pytest.mark.parametrize("ground", GROUNDS)
def test_traced_equations_step_and_differentiate_as_the_plain_kernels_do(ground):
    robot = everything(ground)
    inputs, seeds = states(robot, 16, seed=2)
    plain = program(robot, 16, torch.float64, substeps=3, plain=True)
    expected = values_and_gradients(plain, inputs, seeds)
    assert worst(by_numpy(robot, inputs, seeds, substeps=3), expected) < 1e-9


@pytest.mark.parametrize("ground", ["tilted", "rough"])
def test_the_compiled_kernel_steps_and_differentiates_as_the_plain_ones_do(ground):
    robot = replace(everything(ground), bodies=everything(ground).bodies[:1])
    inputs, seeds = states(robot, 11, seed=4)
    plain = program(robot, 11, torch.float64, 4, plain=True)
    found = values_and_gradients(program(robot, 11, torch.float64, 4), inputs, seeds)
    assert worst(found, values_and_gradients(plain, inputs, seeds)) < 1e-9


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ground", GROUNDS)
def test_gradients_over_16_control_steps_are_central_differences(shape, ground):
    robot = solid(shape, ground)
    step = program(robot, 8, torch.float64, 8, plain=True)
    inputs, seeds = states(robot, 8, seed=11)
    inputs[1] *= 0.3
    direction = [
        torch.tensor(np.random.default_rng(k).normal(size=x.shape)) for k, x in enumerate(inputs)
    ]

    def total(shift):
        q, qd, f = (x + shift * d for x, d in zip(inputs, direction, strict=True))
        f = 0.2 * f
        for _ in range(16):
            q, qd = step(q, qd, f)
        return (q * seeds[0]).sum(1) + (qd * seeds[1]).sum(1)

    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(total(shift).sum(), shift)
    ends = [total(e).sum() for e in (1e-6, -1e-6)]
    assert gradient.item() == pytest.approx(((ends[0] - ends[1]) / 2e-6).item(), rel=1e-5)


def test_nothing_that_is_not_a_number_is_read_beyond_the_field():
    robot = replace(everything("rough"), bodies=everything("rough").bodies[:1])
    inputs, _ = states(robot, 3, seed=0)
    inputs[0][:, 0] = torch.tensor([np.nan, 1e30, -np.inf])
    for plain in (True, False):
        q, _ = program(robot, 3, torch.float64, 2, plain=plain)(*inputs)
        assert torch.isfinite(q[1, 0])


def test_a_mesh_touches_by_few_points_that_reach_as_far_as_all():
    corners = np.random.default_rng(5).normal(size=(4000, 3))
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    points = np.array([c.position for c in contact_points(Shape("mesh", points=corners))])
    assert len(points) == 12
    assert (points @ corners.T).max(axis=0).min() > 0.65
    box = contact_points(SHAPES["mesh"])
    assert sorted(map(tuple, np.round([c.position for c in box], 9))) == sorted(
        map(tuple, CUBE * [0.2, 0.15, 0.1])
    )
