import itertools
import math

import pytest
import torch
from torch.nn.functional import elu, layer_norm, linear

from gippo.networks.native import AdamSettings, NativeFit

ADAM = {"betas": (0.7, 0.95), "eps": 1e-8}


def draw(*shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def parameters_of(sizes):
    layers = list(itertools.pairwise(sizes))
    shapes = [(o, i) for i, o in layers] + [(o,) for _, o in layers]
    shapes += 2 * [(o,) for _, o in layers[:-1]]
    return [draw(*shape, seed=i) for i, shape in enumerate(shapes)]


def plain(parameters, x):
    n = len(parameters) // 4
    for i in range(n):
        x = elu(linear(x, parameters[i], parameters[n + 1 + i]))
        x = layer_norm(x, x.shape[-1:], parameters[-2 * n + i], parameters[-n + i])
    return linear(x, parameters[n], parameters[2 * n + 1])


class Fit:
    """One fit after another, and the same by torch's operations and its Adam."""

    def __init__(self, sizes, rows, parts, iterations, dtype=torch.float64):
        self.leaves = [p.requires_grad_() for p in parameters_of(sizes)]
        self.adam = torch.optim.Adam(self.leaves, **ADAM)
        self.parts, self.iterations, self.steps = parts, iterations, 0
        self.vector = torch.cat([p.detach().flatten() for p in self.leaves]).to(dtype)
        moments = [torch.zeros_like(self.vector) for _ in range(2)]
        self.own = NativeFit(sizes, rows, parts, iterations, self.vector, *moments)

    def run(self, x, y, rate, max_norm, unit, offset):
        adam = AdamSettings(rate, self.steps, *ADAM["betas"], 1e-8, max_norm, 1e-6)
        dtype = self.vector.dtype
        losses = self.own.fit(x.to(dtype), y.to(dtype), adam, unit, offset)
        self.steps += self.own.num_descents
        return losses

    def run_plainly(self, x, y, rate, max_norm, unit, offset):
        self.adam.param_groups[0]["lr"] = rate
        size = -(-len(x) // self.parts)
        for _ in range(self.iterations):
            losses = []
            for inputs, target in zip(x.split(size), y.split(size), strict=True):
                prediction = unit * plain(self.leaves, inputs).squeeze(-1) + offset
                loss = (prediction - target).square().mean()
                self.adam.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.leaves, max_norm)
                self.adam.step()
                losses.append(loss.detach())
        return torch.stack(losses), torch.cat([p.detach().flatten() for p in self.leaves])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("sizes", "rows", "parts"),
    [((3, 8, 1), 12, 4), ((5, 33, 16, 1), 250, 4), ((40, 64, 1), 97, 1), ((2, 4, 1), 5, 4)],
)
def test_a_fit_is_torchs_adam(sizes, rows, parts, dtype):
    fit = Fit(sizes, rows, parts, iterations=5, dtype=dtype)
    for number in range(2):  # the second goes on with the first's moments
        x, y = draw(rows, sizes[0], seed=10 + number), 10.0 * draw(rows, seed=20 + number)
        settings = {"rate": 1e-2 / (1 + number), "max_norm": 1.0, "unit": 3.0, "offset": -2.0}
        losses = fit.run(x, y, **settings)
        expected_losses, expected = fit.run_plainly(x, y, **settings)
        tolerance = 1e-9 if dtype == torch.float64 else 1e-3
        torch.testing.assert_close(losses.double(), expected_losses, rtol=tolerance, atol=0.0)
        torch.testing.assert_close(fit.vector.double(), expected, rtol=tolerance, atol=tolerance)


def test_a_gradient_within_its_bound_is_taken_whole():
    fit = Fit((3, 8, 1), rows=20, parts=2, iterations=3)
    x, y = draw(20, 3, seed=1), draw(20, seed=2)
    settings = {"rate": 1e-2, "max_norm": 1e6, "unit": 1.0, "offset": 0.0}
    fit.run(x, y, **settings)
    _, expected = fit.run_plainly(x, y, **settings)
    torch.testing.assert_close(fit.vector, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_a_number_shows_in_losses_and_parameters(number):
    fit = Fit((3, 8, 1), rows=20, parts=2, iterations=3)
    x, y = draw(20, 3, seed=1), draw(20, seed=2)
    y[3] = number
    losses = fit.run(x, y, rate=1e-2, max_norm=1.0, unit=1.0, offset=0.0)
    assert not bool(losses.isfinite().any())
    assert not bool(fit.vector.isfinite().all())
