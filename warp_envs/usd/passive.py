"""What acts on a robot beside its joints' own springs: drag, couplings of joints, cords."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from warp_envs.checks import ArgumentError


def _zeros() -> np.ndarray:
    return np.zeros(3)


@dataclass(frozen=True, eq=False)
class Drag:
    """What resists the motion of a body at a point of it.

    With v the velocity of the point less `wind` and w the body's angular velocity, both along the
    drag's own axes, acts

        force   -(linear v + linear_square |v| v)
        torque  -(angular w + angular_square |w| w)

    each square by components: MuJoCo's model of a body in a fluid as a box (its documentation,
    "Fluid forces", inertia model), and linear damping of a body that nothing holds.

    Attributes:
        position: the point, in the body's frame [m], shape (3,).
        rotation: of the axes in the body's frame, unit quaternion xyzw, shape (4,).
        linear: [N s/m].
        angular: [N m s/rad].
        linear_square: [N s^2/m^2], shape (3,).
        angular_square: [N m s^2/rad^2], shape (3,).
        wind: velocity of the fluid, world axes [m/s], shape (3,).
    """

    position: np.ndarray = field(default_factory=_zeros)
    rotation: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0, 0.0, 1.0]))
    linear: float = 0.0
    angular: float = 0.0
    linear_square: np.ndarray = field(default_factory=_zeros)
    angular_square: np.ndarray = field(default_factory=_zeros)
    wind: np.ndarray = field(default_factory=_zeros)

    def __post_init__(self) -> None:
        """Check and freeze.

        Raises:
            ValueError: a number that is not finite, or that would drive instead of resist.
        """
        for name, size in _DRAG.items():
            values = _finite(self, name, size)
            if ("linear" in name or "angular" in name) and np.any(values < 0.0):
                raise ArgumentError(f"drag.{name}", repr(getattr(self, name)), "no negative number")
            object.__setattr__(self, name, values if size > 1 else float(values[0]))
        length = float(np.linalg.norm(self.rotation))
        if abs(length - 1.0) > 1e-6:
            raise ArgumentError("drag.rotation", repr(self.rotation), "a unit quaternion")
        object.__setattr__(self, "rotation", self.rotation / length)

    @classmethod
    def from_numbers(cls, numbers: Sequence[float]) -> Drag:
        """The drag whose numbers, in the order of the attributes, are these (18,)."""
        parts = np.split(
            np.asarray(numbers, dtype=np.float64), np.cumsum(list(_DRAG.values()))[:-1]
        )
        return cls(**{
            name: part if size > 1 else float(part[0])
            for (name, size), part in zip(_DRAG.items(), parts, strict=True)
        })  # fmt: skip

    def numbers(self) -> np.ndarray:
        """All numbers in the order of the attributes, shape (18,)."""
        return np.concatenate([np.atleast_1d(getattr(self, name)) for name in _DRAG])


_DRAG = {
    "position": 3,
    "rotation": 4,
    "linear": 1,
    "angular": 1,
    "linear_square": 3,
    "angular_square": 3,
    "wind": 3,
}
DRAG_NUMBERS = sum(_DRAG.values())


@dataclass(frozen=True, eq=False)
class Coupling:
    """A spring and damper on a weighted sum of joint coordinates, as of a cord over pulleys.

    With L = sum c_j q_j it pulls at each joint j with

        c_j (-stiffness (L - clip(L, low, high)) - damping L')

    (MuJoCo's fixed tendon). Equal `low` and `high` tie joints to each other.

    Attributes:
        name: as its file has it.
        joints: names of hinges and slides.
        weights: c, one for each joint.
        stiffness: [N/m where L is a length, N m where it is an angle].
        damping: the same times s.
        low: L below which it pulls, -inf if none.
        high: L above which it pulls, inf if none.
    """

    name: str
    joints: tuple[str, ...]
    weights: tuple[float, ...]
    stiffness: float = 0.0
    damping: float = 0.0
    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        """Check and freeze.

        Raises:
            ValueError: numbers that do not fit each other, or that are not accepted.
        """
        object.__setattr__(self, "joints", tuple(map(str, self.joints)))
        object.__setattr__(self, "weights", tuple(_finite(self, "weights", len(self.joints))))
        _check_spring(self)


@dataclass(frozen=True, eq=False)
class Cord:
    """A spring and damper on the length of a straight line through points of bodies.

    With L = sum w_k |p_k+1 - p_k| it pulls at its points with the tension

        stiffness (L - clip(L, low, high)) + damping L'

    (MuJoCo's spatial tendon without shapes to wind around). Points that coincide pull nowhere.

    Attributes:
        name: as its file has it.
        bodies: paths of the points' bodies, "" for the world.
        points: in the bodies' frames [m], shape (points, 3).
        weights: w of the piece from each point to the next, one less; 0 where the cord is cut.
        stiffness: [N/m].
        damping: [N s/m].
        low: length below which it pushes [m], -inf if none.
        high: length above which it pulls [m], inf if none.
    """

    name: str
    bodies: tuple[str, ...]
    points: np.ndarray
    weights: tuple[float, ...]
    stiffness: float = 0.0
    damping: float = 0.0
    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        """Check and freeze.

        Raises:
            ValueError: numbers that do not fit each other, or that are not accepted.
        """
        object.__setattr__(self, "bodies", tuple(map(str, self.bodies)))
        count = len(self.bodies)
        if count < 2:
            raise ArgumentError(f"{self.name}.bodies", repr(self.bodies), "two points or more")
        points = _finite(self, "points", 3 * count).reshape(count, 3)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "weights", tuple(_finite(self, "weights", count - 1)))
        _check_spring(self)


def _check_spring(spring: Coupling | Cord) -> None:
    for name in ("stiffness", "damping"):
        value = float(_finite(spring, name, 1)[0])
        if value < 0.0:
            raise ArgumentError(f"{spring.name}.{name}", repr(value), "no negative number")
        object.__setattr__(spring, name, value)
    if not spring.low <= spring.high or spring.low == np.inf or spring.high == -np.inf:
        raise ArgumentError(f"{spring.name}.low", repr(spring.low), f"a number up to {spring.high}")


def _finite(owner: Any, name: str, size: int) -> np.ndarray:
    """The numbers of a field as a read-only array (size,)."""
    assert name in {f.name for f in fields(owner)}
    try:
        values = np.array(getattr(owner, name), dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (size,) or not np.all(np.isfinite(values)):
        where = f"{type(owner).__name__.lower()}.{name}"
        raise ArgumentError(where, repr(getattr(owner, name)), f"{size} finite number(s)")
    values.setflags(write=False)
    return values
