"""The line of a log that says why a process ended."""

from __future__ import annotations

import json
from pathlib import Path

_ENOUGH = 64 * 1024
_LONGEST = 400
_SERIOUS = {"error", "critical", "fatal"}


def last_words(log: Path, since: int = 0) -> str:
    """The last error in the log after byte `since`, or else its last line; empty when it says nothing.

    Logs are JSON lines with `level` and `event` (ours), or text; a traceback's last line is its exception.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(since if since <= size else 0, size - _ENOUGH))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    if not lines:
        return ""
    entries = [_entry(line) for line in lines]
    # Text after the last structured error is later than it, and mostly the traceback of what ended it all.
    for line, entry in zip(reversed(lines), reversed(entries), strict=True):
        if entry is None:
            return line.strip()[:_LONGEST]
        if entry.get("level") in _SERIOUS:
            return _told(entry)[:_LONGEST]
    return _told(entries[-1] or {"event": lines[-1]})[:_LONGEST]


def _entry(line: str) -> dict[str, object] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _told(entry: dict[str, object]) -> str:
    said = str(entry["event"])
    exceptions = entry.get("exception")
    if isinstance(exceptions, list) and exceptions and isinstance(exceptions[-1], dict):
        last = exceptions[-1]
        return f"{said}: {last.get('exc_type')}: {last.get('exc_value')}"
    if isinstance(exceptions, str) and exceptions.strip():
        return f"{said}: {exceptions.strip().splitlines()[-1]}"
    for name in ("error", "reason", "detail", "message"):
        if entry.get(name):
            return f"{said}: {entry[name]}"
    return said
