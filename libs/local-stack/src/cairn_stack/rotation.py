"""Logs that do not grow for ever."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_LONGEST = 128 * 2**20


def shorten(log: Path, longest: int = _LONGEST) -> bool:
    """When a log is longer than `longest` bytes, keep it as `<name>.1` and go on with an empty one.

    It is copied and emptied in place: its writer, another process, appends to the open file. What it writes
    between the two steps is lost, which a log may do and the ledger never does.
    """
    if not log.exists() or log.stat().st_size <= longest:
        return False
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)
    return True
