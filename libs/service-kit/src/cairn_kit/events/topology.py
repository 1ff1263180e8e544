"""The stream and its consumers, declared here and nowhere else; applied by `migrate`, mended by running services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import BadRequestError, NotFoundError

from cairn_kit.events.subjects import EVERYTHING
from cairn_kit.events.subscription import Subscription

STREAM = "CAIRN"
ACK_WAIT = 6.0
"""Seconds until an event that was neither acknowledged nor kept alive is delivered again."""
_DEDUPE_WINDOW = 120.0
_UNACKNOWLEDGED = 10_000
_DAY = 86_400.0


def stream_config(retention_days: float, replicas: int = 1) -> StreamConfig:
    """One stream for all events: kept by age, on disk; the outboxes keep theirs as long."""
    return StreamConfig(
        name=STREAM,
        subjects=[EVERYTHING],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_age=retention_days * _DAY,
        duplicate_window=min(_DEDUPE_WINDOW, retention_days * _DAY),
        num_replicas=replicas,
        allow_direct=True,
        allow_atomic=True,
    )


def consumer_config(name: str, subscriptions: Sequence[Subscription]) -> ConsumerConfig:
    """A durable pull consumer for what a service listens to. Tries are counted by us, in the database."""
    return ConsumerConfig(
        durable_name=name,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT,
        max_deliver=-1,
        max_ack_pending=_UNACKNOWLEDGED,
        filter_subjects=filters(subscriptions),
    )


def filters(subscriptions: Iterable[Subscription]) -> list[str]:
    """The subjects listened to; NATS refuses filters that overlap, so everything stands alone."""
    found = sorted({subscription.filter for subscription in subscriptions})
    return [EVERYTHING] if EVERYTHING in found else found


async def ensure_stream(
    js: JetStreamContext, *, retention_days: float, replicas: int = 1, update: bool = False
) -> StreamInfo:
    """Make the stream if it is absent; with `update`, also bring its settings up to date."""
    config = stream_config(retention_days, replicas)
    try:
        info: StreamInfo = await js.stream_info(STREAM)
    except NotFoundError:
        try:
            return await js.add_stream(config)
        except BadRequestError:  # another service was first
            return await js.stream_info(STREAM)
    return await js.update_stream(config) if update else info


async def ensure_consumer(js: JetStreamContext, name: str, subscriptions: Sequence[Subscription]) -> None:
    """Make the service's consumer, or bring it up to date."""
    await js.add_consumer(STREAM, consumer_config(name, subscriptions))


__all__ = ["ACK_WAIT", "STREAM", "consumer_config", "ensure_consumer", "ensure_stream", "filters"]
