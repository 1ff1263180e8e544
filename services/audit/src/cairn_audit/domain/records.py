"""What is kept of an event for ever: its attributes and its body, exactly as they were sent."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from google.protobuf.message import DecodeError

from cairn.audit.v1.audit_pb2 import LedgerRecord
from cairn.events.v1.audit_events_pb2 import CheckpointSigned
from cairn_audit.domain.merkle import Hash

_NO_NEWS = CheckpointSigned.DESCRIPTOR.full_name


@dataclass(frozen=True, slots=True)
class LedgerLeaf:
    """An entry before it has its place."""

    event_id: UUID
    record: bytes
    leaf_hash: Hash
    is_news: bool
    """Whether it is worth a new checkpoint. The announcement of one is not: signing would never end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry in its place."""

    index: int
    event_id: UUID
    record: bytes
    leaf_hash: Hash


def is_news(event_type: str) -> bool:
    """Whether an event of this type is worth signing a new checkpoint for."""
    return event_type != _NO_NEWS


def record_defect(entry: Entry, tenant: str) -> str | None:
    """What is wrong with the bytes of an entry apart from their hash, or None."""
    try:
        record = LedgerRecord.FromString(entry.record)
    except DecodeError:
        return "its bytes are no ledger record"
    if record.tenant != tenant:
        return f"its record is of the tenant {record.tenant!r}"
    if record.event_id != str(entry.event_id):
        return f"its record is of the event {record.event_id}, it is filed under {entry.event_id}"
    return None
