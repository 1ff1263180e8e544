"""What a service has announced, by its own outbox: published or not, each event for itself."""

from __future__ import annotations

from typing import Any

from cairn_kit.database.pool import Database
from cairn_kit.events.envelope import Received, Undecodable, receive_all
from cairn_kit.events.relay import stored


async def announced(database: Database) -> list[Received[Any]]:
    """Every event that the outbox keeps, in the order of announcing, undecoded."""
    events: list[Received[Any]] = []
    for row in await database.fetch("SELECT * FROM outbox ORDER BY event_id"):
        message = stored(row)
        for event in receive_all(message.nats_subject, message.headers("/services/own"), message.body):
            if isinstance(event, Undecodable):
                raise event
            events.append(event)
    return events
