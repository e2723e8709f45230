"""Where a run's numbers go besides metrics.jsonl: TensorBoard, Weights & Biases, MLflow, csv.

Each is written by its own library, which is imported when it is asked for. Tags are the names of
metrics.jsonl behind a group, as ``critic/critic_loss``: the pages group by it.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gippo.configuration.run_config import LOGGERS, TrainConfig, keys_of, to_omegaconf
from gippo.errors import TrainingFailedError, UserError
from gippo.files import write_whole
from gippo.runs.folder import CSV_FILE, IDS_FILE

Numbers = Mapping[str, float | int | None]
"""An epoch's metrics; None: not known yet, or not finite."""

_PROJECT = "gippo"
_MODULES = {"wandb": ("wandb", "wandb"), "mlflow": ("mlflow", "mlflow")}
"""Logger -> its module and our extra that has it."""
_GROUPS = {
    "return": ("episode_", "best_return", "evaluation_", "num_episodes", "num_diverged"),
    "time": ("wall_time", "env_steps"),
    "critic": ("critic_",),
    "alpha": (*("alpha", "det_", "bias", "out_of_range_", "pi_alpha_", "gradient_variance"),),
}
"""Group -> how the names in it begin; all others are the actor's."""


class Logger:
    """Takes the numbers of each epoch."""

    name: str
    own_files: bool = False
    """Whether what it writes lies in the run's folder alone: a full disk then ends the run."""

    def write(self, epoch: int, numbers: Numbers) -> None:
        """Take one epoch's numbers."""
        raise NotImplementedError

    def sync(self) -> None:
        """A checkpoint is about to be written."""

    def close(self) -> None:
        """The training has ended, or been stopped."""


MakeLogger = Callable[[int], Logger]
"""Begins, or goes on after so many epochs."""


def tag(name: str) -> str:
    """A metric's name behind its group."""
    if "/" in name:  # reward/NAME, and a method's own groups
        return name
    for group, starts in _GROUPS.items():
        if name.startswith(starts):
            return f"{group}/{name}"
    return f"actor/{name}"


def check_loggers(names: Sequence[str]) -> None:
    """Raise UserError if a logger's library is not installed."""
    for name in names:
        module, extra = _MODULES.get(name, ("json", ""))
        if find_spec(module) is None:
            raise UserError(
                f"logger: {name!r} is not installed here; pip install '.[{extra}]' in the checkout "
                "is"
            )


def loggers_of(config: TrainConfig, run_dir: Path) -> list[MakeLogger]:
    """What begins each logger that a run is to have."""
    kinds: dict[str, Callable[..., Logger]] = {
        "tensorboard": TensorBoardLogger,
        "csv": CsvLogger,
        "wandb": partial(WandbLogger, config=config),
        "mlflow": partial(MlflowLogger, config=config),
    }
    assert list(kinds) == list(LOGGERS)
    return [partial(kinds[name], run_dir) for name in LOGGERS if name in config.logger]


class TensorBoardLogger(Logger):
    """Event files in ``tensorboard/``."""

    name = "tensorboard"
    own_files = True

    def __init__(self, run_dir: Path, after_epoch: int = 0) -> None:
        """Go on after `after_epoch`: what lies beyond is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self._events = SummaryWriter(str(run_dir / "tensorboard"), purge_step=after_epoch + 1)

    def write(self, epoch: int, numbers: Numbers) -> None:
        """A scalar for each known number."""
        for name, value in _known(numbers):
            self._events.add_scalar(tag(name), value, epoch)

    def close(self) -> None:
        """Finish the file."""
        with suppress(OSError):  # a picture of what metrics.jsonl holds whole
            self._events.close()


class CsvLogger(Logger):
    """``metrics.csv``: the rows of metrics.jsonl, renewed with each checkpoint."""

    name = "csv"
    own_files = True

    def __init__(self, run_dir: Path, after_epoch: int = 0) -> None:
        """Begin with the rows that there are."""
        self._rows_file, self._path = run_dir / "metrics.jsonl", run_dir / CSV_FILE

    def write(self, epoch: int, numbers: Numbers) -> None:
        """Nothing: what a killed run would leave of it is in metrics.jsonl."""

    def sync(self) -> None:
        """Write all rows, a column for every name; what is not known is empty."""
        lines = self._rows_file.read_bytes().splitlines()
        rows = [json.loads(line) for line in lines]
        columns = dict.fromkeys(name for row in rows for name in row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self._path, text.getvalue().encode())

    def close(self) -> None:
        """Write all rows."""
        self.sync()


class WandbLogger(Logger):
    """Weights & Biases, as WANDB_MODE, WANDB_PROJECT and its other variables say."""

    name = "wandb"

    def __init__(self, run_dir: Path, after_epoch: int = 0, *, config: TrainConfig) -> None:
        """Begin a run, or go on with this one's."""
        wandb = importlib.import_module("wandb")
        known = _ids(run_dir).get(self.name)
        self._run = wandb.init(
            project=_project("WANDB_PROJECT"),
            name=run_dir.name,
            id=known,
            resume="allow",
            dir=str(run_dir),
            config=_plain(config),
        )
        _keep_id(run_dir, self.name, self._run.id)

    def write(self, epoch: int, numbers: Numbers) -> None:
        """All known numbers at the epoch as the step."""
        self._run.log({tag(name): value for name, value in _known(numbers)}, step=epoch)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


class MlflowLogger(Logger):
    """MLflow, at MLFLOW_TRACKING_URI, in the experiment MLFLOW_EXPERIMENT_NAME."""

    name = "mlflow"

    def __init__(self, run_dir: Path, after_epoch: int = 0, *, config: TrainConfig) -> None:
        """Begin a run with the configuration as its parameters, or go on with this one's."""
        mlflow = importlib.import_module("mlflow")
        known = _ids(run_dir).get(self.name)
        self._mlflow = mlflow
        if known is None:
            mlflow.set_experiment(_project("MLFLOW_EXPERIMENT_NAME"))
        run = mlflow.start_run(run_id=known, run_name=None if known else run_dir.name)
        if known is None:
            mlflow.log_params(_flat(config))
        _keep_id(run_dir, self.name, run.info.run_id)

    def write(self, epoch: int, numbers: Numbers) -> None:
        """All known numbers at the epoch as the step."""
        found = {tag(name): float(value) for name, value in _known(numbers)}
        self._mlflow.log_metrics(found, step=epoch)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


def begin(makers: Sequence[MakeLogger], after_epoch: int) -> list[Logger]:
    """Begin or go on with all loggers.

    Raises:
        TrainingFailedError: one cannot; those before it have been closed.
    """
    begun: list[Logger] = []
    for make in makers:
        try:
            begun.append(make(after_epoch))
        except Exception as error:
            for logger in begun:
                logger.close()
            if isinstance(error, OSError):
                raise
            text = " ".join(str(error).split())[:300]
            name = make.func.name if isinstance(make, partial) else repr(make)
            raise TrainingFailedError(
                f"logger: {name} cannot begin ({type(error).__name__}: {text}); resume=true with "
                "another list of loggers goes on"
            ) from error
    return begun


def _known(numbers: Numbers) -> list[tuple[str, float | int]]:
    return [
        (n, v) for n, v in numbers.items() if n != "epoch" and v is not None and math.isfinite(v)
    ]


def _project(variable: str) -> str:
    return os.environ.get(variable, _PROJECT)


def _plain(config: TrainConfig) -> dict[Any, Any]:
    plain = OmegaConf.to_container(to_omegaconf(config))
    assert isinstance(plain, dict)
    return plain


def _flat(config: TrainConfig) -> dict[str, Any]:
    """Dotted key -> value."""
    values = to_omegaconf(config)
    found = ((key, OmegaConf.select(values, key)) for key in keys_of(_plain(config)))
    return {key: value for key, value in found if not OmegaConf.is_dict(value)}


def _ids(run_dir: Path) -> dict[str, str]:
    try:
        return dict(json.loads((run_dir / IDS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _keep_id(run_dir: Path, name: str, value: str) -> None:
    text = json.dumps({**_ids(run_dir), name: str(value)}) + "\n"
    write_whole(run_dir / IDS_FILE, text.encode())
