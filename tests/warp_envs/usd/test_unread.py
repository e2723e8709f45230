"""What of a file's physics plays no part is told of once; what means nothing is not."""

from pathlib import Path

import pytest

from tests.warp_envs.usd.usd_text import BALL, body, joint, two
from warp_envs.usd.loader import load_robot

ROOT = Path(__file__).parents[3]

MATERIAL = """
def Material "m" (prepend apiSchemas = ["PhysicsMaterialAPI"])
{
    float newton:contactStiffness = 2000
    float physics:dynamicFriction = 0.7
    %s
}
"""
BOUND = BALL.replace('"PhysicsMassAPI"]', '"PhysicsMassAPI", "MaterialBindingAPI"]')
BOUND = BOUND % "rel material:binding:physics = </robot/m>\n%s"
FLOOR = """
def Plane "floor" (prepend apiSchemas = ["PhysicsCollisionAPI", "MaterialBindingAPI"])
{
    uniform token axis = "Z"
    %s
}
"""


def hinge(line, schemas=""):
    return two(inside=line, schemas=schemas)


def on_body(line):
    return body("a", BALL % "" + line)


def of_material(line):
    return MATERIAL % line + body("a", BOUND % "")


TOLD = {
    "physxRigidBody:linearDamping": on_body("float physxRigidBody:linearDamping = 5"),
    "physxRigidBody:lockedPosAxis": on_body("int physxRigidBody:lockedPosAxis = 1"),
    "physics:velocity": on_body("vector3f physics:velocity = (1, 2, 3)"),
    "gippo:liftPosition": on_body("double[] gippo:liftPosition = [1, 1, 1]"),
    "mjc:damping": hinge("double mjc:damping = 5"),
    "mjc:frictionloss": hinge("double mjc:frictionloss = 5"),
    "mjc:armature": hinge("float newton:armature = 1\ndouble mjc:armature = 2"),
    "physxJoint:jointFriction": hinge("float physxJoint:jointFriction = 5"),
    "physxJoint:maxJointVelocity": hinge("float physxJoint:maxJointVelocity = 5"),
    "physxLimit:angular:stiffness": hinge("float physxLimit:angular:stiffness = 7"),
    "newton:velocityLimit": hinge("float newton:velocityLimit = 0"),
    "newton:amature": hinge("float newton:amature = 1"),
    "state:angular:physics:position": hinge("float state:angular:physics:position = 45"),
    "gippo:angleLimit": hinge("double[] gippo:angleLimit = [0.5]"),
    "drive:angular:physics:stiffness": hinge("float drive:angular:physics:stiffness = 1"),
    "drive:angular:physics:maxForce": hinge(
        "float drive:angular:physics:maxForce = 0", '"PhysicsDriveAPI:angular"'
    ),
    "drive:angular:physics:targetVelocity": hinge(
        "float drive:angular:physics:targetVelocity = 2", '"PhysicsDriveAPI:angular"'
    ),
    "newton:limitStiffness": two(kind="Spherical", inside="float newton:limitStiffness = 5"),
    "gippo:forceRange": two(kind="Spherical", inside="double[] gippo:forceRange = [-5, 5]"),
    "newton:damping": two(kind="Fixed", inside="float newton:damping = 5"),
    "physics:restitution": of_material("float physics:restitution = 0.9"),
    "physics:staticFriction": of_material("float physics:staticFriction = 0.9"),
    "newton:contactAdhesion": of_material("float newton:contactAdhesion = 9"),
    "newton:contactMargin": body("a", BALL % "float newton:contactMargin = 0.05"),
    "physics:dynamicFriction": (
        (MATERIAL % "").replace("float newton:contactStiffness = 2000", "") + body("a", BOUND % "")
    ),
    "MjcActuator": two() + 'def MjcActuator "act"\n{\nrel mjc:target = </robot/j>\n}\n',
    "MjcTendon": two() + 'def MjcTendon "ten"\n{\ndouble mjc:stiffness = 100\n}\n',
    "PhysxTriggerAPI": body("a").replace('"PhysicsMassAPI"', '"PhysicsMassAPI", "PhysxTriggerAPI"'),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_plays_no_part_is_told(load, name):
    (note,) = load(TOLD[name]).notes
    assert note.startswith(f"{name} plays no part: ")
    assert "/robot/" in note


@pytest.mark.parametrize("name", ["density", "viscosity"])
def test_fluid_of_a_scene_is_told(load, name):
    scene = f'def PhysicsScene "s"\n{{\ndouble mjc:option:{name} = 3\n}}\n'
    (note,) = load(body("a"), outside=scene).notes
    assert note == f"mjc:option:{name} plays no part: 3 on /s"


def test_many_prims_make_one_note(load):
    line = "double mjc:damping = 5"
    ends = {"body0": "robot/a", "inside": line}
    robot = load(
        body("a") + body("b") + body("c") + joint("j", body1="robot/b", **ends)
        + joint("k", body1="robot/c", **ends)
    )  # fmt: skip
    assert robot.notes == ("mjc:damping plays no part: 5 on /robot/j, and 1 more",)


MEANS_NOTHING = [
    on_body("float physxRigidBody:linearDamping = 0\nvector3f physics:velocity = (0, 0, 0)"),
    on_body("float physxRigidBody:sleepThreshold = 0.5\nbool physics:startsAsleep = 1"),
    hinge("float newton:velocityLimit = inf\ndouble mjc:frictionloss = 0\nint mjc:group = 3"),
    hinge("float newton:armature = 0.1\nfloat physxJoint:armature = 0.1"),
    hinge("double mjc:armature = 0.1"),
    hinge("float drive:angular:physics:maxForce = 3.4e38", '"PhysicsDriveAPI:angular"'),
    of_material("float physics:restitution = 0\nfloat physics:staticFriction = 0.7"),
    # Of what plays no part as a whole: a joint that is off, a material that nothing has.
    two() + joint("off", body0="robot/a", inside="bool physics:jointEnabled = 0\n"
                  "double mjc:damping = 5"),
    body("a") + MATERIAL % "float physics:restitution = 0.9",
]  # fmt: skip


@pytest.mark.parametrize("inside", MEANS_NOTHING)
def test_what_means_nothing_is_not_told(load, inside):
    assert load(inside).notes == ()


PAIRS = "rel physics:filteredPairs = </floor>"
GROUP = """
def PhysicsCollisionGroup "group" (prepend apiSchemas = ["CollectionAPI:colliders"])
{
    rel collection:colliders:includes = [</robot/a>, </floor>]
    rel physics:filteredGroups = %s
}
"""


@pytest.mark.parametrize(
    ("line", "extra", "touches"),
    [("", "", True), (PAIRS, "", False), ("", GROUP % "</group>", False),
     ("", GROUP % "[]", True)],
)  # fmt: skip
def test_filters_part_a_collider_from_the_ground(load, line, extra, touches):
    inside = MATERIAL % "" + body("a", BOUND % "" + line)
    robot = load(inside, outside=FLOOR % "" + extra)
    assert robot.touches_ground is touches
    assert robot.notes == ()


def test_material_of_the_ground_is_told(load):
    """Friction is that of what touches it."""
    rough = MATERIAL.replace('"m"', '"rough"') % ""
    bind = "rel material:binding:physics = </robot/rough>"
    notes = load(MATERIAL % "" + rough + body("a", BOUND % ""), outside=FLOOR % bind).notes
    assert [note.partition(" ")[0] for note in notes] == [
        "newton:contactStiffness",
        "physics:dynamicFriction",
    ]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("assets/*.usda")) + sorted(ROOT.glob("examples/*.usda")), ids=str
)
def test_files_of_this_project_leave_nothing_unread(path):
    assert load_robot(path).notes == ()
