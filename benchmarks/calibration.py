"""Drivers' numbers from SUMO's trajectories: `gippo identify` beside differential evolution.

    python benchmarks/calibration.py [drivers]

tests/data/sumo_drivers.npz, five numbers of each of the first `drivers` (20) drivers, the same
windows, bounds and simulator. Differential evolution is SciPy's with its defaults and `vectorized`,
so that a generation is one batch; it starts every window from what was measured, as is usual, and
minimises the sum of squares of errors of gap and speed. A simulation is one of all windows of one
driver; a pass backward through the steps counts as one, too. Time is the processor's, one thread.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import differential_evolution

from gippo.studies.calibration import (
    DriverWindows,
    Driving,
    Place,
    calibrate,
    driver_parameters,
    split_windows,
)
from gippo.studies.trajectories import Stretch
from warp_envs.traffic.models import default_numbers, find_model

NAMES = ["v0", "T", "a", "b", "s0"]
LENGTH, INTERVAL = 100, 0.2


def main() -> None:
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    data = np.load(Path(__file__).parents[1] / "tests" / "data" / "sumo_drivers.npz")
    true = np.stack([data[f"true_{name}"] for name in NAMES], axis=1)[:count]
    followers = [i for i in range(len(data["vehicle"])) if i % 5][:count]
    found = [
        Stretch(
            str(data["vehicle"][i]),
            0.0,
            data["x"][i],
            data["speed"][i],
            data["x"][i - 1] - data["length"],
            data["speed"][i - 1],
        )
        for i in followers
    ]
    model = find_model("idm")
    numbers = {**default_numbers(model), "emergency_decel": 9.0}
    driving = Driving(model, {"driving": "sumo", "integrator": "semi_implicit"}, INTERVAL, numbers)
    bounded = driver_parameters(model, numbers, NAMES, {})
    split = split_windows(found, LENGTH, 0.2)

    def windows(places: list[Place], drivers: list[str]) -> DriverWindows:
        return DriverWindows(found, INTERVAL, places, LENGTH, drivers, driving, NAMES)

    fitted_to, held_out = (windows(part, split.drivers) for part in (split.fitted, split.held_out))
    for starts in (4, 4, 1):  # the first also builds the kernels
        began = time.process_time()
        result = calibrate(fitted_to, held_out, split.drivers, bounded, starts, 50, 0)
        took = time.process_time() - began
        tell(f"identify, {starts} starts", took, sum(result.simulations), result.values, true)
    began, values, simulations = time.process_time(), [], []
    for k, driver in enumerate(split.drivers):
        own = windows([p for p in split.fitted if found[p.stretch].driver == driver], [driver])

        counted: list[int] = []

        def loss(
            points: np.ndarray, own: DriverWindows = own, counted: list[int] = counted
        ) -> np.ndarray:
            counted.append(points.shape[1])
            unit = torch.tensor(np.atleast_2d(points.T))
            rows = bounded.values(unit)[:, None].expand(-1, len(own.measured), -1)
            none = torch.zeros(len(unit), len(own.measured), 2, dtype=torch.float64)
            errors = own.errors(rows, none) / own.spread[0]
            return errors.square().mean(dim=(1, 2, 3)).numpy()

        best = differential_evolution(
            loss, [(0.0, 1.0)] * len(NAMES), rng=k, vectorized=True, updating="deferred",
            polish=False, maxiter=1000,
        )  # fmt: skip
        values.append(bounded.values(torch.tensor(best.x)).numpy())
        simulations.append(sum(counted))
    took = time.process_time() - began
    tell("differential evolution", took, float(np.mean(simulations)), np.array(values), true)


def tell(what: str, took: float, simulations: float, values: np.ndarray, true: np.ndarray) -> None:
    error = np.abs(values / true - 1.0).max(axis=1)
    print(
        f"{what}: {took:.1f} s for {len(true)} drivers, {simulations:.0f} simulations of each, "
        f"largest error of a number: median of the drivers {np.median(error):.2g}, "
        f"worst {error.max():.2g}, {np.sum(error < 0.02)} of {len(true)} within 2 %"
    )


if __name__ == "__main__":
    main()
