"""What of a robot is its base, and by which joints the base moves in the world."""

from __future__ import annotations

from collections.abc import Sequence

from warp_envs.articulation.model import start_indices
from warp_envs.checks import ArgumentError, check_choice
from warp_envs.usd.description import Body, RobotDescription, rotation_matrix

_NEGLIGIBLE = 1e-4
"""Share of a robot's mass below which a body only parts the coordinates of a joint."""

LIGHTEST = 1e-6
"""Of a floating tree in single precision [kg]."""

SINGLE = ("revolute", "prismatic")
"""Joints of one coordinate: hinges and slides."""


def base_body(description: RobotDescription, name: str | None = None) -> int:
    """The index of the base: the first body with mass of a tree that moves about in the world.

    A tree moves about if it floats or hangs on the world by several joints in a row, as a planar
    robot does on two slides and a hinge. Without one the base is the first body with mass.

    Args:
        description: the robot.
        name: of another body, which is to be the base.

    Raises:
        ArgumentError: there is no body of the name.
    """
    bodies = description.bodies
    if name is not None:
        names = [body.name for body in bodies]
        check_choice("base", name, names)
        return names.index(name)
    trunks = [index for index in range(len(bodies)) if _trunk(bodies, index) == index]
    moving = [index for index in trunks if base_joints(description, index)]
    return [*moving, *trunks, 0][0]


def base_joints(description: RobotDescription, base: int) -> list[int]:
    """The bodies whose joints move the base about in the world, which nothing drives by itself.

    They are the one free joint, or two or more hinges and slides in a row; a single one, as under
    an arm or a cart, is a joint like any other.
    """
    path = _path(description.bodies, max(0, _trunk(description.bodies, base)))
    kinds = [description.bodies[index].joint.kind for index in path]
    moving = [index for index, kind in zip(path, kinds, strict=True) if kind != "fixed"]
    planar = len(moving) > 1 and "prismatic" in kinds
    return moving if planar or "free" in kinds else []


def horizontal_coordinates(description: RobotDescription, base: int) -> list[int]:
    """Where in joint_q it says where in the plane the base is."""
    q_start = start_indices(description.bodies)[0]
    found: list[int] = []
    for index in base_joints(description, base):
        joint = description.bodies[index].joint
        if joint.kind == "free":
            found += [q_start[index], q_start[index] + 1]
        elif joint.kind == "prismatic" and not _is_vertical(description.bodies, index):
            found.append(q_start[index])
    return found


def _is_vertical(bodies: Sequence[Body], index: int) -> bool:
    """Whether the slide of a base's body goes up and down."""
    body = bodies[index]
    axis = rotation_matrix(body.joint.parent_rotation) @ body.joint.axis
    if body.parent >= 0:
        axis = rotation_matrix(bodies[body.parent].rotation) @ axis
    return bool(abs(axis[2]) > 0.5)


def has_weight(description: RobotDescription, index: int) -> bool:
    """Whether a body is more than a means to part the coordinates of a joint."""
    negligible = _NEGLIGIBLE * sum(body.mass for body in description.bodies)
    return description.bodies[index].mass > negligible


def _trunk(bodies: Sequence[Body], index: int) -> int:
    """The first body with mass on the way to a body from its tree's root, -1 if there is none."""
    negligible = _NEGLIGIBLE * sum(body.mass for body in bodies)
    return next((above for above in _path(bodies, index) if bodies[above].mass > negligible), -1)


def _path(bodies: Sequence[Body], index: int) -> list[int]:
    """The bodies from a tree's root to one of its bodies."""
    path = [index]
    while bodies[path[0]].parent >= 0:
        path.insert(0, bodies[path[0]].parent)
    return path


def check_masses(bodies: Sequence[Body]) -> None:
    """Raise ArgumentError where a floating tree is too light for single precision.

    Its root's 6 x 6 inertia is inverted, by products of three masses or moments; of a grain of sand
    they have no digits left.
    """
    carried = [body.mass for body in bodies]
    for index in reversed(range(len(bodies))):
        if bodies[index].parent >= 0:
            carried[bodies[index].parent] += carried[index]
    for body, mass in zip(bodies, carried, strict=True):
        if body.joint.kind == "free" and mass < LIGHTEST:
            accepted = f"at least {LIGHTEST} kg in single precision"
            raise ArgumentError(f"the mass of {body.name}'s tree", f"{mass:.3g} kg", accepted)
