"""The writing side: an event is put down with the state change that it tells of, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from opentelemetry.context import Context

from cairn_kit.database.transaction import Transaction
from cairn_kit.events.envelope import LARGEST_BODY, Event, EventTooLarge, Received, Stored, batched
from cairn_kit.events.subjects import subject_of
from cairn_kit.ids import uuid7
from cairn_kit.telemetry.tracing import traceparent

_AT_ONCE = 16 << 20
"""Bytes of bodies in one statement; a whole message to PostgreSQL may have 1 GiB."""

_INSERT = """
INSERT INTO outbox (event_id, event_type, nats_subject, tenant, project, resource, revision, traceparent,
                    occurred_at, body, events)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                     $8::text[], $9::timestamptz[], $10::bytea[], $11::integer[])
"""


def announce(tx: Transaction, *events: Event, cause: Received[Any] | Context | None = None) -> list[UUID]:
    """Put events down; they are written at commit and published right after it, like ones together.

    Returns their ids.

    `cause` says whose trace they continue: the received event or the context that caused them; by default the
    current span. Raises EventTooLarge, or ValueError for ids that fit no subject.
    """
    if not tx.pending_events:
        tx.before_commit(_write)
    trace = cause.traceparent() if isinstance(cause, Received) else traceparent(cause)
    now = datetime.now(UTC)
    ids = [uuid7() for _ in events]
    for event_id, event in zip(ids, events, strict=True):
        descriptor = event.message.DESCRIPTOR
        body = event.message.SerializeToString()
        if len(body) > LARGEST_BODY:
            raise EventTooLarge(
                f"{descriptor.name} of {event.resource} has {len(body)} bytes; {LARGEST_BODY} are allowed."
            )
        tx.pending_events.append(
            Stored(
                id=event_id,
                type=descriptor.full_name,
                nats_subject=subject_of(descriptor.name, event.tenant, event.project),
                tenant=event.tenant,
                project=event.project,
                resource=event.resource,
                revision=event.revision,
                traceparent=trace,
                time=now,
                body=body,
            )
        )
    return ids


async def _write(tx: Transaction) -> None:
    announced: list[Stored] = tx.pending_events
    for stored in _in_parts(batched(announced)):
        await tx.execute(
            _INSERT,
            [event.id for event in stored],
            [event.type for event in stored],
            [event.nats_subject for event in stored],
            [event.tenant for event in stored],
            [event.project for event in stored],
            [event.resource for event in stored],
            [event.revision for event in stored],
            [event.traceparent for event in stored],
            [event.time for event in stored],
            [event.body for event in stored],
            [event.events for event in stored],
        )
    kinds = {(event.type, event.tenant, event.project) for event in announced}
    if kinds:  # else a savepoint took them back
        tx.after_commit(lambda: tx.announced(kinds))


def _in_parts(stored: Iterable[Stored]) -> Iterator[list[Stored]]:
    part: list[Stored] = []
    size = 0
    for event in stored:
        part.append(event)
        size += len(event.body)
        if size >= _AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part
