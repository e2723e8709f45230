"""Whether a recording's velocities are those of its positions.

Degrees, quaternions in another order, angles that wrap round, columns of another joint or robot: a
fit would find numbers for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from gippo.errors import UserError
from gippo.studies.recordings import Recording
from warp_envs.usd.description import Body

_LEAST_LIKENESS = 0.7
_SLOPES = (0.67, 1.5)
_FAR = 0.3
"""How far a coordinate is to move between two samples, in its standard deviations: beyond noise."""
_LARGEST_TURN = 0.3
"""[rad] In which the axes of a turn may be taken to stay."""
_HINT = (
    "SI units accepted (m, rad, not degrees), quaternions x, y, z, w, a free body's velocities in "
    "world axes, each coordinate in its joint's place"
)


class Moved(NamedTuple):
    """How far coordinates are from where they were some samples before.

    Attributes:
        measured: by positions.
        by_rates: by the integral of velocities.
        span: how many samples before.
    """

    measured: np.ndarray
    by_rates: np.ndarray
    span: int


def check_rates(recording: Recording, bodies: Sequence[Body], where: str) -> None:
    """Compare what positions change by with the integral of velocities, joint by joint.

    Args:
        recording: of a robot of these bodies.
        bodies: in the order of its coordinates.
        where: what it is called in errors.

    Raises:
        UserError: they differ, by their size or in their course, or a quaternion is none.
    """
    q_at = qd_at = 0
    for body in bodies:
        joint = body.joint
        q = recording.joint_q[:, q_at : q_at + joint.nq]
        qd = recording.joint_qd[:, qd_at : qd_at + joint.nv]
        q_at, qd_at = q_at + joint.nq, qd_at + joint.nv
        if joint.nq in (4, 7):
            norms = np.linalg.norm(q[:, -4:], axis=1)
            if np.abs(norms - 1.0).max() > 0.2:
                given = f"{joint.name}.q: quaternions {norms.min():.3g} to {norms.max():.3g} long"
                raise UserError(f"{where}: {given}, unit ones x, y, z, w accepted")
            spins = qd[:, -3:]
            _compare(_turned(q[:, -4:], spins, recording), spins, recording, joint.name, where)
        if joint.kind == "revolute":
            _check_unwrapped(q[:, 0], qd[:, 0], recording, joint.name, where)
        if joint.nq in (1, 7):
            count = 1 if joint.nq == 1 else 3
            rates = qd[:, :count]
            if joint.nq == 7:  # of the body's origin, which its coordinates tell
                rates = rates - np.cross(qd[:, 3:], _rotated(q[:, 3:], body.com))
            for k in range(count):
                name = joint.name if count == 1 else f"{joint.name} along {'xyz'[k]}"
                moved = _travelled(q[:, k], rates[:, k], recording)
                _compare(moved, rates[:, k], recording, name, where)


def _check_unwrapped(
    q: np.ndarray, qd: np.ndarray, recording: Recording, name: str, where: str
) -> None:
    jumps = np.abs(np.diff(q) - 0.5 * recording.interval * (qd[1:] + qd[:-1]))
    jumps[[end - 1 for end in recording.starts[1:-1]]] = 0.0  # from one motion to the next
    if jumps.max(initial=0.0) > 5.0:
        given = f"{name}.q jumps by {jumps.max():.3g} rad from a sample to the next"
        raise UserError(f"{where}: {given}, angles that do not wrap round accepted")


def _compare(
    moved: Moved | None, rates: np.ndarray, recording: Recording, name: str, where: str
) -> None:
    """Refuse motion unlike its rates, by more than what rates do between two samples explains."""
    if moved is None:
        return
    measured, by_rates = moved.measured.ravel(), moved.by_rates.ravel()
    along = float(measured @ by_rates)
    likeness = along / np.sqrt(float(measured @ measured) * float(by_rates @ by_rates))
    slope = along / float(by_rates @ by_rates)
    alike = likeness >= _LEAST_LIKENESS and _SLOPES[0] <= slope <= _SLOPES[1]
    unseen = recording.interval * _size(np.diff(rates, axis=0)) * np.sqrt(moved.span)
    if not alike and _size(measured - by_rates) > unseen:
        given = f"positions of {name} that change by {slope:.3g} of its velocities"
        given += f" (correlation {likeness:.2g})"
        raise UserError(f"{where}: {given}; {_HINT}")


def _size(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _spans(recording: Recording) -> Iterator[tuple[int, list[slice]]]:
    """Ever longer spans, in samples, and the motions that are longer."""
    longest = max(b - a for a, b in pairwise(recording.starts)) - 1
    span = 1
    while span <= longest:
        yield span, [slice(a, b) for a, b in pairwise(recording.starts) if b - a > span]
        span *= 2


def _integral(rates: np.ndarray, interval: float) -> np.ndarray:
    """Of rates over time from the first sample to each, by trapezia."""
    steps = 0.5 * interval * (rates[1:] + rates[:-1])
    return np.concatenate([np.zeros_like(rates[:1]), np.cumsum(steps, axis=0)])


def _travelled(q: np.ndarray, rates: np.ndarray, recording: Recording) -> Moved | None:
    """Over the first span in which a coordinate moves far beyond noise; None: it never does."""
    spread = q.std()
    if spread <= 1e-9 * max(1.0, np.abs(q).max()) and not rates.any():
        return None
    for span, motions in _spans(recording):
        parts = [
            (
                q[m][span:] - q[m][:-span],
                (total := _integral(rates[m], recording.interval))[span:] - total[:-span],
            )
            for m in motions
        ]
        measured, by_rates = (np.concatenate(part) for part in zip(*parts, strict=True))
        far = max(np.square(part).mean() for part in (measured, by_rates)) > (_FAR * spread) ** 2
        if far and by_rates.any() and measured.any():
            return Moved(measured, by_rates, span)
    return None


def _turned(q: np.ndarray, rates: np.ndarray, recording: Recording) -> Moved | None:
    """The same of turns, as vectors in world axes, over spans of small turns."""
    found = None
    for span, motions in _spans(recording):
        parts = []
        for m in motions:
            total = _integral(rates[m], recording.interval)
            parts.append((_turns(q[m][:-span], q[m][span:]), total[span:] - total[:-span]))
        measured, by_rates = (np.concatenate(part) for part in zip(*parts, strict=True))
        if found is not None and np.linalg.norm(by_rates, axis=1).max() > _LARGEST_TURN:
            return found
        if not by_rates.any() or not measured.any():
            continue
        found = Moved(measured, by_rates, span)
    return found if found is not None and np.abs(found.by_rates).max() > 0.05 else None


def _turns(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The turns (n, 3) [rad] from unit quaternions to others, in world axes."""
    v, w = before[:, :3], before[:, 3:]
    u, s = after[:, :3], after[:, 3:]
    vector = u * w - s * v - np.cross(u, v)  # after times the conjugate of before
    scalar = (s * w)[:, 0] + np.sum(u * v, axis=1)
    vector = np.where(scalar[:, None] < 0.0, -vector, vector)
    size = np.linalg.norm(vector, axis=1)
    angle = 2.0 * np.arctan2(size, np.abs(scalar))
    return vector * (angle / np.where(size > 0.0, size, 1.0))[:, None]


def _rotated(q: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """A vector in the axes of bodies with these quaternions (n, 4), in world axes (n, 3)."""
    v = np.broadcast_to(vector, (len(q), 3))
    twice = 2.0 * np.cross(q[:, :3], v)
    return v + q[:, 3:] * twice + np.cross(q[:, :3], twice)
