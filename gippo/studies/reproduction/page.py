"""The page of an experiment's results: what was run, by what, what came out, what failed."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from gippo import __version__
from gippo.configuration.run_config import to_omegaconf
from gippo.studies.bench import machine
from gippo.studies.reproduction.runs import Run

_PACKAGES = ("torch", "warp-lang", "numpy", "gymnasium", "usd-core", "scipy")


def origin(device: str) -> dict[str, object]:
    """The code, the libraries and the machine that made the results."""
    return {
        "gippo": __version__,
        "commit": _commit(),
        "machine": {"system": f"{platform.system()} {platform.machine()}", **machine(device)},
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def _commit() -> str:
    """The checkout's commit, marked if files of it have changed, results left aside."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("diff", "--name-only", "HEAD", "--", ":(top)", ":(top,exclude)results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def write_origin(facts: dict[str, object], folder: Path) -> None:
    """environment.json."""
    text = json.dumps(facts, indent=2) + "\n"
    (folder / "environment.json").write_text(text, encoding="utf-8")


def write_configs(runs: Sequence[Run], folder: Path) -> None:
    """configs/: the resolved configuration of every setting; seeds share it."""
    folder = folder / "configs"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.yaml"):
        old.unlink()
    for run in runs:
        name = "_".join([run.env, run.method, *(v.replace("=", "") for v in run.variant)])
        text = OmegaConf.to_yaml(to_omegaconf(run.config))
        kept = [line for line in text.splitlines() if not line.startswith(("seed:", "run_dir:"))]
        (folder / f"{name}.yaml").write_text("\n".join(kept) + "\n", encoding="utf-8")


def write_page(
    folder: Path,
    *,
    title: str,
    command: str,
    facts: dict[str, object],
    runs: Sequence[Run],
    shortened: str,
    sections: Sequence[str],
    notes: Sequence[str],
) -> None:
    """README.md of a results folder; `sections` are Markdown, in order."""
    machine_facts = facts["machine"]
    assert isinstance(machine_facts, dict)
    parts = [f"# {title}", f"    {command}"]
    if shortened:
        parts.append(f"**{shortened}.** These are no results to compare with the paper's.")
    parts += sections
    parts.append("## How it was made")
    made = [
        f"- gippo {facts['gippo']}, commit {facts['commit']}, {facts['date']}; "
        f"{machine_facts['device']}, {machine_facts['cores']} cores; libraries in "
        "environment.json.",
    ]
    if runs:
        seeds = sorted({run.seed for run in runs})
        made += [
            f"- Seeds {', '.join(map(str, seeds))}; none was chosen, and nothing is set per seed. "
            "Every setting's resolved configuration is in configs/, every run in runs.csv.",
            "- A score is the highest mean return of about the last 100 training episodes "
            "(stochastic policy), as in the paper.",
            f"- Code versions of the runs: {', '.join(sorted({run.code for run in runs}))} (a hash "
            "of learner, method, environments, kernels and assets without their comments).",
        ]
    parts.append("\n".join([*made, *(f"- {note}" for note in notes)]))
    if runs:
        parts.append(_failures(runs))
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _failures(runs: Sequence[Run]) -> str:
    failed = [run for run in runs if run.failure is not None]
    lines = [
        f"- {run.name}: given up after epoch {run.epochs_done} of {run.config.num_epochs}; its "
        f"score until then counts. {run.failure}"
        for run in failed
    ]
    return "## Failures\n\n" + ("\n".join(lines) or "No run was given up.")
