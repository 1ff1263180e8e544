"""A full disk, told before it hurts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

# A new PostgreSQL writes 40 MB, each segment of its log is 16 MB; tables and logs need a little.
TO_START = 160 * 2**20
# PostgreSQL stops when it cannot write its log: below this there is time left to say so.
TO_RUN = 48 * 2**20


def shortage(folders: Iterable[Path], needed: int) -> str:
    """A plain sentence when less than `needed` bytes are free where any of the folders is; else nothing."""
    for folder in folders:
        free = shutil.disk_usage(_existing(folder)).free
        if free < needed:
            return (
                f"The disk that holds {folder} is full: {free // 2**20} MB are free, and the stack needs "
                f"{needed // 2**20} MB. Free some space; nothing that was acknowledged is lost."
            )
    return ""


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return folder
