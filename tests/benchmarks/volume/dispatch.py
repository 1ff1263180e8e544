"""task-dispatch without its doors: its handlers on a real PostgreSQL, with projects filled by statements over sets.

What other services would say is put into their mouths; no bus, no gRPC. So a number made here is dispatch's own, and a
project of millions of tasks is there in a minute.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import asyncpg
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from cairn.annotation.v1 import annotation_store_pb2 as store_pb
from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as store_events
from cairn.events.v1 import consensus_events_pb2 as consensus_events
from cairn.events.v1 import inference_events_pb2 as inference_events
from cairn_kit.database import Database, migrate, provision
from cairn_kit.embedded import EmbeddedPostgres
from cairn_kit.events import Received
from cairn_kit.events.envelope import Place
from cairn_kit.ids import uuid7
from cairn_task_dispatch.config import PLAN_CACHE_MODE
from cairn_task_dispatch.handlers.answers_heard import AnswersHeard
from cairn_task_dispatch.handlers.deleting import deletions_of
from cairn_task_dispatch.handlers.expiry import Expiry
from cairn_task_dispatch.handlers.handing_out import HandingOut
from cairn_task_dispatch.handlers.hearing import Hearings
from cairn_task_dispatch.handlers.lease_terms import LeaseTerms
from cairn_task_dispatch.handlers.projects import Projects
from cairn_task_dispatch.store import DispatchStore
from cairn_task_dispatch.subscriptions import subscriptions

TENANT = "acme"
_GRACE = 20.0
_CONNECTIONS = 10
_SCHEMA = "task_dispatch"
_EVENT = 500  # elements of one event, about as many as the services put into one

# As the service would have written it. A task's priority is the item's, two answers are wanted of each.
_FILL = """
WITH items AS (
  SELECT 'item-' || lpad(n::text, 9, '0') AS item, ({priority})::float8 AS priority, ({skill})::text AS skill,
         gen_random_uuid() AS task, n
  FROM generate_series(1, $3::int) AS n
),
known AS (
  INSERT INTO item (tenant, project, item, imported, route, route_revision, priority)
  SELECT $1, $2, item, true, 'HUMAN', 1, priority FROM items
),
made AS (
  INSERT INTO task (tenant, project, task, item, kind, state, priority, skill, place)
  SELECT $1, $2, task, item, 'LABEL', 'OPEN', priority, skill, nextval('task_place') FROM items
  RETURNING task, item, priority, skill, place
)
INSERT INTO slot (tenant, project, task, number, item, kind, skill, urgency, place, state)
SELECT $1, $2, task, number, item, 'LABEL', skill, -priority, place, 'OPEN'
FROM made CROSS JOIN generate_series(1, $4::int) AS number
"""
# These labelers have each answered the `$4` most urgent items, under slots that were wanted for it.
_ANSWERED = """
WITH front AS (
  SELECT task, item, priority, place, $5::int AS have
  FROM task t WHERE tenant = $1 AND project = $2 ORDER BY priority DESC, place LIMIT $4
),
filled AS (
  INSERT INTO slot (tenant, project, task, number, item, kind, skill, urgency, place, state)
  SELECT $1, $2, task, have + nth, item, 'LABEL', '', -priority, place, 'ANSWERED'
  FROM front CROSS JOIN unnest($3::text[]) WITH ORDINALITY AS who(labeler, nth)
)
INSERT INTO lease (tenant, project, lease, task, slot, item, kind, labeler, state, expires_at, check_at, ended_at)
SELECT $1, $2, gen_random_uuid(), task, have + nth, item, 'LABEL', labeler, 'ANSWERED',
       now() + interval '1 hour', now() + interval '1 hour', now()
FROM front CROSS JOIN unnest($3::text[]) WITH ORDINALITY AS who(labeler, nth)
"""
# The first slots of the most urgent tasks, leased as the service would, until `$5` seconds from now.
_LEASED = """
WITH front AS (
  SELECT task, number, item, row_number() OVER (ORDER BY urgency, place) AS nth
  FROM slot WHERE tenant = $1 AND project = $2 AND number = 1 AND state = 'OPEN'
  ORDER BY urgency, place LIMIT $3::int * $4::int
),
taken AS (
  UPDATE slot s SET state = 'LEASED' FROM front f
  WHERE s.tenant = $1 AND s.project = $2 AND s.task = f.task AND s.number = f.number
)
INSERT INTO lease (tenant, project, lease, task, slot, item, kind, labeler, state, created_at, expires_at, check_at)
SELECT $1, $2, gen_random_uuid(), task, number, item, 'LABEL', 'labelers/absent-' || nth % $3::int, 'LIVE',
       now() - interval '1 hour', now() + make_interval(secs => $5), now() + make_interval(secs => $5)
FROM front
"""


class _NobodyAnswered:
    """Stands for annotation-store: it knows of no answer, and every project is known here."""

    async def BatchGetAnsweredLeases(self, request: Any, *, timeout: float) -> Any:
        return store_pb.BatchGetAnsweredLeasesResponse()


class Dispatch:
    """The handlers, at work in one database."""

    def __init__(self, admin: asyncpg.Connection, database: Database, server: int) -> None:
        self.admin = admin
        self.database = database
        self.server = server
        """The process of PostgreSQL."""
        self.store = DispatchStore()
        annotations: Any = _NobodyAnswered()
        answers = AnswersHeard()
        self.handing_out = HandingOut(
            database,
            self.store,
            Projects(database, self.store, annotations),
            LeaseTerms(lambda leases: [claims.lease for claims in leases], _GRACE),
            answers,
        )
        self.expiry = Expiry(database, self.store, annotations, batch=500, retry=5.0)
        self._handlers = {
            s.type: s.handler for s in subscriptions(Hearings(self.store, answers), deletions_of(database))
        }

    async def project(
        self,
        name: str,
        tasks: int,
        *,
        answers: int = 2,
        priority: str = "0.5",
        skill: str = "''",
        veterans: Sequence[str] = (),
        answered: int = 0,
    ) -> None:
        """Make a project of so many open tasks; `priority` and `skill` are SQL over the task's number ``n``.

        Each of the veterans has answered the most urgent `answered` of them.
        """
        await self.hear(name, created(name, answers))
        await self.admin.execute(_FILL.format(priority=priority, skill=skill), TENANT, name, tasks, answers)
        if veterans:
            who = [f"labelers/{veteran}" for veteran in veterans]
            await self.admin.execute(_ANSWERED, TENANT, name, who, answered, answers)

    async def lease_to(self, project: str, labelers: int, each: int, left: float) -> None:
        """Have so many labelers lease so many of the most urgent tasks each, for `left` more seconds."""
        await self.admin.execute(_LEASED, TENANT, project, labelers, each, left)

    async def able(self, labelers: Sequence[str], skills: Sequence[str]) -> None:
        """Set what these labelers are able to do."""
        await self.admin.execute(
            "INSERT INTO labeler (tenant, labeler, skills) SELECT $1, unnest($2::text[]), $3::text[]",
            TENANT,
            [f"labelers/{labeler}" for labeler in labelers],
            list(skills),
        )

    async def rows_written(self) -> int:
        """Count the rows that all tables were given, had changed or lost, so far."""
        flush = "SELECT pg_stat_force_next_flush()"
        await asyncio.gather(
            *(self.database.execute(flush) for _ in range(_CONNECTIONS)), self.admin.execute(flush)
        )
        found: int = await self.admin.fetchval(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables WHERE schemaname = $1",
            _SCHEMA,
        )
        return found

    async def wal_bytes(self) -> int:
        """Count the bytes of write-ahead log, so far."""
        found: int = await self.admin.fetchval("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
        return found

    async def settle_in(self) -> None:
        """Leave the tables as a service that ran for long has them: vacuumed and analyzed."""
        await self.admin.execute("VACUUM ANALYZE")
        await self.admin.execute("CHECKPOINT")

    async def lease(self, project: str, labeler: str, tasks: int = 1) -> list[pb.Lease]:
        """Lease so many tasks."""
        request = pb.LeaseTasksRequest(parent=f"projects/{project}", max_tasks=tasks, request_id=uuid7().hex)
        response = await self.handing_out.lease_tasks(TENANT, f"labelers/{labeler}", request)
        return list(response.leases)

    async def answer(self, project: str, leases: Sequence[pb.Lease]) -> None:
        """Hear that these leases were answered."""
        await self.hear(
            project,
            *(
                store_events.AnnotationSubmitted(
                    item=lease.item,
                    annotation=store_pb.Annotation(
                        name=f"{lease.item}/annotations/a", labeler=lease.labeler, lease=lease.name
                    ),
                )
                for lease in leases
            ),
        )

    async def hear(self, project: str, *messages: Message) -> None:
        """Take in each run of messages of one type, all in one transaction."""
        received = [_received(project, message) for message in messages]

        async def work(tx: Any) -> None:
            for kind, run in itertools.groupby(received, lambda event: type(event.message)):
                await self._handlers[kind](tx, list(run))

        await self.database.retrying(work)


def created(project: str, answers: int) -> Message:
    """Say that there is a project."""
    return store_events.ProjectCreated(
        project=store_pb.Project(
            name=f"projects/{project}",
            revision=1,
            quality=store_pb.QualityPolicy(min_answers=answers, lease_duration=Duration(seconds=600)),
            state=store_pb.PROJECT_STATE_ACTIVE,
        )
    )


def imported(project: str, keys: Sequence[str]) -> Message:
    """Say that there are items."""
    names = [f"projects/{project}/items/{key}" for key in keys]
    return store_events.ItemsImported(
        project=f"projects/{project}",
        items=[store_pb.Item(name=name, key=key, text="x") for name, key in zip(names, keys, strict=True)],
    )


def routed(project: str, priorities: Sequence[tuple[str, float]], revision: int = 1) -> Message:
    """Say that items go to people, this urgently."""
    return inference_events.ItemsRouted(
        project=f"projects/{project}",
        routes=[
            inference_events.ItemRoute(
                item=f"projects/{project}/items/{key}",
                route=inference_events.ROUTE_HUMAN,
                revision=revision,
                priority=priority,
            )
            for key, priority in priorities
        ],
    )


def reached(item: str) -> Message:
    """Say that consensus was reached about an item."""
    return consensus_events.ConsensusReached(item=item, revision=1)


def _received(project: str, message: Message) -> Received[Any]:
    event_id = uuid7()
    return Received(
        id=event_id,
        type=message.DESCRIPTOR.full_name,
        source="/services/bench",
        tenant=TENANT,
        project=project,
        resource=f"projects/{project}",
        revision=0,
        time=datetime.now(UTC),
        subject="",
        headers={},
        body=b"",
        place=Place(event_id),
        decoded=message,
    )


@asynccontextmanager
async def postgres_running() -> AsyncIterator[EmbeddedPostgres]:
    """Run a server with fsync."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        server = EmbeddedPostgres(Path(folder) / "pg")
        await asyncio.to_thread(server.start)
        try:
            yield server
        finally:
            await asyncio.to_thread(server.destroy)


@asynccontextmanager
async def dispatch_running(server: EmbeddedPostgres, name: str) -> AsyncIterator[Dispatch]:
    """Run the handlers in a database of their own."""
    admin = await asyncpg.connect(server.dsn())
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    await provision(server.dsn(name), "task-dispatch")
    await migrate(server.dsn(name, _SCHEMA), _SCHEMA, files("cairn_task_dispatch") / "sql" / "migrations")
    # Foreign keys of what is filled in as a whole are not checked: it is made to hold them.
    admin = await asyncpg.connect(
        server.dsn(name),
        server_settings={"search_path": _SCHEMA, "session_replication_role": "replica"},
    )
    database = Database(
        server.dsn(name, _SCHEMA), _SCHEMA, pool_min=1, pool_max=_CONNECTIONS, plan_cache_mode=PLAN_CACHE_MODE
    )
    await database.open()
    assert server.pid is not None
    dispatch = Dispatch(admin, database, server.pid)
    statistics = asyncio.create_task(_refresh(dispatch))
    try:
        yield dispatch
    finally:
        statistics.cancel()
        await database.close()
        await admin.close()


async def _refresh(dispatch: Dispatch) -> None:
    """Do what the service does every second."""
    while True:
        await asyncio.sleep(1.0)
        await dispatch.store.refresh_statistics(dispatch.database)
