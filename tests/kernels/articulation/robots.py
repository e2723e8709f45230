"""Robots for the dynamics tests, described by hand from the specification's numbers."""

from dataclasses import replace

import numpy as np

from warp_envs.usd.description import Body, ContactMaterial, Joint, RobotDescription, Shape
from warp_envs.usd.mass import combine_mass_properties, shape_mass_properties


def rotation_to(direction):
    """The shortest rotation from z to `direction`, a quaternion (x, y, z, w)."""
    d = np.asarray(direction, float) / np.linalg.norm(direction)
    axis = np.cross([0.0, 0.0, 1.0], d)
    w = 1.0 + d[2]
    if w < 1e-9:
        return np.array([1.0, 0.0, 0.0, 0.0])
    quat = np.append(axis, w)
    return quat / np.linalg.norm(quat)


def capsule(start, end, radius, density=1000.0):
    start, end = np.asarray(start, float), np.asarray(end, float)
    half = 0.5 * np.linalg.norm(end - start)
    middle, turn = 0.5 * (start + end), rotation_to(end - start)
    return Shape("capsule", middle, turn, radius=radius, half_length=half, density=density)


def body(name, parent, joint, shapes, **given):
    mass = combine_mass_properties([shape_mass_properties(shape) for shape in shapes])
    values = {"mass": mass.mass, "com": mass.com, "inertia": mass.inertia, **given}
    return Body(name, f"/{name}", parent, joint, shapes=tuple(shapes), **values)


def ant(contact=True, passive=True):
    """The Ant of the specification; without `passive` no damping and no limits."""
    limits = {"damping": 1.0, "limit_ke": 1e3, "limit_kd": 1e1} if passive else {}
    torso = [Shape("sphere", radius=0.25)]
    bodies = []
    signs = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    torso += [capsule([0, 0, 0], [0.2 * x, 0.2 * y, 0], 0.08) for x, y in signs]
    bodies.append(body("torso", -1, Joint("root"), torso, position=np.array([0.0, 0.0, 0.75])))
    low, high = np.radians(30.0), np.radians(100.0)
    for leg, (x, y) in enumerate(signs, 1):
        hip = Joint(
            f"hip{leg}", kind="revolute", axis=[0.0, 0.0, 1.0], armature=0.05,
            parent_position=[0.2 * x, 0.2 * y, 0.0], lower=-np.radians(40), upper=np.radians(40),
            **limits,
        )  # fmt: skip
        reach = np.array([0.2 * x, 0.2 * y, 0.0])
        bodies.append(body(f"upper{leg}", 0, hip, [capsule([0, 0, 0], reach, 0.08)]))
        bend = (low, high) if leg in (1, 4) else (-high, -low)
        ankle = Joint(
            f"ankle{leg}", kind="revolute", axis=np.array([-1.0 if x == y else 1.0, 1.0, 0.0])
            / np.sqrt(2.0), armature=0.05, parent_position=reach, lower=bend[0], upper=bend[1],
            **limits,
        )  # fmt: skip
        foot = [capsule([0, 0, 0], 2.0 * reach, 0.08)]
        bodies.append(body(f"lower{leg}", len(bodies) - 1, ankle, foot))
    ground = ContactMaterial(4e4, 1e4, 3e3, 0.75) if contact else None
    return RobotDescription("ant", "", tuple(bodies), contact=ground)


def hopper(passive=True):
    """The Hopper of the specification: three root joints carried by light bodies, three hinges."""
    limits = {"limit_ke": 1e3, "limit_kd": 1e1} if passive else {}
    light = {"mass": 1e-9, "com": np.zeros(3), "inertia": 1e-9 * np.eye(3)}
    x, z, y = np.eye(3)[[0, 2, 1]]
    stand = np.array([0.0, 0.0, 1.25])
    root = {"armature": 1.0, **limits}
    bodies = [
        body("slide_x", -1, Joint("x", kind="prismatic", axis=x, parent_position=stand, **root),
             [], **light),
        body("slide_z", 0, Joint("z", kind="prismatic", axis=z, **root), [], **light),
        body("torso", 1, Joint("pitch", kind="revolute", axis=y, **root),
             [capsule([0, 0, -0.2], [0, 0, 0.2], 0.05)]),
    ]  # fmt: skip
    leg = {"kind": "revolute", "axis": -y, "armature": 1.0, **limits}
    if passive:
        leg["damping"] = 2.0
    bend = {"lower": -2.618, "upper": 0.0}
    thigh, knee, ankle = np.array([0, 0, -0.2]), np.array([0, 0, -0.45]), np.array([0, 0, -0.5])
    bodies += [
        body("thigh", 2, Joint("thigh", parent_position=thigh, **leg, **bend),
             [capsule([0, 0, 0], knee, 0.05)]),
        body("leg", 3, Joint("leg", parent_position=knee, **leg, **bend),
             [capsule([0, 0, 0], ankle, 0.04)]),
        body("foot", 4, Joint("foot", parent_position=ankle, lower=-0.785, upper=0.785, **leg),
             [capsule([-0.135, 0, 0], [0.255, 0, 0], 0.06)]),
    ]  # fmt: skip
    return RobotDescription(
        "hopper", "", tuple(bodies), contact=ContactMaterial(2e4, 1e3, 1e3, 0.9)
    )


def cartpole():
    """The Cartpole of the specification: a cart on a slide, a pole on a hinge, no ground."""
    slide = Joint(
        "slide", kind="prismatic", axis=[1.0, 0.0, 0.0], armature=0.01, lower=-4.0, upper=4.0,
        limit_ke=100.0, limit_kd=1.0,
    )  # fmt: skip
    hinge = Joint("hinge", kind="revolute", axis=[0.0, 1.0, 0.0], armature=0.01, limit_kd=1.0)
    cart = Shape("box", half_extents=np.array([0.25, 0.25, 0.1]))
    pole = Shape("box", np.array([0.0, 0.0, 0.5]), half_extents=np.array([0.025, 0.025, 0.5]))
    bodies = (body("cart", -1, slide, [cart]), body("pole", 0, hinge, [pole]))
    return RobotDescription("cartpole", "", bodies, contact=None)


def _random_body(rng, name, parent, joint):
    """A body of random mass, off-centre, with a random inertia."""
    square = rng.normal(size=(3, 3))
    inertia = 0.05 * (square @ square.T + 0.5 * np.eye(3))
    mass, com = rng.uniform(0.5, 3.0), rng.uniform(-0.3, 0.3, 3)
    return Body(name, f"/{name}", parent, joint, mass, com, inertia)


def _random_joint(rng, name, kind, **more):
    """A joint with both anchors off-centre and turned, and a skew axis."""
    frames = rng.normal(size=(2, 4))
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    axis = rng.normal(size=3)
    return Joint(
        name, kind=kind, axis=axis / np.linalg.norm(axis), armature=rng.uniform(0.0, 0.2),
        parent_position=rng.uniform(-0.5, 0.5, 3), parent_rotation=frames[0],
        child_position=rng.uniform(-0.5, 0.5, 3), child_rotation=frames[1], **more,
    )  # fmt: skip


def random_robot(kinds, parents, seed):
    """A robot of the given joint kinds with no centre, frame or axis aligned."""
    rng = np.random.default_rng(seed)
    bodies = []
    for index, (kind, parent) in enumerate(zip(kinds, parents, strict=True)):
        joint = Joint(f"j{index}") if kind == "free" else _random_joint(rng, f"j{index}", kind)
        bodies.append(_random_body(rng, f"b{index}", parent, joint))
    return RobotDescription("random", "", tuple(bodies), gravity=np.array([0.3, -0.5, -9.81]))


def ball_robot():
    """A hinged base with two ball joints, one below the other, and a hinge at the end."""
    return random_robot(["revolute", "spherical", "spherical", "revolute"], [-1, 0, 1, 2], seed=1)


def skew_robot():
    """A tree on a slide: skew hinges, a skew slide and a weld."""
    kinds = ["prismatic", "revolute", "prismatic", "fixed", "revolute"]
    return random_robot(kinds, [-1, 0, 1, 1, 3], seed=2)


def floating_robot():
    """Two trees: a free off-centre base with a ball, a slide and a hinge; a free body alone."""
    kinds = ["free", "spherical", "revolute", "prismatic", "free", "fixed"]
    return random_robot(kinds, [-1, 0, 1, 0, -1, -1], seed=3)


def random_state(description, rng, spread=1.0):
    """Random coordinates and velocities."""
    q = []
    for item in description.bodies:
        quat = rng.normal(size=4)
        quat /= np.linalg.norm(quat)
        q += {
            "free": lambda quat=quat: [*rng.normal(size=3), *quat],
            "spherical": lambda quat=quat: [*quat],
            "fixed": lambda: [],
        }.get(item.joint.kind, lambda: [rng.normal() * spread])()
    return np.array(q), rng.normal(size=description.nv) * spread


def ant_dflex():
    """The Ant with the inertia tensors on which Xu et al. and the paper trained."""
    upper, lower = np.diag([0.011844, 0.056797, 0.113593]), np.diag([0.020943, 0.267479, 0.534958])
    torso = [[1.996885, 0.085211, 0.0], [0.085211, 2.176695, 0.0], [0.0, 0.0, 2.717143]]
    robot = ant()
    bodies = [replace(robot.bodies[0], inertia=np.array(torso))]
    bodies += [
        replace(item, inertia=upper if item.name.startswith("upper") else lower)
        for item in robot.bodies[1:]
    ]
    return replace(robot, bodies=tuple(bodies))


def box_robot():
    """A free box with a hinged box, sprung and damped, and a sphere on a ball joint."""
    box = {"kind": "box", "density": 400.0}
    base = [Shape(half_extents=[0.2, 0.15, 0.1], position=[0.05, 0.0, 0.02], **box)]
    arm = [Shape(half_extents=[0.05, 0.05, 0.2], position=[0.0, 0.0, 0.2], **box)]
    hinge = Joint(
        "hinge", kind="revolute", axis=[0.0, 1.0, 0.0], parent_position=[0.2, 0.0, 0.0],
        damping=0.2, stiffness=3.0, rest=0.4, lower=-0.2, upper=1.0, limit_ke=50.0, limit_kd=0.3,
    )  # fmt: skip
    ball = Joint("ball", kind="spherical", parent_position=[-0.25, 0.0, 0.0], armature=0.02)
    bodies = (
        body("base", -1, Joint("root"), base),
        body("arm", 0, hinge, arm),
        body("tail", 0, ball, [Shape("sphere", position=[-0.15, 0.0, 0.0], radius=0.1)]),
    )
    return RobotDescription("boxes", "", bodies, contact=ContactMaterial(2e4, 1e3, 3e2, 0.6))


def without_ground(description):
    return replace(description, contact=None)
