"""`gippo diagnose`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from gippo.configuration.compose import choices, configure
from gippo.configuration.run_config import TrainConfig, load_config
from gippo.environment import make_env, use_threads
from gippo.errors import UserError
from gippo.learner import Learner
from gippo.runs.checkpoint import CHECKPOINTS, CheckpointFolder, read
from gippo.runs.metrics import read_metrics
from gippo.runs.plots import cycle_colours, save_figure, tidy
from gippo.runs.policy import Policy
from gippo.studies.diagnostics import (
    BIAS_LIMIT,
    NOISE_LIMIT,
    REPEATS,
    GradientQuality,
    gradient_quality,
    noise_growth,
    verdict,
)
from gippo.terminal.help_text import describe_keys, listed
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError, check_integer

HELP = """\
gippo diagnose: tell for how long a window an environment's gradients can be trusted.

The analytical gradient of the return of the first 1, 2, 4, ... steps is compared with two estimates
that have no bias and need no derivative, finite differences and the likelihood ratio, from the same
states and noise: its bias and its variance show where it stops being of use. Beside that, the
shares of GI-PPO's epochs in which each of its three criteria lowered alpha.

Usage: gippo diagnose env=NAME [key=value ...]
       gippo diagnose run_dir=FOLDER [key=value ...]     with a trained run's policy

{env}

Keys:
{keys}

  Any key of gippo train is taken as well: env.KEY, algo.KEY, learner.KEY, seed, device. From
  Python, gippo.studies.diagnostics.gradient_quality takes an environment of your own.

Files: the figure `out`.

Examples:
  gippo diagnose env=cartpole
  gippo diagnose env=pace_car10 horizons=[1,8,32] num_windows=1024
  gippo diagnose run_dir=runs/first"""

CRITERIA = {
    "det_binds": "determinant: the gradients' variance",
    "bias_binds": "bias: the surrogate falls along them",
    "out_of_range_binds": "out-of-range ratio: no room left for PPO",
}


@dataclass
class DiagnoseConfig:
    """What to look at."""

    run_dir: str | None = None
    """A trained run, whose best policy acts; null: a new policy."""
    horizons: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16, 32, 64])
    """Window lengths, rising."""
    num_windows: int = 512
    """A multiple of eight: each state is met with eight draws of noise. More of them make smaller
    biases visible."""
    warm_up: int = 0
    """Steps that the policy acts before the windows begin."""
    epochs: int = 20
    """A new policy is first trained by GI-PPO for so long, which also tells which criteria bind."""
    out: str = "diagnosis.png"
    """The figure, .png, .svg or .pdf."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("num_windows", self.num_windows, 2 * REPEATS)
        if self.num_windows % REPEATS:
            raise ArgumentError("num_windows", str(self.num_windows), "a multiple of 8")
        check_integer("warm_up", self.warm_up, 0)
        check_integer("epochs", self.epochs, 0)
        rising = all(a < b for a, b in zip(self.horizons, self.horizons[1:], strict=False))
        if not self.horizons or self.horizons[0] < 1 or not rising:
            raise ArgumentError("horizons", str(self.horizons), "rising numbers from 1 on")
        if Path(self.out).suffix not in (".png", ".svg", ".pdf"):
            raise ArgumentError("out", repr(self.out), "a .png, .svg or .pdf file")


def help_text() -> str:
    """What `gippo diagnose --help` prints."""
    return HELP.format(env=listed("env", choices("env")), keys=describe_keys(DiagnoseConfig))


def run(arguments: Sequence[str]) -> int:
    """Diagnose as the arguments say."""
    names = {entry.name for entry in dataclasses.fields(DiagnoseConfig)}
    own = [argument for argument in arguments if argument.partition("=")[0] in names]
    others = [argument for argument in arguments if argument not in own]
    settings = configure("diagnose", DiagnoseConfig, own)
    out = Path(settings.out)
    if not out.absolute().parent.is_dir():
        raise UserError(f"out: the folder of {settings.out!r} does not exist")
    console = make_console()
    if settings.run_dir is not None:
        if others:
            raise UserError(f"{others[0]!r}: the run in run_dir says this")
        config, policy_state, shares, what = _of_run(Path(settings.run_dir))
    else:
        config = configure("train", TrainConfig, [*_gippo_if_open(others), *others])
        config.run_dir = None
        use_threads(config.num_threads)
        policy_state, shares = _of_training(config, settings.epochs)
        what = f"a new policy after {settings.epochs} epochs of {config.algo.name}"
    use_threads(config.num_threads)
    qualities = _qualities(config, policy_state, settings)
    console.print(f"{config.env['id']}, {what}, {settings.num_windows} windows")
    console.print(_table(qualities))
    _print_growth(qualities, console)
    _print_shares(shares, console)
    for line in verdict(qualities, config.learner.horizon):
        console.print(line)
    plot_diagnosis(qualities, shares, out, f"{config.env['id']}, {what}")
    console.print(str(out))
    return 0


def _gippo_if_open(overrides: Sequence[str]) -> list[str]:
    """GI-PPO is the method unless another is asked for."""
    return [] if any(override.startswith("algo=") for override in overrides) else ["algo=gippo"]


Shares = dict[str, float]


def _of_run(run_dir: Path) -> tuple[TrainConfig, dict, Shares, str]:
    """A run's configuration, its best policy, and the shares of its epochs."""
    config = load_config(run_dir)
    path = CheckpointFolder(run_dir / CHECKPOINTS, keep_last=1).best_or_newest()
    columns = read_metrics(run_dir)
    shares = {name: float(np.nanmean(columns[name])) for name in CRITERIA if name in columns}
    return config, read(path)["learner"], shares, f"the best policy of {run_dir}"


def _of_training(config: TrainConfig, epochs: int) -> tuple[dict, Shares]:
    """Train a new policy for a while; its state, and the shares of these epochs."""
    env = make_env(config.env, device=config.device, seed=config.seed)
    learner = Learner(
        env,
        config.learner,
        config.method_config,
        num_epochs=max(config.num_epochs, epochs),
        seed=config.seed,
    )
    rows = [learner.train_epoch() for _ in range(epochs)]
    shares = {
        name: float(np.mean([row[name] for row in rows]))
        for name in CRITERIA
        if rows and name in rows[0]
    }
    return learner.state_dict(), shares


def _qualities(config: TrainConfig, state: dict, settings: DiagnoseConfig) -> list[GradientQuality]:
    env = make_env(
        config.env, num_envs=settings.num_windows, device=config.device, seed=config.seed
    )
    policy = Policy(config.learner, state, device=env.device, seed=config.seed)
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
        console.print(f"{share:4.0%} of epochs lowered alpha for the {CRITERIA[name]}")


def plot_diagnosis(
    qualities: Sequence[GradientQuality], shares: Shares, path: Path, title: str
) -> None:
    """Noise and bias against the window's length, and the criteria's shares."""
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
    names = [CRITERIA[name].partition(":")[0] for name in shares]
    axis.bar(names, [100.0 * share for share in shares.values()], color=colour)
    axis.set_ylim(0.0, 100.0)
    axis.set_ylabel("% of epochs that lowered alpha")
    axis.set_title("criteria of GI-PPO")
