"""Time-ordered unique ids (RFC 9562, version 7), ascending within a process."""

from __future__ import annotations

import os
import time
from datetime import datetime
from uuid import UUID

_last = 0


def uuid7() -> UUID:
    """A new id, greater than every id this process made before.

    48 bits of milliseconds, then 12 bits that count within the millisecond, then 62 random bits.
    """
    global _last  # noqa: PLW0603 - one counter a process is the point
    _last = max(_last + 1, time.time_ns() // 1_000_000 << 12)
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return UUID(int=(_last >> 12) << 80 | 0x7 << 76 | (_last & 0xFFF) << 64 | 0b10 << 62 | random)


def first_uuid7_at(moment: datetime) -> UUID:
    """The smallest id that could have been made at this moment: where to begin a scan by time."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
