"""One batch inside one transaction: inbox first, then the handlers in order. What is delivered twice acts once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from cairn_kit.database.transaction import Transaction
from cairn_kit.events.envelope import Received
from cairn_kit.events.subscription import NotYet, Subscription
from cairn_kit.telemetry.tracing import TRACEPARENT, context_of, is_dropped


class HandlerFailed(Exception):
    """A handler raised; the cause is what it raised, `events` the run it was given."""

    def __init__(self, events: Sequence[Received[Any]]) -> None:
        super().__init__()
        self.events = events


def calls(
    events: Sequence[Received[Any]], subscriptions: Sequence[Subscription], in_order: bool
) -> Iterator[tuple[Subscription, Sequence[Received[Any]]]]:
    """Which handler gets which events, in which order.

    The subscriptions to everything come first, with the whole batch. Then, in order: each run of consecutive events
    of one type; or, when order across types does not matter: each type whole, in the order of the subscriptions.
    What tells of a deleted project reaches none of these: there is nothing left that it could change.
    """
    typed = []
    for subscription in subscriptions:
        if subscription.type is None:
            yield subscription, events
        else:
            typed.append(subscription)
    events = [event for event in events if not event.too_late]
    if in_order:
        for type_name, run in groupby(events, key=lambda event: event.type):
            same = list(run)
            for subscription in typed:
                if subscription.type_name == type_name:
                    yield subscription, same
    else:
        for subscription in typed:
            same = [event for event in events if event.type == subscription.type_name]
            if same:
                yield subscription, same


async def handle(
    tx: Transaction, events: Sequence[Received[Any]], subscriptions: Sequence[Subscription], in_order: bool
) -> None:
    """Give the events to their handlers. Raises NotYet with its events filled in, or HandlerFailed."""
    for subscription, run in calls(events, subscriptions, in_order):
        # What a handler announces without a cause continues the trace of the first event it was given.
        token = otel_context.attach(run[0].context())
        try:
            await subscription.handler(tx, run)
        except NotYet as not_yet:
            not_yet.events = not_yet.events or tuple(run)
            raise
        except Exception as error:
            raise HandlerFailed(run) from error
        finally:
            otel_context.detach(token)


class Spans:
    """One span for each event of a batch, each in its own event's trace, all ended by the same commit."""

    def __init__(self, tracer: Tracer, consumer: str, events: Sequence[Received[Any]]) -> None:
        self._open: list[Span] = []
        for event in events:
            carried = event.headers.get(TRACEPARENT, "")
            if is_dropped(carried):
                continue
            # Not event.context(): an attempt before this one may have left its own span there.
            parent = context_of(carried)
            span = tracer.start_span(f"handle {event.type.rpartition('.')[2]}", parent, SpanKind.CONSUMER)
            if span.is_recording():
                span.set_attributes(
                    {
                        "messaging.message.id": str(event.id),
                        "messaging.consumer.group.name": consumer,
                        "cairn.resource": event.resource,
                        "cairn.tenant": event.tenant,
                    }
                )
                event.trace = set_span_in_context(span, parent)
                self._open.append(span)

    def end(self, error: BaseException | None = None) -> None:
        """End them all, as failed if there is an error."""
        for span in self._open:
            if error is not None:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            span.end()
