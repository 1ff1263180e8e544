"""Deleting a project, however large: in the background, in chunks, beside other work.

A row in `deleted_project` is the wish and, for good, the tombstone. It is written with whatever makes the project
unreachable to new work. Nothing is deleted before every transaction of ours that may have begun without seeing it has
ended: after that nobody writes of the project any more, and one pass is all it takes.

Each chunk is one short transaction that also notes how far it has come; whoever is killed leaves nothing to mend. The
row is locked meanwhile, so that a project has one worker at a time, of whatever replica. Chunks are as large as what
takes a moment, and much longer than it worked a worker rests: others go on, and autovacuum keeps up.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from cairn_kit.database.pool import Database
from cairn_kit.database.transaction import Transaction
from cairn_kit.telemetry.logs import get_logger

if TYPE_CHECKING:  # events stand on the database, not the other way round
    from cairn_kit.events.envelope import Received

_log = get_logger(__name__)

FIRST_CHUNK, SMALLEST_CHUNK, LARGEST_CHUNK = 500, 20, 10_000
SHORT, LONG = 0.05, 0.2
"""Seconds: a chunk that took less is followed by a larger one, one that took more by a smaller."""

_REST = 3.0
"""Times as long as it worked a worker rests: it takes a quarter of one connection, whatever the machine."""
_SOON, _LATER = 0.25, 30.0
"""Seconds until another look at a project that others still write in, and at one whose deletion failed."""

_FIRST_KEYS = {"text": "", "uuid": str(UUID(int=0)), "bigint": "0"}

_BEGIN = """
INSERT INTO deleted_project (tenant, project, event_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true
"""
_CLAIM = """
SELECT tenant, project, event_id, requested_at, seen_at, part, after FROM deleted_project
WHERE gone_at IS NULL AND turn_at <= now() ORDER BY turn_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_SEE = "UPDATE deleted_project SET seen_at = clock_timestamp() WHERE tenant = $1 AND project = $2"
# What other sessions of our role run: ours alone write here.
_OLDER_RUNS = """
SELECT EXISTS (SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
                 AND xact_start <= $1)
"""
_POSTPONE = "UPDATE deleted_project SET turn_at = now() + make_interval(secs => $3) WHERE tenant = $1 AND project = $2"
# From the beginning: what it stumbled over may have been written behind its back.
_PUT_BACK = """
UPDATE deleted_project SET turn_at = now() + make_interval(secs => $3), part = 0, after = ''
WHERE tenant = $1 AND project = $2 AND gone_at IS NULL
"""
_ADVANCE = """
UPDATE deleted_project SET part = $3, after = $4, deleted = deleted + $5, turn_at = now()
WHERE tenant = $1 AND project = $2
"""
_FINISH = "UPDATE deleted_project SET gone_at = now(), after = '' WHERE tenant = $1 AND project = $2 RETURNING deleted"
_LATELY_GONE = """
SELECT tenant, project, event_id, requested_at FROM deleted_project WHERE gone_at > now() - interval '1 day'
"""


@dataclass(frozen=True, slots=True)
class DeletedProject:
    """A project that is to be deleted: which, for which event, since when."""

    tenant: str
    project: str
    event_id: UUID
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a chunk deleted, and the key after which to go on; None when nothing is left."""

    count: int
    last: str | None


class Part(Protocol):
    """One kind of what a service holds of a project."""

    async def delete(self, tx: Transaction, which: DeletedProject, after: str, most: int) -> Deleted:
        """Delete about `most` of them, from key `after` on ('' is the beginning). Safe to repeat."""
        ...


class Rows:
    """The rows of a table of which an index begins with tenant, project and these columns.

    A column is given by its name, and its type unless that is text: `Rows("lease", "lease uuid")`. Name as many as tell
    most rows apart: a chunk begins at the key where the one before ended, so as not to step over all the dead. `where` is
    true of all rows: the condition of a partial index, which serves only those who repeat it.
    """

    def __init__(self, table: str, *keys: str, where: str = "true") -> None:
        names, kinds = zip(
            *((name, kind or "text") for name, _, kind in (k.partition(" ") for k in keys)), strict=True
        )
        columns = ", ".join(f'"{name}"' for name in names)
        begin = ", ".join(f"($3::text[])[{place}]::{kind}" for place, kind in enumerate(kinds, start=1))
        backwards = ", ".join(f'"{name}" DESC' for name in names)
        told = ", ".join(f'"{name}"::text' for name in names)
        self._first = [_FIRST_KEYS[kind] for kind in kinds]
        self._statement = f"""
            WITH gone AS (
              DELETE FROM "{table}" WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM "{table}"
                WHERE tenant = $1 AND project = $2 AND ({columns}) >= ({begin}) AND {where}
                ORDER BY {columns} LIMIT $4))
              RETURNING {columns})
            SELECT (SELECT count(*) FROM gone) AS count,
                   (SELECT ARRAY[{told}] FROM gone ORDER BY {backwards} LIMIT 1) AS last
        """  # noqa: S608 - our own names

    async def delete(self, tx: Transaction, which: DeletedProject, after: str, most: int) -> Deleted:
        """Delete the next rows."""
        begin = json.loads(after) if after else self._first
        row = await tx.fetchrow(self._statement, which.tenant, which.project, begin, most)
        if row is None or row["last"] is None:
            return Deleted(0, None)
        return Deleted(row["count"], json.dumps(row["last"]))


class _DeadLetters:
    """What could not be handled of the project's events; there are few."""

    async def delete(self, tx: Transaction, which: DeletedProject, after: str, most: int) -> Deleted:
        tag = await tx.execute(
            "DELETE FROM dead_letter WHERE starts_with(nats_subject, $1)",
            f"cairn.v1.{which.tenant}.{which.project}.",
        )
        return Deleted(int(tag.rpartition(" ")[2]), None)


class ProjectDeletions:
    """Deletes what a service holds of deleted projects: its parts, in their order."""

    def __init__(
        self,
        database: Database,
        parts: Sequence[Part],
        *,
        at_once: Part | None = None,
        files: Part | None = None,
    ) -> None:
        """`at_once` goes with the wish: the row without which nobody here knows the project any more.

        `files`, one of the parts, are looked for again for a day: a process that is killed may leave one behind.
        """
        self._database = database
        self._at_once = at_once
        self._files = files
        self._parts: list[Part] = [_DeadLetters(), *parts]
        self._most = FIRST_CHUNK
        self._sized_for: object = None
        """Whose part the chunks have their size from: another's rows may take ten times as long."""
        self.wake: Callable[[], None] = _nobody
        """Called when a deletion begins; the wiring lets it wake the worker."""

    async def on_projects_deleted(self, tx: Transaction, events: Sequence[Received[Any]]) -> None:
        """Delete what is held of these projects: the handler of ProjectDeleted where it is not announced."""
        for event in sorted(events, key=lambda event: (event.tenant, event.project)):
            await self.begin(tx, event.tenant, event.project, event.id)
            if self._at_once is not None:
                which = DeletedProject(event.tenant, event.project, event.id, event.time)
                await self._at_once.delete(tx, which, "", 1)

    async def begin(self, tx: Transaction, tenant: str, project: str, event_id: UUID) -> bool:
        """Wish for a deletion; False when there is the wish already. The caller makes the project unreachable with it."""
        new = await tx.fetchval(_BEGIN, tenant, project, event_id)
        tx.after_commit(self.wake)
        return bool(new)

    async def work(self) -> None:
        """Work on what is to be deleted until there is nothing to do just now: a periodic job."""
        while (worked := await self._chunk()) is not None:
            self._most = next_size(self._most, worked)
            await asyncio.sleep(worked * _REST)

    async def look_again(self) -> None:
        """Delete files that came to light after their project was gone: a periodic job."""
        if self._files is None:
            return
        for row in await self._database.fetch(_LATELY_GONE):
            after: str | None = ""
            while after is not None:
                async with self._database.transaction() as tx:
                    found = await self._files.delete(tx, DeletedProject(**row), after, FIRST_CHUNK)
                after = found.last

    async def _chunk(self) -> float | None:
        """One chunk; returns how long it took in seconds, None when there is nothing to do."""
        which: DeletedProject | None = None
        began = time.monotonic()
        try:
            async with self._database.transaction() as tx:
                row = await tx.fetchrow(_CLAIM)
                if row is None:
                    return None
                which = DeletedProject(row["tenant"], row["project"], row["event_id"], row["requested_at"])
                if row["seen_at"] is None:
                    await tx.execute(_SEE, which.tenant, which.project)
                elif row["part"] == 0 and await tx.fetchval(_OLDER_RUNS, row["seen_at"]):
                    await tx.execute(_POSTPONE, which.tenant, which.project, _SOON)
                else:
                    await self._delete(tx, which, row["part"], row["after"])
        except Exception:
            if which is not None:
                await self._database.execute(_PUT_BACK, which.tenant, which.project, _LATER)
            raise
        return time.monotonic() - began

    async def _delete(self, tx: Transaction, which: DeletedProject, place: int, after: str) -> None:
        """Delete the next chunk, of the first part that has something."""
        while place < len(self._parts):
            if self._sized_for != (which, place):
                self._sized_for, self._most = (which, place), FIRST_CHUNK
            done = await self._parts[place].delete(tx, which, after, self._most)
            place, after = (place + 1, "") if done.last is None else (place, done.last)
            if done.count or after:
                await tx.execute(_ADVANCE, which.tenant, which.project, place, after, done.count)
                return
        deleted = await tx.fetchval(_FINISH, which.tenant, which.project)
        _log.info("project.gone", tenant=which.tenant, project=which.project, deleted=deleted)


def next_size(most: int, took: float) -> int:
    """Rows of the next chunk, when `most` took so many seconds."""
    if took < SHORT:
        return min(2 * most, LARGEST_CHUNK)
    return max(most // 2, SMALLEST_CHUNK) if took > LONG else most


def _nobody() -> None:
    """Before the worker is wired: its own clock finds the wish."""
