"""One function a command or event: load, decide, store, announce."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import BinaryIO
from uuid import UUID

from google.protobuf.message import Message

from cairn.annotation.v1.annotation_store_pb2 import Item
from cairn.events.v1.annotation_store_events_pb2 import (
    ItemsImported,
    LabelFinalized,
    ProjectCreated,
    ProjectUpdated,
)
from cairn.events.v1.audit_events_pb2 import AuditFailed
from cairn.events.v1.inference_events_pb2 import AutoLabelingResumed
from cairn_inference.announcing import Announcer, project_event
from cairn_inference.domain.features import SPECS, Content
from cairn_inference.domain.learning import assess
from cairn_inference.domain.names import project_name
from cairn_inference.domain.routing import (
    VALIDATION_PRIORITY,
    Route,
    Stop,
    first_priority,
    lot,
    sampling_odds,
    uniform,
)
from cairn_inference.messages import (
    class_of,
    content_of,
    human_route,
    policy_of,
    routed_events,
)
from cairn_inference.model_store import ModelStore
from cairn_inference.records import (
    HeardLabel,
    ItemRef,
    NewItem,
    NewVersion,
    Project,
    Run,
    RunState,
    Version,
    VersionState,
)
from cairn_inference.store import InferenceStore
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Violation,
    project_not_found,
)
from cairn_kit.events import NotYet, Received, announce
from cairn_kit.ids import uuid7

ProjectRef = tuple[str, str]

_BREATHER = 500
"""Items of an import that are looked at before calls get a turn: some ten milliseconds."""

_ANSWERS_TO_A_CHOICE = frozenset({"choice", "abstention"})


def _nothing() -> None:
    """Nobody works in this process."""


class Handlers:
    """What inference does when it is told, or hears, something."""

    def __init__(
        self, database: Database, store: InferenceStore, models: ModelStore, sampling_key: bytes
    ) -> None:
        self._database = database
        self._store = store
        self._models = models
        self._key = sampling_key
        self._announcer = Announcer(store)
        self._trials = asyncio.Semaphore(1)
        self.wake: Callable[[], None] = _nothing
        """Called when there is work for the pipeline or the trainer; the wiring sets it."""

    # --- events

    async def on_projects(
        self, tx: Transaction, events: Sequence[Received[ProjectCreated] | Received[ProjectUpdated]]
    ) -> None:
        """Know a project's policy; a bound that was set for another policy no longer holds."""
        refs = [(event.tenant, event.project) for event in events]
        await self._store.lock_projects(tx, refs)
        known = await self._store.projects(tx, refs)
        for event in events:
            message = event.message.project
            policy, before = policy_of(message), known.get((event.tenant, event.project))
            if not await self._store.keep_project(tx, event.tenant, event.project, message.revision, policy):
                continue
            if before is None:
                continue
            old = before.policy
            if policy.question and policy.question != before.routed_question and not before.moves:
                await self._route_question(tx, before, policy.question, event)
            if policy.promised != old.promised:
                await self._store.withdraw_threshold(tx, event.tenant, event.project)
            known[event.tenant, event.project] = (
                await self._store.projects(tx, [(event.tenant, event.project)])
            )[event.tenant, event.project]
        tx.after_commit(self.wake)

    async def _route_question(
        self, tx: Transaction, project: Project, question: str, cause: Received[Message]
    ) -> None:
        run = await self._store.active_run(tx, project.tenant, project.id)
        if run is not None:  # it learns the old question
            ended = await self._store.end_run(tx, run, RunState.CANCELLED)
            self._announcer.run_ended(tx, ended, cause)
        await self._store.begin_move(
            tx, project, question
        )  # who moves already goes on from there: QuestionMoves

    async def on_items_imported(self, tx: Transaction, events: Sequence[Received[ItemsImported]]) -> None:
        """Keep the items and send them to people at once, unless a threshold is in force and a score is coming."""
        projects = await self._known_projects(tx, events)
        items: dict[ItemRef, NewItem] = {}
        heard: dict[UUID, list[NewItem]] = {event.id: [] for event in events}
        for event in events:
            for place, one in enumerate(event.message.items, 1):
                item = self._new_item(projects[event.tenant, event.project], one)
                if items.setdefault(item.ref, item) is item:
                    heard[event.id].append(item)
                if place % _BREATHER == 0:
                    await asyncio.sleep(0)
        there = await self._store.insert_items(tx, items.values())
        for event in events:
            routes = [
                human_route(event.project, item.key, item.priority, revision=1)
                for item in heard[event.id]
                if item.route is not Route.PENDING and item.ref not in there
            ]
            for message in routed_events(event.project, routes):
                announce(tx, project_event((event.tenant, event.project), message), cause=event)
        tx.after_commit(self.wake)

    def _new_item(self, project: Project, item: Item) -> NewItem:
        content, body, blob, problem = content_of(item)
        gold_class = class_of(item.gold_answers, project.routed_question)
        gold = bool(item.gold_answers)
        name = (project.tenant, project.id, item.key)
        share, drawn = project.policy.validation_share, None
        if content is not Content.NONE and not gold:
            drawn = lot(uniform(self._key, "validation", *name), share)
        validation = drawn is not None and drawn < sampling_odds(share)
        waits = project.threshold is not None and content is not Content.NONE and not (gold or validation)
        asked_first = validation and bool(project.policy.question)
        return NewItem(
            tenant=project.tenant,
            project=project.id,
            key=item.key,
            validation=validation,
            lot=drawn if validation else None,
            gold=gold,
            hint=item.priority,
            content=content,
            body=body,
            blob=blob,
            feature_error=problem,
            route=Route.PENDING if waits else Route.HUMAN,
            priority=VALIDATION_PRIORITY
            if asked_first
            else first_priority(item.priority, uniform(self._key, "order", *name)),
            gold_class=gold_class,
        )

    async def on_labels(self, tx: Transaction, events: Sequence[Received[LabelFinalized]]) -> None:
        """Know the labels of choice questions: of the routed one they are truth to train on, and end an item's routing.

        Those of the others are kept for the day when one of them is routed, and all of an item that has still to follow
        to the routed one.
        """
        await self._store.lock_projects(tx, [(event.tenant, event.project) for event in events])
        projects = await self._known_projects(tx, events)
        heard = {
            event.id: HeardLabel(
                tenant=event.tenant,
                project=event.project,
                key=event.message.item.rpartition("/")[2],
                question=event.message.question,
                class_id=class_of([event.message.label.answer], event.message.question),
                source=int(event.message.label.source),
                confidence=event.message.label.confidence,
                revision=event.message.label.revision,
            )
            for event in events
            if event.message.label.answer.WhichOneof("value") in _ANSWERS_TO_A_CHOICE
        }
        refs = {id_: ItemRef(label.tenant, label.project, label.key) for id_, label in heard.items()}
        known = await self._store.known_items(tx, list(set(refs.values())))
        unknown = [event for event in events if event.id in refs and refs[event.id] not in known]
        if unknown:
            raise NotYet("the item is not known yet", *unknown)

        def is_routed(label: HeardLabel) -> bool:
            routed = projects[label.tenant, label.project].routed_question
            return label.question == routed and not known[ItemRef(label.tenant, label.project, label.key)]

        await self._store.keep_labels(tx, [label for label in heard.values() if is_routed(label)])
        await self._store.keep_other_labels(tx, [label for label in heard.values() if not is_routed(label)])
        tx.after_commit(self.wake)

    async def on_audits_failed(self, tx: Transaction, events: Sequence[Received[AuditFailed]]) -> None:
        """Stop automatic labeling where an audit found a model's labels wanting."""
        covering = [event for event in events if event.message.covers_auto_labels]
        await self._known_projects(tx, covering)
        for event in covering:
            project = await self._store.project_for_update(tx, event.tenant, event.project)
            if project is not None and project.stop is not Stop.AUDIT:
                reason = f"{event.message.audit.name} could not find the automatic labels as good as claimed."
                await self._announcer.stop(tx, project, Stop.AUDIT, reason, cause=event)

    async def _known_projects(
        self,
        tx: Transaction,
        events: Sequence[Received[ItemsImported] | Received[LabelFinalized] | Received[AuditFailed]],
    ) -> dict[ProjectRef, Project]:
        projects = await self._store.projects(tx, [(event.tenant, event.project) for event in events])
        unknown = [event for event in events if (event.tenant, event.project) not in projects]
        if unknown:
            raise NotYet("the project is not known yet", *unknown)
        return projects

    # --- model versions

    async def keep_model(
        self, tenant: str, project: str, model: str, features: str, class_ids: Sequence[str], file: BinaryIO
    ) -> NewVersion:
        """Check an uploaded model and keep its file: one after the other, for each takes a core and a lot of memory.

        Raises InvalidArgument MODEL_INVALID, or NotFound.
        """
        from cairn_inference.model_check import BadModel, check_model  # onnx: start without it

        await self._check_upload(tenant, project, features, class_ids)
        async with self._trials:
            file.seek(0)
            data = await asyncio.to_thread(file.read)
            try:
                await check_model(data, dim=SPECS[features].dim, classes=len(class_ids))
            except BadModel as error:
                raise InvalidArgument(
                    "MODEL_INVALID", str(error), violations=[Violation("chunk", str(error))]
                ) from error
            digest = await self._models.put(tenant, project, data)
        return NewVersion(model, digest, features, tuple(class_ids), 0, None, None)

    async def add_version(self, tx: Transaction, tenant: str, project: str, made: NewVersion) -> Version:
        """Add a version, as a candidate, of a model whose file is kept."""
        await self._locked(tx, tenant, project)
        version = await self._store.insert_version(tx, tenant, project, made)
        self._announcer.version_created(tx, version)
        return version

    async def _check_upload(self, tenant: str, project: str, features: str, class_ids: Sequence[str]) -> None:
        found = (await self._store.projects(self._database, [(tenant, project)])).get((tenant, project))
        if found is None:
            raise project_not_found(project)
        if features not in SPECS:
            problem = f"There is no feature extraction {features!r}; there are {', '.join(SPECS)}."
            raise InvalidArgument(
                "MODEL_INVALID", problem, violations=[Violation("header.features", problem)]
            )
        foreign = sorted(set(class_ids) - set(found.policy.class_ids))
        if foreign:
            problem = f"The routed question has no class {', '.join(foreign[:10])}."
            raise InvalidArgument(
                "MODEL_INVALID", problem, violations=[Violation("header.class_ids", problem)]
            )

    async def promote(self, tx: Transaction, tenant: str, project: str, model: str, number: int) -> Version:
        """Make a version the one that serves; to promote the serving one changes nothing."""
        found = await self._locked(tx, tenant, project)
        version = await self._store.version(tx, tenant, project, model, number)
        if version is None:
            raise NotFound(
                "MODEL_VERSION_NOT_FOUND",
                f"There is no version {number} of the model {model} in projects/{project}.",
            )
        _must_be_routed(found)
        if version.state is not VersionState.SERVING:
            version = await self._announcer.promote(tx, found, version)
            tx.after_commit(self.wake)
        return version

    # --- training

    async def start_training(self, tx: Transaction, tenant: str, project: str) -> Run:
        """Ask for a training on the labels there are.

        Raises FailedPrecondition ROUTING_OFF, TOO_MANY_CLASSES or TOO_FEW_LABELS, AlreadyExists TRAINING_RUNNING, NotFound.
        """
        found = await self._locked(tx, tenant, project)
        _must_be_routed(found)
        if found.moves:
            raise FailedPrecondition(
                "TOO_FEW_LABELS",
                "The labels of the question that is routed now are still being taken up; ask again when they are.",
                resource=project_name(project),
            )
        counts = await self._store.label_counts(tx, found)
        best: Counter[str] = max(counts.values(), key=lambda labels: labels.total(), default=Counter())
        need = assess([best.get(class_id, 0) for class_id in found.policy.class_ids])
        if need.lacking:
            raise FailedPrecondition(need.reason, need.lacking, resource=project_name(project))
        run = await self._store.insert_run(tx, found, str(uuid7()), need.labels)
        if run is None:
            raise AlreadyExists("TRAINING_RUNNING", f"A training of projects/{project} is under way.")
        tx.after_commit(self.wake)
        return run

    async def cancel_run(self, tx: Transaction, tenant: str, project: str, run_id: str) -> Run:
        """Stop a training that has not ended. Raises NotFound, FailedPrecondition TRAINING_ENDED."""
        run = await self._store.run_for_update(tx, tenant, project, run_id)
        if run is None:
            raise NotFound(
                "TRAINING_RUN_NOT_FOUND", f"There is no training run {run_id} in projects/{project}."
            )
        if run.state is RunState.CANCELLED:
            return run
        if run.state.ended:
            raise FailedPrecondition("TRAINING_ENDED", f"The training run {run_id} has ended.")
        ended = await self._store.end_run(tx, run, RunState.CANCELLED)
        self._announcer.run_ended(tx, ended)
        tx.after_commit(self.wake)
        return ended

    # --- routing

    async def stop(self, tx: Transaction, tenant: str, project: str, reason: str) -> Project:
        """Stop automatic labeling by hand."""
        found = await self._locked(tx, tenant, project)
        await self._announcer.stop(tx, found, Stop.HAND, reason)
        return await self._locked(tx, tenant, project)

    async def resume(self, tx: Transaction, tenant: str, project: str) -> Project:
        """Let a fresh validation round decide again."""
        found = await self._locked(tx, tenant, project)
        if found.stop is Stop.NONE:
            return found
        await self._store.clear_stop(tx, tenant, project)
        message = AutoLabelingResumed(project=project_name(project))
        announce(tx, project_event(found, message, found.stop_revision + 1))
        tx.after_commit(self.wake)
        return await self._locked(tx, tenant, project)

    async def _locked(self, tx: Transaction, tenant: str, project: str) -> Project:
        found = await self._store.project_for_update(tx, tenant, project)
        if found is None:
            raise project_not_found(project)
        return found


def _must_be_routed(project: Project) -> None:
    """Raise FailedPrecondition ROUTING_OFF where no question is one that a model may answer."""
    if not project.policy.question:
        raise FailedPrecondition("ROUTING_OFF", project.policy.unroutable, resource=project_name(project.id))
