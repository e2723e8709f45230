"""Colliders become shapes; mass by the rules of UsdPhysics; contact materials."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pxr import Gf, Usd, UsdGeom, UsdPhysics

from tests.warp_envs.usd.usd_text import AXES, BALL, body, joint
from warp_envs.usd.description import Shape, rotation_matrix
from warp_envs.usd.mass import shape_mass_properties


@pytest.mark.parametrize("axis", ["X", "Y", "Z"])
def test_capsule_axis_and_nesting(load, axis):
    """A capsule below a rotated, scaled Xform of the body."""
    inside = f"""
def Xform "frame"
{{
    double3 xformOp:translate = (1, 0, 0)
    double xformOp:rotateX = 90
    double3 xformOp:scale = (2, 2, 2)
    uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:rotateX", "xformOp:scale"]

    def Capsule "collider" (prepend apiSchemas = ["PhysicsCollisionAPI"])
    {{
        uniform token axis = "{axis}"
        double height = 0.4
        double radius = 0.1
        double3 xformOp:translate = (0, 0, 1)
        uniform token[] xformOpOrder = ["xformOp:translate"]
    }}
}}
"""
    (shape,) = load(body("a", inside)).bodies[0].shapes
    assert shape.kind == "capsule"
    assert (shape.radius, shape.half_length) == pytest.approx((0.2, 0.4))
    assert_allclose(shape.position, (1.0, -2.0, 0.0), atol=1e-12)
    along = rotation_matrix(shape.rotation)[:, 2]
    expected = {"X": (1, 0, 0), "Y": (0, 0, 1), "Z": (0, -1, 0)}[axis]
    assert_allclose(along, expected, atol=1e-12)


def test_body_that_is_its_own_collider(load):
    text = """
def Cube "box" (prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsCollisionAPI"])
{
    double size = 1
    double3 xformOp:scale = (0.5, -0.2, 0.1)
    double3 xformOp:rotateXYZ = (0, 0, 30)
    uniform token[] xformOpOrder = ["xformOp:rotateXYZ", "xformOp:scale"]
}
"""
    (box,) = load(text.replace("-0.2", "0.2")).bodies
    (shape,) = box.shapes
    assert_allclose(shape.half_extents, (0.25, 0.1, 0.05))
    assert_allclose(shape.rotation, (0.0, 0.0, 0.0, 1.0), atol=1e-12)
    assert box.mass == pytest.approx(10.0)
    with pytest.raises(ValueError, match=r"/robot/box: .*mirrored"):
        load(text)


def test_mirrored_collider_is_the_same_solid(load):
    inside = """
def Cube "box" (prepend apiSchemas = ["PhysicsCollisionAPI"])
{
    double3 xformOp:translate = (1, 2, 3)
    double3 xformOp:scale = (1, 2, -3)
    uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:scale"]
}
"""
    (shape,) = load(body("a", inside)).bodies[0].shapes
    assert_allclose(shape.half_extents, (1.0, 2.0, 3.0))
    assert_allclose(shape.position, (1.0, 2.0, 3.0))


MATERIAL = """
def Material "stuff" (prepend apiSchemas = ["PhysicsMaterialAPI"])
{
    float physics:density = 3
}
"""
CUBES = """
def Cube "left" (prepend apiSchemas = ["PhysicsCollisionAPI", "PhysicsMassAPI"])
{
    double size = 1
    double3 xformOp:translate = (0.5, 0.1, 0)
    double3 xformOp:rotateXYZ = (20, 30, 40)
    uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:rotateXYZ"]
    %s
}

def Cube "right" (prepend apiSchemas = ["PhysicsCollisionAPI", "PhysicsMassAPI"])
{
    double size = 1
    double3 xformOp:scale = (1, 2, 3)
    uniform token[] xformOpOrder = ["xformOp:scale"]
}
"""
BIND = "rel material:binding:physics = </robot/stuff>"


def mass_by_openusd(file, path):
    """Mass, centre and inertia tensor by OpenUSD's own rules, from the shapes' volumes."""
    stage = Usd.Stage.Open(str(file))

    def information(prim):
        size = Gf.Vec3d(*(prim.GetAttribute("xformOp:scale").Get() or (1, 1, 1)))
        box = Shape("box", half_extents=np.array(size) / 2.0, density=1.0)
        solid = shape_mass_properties(box)
        found = UsdPhysics.RigidBodyAPI.MassInformation()
        found.volume = solid.mass
        found.inertia = Gf.Matrix3f(*solid.inertia.ravel())
        found.centerOfMass = Gf.Vec3f(0)
        local = UsdGeom.Xformable(prim).GetLocalTransformation().RemoveScaleShear()
        found.localPos = Gf.Vec3f(local.ExtractTranslation())
        found.localRot = Gf.Quatf(local.ExtractRotationQuat())
        return found

    api = UsdPhysics.RigidBodyAPI(stage.GetPrimAtPath(path))
    mass, diagonal, com, axes = api.ComputeMassProperties(information)
    turn = rotation_matrix([*axes.GetImaginary(), axes.GetReal()])
    return mass, np.array(com), turn @ np.diag(diagonal) @ turn.T


@pytest.mark.parametrize(
    ("on_body", "on_left"),
    [
        ("", ""),
        ("", "float physics:density = 5"),
        ("float physics:density = 10", ""),
        ("float physics:density = 10", "float physics:density = 5"),
        ("float physics:density = 10", "float physics:mass = 7"),
        ("", BIND),
        ("", f"float physics:density = 5\n{BIND}"),
        ("float physics:density = 10", BIND),
        ("float physics:density = 0", "float physics:density = 0"),
        ("float physics:mass = 2", ""),
        ("float physics:mass = 2", "float physics:mass = 7"),
        ("point3f physics:centerOfMass = (1, 2, 3)", ""),
        ("float physics:mass = 2\npoint3f physics:centerOfMass = (1, 2, 3)", ""),
        (f"float3 physics:diagonalInertia = (3, 4, 5)\n{AXES}", ""),
        (f"float physics:mass = 2\nfloat3 physics:diagonalInertia = (3, 4, 5)\n{AXES}", ""),
    ],
)
def test_mass_by_the_rules_of_openusd(load, on_body, on_left):
    bind = ', "MaterialBindingAPI"]' if on_left.endswith(BIND) else "]"
    cubes = (CUBES % on_left).replace('"PhysicsMassAPI"]', f'"PhysicsMassAPI"{bind}', 1)
    robot = load(MATERIAL + body("a", f"{on_body}\n{cubes}"))
    (a,) = robot.bodies
    mass, com, inertia = mass_by_openusd(robot.path, "/robot/a")
    assert a.mass == pytest.approx(mass, rel=1e-6)
    assert_allclose(a.com, com, atol=1e-6)
    assert_allclose(a.inertia, inertia, rtol=1e-5, atol=1e-5 * np.abs(inertia).max())


def test_collider_that_does_not_collide_still_weighs(load):
    """What the warning in OpenUSD's own computation advises (though it leaves such ones out)."""
    off = "bool physics:collisionEnabled = 0"
    assert load(body("a", BALL % off)).bodies[0].mass == load(body("a")).bodies[0].mass


def test_explicit_mass_needs_no_colliders(load):
    inside = "float physics:mass = 2\nfloat3 physics:diagonalInertia = (3, 4, 5)"
    (a,) = load(body("a", inside)).bodies
    assert a.mass == 2.0
    assert_allclose(a.inertia, np.diag([3.0, 4.0, 5.0]))


def test_full_inertia_tensor(load):
    """Newton's six numbers: xx, yy, zz, xy, xz, yz, in double precision."""
    inside = "float physics:mass = 2\ndouble[] newton:inertia = [3, 4, 5, 0.1, 0.2, 0.3]"
    (a,) = load(body("a", inside), metres=0.1, kilograms=2).bodies
    expected = np.array([[3.0, 0.1, 0.2], [0.1, 4.0, 0.3], [0.2, 0.3, 5.0]])
    assert_allclose(a.inertia, 0.02 * expected)


def test_welded_body_may_be_massless(load):
    robot = load(body("a") + body("tip", "") + joint("j", "Fixed", "robot/a", "robot/tip"))
    assert robot.bodies[1].mass == 0.0


CONTACT = """
def Material "{name}" (prepend apiSchemas = ["PhysicsMaterialAPI"])
{{
    float newton:contactStiffness = {ke}
    float newton:contactFrictionGain = 20
    float gippo:contactDampingPerDepth = 30
    float physics:dynamicFriction = 0.5
}}
"""


def test_contact_material(load):
    bound = (BALL % BIND).replace('"PhysicsMassAPI"', '"PhysicsMassAPI", "MaterialBindingAPI"')
    inside = bound + BALL.replace('"ball"', '"bare"') % ""
    material = CONTACT.format(name="stuff", ke=10)
    robot = load(material + body("a", inside), metres=0.1, kilograms=2)
    contact = robot.contact
    assert contact is not None
    assert (contact.ke, contact.kd, contact.kf, contact.mu) == (20.0, 600.0, 40.0, 0.5)
    assert [shape.collides for shape in robot.bodies[0].shapes] == [True, False]
    off = inside.replace(BIND, BIND + "\nbool physics:collisionEnabled = 0")
    robot = load(material + body("a", off))
    assert robot.contact is None
    assert not any(shape.collides for shape in robot.bodies[0].shapes)
    without = material.replace("float newton:contactStiffness = 10\n", "")
    assert load(without + body("a", inside)).contact is None


def test_two_contact_materials_are_refused(load):
    materials = CONTACT.format(name="stuff", ke=10) + CONTACT.format(name="other", ke=11)
    bound = (BALL % BIND).replace('"PhysicsMassAPI"', '"PhysicsMassAPI", "MaterialBindingAPI"')
    other = bound.replace("stuff", "other")
    with pytest.raises(ValueError, match=r"/robot/b/ball: a second contact material"):
        load(materials + body("a", bound) + body("b", other))


SOLIDS = {
    "cylinder": Shape("cylinder", radius=0.3, half_length=0.5, density=800.0),
    "ellipsoid": Shape("ellipsoid", half_extents=np.array([0.3, 0.2, 0.1]), density=800.0),
    "mesh": Shape("mesh", points=np.random.default_rng(0).normal(size=(30, 3)), density=800.0),
}


@pytest.mark.parametrize("kind", SOLIDS)
def test_mass_properties_are_those_of_mujoco(kind):
    shape, mujoco = SOLIDS[kind], pytest.importorskip("mujoco")
    r, h = shape.radius, shape.half_length
    size = {"cylinder": f"{r} {h}", "ellipsoid": " ".join(map(str, shape.half_extents))}
    geom = f'<geom type="{kind}" size="{size.get(kind)}" density="800"/>'
    asset = ""
    if kind == "mesh":
        vertices = " ".join(map(str, shape.points.ravel()))
        asset = f'<asset><mesh name="m" vertex="{vertices}" inertia="convex"/></asset>'
        geom = '<geom type="mesh" mesh="m" density="800"/>'
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco>{asset}<worldbody><body><freejoint/>{geom}</body></worldbody></mujoco>"
    )
    found = shape_mass_properties(shape)
    assert found.mass == pytest.approx(model.body_mass[1], rel=1e-6)
    moments = np.sort(np.linalg.eigvalsh(found.inertia))
    assert_allclose(moments, np.sort(model.body_inertia[1]), rtol=1e-5)
    if kind == "mesh":
        assert_allclose(found.com, model.body_ipos[1], atol=1e-6)


def test_stretched_spheres_cylinders_and_meshes_are_read(load):
    stretched = """double3 xformOp:scale = (1, 1, 2)
uniform token[] xformOpOrder = ["xformOp:scale"]"""
    api = '(prepend apiSchemas = ["PhysicsCollisionAPI"])'
    inside = f"""
def Sphere "s" {api}
{{
double radius = 0.1
{stretched}
}}
def Cylinder "c" {api}
{{
double radius = 0.1
double height = 0.4
{stretched}
}}
def Mesh "m" {api}
{{
point3f[] points = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0.1, 0.1, 0.1)]
{stretched}
}}
"""
    sphere, cylinder, mesh = load(body("a", inside)).bodies[0].shapes
    assert_allclose(sphere.half_extents, (0.1, 0.1, 0.2))
    assert (cylinder.kind, cylinder.radius) == ("cylinder", pytest.approx(0.1))
    assert cylinder.half_length == pytest.approx(0.4)
    assert len(mesh.points) == 4 and mesh.points.max() == pytest.approx(2.0)
    assert shape_mass_properties(mesh).mass == pytest.approx(1000.0 / 3.0)
