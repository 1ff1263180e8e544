"""Waiting for a condition that others bring about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

_FIRST_LOOK = 0.03
_SLOWEST_LOOK = 0.25


async def until(look: Callable[[], Awaitable[int]], enough: Callable[[int], bool], patience: float) -> bool:
    """Look again and again, ever more slowly, until it is enough; False after `patience` seconds without a
    change."""
    delay = _FIRST_LOOK
    seen = await look()
    changed_at = time.monotonic()
    while not enough(seen):
        if time.monotonic() - changed_at > patience:
            return False
        await asyncio.sleep(delay)
        delay = min(_SLOWEST_LOOK, delay * 1.4)
        now = await look()
        if now != seen:
            seen, changed_at = now, time.monotonic()
    return True
