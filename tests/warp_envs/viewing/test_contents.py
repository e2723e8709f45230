"""Other people's USD: what cannot be shown is left out and told of by its prim, never a crash."""

import time

import numpy as np
import pytest
from pxr import Usd, UsdGeom

from tests.warp_envs.viewing.pages import read_page
from warp_envs.viewing.drawing import Drawing
from warp_envs.viewing.page import write_page
from warp_envs.viewing.playback import read_playback
from warp_envs.viewing.preview import render_contact_sheet

HEAD = '#usda 1.0\n(\n    metersPerUnit = 1\n    upAxis = "Z"\n    {more}\n)\n'
BALL = 'def Sphere "ball" { double radius = 0.5; }\n'
CAMERA = """def Camera "camera" { double3 xformOp:translate = (0, 0, 9);
 uniform token[] xformOpOrder = ["xformOp:translate"]; %s }
"""
INSTANCES = 'def PointInstancer "bad" { %s def Sphere "p" {}\n rel prototypes = </bad/p>; }\n'
MESH = 'def Mesh "bad" { point3f[] points = [(0,0,0), (1,0,0), (0,1,0)]; %s }\n'
FACES = "int[] faceVertexCounts = [%s]; int[] faceVertexIndices = [%s];"
MOVED = 'def Sphere "bad" { uniform token[] xformOpOrder = ["xformOp:translate"]; %s }\n'
LOOK = """def Sphere "bad" ( prepend apiSchemas = ["MaterialBindingAPI"] ) {
 rel material:binding = </m>; }
def Material "m" { token outputs:surface.connect = </m/s.outputs:surface>;
 def Shader "s" { uniform token info:id = "UsdPreviewSurface"; %s; token outputs:surface; }
}
"""

BAD = {
    "an empty mesh": ('def Mesh "bad" {}\n', "/bad: a mesh without points"),
    "a corner out of range": (
        MESH % FACES % ("3", "0, 1, 7"),
        "/bad: a face has a corner at point 7, of 3",
    ),
    "a negative corner": (
        MESH % FACES % ("3", "0, 1, -1"),
        "/bad: a face has a corner at point -1",
    ),
    "too few corners": (
        MESH % FACES % ("3, 3", "0, 1, 2"),
        "/bad: faces of 6 corners in all, but 3",
    ),
    "lines for faces": (
        MESH % FACES % ("2", "0, 1"),
        "/bad: a mesh without a face of three corners",
    ),
    "points that are not finite": (
        (MESH % FACES % ("3", "0, 1, 2")).replace("(1,0,0), (0,1,0)", "(nan,0,0), (0,inf,0)"),
        "/bad: points that are not finite",
    ),
    "a size that is none": ('def Sphere "bad" { double radius = nan; }\n', "/bad: radius = nan"),
    "an endless size": ('def Cube "bad" { double size = inf; }\n', "/bad: size = inf"),
    "a negative height": ('def Cone "bad" { double height = -1; }\n', "/bad: height = -1"),
    "an axis of its own": ('def Capsule "bad" { uniform token axis = "W"; }\n', "/bad: axis = 'W'"),
    "curves": ('def BasisCurves "bad" {}\n', "/bad: a BasisCurves, which is not shown"),
    "a transform that is none": (
        MOVED % "double3 xformOp:translate = (nan, 0, 0);",
        "/bad: its transform is not finite",
    ),
    "a body at 1e30 m": (
        MOVED % "double3 xformOp:translate = (1e30, 0, 0);",
        "/bad: it lies or reaches 1e+30 m away",
    ),
    "a motion to infinity": (
        MOVED % "double3 xformOp:translate.timeSamples = { 0: (0,0,0), 3: (inf,0,0) };",
        "/bad: its transform is not finite",
    ),
    "a dangling prototype": (
        'def PointInstancer "bad" { point3f[] positions = [(0,0,0)]; int[] protoIndices = [0];'
        " rel prototypes = </nowhere>; }\n",
        "/bad: its prototype /nowhere is not there",
    ),
    "an instance of nothing": (
        INSTANCES % "point3f[] positions = [(0,0,0)]; int[] protoIndices = [4];",
        "/bad: an instance of prototype 4, of 1 prototypes",
    ),
    "an instance without a place": (
        INSTANCES % "point3f[] positions = [(0,0,0)]; int[] protoIndices = [0, 0];",
        "/bad: 2 instances, but 1 positions",
    ),
    "instances without places": (
        INSTANCES % "int[] protoIndices = [0, 0];",
        "/bad: 2 instances, but 0 positions",
    ),
    "orientations of others": (
        INSTANCES % "point3f[] positions = [(0,0,0), (1,0,0)]; int[] protoIndices = [0, 0]; "
        "quath[] orientations = [(1,0,0,0)];",
        "/bad: 2 instances, but 1 orientations",
    ),
    "instances that come": (
        INSTANCES % "point3f[] positions.timeSamples = { 0: [(0,0,0)], 1: [(0,0,0), (1,0,0)] }; "
        "int[] protoIndices.timeSamples = { 0: [0], 1: [0, 0] };",
        "/bad: its instances change in number",
    ),
    "a texture for a colour": (
        LOOK % "asset inputs:diffuseColor = @wood.png@",
        "/m/s: color = @wood.png@, where a colour is shown",
    ),
    "a word for roughness": (
        LOOK % 'string inputs:roughness = "matt"',
        "/m/s: roughness = matt, where a number is shown",
    ),
    "a colour that is none": (LOOK % "color3f inputs:diffuseColor = (nan, 0, 0)", "/m/s: color"),
}
STAGES = {
    "a rate that is none": ("timeCodesPerSecond = nan", "/: timeCodesPerSecond = nan"),
    "no rate": ("timeCodesPerSecond = 0", "/: timeCodesPerSecond = 0"),
    "an endless end": ("startTimeCode = 0\n    endTimeCode = inf", None),
    "a late end": ("startTimeCode = 0\n    endTimeCode = 1e12", "one in "),
    "ten million frames": (
        "startTimeCode = 0\n    endTimeCode = 1e7",
        "10000001 frames;",
    ),
    "an end before the start": ("startTimeCode = 9\n    endTimeCode = 3", None),
}
CAMERAS = {
    "no focal length": ("float focalLength = 0;", "/camera: "),
    "an endless focal length": ("float focalLength = inf;", "/camera: "),
    "no aperture": ("float verticalAperture = nan;", "/camera: "),
}


def page_of(path, tmp_path):
    """The scene that the page holds, and what it does not show."""
    said = write_page(path, tmp_path / "out.html")
    return read_page(tmp_path / "out.html").rollouts[0], said


@pytest.mark.parametrize("name", BAD)
def test_a_prim_that_cannot_be_shown_is_left_out_and_named(name, tmp_path):
    text, reason = BAD[name]
    path = tmp_path / "bad.usda"
    more = "startTimeCode = 0\n    endTimeCode = 3"
    path.write_text(HEAD.format(more=more) + BALL + CAMERA % "" + text)
    scene, said = page_of(path, tmp_path)
    assert any(line.startswith(reason) for line in said), said
    stays = text.startswith('def Sphere "bad" (') or name == "a motion to infinity"
    assert len(scene["parts"]) == (2 if stays else 1)
    drawing = Drawing(Usd.Stage.Open(str(path)))
    solids = [solid for frame in (0.0, 3.0) for solid in drawing.frame(frame)]
    assert len(solids) >= 2 and all(np.isfinite(solid.points).all() for solid in solids)
    if name != "instances that come":  # a picture of one moment shows those that are there
        assert any(line.startswith(reason) for line in drawing.problems.lines())


@pytest.mark.parametrize("name", STAGES)
def test_any_rate_and_length_gives_a_page_in_bounded_time(name, tmp_path):
    head, reason = STAGES[name]
    path = tmp_path / "bad.usda"
    moving = "double3 xformOp:translate.timeSamples = { 0: (0,0,0), 9: (1,0,0) };"
    path.write_text(HEAD.format(more=head) + MOVED % moving)
    started = time.process_time()
    scene, said = page_of(path, tmp_path)
    assert time.process_time() - started < 20.0
    assert 1 <= scene["frames"] <= 20_000 and scene["fps"] > 0.0
    assert said == [] if reason is None else reason in said[0]


@pytest.mark.parametrize("name", CAMERAS)
def test_a_camera_that_sees_nothing_is_replaced(name, tmp_path):
    lens, reason = CAMERAS[name]
    path = tmp_path / "bad.usda"
    path.write_text(HEAD.format(more="") + BALL + CAMERA % lens)
    scene, said = page_of(path, tmp_path)
    assert said[0].startswith(reason)
    assert scene["camera"]["angle"] == 35.0
    with pytest.raises(ValueError, match=r"/camera: "):
        render_contact_sheet(path, tmp_path / "out.png", frames=1)


CHANGES = {
    "points": (MESH % FACES % ("3", "0, 1, 2")).replace(
        "points = [(0,0,0), (1,0,0), (0,1,0)]",
        "points.timeSamples = { 0: [(0,0,0), (1,0,0), (0,1,0)], 1: [(0,0,0)] }",
    ),
    "radius": 'def Sphere "bad" { double radius.timeSamples = { 0: 1, 1: 2 }; }\n',
    "primvars:displayColor": 'def Sphere "bad" { color3f[] primvars:displayColor.timeSamples = '
    "{ 0: [(1,0,0)], 1: [(0,1,0)] }; }\n",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_shape_that_changes_is_shown_as_at_the_start_and_told_of(name, tmp_path):
    path = tmp_path / "changing.usda"
    more = "startTimeCode = 0\n    endTimeCode = 1"
    path.write_text(HEAD.format(more=more) + CHANGES[name])
    scene, said = page_of(path, tmp_path)
    assert said == [f"/bad: {name} changes with time; it is shown as at the start"]
    assert len(scene["parts"]) == 1


def test_units_that_a_stage_does_not_say_are_told(tmp_path):
    path = tmp_path / "bare.usda"
    path.write_text("#usda 1.0\n" + BALL)
    scene, said = page_of(path, tmp_path)
    assert [line.split(" is ")[0] for line in said] == ["/: no metersPerUnit", "/: no upAxis"]
    assert np.isclose(scene["parts"][0]["matrix"][0], 0.01)  # as said: centimetres


def test_of_many_prims_that_cannot_be_shown_the_first_are_told(tmp_path):
    stage = Usd.Stage.CreateNew(str(tmp_path / "bad.usda"))
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    for number in range(50):
        UsdGeom.Mesh.Define(stage, f"/bad_{number}")
    stage.Save()
    said = read_playback(tmp_path / "bad.usda").problems
    assert len(said) == 21 and said[-1] == "and 30 more like these"
