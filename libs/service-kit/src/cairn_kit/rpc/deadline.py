"""The caller's time, carried to whoever works for the caller."""

from __future__ import annotations

import time
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("cairn_deadline", default=None)


def set_deadline(seconds_left: float | None) -> None:
    """The work of this context must be done in so many seconds; None means that nobody waits."""
    _deadline.set(None if seconds_left is None else time.monotonic() + seconds_left)


def remaining() -> float | None:
    """Seconds left of the caller's time, or None when there is no limit."""
    deadline = _deadline.get()
    return None if deadline is None else deadline - time.monotonic()
