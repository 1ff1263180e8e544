"""Moments as protobuf carries them."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_A_DAY = 86_400


def timestamp(moment: datetime) -> Timestamp:
    """A moment with a time zone, to the microsecond.

    `Timestamp.FromDatetime` says the same in five times as long, and a lease or a label has two of them.
    """
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * _SECONDS_A_DAY + since.seconds, nanos=since.microseconds * 1_000)
