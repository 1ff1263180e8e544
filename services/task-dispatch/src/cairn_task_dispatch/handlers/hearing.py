"""What task-dispatch does about what others announce. Any order, any number of times: the newest revision stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from google.protobuf.message import Message

from cairn.annotation.v1 import annotation_store_pb2 as store_pb
from cairn.events.v1 import (
    annotation_store_events_pb2 as store_events,
)
from cairn.events.v1 import (
    consensus_events_pb2 as consensus_events,
)
from cairn.events.v1 import (
    inference_events_pb2 as inference_events,
)
from cairn_kit.database import Transaction
from cairn_kit.events import NotYet, Received
from cairn_task_dispatch.domain.leases import SHORTEST
from cairn_task_dispatch.domain.names import LeaseId, TaskId, parse_item, parse_lease
from cairn_task_dispatch.domain.states import Decision, Route
from cairn_task_dispatch.domain.tasks import ItemRef
from cairn_task_dispatch.domain.wishes import ProjectPolicy
from cairn_task_dispatch.handlers.answering import HeardAnswer, take_answers
from cairn_task_dispatch.handlers.answers_heard import AnswersHeard
from cairn_task_dispatch.handlers.settling import Hearing, settle
from cairn_task_dispatch.store import DispatchStore, ProjectRef

_DEFAULT_MIN_ANSWERS = 2  # the defaults of QualityPolicy, as its .proto states them
_DEFAULT_LEASE_SECONDS = 600.0
_ITEMS_AT_ONCE = 500
"""Items decided about before other calls get a turn on the event loop: events of an import tell of a thousand each."""

_SETTLING_SOURCES = {store_pb.LABEL_SOURCE_GOLD, store_pb.LABEL_SOURCE_CORRECTION}
_NO_BEST = {
    consensus_events.DISPUTE_REASON_CANNOT_TELL,
    consensus_events.DISPUTE_REASON_BROKEN_ITEM,
    consensus_events.DISPUTE_REASON_KIND_NOT_AGGREGATED,
}
_ROUTES = {inference_events.ROUTE_AUTO: Route.AUTO, inference_events.ROUTE_HUMAN: Route.HUMAN}


class Hearings:
    """The handlers of events."""

    def __init__(self, store: DispatchStore, answers: AnswersHeard) -> None:
        self._store = store
        self._answers = answers

    async def on_projects_created(
        self, tx: Transaction, events: Sequence[Received[store_events.ProjectCreated]]
    ) -> None:
        """Remember the policy of new projects."""
        await self._save_projects(tx, [(event, event.message.project) for event in events])

    async def on_projects_updated(
        self, tx: Transaction, events: Sequence[Received[store_events.ProjectUpdated]]
    ) -> None:
        """Remember changed policies. Tasks that stand keep the slots they have; what follows obeys the new one."""
        await self._save_projects(tx, [(event, event.message.project) for event in events])

    async def _save_projects(
        self, tx: Transaction, projects: Iterable[tuple[Received[Any], store_pb.Project]]
    ) -> None:
        newest: dict[ProjectRef, ProjectPolicy] = {}
        for event, project in projects:
            ref, policy = ProjectRef(event.tenant, event.project), policy_of(project)
            if ref not in newest or newest[ref].revision < policy.revision:
                newest[ref] = policy
        await self._store.save_projects(tx, newest)

    async def on_items_imported(
        self, tx: Transaction, events: Sequence[Received[store_events.ItemsImported]]
    ) -> None:
        """Know the items; gold among them opens a gold task."""
        await self._settle(
            tx,
            events,
            [
                (event, item.key or parse_item(item.name)[1], _imported(gold=bool(item.gold_answers)))
                for event in events
                for item in event.message.items
            ],
        )

    async def on_items_routed(
        self, tx: Transaction, events: Sequence[Received[inference_events.ItemsRouted]]
    ) -> None:
        """Open a task for each human item, with the route's priority; close those that the model has labeled."""
        await self._settle(
            tx,
            events,
            [
                (event, parse_item(route.item)[1], _routed(route))
                for event in events
                for route in event.message.routes
                if route.route in _ROUTES
            ],
        )

    async def on_answers_wanted(
        self, tx: Transaction, events: Sequence[Received[consensus_events.AnswersWanted]]
    ) -> None:
        """Grow the item's task, or open it again."""
        await self._settle(
            tx,
            events,
            [
                (e, parse_item(e.message.item)[1], _decided(Decision.WANTED, e.message.revision,
                                                            e.message.answers_wanted, e.message.skill))
                for e in events
            ],
        )  # fmt: skip

    async def on_consensus_reached(
        self, tx: Transaction, events: Sequence[Received[consensus_events.ConsensusReached]]
    ) -> None:
        """Close the item's task."""
        await self._settle(
            tx,
            events,
            [
                (e, parse_item(e.message.item)[1], _decided(Decision.REACHED, e.message.revision))
                for e in events
            ],
        )

    async def on_consensus_disputed(
        self, tx: Transaction, events: Sequence[Received[consensus_events.ConsensusDisputed]]
    ) -> None:
        """Close the item's task; an expert gets a review, unless the project accepts the best answer and there is one."""
        await self._settle(
            tx,
            events,
            [(e, parse_item(e.message.item)[1], _disputed(e.message)) for e in events],
        )

    async def on_labels_finalized(
        self, tx: Transaction, events: Sequence[Received[store_events.LabelFinalized]]
    ) -> None:
        """Close for good what gold or a reviewer has settled."""
        await self._settle(
            tx,
            events,
            [
                (event, parse_item(event.message.item)[1], _settled)
                for event in events
                if event.message.item_complete and event.message.label.source in _SETTLING_SOURCES
            ],
        )

    async def on_annotations(
        self, tx: Transaction, events: Sequence[Received[store_events.AnnotationSubmitted]]
    ) -> None:
        """Close the leases under which answers were given."""
        self._answers.hear(events)
        answers: dict[tuple[str, str, TaskId, LeaseId], HeardAnswer] = {}
        for event in events:
            annotation = event.message.annotation
            if annotation.lease:
                _, task, lease = parse_lease(annotation.lease)
                answers[event.tenant, event.project, task, lease] = HeardAnswer(
                    event.tenant, event.project, task, lease, annotation.late
                )
        await take_answers(tx, self._store, list(answers.values()))

    async def _settle(
        self,
        tx: Transaction,
        events: Sequence[Received[Any]],
        facts: Iterable[tuple[Received[Message], str, Hearing]],
    ) -> None:
        known = await self._store.projects(tx, {ProjectRef(e.tenant, e.project) for e in events})
        unknown = [event for event in events if ProjectRef(event.tenant, event.project) not in known]
        if unknown:
            raise NotYet("the project is not known yet", *unknown)
        heard: dict[ItemRef, list[Hearing]] = {}
        for event, item, hearing in facts:
            heard.setdefault(ItemRef(event.tenant, event.project, item), []).append(hearing)
        items = iter(heard.items())
        while some := dict(islice(items, _ITEMS_AT_ONCE)):
            await settle(tx, self._store, known, some)


def policy_of(project: store_pb.Project) -> ProjectPolicy:
    """What matters here of a project, with defaults filled in."""
    quality = project.quality
    lease_seconds = quality.lease_duration.ToNanoseconds() / 1e9 or _DEFAULT_LEASE_SECONDS
    return ProjectPolicy(
        revision=project.revision,
        min_answers=quality.min_answers or _DEFAULT_MIN_ANSWERS,
        gold_share=quality.gold_share,
        lease_seconds=max(lease_seconds, SHORTEST),
        reviews_disputes=quality.on_dispute != store_pb.DISPUTE_POLICY_ACCEPT_BEST,
        required_skill=quality.required_skill,
        archived=project.state == store_pb.PROJECT_STATE_ARCHIVED,
    )


def _imported(*, gold: bool) -> Hearing:
    return lambda facts: facts.with_import(gold=gold)


def _routed(route: inference_events.ItemRoute) -> Hearing:
    revision, where, priority = route.revision, _ROUTES[route.route], route.priority
    return lambda facts: facts.with_route(revision, where, priority)


def _decided(decision: Decision, revision: int, answers_wanted: int = 0, skill: str = "") -> Hearing:
    return lambda facts: facts.with_decision(revision, decision, answers_wanted, skill)


def _disputed(dispute: consensus_events.ConsensusDisputed) -> Hearing:
    decision = Decision.UNDECIDABLE if dispute.reason in _NO_BEST else Decision.DISPUTED
    return _decided(decision, dispute.revision)


def _settled(facts: Any) -> Any:
    return facts.with_settled_label()
