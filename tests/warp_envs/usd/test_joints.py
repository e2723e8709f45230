"""Limits, springs, damping and armature of joints, in SI units and radians."""

import numpy as np
import pytest

from tests.warp_envs.usd.usd_text import two


@pytest.mark.parametrize("name", ["newton:armature", "physxJoint:armature", "mjc:armature"])
def test_armature_names(load, name):
    inside = f"float {name} = 0.01"
    assert load(two(inside=inside)).bodies[1].joint.armature == 0.01
    assert load(two(kind="Spherical", inside=inside)).bodies[1].joint.armature == 0.01


def test_armature_precedence(load):
    inside = "float mjc:armature = 3\nfloat physxJoint:armature = 2\nfloat newton:armature = 0"
    assert load(two(inside=inside)).bodies[1].joint.armature == 0.0


def test_limit_without_stiffness_gets_one(load):
    limited = load(two(inside="float physics:upperLimit = 90")).bodies[1].joint
    assert (limited.limit_ke, limited.limit_kd) == (1e3, 0.0)
    assert load(two()).bodies[1].joint.limit_ke == 0.0
    unlimited = "float physics:lowerLimit = -3.4e38\nfloat physics:upperLimit = inf"
    assert load(two(inside=unlimited)).bodies[1].joint.lower == -np.inf
    sentinel = "float physics:upperLimit = 90\nfloat newton:limitStiffness = -inf"
    assert load(two(inside=sentinel)).bodies[1].joint.limit_ke == 1e3


def test_damping_of_drive_and_joint_add_up(load):
    inside = "float drive:linear:physics:damping = 4\nfloat newton:damping = 3"
    applied = load(two(kind="Prismatic", inside=inside, schemas='"PhysicsDriveAPI:linear"'))
    assert applied.bodies[1].joint.damping == 7.0
    assert load(two(kind="Prismatic", inside=inside)).bodies[1].joint.damping == 3.0


def test_authored_decimals_are_read_as_such(load):
    """0.45 in float32 is 0.449999988: the decimal is meant."""
    inside = "point3f physics:localPos0 = (0.45, -1.15, 1e-9)\nfloat newton:armature = 0.3"
    hinge = load(two(inside=inside)).bodies[1].joint
    assert hinge.parent_position.tolist() == [0.45, -1.15, 1e-9]
    assert hinge.armature == 0.3
