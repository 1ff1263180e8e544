"""Where servers under test keep their data: in memory where the machine has some to spare, else on disk.

Making a database copies three hundred files, and a durable server waits for the disk at every commit: on a disk that
others use, a test spends half of its time there. What a killed process has written stays in memory as on a disk.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from cairn_kit.embedded.process import process_of

_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system, in which mkdtemp makes a folder of our own
_TO_SPARE = 4 << 30
"""Bytes. A server takes some hundred megabytes, and every worker has one and a stack beside it."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can reach, with a path short enough for a socket; gone after the block.

    Not below pytest's tmp_path: run by root, PostgreSQL is another user, and pytest closes its folders to others.
    """
    roomy = _MEMORY.is_dir() and _free() > _TO_SPARE
    if roomy:
        remove_what_was_left(_MEMORY)
    folder = Path(tempfile.mkdtemp(prefix=f"cairn-{os.getpid()}-", dir=_MEMORY if roomy else None))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_what_was_left(among: Path) -> None:
    """Remove what test processes have left that were killed, and end their PostgreSQL: here it wastes memory."""
    for folder in among.glob("cairn-*-*"):
        owner = folder.name.split("-")[1]
        if not owner.isdecimal() or psutil.pid_exists(int(owner)):
            continue
        left = process_of(folder / "pg" / "postmaster.pid", "postgres", str(folder / "pg"))
        if left is not None:
            left.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _free() -> int:
    return min(shutil.disk_usage(_MEMORY).free, psutil.virtual_memory().available)
