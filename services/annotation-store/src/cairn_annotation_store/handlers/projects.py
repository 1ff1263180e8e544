"""Projects: created, read, changed, archived, counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.domain.names import project_id
from cairn_annotation_store.domain.policies import check_project, may_change_completeness, settled
from cairn_annotation_store.domain.schema_change import check_change
from cairn_annotation_store.handlers.found import active, check_etag, found, parsed
from cairn_annotation_store.store import Progress, ProjectRow, ProjectStore
from cairn_annotation_store.wire import progress_message, project_message
from cairn_kit.auth import Caller, Permission
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import AlreadyExists, FailedPrecondition, InvalidArgument, Violation
from cairn_kit.events import Event, announce
from cairn_kit.looks import Looks
from cairn_kit.rpc import once, page_of, page_size, read_page_token, write_page_token
from cairn_kit.wakes import Wakes, rung

_CHANGEABLE = ("display_name", "schema", "quality", "routing")
_GATHERED = 0.2
"""Seconds between two looks at a project's progress, however many watch it and however often it changes."""


class ProjectHandlers:
    """Commands and questions about projects."""

    def __init__(self, database: Database, projects: ProjectStore, wakes: Wakes, poll_seconds: float) -> None:
        self._database = database
        self._projects = projects
        self._wakes = wakes
        self._poll_seconds = poll_seconds
        self._looks = Looks(self._progress)

    async def create(self, who: Caller, request: pb.CreateProjectRequest) -> pb.Project:
        """Create a project; the same again gives the one there is."""
        body = settled(request.project)
        _refuse(check_project(body))

        async def effect() -> pb.Project:
            if await self._projects.deletion(tx, who.tenant, request.project_id) is not None:
                name = f"projects/{request.project_id}"
                raise AlreadyExists(
                    "PROJECT_DELETED", f"{name} was deleted; its id is never given again.", resource=name
                )
            row = await self._projects.insert(tx, who.tenant, request.project_id, body)
            if row is None:
                there = await self._projects.get(tx, who.tenant, request.project_id)
                if there is None or there.body != body:
                    name = f"projects/{request.project_id}"
                    raise AlreadyExists("PROJECT_EXISTS", f"There is another {name}.", resource=name)
                return project_message(there)
            project = project_message(row)
            announce(tx, _event(row, events_pb.ProjectCreated(project=project)))
            return project

        async with self._database.transaction() as tx:
            return await once(tx, who.tenant, request, pb.Project, effect)

    async def get(self, who: Caller, name: str) -> pb.Project:
        """A project, also one that is being deleted."""
        project = parsed(project_id, name, "name")
        row = found(
            await self._projects.get_even_if_deleting(self._database, who.tenant, project), "project", name
        )
        deletion = (
            await self._projects.deletion(self._database, who.tenant, project) if row.archived else None
        )
        return project_message(row, deletion)

    async def list(self, who: Caller, request: pb.ListProjectsRequest) -> pb.ListProjectsResponse:
        """A page of the projects that the caller may see."""
        size = page_size(request.page_size, default=50)
        (after,) = read_page_token(request) or ("",)
        rows = await self._projects.list_after(self._database, who.tenant, after, size + 1, who.projects)
        archived = [row.project for row in rows if row.archived]
        deletions = await self._projects.deletions(self._database, who.tenant, archived)
        projects = page_of((project_message(row, deletions.get(row.project)) for row in rows), size)
        last = rows[len(projects) - 1] if len(projects) < len(rows) else None
        return pb.ListProjectsResponse(
            projects=projects, next_page_token=write_page_token(request, last.project) if last else ""
        )

    async def update(self, who: Caller, request: pb.UpdateProjectRequest) -> pb.Project:
        """Change the fields of the mask; what changes nothing makes no revision."""
        name = request.project.name
        project = parsed(project_id, name, "project.name")
        mask = _checked_mask(request.update_mask)

        async def effect() -> pb.Project:
            row = active(await self._projects.get_to_change(tx, who.tenant, project), name)
            check_etag(request.project.etag, row)
            body = pb.Project()
            body.CopyFrom(row.body)
            mask.MergeMessage(request.project, body, replace_message_field=True, replace_repeated_field=True)
            body = settled(body)
            if body == row.body:
                return project_message(row)
            _refuse(check_project(body))
            if body.schema != row.body.schema:
                await self._check_schema_change(tx, row, body)
            return await self._write(tx, row, body, archived=False)

        async with self._database.transaction() as tx:
            return await once(tx, who.tenant, request, pb.Project, effect)

    async def archive(self, who: Caller, request: pb.ArchiveProjectRequest) -> pb.Project:
        """Close a project; one that is closed stays as it is."""
        project = parsed(project_id, request.name, "name")

        async def effect() -> pb.Project:
            row = found(await self._projects.get_to_change(tx, who.tenant, project), "project", request.name)
            if row.archived:
                return project_message(row)
            check_etag(request.etag, row)
            return await self._write(tx, row, row.body, archived=True)

        async with self._database.transaction() as tx:
            return await once(tx, who.tenant, request, pb.Project, effect)

    async def progress(self, who: Caller, name: str) -> pb.ProjectProgress:
        """A project's counts, now."""
        project = parsed(project_id, name, "name")
        counts = found(await self._progress((who.tenant, project)), "project", name)
        return progress_message(project, _seen_by(who, counts))

    async def watch_progress(self, who: Caller, name: str) -> AsyncIterator[pb.ProjectProgress]:
        """A project's counts, now and whenever they change."""
        project = parsed(project_id, name, "name")
        sent: tuple[int, ...] | None = None
        bell = self._wakes.listen(who.tenant, project)
        while True:
            counts = found(await self._looks.get((who.tenant, project), _GATHERED), "project", name)
            counts = _seen_by(who, counts)
            if counts.counts() != sent:
                sent = counts.counts()
                yield progress_message(project, counts)
            await rung(bell, self._poll_seconds)
            # The bell rings for every commit. What is looked up after the pause is younger than the ring that woke us, and
            # what is committed in it rings the next one.
            bell = self._wakes.listen(who.tenant, project)
            await asyncio.sleep(_GATHERED)

    async def _progress(self, ref: tuple[str, str]) -> Progress | None:
        """A project's counts; None when there is no such project."""
        if await self._projects.get(self._database, *ref) is None:
            return None
        return await self._projects.progress(self._database, *ref)

    async def _check_schema_change(self, tx: Transaction, row: ProjectRow, body: pb.Project) -> None:
        uses = await self._projects.uses(tx, row.tenant, row.project)
        violations = check_change(row.body.schema, body.schema, uses)
        if violations:
            told = "; ".join(f"{v.field}: {v.description}" for v in violations[:5])
            raise FailedPrecondition(
                "SCHEMA_IN_USE",
                f"Labels or annotations would no longer fit the schema: {told}",
                resource=f"projects/{row.project}",
                fields=", ".join(v.field for v in violations[:20]),
            )
        if may_change_completeness(row.body.schema, body.schema):
            await self._projects.ask_for_recount(tx, row.tenant, row.project)

    async def _write(
        self, tx: Transaction, row: ProjectRow, body: pb.Project, *, archived: bool
    ) -> pb.Project:
        written = await self._projects.update(
            tx,
            row.tenant,
            row.project,
            schema_version=row.schema_version + (body.schema != row.body.schema),
            archived=archived,
            body=body,
        )
        project = project_message(written)
        announce(tx, _event(written, events_pb.ProjectUpdated(project=project)))
        tx.after_commit(lambda: self._wakes.ring(row.tenant, row.project))
        return project


def _event(row: ProjectRow, message: events_pb.ProjectCreated | events_pb.ProjectUpdated) -> Event:
    return Event(
        message,
        tenant=row.tenant,
        project=row.project,
        resource=f"projects/{row.project}",
        revision=row.revision,
    )


def _seen_by(who: Caller, counts: Progress) -> Progress:
    return counts if who.may(Permission.READ_GOLD) else counts.without_gold()


def _refuse(violations: Sequence[Violation]) -> None:
    if violations:
        first = violations[0]
        raise InvalidArgument("PROJECT_INVALID", f"{first.field}: {first.description}", violations=violations)


def _checked_mask(mask: FieldMask) -> FieldMask:
    """The mask, if every path leads to a field that may be changed. `*` means all of them."""
    if list(mask.paths) == ["*"]:
        return FieldMask(paths=_CHANGEABLE)
    bad = [
        path
        for path in mask.paths
        if path.partition(".")[0] not in _CHANGEABLE
        or not FieldMask(paths=[path]).IsValidForDescriptor(pb.Project.DESCRIPTOR)
    ]
    if bad or not mask.paths:
        told = f"{bad[0]!r} cannot be changed" if bad else "the mask is empty"
        expected = f"expected paths of {', '.join(_CHANGEABLE)}"
        raise InvalidArgument(
            "UPDATE_MASK_INVALID", f"update_mask: {told}; {expected}.",
            violations=[Violation("update_mask", f"{told}; {expected}.")],
        )  # fmt: skip
    return mask
