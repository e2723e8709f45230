"""UsdPhysics files become the robots they describe: tree, joints, units and frames."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.warp_envs.usd.usd_text import BALL, HEADER, body, joint, two
from warp_envs.usd.description import rotation_matrix
from warp_envs.usd.loader import load_robot


def test_single_body_floats(load):
    robot = load(body("a", at=(1, 2, 3)))
    (a,) = robot.bodies
    assert (a.parent, a.joint.kind, robot.nq, robot.nv) == (-1, "free", 7, 6)
    assert_allclose(a.position, (1.0, 2.0, 3.0))
    assert a.mass == pytest.approx(1000.0 * 4.0 / 3.0 * np.pi * 1e-3)
    assert robot.contact is None


@pytest.mark.parametrize("target", ["", "rel physics:body0 = </robot/stand>\n"])
def test_joint_to_the_world(load, target):
    """One side names nothing, or a prim that is no body: its frame counts."""
    stand = """
def Xform "stand"
{
    double3 xformOp:translate = (0, 0, 2)
    double xformOp:rotateZ = 90
    uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:rotateZ"]
}
"""
    inside = f"{target}point3f physics:localPos0 = (1, 0, 0)"
    robot = load(stand + body("a") + joint("j", body1="robot/a", inside=inside))
    (a,) = robot.bodies
    assert (a.parent, a.joint.kind) == (-1, "revolute")
    assert_allclose(a.joint.parent_position, (0, 1, 2) if target else (1, 0, 0), atol=1e-12)


def test_reversed_joint_keeps_its_meaning(load):
    """Body 0 is the child: anchors change sides, the axis its sign, the limits stay."""
    ends = """
    uniform token physics:axis = "Y"
    point3f physics:localPos0 = (1, 2, 3)
    point3f physics:localPos1 = (4, 5, 6)
    quatf physics:localRot1 = (0.5, 0.5, 0.5, 0.5)
    float physics:lowerLimit = -10
    float physics:upperLimit = 20
    """
    forward = load(two(inside=ends)).bodies[1].joint
    swapped = (
        ends.replace("Pos0", "Pos?").replace("Pos1", "Pos0").replace("Pos?", "Pos1")
    ).replace("Rot1", "Rot0")
    back = load(two(body0="robot/b", body1="robot/a", inside=swapped)).bodies[1].joint
    assert_allclose(back.parent_position, forward.parent_position)
    assert_allclose(back.child_position, forward.child_position)
    assert_allclose(back.child_rotation, forward.child_rotation)
    assert_allclose(back.axis, -forward.axis)
    assert (back.lower, back.upper) == (forward.lower, forward.upper)


@pytest.mark.parametrize("kind", ["Revolute", "Prismatic", "Spherical"])
def test_reversed_joint_moves_as_usd_says(load, kind):
    """J(q) of body 1 in body 0's frame, whichever of the two is the tree's root."""
    rng = np.random.default_rng(3)
    quats = [q / np.linalg.norm(q) for q in rng.normal(size=(2, 4))]
    inside = "".join(
        f"point3f physics:localPos{i} = {tuple(rng.normal(size=3).tolist())}\n"
        f"quatf physics:localRot{i} = {tuple(quats[i].tolist())}\n"
        for i in (0, 1)
    )
    ends = {"kind": kind, "inside": inside + 'uniform token physics:axis = "Z"'}
    root_first = load(two(**ends)).bodies[1].joint
    child_first = load(two(**ends, body0="robot/b", body1="robot/a")).bodies[1].joint

    def relative(j, q):
        """Pose of the child in the parent's frame as a matrix, for a hinge or slide at q."""

        def frame(position, rotation):
            m = np.eye(4)
            m[:3, :3], m[:3, 3] = rotation_matrix(rotation), position
            return m

        move = np.eye(4)
        if kind == "Prismatic":
            move[:3, 3] = q * j.axis
        else:
            half = q / 2.0
            move[:3, :3] = rotation_matrix([*(np.sin(half) * j.axis), np.cos(half)])
        to_child = frame(j.parent_position, j.parent_rotation) @ move
        return to_child @ np.linalg.inv(frame(j.child_position, j.child_rotation))

    for q in (0.0, 0.7, -1.3):
        assert_allclose(
            relative(child_first, q), np.linalg.inv(relative(root_first, q)), atol=1e-12
        )


def test_order_is_depth_first_in_the_files_order(load):
    robot = load(
        body("tip2") + body("root") + body("arm1") + body("arm2") + body("tip1")
        + joint("j5", body0="robot/arm2", body1="robot/tip2")
        + joint("j2", body0="robot/root", body1="robot/arm2")
        + joint("j1", body0="robot/root", body1="robot/arm1")
        + joint("j4", body0="robot/arm1", body1="robot/tip1")
    )  # fmt: skip
    assert [b.name for b in robot.bodies] == ["root", "arm1", "tip1", "arm2", "tip2"]
    assert [b.parent for b in robot.bodies] == [-1, 0, 1, 0, 3]


def test_several_roots(load):
    robot = load(two() + body("c"))
    assert [b.parent for b in robot.bodies] == [-1, 0, -1]
    assert [b.joint.kind for b in robot.bodies] == ["fixed", "revolute", "free"]


def test_articulation_root_is_the_root(load):
    tagged = body("b").replace('"PhysicsMassAPI"', '"PhysicsMassAPI", "PhysicsArticulationRootAPI"')
    robot = load(body("a") + tagged + joint("j", body0="robot/a", body1="robot/b"))
    assert [(b.name, b.parent) for b in robot.bodies] == [("b", -1), ("a", 0)]
    assert_allclose(robot.bodies[1].joint.axis, (-1.0, 0.0, 0.0))


def test_nested_bodies_and_targets_inside_bodies(load):
    """A body below a body keeps its own colliders; a target below a body means that body."""
    inner = (
        body("inner", at=(0, 0, 1))
        + """
def Xform "site"
{
    double3 xformOp:translate = (0, 2, 0)
    uniform token[] xformOpOrder = ["xformOp:translate"]
}
"""
    )
    robot = load(
        body("outer", BALL % "" + inner, at=(5, 0, 0))
        + joint(
            "j",
            body0="robot/outer/site",
            body1="robot/outer/inner",
            inside="point3f physics:localPos0 = (0, 0, 0.5)",
        )
    )
    outer, inner = robot.bodies
    assert len(outer.shapes) == len(inner.shapes) == 1
    assert_allclose(inner.position, (5.0, 0.0, 1.0))
    assert_allclose(inner.joint.parent_position, (0.0, 2.0, 0.5))


def test_world_is_what_does_not_move(load):
    """Disabled and kinematic bodies, disabled joints and the ground take no part."""
    kinematic = body("base", at=(0, 0, 1)).replace("{", "{\nbool physics:kinematicEnabled = 1", 1)
    disabled = body("prop").replace("{", "{\nbool physics:rigidBodyEnabled = 0", 1)
    robot = load(
        kinematic + disabled + body("a")
        + joint("j", body0="robot/base", body1="robot/a")
        + joint("off", body0="robot/a", body1="robot/prop", inside="bool physics:jointEnabled = 0")
        + joint("idle", "Fixed", "robot/prop", "robot/base"),
        outside='def Plane "ground" (prepend apiSchemas = ["PhysicsCollisionAPI"])\n{\n}\n',
    )  # fmt: skip
    (a,) = robot.bodies
    assert (a.name, a.parent) == ("a", -1)
    assert_allclose(a.joint.parent_position, (0.0, 0.0, 1.0))


def test_referenced_robot(tmp_path, load):
    part = tmp_path / "part.usda"
    text = HEADER.format(up="Z", metres=1, kilograms=1)
    part.write_text(text + f'def Xform "robot"\n{{\n{two()}\n}}\n')
    robot = load(
        'def "copy" (references = @./part.usda@)\n{\n'
        "double3 xformOp:translate = (0, 0, 3)\n"
        'uniform token[] xformOpOrder = ["xformOp:translate"]\n}'
    )
    assert [b.path for b in robot.bodies] == ["/robot/copy/a", "/robot/copy/b"]
    assert_allclose(robot.bodies[0].position, (0.0, 0.0, 3.0))


# --- units and frames ---------------------------------------------------------------------------

CHAIN = """
uniform token physics:axis = "Y"
point3f physics:localPos0 = ({s}, 0, {h})
point3f physics:localPos1 = (0, {h}, 0)
float physics:lowerLimit = -90
float newton:armature = {armature}
float newton:damping = {damping}
float drive:angular:physics:stiffness = {stiffness}
float drive:angular:physics:targetPosition = 45
"""


def test_centimetres_and_grams(load):
    """The same robot in two systems of units is the same robot."""
    drive = '"PhysicsDriveAPI:angular"'
    si = CHAIN.format(s=2, h=0.5, armature=0.3, damping=0.25, stiffness=1.5)
    # Torque is mass length^2 / time^2: a factor of 1e3 g/kg times 1e4 cm^2/m^2.
    cgs = CHAIN.format(s=200, h=50, armature=0.3e7, damping=0.25e7, stiffness=1.5e7)
    ball = BALL.replace("0.1", "10") % "float physics:density = 2.5"
    dense = "float physics:density = 2500"
    metres = load(two(inside=si, schemas=drive).replace(BALL % "", BALL % dense))
    small = two(inside=cgs, schemas=drive).replace(BALL % "", ball)
    centimetres = load(small, metres=0.01, kilograms=0.001)
    assert metres.bodies[1].mass == pytest.approx(2500.0 * 4.0 / 3.0 * np.pi * 1e-3)
    for one, other in zip(metres.bodies, centimetres.bodies, strict=True):
        assert other.mass == pytest.approx(one.mass)
        assert_allclose(other.inertia, one.inertia, atol=1e-12)
        assert_allclose(other.joint.parent_position, one.joint.parent_position)
        assert_allclose(other.joint.child_position, one.joint.child_position)
        for name in ("lower", "upper", "armature", "damping", "stiffness", "rest", "limit_ke"):
            assert getattr(other.joint, name) == pytest.approx(getattr(one.joint, name))
    hinge = metres.bodies[1].joint
    per_radian = 180.0 / np.pi
    assert hinge.damping == pytest.approx(0.25 * per_radian)
    assert hinge.stiffness == pytest.approx(1.5 * per_radian)
    assert (hinge.rest, hinge.lower) == pytest.approx((np.pi / 4.0, -np.pi / 2.0))
    assert (hinge.upper, hinge.armature) == (np.inf, 0.3)


def test_slide_in_centimetres(load):
    inside = """
    float physics:lowerLimit = -50
    float physics:upperLimit = 100
    float newton:limitStiffness = 7
    float newton:limitDamping = 3
    float newton:armature = 2
    float drive:linear:physics:damping = 4
    """
    schemas = '"PhysicsDriveAPI:linear"'
    robot = load(two(kind="Prismatic", inside=inside, schemas=schemas), metres=0.01, kilograms=2)
    slide = robot.bodies[1].joint
    assert (slide.lower, slide.upper) == pytest.approx((-0.5, 1.0))
    # Force over length is mass / time^2: no length in it.
    gains = (slide.limit_ke, slide.limit_kd, slide.damping, slide.armature)
    assert gains == (14.0, 6.0, 8.0, 4.0)


def test_y_up_becomes_z_up(load):
    """(x, y, z) -> (x, -z, y) in the world; bodies turn with it, what is in them stays."""
    scene = 'def PhysicsScene "scene"\n{\nfloat physics:gravityMagnitude = 3\n}\n'
    inside = "point3f physics:localPos0 = (1, 2, 3)"
    bodies = body("a", at=(1, 2, 3)) + body("b", at=(0, 1, 0))
    hinge = joint("j", body1="robot/a", inside=inside)
    robot = load(bodies + hinge, up="Y", outside=scene)
    a, b = robot.bodies
    assert_allclose(robot.gravity, (0.0, 0.0, -3.0), atol=1e-12)
    assert_allclose(a.position, (1.0, -3.0, 2.0))
    assert_allclose(a.joint.parent_position, (1.0, -3.0, 2.0))
    assert_allclose(rotation_matrix(b.rotation) @ (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), atol=1e-12)
    # The joint at zero puts the body where the file has it.
    assert_allclose(rotation_matrix(a.joint.parent_rotation), rotation_matrix(a.rotation))


def test_gravity_along_a_direction(load):
    scene = """
def PhysicsScene "scene"
{
    vector3f physics:gravityDirection = (0, 3, -4)
    float physics:gravityMagnitude = 200
}
"""
    robot = load(body("a"), metres=0.01, outside=scene)
    assert_allclose(robot.gravity, (0.0, 1.2, -1.6))
    assert_allclose(load(body("a"), metres=0.01).gravity, (0.0, 0.0, -9.81))


@pytest.mark.parametrize("magnitude", ["-inf", "-1", "-9.81"])
def test_negative_gravity_asks_for_the_earths(load, magnitude):
    """As the schema of UsdPhysics says, in any unit."""
    scene = f'def PhysicsScene "s"\n{{\nfloat physics:gravityMagnitude = {magnitude}\n}}\n'
    assert_allclose(load(body("a"), metres=0.01, outside=scene).gravity, (0.0, 0.0, -9.81))


@pytest.mark.parametrize("line", ["bool newton:gravityEnabled = 0", "bool mjc:flag:gravity = 0"])
def test_gravity_switched_off(load, line):
    robot = load(body("a"), outside=f'def PhysicsScene "s"\n{{\n{line}\n}}\n')
    assert_allclose(robot.gravity, 0.0)
    assert not robot.notes


@pytest.mark.parametrize(
    ("line", "share"),
    [("bool physxRigidBody:disableGravity = 1", 1), ("double mjc:gravcomp = 2", 2)],
)
def test_body_without_weight_is_lifted_at_its_centre(load, line, share):
    centre = "point3f physics:centerOfMass = (0, 0, 0.05)"
    robot = load(body("a", BALL % "" + f"{centre}\n{line}"))
    (a,) = robot.bodies
    assert a.lift_mass == pytest.approx(share * a.mass)
    assert_allclose(a.lift_position, (0.0, 0.0, 0.05))
    assert not robot.notes


def test_scaled_body(load):
    """Anchors and colliders scale with the body; its frame does not."""
    scaled = body("b").replace("{", "{\nfloat3 xformOp:scale = (2, 2, 2)", 1)
    scaled = scaled.replace('["xformOp:translate"]', '["xformOp:translate", "xformOp:scale"]')
    robot = load(
        body("a")
        + scaled
        + joint(
            "j", body0="robot/a", body1="robot/b", inside="point3f physics:localPos1 = (1, 0, 0)"
        )
    )
    b = robot.bodies[1]
    assert_allclose(b.joint.child_position, (2.0, 0.0, 0.0))
    assert b.shapes[0].radius == pytest.approx(0.2)


@pytest.mark.parametrize("line", ["metersPerUnit", "upAxis"])
def test_units_that_are_not_authored_are_told_of(line, tmp_path):
    text = HEADER.format(kilograms=1, metres=0.01, up="Y") + body("a")
    lines = [part for part in text.splitlines() if line not in part]
    for name, lines_of, count in (("said", text.splitlines(), 0), ("unsaid", lines, 1)):
        path = tmp_path / f"{name}.usda"
        path.write_text("\n".join(lines_of))
        told = [note for note in load_robot(path).notes if "authored" in note]
        assert len(told) == count
        assert all(line in note for note in told)
