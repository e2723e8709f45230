"""Training a run, from its beginning or further, as the command line and Python ask for it."""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.logging import RichHandler

from gippo.configuration.compose import written
from gippo.configuration.run_config import (
    CONFIG_FILE,
    TrainConfig,
    keys_of,
    load_config,
    own_inputs,
    save_config,
    stored,
    to_omegaconf,
)
from gippo.distributed import Ranks, joined_ranks, local_processes
from gippo.environment import make_env, use_threads
from gippo.errors import TrainingFailedError, UserError, is_out_of_memory
from gippo.files import reason, sole_use
from gippo.learner import Learner
from gippo.runs.acting import trained
from gippo.runs.checkpoint import CheckpointFolder, read
from gippo.runs.evaluation import Evaluator
from gippo.runs.folder import CHANGES_FILE, CHECKPOINTS, METRICS_FILE, in_the_way
from gippo.runs.inputs import check_inputs, keep_inputs
from gippo.runs.loggers import check_loggers, loggers_of
from gippo.runs.memory import check_memory
from gippo.runs.metrics import read_metrics
from gippo.runs.origin import (
    describe_origin,
    note_change,
    note_more_epochs,
    origin_of,
    start_from,
    told,
)
from gippo.runs.plots import Columns, Limits, plot_run
from gippo.runs.recording import has_motion, note_of, play_policy, warning_of
from gippo.runs.trainer import Trainer, new_settings
from gippo.terminal.interrupt import StopRequest
from gippo.terminal.progress import TrainingProgress, duration, make_console, number, this_command
from gippo.updates.failures import NonFiniteError
from warp_envs.checks import ArgumentError
from warp_envs.registry import env_options
from warp_envs.viewing.preview import render_contact_sheet

CURVE = "curve.png"
PICTURES_DUE = ".pictures_due"
"""Lies in a run's folder while they are made."""
ROLLOUT = {"rollout": ".usdc", "picture": ".png"}
# What may differ when a run is resumed: where and how it runs, not what it computes.
RESUMABLE = (
    "device",
    "num_threads",
    "evaluate_every",
    "evaluate_episodes",
    "checkpoint_every",
    "keep_last",
    "logger",
    "rollout",
    "run_dir",
    "resume",
)


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    status: int
    """0, or 128 plus the number of the signal that ended it."""
    best_return: float
    run_dir: Path


def train(
    config: TrainConfig,
    overrides: Sequence[str] = (),
    console: Console | None = None,
    notes: Sequence[str] = (),
) -> Outcome:
    """Train a run from its beginning, or further, and say where its files lie.

    Args:
        config: the run.
        overrides: the command line's, to be held against a resumed run's own configuration.
        console: where to say it; by default the terminal.
        notes: lines to say once nothing is left to be refused.

    Raises:
        UserError: something cannot be as asked; nothing has been written.
        TrainingFailedError: too many updates were not finite; the last checkpoint is good.
    """
    run_dir = Path(config.run_dir or new_folder(config))
    if config.resume:
        config = resumed(config, run_dir, overrides)
        best = score_if_finished(config, run_dir)
        again = any(override.startswith("rollout.") for override in overrides)
        if best is not None and not again and _as_trained(config, run_dir):
            (console or make_console()).print(
                f"{run_dir} is finished: {config.num_epochs} epochs, best return {number(best)}"
            )
            return Outcome(0, best, run_dir)
    with joined_ranks(config.device) as (ranks, device):
        if ranks.rank > 0:
            return _follow(config, run_dir, ranks, device)
        return _lead(config, run_dir, console or make_console(), notes, ranks, device)


def _lead(
    config: TrainConfig,
    run_dir: Path,
    console: Console,
    notes: Sequence[str],
    ranks: Ranks,
    device: str,
) -> Outcome:
    """Train as the only process, or as the one that keeps the files and shows progress."""
    problem = None if config.resume else in_the_way(run_dir)
    ranks.told(problem is None)
    if problem is not None:
        raise UserError(problem)
    # Kept with the run: on a machine of other cores it would else go on with other rounding.
    config.num_threads = use_threads(config.num_threads, local_processes())
    with StopRequest(console) as stop:
        check_loggers(config.logger)
        check_memory(config, device)
        learner = _make_learner(config, ranks, device)
        evaluate = _evaluation(config, learner, device)
        origin = origin_of(config, run_dir)
        said = [] if origin is None or config.resume else start_from(learner, origin)
        _make_folder(run_dir)
        with sole_use(run_dir):
            if not config.resume:
                said += _keep_inputs(config, run_dir, origin)
            trainer = Trainer(
                learner,
                run_dir,
                num_epochs=config.num_epochs,
                checkpoint_every=config.checkpoint_every,
                keep_last=config.keep_last,
                loggers=loggers_of(config, run_dir),
                settings=_settings(config, run_dir),
                defaults=_defaults(config),
                evaluate=evaluate,
                evaluate_every=config.evaluate_every,
                best_by=config.best_by,
            )
            if config.resume:
                for line in trainer.resume():
                    console.print(f"{line}; the one before it is used")
                if trainer.new_settings:
                    console.print(
                        f"begun before there was {', '.join(trainer.new_settings)}: goes on with "
                        "the default",
                        soft_wrap=True,
                    )
                if origin is not None and trainer.epoch == 0:
                    start_from(learner, origin)
                note_more_epochs(config, run_dir, trainer.epoch)
            if config.resume or origin is not None:
                ranks.told(learner.state_dict() if ranks.size > 1 else None)
            save_config(config, run_dir / CONFIG_FILE)
            for line in (*notes, title(config), *said, *getattr(learner.env, "notes", ())):
                console.print(line, soft_wrap=True)
            try:
                _train_visibly(trainer, config, stop, console, ranks)
            except NonFiniteError as error:
                raise TrainingFailedError(f"{error}; {_what_is_kept(trainer)}") from error
            except ArgumentError as error:  # nothing that was asked: a run is under way
                raise TrainingFailedError(str(error)) from error
            _finish(trainer, config, console)
    status = 0
    if trainer.epoch < config.num_epochs:  # or another process was asked to end
        status = stop.exit_status or 128 + signal.SIGTERM
    return Outcome(status, trainer.best_return, run_dir)


def _what_is_kept(trainer: Trainer) -> str:
    """What a run that was given up can be gone on from."""
    epochs = list(trainer.checkpoints.epochs())
    if not epochs:
        return f"there is no checkpoint yet, one is due every {trainer.checkpoint_every} epochs"
    return f"the checkpoint of epoch {epochs[0]} in {trainer.checkpoints.path} is good"


def _follow(config: TrainConfig, run_dir: Path, ranks: Ranks, device: str) -> Outcome:
    """Train with process 0, which keeps all files."""
    if not ranks.told(None):
        return Outcome(2, math.nan, run_dir)
    with StopRequest(None) as stop:
        use_threads(config.num_threads, local_processes())
        learner = _make_learner(config, ranks, device)
        if config.resume or config.from_run is not None:
            learner.load_state_dict(ranks.told(None))
        while learner.epoch < config.num_epochs and not ranks.any(stop.made):
            learner.train_epoch()
    return Outcome(0, math.nan, run_dir)


def score_if_finished(config: TrainConfig, run_dir: Path) -> float | None:
    """The best return of a run with nothing left to do, its pictures included; else None."""
    newest = next(iter(CheckpointFolder(run_dir / CHECKPOINTS, keep_last=1).epochs().items()), None)
    curve = run_dir / CURVE
    if newest is None or newest[0] < config.num_epochs or not curve.exists():
        return None
    if (run_dir / PICTURES_DUE).exists() or curve.stat().st_mtime < newest[1].stat().st_mtime:
        return None
    try:
        return float(read(newest[1])["best_return"])
    except (UserError, KeyError, TypeError, ValueError):  # damaged: the run goes on before it
        return None


def _as_trained(config: TrainConfig, run_dir: Path) -> bool:
    """Whether the newest checkpoint is of the run's settings as they are now."""
    newest = next(iter(CheckpointFolder(run_dir / CHECKPOINTS, keep_last=1).epochs().values()))
    settings = json.dumps(_settings(config, run_dir))
    try:
        new_settings(str(read(newest).get("settings")), settings, _defaults(config))
    except UserError:
        return False
    return True


def new_folder(config: TrainConfig) -> str:
    """A name in runs/ for a run without one."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    env, algo = (name.rpartition(":")[2] for name in (config.env["id"], config.algo.name))
    return f"runs/{stamp}_{env}_{algo}_seed{config.seed}"


def resumed(given: TrainConfig, run_dir: Path, overrides: Sequence[str]) -> TrainConfig:
    """The run's own configuration, with what may be given anew.

    Raises:
        UserError: an override would change what the run computes.
    """
    config = load_config(run_dir, to_train=True)
    check_inputs(config, run_dir, given)
    for name in own_inputs(config, run_dir):  # compared by content, not by name
        if name in given.env:
            given.env[name] = config.env[name]
    for override in overrides:
        key, _, value = override.partition("=")
        section = key.partition(".")[0]
        if key == "num_epochs" and given.num_epochs > config.num_epochs:
            config.num_epochs = given.num_epochs
            continue
        if section in RESUMABLE:
            setattr(config, section, getattr(given, section))
        elif key == "num_epochs" and given.num_epochs < config.num_epochs:
            accepted = f"at least the {config.num_epochs} of the run in {str(run_dir)!r}"
            raise ArgumentError(key, value, accepted)
        elif section != "hydra" and not _says_the_same(key, config, given):
            raise UserError(
                f"{key}: {value} given, but the run in {str(run_dir)!r} was begun otherwise and "
                "goes on as it was; leave it out, or start a new run"
            )
    config.resume = True
    return config


def _keep_inputs(config: TrainConfig, run_dir: Path, origin: Path | None) -> list[str]:
    """Keep what the run is made of; a line on what it starts from, if it does."""
    change = None if origin is None else describe_origin(config, origin)
    try:
        keep_inputs(config, run_dir, origin)
    except OSError as error:
        raise TrainingFailedError(
            f"{run_dir}: the files that the run is made of cannot be copied ({reason(error)})"
        ) from error
    (run_dir / CHANGES_FILE).unlink(missing_ok=True)  # of a start that came to nothing
    if change is None:
        return []
    note_change(run_dir, change)
    return [told(change)]


def _settings(config: TrainConfig, run_dir: Path) -> dict[str, str]:
    """Dotted key -> value of all that a run's numbers up to any epoch depend on."""
    return _dotted(stored(config, run_dir))


def _defaults(config: TrainConfig) -> dict[str, str]:
    """The same of a run of this method about which nothing is said; nothing of its environment."""
    values = OmegaConf.structured(TrainConfig)
    values.algo = OmegaConf.structured(type(config.algo))
    return _dotted(values)


def _dotted(values: DictConfig) -> dict[str, str]:
    plain = OmegaConf.to_container(values)
    assert isinstance(plain, dict)
    free = (*RESUMABLE, "num_epochs", "from_run", "best_by")
    kept = {name: value for name, value in plain.items() if name not in free}
    found = ((key, OmegaConf.select(values, key)) for key in keys_of(kept) if key != "env")
    return {key: str(value) for key, value in found if not OmegaConf.is_dict(value)}


def _says_the_same(key: str, config: TrainConfig, given: TrainConfig) -> bool:
    own, other = to_omegaconf(config), to_omegaconf(given)
    if key == "experiment":
        return own.algo == other.algo and own.learner == other.learner and own.env == other.env
    if key == "algo":
        return own.algo.name == other.algo.name
    return OmegaConf.select(own, key) == OmegaConf.select(other, key)


def _make_learner(config: TrainConfig, ranks: Ranks, device: str) -> Learner:
    num_envs = int(config.env["num_envs"])
    if num_envs % ranks.size != 0:
        raise UserError(
            f"env.num_envs: {num_envs} given, a multiple of the {ranks.size} processes accepted"
        )
    ppo = getattr(config.algo, "ppo", config.algo)
    if getattr(ppo, "minibatch_size", ranks.size) < ranks.size:
        raise UserError(
            f"minibatch_size: {ppo.minibatch_size} given, at least a sample for each of the "
            f"{ranks.size} processes accepted"
        )
    try:
        own = num_envs // ranks.size
        env = make_env(config.env, num_envs=own, device=device, seed=config.seed)
        return Learner(
            env,
            config.learner_config,
            config.method_config,
            num_epochs=config.num_epochs,
            seed=config.seed,
            ranks=ranks,
        )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"env.num_envs: {config.env['num_envs']} given, or a network or window of this size: "
            "it needs more memory than there is"
        ) from error


def _evaluation(
    config: TrainConfig, learner: Learner, device: str
) -> Callable[[], dict[str, float]] | None:
    """What evaluates the learner's policy, in environments of its own, if that is asked for."""
    if config.evaluate_every == 0:
        return None
    evaluator = Evaluator(config, device)
    return lambda: evaluator(learner.act)


def _make_folder(run_dir: Path) -> None:
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if not os.access(run_dir, os.W_OK):
            raise PermissionError("not writable")
    except (OSError, ValueError) as error:
        raise UserError(f"run_dir: {str(run_dir)!r}: {reason(error)}") from error


def _train_visibly(
    trainer: Trainer, config: TrainConfig, stop: StopRequest, console: Console, ranks: Ranks
) -> None:
    handler = RichHandler(console=console, show_path=False, show_level=False, show_time=False)
    logging.getLogger("gippo").addHandler(handler)
    before = trainer.learner.env_steps
    try:
        with TrainingProgress(console, config.num_epochs, trainer.epoch) as progress:
            trainer.train(
                stop=lambda: ranks.any(stop.made),
                report=lambda epoch, row: progress.update(
                    epoch, int(row["env_steps"]) - before, row
                ),
            )
    finally:
        logging.getLogger("gippo").removeHandler(handler)


def _finish(trainer: Trainer, config: TrainConfig, console: Console) -> None:
    """Draw, record, and say where everything lies.

    The run itself is safe by now: a picture that cannot be made is told of, and changes nothing.
    """
    run_dir = trainer.run_dir
    files = {"metrics": run_dir / METRICS_FILE, "checkpoints": trainer.checkpoints.path}
    if trainer.epoch > 0:
        columns = read_metrics(run_dir)
        due = run_dir / PICTURES_DUE
        try:
            due.touch()
            files |= _curve(columns, config, run_dir, console)
            files |= _record(trainer, config, console)
            due.unlink()
        except OSError as error:
            raise TrainingFailedError(
                f"{run_dir}: trained, but its pictures cannot be written ({reason(error)}); "
                f"{this_command()} train {written('run_dir', run_dir)} resume=true makes them"
            ) from error
        console.print(
            f"{trainer.epoch}/{config.num_epochs} epochs in {duration(columns['wall_time'][-1])}, "
            f"best return {number(trainer.best_return)}"
        )
    for name, path in files.items():
        console.print(f"  {name:12s}{path}")
    if "rollout" in files:
        console.print(f"  watch it with: {this_command()} view {shlex.quote(str(run_dir))}")
    if trainer.epoch < config.num_epochs:
        again = f"{this_command()} train {written('run_dir', run_dir)} resume=true"
        console.print(f"  go on with: {again}")


@contextmanager
def _not_needed(what: str, console: Console) -> Iterator[None]:
    """Tell of a failure to make something to look at, and go on.

    Raises:
        OSError: the disk does not take it, which is nobody's file's fault.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        text = " ".join(str(error).split())[:300]
        console.print(f"warning: no {what}: {kind}{text}", soft_wrap=True)


def _curve(
    columns: Columns, config: TrainConfig, run_dir: Path, console: Console
) -> dict[str, Path]:
    path = run_dir / CURVE
    with _not_needed(path.name, console):
        plot_run(columns, path, title(config), limits_of(config))
        return {"curve": path}
    return {}


def _record(trainer: Trainer, config: TrainConfig, console: Console) -> dict[str, Path]:
    """Record the best policy's motion, where there is something to see, and picture it."""
    files = {name: trainer.run_dir / f"rollout{end}" for name, end in ROLLOUT.items()}
    recorded, pictured = False, False
    if config.rollout.num_envs > 0:
        with _not_needed(files["rollout"].name, console):
            num_envs, best = config.rollout.num_envs, str(trainer.checkpoints.best_or_newest())
            env = make_env(config.env, num_envs=num_envs, device=config.device, seed=0)
            if has_motion(env):
                recorded = play_policy(
                    env,
                    trained(config, trainer.run_dir, best, device=None, seed=0),
                    num_steps=config.rollout.num_steps,
                    out=files["rollout"],
                ).recorded
        for line in note_of(config.rollout.num_envs) if recorded else ():
            console.print(f"note: {line}", soft_wrap=True)
        for line in warning_of(files["rollout"]) if recorded else ():
            console.print(f"warning: {line}", soft_wrap=True)
    if recorded:
        with _not_needed(files["picture"].name, console):
            for line in render_contact_sheet(files["rollout"], files["picture"]):
                console.print(f"warning: {files['picture'].name}: {line}", soft_wrap=True)
            pictured = True
    made = {"rollout": recorded, "picture": pictured}
    return {name: path for name, path in files.items() if made[name]}


def limits_of(config: TrainConfig) -> Limits | None:
    """The bounds of GI-PPO's criteria; None for a method without alpha."""
    alpha = getattr(config.algo, "alpha", None)
    return None if alpha is None else Limits(alpha.delta_det, alpha.delta_oorr)


def title(config: TrainConfig) -> str:
    """A run in a line, with those counts of its environment's options that are not the usual."""
    usual = env_options(config.env["id"])
    counts = {
        name: value
        for name, value in config.env_options.items()
        if type(value) is int and value != usual.get(name)
    }
    options = "".join(f", {name}={value}" for name, value in counts.items())
    copies = f"{config.env['num_envs']} environments{options}"
    return f"{config.algo.name} on {config.env['id']} ({copies}), seed {config.seed}"
