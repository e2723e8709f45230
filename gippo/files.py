"""Files that are whole or not there, and folders that one process at a time writes to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from gippo.errors import UserError


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path`: written beside it, flushed to the disk, renamed into its place.

    A process killed at any moment, or a disk that is full, leaves the former file.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = unfinished_name(path)
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(path.parent)


def check_place(key: str, path: Path) -> None:
    """Raise UserError unless a file can be put at `path`, as far as that shows before it is made.

    Args:
        key: what the user calls it.
        path: of the file.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UserError(f"{key}: the folder of {str(path)!r} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{key}: the folder of {str(path)!r} cannot be written to")


def unfinished_name(path: Path) -> Path:
    """Where a file lies until it is whole."""
    return path.with_name(f".{path.name}.unfinished")


def reason(error: Exception) -> str:
    """Why the system refused, in its words and one line."""
    text = getattr(error, "strerror", None) or str(error)
    return (text.splitlines() or [type(error).__name__])[0]


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep `folder` from all others that ask for it until the block ends, or the process does.

    Where the system has no such locks (Windows, some network drives) nothing is kept.

    Raises:
        UserError: another process has it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(
                    f"run_dir: another process is training in {str(folder)!r}; wait for it or "
                    "stop it, or choose another run_dir"
                ) from error
        yield
    finally:
        os.close(handle)


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
