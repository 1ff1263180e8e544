"""Another question is routed: the items follow it a chunk after the other, beside other work.

What was learned of the old question was dropped with the wish. Until all items have followed nothing of the project is
scored, routed or trained: of some items the labels would be answers to one question, of others to another. Each chunk
is a transaction that notes how far it has come, so whoever is killed leaves nothing to mend; labels that come in meanwhile
are put aside where their item has still to follow.
"""

from __future__ import annotations

import asyncio

from cairn_inference.records import Project
from cairn_inference.store import InferenceStore
from cairn_kit.database import Database, Transaction
from cairn_kit.database.deleting import FIRST_CHUNK, SMALLEST_CHUNK, next_size
from cairn_kit.telemetry.logs import get_logger

_log = get_logger(__name__)

_REST = 1.0
"""Times as long as a chunk took: labels of the project wait for the chunk, and then have as much time."""


class QuestionMoves:
    """Lets the items of projects follow to the question that is routed. For one process at a time."""

    def __init__(self, database: Database, store: InferenceStore) -> None:
        self._database = database
        self._store = store
        self._most = FIRST_CHUNK

    async def step(self) -> int:
        """One chunk of each project that moves; how many there were. A project that fails holds up no other."""
        done = 0
        for tenant, project in await self._store.projects_moving(self._database):
            try:
                done += await self._advance(tenant, project)
            except Exception as error:
                _log.error("move.failed", tenant=tenant, project=project, exc_info=error)
                self._most = SMALLEST_CHUNK
                # A lost database is no project's failure: it ends the step.
                await self._store.answers(self._database)
        return done

    async def _advance(self, tenant: str, project_id: str) -> int:
        clock = asyncio.get_running_loop().time
        began = clock()
        async with self._database.transaction() as tx:
            project = await self._store.project_for_update(tx, tenant, project_id)
            if project is None or not project.moves:
                return 0
            if project.moving_since is None:
                await self._store.see_move(tx, project)
                return 1
            # An import that does not know of the move may still bring items with labels of the old question.
            if not project.moved_until and await self._store.older_runs(tx, project.moving_since):
                return 0
            if not await self._store.move_items(tx, project, self._most):
                await self._end(tx, project)
        took = clock() - began
        self._most = next_size(self._most, took)
        await asyncio.sleep(took * _REST)
        return 1

    async def _end(self, tx: Transaction, project: Project) -> None:
        await self._store.end_move(tx, project)
        wanted = project.policy.question
        if wanted and wanted != project.routed_question:  # chosen while this one was followed
            await self._store.begin_move(tx, project, wanted)
