"""`gippo reproduce`."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

from gippo.configuration.compose import configure
from gippo.errors import UserError
from gippo.studies.reproduction.paper import EXPERIMENTS, METHODS
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError, check_integer, near_matches

HELP = """\
gippo reproduce: run the paper's experiments and set their numbers beside the paper's.

Usage: gippo reproduce NAME [key=value ...]

Experiments:
  table1, figure2      De Jong's and Ackley's function in 1 and 64 dimensions
  figure1              alpha-policies of the functions in one dimension; trains nothing
  figure3              Cartpole, Ant, Hopper
  figure4              the pace-car problem on 1, 2, 4 and 10 lanes
  table2               the cost of an epoch of each method on the same, side by side
  figure5              variance of the gradients beside the determinant, with alpha fixed
  figure6              alpha and its criteria on the functions in 64 dimensions
  figure7              the same on the Ant, with out-of-range ratios up to 0.5 and to 1
  ladder               all methods, gippo_adaptive beside the best of the others, on all problems;
                       the Ant in windows of 16 steps

Trains what is missing, a run per core at a time, each on one thread. A run that is there already
is used if its whole configuration and the code that makes its numbers (learner, method,
environments, kernels, assets; not comments) are the same. Ctrl-C or SIGTERM saves the runs under
way, and the same command goes on with them. A run that was given up for numbers that are not finite
counts with what it reached, and is listed.

Keys:
{keys}

  Options may also be written --seeds 3.

Files in out/NAME, or out/NAME_shortened with a budget: README.md, which tells all there is to know;
the figure; scores and curves as csv; the configuration of every setting; environment.json.

Examples:
  gippo reproduce table1
  gippo reproduce figure3 problems=[cartpole] methods=[gippo,ppo] seeds=3
  gippo reproduce table1 --seeds 1 --budget 200
  gippo reproduce ladder seeds=3 first_seed=3 problems=[cartpole,dejong64]"""

NAMES = (*sorted([*EXPERIMENTS, "figure1", "table2", "figure5", "figure6", "figure7"]),)


@dataclass
class ReproduceConfig:
    """What to run, and how."""

    seeds: int | None = None
    """Runs of each setting, with seeds first_seed, first_seed + 1, ...; null: five as in the paper,
    one for figures 5 to 7, which show single runs."""
    first_seed: int = 0
    """The first of them: seeds that nothing was tuned on begin behind those that it was."""
    budget: int | None = None
    """Epochs of a run at most (table2: epochs timed); its results say that they are shortened."""
    problems: list[str] | None = None
    """Some of the experiment's environments; null: all."""
    methods: list[str] | None = None
    """Any of lr, rp, ppo, lr_rp, pe, gippo, gippo_adaptive; null: the experiment's."""
    jobs: int | None = None
    """Runs at a time; null: one per core."""
    runs_dir: str = "runs/reproduce"
    """Where the runs lie."""
    out: str = "results"
    """Where the results go."""
    device: str = "cpu"
    """cpu or cuda."""
    any_code: bool = False
    """Use runs of other versions of the code as well where this one has none; the page tells."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        for name in ("seeds", "budget", "jobs"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 1)
        check_integer("first_seed", self.first_seed, 0)
        for method in self.methods or []:
            if method not in METHODS:
                raise ArgumentError(
                    "methods",
                    repr(method),
                    f"any of {list(METHODS)}",
                    near_matches(method, METHODS),
                )


def help_text() -> str:
    """What `gippo reproduce --help` prints."""
    return HELP.format(keys=describe_keys(ReproduceConfig))


def run(arguments: Sequence[str]) -> int:
    """Reproduce as the arguments say."""
    name, *rest = arguments or [""]
    if name not in NAMES:
        raise UserError(f"{name!r}: one of {', '.join(NAMES)} expected{near_matches(name, NAMES)}")
    settings = configure("reproduce", ReproduceConfig, _as_overrides(rest))
    from gippo.studies.reproduction.experiments import reproduce  # matplotlib, scipy, torch

    former = signal.signal(signal.SIGTERM, _terminate)
    try:
        reproduce(name, arguments, settings, make_console())
    finally:
        signal.signal(signal.SIGTERM, former)
    return 0


def _as_overrides(arguments: Sequence[str]) -> list[str]:
    """``--seeds 3`` and ``--seeds=3`` as ``seeds=3``."""
    overrides, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument.startswith("--"):
            key, separator, value = argument[2:].partition("=")
            if not separator and not rest:
                raise UserError(f"{argument}: a value expected, as {argument} 3")
            argument = f"{key}={value if separator else rest.pop(0)}"
        overrides.append(argument)
    return overrides


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
