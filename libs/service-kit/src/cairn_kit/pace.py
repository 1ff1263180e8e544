"""Fewer, fuller batches: a loop that has just worked lets more work gather before it works again."""

from __future__ import annotations

import asyncio

SHORTEST, LONGEST = 0.03, 0.25
"""Seconds from one batch's beginning to the next one's: the first event of a quiet time is handled at once, a stream of
them in batches. Four hops of the longest stay within the second that the design allows from an event to its last
effect."""

_REST = 8.0
"""A batch of few events costs nearly what one of many does, so a loop works an eighth of the time: on a machine that is
busy, or slow, batches take longer, come less often and hold more."""


class Pace:
    """Keeps the beginnings of batches apart, by how long they take."""

    def __init__(self) -> None:
        self._began = float("-inf")
        self._next = float("-inf")

    async def keep(self) -> None:
        """Return when the next batch may begin."""
        loop = asyncio.get_running_loop()
        early = self._next - loop.time()
        if early > 0:
            await asyncio.sleep(early)
        self.begin()

    def begin(self) -> None:
        """Begin a batch at once: there is enough for a full one."""
        self._began = asyncio.get_running_loop().time()
        self._next = self._began + SHORTEST

    def end(self) -> None:
        """The batch is done; what it took says when the next may begin."""
        took = asyncio.get_running_loop().time() - self._began
        self._next = max(self._next, self._began + min(took * _REST, LONGEST))
