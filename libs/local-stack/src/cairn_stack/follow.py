"""Reading logs: their ends, and what is added to them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

_PAUSE = 0.2


def last_lines(logs: Mapping[str, Path], lines: int) -> Iterator[tuple[str, str]]:
    """The last `lines` of each log as (name, line); a log that is not there yet is empty."""
    for name, path in logs.items():
        if path.exists():
            with path.open(encoding="utf-8", errors="replace") as file:
                for line in deque(file, maxlen=lines):
                    yield name, line.rstrip("\n")


def follow_logs(logs: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """What is added to the logs from now on, whole lines only, for ever."""
    places = {name: _size(path) for name, path in logs.items()}
    while True:
        quiet = True
        for name, path in logs.items():
            size = _size(path)
            if size < places[name]:
                places[name] = 0  # it was shortened
            if size > places[name]:
                with path.open("rb") as file:
                    file.seek(places[name])
                    added, newline, _ = file.read().rpartition(b"\n")
                places[name] += len(added) + len(newline)
                if newline:
                    quiet = False
                    for line in added.decode(errors="replace").split("\n"):
                        yield name, line
        if quiet:
            time.sleep(_PAUSE)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
