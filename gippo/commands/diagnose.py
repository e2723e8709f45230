"""`gippo diagnose`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gippo.configuration.compose import choices, configure, refuse_unused
from gippo.configuration.run_config import TrainConfig
from gippo.errors import UserError
from gippo.files import check_place
from gippo.terminal.help_text import describe_keys, listed
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError, check_integer

REPEATS = 8
"""Draws of noise that each state is met with."""

HELP = """\
gippo diagnose: tell for how long a window an environment's gradients can be trusted.

The analytical gradient of the return of the first 1, 2, 4, ... steps is compared with two estimates
that have no bias and need no derivative, finite differences and the likelihood ratio, from the same
states and noise: its bias and its variance show where it stops being of use. Beside that, the
shares of GI-PPO's epochs in which each of its three criteria lowered alpha, or the shares of signal
by which gippo_adaptive steps.

Usage: gippo diagnose env=NAME [key=value ...]
       gippo diagnose run_dir=FOLDER [key=value ...]     with a trained run's policy

{env}

Keys:
{keys}

  These of gippo train are taken as well: env.KEY, algo.KEY, learner.KEY, seed, device,
  num_threads, and num_epochs, over which a new policy's rates would fall. From Python,
  gippo.studies.diagnostics.gradient_quality takes an environment of your own.

Files: the figure `out`.

Examples:
  gippo diagnose env=cartpole
  gippo diagnose env=pace_car10 horizons=[1,8,32] num_windows=1024
  gippo diagnose run_dir=runs/first"""

_TAKEN = ("env", "algo", "learner", "seed", "device", "num_threads", "num_epochs")
"""Of a training's keys."""


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
    check_place("out", out)
    if settings.run_dir is not None and others:
        raise UserError(f"{others[0]!r}: the run in run_dir says this")
    config = None
    if settings.run_dir is None:
        refuse_unused("diagnose", others, _TAKEN)
        config = configure("train", TrainConfig, [*_gippo_if_open(others), *others])
        given = any(override.startswith("num_epochs=") for override in others)
        if given and config.num_epochs < settings.epochs:
            accepted = f"at least the {settings.epochs} of epochs, which are trained,"
            raise UserError(f"num_epochs: {config.num_epochs} given, {accepted} accepted")
    from gippo.studies.diagnosis import diagnose  # torch and Warp, now that all is checked

    diagnose(settings, config, make_console())
    return 0


def _gippo_if_open(overrides: Sequence[str]) -> list[str]:
    """GI-PPO is the method unless another is asked for."""
    return [] if any(override.startswith("algo=") for override in overrides) else ["algo=gippo"]
