"""Requests of many, in parts that a service takes, and whose answers it may give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from cairn_client.errors import CairnError
from cairn_client.transport import too_large

A = TypeVar("A")
B = TypeVar("B")
M = TypeVar("M", bound=Message)
MOST_BYTES = 8 * 1024 * 1024
"""Of one part; services take messages of 16 MiB, unless they are set otherwise."""


def in_parts(requests: Sequence[M], most: int) -> Iterator[Sequence[M]]:
    """The requests in order, so many at a time at most, and no more bytes than are well below what a service takes.

    One that has more goes alone, and is for the service to refuse.
    """
    begins = size = 0
    for place, request in enumerate(requests):
        added = request.ByteSize()
        if place > begins and (place - begins == most or size + added > MOST_BYTES):
            yield requests[begins:place]
            begins, size = place, 0
        size += added
    if requests:
        yield requests[begins:]


async def in_halves(ask: Callable[[Sequence[A]], Awaitable[Sequence[B]]], about: Sequence[A]) -> list[B]:
    """What `ask` answers about all of them, of ever fewer at once where the answer would have more bytes than a call takes.

    Raises what `ask` raises, also where the answer about a single one is too large.
    """
    try:
        return list(await ask(about))
    except CairnError as error:
        if len(about) < 2 or not too_large(error):
            raise
    half = len(about) // 2
    return [*await in_halves(ask, about[:half]), *await in_halves(ask, about[half:])]
