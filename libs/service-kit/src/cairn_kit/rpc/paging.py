"""Opaque keyset page tokens (AIP-158), bound to the request they continue; pages within bounds of elements and bytes."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from hmac import compare_digest
from typing import Any, TypeVar

from google.protobuf.message import Message

from cairn_kit.auth.caller import caller
from cairn_kit.errors import InvalidArgument, Violation

M = TypeVar("M", bound=Message)

DEFAULT_SIZE = 100
LARGEST_SIZE = 1000
PAGE_BYTES = 3 << 20
"""gRPC's clients take messages of 4 MiB unless told otherwise: a page that they refuse they would ask for for ever.
The rest is for what a page has besides, and the framing of each message."""

_DIGEST_BYTES = 12
Key = str | int | float


def page_size(requested: int, default: int = DEFAULT_SIZE, largest: int = LARGEST_SIZE) -> int:
    """The size to use: 0 means the default, too large means the largest."""
    return min(requested or default, largest)


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


def write_page_token(request: Message, *keys: Key) -> str:
    """A token that continues after the row with these keys, for this caller's tenant and this very query."""
    body = json.dumps(keys, separators=(",", ":")).encode()
    return urlsafe_b64encode(_digest(request, body) + body).rstrip(b"=").decode()


def read_page_token(request: Message) -> tuple[Any, ...] | None:
    """The keys to continue after, or None for the first page.

    Raises InvalidArgument PAGE_TOKEN_INVALID for a token of another query, or one that was tampered with.
    """
    token: str = getattr(request, "page_token")  # noqa: B009 - every List request has it
    if not token:
        return None
    try:
        raw = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
        if not compare_digest(digest, _digest(request, body)):
            raise ValueError
        return tuple(json.loads(body))
    except (ValueError, TypeError, Base64Error):
        raise InvalidArgument(
            "PAGE_TOKEN_INVALID",
            "The page token does not belong to this request.",
            violations=[Violation("page_token", "send the token of the previous page, all else unchanged")],
        ) from None


def _digest(request: Message, body: bytes) -> bytes:
    """What the token is bound to. It guards against mistakes, not attacks: the query filters by tenant anyway."""
    query = type(request)()
    query.CopyFrom(request)
    for field in ("page_token", "page_size"):
        query.ClearField(field)
    bound = [caller().tenant.encode(), request.DESCRIPTOR.full_name.encode(), body]
    digest = hashlib.sha256(query.SerializeToString(deterministic=True))
    for part in bound:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()[:_DIGEST_BYTES]
