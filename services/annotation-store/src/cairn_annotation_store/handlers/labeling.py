"""Labels: what the sources propose, which of it stands, and whether that completes the item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn.events.v1 import audit_events_pb2, consensus_events_pb2, inference_events_pb2
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.answers import check_label
from cairn_annotation_store.domain.items import facts_of
from cairn_annotation_store.domain.labels import (
    LabelKey,
    LabelRevision,
    Proposal,
    Rank,
    Source,
    completeness,
    next_revision,
)
from cairn_annotation_store.domain.names import AnnotationName, ItemName, ProjectId, QuestionId, Tenant
from cairn_annotation_store.domain.schema_change import uses_of
from cairn_annotation_store.handlers.found import as_uuid, found, parsed
from cairn_annotation_store.store import AnnotationStore, ItemStore, LabelStore, ProjectRow, ProjectStore
from cairn_annotation_store.store.labels import ItemId
from cairn_annotation_store.store.projects import ProjectKey
from cairn_annotation_store.wire import label_message
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import InvalidArgument, NotFound, project_not_found
from cairn_kit.events import Event, Received, announce
from cairn_kit.telemetry import get_logger
from cairn_kit.wakes import Wakes

_log = get_logger(__name__)
_LARGEST_ANSWER = 200 * 1024
"""Bytes of an answer that still fit into an event with all else there is to say."""

_RECOUNT_PAGE = 500
_REASONS = {
    audit_events_pb2.CORRECTION_REASON_FOUND_WRONG: "An audit found the label wrong.",
    audit_events_pb2.CORRECTION_REASON_DISPUTE_RESOLVED: "A reviewer settled a dispute.",
}

_COMPUTED = (Source.AUTO, Source.CONSENSUS)
"""Sources whose answers nobody has checked against the schema: gold is checked when it comes, a review when it is kept."""

Cause = Received[Any] | Context | None


@dataclass(frozen=True, slots=True)
class Caused:
    """A proposal, and whose trace its label continues."""

    proposal: Proposal
    cause: Cause


class LabelHandlers:
    """Writes labels; the only place that does."""

    def __init__(
        self,
        database: Database,
        projects: ProjectStore,
        items: ItemStore,
        annotations: AnnotationStore,
        labels: LabelStore,
        wakes: Wakes,
        label_wakes: Wakes,
    ) -> None:
        self._database = database
        self._projects = projects
        self._items = items
        self._annotations = annotations
        self._labels = labels
        self._wakes = wakes
        self._label_wakes = label_wakes

    async def on_consensus_reached(
        self, tx: Transaction, events: Sequence[Received[consensus_events_pb2.ConsensusReached]]
    ) -> None:
        """What labelers say, taken together, becomes the label unless something surer stands."""
        proposals = []
        for event in events:
            for decision in event.message.decisions:
                provenance = pb.Provenance(
                    event_id=str(event.id),
                    schema_version=event.message.schema_version,
                    consensus=decision.provenance,
                )
                rank = Rank(Source.CONSENSUS, event.message.revision, event.id)
                key = _key(event, event.message.item, decision.answer.question)
                proposals.append(
                    Caused(Proposal(key, rank, decision.answer, decision.confidence, provenance), event)
                )
        await self.write(tx, proposals)

    async def on_items_routed(
        self, tx: Transaction, events: Sequence[Received[inference_events_pb2.ItemsRouted]]
    ) -> None:
        """What a model was trusted to answer alone becomes the label unless something surer stands."""
        auto = [
            (event, route)
            for event in events
            for route in event.message.routes
            if route.route == inference_events_pb2.ROUTE_AUTO
        ]
        if not auto:
            return
        projects = await self._projects.in_use(tx, {(event.tenant, event.project) for event, _ in auto})
        proposals = []
        for event, route in auto:
            project = _known(projects, (event.tenant, event.project))
            provenance = pb.Provenance(
                event_id=str(event.id),
                schema_version=project.schema_version,
                auto=pb.AutoProvenance(
                    model_version=route.model_version,
                    score=route.score,
                    threshold=route.threshold,
                    threshold_version=route.threshold_version,
                    alpha=route.alpha,
                    delta=route.delta,
                ),
            )
            rank = Rank(Source.AUTO, route.revision, event.id)
            key = _key(event, route.item, route.answer.question)
            proposals.append(Caused(Proposal(key, rank, route.answer, route.score, provenance), event))
        await self.write(tx, proposals)

    async def on_label_corrected(
        self, tx: Transaction, events: Sequence[Received[audit_events_pb2.LabelCorrected]]
    ) -> None:
        """What a reviewer decided becomes the label, whatever stood before."""
        proposals = []
        for event in events:
            said = event.message
            provenance = pb.Provenance(
                event_id=str(event.id),
                schema_version=said.schema_version,
                correction=pb.CorrectionProvenance(
                    audit=said.audit,
                    annotation=said.annotation,
                    reviewer=said.reviewer,
                    reason=_REASONS.get(said.reason, "A reviewer corrected the label."),
                ),
            )
            rank = Rank(Source.CORRECTION, said.judged_revision, event.id)
            answer = await self._reviewed(tx, event) if said.answer_omitted else said.answer
            key = _key(event, said.item, answer.question)
            proposals.append(Caused(Proposal(key, rank, answer, 1.0, provenance), event))
        await self.write(tx, proposals)

    async def _reviewed(
        self, tx: Transaction, event: Received[audit_events_pb2.LabelCorrected]
    ) -> value_pb.Answer:
        """The answer of a correction that was too large for its event, from the review that gave it."""
        said = event.message
        name = parsed(AnnotationName.parse, said.annotation, "annotation")
        kept = await self._annotations.get(
            tx, event.tenant, name.project, name.item, as_uuid(name.annotation, "annotation", said.annotation)
        )
        row = found(kept, "annotation", said.annotation)
        answers = {answer.question: answer for answer in pb.Annotation.FromString(row.answers).answers}
        return found(answers.get(said.question), "answer", f"answer to {said.question} in {said.annotation}")

    async def write(self, tx: Transaction, proposals: Sequence[Caused]) -> None:
        """Write the revisions that these proposals make, in their order, and announce each.

        Raises NotFound for an item, and InvalidArgument for a question, that there is not: the store is where they
        are made, so no waiting would bring them. What was computed elsewhere and does not fit the schema is dropped.
        """
        if not proposals:
            return
        # Projects before items, everywhere: a schema change waits for both.
        projects = await self._projects.in_use(tx, {_item(caused.proposal.key)[:2] for caused in proposals})
        proposals = await self._fitting(tx, proposals, projects)
        items = sorted({_item(caused.proposal.key) for caused in proposals})
        locked = await self._labels.lock_items(tx, items)
        for caused in proposals:
            _check(caused.proposal, locked, projects)
        standing = await self._labels.standing(tx, items)
        made = []
        for caused in proposals:
            key = caused.proposal.key
            revision = next_revision(standing[_item(key)].get(key.question), caused.proposal)
            if revision is not None:
                standing[_item(key)][key.question] = revision
                made.append((revision, caused.cause))
        if not made:
            return
        await self._labels.write(tx, [revision for revision, _ in made])
        complete = {
            item: completeness(projects[item[:2]].body.schema, standing[item])
            for item in {_item(revision.key) for revision, _ in made}
        }
        changed = {item: source for item, source in complete.items() if source != locked[item]}
        if changed:
            await self._labels.set_completeness(tx, changed)
        await self._projects.add_uses(
            tx, [((r.key.tenant, r.key.project), use) for r, _ in made for use in uses_of([r.answer])]
        )
        moment = await self._labels.now(tx)
        for revision, cause in made:
            event = _finalized(revision, label_message(revision, moment), complete[_item(revision.key)])
            announce(tx, event, cause=cause)
        self.ring_after(tx, {item[:2] for item in complete})
        _ring_after(tx, self._label_wakes, {item[:2] for item in complete})

    async def _fitting(
        self, tx: Transaction, proposals: Sequence[Caused], projects: Mapping[ProjectKey, ProjectRow]
    ) -> list[Caused]:
        """Those that may become labels. A model may have spoken for a class that the schema has lost since.

        What people said holds its classes in the schema (`schema_use`); what was computed from it, or by a model, need
        not be among what was said.
        """
        computed = {_item(c.proposal.key) for c in proposals if c.proposal.rank.source in _COMPUTED}
        items = await self._items.of_leases(tx, computed) if computed else {}
        fitting = []
        for caused in proposals:
            proposal = caused.proposal
            item = items.get(_item(proposal.key))
            error = None
            if proposal.rank.source in _COMPUTED and item is not None:
                rules = projects[_item(proposal.key)[:2]].rules
                error = check_label(proposal.answer, rules, facts_of(item.body, item.text_length))
            if error is None:
                fitting.append(caused)
            else:
                _log.warning("label.does_not_fit", event_id=str(proposal.rank.event_id), error=error.message)
        return fitting

    def ring_after(self, tx: Transaction, projects: set[ProjectKey]) -> None:
        """Wake those who watch the progress of these projects, once the transaction is committed."""
        _ring_after(tx, self._wakes, projects)

    async def recount(self) -> None:
        """Look again at the completeness of items whose schema asks for other questions now, page by page."""
        while await self._recount_page():
            pass

    async def _recount_page(self) -> bool:
        async with self._database.transaction() as tx:
            todo = await self._projects.recount_to_do(tx)
            if todo is None:
                return False
            tenant, project, after = todo
            # Not locked: a schema that changes meanwhile waits for our recount row and begins it anew.
            row = found(await self._projects.get(tx, tenant, project), "project", f"projects/{project}")
            keys = await self._projects.items_to_recount(tx, tenant, project, after, _RECOUNT_PAGE)
            items = [(tenant, project, key) for key in keys]
            standing = await self._labels.standing(tx, items)
            await self._labels.set_completeness(
                tx, {item: completeness(row.body.schema, standing[item]) for item in items}
            )
            await self._projects.recount_advanced(
                tx, tenant, project, keys[-1] if len(keys) == _RECOUNT_PAGE else None
            )
            self.ring_after(tx, {(tenant, project)})
        return True


def _ring_after(tx: Transaction, wakes: Wakes, projects: set[ProjectKey]) -> None:
    for tenant, project in projects:
        tx.after_commit(lambda t=tenant, p=project: wakes.ring(t, p))  # type: ignore[misc]


def _finalized(revision: LabelRevision, label: pb.Label, complete: Source | None) -> Event:
    omitted = label.answer.ByteSize() > _LARGEST_ANSWER
    if omitted:
        # Whole: by its rules an answer has a value, and no consumer would take an event with one that has none.
        label.ClearField("answer")
    item = str(ItemName(revision.key.project, revision.key.item))
    return Event(
        events_pb.LabelFinalized(
            label=label,
            item=item,
            question=revision.key.question,
            item_complete=complete is not None,
            answer_omitted=omitted,
        ),
        tenant=revision.key.tenant,
        project=revision.key.project,
        resource=label.name,
        revision=revision.revision,
    )


def _key(event: Received[Any], item: str, question: str) -> LabelKey:
    """The label that an event of another service is about; raises InvalidArgument when it is of another project."""
    name = parsed(ItemName.parse, item, "item")
    if name.project != event.project:
        raise InvalidArgument(
            "EVENT_INCOHERENT", f"{item} is not of projects/{event.project}, as the event says."
        )
    return LabelKey(Tenant(event.tenant), ProjectId(event.project), name.item, QuestionId(question))


def _item(key: LabelKey) -> ItemId:
    return key.tenant, key.project, key.item


def _known(projects: dict[ProjectKey, ProjectRow], key: ProjectKey) -> ProjectRow:
    if key not in projects:
        raise project_not_found(key[1])
    return projects[key]


def _check(
    proposal: Proposal, items: dict[ItemId, int | None], projects: dict[ProjectKey, ProjectRow]
) -> None:
    key = proposal.key
    if _item(key) not in items:
        name = str(ItemName(key.project, key.item))
        raise NotFound("ITEM_NOT_FOUND", f"There is no {name}.", resource=name)
    if key.question not in projects[key.tenant, key.project].rules.questions:
        raise InvalidArgument("QUESTION_UNKNOWN", f"projects/{key.project} has no question {key.question!r}.")
