"""Pages: as many messages as asked for, but no more than a call can carry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

PAGE_BYTES = 3 << 20
"""gRPC's clients take messages of 4 MiB unless told otherwise: a page that they refuse they would ask for for ever.
The rest is for what a page has besides, and the framing of each message."""


def page_of(messages: Iterable[M], most: int) -> list[M]:
    """The first messages, `most` of them and up to PAGE_BYTES together; one at least, if there is one."""
    page: list[M] = []
    room = PAGE_BYTES
    for message in messages:
        room -= message.ByteSize()
        if page and (room < 0 or len(page) == most):
            break
        page.append(message)
    return page
