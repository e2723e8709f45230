"""Where a run comes from, if it is not new, and what was changed about it: ``changes.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gippo.configuration.derived import changes_from, run_of
from gippo.configuration.run_config import TrainConfig, load_config
from gippo.errors import TrainingFailedError, UserError
from gippo.files import reason
from gippo.learner import Learner
from gippo.runs.checkpoint import checkpoint_of, difference, read, unsound
from gippo.runs.folder import CHANGES_FILE
from gippo.runs.inputs import kept_origin

_POLICY = ("actor", "obs_statistics")
_CRITIC = ("network", "target", "statistics")


def origin_of(config: TrainConfig, run_dir: Path) -> Path | None:
    """The checkpoint that a run starts with: the copy in its folder, if it has begun; or None."""
    if config.from_run is None:
        return None
    kept = kept_origin(run_dir)
    if config.resume:
        return kept
    named = Path(config.from_run).expanduser()
    source = run_of(config.from_run)
    return checkpoint_of(source, "best") if named == source else named


def start_from(learner: Learner, checkpoint: Path) -> list[str]:
    """Give a new learner the networks and normalisers of a checkpoint; all else stays as new.

    Returns:
        A line if the critic does not fit, and is a new one.

    Raises:
        UserError: the checkpoint cannot be read, or its policy does not fit; nothing has changed.
    """
    given, state = read(checkpoint)["learner"], learner.state_dict()
    policy = {name: given.get(name) for name in _POLICY}
    problem = difference(policy, {name: state[name] for name in _POLICY}, "learner")
    problem = problem or unsound(policy, "learner")
    if problem is not None:
        raise UserError(f"from: the policy in {checkpoint} does not fit this run ({problem})")
    critic = given.get("critic")
    critic = {name: critic.get(name) for name in _CRITIC} if isinstance(critic, dict) else {}
    wanted = {name: state["critic"].get(name) for name in _CRITIC}
    fits = difference(critic, wanted, "critic") is None and unsound(critic, "critic") is None
    if fits:
        state["critic"] |= critic
    learner.load_state_dict({**state, **policy})
    return [] if fits else [f"{checkpoint}: its critic does not fit; a new one is trained"]


def describe_origin(config: TrainConfig, checkpoint: Path) -> dict[str, Any]:
    """What `note_change` is to say of a run that starts from another's checkpoint."""
    assert config.from_run is not None
    changed = changes_from(load_config(run_of(config.from_run)), config)
    epoch = read(checkpoint).get("epoch")
    return {"epoch": 0, "from": str(checkpoint), "from_epoch": epoch, "changed": changed}


def note_change(run_dir: Path, change: Mapping[str, Any]) -> None:
    """Add a line to a run's changes.

    Raises:
        TrainingFailedError: it cannot be written.
    """
    path = run_dir / CHANGES_FILE
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(change) + "\n")
    except OSError as error:
        raise TrainingFailedError(f"{path} cannot be written ({reason(error)})") from error


def note_more_epochs(config: TrainConfig, run_dir: Path, epoch: int) -> None:
    """Record that a run, which stands at `epoch`, goes on for longer than it was to."""
    before = load_config(run_dir).num_epochs
    if before != config.num_epochs:
        changed = {"num_epochs": [before, config.num_epochs]}
        note_change(run_dir, {"epoch": epoch, "changed": changed})


def told(change: Mapping[str, Any]) -> str:
    """A change in a line for the terminal; what only one method or environment has is left out."""
    changed = change["changed"]
    other = {key.partition(".")[0] for key in ("algo.name", "env.id") if key in changed}
    values = [
        f"{key} {was} -> {now}"
        for key, (was, now) in changed.items()
        if key.partition(".")[0] not in other or None not in (was, now)
    ]
    what = ", ".join(values) or "nothing changed"
    return f"from {change['from']}, epoch {change['from_epoch']}: {what}"
