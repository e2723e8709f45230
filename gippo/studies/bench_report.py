"""All figures of one measurement, in tables and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol

from rich.console import Console
from rich.table import Table

from gippo.configuration.compose import choices, configure
from gippo.configuration.run_config import TrainConfig
from gippo.environment import use_threads
from gippo.studies.bench import (
    PEERS,
    PeerSpeed,
    StepSpeed,
    TrainingSpeed,
    as_json,
    machine,
    measure_peer,
    measure_steps,
    measure_training,
)
from gippo.studies.traffic_bench import measure_sumo, measure_traffic
from warp_envs import get_num_threads, set_num_threads


class Settings(Protocol):
    """What to measure, as `gippo bench` has it."""

    envs: list[str]
    peer: str | None
    num_envs: list[int]
    horizon: int
    algos: list[str]
    seconds: float
    device: str
    num_threads: int | None
    env_threads: list[int] | None
    compiled: bool | None


def measure(settings: Settings, traffic: bool, console: Console) -> dict[str, object]:
    """Measure and print; the figures by name.

    Args:
        settings: what to measure.
        traffic: measure the traffic simulator alone as well.
        console: where to print the tables.
    """
    use_threads(settings.num_threads)
    report: dict[str, object] = {"machine": machine(settings.device)}
    names = [name for name in settings.envs if name in choices("env")]
    if names:
        report.update(_measure_environments(settings, names, console))
    if traffic:
        report["traffic"] = _measure_traffic(settings.seconds, console)
    return report


def _measure_environments(
    settings: Settings, names: Sequence[str], console: Console
) -> dict[str, object]:
    all_threads = get_num_threads()
    steps: list[StepSpeed] = []
    training: list[TrainingSpeed] = []
    peers: list[PeerSpeed] = []
    for name in names:
        keys = [f"env={name}", f"device={settings.device}"]
        config = configure("train", TrainConfig, keys)
        if settings.compiled is not None and "compiled" in config.env:
            keys.append(f"env.compiled={settings.compiled}")
            config = configure("train", TrainConfig, keys)
        mine = [
            measure_steps(
                config.env,
                num_envs=count,
                horizon=settings.horizon,
                seconds=settings.seconds,
                device=settings.device,
                num_threads=threads,
            )
            for count in settings.num_envs
            for threads in settings.env_threads or [all_threads]
        ]
        steps += mine
        if settings.peer is not None and name in PEERS:
            peers += [measure_peer(settings.peer, speed) for speed in mine]
        for algo in settings.algos:
            set_num_threads(all_threads)
            trained = configure("train", TrainConfig, [*keys, f"algo={algo}"])
            training.append(measure_training(trained, seconds=settings.seconds))
    console.print(_steps_table(steps))
    if training:
        console.print(_training_table(training))
    if peers:
        console.print(_peers_table(peers))
    return {
        "steps": [as_json(speed) for speed in steps],
        "training": [as_json(speed) for speed in training],
        "peers": [as_json(speed) for speed in peers],
    }


def _measure_traffic(seconds: float, console: Console) -> list[dict[str, object]]:
    """Vehicle updates of one core, and SUMO's where libsumo is installed."""
    table = Table("traffic", "roads", "lanes", "vehicles", "ms a step", "M updates/s", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    figures: list[dict[str, object]] = []
    for measure in (measure_traffic, measure_sumo):
        for figure in measure(seconds):
            figures.append({**asdict(figure), "updates_per_second": figure.updates_per_second})
            sizes = [figure.num_roads, figure.num_lanes, figure.num_vehicles]
            table.add_row(
                figure.what,
                *[f"{size:,}" for size in sizes],
                f"{1e3 * figure.seconds_per_step:.3g}",
                f"{figure.updates_per_second / 1e6:.3g}",
            )
    console.print(table)
    return figures


def _peers_table(speeds: Sequence[PeerSpeed]) -> Table:
    table = Table(
        "environment", "copies", "rewarped's steps/s (64)", "with gradients", "ratio", "ratio",
        box=None,
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for speed in speeds:
        rates = [f"{rate:,.0f}" for rate in (speed.peer_forward, speed.peer_forward_backward)]
        ratios = [f"{r:,.0f}" for r in (speed.forward_ratio, speed.forward_backward_ratio)]
        table.add_row(speed.env, str(speed.num_envs), *rates, *ratios)
    return table


def _steps_table(speeds: Sequence[StepSpeed]) -> Table:
    table = Table(
        "environment",
        "copies",
        "threads",
        "steps/s",
        "steps/s with gradients",
        "launches",
        box=None,
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for speed in speeds:
        rates = [f"{rate:,.0f}" for rate in (speed.forward, speed.forward_backward)]
        launches = " + ".join(str(count) for count in speed.launches)
        sizes = [str(speed.num_envs), str(speed.num_threads)]
        table.add_row(speed.env, *sizes, *rates, launches)
    return table


def _training_table(speeds: Sequence[TrainingSpeed]) -> Table:
    stages = list(dict.fromkeys(stage for speed in speeds for stage in speed.shares))
    table = Table("environment", "method", "copies", "epochs/s", *stages, box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for speed in speeds:
        shares = [f"{speed.shares.get(stage, 0.0):.0%}" for stage in stages]
        table.add_row(
            speed.env, speed.algo, str(speed.num_envs), f"{speed.epochs_per_second:.2f}", *shares
        )
    return table
