"""How late answers are heard of: what is handed out must not run away from what is taken in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from cairn_kit.events import Received

_REMEMBERED, _LONGEST_REMEMBERED = 5.0, 60.0
"""Seconds without answers after which there are none: more the later they were, for other events may come between them."""


class AnswersHeard:
    """The answers of the last batch that held some."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._late = 0.0
        self._until = float("-inf")

    def hear(self, answers: Sequence[Received[Any]]) -> None:
        """Answers are being taken in."""
        middle = sorted(answer.time for answer in answers)[(len(answers) - 1) // 2]
        self._late = (datetime.now(UTC) - middle).total_seconds()
        self._until = self._clock() + min(max(self._late, _REMEMBERED), _LONGEST_REMEMBERED)

    @property
    def late(self) -> float:
        """Seconds until half of the answers were heard of; 0 when there were none lately. By the clocks of two services."""
        return self._late if self._clock() < self._until else 0.0
