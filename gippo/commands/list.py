"""`gippo list`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gippo.configuration.compose import choices, configure
from gippo.configuration.policies import BY_HAND, policies_dir, trained_policies
from gippo.configuration.run_config import CONFIG_FILE, TrainConfig, load_config
from gippo.errors import UserError
from gippo.runs.folder import METRICS_FILE
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console, number
from warp_envs.checks import check_choice, near_matches

HELP = """\
gippo list: environments, methods, experiments and policies to choose from, and the runs under a
folder.

Usage: gippo list [envs|methods|experiments|policies|FOLDER ...] [key=value ...]

Without a name, all of them, and the runs under runs/. A run's state is "finished", "stopped" (it
goes on with resume=true, or is under way), "begun" (no epoch yet) or "damaged".

Keys:
{keys}

Examples:
  gippo list
  gippo list envs
  gippo list runs/cartpole sort=best"""

_SORTS = ("name", "best")
_GROUPS = {"envs": "env", "methods": "algo", "experiments": "experiment"}
_NAMES = (*_GROUPS, "policies")
RUNS = "runs"


@dataclass
class ListConfig:
    """How to list."""

    sort: str = "name"
    """Of runs: name, or best (the highest best return first)."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_choice("sort", self.sort, _SORTS)


@dataclass(frozen=True)
class _Run:
    folder: Path
    config: TrainConfig | None
    epochs: int
    best: float
    state: str


def help_text() -> str:
    """What `gippo list --help` prints."""
    return HELP.format(keys=describe_keys(ListConfig))


def run(arguments: Sequence[str]) -> int:
    """List what the arguments name."""
    named = [text for text in arguments if "=" not in text or Path(text).exists()]
    settings = configure("list", ListConfig, [text for text in arguments if text not in named])
    default = [*_NAMES, *([RUNS] if Path(RUNS).is_dir() else [])]
    for name in named:
        if name not in _NAMES and not Path(name).is_dir():
            accepted = f"{', '.join(_NAMES)} or a folder"
            hint = near_matches(name, _NAMES)
            raise UserError(f"{name!r} given, {accepted} accepted{hint}")
    console = make_console()
    for name in named or default:
        if name in _GROUPS:
            console.print(f"{name}: {', '.join(choices(_GROUPS[name]))}")
        elif name == "policies":
            trained = ", ".join(trained_policies())
            console.print(f"policies by hand, of traffic: {', '.join(BY_HAND)}")
            console.print(f"trained policies: {trained} (in {policies_dir()})", soft_wrap=True)
        else:
            found = sorted(_runs(Path(name)), key=lambda run: run.folder)
            if settings.sort == "best":
                found.sort(key=lambda run: math.inf if math.isnan(run.best) else -run.best)
            console.print(_table(found) if found else f"{name}: no runs")
    return 0


def _runs(folder: Path) -> Iterator[_Run]:
    for path in folder.rglob(CONFIG_FILE):
        if path.parent.name == ".hydra":
            continue
        try:
            config = load_config(path.parent)
        except UserError:
            yield _Run(path.parent, None, 0, math.nan, "damaged")
            continue
        epochs, best = _progress(path.parent)
        state = "begun" if epochs == 0 else "stopped"
        state = "finished" if epochs >= config.num_epochs else state
        yield _Run(path.parent, config, epochs, best, state)


def _progress(run_dir: Path) -> tuple[int, float]:
    """Epochs done and the best return, by the last whole line of the metrics; NaN without one."""
    path = run_dir / METRICS_FILE
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in reversed(lines[-2:]):
        with suppress(ValueError, AttributeError, TypeError):
            row = json.loads(line)
            best = row.get("best_return")
            return int(row["epoch"]), math.nan if best is None else float(best)
    return 0, math.nan


def _table(found: Sequence[_Run]) -> str:
    """A line for each run, in columns; paths are whole however narrow the terminal is."""
    heads = ("run", "environment", "method", "seed", "epochs", "best return", "state")
    rows: list[tuple[str, ...]] = [heads]
    for entry in found:
        config = entry.config
        told = ("-", "-", "-", "-", "-")
        if config is not None:
            what = (str(config.env["id"]), str(config.algo.name), str(config.seed))
            told = (*what, f"{entry.epochs}/{config.num_epochs}", number(entry.best))
        rows.append((str(entry.folder), *told, entry.state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (map(str.ljust, row, widths) for row in rows)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)
