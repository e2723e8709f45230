"""Descriptions refuse nonsense when they are made; shapes weigh what the textbooks say."""

# pyright: reportArgumentType=false
# Fields take any sequence of numbers and hold an array: that, and nonsense, is what is tested.

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from warp_envs.usd.description import (
    Body,
    ContactMaterial,
    Joint,
    RobotDescription,
    Shape,
    rotation_matrix,
)
from warp_envs.usd.mass import combine_mass_properties, shape_mass_properties

lengths = st.floats(0.01, 10.0)


def quats():
    parts = st.tuples(*[st.floats(-1.0, 1.0)] * 4).map(np.array)
    return parts.filter(lambda q: np.linalg.norm(q) > 0.1).map(lambda q: q / np.linalg.norm(q))


def ball(**changes):
    body = Body(
        name="ball",
        path="/ball",
        parent=-1,
        joint=Joint(name="ball"),
        mass=1.0,
        com=np.zeros(3),
        inertia=np.eye(3),
    )
    return dataclasses.replace(body, **changes)


def test_sphere_and_box_by_the_textbook():
    sphere = shape_mass_properties(Shape("sphere", radius=0.25))
    assert sphere.mass == pytest.approx(1000.0 * 4.0 / 3.0 * np.pi * 0.25**3)
    assert_allclose(sphere.inertia, 0.4 * sphere.mass * 0.25**2 * np.eye(3))
    box = shape_mass_properties(Shape("box", half_extents=(0.25, 0.25, 0.1), density=1000.0))
    assert box.mass == pytest.approx(50.0)
    sides = np.array([0.5, 0.5, 0.2])
    expected = box.mass / 12.0 * (np.sum(sides**2) - sides**2)
    assert_allclose(box.inertia, np.diag(expected))


@given(radius=lengths, half_length=st.floats(0.0, 10.0))
def test_capsule_against_integration(radius, half_length):
    """Slices across the axis: discs of radius rho(z), exact for the polynomials they integrate."""
    z, weight = np.polynomial.legendre.leggauss(8)

    def slices(low, high, rho2):
        at = low + (high - low) * (z + 1.0) / 2.0
        area = np.pi * rho2(at) * weight * (high - low) / 2.0
        return np.array(
            [area.sum(), np.sum(area * rho2(at)) / 2.0, np.sum(area * (rho2(at) / 4.0 + at**2))]
        )

    middle = slices(-half_length, half_length, lambda at: np.full_like(at, radius**2))
    cap = slices(half_length, half_length + radius, lambda at: radius**2 - (at - half_length) ** 2)
    volume, axial, across = middle + 2.0 * cap
    found = shape_mass_properties(
        Shape("capsule", radius=radius, half_length=half_length, density=7.0)
    )
    assert found.mass == pytest.approx(7.0 * volume)
    assert_allclose(found.inertia, 7.0 * np.diag([across, across, axial]), rtol=1e-9)


@given(quat=quats(), position=st.tuples(*[st.floats(-3.0, 3.0)] * 3))
def test_combination_of_two_moves_with_the_parts(quat, position):
    """A rotated and shifted pair has the rotated inertia and the shifted centre."""
    turn = rotation_matrix(quat)
    first = Shape("box", half_extents=(0.1, 0.2, 0.3))
    second = Shape("capsule", position=(0.3, -0.2, 0.1), radius=0.1, half_length=0.2)
    pair = combine_mass_properties([shape_mass_properties(s) for s in (first, second)])
    moved = [
        dataclasses.replace(s, position=turn @ s.position + position, rotation=quat)
        for s in (first, second)
    ]
    found = combine_mass_properties([shape_mass_properties(s) for s in moved])
    assert found.mass == pytest.approx(pair.mass)
    assert_allclose(found.com, turn @ pair.com + position, atol=1e-12)
    assert_allclose(found.inertia, turn @ pair.inertia @ turn.T, atol=1e-9)


def test_parallel_axes_by_hand():
    """Two unit-mass balls two metres apart: 2/5 r^2 each, and one metre squared each across."""
    density = 1.0 / (4.0 / 3.0 * np.pi * 0.1**3)
    balls = [Shape("sphere", position=(x, 0, 0), radius=0.1, density=density) for x in (1.0, 3.0)]
    found = combine_mass_properties([shape_mass_properties(b) for b in balls])
    assert_allclose(found.com, (2.0, 0.0, 0.0))
    own = 2 * 0.4 * 0.01
    assert_allclose(found.inertia, np.diag([own, own + 2.0, own + 2.0]))


def test_nothing_weighs_nothing():
    nothing = combine_mass_properties([])
    assert nothing.mass == 0.0
    assert not nothing.inertia.any()


def test_arrays_are_copies_and_read_only():
    com = np.ones(3)
    body = ball(com=com)
    com[:] = 5.0
    assert_allclose(body.com, 1.0)
    with pytest.raises(ValueError, match="read-only"):
        body.com[0] = 2.0
    assert body.inertia.dtype == np.float64


def test_counts_of_coordinates():
    joints = [Joint(name=kind, kind=kind) for kind in ("free", "spherical", "revolute", "fixed")]
    bodies = [ball(joint=joint, parent=i - 1) for i, joint in enumerate(joints)]
    robot = RobotDescription("r", "", tuple(bodies))
    assert (robot.nq, robot.nv) == (12, 10)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Shape("cone"), "kind"),
        (lambda: Shape("mesh"), "points"),
        (lambda: Shape("sphere"), "radius"),
        (lambda: Shape("sphere", radius=np.nan), "radius"),
        (lambda: Shape("capsule", radius=0.1, half_length=-1.0), "half_length"),
        (lambda: Shape("box", half_extents=(1.0, 0.0, 1.0)), "half_extents"),
        (lambda: Shape("sphere", radius=1.0, density=-1.0), "density"),
        (lambda: Shape("sphere", radius=1.0, rotation=(0, 0, 0, 2)), "rotation"),
        (lambda: Shape("sphere", radius=1.0, position=(0, 0)), "position"),
        (lambda: Shape("sphere", radius=1.0, position=(0, "x", 0)), "position"),
        (lambda: Joint("j", kind="screw"), "kind"),
        (lambda: Joint("j", kind="revolute", axis=(1, 1, 0)), "axis"),
        (lambda: Joint("j", kind="revolute", lower=1.0, upper=0.0), "lower"),
        (lambda: Joint("j", kind="revolute", lower=np.nan), "lower"),
        (lambda: Joint("j", kind="revolute", upper=-np.inf), "lower"),
        (lambda: Joint("j", kind="revolute", damping=-1.0), "damping"),
        (lambda: Joint("j", kind="revolute", armature="heavy"), "armature"),
        (lambda: ball(mass=0.0), "mass"),
        (lambda: ball(mass=np.inf), "mass"),
        (lambda: ball(inertia=-np.eye(3)), "inertia"),
        (lambda: ball(inertia=np.zeros((3, 3))), "inertia"),
        (lambda: ball(inertia=np.triu(np.ones((3, 3)))), "inertia"),
        (lambda: ContactMaterial(ke=0.0, kd=1.0, kf=1.0, mu=1.0), "ke"),
        (lambda: ContactMaterial(ke=1.0, kd=1.0, kf=1.0, mu=-1.0), "mu"),
        (lambda: RobotDescription("r", "", ()), "bodies"),
        (lambda: RobotDescription("r", "", (ball(parent=0),)), "parent"),
    ],
)
def test_nonsense_is_refused_by_name(make, field):
    with pytest.raises(ValueError, match=rf"(?s){field}.* given, .*accepted"):
        make()


def test_welded_body_may_be_massless():
    weld = Joint("weld", kind="fixed")
    assert ball(joint=weld, mass=0.0, inertia=np.zeros((3, 3))).mass == 0.0
