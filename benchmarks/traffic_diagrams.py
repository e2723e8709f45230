"""Draw the pictures of docs/traffic.md: space-time diagrams of a ring, and its fundamental diagram.

python benchmarks/traffic_diagrams.py docs/images
"""

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from warp_envs.traffic.car_following import acceleration
from warp_envs.traffic.models import TREIBER_2000
from warp_envs.traffic.simulator import TrafficSim

mpl.use("Agg")

RING = 2000.0
DT = 0.1


def equilibrium_speed(gap: float) -> float:
    """Where the IDM neither accelerates nor brakes behind a leader of its own speed; bisection."""
    low, high = 0.0, TREIBER_2000["v0"]
    for _ in range(50):
        middle = torch.tensor(0.5 * (low + high), dtype=torch.float64)
        faster = bool(acceleration("idm", middle, gap, 0.0) > 0.0)
        low, high = (float(middle), high) if faster else (low, float(middle))
    return low


def is_stable(density: float) -> bool:
    """Whether long waves fade: v_e'(s) <= (a_l - a_v) / 2, with the IDM's own derivatives."""
    gap = 1.0 / density - TREIBER_2000["length"]
    speed = equilibrium_speed(gap)
    state = torch.tensor([gap, speed, speed], dtype=torch.float64, requires_grad=True)
    rate = acceleration("idm", state[1], state[0], state[1] - state[2])
    a_s, a_v, a_l = torch.autograd.grad(rate, state)[0].tolist()
    return -a_s / (a_l + a_v) <= 0.5 * (a_l - a_v)


def disturbed_ring(cars: int) -> TrafficSim:
    """Equilibrium, but for one car 2 m out of place."""
    traffic = TrafficSim(
        1,
        1,
        cars,
        ring_length=RING,
        dt=DT,
        driving="sumo",
        integrator="ballistic",
        dtype=torch.float64,
    )
    x = traffic.x
    x[0, 0] += 2.0
    speed = equilibrium_speed(RING / cars - TREIBER_2000["length"])
    traffic.set_state({"x": x, "speed": torch.full_like(x, speed)})
    return traffic


def queue_on_a_ring(cars: int) -> TrafficSim:
    """All at rest, 10 m apart: the rest of the ring is empty."""
    traffic = disturbed_ring(cars)
    x = torch.arange(cars, dtype=torch.float64)[None] * 10.0
    traffic.set_state({"x": x, "speed": torch.zeros_like(x)})
    return traffic


def draw_space_time(axes: Axes, traffic: TrafficSim, seconds: float) -> LineCollection:
    cars = traffic.num_vehicles
    every = 10
    states = [traffic.run(every) for _ in range(int(seconds / DT / every))]
    time = DT * every * (1.0 + np.arange(len(states)))
    x = torch.cat([state["x"] for state in states]).numpy()
    speed = torch.cat([state["speed"] for state in states]).numpy()
    segments, colours = [], []
    for car in range(cars):
        onward = np.diff(x[:, car]) >= 0.0  # not where it comes round the ring
        points = np.stack([time, x[:, car] / 1000.0], axis=1)
        segments.extend(np.stack([points[:-1], points[1:]], axis=1)[onward])
        colours.extend(3.6 * speed[1:, car][onward])
    lines = LineCollection(segments, cmap="RdYlGn", linewidths=0.7, rasterized=True)
    lines.set_array(np.array(colours))
    lines.set_clim(0.0, 100.0)
    axes.add_collection(lines)
    axes.set(xlim=(0.0, seconds), ylim=(0.0, RING / 1000.0), xlabel="time [s]")
    axes.set_title(f"{1000.0 * cars / RING:.0f} vehicles per km", fontsize=10)
    return lines


def space_time(path: Path) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(10.0, 4.0), sharey=True, layout="constrained")
    for axes, traffic in zip(panels, (queue_on_a_ring(40), disturbed_ring(80)), strict=True):
        lines = draw_space_time(axes, traffic, seconds=900.0)
    panels[0].set_ylabel("position on the ring [km]")
    figure.colorbar(lines, ax=panels, label="speed [km/h]")
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """As a PNG with a palette, a third of the size."""
    figure.savefig(path, dpi=100)
    Image.open(path).convert("RGB").quantize(200).save(path, optimize=True)


def fundamental_diagram(path: Path) -> None:
    figure, (flow, spread) = plt.subplots(1, 2, figsize=(10.0, 3.6), layout="constrained")
    density = np.linspace(2.0, 140.0, 139)
    speed = np.array([equilibrium_speed(1000.0 / k - TREIBER_2000["length"]) for k in density])
    unstable = density[[not is_stable(k / 1000.0) for k in density]]
    cars = np.array([10, 20, 30, 40, 50, 60, 70, 80, 100, 120, 140, 180, 220, 260])
    late = [disturbed_ring(int(n)).run(20_000)["speed"] for n in cars]
    measured = 1000.0 * cars / RING
    mean, low, high = (
        3.6 * np.array([float(pick(v)) for v in late])
        for pick in (torch.mean, torch.min, torch.max)
    )
    flow.plot(density, 3.6 * density * speed, "k-", linewidth=1, label="IDM equilibrium")
    flow.plot(measured, measured * mean, "o", color="tab:blue", label="simulated, after 2000 s")
    flow.set(ylabel="flow [vehicles/h]")
    spread.plot(density, 3.6 * speed, "k-", linewidth=1, label="IDM equilibrium")
    spread.vlines(measured, low, high, color="tab:blue", label="slowest to fastest car")
    spread.set(ylabel="speed [km/h]")
    for axes in (flow, spread):
        axes.axvspan(
            unstable[0], unstable[-1], color="tab:red", alpha=0.12, label="linearly unstable"
        )
        axes.set(xlabel="density [vehicles/km]", xlim=(0.0, 140.0))
        axes.legend(fontsize=8)
    save(figure, path)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    space_time(folder / "traffic_space_time.png")
    fundamental_diagram(folder / "traffic_fundamental_diagram.png")


if __name__ == "__main__":
    main()
