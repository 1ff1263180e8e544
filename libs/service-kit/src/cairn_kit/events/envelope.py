"""An event as it is announced, and as it is received: CloudEvents attributes in headers, protobuf in the body.

Events of one type that one transaction announces about one project travel as one message, `EventBatch`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar, cast
from uuid import UUID

from google.protobuf.message import DecodeError, Message
from opentelemetry.context import Context

from cairn.events.v1.event_batch_pb2 import BatchedEvent, EventBatch
from cairn_kit.events.subjects import NO_PROJECT
from cairn_kit.telemetry.tracing import TRACEPARENT, context_of, is_dropped, traceparent, well_formed

M_co = TypeVar("M_co", bound=Message, covariant=True)

LARGEST_BODY = 256 * 1024
BATCH = EventBatch.DESCRIPTOR.full_name
_MOST_TOGETHER = 500
_BESIDE_BODY = 128  # bytes: the id, the traceparent and the rest of what a batch says of an event
_ID, _TYPE, _SOURCE, _SUBJECT, _TIME = "ce-id", "ce-type", "ce-source", "ce-subject", "ce-time"
_TENANT, _PROJECT, _REVISION = "cairn-tenant", "cairn-project", "cairn-revision"
PLACE = "cairn-place"
"""Of an event that is kept by itself, but came in a batch: its place there."""
_ATTRIBUTES = (_ID, _TYPE, _SOURCE, _SUBJECT, _TIME, _TENANT, _PROJECT, _REVISION)


class EventTooLarge(Exception):
    """The body is above 256 KiB: split the batch, or put the value into blob storage."""


class Undecodable(Exception):
    """A message on the bus is not an event of ours."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to one aggregate of one project.

    `resource` is the aggregate's resource name; `revision` grows with each change of it, so that a consumer can
    ignore what is older than what it knows. `project` is empty for an event that belongs to no project.
    """

    message: Message
    tenant: str
    project: str
    resource: str
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """What is a row of the outbox and a message on the bus: an event, or a batch of several; encoded once, on its way."""

    id: UUID
    type: str
    nats_subject: str
    tenant: str
    project: str
    resource: str
    revision: int
    traceparent: str
    time: datetime
    body: bytes
    republished: int = 0
    events: int = 1

    def traced(self) -> Iterator[tuple[str, str, str, str]]:
        """Of each event here: its traceparent, type, id and resource."""
        if self.type == BATCH:
            batch = EventBatch.FromString(self.body)
            for event in batch.events:
                yield event.traceparent, batch.type, event.id, event.subject
        else:
            yield self.traceparent, self.type, str(self.id), self.resource

    def headers(self, source: str) -> dict[str, str]:
        """The NATS headers: CloudEvents 1.0 binary mode, ours, and the broker's own for its dedupe window."""
        event_id = str(self.id)
        headers = {
            # A republished event must not be dropped for having the id of the one that was lost.
            "Nats-Msg-Id": f"{event_id}/{self.republished}" if self.republished else event_id,
            "ce-specversion": "1.0",
            _ID: event_id,
            _TYPE: self.type,
            _SOURCE: source,
            _SUBJECT: self.resource,
            _TIME: self.time.isoformat(),
            _TENANT: self.tenant,
            _PROJECT: self.project or NO_PROJECT,
            _REVISION: str(self.revision),
        }
        if self.traceparent:
            headers[TRACEPARENT] = self.traceparent
        return headers


class Place(NamedTuple):
    """Where an event stands: in which message, by the id that this has on the bus, and the how many-th of how many."""

    message: UUID
    number: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"{self.message}/{self.number}/{self.of}"


@dataclass(slots=True, eq=False)
class Received(Generic[M_co]):
    """An event that has arrived, decoded. With `Subscription.everything` alone `message` is not decoded: use `body`."""

    id: UUID
    type: str
    source: str
    tenant: str
    project: str
    resource: str
    revision: int
    time: datetime
    subject: str
    headers: Mapping[str, str]
    body: bytes
    place: Place
    decoded: Message | None = None
    trace: Context | None = field(default=None, repr=False)
    too_late: bool = False
    """Whether its project was deleted here before it came."""

    @property
    def message(self) -> M_co:
        """The event itself."""
        if self.decoded is None:
            raise LookupError(f"{self.type} was not decoded: no typed subscription asked for it.")
        return cast(M_co, self.decoded)

    def context(self) -> Context:
        """The trace that this event belongs to; what it causes belongs there too."""
        if self.trace is None:
            self.trace = context_of(self.headers.get(TRACEPARENT))
        return self.trace

    def traceparent(self) -> str:
        """The same as a W3C traceparent; an empty string outside any trace."""
        if self.trace is None:  # there is no span of our own in it
            return well_formed(self.headers.get(TRACEPARENT, ""))
        return traceparent(self.trace)


def batched(events: Sequence[Stored]) -> Iterator[Stored]:
    """What travels: events of one type about one project together, as many as fit; one alone as it is."""
    alike: dict[str, list[Stored]] = {}
    for event in events:
        alike.setdefault(event.nats_subject, []).append(event)
    for same in alike.values():
        part: list[Stored] = []
        size = 0
        for event in same:
            added = len(event.body) + len(event.resource) + _BESIDE_BODY
            if part and (size + added > LARGEST_BODY or len(part) == _MOST_TOGETHER):
                yield _together(part)
                part, size = [], 0
            part.append(event)
            size += added
        yield _together(part)


def _together(events: Sequence[Stored]) -> Stored:
    first = events[0]
    if len(events) == 1:
        return first
    batch = EventBatch(
        type=first.type,
        events=[
            BatchedEvent(
                id=str(event.id),
                subject=event.resource,
                revision=event.revision,
                traceparent=event.traceparent,
                data=event.body,
            )
            for event in events
        ],
    )
    kept = next((event for event in events if not is_dropped(event.traceparent)), first)
    return replace(
        first,  # its id too: rows of the outbox are relayed in the order of announcing
        type=BATCH,
        resource="",
        revision=0,
        traceparent=kept.traceparent,
        body=batch.SerializeToString(),
        events=len(events),
    )


def receive_all(
    subject: str, headers: Mapping[str, str] | None, body: bytes
) -> list[Received[Any] | Undecodable]:
    """Read a message: its event, or each of its batch, with what is wrong in the place of one that is malformed.

    Raises Undecodable when the message itself is.
    """
    message = receive(subject, headers, body)
    if message.type != BATCH:
        return [message]
    try:
        batch = EventBatch.FromString(body)
    except DecodeError as error:
        raise Undecodable(f"not a batch of events: {error}") from None
    if not batch.events:
        raise Undecodable("a batch without events")
    shared = dict(message.headers)
    of = len(batch.events)
    return [
        _member(message, shared, batch.type, event, Place(message.id, number, of))
        for number, event in enumerate(batch.events)
    ]


def _member(
    message: Received[Any], shared: dict[str, str], type_name: str, event: BatchedEvent, place: Place
) -> Received[Any] | Undecodable:
    """What differs is the event's own; what is the same was read with the message."""
    own = {
        _ID: event.id,
        _TYPE: type_name,
        _SUBJECT: event.subject,
        _REVISION: str(event.revision),
        TRACEPARENT: event.traceparent,
    }
    if "\0" in event.subject or "\0" in type_name:
        return Undecodable("NUL cannot be kept")
    try:
        event_id = UUID(event.id)
    except ValueError as error:
        return Undecodable(f"an id is malformed: {error}")
    return Received(
        id=event_id,
        type=type_name,
        source=message.source,
        tenant=message.tenant,
        project=message.project,
        resource=event.subject,
        revision=event.revision,
        time=message.time,
        subject=message.subject,
        headers=ChainMap(own, shared),
        body=event.data,
        place=place,
    )


def project_of(headers: Mapping[str, str] | None) -> tuple[str, str] | None:
    """The tenant and the project that an event says it is of; None where it says no such thing."""
    tenant, project = (headers or {}).get(_TENANT), (headers or {}).get(_PROJECT)
    if tenant is None or project is None:
        return None
    return tenant, "" if project == NO_PROJECT else project


def receive(subject: str, headers: Mapping[str, str] | None, body: bytes) -> Received[Any]:
    """Read the envelope; raises Undecodable when an attribute is missing or malformed."""
    carried = headers or {}
    try:
        if "\0" in subject or any("\0" in carried[name] for name in _ATTRIBUTES):
            raise ValueError("NUL cannot be kept")
        project, time = carried[_PROJECT], datetime.fromisoformat(carried[_TIME])
        event_id = UUID(carried[_ID])
        if time.tzinfo is None:
            raise ValueError(f"{_TIME} has no time zone")
        return Received(
            id=event_id,
            type=carried[_TYPE],
            source=carried[_SOURCE],
            tenant=carried[_TENANT],
            project="" if project == NO_PROJECT else project,
            resource=carried[_SUBJECT],
            revision=int(carried[_REVISION]),
            time=time,
            subject=subject,
            headers=carried,
            body=body,
            place=_place(carried[PLACE]) if PLACE in carried else Place(event_id),
        )
    except KeyError as missing:
        raise Undecodable(f"the header {missing} is missing") from None
    except ValueError as error:
        raise Undecodable(f"a header is malformed: {error}") from None


def _place(text: str) -> Place:
    message, number, of = text.split("/")
    place = Place(UUID(message), int(number), int(of))
    if not 0 <= place.number < place.of:
        raise ValueError(f"{PLACE} is {text}")
    return place
