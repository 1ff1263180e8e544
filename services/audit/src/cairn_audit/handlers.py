"""Audit's handlers: one function a command or event, each of them load, decide, store, announce.

The ledger's are in ledger.py, what must be asked of task-dispatch in reviews.py.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cairn.annotation.v1.annotation_store_pb2 import (
    ANNOTATION_KIND_REVIEW,
    LABEL_SOURCE_CORRECTION,
    LABEL_SOURCE_GOLD,
    Annotation,
    LabelSource,
)
from cairn.annotation.v1.annotation_store_pb2 import Project as ProjectMessage
from cairn.audit.v1.audit_pb2 import Audit, CancelAuditRequest, CreateAuditRequest
from cairn.dispatch.v1.task_dispatch_pb2 import Task
from cairn.events.v1.annotation_store_events_pb2 import (
    AnnotationSubmitted,
    LabelFinalized,
    ProjectCreated,
    ProjectUpdated,
)
from cairn.events.v1.audit_events_pb2 import (
    CORRECTION_REASON_DISPUTE_RESOLVED,
    CORRECTION_REASON_FOUND_WRONG,
    AuditCancelled,
    AuditFailed,
    AuditPassed,
    AuditStarted,
    CorrectionReason,
    LabelCorrected,
)
from cairn.events.v1.task_dispatch_events_pb2 import TasksClosed
from cairn.label.v1.label_schema_pb2 import Question
from cairn.label.v1.label_value_pb2 import Answer
from cairn_audit.domain import names
from cairn_audit.domain.judging import Judgement, class_of, judge, question_named, same_answer
from cairn_audit.domain.names import AuditId, ItemKey, Tenant
from cairn_audit.domain.sampling import band_of, design
from cairn_audit.domain.verdict import AuditPhase, covers_auto, error_of, phase_after
from cairn_audit.messages import audit_message
from cairn_audit.store import AuditKey, AuditRow, AuditStore, FindingRow, OpenSample, Rows, StandingLabel
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import FailedPrecondition, InvalidArgument, NotFound, Violation, project_not_found
from cairn_kit.events import Event, NotYet, Received, announce
from cairn_kit.ids import uuid7
from cairn_kit.rpc import PAGE_BYTES, once

_DEFAULT_ALPHA = 0.05
_DEFAULT_CONFIDENCE = 0.95
_DEFAULT_TARGET = 0.95
_MOST_REVIEWS = 2
"""When a second reviewer cannot tell either, the label is left out of the estimate: a third would be luck."""
_LARGEST_ANSWER = 200 * 1024
"""Bytes of an answer that still fit into an event with all else there is to say."""

_FINAL: tuple[LabelSource.ValueType, ...] = (LABEL_SOURCE_GOLD, LABEL_SOURCE_CORRECTION)


@dataclass(frozen=True, slots=True)
class _Correction:
    """What a review says should stand."""

    question: Question
    answer: Answer
    reason: CorrectionReason.ValueType
    audit: str = ""
    judged_revision: int = 0
    doubted_below: float = 0.0
    """Confidence below which a label is in doubt, so that even an equal answer of a reviewer is news."""

    def changes_nothing(self, standing: StandingLabel) -> bool:
        """Whether the label that stands says the same, and surely enough.

        A dispute is settled even by the answer that was thought most probable: the reviewer's word makes it sure. The
        other questions of a disputed item were not in doubt; where the reviewer agrees, their labels stay. A label too
        large for an event is not known here, and equals nothing: to say it again costs a revision and no truth.
        """
        if not same_answer(self.question, standing.answer, self.answer):
            return False
        return standing.source in _FINAL or standing.confidence >= self.doubted_below


class Handlers:
    """Draws samples, takes in reviews, gives verdicts."""

    def __init__(self, database: Database, store: AuditStore) -> None:
        self._database = database
        self._store = store

    # --- what there is to audit

    async def on_projects_created(self, tx: Transaction, events: Sequence[Received[ProjectCreated]]) -> None:
        """Learn projects."""
        await self._store.upsert_projects(tx, [(e.tenant, e.revision, e.message.project) for e in events])

    async def on_projects_updated(self, tx: Transaction, events: Sequence[Received[ProjectUpdated]]) -> None:
        """Learn what projects have become."""
        await self._store.upsert_projects(tx, [(e.tenant, e.revision, e.message.project) for e in events])

    async def on_labels(self, tx: Transaction, events: Sequence[Received[LabelFinalized]]) -> None:
        """Keep the label that stands: it belongs to the population of the next audit."""
        await self._store.upsert_labels(tx, [_standing(event) for event in events])

    # --- audits

    async def create_audit(self, tenant: Tenant, request: CreateAuditRequest) -> Audit:
        """Draw a stratified sample of a project's labels. Its reviews are asked for by `Reviews`."""
        project = names.project_of(request.parent)
        key = AuditKey(tenant, project, AuditId(str(uuid7())))

        async def effect() -> Audit:
            policy = await self._project(tx, tenant, project)
            question = question_named(policy.schema, request.plan.question)
            if question is None:
                raise InvalidArgument(
                    "QUESTION_UNKNOWN",
                    f"{request.parent} asks no question {request.plan.question!r}.",
                    violations=[Violation("plan.question", "must be the id of a question of the project")],
                )
            await self._draw(tx, key, request, question.id, policy)
            audit = await self._message(tx, key)
            announce(tx, _audit_event(key, AuditStarted(audit=audit), revision=1))
            return audit

        async with self._database.transaction() as tx:
            return await once(tx, tenant, request, Audit, effect)

    async def _draw(
        self,
        tx: Transaction,
        key: AuditKey,
        request: CreateAuditRequest,
        question: str,
        policy: ProjectMessage,
    ) -> None:
        plan = request.plan
        max_error = plan.max_error or policy.routing.alpha or _DEFAULT_ALPHA
        confidence = plan.confidence or _DEFAULT_CONFIDENCE
        counts = await self._store.count_cells(tx, key.tenant, key.project, question, plan.source)
        if not counts:
            raise FailedPrecondition(
                "NO_LABELS",
                f"{request.parent} has no such labels of {question} to audit yet.",
                resource=request.parent,
            )
        await self._store.create_audit(
            tx,
            key,
            question=question,
            source=plan.source,
            max_error=max_error,
            confidence=confidence,
            seed=plan.seed or secrets.randbelow(2**53) + 1,
            design=await asyncio.to_thread(design, counts, plan.sample_size, max_error, confidence),
        )

    async def get_audit(self, key: AuditKey) -> Audit:
        """An audit, with its estimate as far as it has come."""
        return await self._message(self._database, key)

    async def list_audits(
        self, tenant: Tenant, project: names.Project, before: str, most: int
    ) -> list[Audit]:
        """A project's audits, newest first."""
        await self._project(self._database, tenant, project)
        rows = await self._store.audits_before(self._database, tenant, project, before, most)
        strata = await self._store.strata(self._database, [row.key for row in rows])
        return [audit_message(row, strata[row.key.audit]) for row in rows]

    async def cancel_audit(self, key: AuditKey, request: CancelAuditRequest) -> Audit:
        """End an audit without a verdict; its open review tasks are called off by `Reviews`."""

        async def effect() -> Audit:
            audit = await self._store.lock_audit(tx, key)
            if audit is None:
                raise _no_audit(key)
            if audit.phase is not AuditPhase.REVIEWING:
                raise FailedPrecondition(
                    "AUDIT_ENDED", f"{key.name} has ended as {audit.phase.name}.", resource=key.name
                )
            await self._store.end_audit(tx, key, AuditPhase.CANCELLED)
            message = await self._message(tx, key)
            announce(tx, _audit_event(key, AuditCancelled(audit=message), revision=2))
            return message

        async with self._database.transaction() as tx:
            return await once(tx, key.tenant, request, Audit, effect)

    async def list_findings(
        self, key: AuditKey, after: str, wrong_only: bool, most: int
    ) -> tuple[AuditRow, list[FindingRow]]:
        """What an audit's reviewers saw, oldest first; fewer than `most` where their answers are large."""
        audit = await self._store.audit(self._database, key)
        if audit is None:
            raise _no_audit(key)
        return audit, await self._store.findings_after(
            self._database, key, after, wrong_only, most, PAGE_BYTES
        )

    # --- reviews

    async def on_annotations(self, tx: Transaction, events: Sequence[Received[AnnotationSubmitted]]) -> None:
        """Take in the reviews among the annotations: findings of audits, and settled disputes."""
        by_audit: dict[AuditKey, list[Received[AnnotationSubmitted]]] = defaultdict(list)
        for event in events:
            if event.message.annotation.kind != ANNOTATION_KIND_REVIEW:
                continue
            if event.message.audit:
                by_audit[_key_of(event.tenant, event.message.audit)].append(event)
            else:
                await self._settle_dispute(tx, event)
        for key in sorted(by_audit, key=lambda audit: audit.columns):  # one order of locks for everybody
            await self._take_findings(tx, key, by_audit[key])

    async def on_tasks_closed(self, tx: Transaction, events: Sequence[Received[TasksClosed]]) -> None:
        """Whoever calls a review off by hand takes its label out of the audit: nobody will judge it."""
        by_audit: dict[AuditKey, list[Task]] = defaultdict(list)
        for event in events:
            for task in event.message.tasks:
                if task.audit:
                    by_audit[_key_of(event.tenant, task.audit)].append(task)
        for key in sorted(by_audit, key=lambda audit: audit.columns):
            audit = await self._store.lock_audit(tx, key)
            if audit is None or audit.phase is not AuditPhase.REVIEWING:
                continue
            items = [ItemKey(names.last_part(task.item)) for task in by_audit[key]]
            await self._store.leave_out(tx, key, items, "its review was called off")
            await self.conclude(tx, audit)

    async def _take_findings(
        self, tx: Transaction, key: AuditKey, reviews: Sequence[Received[AnnotationSubmitted]]
    ) -> None:
        audit = await self._store.lock_audit(tx, key)
        if audit is None:
            return  # a task made by hand under a name that was never an audit's: there is nothing to judge
        project = await self._project(tx, key.tenant, key.project)
        question = question_named(project.schema, audit.question)
        if question is None:
            return  # the question was taken out of the schema, and its labels with it
        for review in reviews:
            await self._take_finding(tx, audit, question, review)
        await self.conclude(tx, audit, cause=reviews[-1])

    async def _take_finding(
        self, tx: Transaction, audit: AuditRow, question: Question, event: Received[AnnotationSubmitted]
    ) -> None:
        review, key = event.message.annotation, audit.key
        item = ItemKey(names.last_part(event.message.item))
        sample = await self._store.open_sample(tx, key, item)
        if sample is None:
            return  # judged before, or never drawn
        if sample.label_answer.WhichOneof("value") is None:
            raise NotYet(f"what the label of {event.message.item} said is not read yet", event)
        answer = _answer_to(review, question.id)
        judgement = judge(question, sample.label_answer, answer)
        first = await self._store.insert_finding(
            tx,
            key,
            item,
            judgement=judgement,
            review_answer=answer,
            reviewer=review.labeler,
            annotation=review.name,
        )
        if not first:
            return
        if judgement is Judgement.NOT_JUDGED:
            await self._ask_another(tx, key, item, sample)
            return
        await self._store.settle_sample(tx, key, item, judgement.value)
        if judgement is Judgement.WRONG and answer is not None:
            found = _Correction(
                question, answer, CORRECTION_REASON_FOUND_WRONG, key.name, sample.label_revision
            )
            await self._correct(tx, event, found)

    async def _ask_another(self, tx: Transaction, key: AuditKey, item: ItemKey, sample: OpenSample) -> None:
        """A reviewer could not tell: another may, but not for ever."""
        seen = sample.reviews_wanted
        if seen >= _MOST_REVIEWS:
            note = f"{seen} reviewers could not tell"
            await self._store.settle_sample(tx, key, item, "excluded", note)
        else:
            await self._store.want_another_review(tx, key, item, seen + 1)

    async def conclude(
        self, tx: Transaction, audit: AuditRow, cause: Received[AnnotationSubmitted] | None = None
    ) -> None:
        """Give the verdict once everything that was drawn is judged. The audit's row must be locked."""
        if audit.phase is not AuditPhase.REVIEWING or await self._store.any_open(tx, audit.key):
            return
        strata = (await self._store.strata(tx, [audit.key]))[audit.key.audit]
        phase = phase_after(error_of(strata, audit.confidence), audit.max_error)
        await self._store.end_audit(tx, audit.key, phase)
        message = await self._message(tx, audit.key)
        if phase is AuditPhase.PASSED:
            verdict: AuditPassed | AuditFailed = AuditPassed(audit=message)
        else:
            verdict = AuditFailed(audit=message, covers_auto_labels=covers_auto(strata))
        announce(tx, _audit_event(audit.key, verdict, revision=2), cause=cause)

    async def _settle_dispute(self, tx: Transaction, event: Received[AnnotationSubmitted]) -> None:
        """A reviewer's answers to a disputed item become its labels."""
        project = await self._store.project(tx, event.tenant, event.project)
        if project is None:
            raise NotYet(f"projects/{event.project} is not known yet", event)
        for answer in event.message.annotation.answers:
            question = question_named(project.schema, answer.question)
            if question is not None:
                target = (
                    question.quality.target_confidence or project.quality.target_confidence or _DEFAULT_TARGET
                )
                settled = _Correction(
                    question, answer, CORRECTION_REASON_DISPUTE_RESOLVED, doubted_below=target
                )
                await self._correct(tx, event, settled)

    async def _correct(
        self, tx: Transaction, event: Received[AnnotationSubmitted], correction: _Correction
    ) -> None:
        """Announce a correction, unless the label that stands says the same already."""
        review, project = event.message.annotation, names.Project(event.project)
        question, item = correction.question.id, ItemKey(names.last_part(event.message.item))
        standing = await self._store.label(tx, Tenant(event.tenant), project, question, item)
        if standing is not None and correction.changes_nothing(standing):
            return
        revision = standing.revision if standing is not None else 0
        omitted = correction.answer.ByteSize() > _LARGEST_ANSWER
        corrected = LabelCorrected(
            item=event.message.item,
            question=question,
            answer=None if omitted else correction.answer,
            answer_omitted=omitted,
            audit=correction.audit,
            annotation=review.name,
            reviewer=review.labeler,
            reason=correction.reason,
            judged_revision=correction.judged_revision or revision,
            schema_version=review.schema_version,
        )
        label = f"{event.message.item}/labels/{question}"
        announce(tx, Event(corrected, event.tenant, event.project, label, revision), cause=event)

    # --- reading

    async def _project(self, rows: Rows, tenant: Tenant, project: names.Project) -> ProjectMessage:
        found = await self._store.project(rows, tenant, project)
        if found is None:
            raise project_not_found(project)
        return found

    async def _message(self, rows: Rows, key: AuditKey) -> Audit:
        audit = await self._store.audit(rows, key)
        if audit is None:
            raise _no_audit(key)
        return audit_message(audit, (await self._store.strata(rows, [key]))[key.audit])


def _standing(event: Received[LabelFinalized]) -> StandingLabel:
    heard = event.message
    label = heard.label
    return StandingLabel(
        tenant=Tenant(event.tenant),
        project=names.project_of(heard.item),
        question=heard.question,
        item=ItemKey(names.last_part(heard.item)),
        revision=label.revision,
        source=label.source,
        class_id=class_of(label.answer),
        band=band_of(label.confidence),
        confidence=label.confidence,
        answer=Answer() if heard.answer_omitted else label.answer,
    )


def _answer_to(review: Annotation, question: str) -> Answer | None:
    return next((answer for answer in review.answers if answer.question == question), None)


def _key_of(tenant: str, audit: str) -> AuditKey:
    return AuditKey(Tenant(tenant), names.project_of(audit), AuditId(names.last_part(audit)))


def _audit_event(
    key: AuditKey, message: AuditStarted | AuditPassed | AuditFailed | AuditCancelled, revision: int
) -> Event:
    return Event(message, key.tenant, key.project, key.name, revision)


def _no_audit(key: AuditKey) -> NotFound:
    return NotFound("AUDIT_NOT_FOUND", f"There is no {key.name}.", resource=key.name)
