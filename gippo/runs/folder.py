"""What lies in a run's folder, by name, and what of it keeps another run out; needs no torch."""

from __future__ import annotations

import os
from pathlib import Path

from gippo.configuration.run_config import CONFIG_FILE, INPUTS
from gippo.files import reason

METRICS_FILE = "metrics.jsonl"
CSV_FILE = "metrics.csv"
"""The same numbers, with ``logger=[csv]``."""
IDS_FILE = "loggers.json"
"""Service -> the run's name there, by which it goes on with the same one."""
CHECKPOINTS = "checkpoints"
CHANGES_FILE = "changes.jsonl"
"""What differs from the run that this one was started from, and epochs added later."""
_BEFORE_AN_EPOCH = {
    *(CONFIG_FILE, METRICS_FILE, CHECKPOINTS, INPUTS, CHANGES_FILE),
    *("tensorboard", ".hydra", CSV_FILE, IDS_FILE, "wandb"),
}
"""What may lie in a folder where a run has begun and done nothing."""


def in_the_way(run_dir: Path) -> str | None:
    """What is to be said of something that lies where a new run would; None: nothing does."""
    try:
        if run_dir.exists() and not run_dir.is_dir():
            return f"run_dir: {str(run_dir)!r} is a file, a folder accepted"
        names = {path.name for path in run_dir.iterdir()} if run_dir.exists() else set()
        occupied = bool(names)
        if names <= _BEFORE_AN_EPOCH and METRICS_FILE in names:  # given up or killed before one
            kept = run_dir / CHECKPOINTS
            empty = (run_dir / METRICS_FILE).stat().st_size == 0
            occupied = not empty or (kept.exists() and any(kept.iterdir()))
        place = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
    except (OSError, ValueError) as error:  # too long, not allowed, or with a null byte
        return f"run_dir: {str(run_dir)!r}: {reason(error)}"
    if not os.access(place, os.W_OK | os.X_OK):
        return f"run_dir: {str(run_dir)!r}: {str(place)!r} cannot be written to"
    if not occupied:
        return None
    return (
        f"run_dir: {str(run_dir)!r} is not empty; resume=true goes on with the run in it, "
        "another run_dir starts a new one"
    )
