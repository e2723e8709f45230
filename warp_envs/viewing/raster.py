"""A small depth-buffer rasteriser in numpy, for still pictures on any machine."""

from __future__ import annotations

import numpy as np

_NEAR = 0.05  # [m]
_BATCH = 2_000_000  # pixels tested at once


class Canvas:
    """A picture of triangles: for each pixel the nearest one and how near it is.

    Attributes:
        nearness: 1 / depth [1/m], 0 where nothing is, (height, width).
        nearest: index of the triangle, -1 where nothing is, (height, width).
    """

    def __init__(self, width: int, height: int, tangents: np.ndarray) -> None:
        """An empty picture, `tangents` (2,) of half the angles of view across and up."""
        self.width, self.height = width, height
        self.nearness = np.zeros((height, width))
        self.nearest = np.full((height, width), -1)
        self._scale = 0.5 * np.array([width, -height]) / tangents
        self._middle = 0.5 * np.array([width, height])

    def draw(self, triangles: np.ndarray, ids: np.ndarray) -> None:
        """Draw triangles (n, 3, 3), in the camera's frame (it looks along -z), that face it.

        Args:
            triangles: corners, counter-clockwise from the front [m].
            ids: what `nearest` calls each, (n,).
        """
        triangles, ids = clip(triangles, ids)
        nearness = 1.0 / -triangles[..., 2]
        screen = triangles[..., :2] * nearness[..., None] * self._scale + self._middle
        # Rows of the inverse give, for (x, y, 1), the share of each corner.
        corners = np.concatenate([screen, np.ones_like(screen[..., :1])], axis=2).swapaxes(1, 2)
        # Counter-clockwise becomes clockwise, as y points down in a picture.
        facing = np.linalg.det(corners) < -1e-9
        low = np.clip(np.floor(screen.min(axis=1)), 0, [self.width, self.height]).astype(int)
        high = np.clip(np.ceil(screen.max(axis=1)), 0, [self.width, self.height]).astype(int)
        extent = (high - low).max(axis=1)
        facing &= (high > low).all(axis=1)
        shares = np.zeros_like(corners)
        shares[facing] = np.linalg.inv(corners[facing])
        size, done = 4, 0
        while done < max(self.width, self.height):
            chosen = np.flatnonzero(facing & (extent > done) & (extent <= size))
            step = max(1, _BATCH // size**2)
            for start in range(0, len(chosen), step):
                part = chosen[start : start + step]
                self._fill(size, low[part], high[part], shares[part], nearness[part], ids[part])
            done, size = size, 2 * size

    def _fill(
        self,
        size: int,
        low: np.ndarray,
        high: np.ndarray,
        shares: np.ndarray,
        nearness: np.ndarray,
        ids: np.ndarray,
    ) -> None:
        """Draw triangles no wider or higher than `size` pixels."""
        reach = np.minimum(size, (high - low).max(axis=0))
        x = low[:, 0, None, None] + np.arange(reach[0])[None, None, :]
        y = low[:, 1, None, None] + np.arange(reach[1])[None, :, None]
        inside = (x < high[:, 0, None, None]) & (y < high[:, 1, None, None])
        for corner in range(3):
            a, b, c = (shares[:, corner, k, None, None] for k in range(3))
            inside &= a * (x + 0.5) + b * (y + 0.5) + c >= -1e-6
        which, row, column = np.nonzero(inside)
        column, row = column + low[which, 0], row + low[which, 1]
        plane = np.einsum("nc,nck->nk", nearness, shares)[which]
        near = plane[:, 0] * (column + 0.5) + plane[:, 1] * (row + 0.5) + plane[:, 2]
        wins = near > self.nearness[row, column]
        order = np.flatnonzero(wins)[np.argsort(near[wins])]  # of equal pixels the last one stays
        row, column = row[order], column[order]
        self.nearness[row, column] = near[order]
        self.nearest[row, column] = ids[which[order]]


def clip(triangles: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The triangles (n, 3, 3) in front of the camera, those that reach behind it cut."""
    ahead = -triangles[..., 2] > _NEAR
    whole, cut = ahead.all(axis=1), ahead.any(axis=1) & ~ahead.all(axis=1)
    pieces, names = [triangles[whole]], [ids[whole]]
    for triangle, name in zip(triangles[cut], ids[cut], strict=True):
        kept = _cut(triangle)
        for k in range(1, len(kept) - 1):
            pieces.append(np.stack([kept[0], kept[k], kept[k + 1]])[None])
            names.append(np.array([name]))
    return np.concatenate(pieces), np.concatenate(names)


def _cut(polygon: np.ndarray) -> list[np.ndarray]:
    """The corners of the part of a polygon that lies in front of the camera."""
    depth = -polygon[:, 2] - _NEAR
    kept = []
    for k in range(len(polygon)):
        here, before = depth[k], depth[k - 1]
        if (here > 0.0) != (before > 0.0):
            kept.append(polygon[k - 1] + before / (before - here) * (polygon[k] - polygon[k - 1]))
        if here > 0.0:
            kept.append(polygon[k])
    return kept


def fan(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Polygons as triangles (n, 3, 3): `faces` (m, k) index `points` (p, 3), -1 where unused."""
    corners = np.stack(
        [np.repeat(faces[:, :1], faces.shape[1] - 2, axis=1), faces[:, 1:-1], faces[:, 2:]], axis=-1
    ).reshape(-1, 3)
    return points[corners[(corners >= 0).all(axis=1)]]
