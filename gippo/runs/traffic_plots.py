"""Pictures of traffic: space-time diagrams, and fundamental diagrams from loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from gippo.errors import UserError
from gippo.runs.acting import MakeActing, begin_anew
from gippo.runs.plots import cycle_colours, save_figure, tidy
from warp_envs.traffic.car_following import equilibrium_speed

_MINUTE = 60.0


@dataclass(frozen=True)
class Driven:
    """Where the vehicles of several roads were."""

    x: np.ndarray
    """Along the road [m], (steps, roads, vehicles)."""
    speed: np.ndarray
    """[m/s], the same shape."""
    dt: float
    """Time between two steps [s]."""
    num_autonomous: int
    """How many vehicles, the first of each road, are autonomous."""
    ended: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    """Where an episode ended, so that the next step begins another, (steps, roads); empty: none."""

    @property
    def time(self) -> np.ndarray:
        """Of each step [s]."""
        return self.dt * np.arange(len(self.x))


@torch.no_grad()
def drive(
    env: Any, acting: MakeActing, *, num_steps: int, seed: int = 0, deterministic: bool = True
) -> Driven:
    """Let a policy act, and note where everybody is before every step.

    Args:
        env: an environment whose state has ``x`` and ``speed`` of every vehicle, or that tells by
            ``along_road()`` where they are and how fast, (num_envs, vehicles) each, NaN for nobody.
        acting: who acts there.
        num_steps: control steps.
        seed: of initial states.
        deterministic: act by the policy's mean instead of sampling.

    Raises:
        UserError: an environment without such a state, or a policy that does not fit.
    """
    if not {"x", "speed"} <= set(env.state_layout):
        raise UserError(f"env: {env.name!r} given, one with vehicles on a road accepted")
    obs, _ = env.reset(seed=seed)
    policy = acting(env)
    told = hasattr(env, "along_road")
    places, speeds, ends = [], [], []
    for _ in range(num_steps):
        place, speed = env.along_road() if told else _of_state(env)
        places.append(place.cpu().numpy())
        speeds.append(speed.cpu().numpy())
        obs, _, terminated, truncated, _ = env.step(policy(obs, deterministic))
        ends.append((terminated | truncated).cpu().numpy())
        begin_anew(policy, terminated | truncated)
    autonomous = getattr(env, "num_autonomous", 0)
    rows = [np.stack(found) for found in (places, speeds, ends)]
    return Driven(rows[0], rows[1], env.control_step, autonomous, rows[2])


def _of_state(env: Any) -> tuple[torch.Tensor, torch.Tensor]:
    state = env.get_state()
    return state["x"], state["speed"]


def draw_space_time(axis: Axes, driven: Driven, road: int = 0, fastest: float | None = None) -> Any:
    """Draw every vehicle's way over time, coloured by its speed; autonomous ones in black.

    A dashed line is an episode's end: what follows is another one.

    Args:
        axis: to draw on.
        driven: where the vehicles were.
        road: which one.
        fastest: speed at the end of the colours [m/s]; None: the greatest driven.

    Returns:
        What a colour bar is made of.
    """
    x, speed, time = driven.x[:, road], driven.speed[:, road], driven.time
    top = float(np.nanmax(speed)) if fastest is None else fastest
    norm = Normalize(0.0, max(top, 1e-3))
    lines = None
    ended = driven.ended[:-1, road] if driven.ended.size else np.zeros(len(time) - 1, dtype=bool)
    for end in time[1:][ended]:
        axis.axvline(end, color="black", lw=0.8, ls="--")
    for i in range(x.shape[1]):
        points = np.stack([time, x[:, i]], axis=-1)
        pieces = np.stack([points[:-1], points[1:]], axis=1)
        whole = ~_jumps(x[:, i], speed[:, i], driven.dt) & ~ended
        own = i < driven.num_autonomous
        style: dict[str, Any] = {"color": "black", "lw": 1.6} if own else {"lw": 0.8}
        drawn = LineCollection(list(pieces[whole]), cmap="turbo_r", norm=norm, **style)
        if not own:
            drawn.set_array(speed[:-1, i][whole])
            lines = drawn
        axis.add_collection(drawn)
    axis.set_xlim(0.0, float(time[-1]))
    axis.set_ylim(float(np.nanmin(x)), float(np.nanmax(x)))
    axis.set_xlabel("time [s]")
    axis.set_ylabel("position [m]")
    return lines


def plot_space_time(driven: Driven, path: Path, title: str) -> None:
    """Draw the space-time diagram of the first road."""
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    axis = figure.subplots()
    lines = draw_space_time(axis, driven)
    axis.set_title(title)
    if lines is not None:
        figure.colorbar(lines, ax=axis, label="speed [m/s]")
    save_figure(figure, path)


def loop_counts(driven: Driven, at: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """What a loop across each road counts in every whole minute.

    Args:
        driven: where the vehicles were.
        at: where the loop lies [m].

    Returns:
        Flow [vehicles/h] and density [vehicles/km], (roads, minutes): the density is the flow by
        the harmonic mean of the speeds that pass, NaN where nobody does or one slower than 0.1 m/s.
    """
    before, after = driven.x[:-1], driven.x[1:]
    around = after < before - 10.0
    passes = np.where(around, (before < at) | (at <= after), (before < at) & (at <= after))
    minute = (driven.time[1:] / _MINUTE).astype(int)
    minutes = int(driven.time[-1] / _MINUTE)
    flow = np.zeros((driven.x.shape[1], minutes))
    density = np.full_like(flow, np.nan)
    for m in range(minutes):
        here = passes & (minute == m)[:, None, None]
        count = here.sum(axis=(0, 2))
        pace = 1.0 / np.maximum(driven.speed[1:], 1e-6)
        slowness = np.where(here, pace, 0.0).sum(axis=(0, 2))
        slowest = np.where(here, pace, 0.0).max(axis=(0, 2))
        flow[:, m] = 3600.0 / _MINUTE * count
        known = (count > 0) & (slowest < 10.0)
        density[known, m] = (1000.0 / _MINUTE * slowness)[known]
    return flow, density


def plot_fundamental(
    driven: Driven, path: Path, title: str, *, at: float, human: dict[str, float] | None
) -> None:
    """Draw flow against density as a loop counts them, a dot a minute and road.

    Args:
        driven: where the vehicles were.
        path: of the picture.
        title: what it shows.
        at: where the loop lies [m].
        human: the IDM of human drivers, whose equilibrium is drawn; None for none.
    """
    flow, density = loop_counts(driven, at)
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axis = figure.subplots()
    colours = cycle_colours(2)
    axis.plot(density.ravel(), flow.ravel(), "o", ms=3, alpha=0.6, color=colours[0], label="loops")
    if human is not None:
        numbers = {name: human[name] for name in ("v0", "T", "a", "b", "s0", "delta")}
        jam = 1000.0 / (human["length"] + human["s0"])
        k = np.linspace(2.0, jam, 200)
        gap = torch.tensor(1000.0 / k - human["length"])
        speed = equilibrium_speed("idm", gap, **numbers).numpy()
        axis.plot(k, 3.6 * k * speed, color=colours[1], label="IDM, equilibrium")
    axis.set_xlabel("density [vehicles/km]")
    axis.set_ylabel("flow [vehicles/h]")
    axis.set_title(title)
    axis.legend(frameon=False)
    tidy(axis)
    axis.set_xlim(left=0.0)
    axis.set_ylim(bottom=0.0)
    save_figure(figure, path)


def _jumps(x: np.ndarray, speed: np.ndarray, dt: float) -> np.ndarray:
    """Where a way is broken, (steps - 1,): at a ring's seam or by nobody."""
    reach = 2.0 * dt * (np.abs(speed[:-1]) + np.abs(speed[1:])) + 1.0
    return ~(np.abs(np.diff(x)) <= reach)
