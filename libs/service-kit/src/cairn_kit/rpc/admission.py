"""How many calls a service takes on at once: as many as it can answer in bearable time.

A fixed limit is a guess about a machine: too high, and every call that is admitted waits for all the others; too low,
and a fast machine refuses what it could do. Here the limit follows what is measured: by Little's law a call takes as
long as there are calls in flight for each that is answered in a second.
"""

from __future__ import annotations

LEAST = 64
"""Calls at once that are always taken on; with fewer in flight the rate says how many came, not how many could have."""

_WINDOW = 0.5  # seconds over which the rate is counted
_NEWEST = 0.5  # the share of the newest window in what is believed


class Room:
    """Counts the calls in flight and says whether there is room for one more: for calls that last as long as they like."""

    __slots__ = ("in_flight", "limit")

    def __init__(self, most: int) -> None:
        self.in_flight = 0
        self.limit = most
        """How many may be in flight."""

    def enter(self) -> bool:
        """Take one more call on, if there is room."""
        if self.in_flight >= self.limit:
            return False
        self.in_flight += 1
        return True

    def leave(self, now: float) -> None:
        """A call was answered, at this second of one clock."""
        self.in_flight -= 1


class Admission(Room):
    """The same for calls that are to be answered, with a limit that follows how many are answered in a second."""

    __slots__ = ("_answered", "_busy", "_longest", "_most", "_rate", "_since")

    def __init__(self, most: int, longest_wait: float, now: float) -> None:
        super().__init__(most)
        self._most = most
        self._longest = longest_wait
        self._since = now
        self._answered = 0
        self._busy = False
        self._rate = 0.0

    def leave(self, now: float) -> None:
        super().leave(now)
        self._answered += 1
        self._busy = self._busy and self.in_flight >= min(LEAST, self._most) // 2
        if now - self._since >= _WINDOW:
            self._learn(self._answered / (now - self._since))
            self._since, self._answered = now, 0
            self._busy = self.in_flight >= min(LEAST, self._most) // 2

    def _learn(self, rate: float) -> None:
        if not self._busy:
            return
        self._rate = _NEWEST * rate + (1.0 - _NEWEST) * self._rate if self._rate else rate
        self.limit = min(max(round(self._rate * self._longest), LEAST), self._most)
