"""HalfCheetah, Humanoid and Anymal, described by hand from the specification's numbers."""

from dataclasses import replace

import numpy as np

from tests.kernels.articulation.robots import body, capsule
from warp_envs.usd.description import ContactMaterial, Joint, RobotDescription, Shape

LIGHT = {"mass": 1e-9, "com": np.zeros(3), "inertia": 1e-9 * np.eye(3)}
LIMITS = {"limit_ke": 1e3, "limit_kd": 1e1}
X, Y, Z = np.eye(3)


def hinge(name, axis, anchor=(0.0, 0.0, 0.0), **more):
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    return Joint(name, kind="revolute", axis=axis, parent_position=anchor, **more)


def in_plane(radius, half_length, centre, tilt):
    """A capsule whose axis is (sin t, 0, cos t)."""
    middle, reach = np.array([centre[0], 0.0, centre[1]]), half_length * np.sin(tilt) * X
    reach = reach + half_length * np.cos(tilt) * Z
    return capsule(middle - reach, middle + reach, radius)


def half_cheetah():
    root = {"armature": 0.1, "limit_kd": 10.0}
    torso = [
        in_plane(0.046, 0.5, (0.0, 0.0), np.pi / 2),
        in_plane(0.046, 0.15, (0.6, 0.1), 0.87),
    ]
    bodies = [
        body("x", -1, Joint("x", kind="prismatic", axis=X, parent_position=Z, **root), [], **LIGHT),
        body("z", 0, Joint("z", kind="prismatic", axis=Z, **root), [], **LIGHT),
        body("torso", 1, hinge("pitch", Y, **root), torso),
    ]
    rows = [  # parent, anchor, range, stiffness, damping, half-length, centre, tilt
        (2, (-0.5, 0.0), (-0.52, 1.05), 240, 6.0, 0.145, (0.1, -0.13), -3.8),
        (3, (0.16, -0.25), (-0.785, 0.785), 180, 4.5, 0.15, (-0.14, -0.07), -2.03),
        (4, (-0.28, -0.14), (-0.4, 0.785), 120, 3.0, 0.094, (0.03, -0.097), -0.27),
        (2, (0.5, 0.0), (-1.5, 0.8), 180, 4.5, 0.133, (-0.07, -0.12), 0.52),
        (6, (-0.14, -0.24), (-1.2, 1.1), 120, 3.0, 0.106, (0.065, -0.09), -0.6),
        (7, (0.13, -0.18), (-3.1, -0.3), 60, 1.5, 0.07, (0.045, -0.07), -0.6),
    ]
    for i, (parent, (x, z), (low, high), stiffness, damping, half, centre, tilt) in enumerate(rows):
        joint = hinge(
            f"j{i}", Y, [x, 0.0, z], lower=low, upper=high, stiffness=stiffness, damping=damping,
            armature=0.1, **LIMITS,
        )  # fmt: skip
        bodies.append(body(f"b{i}", parent, joint, [in_plane(0.046, half, centre, tilt)]))
    ground = ContactMaterial(2e4, 1e3, 1e3, 1.0)
    return RobotDescription("half_cheetah", "", tuple(bodies), contact=ground)


def humanoid():
    torso = [
        capsule([0.0, -0.07, 0.0], [0.0, 0.07, 0.0], 0.07),
        capsule([-0.01, -0.06, -0.12], [-0.01, 0.06, -0.12], 0.06),
        Shape("sphere", np.array([0.0, 0.0, 0.19]), radius=0.09),
    ]
    bodies = [body("torso", -1, Joint("root"), torso)]

    def add(parent, axis, anchor, degrees, stiffness, damping, armature, shapes):
        low, high = np.radians(degrees)
        joint = hinge(
            f"j{len(bodies)}", axis, anchor, lower=low, upper=high, stiffness=stiffness,
            damping=damping, armature=armature, **LIMITS,
        )  # fmt: skip
        bodies.append(body(f"b{len(bodies)}", parent, joint, shapes, **({} if shapes else LIGHT)))

    def bar(x, y, z, radius):
        return capsule([x, -y, z], [x, y, z], radius)

    here = [0.0, 0.0, 0.0]
    add(0, Z, [-0.01, 0.0, -0.195], [-45, 45], 20, 5, 0.02, [])
    add(1, Y, here, [-75, 30], 20, 5, 0.01, [bar(0.0, 0.06, -0.065, 0.06)])
    add(2, X, [0.0, 0.0, -0.13], [-35, 35], 10, 5, 0.01, [bar(-0.02, 0.07, -0.1, 0.09)])
    for s in (-1, 1):
        first = len(bodies)
        thigh = capsule(here, [0.0, -0.01 * s, -0.34], 0.06)
        shin = capsule([0.0, 0.0, -0.02], [0.0, 0.0, -0.32], 0.049)
        foot = [
            capsule([-0.07, 0.02 * s, -0.08], [0.14, 0.04 * s, -0.08], 0.027),
            capsule([-0.07, 0.0, -0.08], [0.14, -0.02 * s, -0.08], 0.027),
        ]
        add(3, [-s, 0, 0], [0.0, 0.1 * s, -0.14], [-25, 5], 10, 5, 0.01, [])
        add(first, [0, 0, -s], here, [-60, 35], 10, 5, 0.01, [])
        add(first + 1, Y, here, [-80, 20], 20, 5, 0.01, [thigh])
        add(first + 2, -Y, [0.0, -0.01 * s, -0.383], [-160, 2], 5, 0.1, 0.007, [shin])
        add(first + 3, Y, [0.0, 0.0, -0.33], [-50, 50], 2, 1, 0.006, [])
        add(first + 4, [1.0, 0.0, 0.5], here, [-50, 50], 2, 1, 0.006, foot)
    for s in (-1, 1):
        first = len(bodies)
        upper = capsule(here, [0.16, 0.16 * s, -0.16], 0.04)
        lower = [
            capsule([0.01, -0.01 * s, 0.01], [0.17, -0.17 * s, 0.17], 0.031),
            Shape("sphere", np.array([0.18, -0.18 * s, 0.18]), radius=0.04),
        ]
        add(0, [-2 * s, 1, -s], [0.0, 0.17 * s, 0.06], [-60, 60], 10, 5, 0.01, [])
        add(first, [0, -1, -s], here, [-60, 60], 10, 5, 0.01, [upper])
        add(first + 1, [0, -1, -s], [0.18, 0.18 * s, -0.18], [-90, 50], 2, 1, 0.006, lower)
    ground = ContactMaterial(2e4, 5e3, 1e3, 0.75)
    return RobotDescription("humanoid", "", tuple(bodies), contact=ground)


def humanoid_dflex():
    """The Humanoid with the tensors of the published scores."""

    def tensor(diagonal, xy=0.0, xz=0.0, yz=0.0):
        return np.array([[diagonal[0], xy, xz], [xy, diagonal[1], yz], [xz, yz, diagonal[2]]])

    tensors = {
        0: tensor([0.141999, 0.142168, 0.041212], xz=-0.001833),
        2: tensor([0.0, 0.0, 0.009853]),
        3: tensor([0.0, 0.0, 0.052318]),
    }
    for leg, arm, s in ((4, 16, -1), (10, 19, 1)):
        tensors[leg + 2] = tensor([0.0, 0.074822, 5.6e-8])
        tensors[leg + 3] = tensor([0.0, 0.032608, 0.0])
        tensors[leg + 5] = tensor([0.000849, 0.005940, 0.006446])
        tensors[arm + 1] = tensor([0.000429, 0.009893, 0.009893])
        entries = {"xy": 0.001698 * s, "xz": -0.001698, "yz": 0.001698 * s}
        tensors[arm + 2] = tensor([0.003718, 0.008793, 0.008793], **entries)
    robot = humanoid()
    bodies = tuple(
        replace(item, inertia=tensors[i]) if i in tensors else item
        for i, item in enumerate(robot.bodies)
    )
    return replace(robot, bodies=bodies)


def anymal():
    joint = {"stiffness": 85.0, "damping": 2.0, "armature": 0.006, "limit_kd": 10.0}
    bodies = [
        body("base", -1, Joint("root"), [capsule([-0.375, 0.0, 0.0], [0.375, 0.0, 0.0], 0.1)])
    ]
    for f, s in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        at = len(bodies)
        thigh = capsule([0.0, 0.0503 * s - 0.06, -0.285], [0.0, 0.0503 * s + 0.06, -0.285], 0.06)
        shank = Shape("sphere", np.array([0.08795 * f, 0.01305 * s, -0.31547]), radius=0.03)
        bodies += [
            body(f"hip{at}", 0, hinge(f"haa{at}", X, [0.2999 * f, 0.104 * s, 0.0], **joint),
                 [], **LIGHT),
            body(f"thigh{at}", at, hinge(f"hfe{at}", Y, [0.0599 * f, 0.08381 * s, 0.0], **joint),
                 [thigh]),
            body(f"shank{at}", at + 1, hinge(f"kfe{at}", Y, [0.0, 0.1003 * s, -0.285], **joint),
                 [shank]),
        ]  # fmt: skip
    ground = ContactMaterial(2e3, 5e2, 1e2, 0.75)
    return RobotDescription("anymal", "", tuple(bodies), contact=ground)
