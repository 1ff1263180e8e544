"""The service without its doors: handlers on a real PostgreSQL, with other services' words put into their mouths."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from cairn.annotation.v1 import annotation_store_pb2 as store_pb
from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as store_events
from cairn.events.v1 import consensus_events_pb2 as consensus_events
from cairn.events.v1 import inference_events_pb2 as inference_events
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as label_pb
from cairn_kit.auth import LeaseClaims
from cairn_kit.database import Database
from cairn_kit.events import Received
from cairn_kit.events.envelope import Place
from cairn_kit.ids import uuid7
from cairn_kit.testing import announced
from cairn_kit.testing.fixtures import *  # noqa: F403
from cairn_kit.testing.servers import fresh_database
from cairn_task_dispatch.config import PLAN_CACHE_MODE
from cairn_task_dispatch.domain.leases import Claim
from cairn_task_dispatch.domain.names import parse_item
from cairn_task_dispatch.handlers.answers_heard import AnswersHeard
from cairn_task_dispatch.handlers.claiming import Claiming
from cairn_task_dispatch.handlers.deleting import deletions_of
from cairn_task_dispatch.handlers.expiry import Expiry
from cairn_task_dispatch.handlers.handing_out import HandingOut
from cairn_task_dispatch.handlers.hearing import Hearings
from cairn_task_dispatch.handlers.lease_terms import LeaseTerms
from cairn_task_dispatch.handlers.leasing import Leasing
from cairn_task_dispatch.handlers.projects import Projects
from cairn_task_dispatch.handlers.queues import Queues
from cairn_task_dispatch.handlers.tasks import Tasks, TaskWish
from cairn_task_dispatch.store import DispatchStore
from cairn_task_dispatch.subscriptions import subscriptions

MIGRATIONS = files("cairn_task_dispatch") / "sql" / "migrations"
GRACE = 10.0
SCHEMA = schema_pb.LabelSchema(
    questions=[schema_pb.Question(id="q", required=True, text=schema_pb.TextQuestion())]
)


class Words:
    """What other services say, in short."""

    def __init__(self, project: str = "birds") -> None:
        self.project = project
        self.name = f"projects/{project}"

    def item(self, key: str) -> str:
        return f"{self.name}/items/{key}"

    def created(self, revision: int = 1, **quality: Any) -> Message:
        seconds = quality.pop("lease_seconds", 600)
        archived = quality.pop("archived", False)
        return store_events.ProjectCreated(
            project=store_pb.Project(
                name=self.name,
                revision=revision,
                schema=SCHEMA,
                quality=store_pb.QualityPolicy(lease_duration=Duration(seconds=seconds), **quality),
                state=store_pb.PROJECT_STATE_ARCHIVED if archived else store_pb.PROJECT_STATE_ACTIVE,
            )
        )

    def imported(self, *keys: str, gold: Iterable[str] = ()) -> Message:
        golden = set(gold)
        answer = label_pb.Answer(question="q", text="truth")
        return store_events.ItemsImported(
            project=self.name,
            items=[
                store_pb.Item(
                    name=self.item(key), key=key, text="x", gold_answers=[answer] if key in golden else []
                )
                for key in dict.fromkeys((*keys, *sorted(golden)))
            ],
        )

    def routed(self, *keys: str, auto: bool = False, revision: int = 1, priority: float = 0.5) -> Message:
        where = inference_events.ROUTE_AUTO if auto else inference_events.ROUTE_HUMAN
        return inference_events.ItemsRouted(
            project=self.name,
            routes=[
                inference_events.ItemRoute(
                    item=self.item(key), route=where, revision=revision, priority=priority
                )
                for key in keys
            ],
        )

    def wanted(self, key: str, answers: int, revision: int, skill: str = "") -> Message:
        return consensus_events.AnswersWanted(
            item=self.item(key), answers_wanted=answers, revision=revision, skill=skill
        )

    def reached(self, key: str, revision: int) -> Message:
        return consensus_events.ConsensusReached(item=self.item(key), revision=revision)

    def disputed(self, key: str, revision: int, reason: str = "CAP_REACHED") -> Message:
        return consensus_events.ConsensusDisputed(
            item=self.item(key), revision=revision, reason=f"DISPUTE_REASON_{reason}"
        )

    def corrected(self, key: str, *, complete: bool = True) -> Message:
        return store_events.LabelFinalized(
            item=self.item(key),
            item_complete=complete,
            label=store_pb.Label(source=store_pb.LABEL_SOURCE_CORRECTION),
        )

    def submitted(self, lease: pb.Lease, *, late: bool = False) -> Message:
        return store_events.AnnotationSubmitted(
            item=lease.item,
            annotation=store_pb.Annotation(
                name=f"{lease.item}/annotations/a", labeler=lease.labeler, lease=lease.name, late=late
            ),
        )


class AnsweredLeases:
    """Stands for annotation-store where only its word matters; the real contract is tested over gRPC."""

    async def GetProject(self, request: Any) -> Any:
        raise AssertionError(f"{request.name} was heard of")

    def __init__(self) -> None:
        self.late: dict[str, bool] = {}
        self.asked: list[str] = []
        self.away_from: tuple[str, ...] = ()
        """Whose questions it does not answer: beginnings of names."""

    async def BatchGetAnsweredLeases(self, request: Any, *, timeout: float) -> Any:
        self.asked += request.leases
        if request.leases[0].startswith(self.away_from):
            raise ConnectionError("annotation-store is away")
        known = [lease for lease in request.leases if lease in self.late]
        return store_pb.BatchGetAnsweredLeasesResponse(
            answered_leases=known, late=[self.late[lease] for lease in known]
        )


class Desk:
    """The handlers, at work for one tenant."""

    Words = Words

    def __init__(self, database: Database, tenant: str = "acme", project: str = "birds") -> None:
        self.database = database
        self.tenant = tenant
        self.words = Words(project)
        self.store = DispatchStore()
        self.answered = AnsweredLeases()
        self.signed: list[LeaseClaims] = []
        self.answers = AnswersHeard()
        self.hearings = Hearings(self.store, self.answers)
        projects = Projects(database, self.store, self.answered)
        terms = LeaseTerms(self._sign, GRACE)
        self.handing_out = HandingOut(database, self.store, projects, terms, self.answers)
        self.claiming = Claiming(database, self.store, projects, terms)
        self.leasing = Leasing(database, self.store, terms)
        self.tasks = Tasks(database, self.store, projects)
        self.queues = Queues(database, self.store, projects)
        self.expiry = Expiry(database, self.store, self.answered, batch=100, retry=5.0)
        self._handlers = {s.type: s.handler for s in subscriptions(self.hearings, deletions_of(database))}

    def _sign(self, leases: Sequence[LeaseClaims]) -> list[str]:
        self.signed += leases
        return [f"token of {claims.lease}" for claims in leases]

    # --- hearing

    def received(self, message: Message) -> Received[Any]:
        event_id = uuid7()
        return Received(
            id=event_id,
            type=message.DESCRIPTOR.full_name,
            source="/services/test",
            tenant=self.tenant,
            project=self.words.project,
            resource=self.words.name,
            revision=0,
            time=datetime.now(UTC),
            subject="",
            headers={},
            body=b"",
            place=Place(event_id),
            decoded=message,
        )

    async def hear(self, *messages: Message) -> None:
        """Each run of messages of one type to its handler, all in one transaction."""
        async with self.database.transaction() as tx:
            for kind, run in itertools.groupby(messages, type):
                await self._handlers[kind](tx, [self.received(message) for message in run])

    async def open(self, *keys: str, priority: float = 0.5, gold: Iterable[str] = (), **quality: Any) -> None:
        """A project with these items, all for people."""
        await self.hear(
            self.words.created(**quality),
            self.words.imported(*keys, gold=gold),
            self.words.routed(*keys, priority=priority),
        )

    # --- asking

    async def lease(
        self, labeler: str, count: int = 1, *, reviews: bool = False, **more: Any
    ) -> list[pb.Lease]:
        request = pb.LeaseTasksRequest(parent=self.words.name, max_tasks=count, reviews=reviews, **more)
        response = await self.handing_out.lease_tasks(self.tenant, f"labelers/{labeler}", request)
        return list(response.leases)

    async def claim(
        self, *claims: tuple[str, str], review: bool = False, seconds: int | None = None
    ) -> list[pb.ClaimResult]:
        """(item key, labeler) pairs."""
        request = pb.ClaimItemsRequest(
            parent=self.words.name,
            claims=[pb.ItemClaim(item=self.words.item(k), labeler=f"labelers/{who}", review=review) for k, who in claims],
            lease_duration=None if seconds is None else Duration(seconds=seconds),
        )  # fmt: skip
        domain = {i: Claim(parse_item(c.item)[1], c.labeler, c.review) for i, c in enumerate(request.claims)}
        response = await self.claiming.claim_items(self.tenant, request, domain, {})
        return list(response.results)

    async def release(self, lease: pb.Lease) -> pb.Lease:
        return await self.leasing.release_lease(
            self.tenant, pb.ReleaseLeaseRequest(name=lease.name), lambda _: True
        )

    async def skip(self, lease: pb.Lease, reason: str = "cannot read it") -> pb.Lease:
        return await self.leasing.skip_task(
            self.tenant, pb.SkipTaskRequest(name=lease.name, reason=reason), lambda _: True
        )

    async def extend(self, lease: pb.Lease, seconds: int) -> pb.Lease:
        request = pb.ExtendLeaseRequest(name=lease.name, lease_duration=Duration(seconds=seconds))
        return await self.leasing.extend_lease(self.tenant, request, lambda _: True)

    async def look(self, lease: pb.Lease) -> pb.Lease:
        return await self.leasing.get_lease(self.tenant, pb.GetLeaseRequest(name=lease.name), lambda _: True)

    async def wish(self, *wishes: TaskWish) -> list[pb.TaskResult]:
        request = pb.CreateTasksRequest(
            parent=self.words.name, wishes=[pb.TaskWish(item=self.words.item(w.item)) for w in wishes]
        )
        response = await self.tasks.create_tasks(
            self.tenant, request, dict(enumerate(wishes)), {}, shows_gold=True
        )
        return list(response.results)

    async def cancel(self, task: pb.Task, reason: str = "enough") -> pb.Task:
        return await self.tasks.cancel_task(
            self.tenant, pb.CancelTaskRequest(name=task.name, reason=reason), shows_gold=True
        )

    async def labeler(self, name: str, *skills: str, suspended: bool = False) -> None:
        labeler = pb.Labeler(name=f"labelers/{name}", skills=skills, suspended=suspended)
        request = pb.UpdateLabelerRequest(labeler=labeler, update_mask=FieldMask(paths=["*"]))
        await self.tasks.update_labeler(self.tenant, request)

    async def task(self, key: str, kind: str = "LABEL", audit: str = "") -> pb.Task | None:
        row = await self.database.fetchrow(
            "SELECT task FROM task WHERE tenant = $1 AND project = $2 AND item = $3 AND kind = $4 AND audit = $5",
            self.tenant, self.words.project, key, kind, audit,
        )  # fmt: skip
        if row is None:
            return None
        request = pb.GetTaskRequest(name=f"{self.words.name}/tasks/{row['task']}")
        return await self.tasks.get_task(self.tenant, request, shows_gold=True)

    async def queue(self) -> pb.Queue:
        return await self.queues.get(self.tenant, self.words.name)

    # --- time

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for all leases: the database's clock cannot be set, so they move into the past."""
        await self.database.execute(
            """UPDATE lease SET created_at = created_at - make_interval(secs => $2),
                 expires_at = expires_at - make_interval(secs => $2),
                 check_at = check_at - make_interval(secs => $2)
               WHERE tenant = $1""",
            self.tenant, seconds,
        )  # fmt: skip

    async def make_due_again(self) -> None:
        """Forget that somebody asked about expired leases a moment ago."""
        await self.database.execute(
            "UPDATE lease SET check_at = now() WHERE tenant = $1 AND state = 'LIVE' AND expires_at <= now()",
            self.tenant,
        )

    async def announced(self, kind: str) -> int:
        """How many events of a type wait in the outbox or have left it."""
        events = await announced(self.database)
        return sum(
            event.tenant == self.tenant and event.type == f"cairn.events.v1.{kind}" for event in events
        )

    async def broken_promises(self) -> list[str]:
        """What contradicts P2, or a stored state that contradicts the rows it stands for; by SQL alone."""
        checks = {
            "more live and answered leases than slots": """
                SELECT t.task FROM task t WHERE tenant = $1 AND kind <> 'GOLD' AND
                  (SELECT count(*) FROM lease l WHERE l.tenant = $1 AND l.task = t.task AND l.state IN ('LIVE', 'ANSWERED'))
                  > (SELECT count(*) FROM slot s WHERE s.tenant = $1 AND s.task = t.task)""",
            "a labeler twice on an item": """
                SELECT labeler FROM lease WHERE tenant = $1 AND kind <> 'REVIEW'
                  AND state IN ('LIVE', 'ANSWERED', 'SKIPPED', 'ANSWERED_LATE')
                GROUP BY project, item, labeler HAVING count(*) > 1""",
            "a slot in another state than its lease": """
                SELECT s.task FROM slot s LEFT JOIN lease l ON l.tenant = $1 AND l.task = s.task AND l.slot = s.number
                  AND l.state IN ('LIVE', 'ANSWERED')
                WHERE s.tenant = $1 AND coalesce(l.state, '') <>
                  CASE s.state WHEN 'LEASED' THEN 'LIVE' WHEN 'ANSWERED' THEN 'ANSWERED' ELSE '' END""",
            "an open slot on a closed task": """
                SELECT s.task FROM slot s JOIN task t ON t.tenant = $1 AND t.task = s.task
                WHERE s.tenant = $1 AND t.state = 'CLOSED' AND s.state = 'OPEN'""",
            "a withdrawn slot on an open task": """
                SELECT s.task FROM slot s JOIN task t ON t.tenant = $1 AND t.task = s.task
                WHERE s.tenant = $1 AND t.state <> 'CLOSED' AND s.state = 'WITHDRAWN'""",
            "an open task that is filled, or the reverse": """
                SELECT t.task FROM task t WHERE t.tenant = $1 AND t.kind <> 'GOLD' AND t.state <> 'CLOSED'
                  AND (t.state = 'FILLED') <> NOT EXISTS (
                    SELECT FROM slot s WHERE s.tenant = $1 AND s.task = t.task AND s.state <> 'ANSWERED')""",
        }  # fmt: skip
        every = " UNION ALL ".join(
            f"SELECT '{what}' WHERE EXISTS ({query})" for what, query in checks.items()
        )
        return [row[0] for row in await self.database.fetch(every, self.tenant)]


def reason(result: pb.ClaimResult | pb.TaskResult) -> str:
    """The stable reason of a refused element; empty when it was not refused."""
    if result.WhichOneof("result") != "error":
        return ""
    from google.rpc.error_details_pb2 import ErrorInfo

    info = ErrorInfo()
    assert result.error.details[0].Unpack(info)
    return info.reason


def reasons(results: Sequence[pb.ClaimResult]) -> list[str]:
    """The reason of each element."""
    return [reason(result) for result in results]


@pytest.fixture
def kit() -> SimpleNamespace:
    """What tests share, for those that make desks of their own."""
    return SimpleNamespace(
        Desk=Desk, MIGRATIONS=MIGRATIONS, GRACE=GRACE, reason=reason, reasons=reasons, Words=Words
    )


_dsns: list[str] = []


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    """A desk on empty tables."""
    if not _dsns:
        _dsns.append(await fresh_database("task-dispatch", MIGRATIONS))
    database = Database(_dsns[0], "task_dispatch", pool_min=0, pool_max=20, plan_cache_mode=PLAN_CACHE_MODE)
    await database.open()
    await database.execute("TRUNCATE project, item, task, slot, lease, labeler, outbox, request")
    yield Desk(database)
    await database.close()
