"""What cannot be simulated or read is refused by path and reason."""

import re
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pxr import Sdf, UsdUtils

from tests.warp_envs.usd.usd_text import AXES, BALL, HEADER, body, joint, two
from warp_envs.checks import ArgumentError
from warp_envs.usd.loader import load_robot


def drive(name, gains, kind="Revolute"):
    lines = "\n".join(f"{t} drive:{name}:physics:{n} = {v}" for t, n, v in gains)
    return two(kind=kind, inside=lines, schemas=f'"PhysicsDriveAPI:{name}"')


def collider(type_name, inside=""):
    text = f'def {type_name} "c" (prepend apiSchemas = ["PhysicsCollisionAPI"])'
    return body("a", f"{text}\n{{\n{inside}\n}}\n")


STRETCH = """double3 xformOp:scale = (1, 1, 2)
uniform token[] xformOpOrder = ["xformOp:scale"]"""
SHEAR = """matrix4d xformOp:transform = (
    (1, 0.5, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
uniform token[] xformOpOrder = ["xformOp:transform"]"""
REFUSED = {
    "loop": (
        body("a") + body("b") + body("c")
        + joint("ab", body0="robot/a", body1="robot/b")
        + joint("bc", body0="robot/b", body1="robot/c")
        + joint("ca", body0="robot/c", body1="robot/a"),
        r"/robot/(bc|ca): closes a loop",
    ),
    "two joints between two bodies": (
        two() + joint("k", body0="robot/a", body1="robot/b"), r"/robot/[jk]: closes a loop"
    ),
    "loop through the world": (
        two() + joint("k", body1="robot/b"), r"/robot/k: closes a loop through the world"
    ),
    "itself": (two(body1="robot/a"), r"/robot/j: joins /robot/a to itself"),
    "inside itself": (two(body1="robot/a/ball"), r"/robot/j: joins /robot/a to itself"),
    "missing target": (two(body1="robot/none"), r"/robot/j: physics:body1 names /robot/none"),
    "two targets": (
        two().replace("= </robot/b>", "= [</robot/a>, </robot/b>]"), r"/robot/j: .* 2 targets"
    ),
    "D6": (two(kind=""), r"/robot/j: a joint of type PhysicsJoint; accepted: PhysicsFixedJoint"),
    "distance": (two(kind="Distance"), r"/robot/j: a joint of type PhysicsDistanceJoint"),
    "gear": (
        two().replace("def PhysicsRevoluteJoint", "def PhysxPhysicsGearJoint"),
        r"/robot/j: a joint of type PhysxPhysicsGearJoint",
    ),
    "excluded": (
        two(inside="bool physics:excludeFromArticulation = 1"), r"/robot/j: excluded from"
    ),
    "breaks": (two(inside="float physics:breakForce = 10"), r"/robot/j: physics:breakForce is 10"),
    "mimic": (two(schemas='"NewtonMimicAPI"'), r"/robot/j: NewtonMimicAPI couples joints"),
    "dry friction": (two(inside="float newton:friction = 1"), r"/robot/j: newton:friction"),
    "limits": (
        two(inside="float physics:lowerLimit = 1\nfloat physics:upperLimit = 0"),
        r"/robot/j: physics:lowerLimit 1.0 above physics:upperLimit 0.0; .*PhysicsFixedJoint",
    ),
    "limit nan": (two(inside="float physics:lowerLimit = nan"), r"/robot/j: physics:lowerLimit"),
    "limit above everything": (two(inside="float physics:lowerLimit = inf"), r"/robot/j: lower"),
    "hard limit": (two(inside="float newton:limitStiffness = inf"), r"/robot/j: newton:limitSt"),
    "negative damping": (two(inside="float newton:damping = -1"), r"/robot/j: newton:damping"),
    "text for a number": (
        two(inside='string newton:armature = "heavy"'), r"/robot/j: newton:armature is 'heavy'"
    ),
    "axis": (two(inside='uniform token physics:axis = "W"'), r"/robot/j: physics:axis is 'W'"),
    "null rotation": (
        two(inside="quatf physics:localRot0 = (0, 0, 0, 0)"), r"/robot/j: physics:localRot0"
    ),
    "infinite anchor": (
        two(inside="point3f physics:localPos0 = (inf, 0, 0)"), r"/robot/j: physics:localPos0"
    ),
    "ball limit": (
        two(kind="Spherical", inside="float physics:coneAngle0Limit = 30"),
        r"/robot/j: physics:coneAngle0Limit is 30",
    ),
    "damping of a ball's limit": (
        two(kind="Spherical", inside="float newton:limitDamping = 1"),
        r"/robot/j: newton:limitDamping on a",
    ),
    "foreign drive": (
        drive("rotX", [("float", "stiffness", 1)]), r"/robot/j: a drive 'rotX'.* angular is acc"
    ),
    "driven speed": (
        drive("angular", [("float", "damping", 1), ("float", "targetVelocity", 2)]),
        r"/robot/j: drive:angular:physics:targetVelocity is 2.0",
    ),
    "acceleration drive": (
        drive("angular", [("float", "damping", 1), ("token", "type", '"acceleration"')]),
        r"/robot/j: drive:angular:physics:type is 'acceleration'",
    ),
    "cone": (collider("Cone"), r"/robot/a/c: a Cone .*Sphere, Capsule, .* Mesh are accepted"),
    "empty mesh": (collider("Mesh"), r"/robot/a/c: a Mesh without points"),
    "plane": (collider("Plane"), r"/robot/a/c: a Plane"),
    "collider without geometry": (collider("Xform"), r"/robot/a/c: a Xform"),
    "stretched cylinder": (
        collider("Cylinder", STRETCH.replace("1, 2", "2, 2")),
        r"a Cylinder scaled unevenly across",
    ),
    "stretched capsule": (collider("Capsule", STRETCH), r"/robot/a/c: a Capsule scaled unevenly"),
    "flat": (collider("Cube", STRETCH.replace("2", "0")), r"/robot/a/c: its transform has scale"),
    "no radius": (collider("Sphere", "double radius = 0"), r"/robot/a/c: radius: 0.0 given"),
    "negative": (collider("Capsule", "double height = -1"), r"/robot/a/c: half_length: -0.5"),
    "radius nan": (collider("Sphere", "double radius = nan"), r"/robot/a/c: radius"),
    "shear": (
        body("a", BALL % SHEAR),
        r"/robot/a/ball: its transform has shear",
    ),
    "transform nan": (body("a", at="(nan, 0, 0)"), r"/robot/a: its transform has numbers"),
    "massless": (body("a", ""), r"/robot/a: a moving body without mass"),
    "zero mass": (body("a", "float physics:mass = 0"), r"/robot/a: a moving body without mass"),
    "negative mass": (body("a", "float physics:mass = -1"), r"/robot/a: physics:mass is -1"),
    "infinite mass": (body("a", "float physics:mass = inf"), r"/robot/a: physics:mass is inf"),
    "mass without inertia": (body("a", "float physics:mass = 1"), r"/robot/a: a mass without in"),
    "flat inertia": (
        body("a", "float physics:mass = 1\nfloat3 physics:diagonalInertia = (1, 1, 0)"),
        r"/robot/a: physics:diagonalInertia is",
    ),
    "negative tensor": (
        body("a", "float physics:mass = 1\ndouble[] newton:inertia = [1, 1, -1, 0, 0, 0]"),
        r"/robot/a: newton:inertia is \[1.0, 1.0, -1.0",
    ),
    "short tensor": (
        body("a", "float physics:mass = 1\ndouble[] newton:inertia = [1, 1, 1]"),
        r"/robot/a: newton:inertia is",
    ),
    "axes alone": (body("a", BALL % "" + AXES), r"/robot/a: physics:principalAxes without"),
    "collider with a centre": (
        body("a", BALL % "point3f physics:centerOfMass = (0, 0, 1)"),
        r"/robot/a/ball: physics:centerOfMass on a collider",
    ),
    "negative density": (
        body("a", BALL % "float physics:density = -5"), r"/robot/a/ball: physics:density is -5"
    ),
    "two roots of one tree": (
        two(body1="robot/b").replace('"PhysicsMassAPI"]', '"PhysicsArticulationRootAPI"]')
        .replace(joint("base", "Fixed", None, "robot/a"), ""),
        r"/robot/b: a second ArticulationRootAPI beside /robot/a",
    ),
    "flag as text": (
        body("a", BALL % "" + 'string physics:kinematicEnabled = "false"'),
        r"/robot/a: physics:kinematicEnabled is 'false', a bool",
    ),
    "another flag as text": (
        collider("Sphere", 'string physics:collisionEnabled = "false"'),
        r"/robot/a/c: physics:collisionEnabled is 'false', a bool",
    ),
    "number for an array": (
        body("a", BALL % "" + "double gippo:drag = 1"), r"/robot/a: gippo:drag is 1.0, an array"
    ),
    "number for points": (
        body("a") + 'def "c"\n{\ndouble gippo:points = 3\n}\n', r"/robot/c: gippo:points is 3.0, an"
    ),
    "texts for bodies' numbers": (
        two() + 'def "c"\n{\nrel gippo:bodies = </robot/b>\ndouble[] gippo:weights = [1]\n'
        'double[] gippo:points = [0, 0, 0, 1, 1, 1]\nstring[] gippo:bodyNumbers = ["1", "0"]\n}\n',
        r"/robot/c: gippo:bodyNumbers is \['1', '0'\], an array of numbers",
    ),
    "number for a mesh": (collider("Mesh", "double points = 3"), r"/robot/a/c: points is 3.0, thr"),
    "number for a name": (
        body("a", BALL % "" + "double gippo:name = 5"), r"/robot/a: gippo:name is 5.0, a text acc"
    ),
    "range turned round": (
        two(inside="double[] gippo:forceRange = [1, -1]"),
        r"robot1.usda: /robot/j: gippo:forceRange is \[1.0, -1.0\], two numbers, the lesser first",
    ),
    "misspelt": (
        two(inside="double[] gippo:forcerange = [-1, 1]"),
        r"/robot/j: gippo:forcerange is no name .*did you mean 'gippo:forceRange'",
    ),
    "actuator of nothing": (
        body("a") + 'def "c"\n{\nrel gippo:joint\n}\n', r"/robot/c: gippo:joint names \[\]; one hi"
    ),
    "coupling of nothing": (
        body("a") + 'def "c"\n{\nrel gippo:joints\n}\n', r"/robot/c: gippo:joints names \[\]; h"
    ),
    "cord of nothing": (
        body("a") + 'def "c"\n{\nrel gippo:bodies\n}\n', r"/robot/c: gippo:points is missing; thr"
    ),
    "actuator without a relationship": (
        body("a") + 'def "c"\n{\ndouble[] gippo:gear = [5]\n}\n',
        r"/robot/c: gippo:gear on a prim that is no body, .* gippo:joint, .* accepted",
    ),
    "carried twice": (
        body("a", BALL % "" + "double mjc:gravcomp = 1\ndouble[] gippo:liftMass = [1]"),
        r"/robot/a: gippo:liftMass beside physxRigidBody:disableGravity or mjc:gravcomp; one",
    ),
    "no bodies": ('def Xform "a"\n{\n}\n', r"no rigid bodies"),
    "instanced": (
        'def "a" (instanceable = true\nreferences = </part>)\n{\n}\n', r"/robot/a.*: an instanced"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_path_and_reason(load, name):
    inside, message = REFUSED[name]
    outside = 'over "part"\n{\n' + body("link") + "}\n" if name == "instanced" else ""
    with pytest.raises(ArgumentError, match=message) as error:
        load(inside, outside=outside)
    assert "robot1.usda" in str(error.value)
    assert re.search(r"accepted|closes a loop|does not exist|shear", str(error.value))


def test_second_scene_with_another_gravity(load):
    scenes = "".join(
        f'def PhysicsScene "s{g}"\n{{\nfloat physics:gravityMagnitude = {g}\n}}\n' for g in (1, 2)
    )
    with pytest.raises(ValueError, match="/s2: a second PhysicsScene"):
        load(body("a"), outside=scenes)


@pytest.mark.parametrize(("key", "value"), [("metres", 0), ("metres", -1), ("kilograms", 0)])
def test_units_must_be_positive(load, key, value):
    with pytest.raises(ValueError, match=f"{key[:4].replace('metr', 'meters')}.*PerUnit"):
        load(body("a"), **{key: value})


def test_missing_file_and_files_that_are_not_usd(tmp_path):
    with pytest.raises(ValueError, match=r"path: .*none\.usda.* an existing USD file"):
        load_robot(tmp_path / "none.usda")
    with pytest.raises(ValueError, match="an existing USD file"):
        load_robot(tmp_path)
    (tmp_path / "robot.urdf").write_text("<robot/>")
    with pytest.raises(ValueError, match=r"robot\.urdf.*a file ending in"):
        load_robot(tmp_path / "robot.urdf")
    for name, content in {
        "text.usda": b"<robot/>",
        "empty.usda": b"",
        "text.usdc": b"#usda 1.0",
        "crate.usdc": b"PXR-USDC" + bytes(200),
        "archive.usdz": b"PK\x03\x04" + bytes(100),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            load_robot(tmp_path / name)


def test_missing_reference_is_refused(load):
    with pytest.raises(ValueError, match=r"a part of it cannot be read.*gone\.usda"):
        load(body("a") + 'def "b" (references = @./gone.usda@)\n{\n}\n')


def test_reference_to_itself_ends(load):
    with pytest.raises(ValueError, match=r"robot1\.usda"):
        load('def "b" (references = @./robot1.usda@)\n{\n}\n' + body("a"))


@pytest.mark.parametrize("opening", ["[", "{"])
def test_bottomless_text(tmp_path, opening):
    """Nesting that overflows the stack of USD's reader."""
    depth = 200_000
    file = tmp_path / "deep.usda"
    if opening == "[":
        middle = "custom double[] x = " + "[" * depth + "]" * depth
        file.write_text(f'#usda 1.0\ndef "a"\n{{\n{middle}\n}}\n')
    else:
        file.write_text("#usda 1.0\n" + 'def "a" {\n' * depth + "}\n" * depth)
    with pytest.raises(ValueError, match=r"deep\.usda: not a readable USD file"):
        load_robot(file)


@pytest.mark.parametrize("form", ["usdc", "usdz"])
def test_binary_forms(tmp_path, load, form):
    """The same robot from each of USD's formats; cut short anywhere, it is refused."""
    text = load(two())
    file = tmp_path / f"robot.{form}"
    if form == "usdc":
        Sdf.Layer.FindOrOpen(text.path).Export(str(file))
    else:
        UsdUtils.CreateNewUsdzPackage(text.path, str(file))
    binary = load_robot(file)
    assert [b.path for b in binary.bodies] == [b.path for b in text.bodies]
    assert_allclose(binary.bodies[1].inertia, text.bodies[1].inertia)
    content = file.read_bytes()
    for part in (0.1, 0.5, 0.9):
        cut = tmp_path / f"cut{part}.{form}"
        cut.write_bytes(content[: int(part * len(content))])
        with pytest.raises(ValueError, match="cut"):
            load_robot(cut)


def test_crate_with_absurd_sizes(tmp_path, load):
    """Every table of contents entry of a binary file points somewhere else."""
    file = tmp_path / "robot.usdc"
    Sdf.Layer.FindOrOpen(load(two()).path).Export(str(file))
    content = bytearray(file.read_bytes())
    (contents,) = struct.unpack_from("<q", content, 16)
    for word in (2**62, 2**33):
        for at in range(contents, len(content) - 8, 32):
            struct.pack_into("<q", content, at, word)
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"robot\.usdc"):
            load_robot(file)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_garbled_text_is_read_or_refused(tmp_path, load, data):
    """A file with a piece cut out, doubled or overwritten never does worse than a ValueError."""
    text = HEADER.format(up="Z", metres=1, kilograms=1) + f'def Xform "robot"\n{{\n{two()}\n}}\n'
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start, min(len(text), start + 200)))
    filling = data.draw(st.sampled_from(["", text[start:end] * 2]) | st.text(max_size=5))
    file = tmp_path / "garbled.usda"
    file.write_text(text[:start] + filling + text[end:], encoding="utf-8", errors="replace")
    try:
        assert load_robot(file).bodies
    except ValueError as error:
        assert str(error)
    finally:
        file.unlink()
