"""Checkpoints: written so that they are whole or not there, read without running code.

A file holds a dictionary of plain numbers, strings and tensors under torch.save's zip format, and
is loaded with ``weights_only=True``. It is written beside its place, flushed to the disk and
renamed into it, so a process killed at any moment leaves the former file or the new one.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from gippo.errors import TrainingFailedError, UserError

FORMAT = 1
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
        """Write a numbered checkpoint, then drop those older than the newest `keep_last`."""
        path = self.path / f"epoch_{checkpoint['epoch']:06d}.pt"
        write(path, checkpoint)
        for old in list(self.epochs().values())[self.keep_last :]:
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

    def newest(self) -> tuple[Checkpoint, list[str]]:
        """The newest checkpoint that can be read, and a line for each newer one that cannot.

        Raises:
            UserError: there is none.
        """
        refused: list[str] = []
        for path in self.epochs().values():
            try:
                return read(path), refused
            except UserError as error:
                refused.append(str(error))
        raise UserError("; ".join(refused) or f"no checkpoint in {self.path}")


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, whole or not at all.

    Raises:
        TrainingFailedError: the folder cannot be written to, or the disk is full.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("wb") as file:
                torch.save({"format": FORMAT, **checkpoint}, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as the latter
        reason = _first_line(error)
        raise TrainingFailedError(f"checkpoint: {path} cannot be written ({reason})") from error
    _sync_folder(path.parent)


def read(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, executing nothing from it.

    Raises:
        UserError: not there, damaged, not a checkpoint of this program, or of another format.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"checkpoint: {path} does not exist") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"checkpoint: {path} cannot be read ({_first_line(error)})") from error
    except (pickle.UnpicklingError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise UserError(f"checkpoint: {path} is damaged or foreign") from error
    if not isinstance(checkpoint, dict) or "format" not in checkpoint:
        raise UserError(f"checkpoint: {path} is not one of gippo's")
    if checkpoint["format"] != FORMAT:
        raise UserError(
            f"checkpoint: {path} has format {checkpoint['format']!r}, this release reads {FORMAT}"
        )
    return checkpoint


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _sync_folder(path: Path) -> None:
    """Make a rename durable; systems that cannot open a folder do without."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
