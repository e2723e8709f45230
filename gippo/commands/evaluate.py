"""`gippo evaluate`."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gippo.configuration.actors import KEYS, read_actor
from gippo.configuration.compose import configure
from gippo.environment import use_threads
from gippo.errors import UserError
from gippo.files import reason
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console, number
from warp_envs.checks import check_device_name, check_integer

if TYPE_CHECKING:
    from gippo.runs.evaluation import Evaluation

HELP = """\
gippo evaluate: tell how well a policy does, over whole episodes.

Every episode has a copy of the environment of its own and counts once. Told are the returns' mean,
standard deviation and 95 % confidence interval (Student's t), the lengths, each reward term's sum
over an episode, and how many episodes ended because the simulation was no longer finite.

Usage: gippo evaluate RUN [key=value ...]
       gippo evaluate policy=NAME [env=NAME] [key=value ...]

RUN is a run's folder.

Keys:
{keys}

{actors}

Examples:
  gippo evaluate runs/first
  gippo evaluate runs/first num_episodes=1000 deterministic=false out=first.json
  gippo evaluate runs/ant env=ant_dflex
  gippo evaluate policy=ant
  gippo evaluate policy=follower_stopper env=ring policy.desired_speed=4
  gippo evaluate runs/robot env.asset=heavier.usda out=-"""


@dataclass
class EvaluateConfig:
    """How to evaluate."""

    num_episodes: int = 100
    """Episodes, each from its own start."""
    deterministic: bool = True
    """Act by the policy's mean; false: sample as in training."""
    checkpoint: str = "best"
    """best, newest, or the path of a checkpoint."""
    seed: int = 0
    """Of initial states and sampling."""
    device: str | None = None
    """cpu, cuda, ...; null: as in training."""
    out: str | None = None
    """JSON file with all numbers, each episode's included; -: standard output, and nothing else."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("num_episodes", self.num_episodes, 1)
        check_integer("seed", self.seed, 0, 2**31 - 1)
        if self.device is not None:
            check_device_name("device", self.device)


def help_text() -> str:
    """What `gippo evaluate --help` prints."""
    return HELP.format(keys=describe_keys(EvaluateConfig), actors=KEYS)


def run(arguments: Sequence[str]) -> int:
    """Evaluate as the arguments say."""
    actor, rest = read_actor("evaluate", arguments)
    settings = configure("evaluate", EvaluateConfig, rest)
    from gippo.runs.evaluation import evaluate  # torch and Warp, now that all is checked

    use_threads(actor.config.num_threads if actor.config else None)
    found = evaluate(
        actor.run_dir,
        num_episodes=settings.num_episodes,
        deterministic=settings.deterministic,
        checkpoint=settings.checkpoint,
        seed=settings.seed,
        device=settings.device,
        env=actor.env,
        policy=actor.policy,
        policy_options=actor.options,
    )
    run = None if actor.run_dir is None else str(actor.run_dir)
    acting = {} if actor.policy is None else {"policy": actor.policy, "options": actor.options}
    _write({"run": run, **acting, "env": actor.env, **_numbers(found)}, settings)
    if settings.out != "-":
        _print(found, settings, actor.notes)
    return 0


def _numbers(found: Evaluation) -> dict[str, Any]:
    low, high = found.interval
    several = len(found.returns) > 1
    return {
        "num_episodes": len(found.returns),
        "mean_return": found.mean,
        "std_return": found.std if several else None,
        "ci95_return": [low, high] if several else None,
        "mean_length": statistics.fmean(found.lengths),
        "num_diverged": found.num_diverged,
        "reward_terms": found.reward_terms,
        "returns": found.returns,
        "lengths": found.lengths,
    }


def _write(told: dict[str, Any], settings: EvaluateConfig) -> None:
    if settings.out is None:
        return
    text = json.dumps(told, indent=2) + "\n"
    if settings.out == "-":
        sys.stdout.write(text)
        return
    try:
        Path(settings.out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"out: {settings.out!r} cannot be written ({reason(error)})") from error


def _print(found: Evaluation, settings: EvaluateConfig, notes: Sequence[str]) -> None:
    console = make_console()
    for note in notes:
        console.print(note, soft_wrap=True, markup=False)
    low, high = found.interval
    spread = f" +- {number(found.std)}, 95 % interval {number(low)} to {number(high)}"
    console.print(
        f"{len(found.returns)} episodes: mean return {number(found.mean)}"
        f"{spread if len(found.returns) > 1 else ''}, "
        f"lowest {number(min(found.returns))}, highest {number(max(found.returns))}"
    )
    lengths = found.lengths
    console.print(
        f"lengths {min(lengths)} to {max(lengths)}, mean {number(statistics.fmean(lengths))}; "
        f"{found.num_diverged} diverged"
    )
    for name, value in found.reward_terms.items():
        console.print(f"  {name:20s}{number(value)}")
    if settings.out is not None:
        console.print(settings.out)
