"""Pages: as many messages as asked for, but no more than a call can carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

PAGE_BYTES = 3 << 20
"""gRPC's clients take messages of 4 MiB unless told otherwise: a page that they refuse they would ask for for ever."""


def page_of(messages: Sequence[M], most: int) -> tuple[list[M], bool]:
    """The first messages, `most` of them and up to PAGE_BYTES together, but one at least; and whether there are more."""
    page: list[M] = []
    room = PAGE_BYTES
    for message in messages:
        room -= message.ByteSize()
        if page and (room < 0 or len(page) == most):
            break
        page.append(message)
    return page, len(page) < len(messages)
