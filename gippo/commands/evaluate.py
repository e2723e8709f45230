"""`gippo evaluate`."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from gippo.configuration.compose import configure, parse
from gippo.configuration.run_config import TrainConfig, load_config
from gippo.environment import use_threads
from gippo.errors import UserError
from gippo.files import reason
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console, number
from warp_envs.checks import ArgumentError, check_integer

if TYPE_CHECKING:
    from gippo.runs.evaluation import Evaluation

HELP = """\
gippo evaluate: tell how well a trained policy does, over whole episodes.

Every episode has a copy of the environment of its own and counts once. Told are the returns' mean,
standard deviation and 95 % confidence interval (Student's t), the lengths, each reward term's sum
over an episode, and how many episodes ended because the simulation was no longer finite.

Usage: gippo evaluate RUN [key=value ...]

RUN is a run's folder.

Keys:
{keys}

  env.KEY=value changes an option of the run's environment (env.asset, env.substeps, ...), and
  env=NAME takes another one, which must have as many observations and actions.

Examples:
  gippo evaluate runs/first
  gippo evaluate runs/first num_episodes=1000 deterministic=false out=first.json
  gippo evaluate runs/ant env=ant_dflex
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


def help_text() -> str:
    """What `gippo evaluate --help` prints."""
    return HELP.format(keys=describe_keys(EvaluateConfig))


def run(arguments: Sequence[str]) -> int:
    """Evaluate as the arguments say."""
    named = [text for text in arguments if "=" not in text or Path(text).exists()]
    rest = [text for text in arguments if text not in named]
    changes = [text for text in rest if text.startswith(("env=", "env."))]
    settings = configure("evaluate", EvaluateConfig, [a for a in rest if a not in changes])
    if len(named) != 1:
        given = " ".join(named) or "nothing"
        raise UserError(f"{given} given; one run's folder expected: gippo evaluate RUN")
    config = load_config(Path(named[0]))
    config.env = _environment(config, changes)
    from gippo.runs.evaluation import evaluate  # torch and Warp, now that all is checked

    use_threads(config.num_threads)
    found = evaluate(
        named[0],
        num_episodes=settings.num_episodes,
        deterministic=settings.deterministic,
        checkpoint=settings.checkpoint,
        seed=settings.seed,
        device=settings.device,
        env=config.env,
    )
    told = {"run": named[0], "env": config.env, **_numbers(found)}
    _write(told, settings)
    if settings.out != "-":
        _print(found, settings)
    return 0


def _environment(config: TrainConfig, changes: Sequence[str]) -> dict[str, Any]:
    """The run's environment with what the command line changes.

    Raises:
        UserError: an option that it has not.
    """
    if any(text.startswith("env=") for text in changes):
        return configure("train", TrainConfig, changes).env
    env = dict(config.env)
    for override in parse(changes):
        key = override.key_or_group.removeprefix("env.")
        if key in ("id", "num_envs") or key not in env:
            options = [name for name in env if name not in ("id", "num_envs")]
            raise UserError(str(ArgumentError(f"env.{key}", "no option", f"one of {options}")))
        plain = OmegaConf.create({"value": override.value()})
        env[key] = OmegaConf.to_container(plain)["value"]  # type: ignore[index,call-overload]
    return env


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


def _print(found: Evaluation, settings: EvaluateConfig) -> None:
    console = make_console()
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
