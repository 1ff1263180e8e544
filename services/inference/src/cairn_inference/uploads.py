"""Models on their way in: each in a file of its own, few at once, and none that keeps its place for ever.

Whoever may add models may send as many as they like, as slowly as they like, of 64 MiB each. What comes in takes a
chunk of memory at a time; a tenant has few places, so that others find one.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from cairn_kit.errors import DeadlineExceeded, ResourceExhausted

T = TypeVar("T")

_PLACES = 8
_PLACES_OF_TENANT = 2
_RETRY_AFTER = 5.0

_STALLS = 30.0
"""Seconds in which a message must come."""

_LASTS = 600.0
"""Seconds in which all must have come: the largest file in a tenth of that at 10 Mbit/s."""


class Uploads:
    """The places for uploads of one process."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where the files are; they have no names there, and go with the process."""
        self._folder = folder
        self._taken: Counter[str] = Counter()

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[BinaryIO]:
        """An empty file, as long as the block lasts. Raises ResourceExhausted UPLOADS_BUSY."""
        if self._taken.total() >= _PLACES or self._taken[tenant] >= _PLACES_OF_TENANT:
            raise ResourceExhausted(
                "UPLOADS_BUSY",
                f"{self._taken[tenant]} models of yours are being uploaded; {_PLACES_OF_TENANT} may be at once, while there "
                "is a place at all.",
                retry_after=_RETRY_AFTER,
            )
        self._taken[tenant] += 1
        try:
            file = await asyncio.to_thread(self._file)
            try:
                yield file
            finally:
                file.close()
        finally:
            self._taken[tenant] -= 1
            self._taken += Counter()  # tenants without a place are forgotten

    def _file(self) -> BinaryIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self._folder)


async def in_time(messages: AsyncIterator[T]) -> AsyncIterator[T]:
    """The messages of a stream, as long as they keep coming. Raises DeadlineExceeded UPLOAD_TOO_SLOW."""
    clock = asyncio.get_running_loop().time
    ends = clock() + _LASTS
    while True:
        try:
            async with asyncio.timeout_at(min(clock() + _STALLS, ends)):
                message = await anext(messages, None)
        except TimeoutError:
            raise DeadlineExceeded(
                "UPLOAD_TOO_SLOW",
                f"An upload's next message must come within {_STALLS:.0f} s, and all of it within {_LASTS:.0f} s.",
            ) from None
        if message is None:
            return
        yield message
