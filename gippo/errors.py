"""The error that a user can mend: shown as one line, without a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake on the command line, in a configuration or in a file; the message says which.

    The command line prints the message alone and leaves with status 2.
    """


class TrainingFailedError(RuntimeError):
    """A run was given up; the message says why. The command line leaves with status 1."""


class StoppedError(RuntimeError):
    """A signal has stopped a sweep, everything saved. The command line leaves with its status."""

    def __init__(self, status: int) -> None:
        """Leave with `status`, 128 plus the signal's number."""
        super().__init__(status)
        self.status = status


def is_out_of_memory(error: Exception) -> bool:
    """Whether numpy, torch or Warp, each in its own way, could not get the memory they wanted."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "allocate" in said)
    )
