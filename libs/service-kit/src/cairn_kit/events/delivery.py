"""From a message on the bus to an event that a handler can be given; or to the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from google.protobuf.message import DecodeError, Message
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from cairn_kit.events.dead_letters import DeadLetter, Reason
from cairn_kit.events.envelope import PLACE, Received, Undecodable, receive, receive_all
from cairn_kit.events.subscription import Subscription
from cairn_kit.rpc.validation import invalid


@dataclass(slots=True, eq=False)
class Parcel:
    """A message and what becomes of its events: it is acknowledged, or asked for again, when the last one is settled."""

    message: Msg
    unsettled: int = 0
    again: float | None = None
    """Seconds after which it is to come again, for the sake of an event that did not succeed."""

    def settle(self, again: float | None = None) -> bool:
        """One of its events is done, or wants to come again after so many seconds; whether it was the last."""
        if again is not None:
            self.again = again if self.again is None else min(self.again, again)
        self.unsettled -= 1
        return self.unsettled == 0


@dataclass(slots=True, eq=False)
class Delivery:
    """One event with every message that brought it (a duplicate in the same batch rides along)."""

    event: Received[Any]
    parcels: list[Parcel] = field(default_factory=list)
    replayed: bool = False

    def dead(self, reason: Reason, error: str) -> DeadLetter:
        """The event as a dead letter."""
        event = self.event
        headers = event.headers if event.place.of == 1 else {**event.headers, PLACE: str(event.place)}
        return DeadLetter(event.id, event.type, event.subject, headers, event.body, reason, error)


class Refused(Exception):
    """A message cannot be handled, however often it comes; `letter` is what remains of it."""

    def __init__(self, letter: DeadLetter) -> None:
        super().__init__(letter.error)
        self.letter = letter


class Reader:
    """Decodes what a service has subscribed to."""

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self._types = {s.type_name: s.type for s in subscriptions if s.type is not None}
        self._takes_everything = any(s.type is None for s in subscriptions)

    def read(self, parcel: Parcel) -> list[Delivery | DeadLetter]:
        """The events that a message brings, each to be handled or, for the reason given, never."""
        message = parcel.message
        try:
            events = receive_all(message.subject, message.headers, message.data)
        except Undecodable as error:
            events = [error]
        parcel.unsettled = len(events)
        return [
            _stranger(message, place, event) if isinstance(event, Undecodable) else self._read(event, parcel)
            for place, event in enumerate(events)
        ]

    def _read(self, event: Received[Any], parcel: Parcel) -> Delivery | DeadLetter:
        try:
            return self._decoded(Delivery(event, [parcel]))
        except Refused as refused:
            return refused.letter

    def again(self, letter: DeadLetter) -> Delivery:
        """The event of a dead letter. Raises Refused."""
        if not letter.event_type:
            raise Refused(
                letter
            )  # it came without a readable envelope, and bury may have altered what was there
        try:
            event = receive(letter.nats_subject, letter.headers, letter.body)
        except Undecodable:
            raise Refused(letter) from None
        return self._decoded(Delivery(event, replayed=True))

    def _decoded(self, delivery: Delivery) -> Delivery:
        event = delivery.event
        kind = self._types.get(event.type)
        if kind is None:
            if not self._takes_everything:
                why = f"nobody here subscribed to {event.type}"
                raise Refused(delivery.dead(Reason.UNKNOWN_TYPE, why))
            return delivery
        try:
            message: Message = kind.FromString(event.body)
        except DecodeError as error:
            raise Refused(delivery.dead(Reason.UNDECODABLE, f"not a {event.type}: {error}")) from None
        event.decoded = message
        return delivery


def fault_of(event: Received[Any]) -> str | None:
    """What is wrong with an event by the rules of its .proto, or None.

    Asked when a handler fails, and not of every event: those who announce have checked what they were told, and to check it
    again took every consumer an eighth of its time. What the rules forbid is given up at once, and not tried again.
    """
    if event.decoded is None:
        return None
    try:
        wrong = invalid(event.decoded)
    except Exception as error:  # a rule that cannot be evaluated must not stop the stream
        return f"cannot be checked: {error!r}"
    if wrong is None:
        return None
    return "; ".join(f"{violation.field}: {violation.description}" for violation in wrong.violations)


def _stranger(message: Msg, place: int, error: Undecodable) -> DeadLetter:
    """What is no event of ours: the whole message, under an id for its place, so that it is buried once."""
    return DeadLetter(
        uuid5(NAMESPACE_URL, f"{_origin(message)}/{place}"),
        "",
        message.subject,
        message.headers or {},
        message.data,
        Reason.UNDECODABLE,
        str(error),
    )


def _origin(message: Msg) -> str:
    with suppress(ValueError, NatsError):
        origin = message.metadata
        return f"{origin.stream}/{origin.sequence.stream}/{origin.timestamp.isoformat()}"
    return str(message.reply)
