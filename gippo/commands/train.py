"""`gippo train`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.logging import RichHandler

from gippo.compose import GROUPS, choices, configure, run_sweep
from gippo.environment import make_env, use_threads
from gippo.errors import TrainingFailedError, UserError, is_out_of_memory
from gippo.files import reason, sole_use
from gippo.help_text import describe_keys, listed
from gippo.interrupt import StopRequest
from gippo.learner import Learner, NonFiniteError, make_learner
from gippo.methods import config_classes
from gippo.metrics import METRICS_FILE, read_metrics
from gippo.plots import Limits, plot_run
from gippo.progress import TrainingProgress, duration, make_console, number
from gippo.recording import play_policy
from gippo.run_config import CONFIG_FILE, TrainConfig, load_config, save_config, to_omegaconf
from gippo.trainer import Trainer
from warp_envs.preview import render_contact_sheet

# What may differ when a run is resumed: where and how it runs, not what it computes.
RESUMABLE = (
    "device",
    "num_threads",
    "checkpoint_every",
    "keep_last",
    "tensorboard",
    "rollout",
    "run_dir",
    "resume",
)

HELP = """\
gippo train: train a policy.

Usage: gippo train [env=NAME] [algo=NAME] [experiment=NAME] [key=value ...]
       gippo train -m key=a,b ...     every combination, one after the other
       gippo train ... --keys         every key under these choices, with its value; trains nothing
       gippo train ... --config       the same as YAML

Choices:
{choices}

Keys:
{keys}

  The environment's options are env.KEY, the method's hyperparameters algo.KEY, and those that all
  methods share learner.KEY. Their defaults depend on environment and method: see --keys.

Files in run_dir:
  config.yaml        every value of the run
  metrics.jsonl      one JSON object per epoch: epoch, env_steps, wall_time [s], episode_return and
                     episode_length (means over the last 100 or so finished episodes), best_return,
                     alpha and much more; a number that does not exist yet is null
  tensorboard/       the same for TensorBoard
  checkpoints/       the newest as epoch_NNNNNN.pt, the policy of the best return as best.pt
  curve.png          return, alpha, determinant range, out-of-range ratio
  rollout.usdc       the best policy's motion, for usdview or Omniverse (robots and traffic)
  rollout.png        frames of it

A run directory that holds a run is refused unless resume=true, which goes on from the newest
checkpoint with the run's own config.yaml; on a CPU, with the same num_threads, the numbers are
those of a run that was never interrupted. Ctrl-C or SIGTERM ends after the current epoch with
everything saved. Sweeps (-m) put each job into a folder of hydra.sweep.dir, named by what is swept
over, and skip what has finished there.

Exit status: 0 trained; 1 given up for non-finite numbers; 2 a mistake in what was asked, nothing
written; 130 and 143 stopped by Ctrl-C or SIGTERM.

Examples:
  gippo train env=cartpole algo=gippo seed=1 run_dir=runs/first
  gippo train run_dir=runs/first resume=true
  gippo train env=ackley64 algo=ppo algo.learning_rate=3e-3 num_epochs=500
  gippo train experiment=paper/cartpole
  gippo train -m algo=gippo,ppo,rp seed=0,1,2 hydra.sweep.dir=runs/cartpole"""


def help_text() -> str:
    """What `gippo train --help` prints."""
    return HELP.format(
        choices="\n".join(listed(group, choices(group)) for group in GROUPS),
        keys=describe_keys(TrainConfig, skip=("env", "algo", "learner")),
    )


def run(arguments: Sequence[str]) -> int:
    """Train as the arguments say."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    overrides = [argument for argument in arguments if argument not in flags]
    unknown = [flag for flag in flags if flag not in ("-m", "--multirun", "--keys", "--config")]
    if unknown:
        raise UserError(f"{unknown[0]}: no such option; there are -m, --keys, --config, --help")
    if "-m" in flags or "--multirun" in flags:
        run_sweep("train", TrainConfig, overrides, sweep_job)
        return 0
    config = configure("train", TrainConfig, overrides)
    if "--keys" in flags or "--config" in flags:
        print(_keys_text(config) if "--keys" in flags else OmegaConf.to_yaml(to_omegaconf(config)))
        return 0
    return train(config, overrides).status


def sweep_job(hydra_config: DictConfig) -> float:
    """One job of a sweep, in the folder that Hydra names; a job begun before goes on.

    Returns:
        The best return, which a sweeper may maximise.
    """
    hydra = HydraConfig.get()
    overrides = list(hydra.overrides.task)
    config = configure("train", TrainConfig, overrides)
    if config.run_dir is None:
        config.run_dir = hydra.runtime.output_dir
    if (Path(config.run_dir) / CONFIG_FILE).exists():
        config.resume = True
    outcome = train(config, overrides)
    if outcome.status != 0:
        raise KeyboardInterrupt
    return outcome.best_return


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    status: int
    """0, or 128 plus the number of the signal that ended it."""
    best_return: float


def train(config: TrainConfig, overrides: Sequence[str] = ()) -> Outcome:
    """Train a run from its beginning, or further, and say where its files lie.

    Args:
        config: the run.
        overrides: the command line's, to be held against a resumed run's own configuration.

    Raises:
        UserError: something cannot be as asked; nothing has been written.
        TrainingFailedError: too many updates were not finite; the last checkpoint is good.
    """
    console = make_console()
    run_dir = _run_dir(config)
    if config.resume:
        config = _resumed(config, run_dir, overrides)
    elif _in_the_way(run_dir):
        raise UserError(
            f"run_dir: {str(run_dir)!r} is not empty; resume=true goes on with the run in it, "
            "another run_dir starts a new one"
        )
    # Kept with the run: on a machine of other cores it would else go on with other rounding.
    config.num_threads = use_threads(config.num_threads)
    with StopRequest(console) as stop:
        learner = _make_learner(config)
        _make_folder(run_dir)
        with sole_use(run_dir):
            trainer = Trainer(
                learner,
                run_dir,
                num_epochs=config.num_epochs,
                checkpoint_every=config.checkpoint_every,
                keep_last=config.keep_last,
                tensorboard=config.tensorboard,
            )
            if config.resume:
                for line in trainer.resume():
                    console.print(f"{line}; the one before it is used")
            save_config(config, run_dir / CONFIG_FILE)
            console.print(_title(config))
            try:
                _train_visibly(trainer, config, stop, console)
            except NonFiniteError as error:
                raise TrainingFailedError(
                    f"{error}; the checkpoints in {run_dir} are good"
                ) from error
            _finish(trainer, config, console)
    return Outcome(stop.exit_status, trainer.best_return)


def _run_dir(config: TrainConfig) -> Path:
    return Path(config.run_dir or _new_folder(config))


def _in_the_way(run_dir: Path) -> bool:
    """Whether something lies where a new run would.

    Raises:
        UserError: the system cannot tell.
    """
    try:
        return run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir()))
    except (OSError, ValueError) as error:  # too long, not allowed, or with a null byte
        raise UserError(f"run_dir: {str(run_dir)!r}: {reason(error)}") from error


def _new_folder(config: TrainConfig) -> str:
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    return f"runs/{stamp}_{config.env['id']}_{config.algo.name}_seed{config.seed}"


def _resumed(given: TrainConfig, run_dir: Path, overrides: Sequence[str]) -> TrainConfig:
    """The run's own configuration, with what may be given anew.

    Raises:
        UserError: an override would change what the run computes.
    """
    config = load_config(run_dir)
    for override in overrides:
        key, _, value = override.partition("=")
        section = key.partition(".")[0]
        if section in RESUMABLE:
            setattr(config, section, getattr(given, section))
        elif section != "hydra" and not _says_the_same(key, config, given):
            raise UserError(
                f"{key}: {value} given, but the run in {str(run_dir)!r} was begun otherwise and "
                "goes on as it was; leave it out, or start a new run"
            )
    config.resume = True
    return config


def _says_the_same(key: str, config: TrainConfig, given: TrainConfig) -> bool:
    own, other = to_omegaconf(config), to_omegaconf(given)
    if key == "experiment":
        return own.algo == other.algo and own.learner == other.learner and own.env == other.env
    if key == "algo":
        return own.algo.name == other.algo.name
    return OmegaConf.select(own, key) == OmegaConf.select(other, key)


def _make_learner(config: TrainConfig) -> Learner:
    try:
        env = make_env(config.env, device=config.device, seed=config.seed)
        return make_learner(
            env,
            config.learner,
            config.method_config,
            num_epochs=config.num_epochs,
            seed=config.seed,
        )
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"env.num_envs: {config.env['num_envs']} given, or a network or window of this size: "
            "it needs more memory than there is"
        ) from error


def _make_folder(run_dir: Path) -> None:
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if not os.access(run_dir, os.W_OK):
            raise PermissionError("not writable")
    except (OSError, ValueError) as error:
        raise UserError(f"run_dir: {str(run_dir)!r}: {reason(error)}") from error


def _train_visibly(
    trainer: Trainer, config: TrainConfig, stop: StopRequest, console: Console
) -> None:
    handler = RichHandler(console=console, show_path=False, show_level=False, show_time=False)
    logging.getLogger("gippo").addHandler(handler)
    before = trainer.learner.env_steps
    try:
        with TrainingProgress(console, config.num_epochs, trainer.epoch) as progress:
            trainer.train(
                stop=lambda: stop.made,
                report=lambda epoch, row: progress.update(
                    epoch, int(row["env_steps"]) - before, row
                ),
            )
    finally:
        logging.getLogger("gippo").removeHandler(handler)


def _finish(trainer: Trainer, config: TrainConfig, console: Console) -> None:
    """Draw, record, and say where everything lies."""
    run_dir, folder = trainer.run_dir, trainer.checkpoints
    files = {"metrics": run_dir / METRICS_FILE, "checkpoints": folder.path}
    if trainer.epoch > 0:
        columns = read_metrics(run_dir)
        files["curve"] = run_dir / "curve.png"
        plot_run(columns, files["curve"], _title(config), limits_of(config))
        if config.rollout.num_envs > 0:
            played = play_policy(
                config,
                folder.best_or_newest(),
                num_envs=config.rollout.num_envs,
                num_steps=config.rollout.num_steps,
                out=run_dir / "rollout.usdc",
            )
            if played.recorded:
                files["rollout"] = run_dir / "rollout.usdc"
                files["picture"] = run_dir / "rollout.png"
                render_contact_sheet(files["rollout"], files["picture"])
        console.print(
            f"{trainer.epoch}/{config.num_epochs} epochs in {duration(columns['wall_time'][-1])}, "
            f"best return {number(trainer.best_return)}"
        )
    for name, path in files.items():
        console.print(f"  {name:12s}{path}")
    if "rollout" in files:
        console.print(f"  watch it with: gippo view {run_dir}")
    if trainer.epoch < config.num_epochs:
        console.print(f"  go on with: gippo train run_dir={run_dir} resume=true")


def limits_of(config: TrainConfig) -> Limits | None:
    """The bounds of GI-PPO's criteria; None for a method without alpha."""
    alpha = getattr(config.algo, "alpha", None)
    return None if alpha is None else Limits(alpha.delta_det, alpha.delta_oorr)


def _title(config: TrainConfig) -> str:
    counts = {name: v for name, v in config.env_options.items() if type(v) is int}
    options = "".join(f", {name}={value}" for name, value in counts.items())
    copies = f"{config.env['num_envs']} environments{options}"
    return f"{config.algo.name} on {config.env['id']} ({copies}), seed {config.seed}"


def _keys_text(config: TrainConfig) -> str:
    """Every key with its value and meaning."""
    values = to_omegaconf(config)
    env = "\n".join(f"  env.{name}={value}" for name, value in config.env.items())
    parts = [
        env,
        describe_keys(config_classes()[config.algo.name], prefix="algo.", values=values.algo),
        describe_keys(type(config.learner), prefix="learner.", values=values.learner),
        describe_keys(TrainConfig, skip=("env", "algo", "learner"), values=values),
    ]
    return "\n\n".join(parts)
