"""Checkpoints: written so that they are whole or not there, read without running code.

A file holds a dictionary of plain numbers, strings and tensors under torch.save's zip format. It is
read with ``weights_only=True``, after its checksums, which torch writes but does not look at: a bit
that has turned over in a weight would otherwise train on unseen.
"""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gippo.errors import TrainingFailedError, UserError
from gippo.files import reason, write_whole
from gippo.runs.folder import CHECKPOINTS

FORMAT = 1
_NEVER_NEGATIVE = {
    *("epoch", "env_steps", "wall_time", "step", "count", "variance", "exp_avg_sq"),
    *("num_diverged", "skipped", "skipped_in_a_row", "num_episodes", "running_length"),
}
_NAME = re.compile(r"epoch_(\d{6,})\.pt")

Checkpoint = dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one run: ``epoch_000100.pt``, ... and ``best.pt``."""

    def __init__(self, path: Path, keep_last: int) -> None:
        """Keep the newest `keep_last` numbered checkpoints, and the best, under `path`."""
        self.path = path
        self.keep_last = keep_last

    @property
    def best(self) -> Path:
        """Where the best policy lies."""
        return self.path / "best.pt"

    def epochs(self) -> dict[int, Path]:
        """Epoch -> file, newest first."""
        found = {
            int(match.group(1)): entry
            for entry in (self.path.iterdir() if self.path.is_dir() else ())
            if (match := _NAME.fullmatch(entry.name))
        }
        return dict(sorted(found.items(), reverse=True))

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a numbered checkpoint, then drop those older than the newest `keep_last`.

        What a killed process left half written goes with them.
        """
        path = self.path / f"epoch_{checkpoint['epoch']:06d}.pt"
        write(path, checkpoint)
        for old in [*list(self.epochs().values())[self.keep_last :], *self.path.glob(".*")]:
            old.unlink(missing_ok=True)
        return path

    def save_best(self, checkpoint: Checkpoint) -> Path:
        """Write the best policy's checkpoint."""
        write(self.best, checkpoint)
        return self.best

    def best_or_newest(self) -> Path:
        """The best policy's file; before any episode has ended, the newest.

        Raises:
            UserError: there is neither.
        """
        numbered = list(self.epochs().values())
        if not self.best.exists() and not numbered:
            raise UserError(f"no checkpoint in {self.path}")
        return self.best if self.best.exists() else numbered[0]

    def use_newest(self, use: Callable[[Checkpoint], None]) -> list[str]:
        """Hand `use` the newest checkpoint that can be read and that it takes.

        Args:
            use: raises UserError on a checkpoint that it cannot take.

        Returns:
            A line for each newer checkpoint that was passed over.

        Raises:
            UserError: there is none.
        """
        refused: list[str] = []
        for epoch, path in self.epochs().items():
            try:
                checkpoint = read(path)
            except UserError as error:
                refused.append(str(error))
                continue
            try:
                found = checkpoint.get("epoch")
                if type(found) is not int or found != epoch:
                    text = found if _kind(found) == "int" else _kind(found)
                    raise UserError(f"it is of epoch {text}")
                use(checkpoint)
                return refused
            except UserError as error:
                refused.append(f"checkpoint: {path}: {error}")
        raise UserError("; ".join(refused) or f"no checkpoint in {self.path}")


def checkpoint_of(run_dir: Path, choice: str) -> Path:
    """A run's checkpoint.

    Args:
        run_dir: the run.
        choice: "best" (before any episode has ended, the newest), "newest", or a path.

    Raises:
        UserError: there is none.
    """
    if not isinstance(choice, (str, os.PathLike)):
        raise UserError(f"checkpoint: {choice!r} given, 'best', 'newest' or a file's path accepted")
    folder = CheckpointFolder(run_dir / CHECKPOINTS, keep_last=1)
    if choice == "best":
        return folder.best_or_newest()
    if choice != "newest":
        return Path(choice)
    numbered = list(folder.epochs().values())
    if not numbered:
        raise UserError(f"run_dir: no checkpoint in {folder.path}")
    return numbered[0]


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, whole or not at all.

    Raises:
        TrainingFailedError: the folder cannot be written to, or the disk is full.
    """
    content = io.BytesIO()  # torch's own words on a full disk do not say so
    torch.save({"format": FORMAT, **checkpoint}, content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.getvalue())
    except OSError as error:
        raise TrainingFailedError(
            f"checkpoint: {path} cannot be written ({reason(error)})"
        ) from error


def read(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, executing nothing from it.

    Raises:
        UserError: not there, damaged, not a checkpoint of this program, or of another format.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"checkpoint: {path} does not exist") from None
    except OSError as error:
        raise UserError(f"checkpoint: {path} cannot be read ({reason(error)})") from error
    checkpoint = _unpack(path, content)
    if not isinstance(checkpoint, dict) or "format" not in checkpoint:
        raise UserError(f"checkpoint: {path} is not one of gippo's")
    found = checkpoint["format"]
    if type(found) is not int or found != FORMAT:
        text = found if _kind(found) == "int" else _kind(found)
        raise UserError(f"checkpoint: {path} has format {text}, this release reads {FORMAT}")
    if not isinstance(checkpoint.get("learner"), dict):
        raise UserError(f"checkpoint: {path} holds no learner")
    return checkpoint


def difference(given: Any, expected: Any, name: str) -> str | None:
    """What keeps `given` from taking the place of `expected`, None if nothing does.

    Both are trees of dictionaries with tensors, numbers and strings as leaves. They must agree in
    names, types, and the tensors' shapes; a whole number may stand for a real one.

    Args:
        given: what was read.
        expected: what a state of the kind looks like.
        name: of `given`, for the answer.
    """
    if isinstance(expected, dict) and isinstance(given, dict):
        if given.keys() != expected.keys():
            odd = sorted(map(str, given.keys() ^ expected.keys()))
            return f"{name}: {odd[0]!r} is {'unknown' if odd[0] in given else 'missing'}"
        parts = (difference(given[key], expected[key], f"{name}.{key}") for key in expected)
        return next((part for part in parts if part is not None), None)
    found, accepted = _kind(given), _kind(expected)
    if found == accepted or (found, accepted) == ("int", "float"):
        return None
    return f"{name}: {found} given, {accepted} accepted"


def unsound(tree: Any, name: str) -> str | None:
    """The first number in a checkpoint that no training leaves there; None if there is none.

    Numbers are finite, but for those that are unknown before an episode has ended or after a window
    that diverged, and the return of an episode that is diverging. Variances, counts and times are
    not below zero.

    Args:
        tree: dictionaries and lists with tensors, numbers and strings as leaves.
        name: of `tree`, for the answer.
    """
    if isinstance(tree, dict):
        parts = (unsound(value, f"{name}.{key}") for key, value in tree.items())
        return next((part for part in parts if part is not None), None)
    if isinstance(tree, list):
        return next((found for part in tree if (found := unsound(part, name))), None)
    key = name.rpartition(".")[2]
    if type(tree) not in (int, float, torch.Tensor) or key == "running_return":
        return None
    values = tree if isinstance(tree, torch.Tensor) else torch.tensor(float(tree))
    if not values.is_floating_point():
        return None
    known = torch.isfinite(values)
    if (type(tree) is float and ".episodes." in name) or key == "last":
        known |= torch.isnan(values)
    elif key == "best_return":
        known |= values == -math.inf
    if not bool(known.all()):
        return f"{name} is {values[~known][0].item()}"
    if key in _NEVER_NEGATIVE and bool((values < 0.0).any()):
        return f"{name} is {values.min().item()}"
    return None


def _kind(value: Any) -> str:
    if type(value) is torch.Tensor:
        layout = "" if value.layout is torch.strided else f" {value.layout}"
        return f"a{layout} tensor {tuple(value.shape)} of {value.dtype}"
    if type(value) is int and abs(value) >= 2**63:
        return "an int beyond 64 bits"
    return type(value).__name__


def _unpack(path: Path, content: bytes) -> Any:
    """What torch.save packed.

    Raises:
        UserError: it is not that, or damaged.
    """
    damaged = UserError(f"checkpoint: {path} is damaged or foreign")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            # torch compresses nothing: what would unpack to more than the file is no checkpoint.
            inflated = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
            if inflated or sum(part.file_size for part in parts) > len(content):
                raise damaged
            if archive.testzip() is not None:
                raise damaged
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # Whatever a hostile or torn file makes these readers raise says the same about the file.
    except Exception as error:
        raise damaged from error
