"""The shipped robots are what the specification says, and clean USD."""

from pathlib import Path

import numpy as np
import pytest
import usd_validation_nvidia
from numpy.testing import assert_allclose
from pxr import Kind, Usd, UsdGeom, UsdPhysics, UsdShade, UsdValidation

from tests.kernels.articulation import published_robots
from warp_envs.usd.description import rotation_matrix
from warp_envs.usd.loader import load_robot

ASSETS = Path(__file__).parents[2] / "assets"
ROBOTS = ("cartpole", "ant", "hopper", "half_cheetah", "humanoid", "anymal")
# Gains and angles are authored in float32 and degrees: about eight digits.
CLOSE = 1e-7


@pytest.fixture(params=ROBOTS)
def path(request):
    return ASSETS / f"{request.param}.usda"


def robot(name):
    return load_robot(ASSETS / f"{name}.usda")


def axis_in_parent(joint):
    return rotation_matrix(joint.parent_rotation) @ joint.axis


def capsule(radius, half_length):
    """Mass, inertia across and along the axis of a capsule of water (Wikipedia's formula)."""
    cylinder = 1000.0 * np.pi * radius**2 * 2.0 * half_length
    ends = 1000.0 * 4.0 / 3.0 * np.pi * radius**3
    across = cylinder * ((2.0 * half_length) ** 2 / 12.0 + radius**2 / 4.0) + ends * (
        0.4 * radius**2 + half_length**2 + 0.75 * radius * half_length
    )
    return cylinder + ends, across, cylinder * radius**2 / 2.0 + ends * 0.4 * radius**2


def test_cartpole():
    cartpole = robot("cartpole")
    cart, pole = cartpole.bodies
    assert cartpole.contact is None
    assert_allclose(cartpole.gravity, (0.0, 0.0, -9.81), rtol=1e-12)
    assert (cart.parent, pole.parent) == (-1, 0)
    assert (cart.mass, pole.mass) == pytest.approx((50.0, 2.5))
    assert_allclose(cart.inertia, np.diag([0.29, 0.29, 0.5]) * 50.0 / 12.0, atol=1e-12)
    assert_allclose(pole.inertia, np.diag([1.0025, 1.0025, 0.005]) * 2.5 / 12.0, atol=1e-12)
    assert_allclose(pole.com, (0.0, 0.0, 0.5))
    slide, hinge = cart.joint, pole.joint
    assert (slide.kind, hinge.kind) == ("prismatic", "revolute")
    assert_allclose(axis_in_parent(slide), (1.0, 0.0, 0.0), atol=1e-12)
    assert_allclose(axis_in_parent(hinge), (0.0, 1.0, 0.0), atol=1e-12)
    assert (slide.lower, slide.upper, slide.limit_ke) == (-4.0, 4.0, 100.0)
    assert (hinge.lower, hinge.upper) == (-np.inf, np.inf)
    for joint in (slide, hinge):
        assert joint.armature == 0.01
        assert joint.limit_kd == pytest.approx(1.0, rel=CLOSE)
        assert (joint.damping, joint.stiffness) == (0.0, 0.0)


def test_ant_bodies():
    torso, *legs = robot("ant").bodies
    sphere = 1000.0 * 4.0 / 3.0 * np.pi * 0.25**3
    assert torso.mass == pytest.approx(sphere + 4.0 * capsule(0.08, np.hypot(0.1, 0.1))[0])
    assert_allclose(torso.inertia, np.diag([2.2241, 2.2241, 2.7171]), atol=5e-5)
    assert_allclose(torso.com, 0.0, atol=1e-12)
    for i, (x, y) in enumerate([(1, 1), (-1, 1), (-1, -1), (1, -1)]):
        upper, lower = legs[2 * i : 2 * i + 2]
        for body, offset, numbers in (
            (upper, 0.2, (0.0686, 0.0450, 0.1136)),
            (lower, 0.4, (0.2884, 0.2465, 0.5350)),
        ):
            mass, across, along = capsule(0.08, np.hypot(offset, offset) / 2.0)
            assert body.mass == pytest.approx(mass)
            assert_allclose(body.com, (x * offset / 2.0, y * offset / 2.0, 0.0), atol=1e-12)
            mean, coupling = (across + along) / 2.0, x * y * (along - across) / 2.0
            expected = [[mean, coupling, 0.0], [coupling, mean, 0.0], [0.0, 0.0, across]]
            assert_allclose(body.inertia, expected, atol=1e-12)
            # The specification's rounded figures; its 0.0686 and 0.0450 have three digits.
            assert_allclose(np.abs(body.inertia[[0, 0, 2], [0, 1, 2]]), numbers, atol=1e-4)
    assert [body.name for body in legs[:2]] == ["upper_leg1", "lower_leg1"]


def test_ant_joints():
    ant = robot("ant")
    root, *joints = [body.joint for body in ant.bodies]
    assert (root.kind, root.armature, ant.nq, ant.nv) == ("free", 0.0, 15, 14)
    assert [j.name for j in joints] == [f"{n}{i}" for i in (1, 2, 3, 4) for n in ("hip", "ankle")]
    assert [body.parent for body in ant.bodies] == [-1, 0, 1, 0, 3, 0, 5, 0, 7]
    ranges = ((30, 100), (-100, -30), (-100, -30), (30, 100))
    for i, (x, y) in enumerate([(1, 1), (-1, 1), (-1, -1), (1, -1)]):
        hip, ankle = joints[2 * i : 2 * i + 2]
        assert_allclose(axis_in_parent(hip), (0.0, 0.0, 1.0), atol=1e-12)
        assert_allclose(
            axis_in_parent(ankle), np.array([-x * y, 1.0, 0.0]) / np.sqrt(2), atol=CLOSE
        )
        assert_allclose(np.rad2deg([hip.lower, hip.upper]), (-40.0, 40.0))
        assert_allclose(np.rad2deg([ankle.lower, ankle.upper]), ranges[i])
        for joint in (hip, ankle):
            assert_allclose(joint.parent_position, (0.2 * x, 0.2 * y, 0.0))
            assert_allclose(joint.child_position, 0.0)
            assert_allclose(joint.parent_rotation, joint.child_rotation)
    for joint in joints:
        assert joint.kind == "revolute"
        gains = (joint.damping, joint.armature, joint.limit_ke, joint.limit_kd, joint.stiffness)
        assert gains == pytest.approx((1.0, 0.05, 1e3, 1e1, 0.0), rel=CLOSE)


def test_ant_contact():
    contact = robot("ant").contact
    assert contact is not None
    assert (contact.ke, contact.kd, contact.kf, contact.mu) == (4e4, 1e4, 3e3, 0.75)
    assert all(shape.collides for body in robot("ant").bodies for shape in body.shapes)


def test_hopper():
    hopper = robot("hopper")
    names = [body.joint.name for body in hopper.bodies]
    assert names == ["root_x", "root_z", "root_pitch", "thigh", "leg", "foot"]
    assert [body.parent for body in hopper.bodies] == [-1, 0, 1, 2, 3, 4]
    axes = [axis_in_parent(body.joint) for body in hopper.bodies]
    expected = [(1, 0, 0), (0, 0, 1), (0, 1, 0), (0, -1, 0), (0, -1, 0), (0, -1, 0)]
    assert_allclose(axes, expected, atol=1e-12)
    joints = [body.joint for body in hopper.bodies]
    assert [j.kind for j in joints] == ["prismatic"] * 2 + ["revolute"] * 4
    assert [j.armature for j in joints] == [1.0] * 6
    assert_allclose([j.limit_kd for j in joints], 10.0, rtol=CLOSE)
    assert_allclose([j.damping for j in joints], [0, 0, 0, 2, 2, 2], rtol=CLOSE)
    assert_allclose([j.limit_ke for j in joints], [0, 0, 0, 1e3, 1e3, 1e3], rtol=CLOSE)
    assert_allclose([j.lower for j in joints[3:]], (-2.618, -2.618, -0.785), rtol=CLOSE)
    assert_allclose([j.upper for j in joints[3:]], (0.0, 0.0, 0.785), rtol=CLOSE)
    assert [j.upper for j in joints[:3]] == [np.inf] * 3
    contact = hopper.contact
    assert contact is not None
    assert (contact.ke, contact.kd, contact.kf, contact.mu) == (2e4, 1e3, 1e3, 0.9)
    sizes = {
        "torso": (0.05, 0.2),
        "thigh": (0.05, 0.225),
        "leg": (0.04, 0.25),
        "foot": (0.06, 0.195),
    }
    centres = {
        "torso": (0, 0, 1.25),
        "thigh": (0, 0, 0.825),
        "leg": (0, 0, 0.35),
        "foot": (0.06, 0, 0.1),
    }
    for body in hopper.bodies[:2]:
        assert body.mass == 1e-9
        assert_allclose(body.inertia, 1e-9 * np.eye(3))
    for body in hopper.bodies[2:]:
        mass, across, along = capsule(*sizes[body.name])
        assert body.mass == pytest.approx(mass)
        diagonal = (along, across, across) if body.name == "foot" else (across, across, along)
        assert_allclose(body.inertia, np.diag(diagonal), atol=1e-12)
        assert_allclose(body.position + body.com, centres[body.name], atol=1e-12)


PUBLISHED = {  # body -> mass, centre of mass, inertia xx, yy, zz, xy, xz, yz; the specification's
    "half_cheetah": {
        "torso": (9.457333, (0.152390, 0, 0.025398), {"yy": 1.357449}),
        "back_thigh": (2.335527, (0.1, 0, -0.13), {"yy": 0.025488}),
        "back_shin": (2.402003, (-0.14, 0, -0.07), {"yy": 0.027641}),
        "back_foot": (1.657471, (0.03, 0, -0.097), {"yy": 0.009612}),
        "front_thigh": (2.175984, (-0.07, 0, -0.12), {"yy": 0.020790}),
        "front_shin": (1.817013, (0.065, 0, -0.09), {"yy": 0.012441}),
        "front_foot": (1.338385, (0.045, 0, -0.07), {"yy": 0.005340}),
    },
    "humanoid": {
        "torso": (
            *(8.907462, (-0.002539, 0, 0.034663)),
            {"xx": 0.173149, "yy": 0.154010, "zz": 0.041212, "xz": -0.003498},
        ),
        "waist": (2.261947, (0, 0, -0.065), {"xx": 0.009853, "yy": 0.003746, "zz": 0.009853}),
        "pelvis": (6.616194, (-0.02, 0, -0.1), {"xx": 0.052318, "yy": 0.024322, "zz": 0.052318}),
        "right_thigh": (
            *(4.751751, (0, 0.005, -0.17)),
            {"xx": 0.074952, "yy": 0.074894, "zz": 0.008285, "yz": 0.001961},
        ),
        "left_shin": (2.755696, (0, 0, -0.17), {"xx": 0.032608, "yy": 0.032608, "zz": 0.003190}),
        "right_foot": (
            *(1.131141, (0.035, -0.01, -0.08)),
            {"xx": 0.000903, "yy": 0.005944, "zz": 0.006446},
        ),
        "left_upper_arm": (
            *(1.661080, (0.08, 0.08, -0.08)),
            {"xx": 0.011032, "xy": -0.004873, "xz": 0.004873, "yz": 0.004873},
        ),
        "left_lower_arm": (
            *(1.229540, (0.109623, -0.109623, 0.109623)),
            {"zz": 0.009319, "xy": 0.004349, "xz": -0.004349, "yz": 0.004349},
        ),
    },
    "anymal": {
        "base": (27.750735, (0, 0, 0), {"xx": 0.134565, "yy": 1.886985, "zz": 1.886985}),
        "RF_THIGH": (2.261947, (0, -0.0503, -0.285), {"xx": 0.009853, "yy": 0.003746}),
        "LH_SHANK": (0.113097, (-0.08795, 0.01305, -0.31547), {"xx": 4.0715e-5, "zz": 4.0715e-5}),
    },
}
TOTAL = {"half_cheetah": 21.183717, "humanoid": 40.844021, "anymal": 37.250911}


@pytest.mark.parametrize("name", PUBLISHED)
def test_masses_and_inertias_are_the_specifications(name):
    bodies = {body.name: body for body in robot(name).bodies}
    assert sum(body.mass for body in bodies.values()) == pytest.approx(TOTAL[name], abs=1e-6)
    for body_name, (mass, com, inertia) in PUBLISHED[name].items():
        body = bodies[body_name]
        assert body.mass == pytest.approx(mass, abs=1e-6)
        assert_allclose(body.com, com, atol=1e-6)
        for (row, column), value in inertia.items():
            found = body.inertia["xyz".index(row), "xyz".index(column)]
            assert found == pytest.approx(value, abs=1e-6), (body_name, row, column)


@pytest.mark.parametrize("name", PUBLISHED)
def test_joints_and_contact_are_those_described_by_hand(name):
    found, expected = robot(name), getattr(published_robots, name)()
    assert found.contact == expected.contact
    for ours, theirs in zip(found.bodies, expected.bodies, strict=True):
        assert ours.parent == theirs.parent
        a, b = ours.joint, theirs.joint
        assert a.kind == b.kind
        if a.kind == "free":
            continue
        assert_allclose(axis_in_parent(a), b.axis, atol=CLOSE)
        assert_allclose(a.parent_position, b.parent_position, atol=1e-9)
        for field in ("lower", "upper", "damping", "stiffness", "rest", "limit_kd", "armature"):
            assert_allclose(getattr(a, field), getattr(b, field), rtol=CLOSE, atol=1e-9)
        if np.isfinite(b.lower):
            assert a.limit_ke == pytest.approx(b.limit_ke, rel=CLOSE)


@pytest.mark.parametrize("name", ROBOTS)
def test_frames_stand_with_the_world_and_anchors_coincide_at_rest(name):
    """With every coordinate zero the bodies are where the file has them."""
    bodies = robot(name).bodies
    for body in bodies:
        assert_allclose(body.rotation, (0.0, 0.0, 0.0, 1.0))
        joint = body.joint
        if joint.kind == "free":
            continue
        parent = bodies[body.parent].position if body.parent >= 0 else np.zeros(3)
        assert_allclose(
            parent + joint.parent_position, body.position + joint.child_position, atol=1e-12
        )
        assert_allclose(joint.parent_rotation, joint.child_rotation, atol=1e-12)


def test_openusd_validators_find_nothing(path):
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) >= 20
    errors = UsdValidation.ValidationContext(validators).Validate(Usd.Stage.Open(str(path)))
    assert [error.GetErrorAsString() for error in errors] == []


def test_nvidia_validators_find_nothing(path):
    engine = usd_validation_nvidia.ValidationEngine()
    issues = engine.validate(str(path)).issues
    assert [issue.message for issue in issues] == []


def test_validators_are_awake(tmp_path):
    """A joint on nothing is found by both: silence elsewhere means something."""
    broken = tmp_path / "broken.usda"
    text = (ASSETS / "cartpole.usda").read_text()
    broken.write_text(text.replace("PhysicsRigidBodyAPI", "PhysicsMassAPI"))
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert UsdValidation.ValidationContext(validators).Validate(Usd.Stage.Open(str(broken)))
    assert len(usd_validation_nvidia.ValidationEngine().validate(str(broken)).issues) > 0


def test_stage_metadata_and_materials(path):
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == "Z"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert UsdPhysics.GetStageKilogramsPerUnit(stage) == 1.0
    assert (stage.GetTimeCodesPerSecond(), stage.GetFramesPerSecond()) == (60.0, 60.0)
    root = stage.GetDefaultPrim()
    assert root.GetName() == path.stem
    assert Usd.ModelAPI(root).GetKind() == Kind.Tokens.component
    assert root.HasAPI(UsdPhysics.ArticulationRootAPI)
    pictures = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Gprim)]
    assert pictures
    for prim in pictures:
        material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
        shader = material.ComputeSurfaceSource()[0]
        assert shader.GetIdAttr().Get() == "UsdPreviewSurface", prim.GetPath()


# Its successor is not in the older releases that are supported too.
@pytest.mark.filterwarnings("ignore:LoadUsdPhysicsFromRange")
def test_usd_physics_parses_the_same_articulation(path):
    """OpenUSD's own parser finds the bodies and joints that are simulated, and one articulation."""
    stage = Usd.Stage.Open(str(path))
    parsed = UsdPhysics.LoadUsdPhysicsFromRange(stage, ["/"])
    kinds = UsdPhysics.ObjectType
    described = load_robot(path).bodies
    bodies = {str(p) for p in parsed[kinds.RigidBody][0]}
    assert bodies == {body.path for body in described}
    joints = {
        str(desc.primPath): (kind, str(desc.body0), str(desc.body1))
        for key, kind in ((kinds.RevoluteJoint, "revolute"), (kinds.PrismaticJoint, "prismatic"))
        for desc in parsed.get(key, ((), ()))[1]
    }
    expected = {
        body.joint.path: (
            body.joint.kind,
            described[body.parent].path if body.parent >= 0 else "",
            body.path,
        )
        for body in described
        if body.joint.kind != "free"
    }
    assert joints == expected
    (articulation,) = parsed[kinds.Articulation][1]
    articulated = {str(p) for p in articulation.articulatedBodies if str(p)}
    assert articulated == bodies
