"""A call that waits on purpose: it is not work, and must not keep others out."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from contextvars import ContextVar

from cairn_kit.auth.caller import Caller
from cairn_kit.rpc.admission import Room
from cairn_kit.rpc.deadline import remaining

_place: ContextVar[tuple[Room, Caller] | None] = ContextVar("cairn_place", default=None)


def set_place(room: Room, who: Caller) -> None:
    """The call of this context is in flight there."""
    _place.set((room, who))


async def rest(seconds: float) -> None:
    """Wait so long, for half of what is left of the caller's time at most, without being counted in flight."""
    left = remaining()
    place = _place.get()
    with nullcontext() if place is None else place[0].aside(place[1]):
        await asyncio.sleep(seconds if left is None else min(seconds, left / 2.0))
