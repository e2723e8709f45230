"""What the tests of recordings share: robots and traffic to record, and reading files back."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pxr import Gf, Usd, UsdGeom, UsdPhysics, UsdShade, UsdValidation

from warp_envs.articulation.articulation import Articulation

# A floating base; an arm inside it in the tree of prims; a hand below a transform and a scale.
NESTED = """#usda 1.0
(
    defaultPrim = "robot"
    metersPerUnit = {unit}
    upAxis = "{up}"
)
def Xform "robot" (prepend apiSchemas = ["PhysicsArticulationRootAPI"])
{{
    double3 xformOp:translate = ({root}, 0, 0)
    uniform token[] xformOpOrder = ["xformOp:translate"]
    def Xform "base" (prepend apiSchemas = ["PhysicsRigidBodyAPI"])
    {{
        double3 xformOp:translate = (0, 0, {h})
        uniform token[] xformOpOrder = ["xformOp:translate"]
        def Cube "box" (prepend apiSchemas = ["PhysicsCollisionAPI"])
        {{
            double size = {h}
        }}
        def Xform "arm" (prepend apiSchemas = ["PhysicsRigidBodyAPI"])
        {{
            double3 xformOp:translate = ({h}, 0, {h})
            uniform token[] xformOpOrder = ["!resetXformStack!", "xformOp:translate"]
            def Capsule "bone" (prepend apiSchemas = ["PhysicsCollisionAPI"])
            {{
                uniform token axis = "X"
                double height = {h}
                double radius = {r}
            }}
        }}
    }}
    def Xform "group"
    {{
        double3 xformOp:translate = (0, {r}, 0)
        float3 xformOp:scale = (2, 2, 2)
        uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:scale"]
        def Xform "hand" (prepend apiSchemas = ["PhysicsRigidBodyAPI"])
        {{
            double3 xformOp:translate = ({h}, 0, {r})
            quath xformOp:orient = (0.7071, 0, 0.7071, 0)
            uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:orient"]
            def Sphere "ball" (prepend apiSchemas = ["PhysicsCollisionAPI"])
            {{
                double radius = {r}
            }}
        }}
    }}
    def PhysicsRevoluteJoint "elbow"
    {{
        rel physics:body0 = </robot/base>
        rel physics:body1 = </robot/base/arm>
        point3f physics:localPos0 = ({r}, 0, 0)
        point3f physics:localPos1 = (-{r}, 0, 0)
        uniform token physics:axis = "Y"
    }}
    def PhysicsRevoluteJoint "wrist"
    {{
        rel physics:body0 = </robot/base/arm>
        rel physics:body1 = </robot/group/hand>
        point3f physics:localPos0 = ({r}, {r}, 0)
        point3f physics:localPos1 = (-{r}, 0, {r})
        uniform token physics:axis = "Z"
    }}
}}
def DistantLight "lamp" {{ }}
"""


def nested(unit: float = 1.0, up: str = "Z", root: float = 0.0) -> str:
    """The robot's text, a metre or so large in any unit."""
    return NESTED.format(unit=unit, up=up, root=root, h=0.5 / unit, r=0.1 / unit)


class Puppet:
    """A robot that turns and swings as it is told, and earns 1 a step."""

    def __init__(self, asset: Path, num_envs: int = 1, speed: float = 0.0, num_frames: int = 400):
        self.num_envs, self.num_actions, self.control_step = num_envs, 2, 0.02
        self.asset_path = asset
        self.robot = Articulation.from_usd(asset, num_envs, dtype=torch.float64)
        rng = np.random.default_rng(0)
        knots = rng.normal(size=(num_envs, self.robot.nq, 1))
        phase = np.arange(num_frames) * 0.1 + rng.normal(size=knots.shape)
        q = 1.5 * np.sin(phase + knots).transpose(2, 0, 1)
        if self.robot.description.bodies[0].joint.kind == "free":
            q[..., 3:7] /= np.linalg.norm(q[..., 3:7], axis=-1, keepdims=True)
            q[..., :3] *= 0.1
            q[..., 0] += speed * np.arange(num_frames)[:, None]
            q[..., 2] += 1.0
        self.joint_q = torch.tensor(q)
        self.frame = 0

    @property
    def body_paths(self):
        return [body.path for body in self.robot.description.bodies]

    def body_poses(self):
        return self.robot.body_poses(self.joint_q[self.frame])

    def step(self, actions):
        self.frame += 1
        ended = torch.full((self.num_envs,), self.frame % 4 == 0)
        return None, torch.ones(self.num_envs), ended, torch.zeros_like(ended), {}

    def actions(self):
        return torch.full((self.num_envs, 2), float(self.frame))


class Cars:
    """Roads on which cars go at different speeds, the first one weaving."""

    def __init__(self, num_envs: int = 1, num_vehicles: int = 5, num_lanes: int = 2):
        self.num_envs, self.num_actions, self.control_step = num_envs, 0, 0.1
        self.num_lanes, self.lane_width, self.num_autonomous = num_lanes, 4.0, 1
        self.vehicle_lengths = [4.0] + [5.0] * (num_vehicles - 1)
        self.frame = 0

    def vehicle_poses(self):
        number = torch.arange(len(self.vehicle_lengths), dtype=torch.float32)
        row = torch.floor(number / self.num_lanes)
        x = -12.0 * row + (1.0 + 0.1 * number) * self.frame
        y = (number % self.num_lanes) * self.lane_width
        heading = torch.zeros_like(x)
        y[0] += 0.5 * np.sin(0.3 * self.frame)
        heading[0] = 0.15 * np.cos(0.3 * self.frame)
        poses = torch.stack([x, y, heading], dim=-1)
        if self.frame > 3:
            poses[2] = torch.nan
        return poses.expand(self.num_envs, -1, -1)

    def step(self, actions):
        self.frame += 1
        flags = torch.zeros(self.num_envs, dtype=torch.bool)
        return None, torch.ones(self.num_envs), flags, flags, {}


def stage_of(path: Path, playback: str | None = None) -> Usd.Stage:
    stage = Usd.Stage.Open(str(path))
    if playback is not None:
        world = stage.GetDefaultPrim()
        assert world.GetVariantSets().GetVariantSet("playback").SetVariantSelection(playback)
    return stage


def world_matrix(stage: Usd.Stage, path: str, time: float) -> np.ndarray:
    prim = stage.GetPrimAtPath(path)
    return np.array(UsdGeom.XformCache(time).GetLocalToWorldTransform(prim))


def anchors(joint: Usd.Prim, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the two sides of a joint are in the world (3,)."""
    schema, xforms = UsdPhysics.Joint(joint), UsdGeom.XformCache(time)
    found = []
    for body, local in (
        (schema.GetBody0Rel(), schema.GetLocalPos0Attr()),
        (schema.GetBody1Rel(), schema.GetLocalPos1Attr()),
    ):
        prim = joint.GetStage().GetPrimAtPath(body.GetTargets()[0])
        matrix = xforms.GetLocalToWorldTransform(prim)
        found.append(np.array(matrix.Transform(Gf.Vec3d(local.Get()))))
    return found[0], found[1]


def findings(path: Path) -> list[str]:
    """What OpenUSD's and NVIDIA's validators have to say, in every variant."""
    import usd_validation_nvidia as nvidia

    said = []
    registry = UsdValidation.ValidationRegistry()
    stage = stage_of(path)
    has_variants = stage.GetDefaultPrim().HasVariantSets()
    for playback in ("recorded", "simulate") if has_variants else (None,):
        context = UsdValidation.ValidationContext(registry.GetOrLoadAllValidators())
        stage = stage_of(path, playback)
        errors = context.Validate(stage)
        said += [f"{playback}: {error.GetName()}: {error.GetMessage()}" for error in errors]
    results: Any = nvidia.ValidationEngine(init_rules=True, variants=True).validate(str(path))
    return said + [str(issue) for issue in results.issues()]


def color_of(prim: Usd.Prim) -> tuple[float, ...]:
    material = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0]
    return tuple(material.ComputeSurfaceSource()[0].GetInput("diffuseColor").Get())
