"""What has been identified, written over a robot's file, is what is read again."""

import numpy as np
import pytest

from tests.warp_envs.usd.usd_text import HEADER, body, joint
from warp_envs.usd.identified import write_identified
from warp_envs.usd.loader import load_robot

MATERIAL = """
def Material "mat" (prepend apiSchemas = ["PhysicsMaterialAPI"])
{
    float newton:contactStiffness = 2000
    float gippo:contactDampingPerDepth = 500
    float newton:contactFrictionGain = 30
    float physics:dynamicFriction = 0.5
}
def Material "plain" (prepend apiSchemas = ["PhysicsMaterialAPI"])
{
    float physics:dynamicFriction = 0.9
}
"""
COLLIDER = """
def Sphere "{name}" (prepend apiSchemas = ["PhysicsCollisionAPI", "MaterialBindingAPI"])
{{
    double radius = 0.1
    rel material:binding:physics = </robot/{material}>
}}
"""


def robot(tmp_path, inside, metres=1.0, kilograms=1.0):
    header = HEADER.format(up="Z", metres=metres, kilograms=kilograms)
    path = tmp_path / "robot.usda"
    path.write_text(f'{header}def Xform "robot"\n{{\n{MATERIAL}{inside}}}\n')
    return path


@pytest.mark.parametrize("kind", ["Revolute", "Prismatic", "Spherical"])
@pytest.mark.parametrize("value", [0.5, 5.0])
def test_damping_is_read_as_it_was_identified_above_and_below_a_drives(tmp_path, kind, value):
    drive = {"Revolute": "angular", "Prismatic": "linear", "Spherical": ""}[kind]
    own = "float newton:damping = 0.01\n"
    of_drive = f"float drive:{drive}:physics:damping = 100\n" if drive else ""
    schemas = f'"PhysicsDriveAPI:{drive}"' if drive else ""
    hinge = joint("j", kind, "robot/a", "robot/b", own + of_drive, schemas)
    source = robot(tmp_path, body("a") + body("b") + hinge, metres=0.01, kilograms=2.0)
    out = tmp_path / "out.usda"

    unsaid = write_identified(source, out, {("damping", 1): np.array([value])})

    assert unsaid == []
    assert load_robot(out).bodies[1].joint.damping == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("quantity", "field"),
    [("friction", "mu"), ("contact_ke", "ke"), ("contact_kd", "kd"), ("contact_kf", "kf")],
)
def test_the_grounds_numbers_are_read_as_they_were_identified(tmp_path, quantity, field):
    ball = body("a", COLLIDER.format(name="one", material="mat"))
    source = robot(tmp_path, ball, metres=0.01, kilograms=2.0)
    out = tmp_path / "out.usda"

    unsaid = write_identified(source, out, {(quantity, 0): np.array([0.7])})

    assert unsaid == []
    assert getattr(load_robot(out).contact, field) == pytest.approx(0.7, rel=1e-5)


def test_a_collider_that_touches_nothing_beside_one_that_does_is_told_of(tmp_path):
    inside = "".join(COLLIDER.format(name=n, material=m) for n, m in (("x", "mat"), ("y", "plain")))

    read = load_robot(robot(tmp_path, body("a", inside)))

    assert [shape.collides for shape in read.bodies[0].shapes] == [True, False]
    assert any("/robot/a/y, collision enabled, touch nothing" in note for note in read.notes)
