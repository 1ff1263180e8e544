"""Fewer, fuller batches: a loop that has just run lets more work gather before it runs again."""

from __future__ import annotations

import asyncio

SHORTEST = 0.03
"""Seconds from one batch to the next: the first event of a quiet time is handled at once, a stream of them in
batches. Three hops of this stay far below the second that the design allows from an event to its last effect."""


class Pace:
    """Keeps the beginnings of batches apart."""

    def __init__(self, apart: float = SHORTEST) -> None:
        self._apart = apart
        self._began = float("-inf")

    async def keep(self) -> None:
        """Return when the next batch may begin."""
        loop = asyncio.get_running_loop()
        early = self._began + self._apart - loop.time()
        if early > 0:
            await asyncio.sleep(early)
        self._began = loop.time()
