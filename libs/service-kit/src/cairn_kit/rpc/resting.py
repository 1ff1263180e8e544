"""A call that waits on purpose: it is not work, and must not keep others out."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

from cairn_kit.auth.caller import caller
from cairn_kit.rpc.admission import Room
from cairn_kit.rpc.deadline import remaining

_place: ContextVar[Room | None] = ContextVar("cairn_place", default=None)


def set_place(room: Room) -> None:
    """The call of this context is in flight there."""
    _place.set(room)


def waiting() -> AbstractContextManager[None]:
    """A block in which the call of this context waits for its answer, without being counted in flight."""
    place = _place.get()
    return nullcontext() if place is None else place.waiting(caller())


async def rest(seconds: float) -> None:
    """Wait so long, for half of what is left of the caller's time at most, without being counted in flight."""
    left = remaining()
    place = _place.get()
    with nullcontext() if place is None else place.aside():
        await asyncio.sleep(seconds if left is None else min(seconds, left / 2.0))
