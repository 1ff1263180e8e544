"""Answers are examined so that nobody waits for another's: large ones before their transaction, beside the event loop.

To look at an annotation of 2 MiB takes a second or two. On the event loop that would be everybody's, and in the
transaction that keeps it, which ends after some seconds, the time of all whose answers are kept with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.answer_parts import ItemFacts
from cairn_annotation_store.domain.items import facts_of
from cairn_annotation_store.domain.verdicts import Verdict, verdict_on
from cairn_annotation_store.store import ItemStore, ProjectRow, ProjectStore
from cairn_kit.database import Database
from cairn_kit.database.pool import OUTAGES
from cairn_kit.database.transaction import to_the_end

_LARGE = 16 * 1024
"""Bytes of a submission that takes some ten milliseconds to examine: two statements more, and a thread's turn, are little
beside that."""


class Examiner:
    """Looks at answers."""

    def __init__(self, database: Database, projects: ProjectStore, items: ItemStore) -> None:
        self._database = database
        self._projects = projects
        self._items = items
        # Threads share one interpreter: of two at once both would take twice as long, and calls wait for both.
        self._turn = asyncio.Lock()
        self._unbroken = 0

    async def ahead(
        self, key: tuple[str, str, str], answers: Sequence[value_pb.Answer], size: int
    ) -> Verdict | None:
        """What large answers to the item (tenant, project, item) are worth by the schema of now.

        None where they have few bytes, or project or item are not there, or the database is away: all that is said where
        answers are kept.
        """
        if size < _LARGE:
            return None
        try:
            project = await self._projects.get(self._database, *key[:2])
            item = (await self._items.of_leases(self._database, [key])).get(key)
        except OUTAGES:
            return None
        if project is None or item is None:
            return None
        async with self._turn:
            return await _beside(answers, project, facts_of(item.body, item.text_length))

    async def verdict(
        self, answers: Sequence[value_pb.Answer], size: int, project: ProjectRow, item: ItemFacts
    ) -> Verdict:
        """What answers of so many bytes are worth. Other calls get a turn now and then."""
        if size >= _LARGE:
            return await _beside(answers, project, item)
        self._unbroken += size
        if self._unbroken >= _LARGE:
            self._unbroken = 0
            await asyncio.sleep(0)
        return verdict_on(answers, project.schema_version, project.rules, item)


async def _beside(answers: Sequence[value_pb.Answer], project: ProjectRow, item: ItemFacts) -> Verdict:
    # To its end: a caller that goes away does not end the thread, and the next one would run beside it.
    return await to_the_end(
        asyncio.to_thread(verdict_on, answers, project.schema_version, project.rules, item)
    )
