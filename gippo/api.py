"""Training from Python: what `gippo train` does, with its settings as arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from gippo.configuration.compose import configure, override_text
from gippo.configuration.run_config import TrainConfig
from gippo.runs.metrics import read_metrics
from gippo.runs.training import new_folder
from gippo.runs.training import train as train_run
from gippo.terminal.progress import make_console


@dataclass(frozen=True)
class Trained:
    """A training run that has ended."""

    run_dir: Path
    """Its files: configuration, metrics, checkpoints, curve, rollout."""
    best_return: float
    """The highest mean return of about the last 100 episodes; -inf before an episode has ended."""
    status: int
    """0 when all epochs are done, 128 plus a signal's number when one has ended them."""

    @property
    def metrics(self) -> dict[str, Any]:
        """Each metric's values by epoch, arrays (epochs,)."""
        return dict(read_metrics(self.run_dir))


def train(
    settings: Mapping[str, Any] | None = None, *, quiet: bool = False, **more: Any
) -> Trained:
    """Train a policy as ``gippo train`` does.

    ``train(env="ant", num_epochs=100)`` is ``gippo train env=ant num_epochs=100``; settings of
    sections go by their dotted names, ``train({"algo.alpha.alpha_0": 0.3}, env="ant")``. What is
    not given is chosen as there, the run's folder too.

    Args:
        settings: by name, dotted for those of sections.
        quiet: say nothing.
        more: the same, for names without a dot.

    Raises:
        UserError: an unknown setting, a value that is not accepted, a folder in use; nothing has
            been written.
        TrainingFailedError: too many updates were not finite; the last checkpoint is good.
    """
    given = {**(settings or {}), **more}
    overrides = [override_text(key, value) for key, value in given.items()]
    console = Console(quiet=True) if quiet else make_console()
    config = configure("train", TrainConfig, overrides, console.print)
    config.run_dir = config.run_dir or new_folder(config)
    outcome = train_run(config, overrides, console)
    return Trained(Path(config.run_dir), outcome.best_return, outcome.status)
