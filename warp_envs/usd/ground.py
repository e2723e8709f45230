"""The ground that robots touch: a plane at any height and tilt, or a height field."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from warp_envs.checks import ArgumentError

STEEPEST = 4.0
"""Slope up to which a plane is a ground: 76 degrees."""
LARGEST_GRID = 4_000_000
"""Points of a height field: single precision still numbers each of their entries."""


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane z = height + slope . (x, y).

    Attributes:
        height: at x = y = 0 [m].
        slope: along x and y, shape (2,).
    """

    height: float = 0.0
    slope: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def __post_init__(self) -> None:
        """Check and freeze.

        Raises:
            ValueError: a number that is not finite, or a slope that nothing stands on.
        """
        slope = np.array(self.slope, dtype=np.float64)
        if slope.shape != (2,) or not np.all(np.isfinite(slope)) or not np.isfinite(self.height):
            raise ArgumentError("ground", f"{self.height}, {self.slope}", "three finite numbers")
        if np.linalg.norm(slope) > STEEPEST:
            raise ArgumentError("ground", f"slopes {slope}", f"slopes up to {STEEPEST:g}")
        slope.setflags(write=False)
        object.__setattr__(self, "slope", slope)
        object.__setattr__(self, "height", float(self.height))

    @property
    def is_level(self) -> bool:
        """Whether it has no slope."""
        return not np.any(self.slope)

    def surface(self, places: np.ndarray) -> np.ndarray:
        """Height [m] and slopes (..., 3) at places (..., 2)."""
        height = self.height + places @ self.slope
        return np.concatenate(
            [height[..., None], np.broadcast_to(self.slope, (*height.shape, 2))], axis=-1
        )


@dataclass(frozen=True, eq=False)
class HeightField:
    """Heights at the points of a grid, interpolated bilinearly; level beyond its edges.

    Attributes:
        heights: (rows, columns), along x and y [m].
        corner: x and y of the first point [m], shape (2,).
        cell: distances of points along x and y [m], shape (2,).
    """

    heights: np.ndarray
    corner: np.ndarray
    cell: np.ndarray

    def __post_init__(self) -> None:
        """Check and freeze.

        Raises:
            ValueError: not a grid of at least two by two finite heights, or too large a one.
        """
        for name, shape in (("heights", None), ("corner", (2,)), ("cell", (2,))):
            try:
                values = np.array(getattr(self, name), dtype=np.float64)
            except (TypeError, ValueError):
                values = np.full(2, np.nan)
            if not np.all(np.isfinite(values)) or (shape and values.shape != shape):
                raise ArgumentError(f"ground: {name}", "something else", "finite numbers")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        if self.heights.ndim != 2 or min(self.heights.shape) < 2:
            raise ArgumentError("ground: heights", f"shape {self.heights.shape}", "2 x 2 or more")
        if self.heights.size > LARGEST_GRID:
            raise ArgumentError(
                "ground: heights", f"{self.heights.size} points", f"up to {LARGEST_GRID}"
            )
        if not np.all(self.cell > 0.0):
            raise ArgumentError("ground: cell", repr(self.cell.tolist()), "positive distances")

    @property
    def far_corner(self) -> np.ndarray:
        """X and y of the last point [m], shape (2,)."""
        return self.corner + self.cell * (np.array(self.heights.shape) - 1)

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """What is interpolated: heights and slopes (rows + 2, columns + 2, 3), and the corner (2,).

        Slopes are central differences. One more ring of points is as high as the edge and has no
        slope across it: beyond it nothing changes any more.
        """
        wide = np.pad(self.heights, 2, mode="edge")
        inner = wide[1:-1, 1:-1]
        along_x = (wide[2:, 1:-1] - wide[:-2, 1:-1]) / (2.0 * self.cell[0])
        along_y = (wide[1:-1, 2:] - wide[1:-1, :-2]) / (2.0 * self.cell[1])
        return np.stack([inner, along_x, along_y], axis=-1), self.corner - self.cell

    def surface(self, places: np.ndarray) -> np.ndarray:
        """Height [m] and slopes (..., 3) at places (..., 2)."""
        table, corner = self.table()
        last = np.array(table.shape[:2]) - 1
        at = np.clip((places - corner) / self.cell, 0.0, last)
        cell = np.minimum(at.astype(int), last - 1)
        i, j = cell[..., 0], cell[..., 1]
        a, b = ((at - cell)[..., k, None] for k in (0, 1))
        near = table[i, j] * (1.0 - a) + table[i + 1, j] * a
        far = table[i, j + 1] * (1.0 - a) + table[i + 1, j + 1] * a
        return near * (1.0 - b) + far * b


Ground = Plane | HeightField
