"""Steps that diverged and updates that had to be skipped, counted until training is given up."""

from __future__ import annotations

import logging
from typing import Any

from gippo.updates.window import Window, nonfinite_input

_log = logging.getLogger(__name__)


class NonFiniteError(RuntimeError):
    """Too many updates in a row had to be skipped for non-finite numbers."""


class Failures:
    """What has not been finite in a training so far."""

    def __init__(self, max_skipped: int) -> None:
        """Begin with none.

        Args:
            max_skipped: updates in a row that may be skipped.
        """
        self._max_skipped = max_skipped
        self.num_diverged = 0
        """Steps that diverged, over all environments."""
        self.skipped = 0
        """Updates that were skipped."""
        self._in_a_row = 0

    def count_diverged(self, diverged: int, steps: int, epoch: int) -> None:
        """Count a window's diverged steps.

        A GPU, which nobody asks whether actions are finite, shows here that they were not.

        Raises:
            NonFiniteError: `diverged` is all of its `steps`.
        """
        self.num_diverged += diverged
        if diverged == steps:
            raise NonFiniteError(
                f"epoch {epoch}: every step of the window diverged: in all environments the "
                "actions or the states after them are not finite, or beyond their bounds"
            )

    def count_skipped(self, problems: list[str | None], window: Window, epoch: int) -> None:
        """Count an epoch's update if there is a sentence on why it was skipped, and log that.

        Raises:
            NonFiniteError: more than `max_skipped` have been skipped in a row.
        """
        present = [problem for problem in problems if problem is not None]
        if not present:
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        text = f"epoch {epoch}: {' and '.join(present)}"
        name = nonfinite_input(window)
        if name is not None:
            text += f" (the window's {name} is not finite)"
        text += "; the update was skipped and the last good one restored"
        if self._in_a_row > self._max_skipped:
            raise NonFiniteError(f"{text}, {self._in_a_row} times in a row")
        _log.warning(text)

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {
            "num_diverged": self.num_diverged,
            "skipped": self.skipped,
            "skipped_in_a_row": self._in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self.num_diverged = int(state["num_diverged"])
        self.skipped = int(state["skipped"])
        self._in_a_row = int(state["skipped_in_a_row"])
