"""What is kept of an event for ever: its attributes and its body, exactly as they were sent; and what is left of it when
its project is deleted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from google.protobuf.message import DecodeError

from cairn.audit.v1.audit_pb2 import LedgerRecord
from cairn.events.v1.annotation_store_events_pb2 import ProjectDeleted
from cairn.events.v1.audit_events_pb2 import CheckpointSigned
from cairn_audit.domain.merkle import Hash

_NO_NEWS = CheckpointSigned.DESCRIPTOR.full_name
_DELETION = ProjectDeleted.DESCRIPTOR.full_name


@dataclass(frozen=True, slots=True)
class LedgerLeaf:
    """An entry before it has its place."""

    event_id: UUID
    record: bytes
    leaf_hash: Hash
    project: str
    is_news: bool
    """Whether it is worth a new checkpoint. The announcement of one is not: signing would never end."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """That an entry's content was erased: for which ProjectDeleted, and when."""

    event_id: UUID
    time: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry in its place; where it was erased, `record` is empty and the hash is that of what it was."""

    index: int
    event_id: UUID
    record: bytes
    leaf_hash: Hash
    erasure: Erasure | None = None


def is_news(event_type: str) -> bool:
    """Whether an event of this type is worth signing a new checkpoint for."""
    return event_type != _NO_NEWS


def is_deletion(record: bytes) -> bool:
    """Whether a record tells that a project was deleted."""
    try:
        return LedgerRecord.FromString(record).event_type == _DELETION
    except DecodeError:
        return False


def mark_of(project: str) -> bytes:
    """Bytes that every record of a project holds: its field `project` (and by chance, perhaps, another's record)."""
    return LedgerRecord(project=project).SerializeToString()


def of_project(entries: Iterable[Entry], project: str) -> list[int]:
    """The places of those entries that are of a project."""
    return [entry.index for entry in entries if _project(entry.record) == project]


def _project(record: bytes) -> str:
    try:
        return LedgerRecord.FromString(record).project
    except DecodeError:
        return ""


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
