"""The trained policies that come with gippo, taken from runs, and the table about them.

Usage: python benchmarks/policies.py [NAME=RUN ...]

Puts the best policy of each RUN, with its observation normaliser and configuration, into
results/policies/NAME as a run's folder of its own, without what training alone needs (the critic,
Adam's moments). Then evaluates every policy there, 100 episodes by its mean, and writes the table
in results/policies/README.md anew, between its two marks.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from gippo.configuration.policies import policies_dir, trained_policies
from gippo.configuration.run_config import CONFIG_FILE, load_config, own_inputs, save_config
from gippo.environment import use_threads
from gippo.errors import UserError
from gippo.runs.checkpoint import CHECKPOINTS, checkpoint_of, read, write
from gippo.runs.evaluation import evaluate

MARKS = ("<!-- table -->\n", "<!-- end of table -->\n")
KEPT = ("actor", "obs_statistics")


def take(name: str, run_dir: Path) -> None:
    config, folder = load_config(run_dir), policies_dir() / name
    if own_inputs(config, run_dir):
        raise UserError(f"{run_dir}: made with files of its own, which would have to come along")
    checkpoint = read(checkpoint_of(run_dir, "best"))
    learner = {key: checkpoint["learner"][key] for key in KEPT}
    told = {key: checkpoint[key] for key in ("epoch", "best_return")}
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    write(folder / CHECKPOINTS / "best.pt", {**told, "learner": learner})
    config.run_dir, config.from_run, config.resume = None, None, False
    save_config(config, folder / CONFIG_FILE)


def row(name: str, folder: Path) -> str:
    config, checkpoint = load_config(folder), read(checkpoint_of(folder, "best"))
    found = evaluate(folder)
    half = found.interval[1] - found.mean
    digits = max(0, 3 - math.ceil(math.log10(abs(found.mean)))) if found.mean else 0
    return (
        f"| `{name}` | `{config.env['id']}` | {config.algo.name} | {config.seed} | "
        f"{checkpoint['epoch']} of {config.num_epochs} | {checkpoint['best_return']:.{digits}f} | "
        f"{found.mean:.{digits}f} ± {half:.{digits}f} | {sum(found.lengths) / 100:.0f} |\n"
    )


def main() -> int:
    use_threads(1)
    for argument in sys.argv[1:]:
        name, _, run_dir = argument.partition("=")
        take(name, Path(run_dir))
    page = policies_dir() / "README.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    head = (
        "| `policy=` | environment | method | seed | epoch of | score in training | "
        "return, 100 episodes | steps |\n|---|---|---|---|---|---|---|---|\n"
    )
    rows = [row(name, folder) for name, folder in trained_policies().items()]
    page.write_text(f"{before}{MARKS[0]}{head}{''.join(rows)}{MARKS[1]}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
