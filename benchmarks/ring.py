"""How well the ring's wave is removed: without control, by hand-made controllers, by trained runs.

    python benchmarks/ring.py results/ring NAME=RUN [NAME=RUN ...]

Each drives the same 64 rings for 300 s; figures are of the last 100 s: the mean speed over the
ring's equilibrium speed (mean and least over rings), and the standard deviation of the speed over
cars and time. Writes ring.json, and space_time.png of the controllers and the first run, into the
folder.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import warp_envs
from gippo.configuration.run_config import load_config
from gippo.runs.acting import MakeActing, named, trained
from gippo.runs.plots import save_figure
from gippo.runs.traffic_plots import Driven, draw_space_time, drive

RINGS, SECONDS, LATE = 64, 300.0, 100.0
SEED = 1000  # of no training run

CONTROLLERS = {
    "human": ("idm", {"autonomous": False}),
    "FollowerStopper": ("follower_stopper", {}),
    "PI with saturation": ("pi_saturation", {}),
}


def driven_by(acting: MakeActing, options: dict) -> tuple[Driven, np.ndarray]:
    """Where everybody was, and each ring's equilibrium speed."""
    env: Any = warp_envs.make("ring", num_envs=RINGS, seed=SEED, **options)
    driven = drive(env, acting, num_steps=env.max_episode_steps, seed=SEED)
    env.reset(seed=SEED)
    return driven, env.equilibrium_speed().numpy()


def figures(driven: Driven, equilibrium: np.ndarray) -> dict[str, float]:
    """Of the last `LATE` seconds."""
    late = driven.speed[driven.time >= SECONDS - LATE]
    share = late.mean(axis=(0, 2)) / equilibrium
    return {
        "share_of_equilibrium_mean": float(share.mean()),
        "share_of_equilibrium_least": float(share.min()),
        "speed_mean": float(late.mean()),
        "speed_deviation": float(late.std(axis=(0, 2)).mean()),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    runs = dict(text.split("=", 1) for text in sys.argv[2:])
    torch.set_num_threads(1)
    driven, told = {}, {}
    for name, (policy, options) in CONTROLLERS.items():
        driven[name], equilibrium = driven_by(named(policy, {}), options)
        told[name] = figures(driven[name], equilibrium)
        print(name, told[name], flush=True)
    for name, run in runs.items():
        config = load_config(Path(run))
        acting = trained(config, Path(run), "best", device="cpu", seed=0)
        options = {k: v for k, v in config.env_options.items() if k != "presets"}
        driven[name], equilibrium = driven_by(acting, options)
        told[name] = figures(driven[name], equilibrium)
        print(name, told[name], flush=True)
    (folder / "ring.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    shown = dict(list(driven.items())[: len(CONTROLLERS) + 1])
    figure = Figure(figsize=(6.5, 1.6 * len(shown)), layout="constrained")
    fastest = max(float(one.speed[:, 0].max()) for one in shown.values())
    axes = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    lines = None
    for axis, (name, one) in zip(axes, shown.items(), strict=True):
        lines = draw_space_time(axis, one, fastest=fastest)
        axis.set_title(name)
        axis.label_outer()
    assert lines is not None
    figure.colorbar(lines, ax=axes, label="speed [m/s]", aspect=40)
    save_figure(figure, folder / "space_time.png")


if __name__ == "__main__":
    main()
