"""Events that were given up: kept with their reason, listed, and handled again when somebody asks for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from uuid import UUID

from cairn_kit.database.pool import Database
from cairn_kit.database.transaction import Record, Transaction


class Reason(Enum):
    """Why an event was given up."""

    UNDECODABLE = "undecodable"
    INVALID = "invalid"
    UNKNOWN_TYPE = "unknown_type"
    OUT_OF_TRIES = "out_of_tries"
    NOT_YET_TOO_LONG = "not_yet_too_long"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that one consumer gave up."""

    event_id: UUID
    event_type: str
    nats_subject: str
    headers: Mapping[str, str]
    body: bytes
    reason: Reason
    error: str
    died_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    replay_requested: bool = False


_BURY = """
INSERT INTO dead_letter (consumer, event_id, event_type, nats_subject, headers, body, reason, error)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8)
ON CONFLICT (consumer, event_id) DO UPDATE
SET reason = excluded.reason, error = excluded.error, died_at = now(), replay_requested_at = NULL
"""
_COLUMNS = "event_id, event_type, nats_subject, headers, body, reason, error, died_at, replay_requested_at"


def storable(text: str) -> str:
    """The text as PostgreSQL can keep it: NUL and half characters are written out (`\\x00`, `\\udc80`)."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


async def bury(tx: Transaction, consumer: str, letter: DeadLetter) -> None:
    """Keep an event that is given up, whatever is in it: one that cannot be buried would come back for ever."""
    await tx.execute(
        _BURY,
        consumer,
        letter.event_id,
        storable(letter.event_type),
        storable(letter.nats_subject),
        json.dumps({storable(name): storable(value) for name, value in letter.headers.items()}),
        letter.body,
        letter.reason.value,
        storable(letter.error),
    )


async def exhume(tx: Transaction, consumer: str, event_ids: Sequence[UUID]) -> None:
    """Forget dead letters whose effect has happened now."""
    await tx.execute(
        "DELETE FROM dead_letter WHERE consumer = $1 AND event_id = ANY($2::uuid[])", consumer, event_ids
    )


async def list_dead_letters(database: Database, limit: int = 1000) -> list[DeadLetter]:
    """The dead letters of this service, the latest first."""
    rows = await database.fetch(f"SELECT {_COLUMNS} FROM dead_letter ORDER BY died_at DESC LIMIT $1", limit)  # noqa: S608
    return [_dead_letter(row) for row in rows]


async def request_replay(database: Database, event_ids: Sequence[UUID] | None = None) -> int:
    """Have these dead letters, or all, handled again by the running service; returns how many were asked for."""
    tag = await database.execute(
        "UPDATE dead_letter SET replay_requested_at = now() WHERE $1::uuid[] IS NULL OR event_id = ANY($1)",
        None if event_ids is None else list(event_ids),
    )
    return int(tag.rpartition(" ")[2])


async def take_replays(database: Database, consumer: str, limit: int = 100) -> list[DeadLetter]:
    """The dead letters that somebody wants handled again."""
    rows = await database.fetch(
        f"SELECT {_COLUMNS} FROM dead_letter WHERE consumer = $1 AND replay_requested_at IS NOT NULL "  # noqa: S608
        "ORDER BY replay_requested_at LIMIT $2",
        consumer,
        limit,
    )
    return [_dead_letter(row) for row in rows]


def _dead_letter(row: Record) -> DeadLetter:
    return DeadLetter(
        row["event_id"],
        row["event_type"],
        row["nats_subject"],
        json.loads(row["headers"]),
        row["body"],
        Reason(row["reason"]),
        row["error"],
        row["died_at"],
        row["replay_requested_at"] is not None,
    )
