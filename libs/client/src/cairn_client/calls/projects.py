"""Projects: created, looked at, changed, watched and concluded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.consensus.v1 import consensus_pb2 as consensus
from cairn.label.v1.label_schema_pb2 import LabelSchema
from cairn_client.calls.labelers import Labelers
from cairn_client.calls.labels import LabelCalls
from cairn_client.calls.room import Calls
from cairn_client.calls.work import WorkCalls
from cairn_client.errors import CairnError, FailedPrecondition, NotFound
from cairn_client.names import last_part, project_name, question_of
from cairn_client.schema import ProjectSpec, spec_from
from cairn_client.transport import new_request_id
from cairn_client.waiting import until

_AS_A_JOB = 3600.0
"""Seconds. What fits all votes is done as a job, however long that takes, and every try waits for the same one."""

_ITEMS_AT_ONCE = 5_000
_LOOKED_FOR = 200
"""Labels looked for at once of those that are missing."""
_FIRST_LOOK = 0.1
_SLOWEST_LOOK = 1.0


class Projects(Calls):
    """Calls about projects. A project is named by its id (`reviews`) or its full name
    (`projects/reviews`)."""

    async def create(
        self,
        project: str,
        schema: LabelSchema | ProjectSpec | Mapping[str, Any] | str | Path,
        *,
        quality: store.QualityPolicy | None = None,
        routing: store.RoutingPolicy | None = None,
        display_name: str = "",
    ) -> store.Project:
        """Create a project.

        `schema` is a LabelSchema, a ProjectSpec, the short form as a dict, or a YAML or JSON file.
        `quality`, `routing` and `display_name` win over what it says of them. Raises AlreadyExists when the
        id is taken.
        """
        message = spec_from(schema).project()
        if quality is not None:
            message.quality.CopyFrom(quality)
        if routing is not None:
            message.routing.CopyFrom(routing)
        if display_name:
            message.display_name = display_name
        request = store.CreateProjectRequest(
            project_id=last_part(project_name(project)), project=message, request_id=new_request_id()
        )
        return await self._transport.call(self._transport.store.CreateProject, request)

    async def get(self, project: str) -> store.Project:
        """A project. Raises NotFound."""
        request = store.GetProjectRequest(name=project_name(project))
        return await self._transport.call(self._transport.store.GetProject, request)

    async def list(self) -> AsyncIterator[store.Project]:
        """All projects of the tenant, by name."""
        method = self._transport.store.ListProjects
        async for page in self._transport.pages(method, store.ListProjectsRequest(), lambda r: r.projects):
            for project in page:
                yield project

    async def update(self, project: store.Project, *fields: str) -> store.Project:
        """Change `fields` (of `display_name`, `schema`, `quality`, `routing`) to what `project` has.

        `project` is one that was read before: raises Aborted when somebody else changed it since.
        """
        request = store.UpdateProjectRequest(
            project=project, update_mask=FieldMask(paths=fields), request_id=new_request_id()
        )
        return await self._transport.call(self._transport.store.UpdateProject, request)

    async def archive(self, project: str) -> store.Project:
        """Close a project to new items and annotations."""
        request = store.ArchiveProjectRequest(name=project_name(project), request_id=new_request_id())
        return await self._transport.call(self._transport.store.ArchiveProject, request)

    async def delete(
        self,
        project: str,
        *,
        wait: bool = False,
        progress: Callable[[store.ProjectDeletion], None] | None = None,
    ) -> store.Project:
        """Delete an archived project with all that any service holds of it; it cannot be undone.

        Returns when that has begun; with `wait`, when annotation-store has nothing of it left. Until then `progress` is
        called with how far it has come. Raises FailedPrecondition (`PROJECT_NOT_ARCHIVED`), NotFound.
        """
        request = store.DeleteProjectRequest(name=project_name(project), request_id=new_request_id())
        begun = await self._transport.call(self._transport.store.DeleteProject, request)
        delay = _FIRST_LOOK
        while wait:
            try:
                now = await self.get(project)
            except NotFound:
                break
            if progress is not None:
                progress(now.deletion)
            await asyncio.sleep(delay)
            delay = min(_SLOWEST_LOOK, delay * 1.5)
        return begun

    async def progress(self, project: str) -> store.ProjectProgress:
        """Counts of what a project holds, now."""
        request = store.GetProjectProgressRequest(name=project_name(project))
        return await self._transport.call(self._transport.store.GetProjectProgress, request)

    async def watch(
        self, project: str, *, broke: Callable[[CairnError], None] | None = None
    ) -> AsyncIterator[store.ProjectProgress]:
        """The counts at once, and again whenever they change, without end. When the service is away, `broke` is told why:
        what was counted before may be out of date until the next counts come."""
        request = store.WatchProjectProgressRequest(name=project_name(project))
        method = self._transport.store.WatchProjectProgress
        async for progress in self._transport.following(method, lambda: request, broke):
            yield progress

    async def conclude(self, project: str, *, patience: float = 180.0) -> consensus.ConcludeProjectResponse:
        """Say that no more answers will come: every item with a vote gets its label.

        Waits until consensus has heard of every annotation that was kept, and then until the labels stand.
        Raises FailedPrecondition (`VOTES_NOT_IN`) when the first takes more than `patience` seconds, and Unavailable
        when consensus is away, or fails at it (`REFIT_FAILED`), for longer than the client's patience with a call;
        it may be asked again at any time.
        """
        deadline = time.monotonic() + patience
        delay = _FIRST_LOOK
        while True:
            request = consensus.ConcludeProjectRequest(
                project=project_name(project),
                expected_annotations=(await self.progress(project)).label_annotations,
                request_id=new_request_id(),
            )
            method = self._transport.consensus.ConcludeProject
            try:
                concluded = await self._transport.call_for(method, request, _AS_A_JOB)
            except FailedPrecondition as error:
                if error.reason != "VOTES_NOT_IN" or time.monotonic() > deadline:
                    raise
            else:
                await self.labels_stand(project)
                return concluded
            await asyncio.sleep(delay)
            delay = min(_SLOWEST_LOOK, delay * 1.5)

    async def labels_stand(self, project: str, *, patience: float = 60.0) -> bool:
        """Wait until the labels are what consensus decided last; False after `patience` seconds without a
        change."""
        missing = await self._labels_missing(project)

        async def still_missing() -> int:
            looked_for = {at: missing.pop(at) for at in list(missing)[:_LOOKED_FOR]}
            left = {
                at: answer
                for at, answer in looked_for.items()
                if not await self._stands(project, *at, answer)
            }
            if len(left) == len(looked_for):  # or consensus has decided otherwise since
                left = await self._decided(project, left)
            missing.update(left)  # behind the others: they take turns
            return len(missing)

        return await until(still_missing, lambda left: left == 0, patience)

    async def _labels_missing(self, project: str) -> dict[tuple[str, str], bytes]:
        """What consensus has decided and no label says yet: answers, by item and question.

        Labels and decisions are read beside each other, in the order of items: there may be millions.
        """
        questions = (await self.get(project)).schema.questions
        asked = sorted(
            {task.item async for task in WorkCalls(self._transport).tasks(project)} if questions else ()
        )
        labels = LabelCalls(self._transport).labels(project)
        label = await anext(labels, None)
        missing: dict[tuple[str, str], bytes] = {}
        for start in range(0, len(asked), _ITEMS_AT_ONCE):
            items = asked[start : start + _ITEMS_AT_ONCE]
            standing: dict[tuple[str, str], store.Label] = {}
            while label is not None and _item_of(label) <= items[-1]:
                standing[_item_of(label), question_of(label.name)] = label
                label = await anext(labels, None)
            decided = await self._decided(project, [(item, one.id) for one in questions for item in items])
            missing |= {at: answer for at, answer in decided.items() if not _says(standing.get(at), answer)}
        return missing

    async def _decided(self, project: str, among: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """What consensus has decided now of these items and questions."""
        by_question: dict[str, list[str]] = {}
        for item, question in among:
            by_question.setdefault(question, []).append(item)
        return {
            (one.item, question): one.answer.SerializeToString(deterministic=True)
            for question, items in by_question.items()
            async for one in Labelers(self._transport).posteriors(project, question, items)
            if one.state == consensus.DECISION_STATE_DECIDED
        }

    async def _stands(self, project: str, item: str, question: str, answer: bytes) -> bool:
        try:
            label = await LabelCalls(self._transport).label(project, item, question)
        except NotFound:
            return False
        return _says(label, answer)

    async def refit(self, project: str) -> consensus.RefitProjectResponse:
        """Fit reliabilities and posteriors to all votes at once. Raises Unavailable as `conclude` does."""
        request = consensus.RefitProjectRequest(project=project_name(project), request_id=new_request_id())
        return await self._transport.call_for(self._transport.consensus.RefitProject, request, _AS_A_JOB)


def _item_of(label: store.Label) -> str:
    return label.name.split("/labels/", 1)[0]


def _says(label: store.Label | None, answer: bytes) -> bool:
    """Whether a label says what consensus decided, or stands whatever that was, as one of a higher source does."""
    if label is None:
        return False
    return (
        label.source > store.LABEL_SOURCE_CONSENSUS
        or label.answer.SerializeToString(deterministic=True) == answer
    )
