"""The reading side: batches from the stream, each handled in one transaction with its inbox rows.

Acknowledged after the commit. A failing batch is halved until the guilty event is alone; that one is put off with
growing delays and, out of tries, becomes a dead letter. A lost database or bus is nobody's failure: it is waited for,
and what is in hand given back after a while, to replicas that may have lost nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from opentelemetry.trace import Tracer

from cairn_kit.database.pool import CONFLICTS, OUTAGES, Database
from cairn_kit.events.batch import HandlerFailed, Spans, handle
from cairn_kit.events.blame import Outage, blame
from cairn_kit.events.bus import Bus, BusError
from cairn_kit.events.dead_letters import DeadLetter, Reason, bury, exhume, storable, take_replays
from cairn_kit.events.delivery import Delivery, Parcel, Reader, Refused, fault_of
from cairn_kit.events.envelope import Received
from cairn_kit.events.inbox import remember
from cairn_kit.events.pull import ConsumerMissing, Pull
from cairn_kit.events.setbacks import count_failure, forgive, put_off
from cairn_kit.events.subscription import NotYet, Subscription
from cairn_kit.events.topology import ACK_WAIT, ensure_consumer, ensure_stream
from cairn_kit.shares import Elsewhere, EventsForKeepers
from cairn_kit.telemetry.logs import get_logger
from cairn_kit.telemetry.metrics import Metrics

_log = get_logger(__name__)
_TRIES = 8
_RETRY_DELAYS = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 120.0)
_NOT_YET_DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
_PUT_OFF_LONGEST = timedelta(days=1)
"""An event whose project is unknown for a day will never be understood. A day of trying, not of age: after as long an
outage all events are as old when they are first heard of, and their project's own may be in another replica's hands."""
_PUT_OFF_COUNTED = timedelta(hours=1)
"""The age from which on trying is counted: most events wait for seconds, and are not worth a row."""
_POLL = 1.0
_REPLAY_EVERY = 2.0
_SLOWEST_RETRY = 2.0
_CONFLICT_RETRIES = 5
_HELD_LONGEST = 20.0
"""Seconds for which a batch stays in hand while a server is away: longer than a restart, for most."""
_MOST_MESSAGES = 500
"""Taken at once, however many events a batch may have: the server lends all replicas together ten thousand at a time."""

_WAITED_FOR: tuple[type[BaseException], ...] = (*OUTAGES, BusError, NatsError, Outage)


class Consumer:
    """Handles what a service has subscribed to, for ever."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        name: str,
        subscriptions: Sequence[Subscription],
        metrics: Metrics,
        tracer: Tracer,
        *,
        batch: int = 500,
        in_order: bool = True,
        retention_days: float = 7.0,
        replicas: int = 1,
        keepers: EventsForKeepers | None = None,
    ) -> None:
        self._database = database
        self._bus = bus
        self._name = name
        self._subscriptions = subscriptions
        self._reader = Reader(subscriptions)
        self._metrics = metrics
        self._tracer = tracer
        self._in_order = in_order
        self._retention_days = retention_days
        self._replicas = replicas
        self._pull = Pull(bus, name, min(batch, _MOST_MESSAGES), keepers)
        self._most_events = batch
        self._held: dict[int, Msg] = {}
        self._set_back: set[UUID] = set()
        """Events that have a row in `delivery_failure`, as far as this process knows."""
        self._stopping = False
        self._replayed_at = float("-inf")

    def stop(self) -> None:
        """Take no more; `run` returns when the batch in hand is settled."""
        self._stopping = True
        self._pull.interrupt()

    async def run(self) -> None:
        """Handle events until stopped; outages are waited for."""
        async with asyncio.TaskGroup() as tasks:
            heart = tasks.create_task(self._keep_alive())
            try:
                await self._consume()
            finally:
                heart.cancel()
                await self._pull.close()

    async def _consume(self) -> None:
        delay, bound, doubtful = 0.05, False, False
        while not self._stopping:
            try:
                await self._bus.until_connected()
                if doubtful:
                    await self._ask_database()
                    doubtful = False
                if not bound:
                    await self._bind()
                    bound = True
                await self._replay()
                messages = await self._pull.next(_POLL)
                self._metrics.consumer_waiting.set(self._pull.waiting if messages else 0)
                if messages:
                    await self._take(messages)
                else:
                    self._metrics.consumer_lag.set(0.0)
                delay = 0.05
            except ConsumerMissing as missing:
                _log.warning("consumer.missing", why=str(missing))
                bound = False
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _SLOWEST_RETRY)
            except _WAITED_FOR as error:
                doubtful = True
                _log.warning("consumer.waiting", error=repr(error.__cause__ or error))
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _SLOWEST_RETRY)
            except Exception:
                # A defect of ours must not end the consumer: what was in hand is delivered again.
                doubtful = True
                _log.exception("consumer.defect")
                await asyncio.sleep(1.0)

    async def _ask_database(self) -> None:
        """Raise Outage, and hold on to no message, unless the database answers."""
        try:
            await self._database.fetchval("SELECT 1")
        except Exception as error:
            await self._pull.close()
            raise Outage from error

    async def _take(self, messages: Sequence[Msg]) -> None:
        try:
            await self._settle(await self._deliveries(messages))
        finally:
            # Nothing is left, unless an error came out: then what was in hand is delivered again, to whoever asks.
            left, self._held = list(self._held.values()), {}
            for message in left:
                with suppress(NatsError, OSError):
                    await message.nak(delay=_RETRY_DELAYS[0])

    async def _bind(self) -> None:
        js = self._bus.jetstream
        await ensure_stream(js, retention_days=self._retention_days, replicas=self._replicas)
        await ensure_consumer(js, self._name, self._subscriptions)

    # --- from messages to events

    async def _deliveries(self, messages: Sequence[Msg]) -> list[Delivery]:
        """Decode; the same event twice becomes one delivery, what cannot be read a dead letter."""
        found: dict[UUID, Delivery] = {}
        for message in messages:
            self._held[id(message)] = message
            parcel = Parcel(message)
            for read in self._reader.read(parcel):
                if isinstance(read, DeadLetter):
                    await self._bury(read, [parcel])
                    continue
                known = found.setdefault(read.event.id, read)
                if known is not read:
                    known.parcels.append(parcel)
        return list(found.values())

    async def _replay(self) -> None:
        """Handle again what somebody asked for on the table of dead letters."""
        if time.monotonic() - self._replayed_at < _REPLAY_EVERY:
            return
        self._replayed_at = time.monotonic()
        deliveries = []
        for letter in await take_replays(self._database, self._name):
            try:
                deliveries.append(self._reader.again(letter))
            except Refused as refused:
                await self._bury(refused.letter, [])
        await self._settle(deliveries)

    # --- from events to effects

    async def _settle(self, deliveries: Sequence[Delivery]) -> None:
        """Handle all of them: as many together as a batch may have, in ever smaller parts if that does not work."""
        todo = deque(
            list(deliveries[start : start + self._most_events])
            for start in range(0, len(deliveries), self._most_events)
        )
        while todo:
            part = todo.popleft()
            try:
                await self._attempt(part)
            except NotYet as not_yet:
                early = {event.id for event in not_yet.events} & {d.event.id for d in part}
                early = early or {d.event.id for d in part}  # it named none of those it was given
                rest = [d for d in part if d.event.id not in early]
                await self._put_off([d for d in part if d.event.id in early], not_yet)
                if rest:
                    todo.appendleft(rest)
            except HandlerFailed as failed:
                if len(part) == 1:
                    await self._failed(part[0], failed.__cause__ or failed)
                else:
                    middle = len(part) // 2
                    todo.extendleft((part[middle:], part[:middle]))
            else:
                await self._acknowledge(part)

    async def _attempt(self, part: Sequence[Delivery]) -> None:
        """One transaction for the part; conflicts and, for a while, outages are tried again here."""
        conflicts, delay, began = 0, 0.05, time.monotonic()
        while True:
            try:
                return await self._in_one_transaction(part)
            except CONFLICTS as error:
                conflicts += 1
                if conflicts > _CONFLICT_RETRIES:
                    raise HandlerFailed([d.event for d in part]) from error
                await asyncio.sleep(random.uniform(0, 0.02 * 2**conflicts))
            except Outage as error:
                _log.warning("consumer.waiting", error=repr(error.__cause__))
                if self._stopping or time.monotonic() - began > _HELD_LONGEST:
                    raise
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _SLOWEST_RETRY)

    async def _in_one_transaction(self, part: Sequence[Delivery]) -> None:
        events = [delivery.event for delivery in part]
        began = time.perf_counter()
        opened, spans = False, None
        fresh: list[Received[Any]] = []
        try:
            async with self._database.transaction() as tx:
                fresh = await remember(tx, self._name, events)
                opened = True
                spans = Spans(self._tracer, self._name, fresh)
                if fresh:
                    await handle(tx, fresh, self._subscriptions, self._in_order)
                if suspects := [event.id for event in events if event.id in self._set_back]:
                    await forgive(tx, self._name, suspects)
                if replayed := [d.event.id for d in part if d.replayed]:
                    await exhume(tx, self._name, replayed)
        except BaseException as error:
            if spans is not None:
                spans.end(error)
            raise blame(error, events, opened=opened)  # noqa: B904 - it has its cause
        spans.end()
        self._set_back.difference_update(event.id for event in events)
        self._count(fresh, len(events) - len(fresh), time.perf_counter() - began)

    def _count(self, fresh: Sequence[Received[Any]], duplicates: int, seconds: float) -> None:
        self._metrics.handler_seconds.observe(seconds)
        if duplicates:
            self._metrics.duplicates.inc(duplicates)
        now = datetime.now(UTC)
        for type_name, count in Counter(event.type for event in fresh).items():
            self._metrics.consumed.labels(type_name).inc(count)
        # Events that were announced together count once.
        ages = [max((now - moment).total_seconds(), 0.0) for moment in {event.time for event in fresh}]
        for age in ages:
            self._metrics.event_lag.observe(age)
        self._metrics.consumer_lag.set(max(ages, default=0.0))

    # --- from effects to acknowledgements

    async def _acknowledge(self, part: Sequence[Delivery]) -> None:
        for delivery in part:
            for parcel in delivery.parcels:
                await self._settled(parcel)

    async def _settled(self, parcel: Parcel, again: float | None = None) -> None:
        """One of a message's events is settled; the last one lets the message go, or has it come again."""
        if not parcel.settle(again):
            return
        message = parcel.message
        self._held.pop(id(message), None)
        with suppress(NatsError, OSError):  # delivered again, and what was done is known by the inbox
            if parcel.again is None:
                await message.ack()
            else:
                await message.nak(delay=parcel.again * random.uniform(0.8, 1.2))

    async def _put_off(self, part: Sequence[Delivery], not_yet: NotYet) -> None:
        why = storable(not_yet.why)
        # What another replica keeps has but to be taken there.
        elsewhere = isinstance(not_yet, Elsewhere)
        counted = {} if not_yet.understood else await self._count_put_off(part, why)
        for delivery in part:
            if counted.get(delivery.event.id, timedelta()) >= _PUT_OFF_LONGEST:
                await self._give_up(delivery, Reason.NOT_YET_TOO_LONG, why)
            else:
                self._metrics.not_yet.labels(delivery.event.type).inc()
                await self._again(delivery, _NOT_YET_DELAYS, 1 if elsewhere else None)
        _log.debug("consumer.not_yet", why=why, events=len(part))

    async def _count_put_off(self, part: Sequence[Delivery], why: str) -> dict[UUID, timedelta]:
        """For how long those of them that are no longer young have been put off."""
        young = datetime.now(UTC) - _PUT_OFF_COUNTED
        old = [delivery for delivery in part if delivery.event.time <= young]
        # A replayed dead letter has had its day.
        replayed = {delivery.event.id: _PUT_OFF_LONGEST for delivery in old if delivery.replayed}
        ids = [delivery.event.id for delivery in old if not delivery.replayed]
        self._set_back.update(ids)
        return replayed | (await put_off(self._database, self._name, ids, why) if ids else {})

    async def _failed(self, delivery: Delivery, error: BaseException) -> None:
        event = delivery.event
        self._metrics.handler_failures.labels(event.type).inc()
        _log.error("consumer.failed", event_id=str(event.id), event_type=event.type, exc_info=error)
        if (fault := fault_of(event)) is not None:
            await self._give_up(delivery, Reason.INVALID, fault)
            return
        text = storable(f"{type(error).__name__}: {error}")
        failures = _TRIES  # a replayed dead letter has had its tries
        if not delivery.replayed:
            self._set_back.add(event.id)
            failures = await count_failure(self._database, self._name, event.id, text)
        if failures >= _TRIES:
            await self._give_up(delivery, Reason.OUT_OF_TRIES, text)
        else:
            await self._again(delivery, _RETRY_DELAYS, failures)

    async def _again(self, delivery: Delivery, delays: Sequence[float], times: int | None = None) -> None:
        """Have it delivered again after a delay that grows with each time."""
        for parcel in delivery.parcels:
            count = times if times is not None else _times_delivered(parcel.message)
            await self._settled(parcel, delays[min(count, len(delays)) - 1])

    async def _give_up(self, delivery: Delivery, reason: Reason, error: str) -> None:
        self._set_back.discard(delivery.event.id)
        await self._bury(delivery.dead(reason, error), delivery.parcels)

    async def _bury(self, letter: DeadLetter, parcels: Sequence[Parcel]) -> None:
        async with self._database.transaction() as tx:
            await bury(tx, self._name, letter)
            await forgive(tx, self._name, [letter.event_id])
        self._metrics.dead_letters.labels(letter.reason.value).inc()
        _log.error(
            "consumer.dead_letter",
            reason=letter.reason.value,
            event_id=str(letter.event_id),
            subject=letter.nats_subject,
            error=letter.error,
        )
        for parcel in parcels:
            await self._settled(parcel)

    async def _keep_alive(self) -> None:
        """Tell the server every third of its patience that we still have what we have."""
        while True:
            await asyncio.sleep(ACK_WAIT / 3)
            with suppress(NatsError, OSError):
                for message in [*self._held.values(), *self._pull.buffered()]:
                    await message.in_progress()


def _times_delivered(message: Msg) -> int:
    try:
        return int(message.metadata.num_delivered)
    except (NatsError, ValueError, IndexError):
        return 1
