"""The folders of trainings under way: features of a project, which must not stay when it is deleted.

A process that is killed leaves its folder behind, and the next one that trains here takes it away. Several may train in one
place, replicas or stacks that share a disk: each holds the place while it trains, and nothing is taken from under it.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO


class TrainingFolders:
    """Makes and removes the folders in one place."""

    def __init__(self, place: Path) -> None:
        self._place = place

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Path]:
        """A new folder, removed at the end of the block."""
        hold = await asyncio.to_thread(self._hold)
        folder = self._place / name
        try:
            with suppress(OSError):  # where nobody can hold it, nobody can sweep it
                await asyncio.to_thread(fcntl.flock, hold, fcntl.LOCK_SH)
            await asyncio.to_thread(folder.mkdir, exist_ok=True)
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)
            hold.close()

    async def sweep(self) -> None:
        """Remove what was left behind, unless somebody trains here just now."""
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        with self._hold() as hold:
            try:
                fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            for entry in self._place.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)

    def _hold(self) -> BinaryIO:
        """A file by which the place is held, until it is closed or its process dies."""
        self._place.mkdir(parents=True, exist_ok=True)
        return (self._place / "in-use").open("wb")
