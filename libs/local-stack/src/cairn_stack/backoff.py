"""When to start again what has ended, and when to call it a crash loop."""

from __future__ import annotations

from dataclasses import dataclass

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 10.0
_STEADY = 10.0  # seconds ready after which an end is news, not part of a series
_LOOP = 3  # lives in a row that never got ready: a coincidence no longer


@dataclass(slots=True)
class Lives:
    """The history of one process that is started again and again."""

    restarts: int = 0
    in_a_row: int = 0
    never_ready_in_a_row: int = 0

    def ended(self, ready_for: float | None) -> float:
        """Note an end after `ready_for` seconds of being ready (None: never); return the seconds to wait."""
        self.restarts += 1
        self.in_a_row = 1 if ready_for is not None and ready_for > _STEADY else self.in_a_row + 1
        self.never_ready_in_a_row = self.never_ready_in_a_row + 1 if ready_for is None else 0
        return min(_FIRST_DELAY * 2.0 ** (self.in_a_row - 1), _LONGEST_DELAY)

    @property
    def looping(self) -> bool:
        """Whether it ends again and again before it is ever ready."""
        return self.never_ready_in_a_row >= _LOOP
