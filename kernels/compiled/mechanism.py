"""A forest of moving links as plain numbers, laid out so that traced equations fold well.

A number may also be an expression of what varies from environment to environment, traced with the
equations; the fields that can be are typed as `Number` or `Numbers`.

Frames: a link's frame sits at its joint's anchor (a free link's at its centre of mass) and turns
with the link. A hinge turns about the link's z axis. Where a joint's coordinates are zero its
link's frame is the joint's `frame`, given in the parent link's frame or, for a root, the world's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kernels.compiled.algebra import Numbers
from kernels.compiled.tracer import Expression

KINDS = ("revolute", "prismatic", "spherical", "free")

NQ = {"revolute": 1, "prismatic": 1, "spherical": 4, "free": 7}
NV = {"revolute": 1, "prismatic": 1, "spherical": 3, "free": 6}

Number = float | Expression

Terms = tuple[Number, Sequence[tuple[Number, Numbers]]]
"""k and the (b, n) of an inertia k 1 + sum b n n^T."""


class Contact(NamedTuple):
    """What can touch the ground, see `kernels.articulation.contact`.

    Attributes:
        point: in the link's frame [m], shape (3,).
        radius: of the ball around it, or of the rim [m].
        count: how many of them coincide.
        kind: "ball", "ellipsoid" or "rim".
        frame: (3, 3), see `kernels.articulation.contact.reach`.
    """

    point: Numbers
    radius: float
    count: int
    kind: str
    frame: np.ndarray


class Lift(NamedTuple):
    """A point of a link [m] at which the weight of a mass [kg] is taken off it."""

    point: Numbers
    mass: float


class Drag(NamedTuple):
    """`warp_envs.usd.passive.Drag` on a link.

    Attributes:
        point: in the link's frame [m], shape (3,).
        axes: as columns, in the link's frame, shape (3, 3).
        linear: [N s/m].
        angular: [N m s/rad].
        linear_square: [N s^2/m^2], shape (3,).
        angular_square: [N m s^2/rad^2], shape (3,).
        wind: world axes [m/s], shape (3,).
    """

    point: Numbers
    axes: np.ndarray
    linear: float
    angular: float
    linear_square: np.ndarray
    angular_square: np.ndarray
    wind: np.ndarray


class Coupling(NamedTuple):
    """`warp_envs.usd.passive.Coupling`, of links on hinges and slides by their indices."""

    links: tuple[int, ...]
    weights: tuple[float, ...]
    stiffness: float
    damping: float
    low: float
    high: float


class Cord(NamedTuple):
    """`warp_envs.usd.passive.Cord` on links.

    Attributes:
        links: of each point, -1 the world.
        points: in the links' frames [m], shapes (3,).
        weights: of the piece from each point to the next.
        stiffness: [N/m].
        damping: [N s/m].
        low: length below which it pushes [m].
        high: length above which it pulls [m].
    """

    links: tuple[int, ...]
    points: tuple[Numbers, ...]
    weights: tuple[float, ...]
    stiffness: float
    damping: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Link:
    """A rigid link and the joint that carries it. SI units.

    Attributes:
        kind: of the joint, one of `KINDS`; "free" for roots only.
        parent: index of an earlier link, -1 for the world.
        anchor: the joint's place in the parent's frame [m], shape (3,).
        frame: its orientation there, a rotation matrix.
        axis: of a slide, in the joint's frame, unit, shape (3,).
        mass: [kg].
        com: centre of mass in the link's frame [m], shape (3,).
        inertia: about the centre of mass, link's axes [kg m^2], shape (3, 3).
        offset: centre of mass of a free link in the frame its coordinates speak of [m], shape (3,).
        armature: added to the mass matrix's diagonal for each degree of freedom.
        damping: of a hinge, slide or ball; what goes with its limits, and acts always, included.
        stiffness: of its spring towards `rest`, of a ball's towards the identity.
        rest: coordinate at which that spring is slack.
        lower: least coordinate of a hinge or slide, -inf if none.
        upper: greatest coordinate, of a ball the greatest angle; inf if none.
        limit_ke: spring outside the range.
        contacts: what can touch the ground.
        servo_kp: what a servo takes off the applied force for each coordinate.
        servo_kd: the same for each velocity.
        servo_range: least and greatest of the applied force less that.
        terms: the inertia as its terms, in place of `inertia`.
        lifts: what carries it against gravity.
        drags: what resists its motion.
    """

    kind: str
    parent: int
    anchor: Numbers
    frame: np.ndarray
    axis: np.ndarray
    mass: Number
    com: Numbers
    inertia: np.ndarray
    offset: Numbers
    armature: Number
    damping: Number
    stiffness: Number
    rest: Number
    lower: float
    upper: float
    limit_ke: Number
    contacts: tuple[Contact, ...]
    servo_kp: Number = 0.0
    servo_kd: Number = 0.0
    servo_range: tuple[Number, Number] = (-np.inf, np.inf)
    terms: Terms | None = None
    lifts: tuple[Lift, ...] = ()
    drags: tuple[Drag, ...] = ()

    @property
    def pulls_back(self) -> bool:
        """Whether it is a ball with a spring or a limit."""
        sprung = isinstance(self.stiffness, Expression) or self.stiffness > 0.0
        return self.kind == "spherical" and bool(sprung or np.isfinite(self.upper))

    @property
    def has_servo(self) -> bool:
        """Whether the applied force depends on the state, or is bounded."""
        gains = (self.servo_kp, self.servo_kd)
        return any(map(bounds, self.servo_range)) or any(
            isinstance(gain, Expression) or gain != 0.0 for gain in gains
        )


def bounds(end: Number) -> bool:
    """Whether the end of a range is one."""
    return isinstance(end, Expression) or bool(np.isfinite(end))


class Grid(NamedTuple):
    """The grid of a height field: places and shape of its points; their numbers are an array's.

    Attributes:
        corner: x and y of the first point [m].
        cell: distances of points along x and y [m].
        shape: points along x and y.
    """

    corner: tuple[float, float]
    cell: tuple[float, float]
    shape: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Ground:
    """Penalty contact as in `kernels.articulation.contact`.

    Attributes:
        ke: stiffness [N/m].
        kd: damping per depth [N s/m^2].
        kf: friction's viscosity [N s/m].
        mu: friction coefficient.
        plane: its height at x = y = 0 [m] and slopes along x and y.
        grid: in place of the plane; heights [m] and slopes are in the array "ground".
    """

    ke: Number
    kd: Number
    kf: Number
    mu: Number
    plane: tuple[float, float, float] = (0.0, 0.0, 0.0)
    grid: Grid | None = None


@dataclass(frozen=True, eq=False)
class Mechanism:
    """Links, parents first, in the order of their coordinates.

    Attributes:
        links: the links.
        gravity: [m/s^2], world axes, shape (3,).
        ground: None where nothing touches it.
        couplings: of hinges and slides with each other.
        cords: from point to point.
        implicit_damping: whether the joints' damping acts at the velocity after a substep.
    """

    links: tuple[Link, ...]
    gravity: Numbers
    ground: Ground | None
    couplings: tuple[Coupling, ...] = ()
    cords: tuple[Cord, ...] = ()
    implicit_damping: bool = False

    @property
    def nq(self) -> int:
        """Number of coordinates."""
        return sum(NQ[link.kind] for link in self.links)

    @property
    def nv(self) -> int:
        """Number of degrees of freedom."""
        return sum(NV[link.kind] for link in self.links)


def rank_one_terms(inertia: np.ndarray) -> tuple[float, list[tuple[float, np.ndarray]]]:
    """Numbers k, b and unit vectors n with inertia = k 1 + sum b n n^T, and as few n as can be.

    One for a body of revolution, none for a sphere, else two.
    """
    values, vectors = np.linalg.eigh(inertia)
    scale = np.abs(values).max()
    k = values[1]  # the middle one: a repeated value is always it
    terms = []
    for value, vector in zip(values, vectors.T, strict=True):
        if abs(value - k) > 1e-12 * scale:
            direction = np.where(np.abs(vector) < 1e-12, 0.0, vector)
            sign = np.sign(direction[np.argmax(np.abs(direction))])
            terms.append((float(value - k), sign * direction))
    return float(k), terms
