"""Training from Python: what `gippo train` does, with its settings as arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gippo.configuration.compose import override_text
from gippo.configuration.derived import configure_training
from gippo.errors import UserError
from gippo.runs.metrics import read_metrics
from gippo.runs.training import new_folder
from gippo.runs.training import train as train_run
from gippo.terminal.progress import make_console
from warp_envs.registry import is_reference


@dataclass(frozen=True)
class Trained:
    """A training run that has ended."""

    run_dir: Path
    """Its files: configuration, metrics, checkpoints, curve, rollout."""
    best_return: float
    """The highest mean return of about the last 100 episodes; NaN before an episode has ended."""
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
        settings: by name, dotted for those of sections. `env` and `algo` may be classes, of a
            module that can be imported.
        quiet: say nothing.
        more: the same, for names without a dot.

    Raises:
        UserError: an unknown setting, a value that is not accepted, a folder in use; nothing has
            been written.
        TrainingFailedError: too many updates were not finite; the last checkpoint is good.
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise UserError(
            f"settings: {settings!r} given, a mapping of names to values accepted; an environment "
            "is named as env='cartpole'"
        )
    given = dict(settings or {})
    for key, value in more.items():
        if key in given:
            raise UserError(f"{key}: {given[key]!r} and {value!r} given, one of them accepted")
        given[key] = value
    overrides = [override_text(str(key), _named(key, value)) for key, value in given.items()]
    notes: list[str] = []
    console = make_console()
    console.quiet = quiet
    config = configure_training(overrides, notes.append)
    config.run_dir = config.run_dir or new_folder(config)
    outcome = train_run(config, overrides, console, notes)
    best = outcome.best_return
    return Trained(Path(config.run_dir), best if best > -math.inf else math.nan, outcome.status)


def _named(key: Any, value: Any) -> Any:
    """The value of a setting; of a class, the reference by which any process finds it.

    Raises:
        UserError: no other process would find it.
    """
    if key not in ("env", "algo") or not isinstance(value, type):
        return value
    reference = f"{value.__module__}:{value.__qualname__}"
    if value.__module__ == "__main__" or not is_reference(reference):
        register = "warp_envs.register" if key == "env" else "gippo.register_method"
        raise UserError(
            f"{key}: {reference} given, a class at the top of a module that is imported accepted; "
            f"{register}('name', {value.__name__}) lets this process know it as {key}='name'"
        )
    return reference
