"""When windows turn out worse than those before, for so long that it is no chance.

The slopes that RP finds know nothing of what ends an episode; this is made of rewards. Two things
must have sunk, as either alone may without cause:

- *Windows lose.* A window's mean advantage less that of the window before, both by one critic, is
  what the policy has won between the two: the means of r + gamma V(s') - V(s) under two policies
  differ as their returns do, whatever V is (Kakade & Langford 2002, lemma 6.1). It is one step's
  gain, beside which a window's noise is large.
- *Values sink.* The same, and how much more the critic, fit to the window before, has come to think
  of that window's states: a critic follows for many windows, so that its loss adds up. By itself it
  would tell of a critic as well that only learns how little a policy is worth that has always been
  so, as at the start.
"""

from __future__ import annotations

import math
from typing import Any

SLACK = 0.15
"""Least loss of a window that counts, in standard deviations of advantages."""
ERRORS = 0.85
"""The same in standard errors of the difference between two windows."""
LEAST = 1.0
"""What windows must have lost, in standard deviations of advantages, by so many environments that
`SLACK` is their slack; by fewer as much more as that is more."""
PROOF = 10
"""Windows after which a policy may be one to go back to. Losses are told some windows after they
began: the last policy before them is on its way there."""
_MOST = 1.0
"""Gain or loss that one window can count as, in standard deviations of advantages."""


class Setbacks:
    """Page's cumulative sums of losses (1954): an alarm, and since when there is cause for it.

    A sum falls by what is lost beyond a slack, rises by what is won and is 0 at most. Where that of
    the values is 0 no window before was better: that is the best of late. Its advantages' standard
    deviation is the unit of what comes, so that losses which make advantages vary more weigh no
    less. One policy at a time is on trial: it is `proven` where that sum is 0 and `PROOF` windows
    have come since.
    """

    def __init__(self, limit: float) -> None:
        """Begin.

        Args:
            limit: that values must have sunk by.
        """
        self._limit = limit
        self.windows = 0.0
        """Sum of what windows have lost."""
        self.values = 0.0
        """Sum of that and of how far values have sunk."""
        self.proven = False
        """Whether this window proves the policy on trial; then the next one's trial begins."""
        self._age = 0
        """Windows since a trial began."""
        self._unit = 0.0

    def update(self, gain: float, rise: float, deviation: float, num_envs: int) -> bool:
        """Take in a window.

        Args:
            gain: its mean advantage less the last one's by the same critic, in units of the reward.
            rise: the same, and what the critic that was fit to the last one adds to its values.
                Where either is NaN nothing changes.
            deviation: its advantages' standard deviation.
            num_envs: whose samples are independent of each other; each one's own are not.

        Returns:
            Whether this is the alarm, after which the sums and a trial begin anew.
        """
        self.proven = False
        if math.isnan(gain + rise):
            self._unit = self._unit or deviation
            return False
        self._age += 1
        slack = max(SLACK, ERRORS * math.sqrt(2.0 / num_envs))
        self.windows = min(self.windows + self._worth(gain) + slack, 0.0)
        self.values = min(self.values + self._worth(rise) + slack, 0.0)
        if self.values == 0.0:
            self._unit = deviation
        alarm = self.values < -self._limit and self.windows < -LEAST * slack / SLACK
        self.proven = not alarm and self.values == 0.0 and self._age >= PROOF
        if alarm:
            self.windows = self.values = 0.0
        if alarm or self.proven:
            self._age = 0
        return alarm

    def _worth(self, gain: float) -> float:
        if self._unit == 0.0:
            return float((gain > 0.0) - (gain < 0.0))
        return min(max(gain / self._unit, -_MOST), _MOST)

    def state_dict(self) -> dict[str, Any]:
        """The sums, their unit and the trial's age."""
        sums = {"windows": self.windows, "values": self.values, "unit": self._unit}
        return sums | {"age": self._age}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self.windows, self.values = float(state["windows"]), float(state["values"])
        self._unit, self._age = float(state["unit"]), int(state["age"])
