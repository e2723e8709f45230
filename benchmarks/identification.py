"""Simulations until nine numbers of a Hopper held in the air are found, by three methods.

    pip install cma
    python benchmarks/identification.py

MuJoCo's motion without noise (tests/gippo/commands/held_hopper.py), the same windows, bounds and
first guess. `gippo identify`'s method is Levenberg's and Marquardt's, with derivatives through the
simulation; beside it SciPy's Nelder-Mead and CMA-ES (`cma`, its default population), which start
every window from what was measured and minimise the same sum of squares. A simulation is one of all
windows; a pass backward through all of their steps counts as one, too. Told is how many it takes
until the numbers stay within 1 % of the true ones, or how near they come within MOST simulations.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cma  # pyright: ignore[reportMissingImports]
import numpy as np
import torch
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).parents[1]))

from gippo.studies.identification import Shooting, bounded_parameters
from gippo.studies.identification_report import recorded_columns
from gippo.studies.least_squares import Minimizer
from gippo.studies.recordings import read_recording
from tests.gippo.commands.held_hopper import GUESS, TRUE, mjcf, record
from warp_envs import make
from warp_envs.robots.base import ArticulatedEnv
from warp_envs.usd.conversion.convert import convert_robot

MOST = 6000
WITHIN = 0.01
Loss = Callable[[np.ndarray], float]


class EnoughError(Exception):
    """The numbers are found, or the simulations spent."""


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        shooting = windows(Path(folder))
        bounded = bounded_parameters(shooting.env, {})
        true = np.array([TRUE[item.name] for item in bounded.items])
        count, _, width = shooting.measured.shape
        none = torch.zeros(1, count, width, dtype=torch.float64)

        def error(unit: np.ndarray) -> float:
            return float(np.abs(bounded.values(torch.tensor(unit)).numpy() / true - 1.0).max())

        start = bounded.default()
        for iterations in range(1, 30):
            fit = Minimizer(shooting, bounded, 0.01 * shooting.spread)
            found = fit.run(torch.tensor(start)[None, None], none, iterations)
            if error(found.unit[0, 0].numpy()) < WITHIN:
                break
        forward, backward = fit.simulations.tolist()
        off = error(found.unit[0, 0].numpy())
        print(
            f"identify: {forward} forward and {backward} backward, {forward + backward} together, "
            f"in {iterations} iterations, error {off:.2g}",
            flush=True,
        )
        for name, method in (("Nelder-Mead", nelder_mead), ("CMA-ES", cma_es)):
            spent, best = [0], [np.inf, np.inf]

            def loss(unit: np.ndarray, spent: list[int] = spent, best: list[float] = best) -> float:
                spent[0] += 1
                inside = np.clip(unit, 0.0, 1.0)
                values = bounded.values(torch.tensor(inside)).expand(1, count, -1)
                errors = shooting.errors(values, none) / shooting.spread
                value = float(errors.square().mean()) + float(np.sum((unit - inside) ** 2))
                if value < best[0]:
                    best[:] = value, error(inside)
                if best[1] < WITHIN or spent[0] >= MOST:
                    raise EnoughError
                return value

            with contextlib.suppress(EnoughError):
                method(loss, start)
            print(f"{name}: {spent[0]} simulations, error {best[1]:.2g}", flush=True)


def nelder_mead(loss: Loss, start: np.ndarray) -> None:
    options = {"maxfev": 10 * MOST, "maxiter": 10 * MOST, "xatol": 1e-12, "fatol": 1e-16}
    minimize(loss, start, method="Nelder-Mead", options={**options, "adaptive": True})


def cma_es(loss: Loss, start: np.ndarray) -> None:
    options = {"seed": 1, "verbose": -9, "tolfun": 0.0, "tolx": 0.0, "tolfunhist": 0.0}
    cma.fmin(loss, start, 0.2, options)


def windows(folder: Path) -> Shooting:
    (folder / "hopper.xml").write_text(mjcf(GUESS))
    convert_robot(folder / "hopper.xml", folder / "hopper.usda")
    np.savez(folder / "run.npz", allow_pickle=False, **record())
    options = {"asset": str(folder / "hopper.usda"), "parameters": list(TRUE), "max_speed": None}
    columns = recorded_columns(robot(1, **options))
    recording = read_recording(folder / "run.npz", columns)
    first = recording.windows(10)
    step = {"control_step": recording.interval, "substeps": 64}
    return Shooting(robot(len(first), **options, **step), recording, first, 10, 1, 1)


def robot(num_envs: int, **options: Any) -> ArticulatedEnv:
    env = make("robot", num_envs=num_envs, dtype=torch.float64, **options)
    assert isinstance(env, ArticulatedEnv)
    return env


if __name__ == "__main__":
    main()
