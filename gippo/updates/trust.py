"""How far an estimate of the policy gradient can be trusted, told by its two halves.

A window's samples fall into two halves of different environments. An estimate taken from each, a
and b, is the same signal g with noise of its own, so that without bias

    E[a . b] = |g|^2,    E[|a - b|^2] n_a n_b / n^2 = tr cov of the mean over both,

whatever the estimate and without any derivative of it. The first over the halves' mean square is
the *share* of signal: near 1 where the halves agree, 0 where they are noise. The second makes two
estimates of one gradient into the best single one, each weighted by the other's variance. All
products are taken in a metric, here that of the Fisher matrix, in which a length says how far a
step along the gradient would move the policy, and not how its network is written.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch

MEMORY = 0.95
"""Part of a running mean that an epoch keeps."""
LEAST = 0.01
"""Of the trust that is acted on: with a step of nothing no signal would ever be found."""
BLIND = 0.1
"""Share of signal, beyond noise, of what LR sees beside RP that tells that RP is blind."""
NOISE = 0.2
"""Standard deviation of a share of noise, while windows have not told."""
TINY = 1e-300
"""Keeps 0/0 from arising where both halves are zero."""


@dataclass
class Halves:
    """One estimate of a gradient from the two halves of a window, (num_parameters,) each."""

    first: torch.Tensor
    second: torch.Tensor
    part: float
    """Of the window's samples that the first half has."""

    @property
    def mean(self) -> torch.Tensor:
        """The estimate from the whole window."""
        return self.part * self.first + (1.0 - self.part) * self.second

    def less(self, other: Halves) -> Halves:
        """This estimate's halves less another's."""
        return Halves(self.first - other.first, self.second - other.second, self.part)

    def mixed(self, other: Halves, weight: torch.Tensor) -> Halves:
        """(1 - weight) of this and `weight` (0-d) of the other."""
        weight = weight.to(self.first.dtype)
        first = torch.lerp(self.first, other.first, weight)
        return Halves(first, torch.lerp(self.second, other.second, weight), self.part)


def signal_share(halves: Halves, metric: torch.Tensor) -> torch.Tensor:
    """The share of signal, a . b / ((|a|^2 + |b|^2) / 2), 0-d, in [-1, 1]; 0 for zeros.

    Args:
        halves: a and b.
        metric: weight of each component in the products, (num_parameters,).
    """
    a, b = halves.first.double(), halves.second.double()
    weight = metric.double()
    square = 0.5 * ((weight * a) @ a + (weight * b) @ b)
    return ((weight * a) @ b) / (square + TINY)


def noise(halves: Halves, metric: torch.Tensor) -> torch.Tensor:
    """The variance of the whole window's estimate: trace of its covariance in a metric, 0-d."""
    difference = (halves.first - halves.second).double()
    variance = (metric.double() * difference) @ difference
    return halves.part * (1.0 - halves.part) * variance


def inverse_variance_weight(
    ours: Halves, theirs: Halves, metric: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The weight of `theirs` in the best mixture of two estimates of one gradient.

    kappa = var(ours) / (var(ours) + var(theirs)) minimises the variance of
    (1 - kappa) ours + kappa theirs for independent errors. 1/2 where neither has any.

    Returns:
        kappa and the two variances, 0-d.
    """
    own, other = noise(ours, metric), noise(theirs, metric)
    total = own + other
    return torch.where(total > 0.0, own / (total + TINY), 0.5), own, other


class RunningMean:
    """The mean of about the last twenty epochs' values, or of those that there are."""

    def __init__(self) -> None:
        self._sum = 0.0
        self.weight = 0.0
        """Of all values so far: from 0 to 1, as there are twenty."""

    @property
    def value(self) -> float:
        """The mean so far, NaN where there is none."""
        return self._sum / self.weight if self.weight > 0.0 else math.nan

    def update(self, value: float) -> float:
        """Take in an epoch's value.

        Returns:
            The mean so far.
        """
        self._sum = MEMORY * self._sum + (1.0 - MEMORY) * value
        self.weight = MEMORY * self.weight + (1.0 - MEMORY)
        return self.value

    def state_dict(self) -> dict[str, Any]:
        """The values' sum and their weight."""
        return {"sum": self._sum, "weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._sum, self.weight = float(state["sum"]), float(state["weight"])


class Unseen:
    """Wiener's weight of what one estimate sees of a gradient and another does not.

    Two estimates of one gradient differ by noise alone. Where the derivative of a simulation is
    blind, as at a reward that jumps, RP's differs from LR's by b besides, which the halves of the
    difference share: its share of signal s is |b|^2 / (|b|^2 + 2 v), v the variance of its mean,
    and of

        ours + k (theirs - ours),    k = |b|^2 / (|b|^2 + v) = 2 s / (1 + s),

    the square of the error is least. Noise alone is nothing that one sees, and a little of LR is
    noise for the most part, by which steps go astray: k is 0 until the mean of s over about twenty
    windows has been beyond `BLIND` by three standard errors. From then on derivatives are known to
    be blind here, and s counts beyond one, of the mean or of the window's own where that is more:
    near a cliff windows before know nothing of it. Noise scatters s to both sides of 0, signal is
    above: the shares below 0 tell how far.
    """

    def __init__(self) -> None:
        self._mean = RunningMean()
        self._below = RunningMean()
        self._blind = False

    def update(self, share: float) -> None:
        """Take in the share of signal of a window's difference."""
        self._mean.update(share)
        self._below.update(min(share, 0.0) ** 2)
        self._blind = self._blind or self._least > BLIND

    @property
    def _error(self) -> float:
        """Of a window's share by noise alone: three standard deviations, one where RP is blind."""
        known = self._mean.weight
        return (1.0 if self._blind else 3.0) * math.sqrt(
            2.0 * known * self._below.value + (1.0 - known) * NOISE**2
        )

    @property
    def _least(self) -> float:
        """What is beyond noise of the mean share, of the first windows less, at least 0."""
        known = self._mean.weight
        windows = (1.0 + MEMORY) / (1.0 - MEMORY) * known / (2.0 - known)  # 1 / sum of weights^2
        return known * max(self._mean.value - self._error / math.sqrt(windows), 0.0)

    def weight(self, share: torch.Tensor) -> torch.Tensor:
        """k, 0 to 1, of a window, by its share (0-d) and those taken in."""
        if not self._blind:
            return torch.zeros_like(share)
        least = (share - self._error).clamp(min=self._least)
        return 2.0 * least / (1.0 + least)

    def state_dict(self) -> dict[str, Any]:
        """The means of shares and of the squares of those below 0, and whether it is blind."""
        means = {"mean": self._mean.state_dict(), "below": self._below.state_dict()}
        return {**means, "blind": self._blind}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._mean.load_state_dict(state["mean"])
        self._below.load_state_dict(state["below"])
        self._blind = bool(state["blind"])


class SlopeLeft:
    """The part of the slope along a step that the next window finds left, a running mean.

    Before a step along d the window that d was made of promises the slope d . g, its own noise
    included; afterwards the next one, whose noise knows nothing of d, tells what there is of it.
    Without noise, and of a step that is short, the ratio is 1. With noise it is
    |g|^2 / E|g + noise|^2, Wiener's factor; what only one window sees, as a critic's error, is
    noise here, on which its halves agree. A step as long as the line rises brings it to 0, a longer
    one below.

    A window's ratio counts as 1 at most, and -1 at least: where gradients are small beside the next
    window's it tells little. Trust begins at nothing, whatever first steps promise, and grows with
    the number of windows.
    """

    def __init__(self, num_parameters: int, device: torch.device, overshoot: float) -> None:
        """Begin.

        Args:
            num_parameters: of directions.
            device: where they lie.
            overshoot: slope against a step, in parts of what was promised, that is not too much.
        """
        self._overshoot = overshoot
        self._direction = torch.zeros(num_parameters, dtype=torch.float64, device=device)
        self.restart()

    def restart(self) -> None:
        """Forget all windows."""
        self._left = RunningMean()
        self._promised = self._direction.new_zeros(())

    def begin(self, direction: torch.Tensor, gradient: torch.Tensor) -> None:
        """Say where a step goes, (num_parameters,), and the gradient of its window."""
        self._direction, self._promised = direction, gradient @ direction

    def compare(self, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the last step's own window promised, and what the next one's gradient finds, 0-d."""
        return self._promised, gradient @ self._direction

    def update(self, promised: float, found: float) -> float:
        """Take in what `compare` told.

        Returns:
            The mean so far; as it was where nothing was promised.
        """
        if promised > 0.0:
            self._left.update(min(max(found / promised, -1.0), 1.0))
        return self.value

    @property
    def value(self) -> float:
        """The mean so far, NaN where there is none."""
        return self._left.value

    @property
    def trusted(self) -> float:
        """Part of the longest step to take: (mean + overshoot) / (1 + overshoot), at least `LEAST`.

        Of the first windows as much less as they are fewer than about twenty.

        On a parabola a step of a part t of the way to its top leaves (1 - t) of the slope less what
        noise takes: a step as long as this, however long the longest, leaves -overshoot at least.
        """
        if self._left.weight == 0.0:
            return LEAST
        trust = (self._left.value + self._overshoot) / (1.0 + self._overshoot)
        return max(self._left.weight * trust, LEAST)

    def state_dict(self) -> dict[str, Any]:
        """The mean, and the last step's direction and promise."""
        return {
            "left": self._left.state_dict(),
            "direction": self._direction.clone(),
            "promised": self._promised.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._left.load_state_dict(state["left"])
        self._direction = state["direction"].to(self._direction, copy=True)
        self._promised = state["promised"].to(self._promised, copy=True)


class RecentSize:
    """The root of the mean square of a gradient's length over an episode's windows.

    Environments that started together are at one time of their episodes: where there is nothing
    left to learn at that time a window's gradient is small, however well its halves agree. What
    comes before is forgotten: gradients shrink as a task is learnt, and a few long ones in a mean
    that forgets slowly would keep steps short for as long.
    """

    def __init__(self, windows: float) -> None:
        """Begin.

        Args:
            windows: of an episode.
        """
        self._lengths: deque[float] = deque(maxlen=max(1, round(windows)))

    def part(self, length: float) -> float:
        """Take in an epoch's length; what it is of the mean so far, at most 1."""
        self._lengths.append(length)
        size = math.hypot(*self._lengths) / math.sqrt(len(self._lengths))
        return min(length / size, 1.0) if size > 0.0 else 1.0

    def state_dict(self) -> dict[str, Any]:
        """The lengths, the oldest first."""
        return {"lengths": list(self._lengths)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._lengths.clear()
        self._lengths.extend(float(length) for length in state["lengths"])


def clipped_samples(samples: torch.Tensor, limit: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples (n, k) none of which is longer than `limit` times the median of all lengths.

    A chaotic system gives a few samples of any length, which would be all of the mean.

    Returns:
        The samples, shortened where they are longer, and the share of those that are, 0-d.
    """
    length = torch.linalg.vector_norm(samples, dim=-1, keepdim=True)
    most = limit * length.median()
    # Where half of the samples are zero the median tells nothing.
    longer = (length > most) & (most > 0.0)
    shortened = samples * (most / length.clamp(min=torch.finfo(samples.dtype).tiny))
    return torch.where(longer, shortened, samples), longer.to(samples.dtype).mean()
