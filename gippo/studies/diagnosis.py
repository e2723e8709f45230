"""The diagnosis of an environment's gradients, told and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from gippo.configuration.run_config import TrainConfig, load_config
from gippo.environment import make_env, use_threads
from gippo.learner import Learner
from gippo.runs.checkpoint import checkpoint_of, read
from gippo.runs.metrics import read_metrics
from gippo.runs.plots import cycle_colours, save_figure, tidy
from gippo.runs.policy import Policy
from gippo.studies.diagnostics import (
    BIAS_LIMIT,
    NOISE_LIMIT,
    GradientQuality,
    gradient_quality,
    noise_growth,
    verdict,
)

CRITERIA = {
    "det_binds": "determinant: the gradients' variance",
    "bias_binds": "bias: the surrogate falls along them",
    "out_of_range_binds": "out-of-range ratio: no room left for PPO",
}
TRUST = {
    "share_rp": "of RP is signal, by the halves of the windows",
    "share_lr": "of LR is signal, by the halves of the windows",
    "share_mixed": "of their mixture is signal, by the halves of the windows",
    "kappa_lr": "of the mixture is LR's, by the halves of the windows",
    "unseen": "of what LR sees beside RP is taken, once derivatives are known to be blind",
    "slope_left": "of a step's slope is left, by the next window",
    "undone": "of the epochs took the policy back, as windows had lost",
}
"""What gippo_adaptive tells of its gradients (`gippo.updates.trust`), means over epochs."""
_TOLD = {**CRITERIA, **TRUST}


Shares = dict[str, float]


class Settings(Protocol):
    """What to look at, as `gippo diagnose` has it."""

    run_dir: str | None
    horizons: list[int]
    num_windows: int
    warm_up: int
    epochs: int
    out: str


def diagnose(settings: Settings, config: TrainConfig | None, console: Console) -> None:
    """Print how good the gradients are and draw it.

    Args:
        settings: what to look at.
        config: of the new policy; None with a run, which has its own.
        console: where to print.

    Raises:
        UserError: no run or checkpoint in the folder.
    """
    if config is None:
        assert settings.run_dir is not None
        config, policy_state, shares, what = _of_run(Path(settings.run_dir))
    else:
        config.run_dir = None
        use_threads(config.num_threads)
        policy_state, shares = _of_training(config, settings.epochs)
        what = f"a new policy after {settings.epochs} epochs of {config.algo.name}"
    use_threads(config.num_threads)
    out = Path(settings.out)
    qualities = _qualities(config, policy_state, settings)
    console.print(f"{config.env['id']}, {what}, {settings.num_windows} windows")
    console.print(_table(qualities))
    _print_growth(qualities, console)
    _print_shares(shares, console)
    for line in verdict(qualities, config.learner.horizon):
        console.print(line)
    plot_diagnosis(qualities, shares, out, f"{config.env['id']}, {what}")
    console.print(str(out))


def _of_run(run_dir: Path) -> tuple[TrainConfig, dict, Shares, str]:
    """A run's configuration, its best policy, and the shares of its epochs."""
    config = load_config(run_dir)
    path = checkpoint_of(run_dir, "best")
    shares = _shares(read_metrics(run_dir))
    return config, read(path)["learner"], shares, f"the best policy of {run_dir}"


def _of_training(config: TrainConfig, epochs: int) -> tuple[dict, Shares]:
    """Train a new policy for a while; its state, and the shares of these epochs."""
    env = make_env(config.env, device=config.device, seed=config.seed)
    learner = Learner(
        env,
        config.learner_config,
        config.method_config,
        num_epochs=max(config.num_epochs, epochs),
        seed=config.seed,
    )
    rows = [learner.train_epoch() for _ in range(epochs)]
    told = [name for name in _TOLD if rows and name in rows[0]]
    columns = {name: np.array([row[name] for row in rows]) for name in told}
    return learner.state_dict(), _shares(columns)


def _shares(columns: Mapping[str, np.ndarray]) -> Shares:
    """The means of what the method told, over the epochs that knew it."""
    told = {name: columns[name] for name in _TOLD if name in columns}
    known = {name: value[np.isfinite(value)] for name, value in told.items()}
    return {name: float(value.mean()) for name, value in known.items() if len(value)}


def _qualities(config: TrainConfig, state: dict, settings: Settings) -> list[GradientQuality]:
    env = make_env(
        config.env, num_envs=settings.num_windows, device=config.device, seed=config.seed
    )
    policy = Policy(config.learner_config, state, device=env.device, seed=config.seed)
    policy.check_fits(env)
    obs, _ = env.reset(seed=config.seed)
    with torch.no_grad():
        for _ in range(settings.warm_up):
            obs = env.step(policy(obs, deterministic=False))[0]
    return gradient_quality(
        env,
        obs,
        policy.actor,
        policy.normalizer,
        horizons=settings.horizons,
        gamma=config.learner.gamma,
        batch=int(config.env["num_envs"]),
        seed=config.seed,
    )


def _table(qualities: Sequence[GradientQuality]) -> Table:
    table = Table(
        "steps", "gradient", "noise", "LR's", "bias", "seen", "against", "", box=None
    )  # fmt: skip
    for column in table.columns[:-2]:
        column.justify = "right"
    for q in qualities:
        marks = [name for name, bad in (("BIASED", q.biased), ("NOISY", q.noisy)) if bad]
        marks = marks or ["ok" if q.clear else "unclear"]
        table.add_row(
            str(q.steps),
            f"{q.size:.3g}",
            f"{q.noise:.3g}",
            f"{q.lr_noise:.3g}",
            f"{q.relative_bias:.1%}",
            f"{q.relative_visible_bias:.1%}",
            q.reference,
            " ".join(marks),
        )
    return table


def _print_growth(qualities: Sequence[GradientQuality], console: Console) -> None:
    batch = qualities[0].batch
    console.print(
        f"noise: standard error of the mean of {batch} windows, as a part of the gradient (LR: of "
        "the likelihood ratio); bias: likewise; seen: biases from there on could have been seen"
    )
    factor = noise_growth(qualities)
    if factor is not None:
        console.print(f"it grows by {factor - 1.0:+.1%} with each further step of longer windows")


def _print_shares(shares: Shares, console: Console) -> None:
    for name, share in shares.items():
        if name in CRITERIA:
            console.print(f"{share:4.0%} of epochs lowered alpha for the {CRITERIA[name]}")
        else:
            console.print(f"{share:4.0%} {TRUST[name]}")


def plot_diagnosis(
    qualities: Sequence[GradientQuality], shares: Shares, path: Path, title: str
) -> None:
    """Noise and bias against the window's length, and what the method told of its gradients."""
    panels = 3 if shares else 2
    figure = Figure(figsize=(4.6 * panels, 4.0), layout="constrained")
    axes = figure.subplots(1, panels)
    blue, red, green, *_ = cycle_colours(3)
    steps = [q.steps for q in qualities]
    axes[0].plot(steps, [q.noise for q in qualities], "o-", color=blue, label="analytical")
    axes[0].plot(steps, [q.lr_noise for q in qualities], "s-", color=red, label="likelihood ratio")
    axes[0].axhline(NOISE_LIMIT, ls="--", lw=1, color="0.4", label="limit")
    axes[0].set_yscale("log")
    axes[0].set_ylabel(f"error of {qualities[0].batch} windows / gradient")
    axes[0].set_title("noise")
    bias = np.array([q.relative_bias for q in qualities])
    visible = np.array([q.relative_visible_bias for q in qualities])
    axes[1].plot(steps, bias, "o-", color=blue, label="found")
    axes[1].fill_between(steps, 0.0, visible, color="0.8", lw=0, label="could be chance")
    axes[1].axhline(BIAS_LIMIT, ls="--", lw=1, color="0.4", label="limit")
    axes[1].set_yscale("symlog", linthresh=0.01)
    axes[1].set_ylim(0.0, 2.0 * max(1.0, *bias[np.isfinite(bias)], *visible[np.isfinite(visible)]))
    axes[1].set_ylabel("bias / gradient")
    axes[1].set_title("bias")
    for axis in axes[:2]:
        axis.set_xscale("log", base=2)
        axis.set_xticks(steps, [str(h) for h in steps])
        axis.set_xlabel("steps of the window")
        axis.legend(frameon=False)
    if shares:
        _draw_shares(axes[2], shares, green)
    for axis in axes:
        tidy(axis)
    figure.suptitle(title)
    save_figure(figure, path)


def _draw_shares(axis: Axes, shares: Shares, colour: str) -> None:
    criteria = any(name in CRITERIA for name in shares)
    names = [
        _TOLD[name].partition(":")[0] if criteria else name.replace("_", "\n") for name in shares
    ]
    axis.bar(names, [100.0 * share for share in shares.values()], color=colour)
    axis.set_ylim(min(0.0, 110.0 * min(shares.values())), 100.0)
    axis.axhline(0.0, lw=0.8, color="0.4")
    axis.set_ylabel("% of epochs that lowered alpha" if criteria else "% (mean over epochs)")
    axis.set_title("criteria of GI-PPO" if criteria else "trust of gippo_adaptive")
