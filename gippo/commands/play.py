"""`gippo play`."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from gippo.configuration.actors import KEYS, read_actor
from gippo.configuration.compose import configure
from gippo.environment import use_threads
from gippo.files import check_place
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console, number, this_command
from warp_envs.checks import ArgumentError, check_device_name, check_integer

if TYPE_CHECKING:
    from gippo.runs.recording import Played

SUFFIXES = (".usdc", ".usda", ".usdz")

HELP = """\
gippo play: let a policy act, print its returns, and record the motion as USD.

Usage: gippo play RUN [key=value ...]
       gippo play policy=NAME [env=NAME] [key=value ...]

RUN is a run's folder; run_dir=RUN says the same.

Keys:
{keys}

{actors}

The motion opens in usdview, Omniverse, and with gippo view in the browser. Environments without a
body, the functions, print their returns only.

Examples:
  gippo play runs/first
  gippo play runs/first num_envs=64 num_steps=1000 deterministic=false out=crowd.usdc
  gippo play policy=ant out=ant.usdc
  gippo play policy=pi_saturation env=ring num_envs=4 num_steps=2000 out=ring.usdc"""


@dataclass
class PlayConfig:
    """What to play."""

    checkpoint: str = "best"
    """best, newest, or the path of a checkpoint."""
    num_envs: int = 16
    """Copies of the environment."""
    num_steps: int = 500
    """Control steps."""
    deterministic: bool = True
    """Act by the policy's mean; false: sample as in training."""
    seed: int = 0
    """Of initial states and sampling."""
    device: str | None = None
    """cpu, cuda, ...; null: as in training."""
    out: str | None = "rollout.usdc"
    """USD file to write, .usdc, .usda or .usdz; null: none."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("num_envs", self.num_envs, 1)
        check_integer("num_steps", self.num_steps, 1)
        check_integer("seed", self.seed, 0, 2**31 - 1)
        if self.device is not None:
            check_device_name("device", self.device)
        if self.out is not None and Path(self.out).suffix not in SUFFIXES:
            raise ArgumentError("out", repr(self.out), f"a file ending in {SUFFIXES}")


def help_text() -> str:
    """What `gippo play --help` prints."""
    return HELP.format(keys=describe_keys(PlayConfig), actors=KEYS)


def run(arguments: Sequence[str]) -> int:
    """Play as the arguments say."""
    actor, rest = read_actor("play", arguments)
    settings = configure("play", PlayConfig, rest)
    out = None if settings.out is None else Path(settings.out)
    if out is not None:
        check_place("out", out)
    from gippo.runs.acting import make_acting
    from gippo.runs.recording import note_of, play_policy, warning_of

    use_threads(actor.config.num_threads if actor.config else None)
    env, acting = make_acting(
        actor,
        num_envs=settings.num_envs,
        checkpoint=settings.checkpoint,
        seed=settings.seed,
        device=settings.device,
    )
    played = play_policy(
        env,
        acting,
        num_steps=settings.num_steps,
        out=out,
        seed=settings.seed,
        deterministic=settings.deterministic,
    )
    console = make_console()
    for note in actor.notes:
        console.print(note, soft_wrap=True, markup=False)
    console.print(_table(played))
    _print_mean(played, console)
    if out is not None:
        motion = f"motion: {out}, to watch with: {this_command()} view {shlex.quote(str(out))}"
        console.print(motion if played.recorded else "this environment has no body to record")
        for line in note_of(settings.num_envs) if played.recorded else ():
            console.print(f"note: {line}", soft_wrap=True)
        for line in warning_of(out) if played.recorded else ():
            console.print(f"warning: {line}", soft_wrap=True)
    return 0


def _table(played: Played, limit: int = 16) -> Table:
    """One row per environment, `limit` at most."""
    table = Table("environment", "episodes", "mean return", "mean length", "under way", box=None)
    for column in table.columns:
        column.justify = "right"
    rows = zip(played.returns, played.lengths, played.unfinished, strict=True)
    for i, (returns, lengths, unfinished) in enumerate(rows):
        if i == limit:
            table.add_row("...")
            break
        means = [number(statistics.fmean(v)) if v else "-" for v in (returns, lengths)]
        table.add_row(str(i), str(len(returns)), *means, number(unfinished))
    return table


def _print_mean(played: Played, console: Console) -> None:
    finished = [value for returns in played.returns for value in returns]
    if not finished:
        console.print("no episode ended; a larger num_steps would see their ends")
        return
    spread = f" +- {number(statistics.stdev(finished))}" if len(finished) > 1 else ""
    console.print(
        f"{len(finished)} episodes: mean return {number(statistics.fmean(finished))}{spread}, "
        f"lowest {number(min(finished))}, highest {number(max(finished))}"
    )
