"""One look for all who want to see the same at about the same time: a thousand open screens cost what one does."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

from cairn_kit.rpc.deadline import set_deadline

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_RESTS = 20.0  # times what a look took, if that was long
_LONGEST_REST = 60.0
_MOST = 1_000  # values kept


@dataclass(frozen=True, slots=True)
class _Seen(Generic[V]):
    """A value, when the look at it began, and for how long it may be shown to whoever wants it new."""

    value: V
    began: float
    rests: float


class Looks(Generic[K, V]):
    """What `look(key)` returns, shared.

    A look that takes ``long`` seconds or more is shown again for twenty times as long as it took, a minute at most: it
    takes a twentieth of the database's time, however many look. Errors are told to all who wait, and not kept. A look has
    no caller's deadline: whoever waits is cancelled alone.
    """

    def __init__(
        self,
        look: Callable[[K], Awaitable[V]],
        *,
        long: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._long = long
        self._clock = clock
        self._seen: OrderedDict[K, _Seen[V]] = OrderedDict()
        self._looking: dict[K, tuple[float, asyncio.Task[V]]] = {}
        """The newest look at each, and when it began."""

    async def get(self, key: K, oldest: float = 0.0) -> V:
        """A value that was looked up at most ``oldest`` seconds ago, or in the time for which a long look is shown."""
        now, seen = self._clock(), self._seen.get(key)
        oldest = max(oldest, seen.rests if seen else 0.0)
        if seen is not None and now - seen.began < oldest:
            return seen.value
        began, looking = self._looking.get(key, (now, None))
        if looking is None or now - began >= oldest:
            looking = asyncio.create_task(self._fresh(key), context=_for_all())
            self._looking[key] = now, looking
            looking.add_done_callback(lambda ended: self._ended(key, ended))
        return await asyncio.shield(looking)  # one who goes away does not take it from the others

    async def _fresh(self, key: K) -> V:
        began = self._clock()
        value = await self._look(key)
        took = self._clock() - began
        rests = min(_RESTS * took, _LONGEST_REST) if took >= self._long else 0.0
        self._seen[key] = _Seen(value, began, rests)
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)
        return value

    def _ended(self, key: K, ended: asyncio.Task[V]) -> None:
        if self._looking.get(key, (0.0, None))[1] is ended:
            del self._looking[key]
        if not ended.cancelled():
            ended.exception()  # whoever waits hears of it; nobody may, when all have gone away


def _for_all() -> Context:
    """Where a look is made: for the tenant of whoever asks first, but not in their time only."""
    context = copy_context()
    context.run(set_deadline, None)
    return context
