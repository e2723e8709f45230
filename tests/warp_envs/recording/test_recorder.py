"""Recorded files hold what was simulated, open anywhere, and please every validator."""

import gc
import math
import shutil
import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pxr import Sdf, Usd, UsdGeom, UsdPhysics, UsdUtils

import warp_envs
from tests.warp_envs.recording.recorded import (
    Cars,
    Puppet,
    anchors,
    color_of,
    findings,
    nested,
    stage_of,
    world_matrix,
)
from warp_envs.recording.recorder import RolloutRecorder
from warp_envs.usd.description import rotation_matrix
from warp_envs.usd.loader import load_robot
from warp_envs.usd.samples import continuous_quats

LAYOUTS: dict[str, dict] = {
    "metres": {},
    "own place": {"root": 0.5},
    "centimetres, y up": {"unit": 0.01, "up": "Y", "root": 20.0},
}


@pytest.fixture(params=LAYOUTS)
def asset(tmp_path, request):
    path = tmp_path / "puppet.usda"
    path.write_text(nested(**LAYOUTS[request.param]))
    return path


@pytest.fixture
def puppet(tmp_path):
    path = tmp_path / "puppet.usda"
    path.write_text(nested())
    return lambda **options: Puppet(path, **options)


def record(env, path, steps=8, **options):
    """Record steps; returns the poses of every frame, (frames, num_envs, things, numbers)."""
    poses_of = env.body_poses if hasattr(env, "body_poses") else env.vehicle_poses
    poses = [poses_of()]
    with RolloutRecorder(env, path, **options) as recorder:
        for _ in range(steps):
            zeros = torch.zeros(env.num_envs, env.num_actions)
            recorder.step(env.actions() if hasattr(env, "actions") else zeros)
            poses.append(poses_of())
    return torch.stack(poses).numpy().astype(np.float64)


def samples(prim, name):
    attribute = prim.GetAttribute(name)
    return (
        attribute.GetTimeSamples(),
        attribute.Get(),
        [attribute.Get(time) for time in attribute.GetTimeSamples()],
    )


# Robots ------------------------------------------------------------------------------------------


def test_bodies_stand_where_they_were(asset, tmp_path):
    """Also bodies below bodies, below transforms and scales, and in other units."""
    env = Puppet(asset, num_envs=3)
    poses = record(env, tmp_path / "out.usdc")
    stage = stage_of(tmp_path / "out.usdc")
    for number in range(3):
        offset = world_matrix(stage, f"/World/envs/env_{number}", 0)[3, :3]
        for index, body in enumerate(env.body_paths):
            path = body.replace("/robot", f"/World/envs/env_{number}/Robot")
            for frame in range(9):
                matrix = world_matrix(stage, path, frame)
                pose = poses[frame, number, index]
                assert_allclose(matrix[3, :3], pose[:3] + offset, atol=1e-6)
                axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=1, keepdims=True)
                assert_allclose(axes.T, rotation_matrix(pose[3:]), atol=1e-6)


def test_anchors_meet_in_every_frame(asset, tmp_path):
    env = Puppet(asset, num_envs=2)
    record(env, tmp_path / "out.usdc")
    recorded, simulate = (stage_of(tmp_path / "out.usdc", p) for p in ("recorded", "simulate"))
    joints = [prim for prim in simulate.Traverse() if prim.IsA(UsdPhysics.Joint)]
    assert len(joints) == 4
    for joint in joints:
        one, other = anchors(joint, 0)
        assert_allclose(one, other, atol=1e-4)  # simulate starts as recorded
        schema = UsdPhysics.Joint(joint)
        for frame in range(9):
            one, other = [
                np.append(local.Get(), 1.0)
                @ world_matrix(recorded, str(body.GetTargets()[0]), frame)
                for body, local in (
                    (schema.GetBody0Rel(), schema.GetLocalPos0Attr()),
                    (schema.GetBody1Rel(), schema.GetLocalPos1Attr()),
                )
            ]
            assert_allclose(one, other, atol=1e-4)


def test_samples_are_frames_and_quaternions_continuous(puppet, tmp_path):
    record(puppet(), tmp_path / "out.usdc", steps=200)
    stage = stage_of(tmp_path / "out.usdc")
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0, 200)
    prim = stage.GetPrimAtPath("/World/envs/env_0/Robot/base")
    for name in ("xformOp:translate", "xformOp:orient"):
        times, default, values = samples(prim, name)
        assert times == list(range(201))
        assert default == values[0]
    quats = np.array([[*value.GetImaginary(), value.GetReal()] for value in values])
    assert_allclose(np.linalg.norm(quats, axis=1), 1.0, atol=1e-6)
    assert (np.sum(quats[1:] * quats[:-1], axis=1) > 0.0).all()


def test_signs_follow_the_frame_before():
    turn = np.linspace(0.0, 6.0 * np.pi, 50)
    quats = np.stack([np.sin(turn / 2), 0 * turn, 0 * turn, np.cos(turn / 2)], axis=1)
    flipped = quats * np.where(np.arange(50) % 3 == 0, -2.0, 2.0)[:, None]
    assert_allclose(continuous_quats(flipped), -quats, atol=1e-12)


def test_what_does_not_move_has_no_samples(tmp_path):
    env = warp_envs.make("cartpole", num_envs=1)
    record(env, tmp_path / "out.usdc", steps=3)
    stage = stage_of(tmp_path / "out.usdc")
    cart = stage.GetPrimAtPath("/World/envs/env_0/Robot/cart")
    assert cart.GetAttribute("xformOp:orient").GetNumTimeSamples() == 0
    assert cart.GetAttribute("xformOp:translate").GetNumTimeSamples() == 4


def test_stage_is_described(puppet, tmp_path):
    record(puppet(num_envs=2), tmp_path / "out.usdc", env_indices=[1], fps=25)
    stage = stage_of(tmp_path / "out.usdc")
    assert stage.GetDefaultPrim().GetPath() == "/World"
    assert [prim.GetName() for prim in stage.GetPseudoRoot().GetChildren()] == ["World"]
    assert UsdGeom.GetStageUpAxis(stage) == "Z"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert UsdPhysics.GetStageKilogramsPerUnit(stage) == 1.0
    assert (stage.GetTimeCodesPerSecond(), stage.GetFramesPerSecond()) == (25.0, 25.0)
    names = {prim.GetName() for prim in stage.GetPrimAtPath("/World/envs").GetChildren()}
    assert names == {"env_1"}
    kinds = [stage.GetPrimAtPath(p).GetKind() for p in ("/World", "/World/envs/env_1/Robot")]
    assert kinds == ["assembly", "component"]
    types = {prim.GetTypeName() for prim in stage.Traverse()}
    assert {"DistantLight", "DomeLight", "Camera", "Material", "PhysicsScene"} <= types
    # Of the asset's own light there is no copy; every shape has a material or its robot's.
    assert not stage.GetPrimAtPath("/World/envs/env_1/Robot/lamp")


def test_playback_is_motion_or_physics(puppet, tmp_path):
    record(puppet(), tmp_path / "out.usdc")
    for playback, on in (("recorded", False), ("simulate", True)):
        stage = stage_of(tmp_path / "out.usdc", playback)
        base = stage.GetPrimAtPath("/World/envs/env_0/Robot/base")
        enabled = UsdPhysics.RigidBodyAPI(base).GetRigidBodyEnabledAttr().Get()
        assert enabled == on
        assert base.GetAttribute("xformOp:translate").GetNumTimeSamples() == (0 if on else 9)
        joints = [prim for prim in stage.Traverse() if prim.IsA(UsdPhysics.Joint)]
        assert len(joints) == (2 if on else 0)
        robot = stage.GetPrimAtPath("/World/envs/env_0/Robot")
        assert robot.HasAPI(UsdPhysics.ArticulationRootAPI) == on


@pytest.mark.parametrize("name", ["cartpole", "hopper", "ant"])
def test_file_holds_the_articulation_and_its_motion(name, tmp_path):
    """What UsdPhysics reads back is the robot simulated; so are its joint positions."""
    env: Any = warp_envs.make(name, num_envs=1, seed=3)
    torch.manual_seed(0)
    joint_q = [env.get_state()["joint_q"]]
    with torch.no_grad(), RolloutRecorder(env, tmp_path / "out.usdc") as recorder:
        for _ in range(20):
            recorder.step(2 * torch.rand(1, env.num_actions) - 1)
            joint_q.append(env.get_state()["joint_q"])
    whole = stage_of(tmp_path / "out.usdc", "simulate").Flatten()
    whole.Export(str(tmp_path / "whole.usda"))
    ours, theirs = env.articulation.description, load_robot(tmp_path / "whole.usda")
    assert [body.name for body in theirs.bodies] == [body.name for body in ours.bodies]
    for mine, other in zip(ours.bodies, theirs.bodies, strict=True):
        assert (mine.parent, mine.joint.kind) == (other.parent, other.joint.kind)
        assert_allclose(mine.inertia, other.inertia, atol=1e-9)
        for value in ("parent_position", "child_position", "axis", "lower", "upper", "armature"):
            expected = getattr(mine.joint, value)
            if mine.joint.kind != "free":
                assert_allclose(getattr(other.joint, value), expected, atol=1e-6)
    stage = stage_of(tmp_path / "out.usdc")
    for frame, expected in enumerate(joint_q):
        difference = read_joint_q(stage, env, frame) - expected[0].numpy()
        if name == "cartpole":
            difference[1] = math.remainder(difference[1], 2.0 * math.pi)
        assert_allclose(difference, 0.0, atol=1e-5)


def read_joint_q(stage, env, frame):
    """Joint positions from where the bodies are; angles in (-pi, pi]."""
    bodies, frames, q = env.articulation.description.bodies, [], []
    for body in bodies:
        root = "/" + body.path.split("/")[1]
        m = world_matrix(stage, body.path.replace(root, "/World/envs/env_0/Robot", 1), frame).T
        frames.append(m)
        joint = body.joint
        if joint.kind == "free":
            prim = stage.GetPrimAtPath(body.path.replace(root, "/World/envs/env_0/Robot", 1))
            quat = prim.GetAttribute("xformOp:orient").Get(frame)
            quat = np.array([*quat.GetImaginary(), quat.GetReal()])
            q += [*m[:3, 3], *quat]
            continue
        parent = np.eye(4) if body.parent < 0 else frames[body.parent]
        outer = parent @ rigid(joint.parent_position, joint.parent_rotation)
        inner = m @ rigid(joint.child_position, joint.child_rotation)
        moved = np.linalg.inv(outer) @ inner
        if joint.kind == "prismatic":
            q.append(moved[:3, 3] @ joint.axis)
        else:
            twist = np.array([moved[2, 1], moved[0, 2], moved[1, 0]])
            twist = 0.5 * (twist - [moved[1, 2], moved[2, 0], moved[0, 1]])
            q.append(math.atan2(twist @ joint.axis, 0.5 * (np.trace(moved[:3, :3]) - 1.0)))
    return np.array(q)


def rigid(position, quat):
    m = np.eye(4)
    m[:3, :3], m[:3, 3] = rotation_matrix(quat), position
    return m


def test_signals_lie_on_the_environment(puppet, tmp_path):
    record(puppet(num_envs=2), tmp_path / "out.usdc", steps=6)
    stage = stage_of(tmp_path / "out.usdc")
    env = stage.GetPrimAtPath("/World/envs/env_1")
    read = {
        name: [env.GetAttribute(f"gippo:{name}").Get(time) for time in range(7)]
        for name in ("action", "reward", "return")
    }
    assert [list(action) for action in read["action"]] == [[0, 0], *[[k, k] for k in range(6)]]
    assert read["reward"] == [0, 1, 1, 1, 1, 1, 1]
    assert read["return"] == [0, 1, 2, 3, 4, 1, 2]  # an episode ends after four steps


def test_environments_do_not_overlap(puppet, tmp_path):
    env = puppet(num_envs=5)
    record(env, tmp_path / "out.usdc")
    boxes = robot_boxes(stage_of(tmp_path / "out.usdc"), 5, range(9))
    for i in range(5):
        for j in range(i):
            apart = (boxes[i][0] > boxes[j][1]) | (boxes[j][0] > boxes[i][1])
            assert apart[:2].any()


def test_travelling_robots_go_side_by_side(puppet, tmp_path):
    record(puppet(num_envs=4, speed=1.0), tmp_path / "out.usdc", steps=40)
    stage = stage_of(tmp_path / "out.usdc")
    starts = [world_matrix(stage, f"/World/envs/env_{k}", 0)[3, :3] for k in range(4)]
    assert_allclose([start[0] for start in starts], 0.0)
    assert np.diff([start[1] for start in starts]).min() > 0.5
    assert stage.GetPrimAtPath("/World/Camera").GetAttribute("xformOp:translate").GetTimeSamples()


@pytest.mark.parametrize("speed", [0.0, 0.5])
def test_camera_has_the_robots_in_view(puppet, tmp_path, speed):
    record(puppet(num_envs=3, speed=speed), tmp_path / "out.usdc", steps=60)
    stage = stage_of(tmp_path / "out.usdc")
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/Camera"))
    for frame in (15, 30, 45):
        frustum = camera.GetCamera(frame).frustum
        project = np.array(frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix())
        for lower, upper in robot_boxes(stage, 3, [frame]):
            center = np.append(0.5 * (lower + upper), 1.0) @ project
            assert np.abs(center[:2] / center[3]).max() < 1.0


def robot_boxes(stage, count, frames):
    boxes = []
    for number in range(count):
        robot = stage.GetPrimAtPath(f"/World/envs/env_{number}/Robot")
        ranges = [
            UsdGeom.BBoxCache(frame, ["default"]).ComputeWorldBound(robot).ComputeAlignedRange()
            for frame in frames
        ]
        lower = np.min([np.array(box.GetMin()) for box in ranges], axis=0)
        boxes.append((lower, np.max([np.array(box.GetMax()) for box in ranges], axis=0)))
    return boxes


# Traffic -----------------------------------------------------------------------------------------


def test_single_cars(tmp_path):
    poses = record(Cars(), tmp_path / "out.usdc")
    stage = stage_of(tmp_path / "out.usdc")
    env = stage.GetPrimAtPath("/World/envs/env_0")
    names = ["autonomous_0", "human_1", "human_2", "human_3", "human_4"]
    assert [p.GetName() for p in env.GetChildren() if p.GetName() != "Road"] == names
    for number, name in enumerate(names):
        for frame in (0, 2, 8) if number != 2 else (0, 2):
            matrix = world_matrix(stage, f"/World/envs/env_0/{name}", frame)
            x, y, heading = poses[frame, 0, number]
            assert_allclose(matrix[3, :3], [x, y, 0.0], atol=1e-5)
            along = np.array([math.cos(heading), math.sin(heading), 0.0])
            length = 4.0 if number == 0 else 5.0
            assert_allclose(matrix[0, :3], along * length / 5.0, atol=1e-5)
    gone = UsdGeom.Imageable(stage.GetPrimAtPath("/World/envs/env_0/human_2"))
    seen = [gone.ComputeVisibility(frame) for frame in (0, 3, 4, 8)]
    assert seen == ["inherited", "inherited", "invisible", "invisible"]
    paints = {color_of(stage.GetPrimAtPath(f"/World/envs/env_0/{n}/body")) for n in names}
    assert len(paints) == 2
    assert color_of(stage.GetPrimAtPath("/World/envs/env_0/Road/markings"))[0] > 0.8


class Metered(Cars):
    """Lights of its own making at two lines, across x and across y."""

    def stop_lines(self):
        return np.array([[[20.0, -2.0], [20.0, 2.0]], [[2.0, 30.0], [-2.0, 30.0]]])

    @property
    def lights(self):
        return torch.tensor([[min(self.frame // 3, 2), 2]], dtype=torch.int32)


def test_stop_lines_show_the_colour_of_the_moment(tmp_path):
    record(Metered(), tmp_path / "out.usdc")
    stage = stage_of(tmp_path / "out.usdc")
    lines = stage.GetPrimAtPath("/World/envs/env_0/StopLines").GetChildren()
    seen = []
    for frame in range(9):
        stripes = [[p for p in line.GetChildren() if visible(p, frame)] for line in lines]
        assert [len(shown) for shown in stripes] == [1, 1]
        seen.append([shown[0].GetName() for shown in stripes])
    assert [first for first, _ in seen] == ["green"] * 3 + ["yellow"] * 3 + ["red"] * 3
    assert {second for _, second in seen} == {"red"}
    for line, lower, upper in zip(
        lines, ([19.0, -2.0], [-2.0, 29.0]), ([20.0, 2.0], [2.0, 30.0]), strict=True
    ):
        points = np.array(UsdGeom.Mesh(line.GetChild("red")).GetPointsAttr().Get())
        assert_allclose(points.min(axis=0)[:2], lower, atol=1e-5)
        assert_allclose(points.max(axis=0)[:2], upper, atol=1e-5)
        assert color_of(line.GetChild("green"))[1] > 2.0 * color_of(line.GetChild("green"))[0]
    assert findings(tmp_path / "out.usdc") == []


def visible(prim, frame):
    return UsdGeom.Imageable(prim).ComputeVisibility(frame) == UsdGeom.Tokens.inherited


def test_many_cars_are_instances(tmp_path):
    poses = record(Cars(num_envs=2, num_vehicles=11, num_lanes=3), tmp_path / "out.usdc")
    stage = stage_of(tmp_path / "out.usdc")
    cars = UsdGeom.PointInstancer(stage.GetPrimAtPath("/World/envs/env_1/Cars"))
    assert list(cars.GetProtoIndicesAttr().Get()) == [1] + [0] * 10
    assert cars.GetOrientationsfAttr().GetNumTimeSamples() == 9
    assert [list(cars.GetInvisibleIdsAttr().Get(t) or []) for t in (3, 4)] == [[], [2]]
    assert cars.GetPositionsAttr().Get() == cars.GetPositionsAttr().Get(0)
    for frame in (0, 8):
        matrices = np.array(
            cars.ComputeInstanceTransformsAtTime(
                frame, frame, UsdGeom.PointInstancer.IncludeProtoXform, cars.IgnoreMask
            )
        )
        there = [k for k in range(11) if k != 2]
        assert_allclose(matrices[there, 3, :2], poses[frame, 1][there][:, :2], atol=1e-5)
        assert_allclose(
            np.arctan2(matrices[there, 0, 1], matrices[there, 0, 0]),
            poses[frame, 1][there][:, 2],
            atol=1e-6,
        )
    roads = [world_matrix(stage, f"/World/envs/env_{k}", 0)[3, 1] for k in range(2)]
    assert roads[1] - roads[0] > 3 * 4.0


def test_traffic_simulation_can_be_recorded(tmp_path):
    """With vehicles that leave at the road's end."""
    sim = warp_envs.TrafficSim(2, 2, 6, dt=0.2, road_length=25.0, length=4.0)
    states = []
    with torch.no_grad(), RolloutRecorder(sim, tmp_path / "out.usdc") as recorder:
        for _ in range(40):
            recorder.capture()
            states.append((sim.x.clone(), sim.y.clone(), sim.active.clone()))
            sim.step()
    assert not states[-1][2].all()
    stage = stage_of(tmp_path / "out.usdc")
    assert stage.GetTimeCodesPerSecond() == pytest.approx(5.0)
    for road in range(2):
        offset = world_matrix(stage, f"/World/envs/env_{road}", 0)[3, :3]
        for frame in (0, 20, 39):
            x, y, there = (value[road] for value in states[frame])
            for number in range(6):
                prim = stage.GetPrimAtPath(f"/World/envs/env_{road}/human_{number}")
                seen = UsdGeom.Imageable(prim).ComputeVisibility(frame) == "inherited"
                assert seen == bool(there[number])
                if seen:
                    place = world_matrix(stage, str(prim.GetPath()), frame)[3, :3] - offset
                    assert_allclose(place, [x[number], y[number], 0.0], atol=1e-5)


# Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".usdc", ".usdz"])
def test_validators_find_nothing_in_robots(tmp_path, suffix):
    env = warp_envs.make("hopper", num_envs=2)
    record(env, tmp_path / f"out{suffix}", steps=3)
    assert findings(tmp_path / f"out{suffix}") == []


@pytest.mark.parametrize("name", ["cartpole", "ant"])
def test_validators_find_nothing_in_other_robots(tmp_path, name):
    record(warp_envs.make(name, num_envs=1), tmp_path / "out.usdc", steps=3)
    assert findings(tmp_path / "out.usdc") == []


@pytest.mark.parametrize("num_vehicles", [3, 21])
def test_validators_find_nothing_in_traffic(tmp_path, num_vehicles):
    record(Cars(num_vehicles=num_vehicles), tmp_path / "out.usdc", steps=3)
    assert findings(tmp_path / "out.usdc") == []


@pytest.mark.parametrize("suffix", [".usdc", ".usda", ".usdz"])
def test_file_opens_anywhere(puppet, tmp_path, suffix):
    record(puppet(), tmp_path / f"out{suffix}")
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / f"renamed{suffix}"
    shutil.move(tmp_path / f"out{suffix}", moved)
    (tmp_path / "puppet.usda").unlink()
    assert [p.name for p in tmp_path.iterdir()] == ["elsewhere"]  # nothing else is left behind
    stage = stage_of(moved)
    assert stage.GetPrimAtPath("/World/envs/env_0/Robot/base/box").IsA(UsdGeom.Cube)
    assert stage.GetPrimAtPath("/World/envs/env_0/Robot").HasAuthoredReferences()
    layers, _, unresolved = UsdUtils.ComputeAllDependencies(Sdf.AssetPath(str(moved)))
    assert (len(layers), unresolved) == (1, [])


@pytest.mark.parametrize("suffix", [".usdc", ".usdz"])
def test_textures_come_along(tmp_path, suffix):
    """In a package; other files refer to them by relative paths."""
    image = """
    def Shader "image"
    {
        asset inputs:file = @./wood.png@
    }
    def Xform "base" ("""
    (tmp_path / "asset").mkdir()
    (tmp_path / "asset" / "wood.png").write_bytes(b"not looked at")
    text = nested().replace('    def Xform "base" (', image)
    (tmp_path / "asset" / "puppet.usda").write_text(text)
    record(Puppet(tmp_path / "asset" / "puppet.usda"), tmp_path / f"out{suffix}", steps=1)
    if suffix == ".usdz":
        shutil.rmtree(tmp_path / "asset")
    stage = stage_of(tmp_path / f"out{suffix}")
    file = stage.GetPrimAtPath("/World/envs/env_0/Robot/image").GetAttribute("inputs:file").Get()
    assert not file.path.startswith("/")
    assert file.resolvedPath


def test_exception_keeps_the_frames(puppet, tmp_path):
    env = puppet()
    with pytest.raises(KeyboardInterrupt), RolloutRecorder(env, tmp_path / "out.usdc") as recorder:
        for step in range(10):
            if step == 5:
                raise KeyboardInterrupt
            recorder.step(env.actions())
    assert stage_of(tmp_path / "out.usdc").GetEndTimeCode() == 5


def test_unclosed_recording_has_left_a_file(puppet, tmp_path, monkeypatch):
    """As if the process had been killed after each of these frames.

    By this clock a frame takes a second and writing takes four, which is worth forty seconds.
    """
    now = 0.0
    build = RolloutRecorder._build

    def slow_build(*arguments):
        nonlocal now
        now += 4.0
        build(*arguments)

    monkeypatch.setattr(RolloutRecorder, "_build", slow_build)
    monkeypatch.setattr(
        "warp_envs.recording.recorder.time", SimpleNamespace(perf_counter=lambda: now)
    )
    env = puppet()
    recorder = RolloutRecorder(env, tmp_path / "out.usdc")
    recorder.capture()
    for frame, there in ((0, 0), (39, 0), (40, 40), (79, 40), (130, 120)):
        while env.frame < frame:
            now += 1.0
            recorder.step(env.actions())
        stage = Usd.Stage.Open(Sdf.Layer.OpenAsAnonymous(str(tmp_path / "out.usdc")))
        assert stage.GetEndTimeCode() == there
        assert stage.GetPrimAtPath("/World/envs/env_0/Robot/base/arm")


def test_memory_does_not_grow_with_the_recording(puppet, tmp_path, monkeypatch):
    env = puppet(num_envs=20, num_frames=2)
    recorder = RolloutRecorder(env, tmp_path / "out.usdc")

    def capture(frames):
        for _ in range(frames):
            recorder.capture()

    def held():
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    monkeypatch.setattr("warp_envs.recording.recorder._PATIENCE", math.inf)
    capture(150)
    tracemalloc.start()
    capture(64)
    before = held()
    capture(256)
    grown = held() - before
    tracemalloc.stop()
    assert grown < 0.05 * 256 * 20 * 3 * 7 * 8  # of 256 frames next to nothing stays


def test_sizes(tmp_path):
    with torch.no_grad():
        record(warp_envs.make("ant", num_envs=1), tmp_path / "one.usdc", steps=1000)
        record(warp_envs.make("ant", num_envs=64), tmp_path / "many.usdc", steps=50)
    record(Cars(num_vehicles=11), tmp_path / "cars.usdc", steps=1000)
    sizes = {p.stem: p.stat().st_size / 1e6 for p in tmp_path.glob("*.usdc")}
    assert sizes["one"] < 1.0
    assert sizes["many"] < 40.0 * 50 / 1000
    assert sizes["cars"] < 0.6


def test_single_precision_and_part_of_the_environments(tmp_path):
    env = warp_envs.make("cartpole", num_envs=3, dtype=torch.float32)
    with torch.no_grad():
        poses = record(env, tmp_path / "out.usdc", env_indices=[2, 0], steps=2)
    stage = stage_of(tmp_path / "out.usdc")
    offset = world_matrix(stage, "/World/envs/env_2", 0)[3, :3]
    place = world_matrix(stage, "/World/envs/env_2/Robot/cart", 2)[3, :3]
    assert_allclose(place - offset, poses[2, 2, 0, :3], atol=1e-6)
    assert not stage.GetPrimAtPath("/World/envs/env_1")


# Refusals ----------------------------------------------------------------------------------------


def test_nothing_to_record(tmp_path):
    env = warp_envs.make("dejong", num_envs=1)
    with pytest.raises(ValueError, match="dejong given, one with bodies or vehicles to record"):
        RolloutRecorder(env, tmp_path / "out.usdc")


@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        ("out.obj", {}, r"path: .*out.obj' given, a file ending in \('.usdc'"),
        ("no/out.usdc", {}, "path: .* a file in an existing folder accepted"),
        ("out.usdc", {"env_indices": [2]}, r"env_indices: \[2\] given, different numbers from 0"),
        ("out.usdc", {"env_indices": []}, r"env_indices: \[\] given"),
        ("out.usdc", {"env_indices": [0, 0]}, r"env_indices: \[0, 0\] given"),
        ("out.usdc", {"fps": 0}, "fps: 0 given, a number in"),
    ],
)
def test_arguments_out_of_range(puppet, tmp_path, path, options, said):
    with pytest.raises(ValueError, match=said):
        RolloutRecorder(puppet(num_envs=2), tmp_path / path, **options)


def test_nothing_captured(puppet, tmp_path):
    said = "nothing captured given, one frame or more accepted"
    with pytest.raises(ValueError, match=said), RolloutRecorder(puppet(), tmp_path / "out.usdc"):
        pass
    with pytest.raises(ZeroDivisionError), RolloutRecorder(puppet(), tmp_path / "out.usdc"):
        raise ZeroDivisionError  # not hidden by the one above
    assert not (tmp_path / "out.usdc").exists()


def test_pose_that_is_not_finite(puppet, tmp_path):
    env = puppet()
    env.joint_q[5, 0, 0] = math.nan
    with pytest.raises(ValueError, match="poses: frame 5 given, finite numbers accepted"):
        record(env, tmp_path / "out.usdc")
    assert stage_of(tmp_path / "out.usdc").GetEndTimeCode() == 4
