"""One wait for all who wait for the same: a thousand callers cost what one does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Waits(Generic[K, V]):
    """What is waited for, as long as anybody does."""

    def __init__(self) -> None:
        self._under_way: dict[K, asyncio.Task[V]] = {}
        self._waiting: dict[K, int] = {}

    async def until(self, key: K, wait: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """What `wait` comes to, or raises: it is begun by the first who waits for the key, and given up with the last."""
        task = self._under_way.get(key)
        if task is None or task.done():  # how it went for others may be over
            task = self._under_way[key] = asyncio.create_task(wait())
            self._waiting[key] = 0
        self._waiting[key] += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._leave(key, task)

    def _leave(self, key: K, task: asyncio.Task[V]) -> None:
        if self._under_way.get(key) is not task:
            return
        self._waiting[key] -= 1
        if self._waiting[key]:
            return
        del self._under_way[key], self._waiting[key]
        if not task.cancel() and not task.cancelled():
            task.exception()  # whoever would have heard of it has just gone away
