"""How late answers are heard of: what is handed out must not run away from what is taken in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from cairn_kit.events import Received

_REMEMBERED = 5.0
"""Seconds after which no answer came any more, or none is taken in."""


class AnswersHeard:
    """The answers of the last batch that held some."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._late = 0.0
        self._until = float("-inf")

    def hear(self, answers: Sequence[Received[Any]]) -> None:
        """Answers are being taken in."""
        oldest = min(answer.time for answer in answers)
        self._late = (datetime.now(UTC) - oldest).total_seconds()
        self._until = self._clock() + _REMEMBERED

    @property
    def late(self) -> float:
        """Seconds from the oldest answer to its being heard of; 0 when none was heard of lately."""
        return self._late if self._clock() < self._until else 0.0
