"""Requests of many, in parts that a service takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

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
