"""The training loop around a learner: metrics, checkpoints, the best policy, an orderly end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from gippo.errors import UserError
from gippo.runs.checkpoint import Checkpoint, CheckpointFolder, difference, unsound
from gippo.runs.folder import CHECKPOINTS, METRICS_FILE
from gippo.runs.loggers import MakeLogger
from gippo.runs.metrics import MetricsLog, count_epochs


class Trainable(Protocol):
    """What the loop needs of a learner."""

    epoch: int
    env_steps: int

    def train_epoch(self) -> dict[str, float]:
        """Do one epoch and tell its metrics."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that a continuation needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        ...


class Trainer:
    """Trains a learner for a number of epochs and keeps the run in a folder.

    The best policy is the one after the epoch with the highest `episode_return`, or, if asked for,
    with the highest `evaluation_return` of those that were evaluated. It is written
    together with the numbered checkpoints, not in every epoch that improves, so at any moment the
    files describe one state of the run.
    """

    def __init__(
        self,
        learner: Trainable,
        run_dir: Path,
        *,
        num_epochs: int,
        checkpoint_every: int,
        keep_last: int,
        loggers: Sequence[MakeLogger] = (),
        settings: Mapping[str, str] | None = None,
        defaults: Mapping[str, str] | None = None,
        evaluate: Callable[[], dict[str, float]] | None = None,
        evaluate_every: int = 0,
        best_by: str = "training",
    ) -> None:
        """Prepare a run from its beginning; `resume` moves it on.

        Args:
            learner: what is trained.
            run_dir: where the run is kept.
            num_epochs: until when.
            checkpoint_every: epochs between checkpoints.
            keep_last: checkpoints kept, beside the best.
            loggers: what begins each logger beside metrics.jsonl.
            settings: dotted key -> value of all that the numbers depend on. Kept in each
                checkpoint: one made with others is not gone on from.
            defaults: of settings, for a checkpoint that was made before there was the key.
            evaluate: evaluates the learner's policy, without an effect on its training.
            evaluate_every: epochs between that, which the last epoch ends with, too; 0: never.
            best_by: what the best policy has most of, "training" or "evaluation".
        """
        self.learner = learner
        self.run_dir = run_dir
        self.num_epochs = num_epochs
        self.checkpoint_every = checkpoint_every
        self._loggers = loggers
        self._settings = json.dumps(dict(settings or {}))
        self._defaults = dict(defaults or {})
        self.new_settings: list[str] = []
        """Those that the checkpoint gone on from was made without, and that have their defaults."""
        self._evaluate = evaluate
        self._evaluate_every = evaluate_every
        self._best_by = best_by
        self.checkpoints = CheckpointFolder(run_dir / CHECKPOINTS, keep_last)
        self.best_return = -math.inf
        self._best: Checkpoint | None = None
        self._wall_time = 0.0

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.learner.epoch

    def resume(self) -> list[str]:
        """Go to the newest checkpoint that can be used; to the beginning if none was ever due.

        Nothing is written.

        Returns:
            A line for each newer checkpoint that could not be used.

        Raises:
            UserError: none of the checkpoints can be used, or they are gone.
        """
        if self.checkpoints.epochs():
            return self.checkpoints.use_newest(self._load)
        told = count_epochs(self.run_dir)
        if told > self.checkpoint_every:
            raise UserError(
                f"no checkpoint in {self.checkpoints.path}, but {METRICS_FILE} tells of {told} "
                "epochs; put one back, or start a new run in another run_dir"
            )
        return []

    def _load(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            UserError: it is of another kind of run.
        """
        checkpoint = dict(checkpoint)
        given = checkpoint.setdefault("settings", self._settings)  # older ones have none
        own = {"format": 0, **self._checkpoint()}
        methods = [state["learner"].get("method_name") for state in (checkpoint, own)]
        if methods[0] != methods[1]:
            raise UserError(f"it is of algo={methods[0]}, this run of algo={methods[1]}")
        problem = difference(checkpoint, own, "state")
        if problem is None and checkpoint["learner"]["epoch"] != checkpoint["epoch"]:
            problem = f"state.learner.epoch: {checkpoint['learner']['epoch']} given"
        if problem is not None:
            raise UserError(f"it does not fit this run ({problem})")
        try:
            problem = unsound(checkpoint, "state")
            if problem is not None:
                raise UserError(problem)
            self.new_settings = new_settings(given, self._settings, self._defaults)
        except UserError as error:
            raise UserError(f"it cannot be gone on from ({error})") from error
        try:
            self.learner.load_state_dict(checkpoint["learner"])
        except (ValueError, RuntimeError) as error:
            raise UserError(f"it does not fit this run ({error})") from error
        self.best_return = float(checkpoint["best_return"])
        self._wall_time = float(checkpoint["wall_time"])

    def train(
        self,
        stop: Callable[[], bool] = lambda: False,
        report: Callable[[int, dict[str, float]], None] = lambda epoch, row: None,
    ) -> bool:
        """Train until the last epoch, or the end of the one during which `stop()` becomes true.

        Args:
            stop: asked after every epoch.
            report: called with the number of epochs done and the epoch's metrics.

        Returns:
            Whether all epochs are done.

        Raises:
            UserError: the metrics of the epochs done before are damaged.
            TrainingFailedError: the disk is full or gone; the checkpoints are good.
        """
        log = MetricsLog(self.run_dir, after_epoch=self.epoch, loggers=self._loggers)
        started = time.monotonic() - self._wall_time
        try:
            while self.epoch < self.num_epochs and not stop():
                row = self._epoch(started)
                log.write(row)
                report(self.epoch, row)
                if self.epoch % self.checkpoint_every == 0:
                    self._save(log)
            if self.epoch not in self.checkpoints.epochs():
                self._save(log)
        finally:
            log.close()
        return self.epoch >= self.num_epochs

    def _epoch(self, started: float) -> dict[str, float]:
        metrics = self.learner.train_epoch()
        evaluated = self._evaluation()
        self._wall_time = time.monotonic() - started
        value = metrics.get("episode_return", math.nan)
        judged = value
        if self._best_by == "evaluation":
            judged = evaluated.get("evaluation_return", math.nan)
        if judged > self.best_return:
            self.best_return = judged
            self._best = self._checkpoint()
        return {
            "epoch": self.epoch,
            "env_steps": self.learner.env_steps,
            "wall_time": round(self._wall_time, 4),
            "episode_return": value,
            "episode_length": metrics.get("episode_length", math.nan),
            "best_return": self.best_return,
            **evaluated,
            **{k: v for k, v in metrics.items() if k not in ("episode_return", "episode_length")},
        }

    def _evaluation(self) -> dict[str, float]:
        """What evaluating the policy gave, if that is due after this epoch."""
        every = self._evaluate_every
        due = every > 0 and (self.epoch % every == 0 or self.epoch == self.num_epochs)
        return self._evaluate() if due and self._evaluate is not None else {}

    def _checkpoint(self) -> Checkpoint:
        return {
            "epoch": self.epoch,
            "env_steps": self.learner.env_steps,
            "wall_time": self._wall_time,
            "best_return": self.best_return,
            "settings": self._settings,
            "learner": self.learner.state_dict(),
        }

    def _save(self, log: MetricsLog) -> None:
        log.sync()  # what a checkpoint continues must outlive it, a power cut included
        if self._best is not None:
            self.checkpoints.save_best(self._best)
            self._best = None
        self.checkpoints.save(self._checkpoint())


def new_settings(before: str, now: str, defaults: Mapping[str, str]) -> list[str]:
    """The settings that a checkpoint was made without, which have their defaults since.

    Args:
        before: the checkpoint's settings, in JSON.
        now: the run's.
        defaults: of settings, what they are where nobody says anything.

    Raises:
        UserError: the first setting that is another than the checkpoint was made with.
    """
    if before == now:
        return []
    try:
        old = dict(json.loads(before))
    except (ValueError, TypeError, RecursionError):
        raise UserError("state.settings are damaged") from None
    new = dict(json.loads(now))
    for key in dict.fromkeys([*new, *old]):
        was, says = old.get(key, defaults.get(key)), new.get(key)
        if was != says:
            default = "" if key in old else ", its default"
            raise UserError(
                f"{key}: trained with {was}{default}, the run's configuration now says {says}"
            )
    return [key for key in new if key not in old]
