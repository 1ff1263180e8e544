"""Events are neither lost nor doubled, whatever the bus, the database or the handlers do."""

from __future__ import annotations

from typing import Any

from cairn.events.v1 import task_dispatch_events_pb2 as announced_pb2
from cairn_kit.testing import World, eventually

EFFECTS = "SELECT what FROM effect ORDER BY place"


async def effects(service: Any) -> list[str]:
    return [row["what"] for row in await service.database.fetch(EFFECTS)]


async def test_an_event_is_handled_and_what_it_announces_is_published(
    world: World, sample: Any, make_annotation: Any
) -> None:
    async with world.run(sample.service) as service:
        heard = await world.listen(announced_pb2.TasksClosed)

        await world.publish(make_annotation("one"))

        [event] = await heard.count(1)
        assert event.resource == "one"
        assert event.source == "/services/sample"
        assert event.subject == "cairn.v1.acme.birds.task.tasks-closed"
        assert await effects(service) == ["one"]
