"""`gippo train`."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from gippo.configuration.compose import GROUPS, choices
from gippo.configuration.derived import KEY, SHORT, configure_training
from gippo.configuration.run_config import CONFIG_FILE, TrainConfig, to_omegaconf
from gippo.errors import StoppedError, UserError
from gippo.methods import config_class
from gippo.runs.folder import in_the_way
from gippo.schema import option_meanings
from gippo.terminal.help_text import describe_keys, describe_values, listed
from warp_envs.registry import env_source

if TYPE_CHECKING:
    from omegaconf import DictConfig

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
                     alpha, evaluation_return and more; a number that does not exist yet is null
  tensorboard/       the same for TensorBoard
  inputs/            copies of the files that the run was given, with their checksums
  changes.jsonl      what differs from the run it was started from; num_epochs raised on resume
  checkpoints/       the newest as epoch_NNNNNN.pt, the policy of the best return as best.pt
  curve.png          return, alpha, determinant range, out-of-range ratio
  rollout.usdc       the best policy's motion, for usdview or Omniverse (robots and traffic)
  rollout.png        frames of it

from=RUN starts a new run with the networks and normalisers of another and with its values, but for
what the command line says; changes.jsonl in its folder lists what that is.

A run directory that holds a run is refused unless resume=true, which goes on from the newest
checkpoint with the run's own config.yaml. On a CPU the numbers are those of a run that was never
interrupted, even by kill -9: all of metrics.jsonl but wall_time. A damaged checkpoint is told of
and the one before it used. Ctrl-C, SIGTERM or a closed terminal (SIGHUP, unless under nohup) ends
after the current epoch with everything saved; output that nobody reads any more ends nothing.
Sweeps (-m) put each job into a folder of hydra.sweep.dir, named by what is swept over, skip what
has finished there and go on with the rest; docs/sweeps.md tells of launchers (joblib, SLURM, Ray)
and of tuning (Optuna).

Exit status: 0 trained; 1 given up for non-finite numbers or a full disk, the last checkpoint good;
2 a mistake in what was asked, nothing written; 129, 130 and 143 stopped by SIGHUP, Ctrl-C, SIGTERM.

Examples:
  gippo train env=cartpole algo=gippo seed=1 run_dir=runs/first
  gippo train run_dir=runs/first resume=true
  gippo train run_dir=runs/first resume=true num_epochs=2000         on, past where it was to end
  gippo train from=runs/first run_dir=runs/second algo=ppo algo.learning_rate=1e-4
  gippo train env=ackley64 algo=ppo algo.learning_rate=3e-3 num_epochs=500
  gippo train experiment=paper/cartpole
  gippo train -m algo=gippo,ppo,rp seed=0,1,2 hydra.sweep.dir=runs/cartpole
  gippo train -m hydra/launcher=joblib env=ant,hopper algo=gippo,ppo,rp seed=0,1,2
  torchrun --nproc-per-node=2 -m gippo train env=ant device=cuda     on two GPUs: env.num_envs are
                     shared out evenly, the run is that of one process to rounding"""


def help_text() -> str:
    """What `gippo train --help` prints."""
    return HELP.format(
        choices="\n".join(listed(group, choices(group)) for group in GROUPS),
        keys=describe_keys(TrainConfig, skip=("env", "algo", "learner")),
    )


def chosen_keys(overrides: Sequence[str]) -> str:
    """What `gippo train env=NAME --help` prints besides: every key under these choices."""
    overrides = [_whole(argument) for argument in overrides]
    config = configure_training(overrides)
    return f"\nKeys and values of {' '.join(overrides)}:\n\n{_keys_text(config)}"


def run(arguments: Sequence[str]) -> int:
    """Train as the arguments say."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    overrides = [_whole(argument) for argument in arguments if argument not in flags]
    unknown = [flag for flag in flags if flag not in ("-m", "--multirun", "--keys", "--config")]
    if unknown:
        raise UserError(f"{unknown[0]}: no such option; there are -m, --keys, --config, --help")
    if "-m" in flags or "--multirun" in flags:
        _sweep(overrides)
        return 0
    notes: list[str] = []
    config = configure_training(overrides, notes.append)
    if "--keys" in flags or "--config" in flags:
        from omegaconf import OmegaConf

        print(_keys_text(config) if "--keys" in flags else OmegaConf.to_yaml(to_omegaconf(config)))
        return 0
    if config.run_dir and not config.resume and "RANK" not in os.environ:
        problem = in_the_way(Path(config.run_dir))  # of several processes the first one looks
        if problem is not None:
            raise UserError(problem)
    from gippo.runs import training  # torch and Warp, now that nothing is left to be refused
    from gippo.terminal.progress import make_console

    return training.train(config, overrides, make_console(), notes).status


def _whole(argument: str) -> str:
    """An argument with the key's whole name."""
    return (
        f"{KEY}={argument.removeprefix(f'{SHORT}=')}"
        if argument.startswith(f"{SHORT}=")
        else argument
    )


def _sweep(overrides: Sequence[str]) -> None:
    """Run a sweep; its jobs are joblib's, other machines', or done here one after the other.

    Raises:
        StoppedError: a signal has stopped it.
    """
    from gippo.configuration.sweep import count_jobs, run_sweep
    from gippo.terminal.interrupt import stop_status, stopping_jobs
    from gippo.terminal.progress import make_console

    together = "hydra/launcher=joblib" in overrides
    if not any(text.startswith("hydra/sweeper=") for text in overrides):
        make_console().print(f"{count_jobs(overrides)} jobs; their values are checked first")
    try:
        with stopping_jobs(make_console().print) if together else nullcontext():
            run_sweep("train", TrainConfig, overrides, sweep_job, configure_training)
    except KeyboardInterrupt:
        raise StoppedError(stop_status() or 128 + signal.SIGINT) from None


def sweep_job(hydra_config: DictConfig) -> float:
    """One job of a sweep, in the folder that Hydra names; one begun before goes on.

    A run that is finished there is left as it is.

    Returns:
        The run's score, its best return, which a sweeper may maximise.

    Raises:
        KeyboardInterrupt: the run was stopped by a signal, and so shall be the sweep.
        StoppedError: the same, where the jobs beside this one are to save as well.
    """
    from hydra.core.hydra_config import HydraConfig

    from gippo.configuration.sweep import job_launcher, job_threads
    from gippo.runs import training
    from gippo.terminal.interrupt import stop_status, take_jobs
    from gippo.terminal.progress import make_console, number

    together = job_launcher() == "joblib"
    if together:
        take_jobs()
    hydra = HydraConfig.get()
    overrides = list(hydra.overrides.task)
    config = configure_training(overrides)
    config.run_dir = config.run_dir or hydra.runtime.output_dir
    config.num_threads = config.num_threads or job_threads()
    run_dir = Path(config.run_dir)
    console = make_console(run_dir.name if together else None)
    console.print(f"job {hydra.job.num + 1}: {run_dir}", soft_wrap=True)
    if (run_dir / CONFIG_FILE).exists():
        config.resume = True
        score = training.score_if_finished(training.resumed(config, run_dir, overrides), run_dir)
        if score is not None:
            console.print(f"{run_dir} is finished, best return {number(score)}")
            return score
    if together and stop_status():
        raise StoppedError(stop_status())
    outcome = training.train(config, overrides, console)
    if outcome.status != 0 and together:
        raise StoppedError(outcome.status)
    if outcome.status != 0:
        raise KeyboardInterrupt
    return outcome.best_return


def _keys_text(config: TrainConfig) -> str:
    """Every key with its value and meaning."""
    values = to_omegaconf(config)
    meanings = {"id": "The environment.", **option_meanings(*env_source(config.env["id"]))}
    parts = [
        describe_values(config.env, meanings, "env."),
        describe_keys(config_class(config.algo.name), prefix="algo.", values=values.algo),
        describe_keys(type(config.learner), prefix="learner.", values=values.learner),
        describe_keys(TrainConfig, skip=("env", "algo", "learner"), values=values),
    ]
    return "\n\n".join(parts)
