"""Running mean and variance, and the normalisation made of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gippo.distributed import SINGLE, Ranks

VARIANCE_EPS = 1e-5
INITIAL_COUNT = 1e-4


@dataclass(frozen=True)
class Normalizer:
    """Statistics at one moment: x -> (x - mean) / scale, scale = sqrt(variance + 1e-5)."""

    mean: torch.Tensor
    scale: torch.Tensor

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """Shift and scale the last axis (or a scalar quantity)."""
        return (x - self.mean) / self.scale

    def denormalize(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of `normalize`."""
        return x * self.scale + self.mean


class RunningStatistics:
    """Mean and variance of everything seen, in double precision.

    They start at mean 0, variance 1, with the weight of 1e-4 samples.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device | str) -> None:
        self.mean = torch.zeros(shape, dtype=torch.float64, device=device)
        self.variance = torch.ones(shape, dtype=torch.float64, device=device)
        self.count = INITIAL_COUNT

    def update(self, samples: torch.Tensor, ranks: Ranks = SINGLE) -> None:
        """Take in samples (n, *shape); the order of samples and of updates does not matter.

        Chan, Golub & LeVeque 1979: the moments of a union from the moments of its parts.
        """
        n = samples.shape[0] * ranks.size
        variance, mean = ranks.moments(
            *torch.var_mean(samples.detach().double(), dim=0, correction=0)
        )
        total = self.count + n
        delta = mean - self.mean
        self.mean = self.mean + delta * (n / total)
        moment = self.variance * self.count + variance * n
        self.variance = (moment + delta * delta * (self.count * n / total)) / total
        self.count = total

    def frozen(self, dtype: torch.dtype) -> Normalizer:
        """The statistics as they stand, as a normaliser of `dtype`."""
        scale = torch.sqrt(self.variance + VARIANCE_EPS)
        return Normalizer(self.mean.to(dtype), scale.to(dtype))

    def state_dict(self) -> dict[str, torch.Tensor | float]:
        """A copy of the statistics."""
        return {
            "mean": self.mean.clone(),
            "variance": self.variance.clone(),
            "count": self.count,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go back to what `state_dict` returned."""
        self.mean = state["mean"].to(self.mean.device).clone()
        self.variance = state["variance"].to(self.mean.device).clone()
        self.count = float(state["count"])


def identity(dtype: torch.dtype, device: torch.device | str) -> Normalizer:
    """The normaliser that changes nothing."""
    zero = torch.zeros((), dtype=dtype, device=device)
    return Normalizer(zero, zero + 1.0)
