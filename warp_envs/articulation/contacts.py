"""Where bodies can touch the ground: points of their shapes, as the kernels read them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from warp_envs.usd.description import RobotDescription, Shape, rotation_matrix
from warp_envs.usd.hull import convex_hull, few_points

_BALL_FRAME = np.zeros((3, 3))


class ContactPoint(NamedTuple):
    """A point of a body that can touch the ground.

    Attributes:
        position: in the body's frame [m], shape (3,).
        radius: of the ball around it, or of the rim [m].
        kind: "ball", "ellipsoid" or "rim".
        frame: (3, 3), see `kernels.articulation.contact.reach`.
    """

    position: np.ndarray
    radius: float = 0.0
    kind: str = "ball"
    frame: np.ndarray = _BALL_FRAME


def contact_points(shape: Shape) -> list[ContactPoint]:
    """Where a shape can touch the ground.

    A sphere's centre, both ends of a capsule's axis, the corners of a box; of an ellipsoid the
    lowest point, of a cylinder three points of each end's rim that turn with the lowest; of a mesh
    a few corners of its convex hull.
    """
    position, rotation = shape.position, rotation_matrix(shape.rotation)
    if shape.kind == "sphere":
        return [ContactPoint(position, shape.radius)]
    if shape.kind == "ellipsoid":
        return [ContactPoint(position, 0.0, "ellipsoid", rotation * shape.half_extents)]
    half_axis = rotation[:, 2] * shape.half_length
    if shape.kind == "capsule":
        return [ContactPoint(position + side * half_axis, shape.radius) for side in (-1.0, 1.0)]
    if shape.kind == "cylinder":
        return [
            ContactPoint(position + side * half_axis, shape.radius, "rim", _rim(rotation, turn))
            for side in (-1.0, 1.0)
            for turn in (0.0, 2.0 / 3.0 * np.pi, -2.0 / 3.0 * np.pi)
        ]
    if shape.kind == "mesh":
        corners = few_points(convex_hull(shape.points)[0])
        return [ContactPoint(position + rotation @ corner) for corner in corners]
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij")).reshape(3, -1).T
    return [ContactPoint(position + rotation @ (sign * shape.half_extents)) for sign in signs]


def _rim(rotation: np.ndarray, turn: float) -> np.ndarray:
    """The frame of the point of a rim that lies `turn` [rad] round from the lowest."""
    return np.column_stack([rotation[:, 2], [np.cos(turn), np.sin(turn), 0.0], rotation[:, 0]])


def robot_contacts(description: RobotDescription) -> list[tuple[int, ContactPoint]]:
    """All contact points of a robot with their bodies' indices; none where nothing touches."""
    return [
        (index, contact)
        for index, body in enumerate(description.bodies)
        for shape in body.shapes
        if description.contact is not None and shape.collides
        for contact in contact_points(shape)
    ]
