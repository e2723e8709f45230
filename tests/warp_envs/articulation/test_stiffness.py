"""The fastest motions of a robot, and the substeps they ask for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.kernels.articulation import robots
from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.stiffness import (
    advised_stiffness,
    advised_substeps,
    mass_matrix,
    measure_stiffness,
    place_bodies,
)
from warp_envs.usd.description import Actuator, ContactMaterial, Joint, RobotDescription, Shape


@pytest.mark.parametrize("name", ["floating_robot", "skew_robot", "ball_robot"])
def test_masses_and_places_are_those_of_the_kernels(name):
    robot = getattr(robots, name)()
    q, _ = robots.random_state(robot, np.random.default_rng(0))
    kernels = Articulation(robot, 1, dtype=torch.float64)
    rows = torch.tensor(q[None])
    placed = place_bodies(robot, q)
    np.testing.assert_allclose(mass_matrix(robot, placed), kernels.mass_matrix(rows)[0], atol=1e-12)
    found = [body.position for body in placed]
    np.testing.assert_allclose(found, kernels.body_poses(rows)[0, :, :3], atol=1e-12)


def box(**gains):
    shape = Shape("box", half_extents=np.full(3, 0.1), density=1000.0)  # 8 kg
    body = robots.body("box", -1, Joint("root"), [shape])
    material = ContactMaterial(**{"ke": 5e3, "kd": 0.0, "kf": 0.0, "mu": 1.0, **gains})
    return RobotDescription("box", "", (body,), contact=material)


def test_a_box_swings_on_one_corner_faster_than_on_four():
    # a corner below the centre carries 1/m; four carry 4/m, or turn it: 4 r^2 / I, I = m r^2 2/3
    found = measure_stiffness(box())
    assert found.contact.speed == pytest.approx(np.sqrt(5e3 * 4 * 1.5 / 8.0))
    assert found.substeps(1 / 60) == 2 and found.fastest == found.contact


def test_friction_and_impact_count_as_dampers():
    found = measure_stiffness(box(kd=2e3, kf=1e3))
    assert found.impact.speed == pytest.approx(2e3 / 5e3 * 3 * 8 * 9.81 * 6 / 8)
    # four points at the distance sqrt(2) r turn it about the normal: 8 r^2 / I
    assert found.friction.speed == pytest.approx(0.5 * 1e3 * 8 * 1.5 / 8)


def test_a_hinge_swings_on_its_limit_by_its_whole_inertia():
    hinge = Joint(
        "hinge", kind="revolute", axis=[0.0, 1.0, 0.0], armature=0.3, lower=0.0, upper=1.0,
        limit_ke=1e3, limit_kd=0.4, damping=0.6, stiffness=50.0,
    )  # fmt: skip
    arm = robots.body("arm", -1, hinge, [robots.capsule([0, 0, 0], [0.4, 0, 0], 0.05)])
    inertia = 0.3 + arm.inertia[1, 1] + arm.mass * 0.04
    found = measure_stiffness(RobotDescription("arm", "", (arm,)))
    assert found.limit == (pytest.approx(np.sqrt(1e3 / inertia)), "joint hinge")
    assert found.spring.speed == pytest.approx(np.sqrt(50.0 / inertia))
    assert found.damper.speed == pytest.approx(1.0 / inertia)
    assert found.contact is None and found.friction is None
    servo = Actuator("servo", "hinge", gear=2.0, gain=40.0, bias=[0.0, -40.0, -3.0])
    found = measure_stiffness(RobotDescription("arm", "", (arm,), actuators=(servo,)))
    assert found.spring.speed == pytest.approx(np.sqrt((50.0 + 4 * 40.0) / inertia))
    assert found.damper.speed == pytest.approx((1.0 + 4 * 3.0) / inertia)


def test_implicit_damping_asks_for_no_substeps_and_slows_springs():
    finger = Joint(
        "finger", kind="revolute", axis=[0.0, 1.0, 0.0], damping=0.5, stiffness=2.0, limit_ke=1e3,
        lower=-1.0, upper=1.0,
    )  # fmt: skip
    tip = robots.body("tip", -1, finger, [robots.capsule([0, 0, 0], [0.02, 0, 0], 0.005)])
    inertia = tip.inertia[1, 1] + tip.mass * 1e-4
    robot = RobotDescription("finger", "", (tip,))
    control_step = 1.0 / 60.0
    assert advised_substeps(robot, control_step) == np.ceil(0.5 / inertia * control_step)
    calmer = replace(robot, implicit_damping=True)
    found = advised_stiffness(calmer, control_step)
    substeps = found.substeps(control_step)
    assert found.damper is None and found.fastest == found.limit
    h = control_step / substeps
    # h shorter than that of one substep less, which would not do
    assert found.limit.speed * h <= 1.0 and found.limit.speed == pytest.approx(
        np.sqrt(1e3 / (inertia + h * 0.5)), rel=0.02
    )
    h = control_step / (substeps - 1)
    assert np.sqrt(1e3 / (inertia + h * 0.5)) * h > 1.0
