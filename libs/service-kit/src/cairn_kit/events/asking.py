"""What an event does not say, asked of a neighbour."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc

from cairn_kit.auth.caller import acting_for
from cairn_kit.events.envelope import Received
from cairn_kit.events.subscription import NotYet

R = TypeVar("R")
_AT_ONCE = 8
_LONGEST = 5.0
"""Seconds for all questions of a batch: its transaction is open meanwhile. Ask before anything is locked."""

AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,  # by its core, for too many wait there
    }
)
"""What a neighbour says that may well answer later."""


async def ask(
    neighbour: str, questions: Sequence[tuple[Received[Any], Callable[[], Awaitable[R]]]]
) -> list[R]:
    """The answers to one question an event, asked in the event's tenant, in the order of the questions.

    Raises NotYet with the events whose answers cannot be had now, because the neighbour is away; any other refusal is
    raised as it is, for waiting would not mend it.
    """
    gate, end = asyncio.Semaphore(_AT_ONCE), asyncio.get_running_loop().time() + _LONGEST
    found = await asyncio.gather(*(_one(event, question, gate, end) for event, question in questions))
    missing = [event for (event, _), answer in zip(questions, found, strict=True) if answer is None]
    if missing:
        raise NotYet(f"{neighbour} is away", *missing)
    return [answer for answer in found if answer is not None]


async def _one(
    event: Received[Any], question: Callable[[], Awaitable[R]], gate: asyncio.Semaphore, end: float
) -> R | None:
    try:
        async with asyncio.timeout_at(end), gate:
            with acting_for(event.tenant):
                return await question()
    except TimeoutError:
        return None
    except grpc.aio.AioRpcError as error:
        if error.code() in AWAY:
            return None
        raise
