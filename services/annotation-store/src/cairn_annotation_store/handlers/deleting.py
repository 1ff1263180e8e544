"""Projects deleted: the wish at once, the rest in the background (`cairn_kit.database.deleting`)."""

from __future__ import annotations

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.domain.names import project_id
from cairn_annotation_store.handlers.found import check_etag, found, parsed
from cairn_annotation_store.storage import Storage, folders_of
from cairn_annotation_store.store import ProjectRow, ProjectStore
from cairn_annotation_store.store.deleting import LAST_PARTS, PARTS, DeletingStore
from cairn_annotation_store.wire import project_message
from cairn_kit.auth import Caller
from cairn_kit.database import Database, Deleted, DeletedProject, ProjectDeletions, Transaction
from cairn_kit.errors import FailedPrecondition
from cairn_kit.events import Event, announce
from cairn_kit.rpc import once
from cairn_kit.wakes import Wakes

_FILES_AT_ONCE = 200
"""A bucket takes a while for each, and the deletion's row is locked meanwhile."""


class ProjectFiles:
    """A project's objects in storage: blobs, files of exports and their parts, with or without a row."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def delete(self, tx: Transaction, which: DeletedProject, after: str, most: int) -> Deleted:
        """Delete the next objects."""
        most = min(most, _FILES_AT_ONCE)
        for folder in folders_of(which.tenant, which.project):
            count = await self._storage.delete_below(folder, most)
            if count:
                return Deleted(count, folder)
        return Deleted(0, None)


def deletions_of(database: Database, storage: Storage) -> ProjectDeletions:
    """Deletes all that the store holds of a project."""
    files = ProjectFiles(storage)
    return ProjectDeletions(database, [*PARTS, files, *LAST_PARTS], files=files)


class DeletionHandlers:
    """The command that deletes a project."""

    def __init__(
        self,
        database: Database,
        projects: ProjectStore,
        store: DeletingStore,
        deletions: ProjectDeletions,
        wakes: Wakes,
    ) -> None:
        self._database = database
        self._projects = projects
        self._store = store
        self._deletions = deletions
        self._wakes = wakes

    async def delete(self, who: Caller, request: pb.DeleteProjectRequest) -> pb.Project:
        """Have a project deleted; one that is being deleted stays as it is."""
        project = parsed(project_id, request.name, "name")

        async def effect() -> pb.Project:
            row = found(await self._projects.get_to_delete(tx, who.tenant, project), "project", request.name)
            under_way = await self._projects.deletion(tx, who.tenant, project)
            if under_way is not None:
                return project_message(row, under_way)
            check_etag(request.etag, row)
            if not row.archived:
                raise FailedPrecondition(
                    "PROJECT_NOT_ARCHIVED",
                    f"{request.name} may still be worked on; archive it first.",
                    resource=request.name,
                )
            return await self._begin(tx, row, who.subject)

        async with self._database.transaction() as tx:
            return await once(tx, who.tenant, request, pb.Project, effect)

    async def _begin(self, tx: Transaction, row: ProjectRow, subject: str) -> pb.Project:
        tenant, project = row.tenant, row.project
        await self._store.end_jobs(tx, tenant, project)
        # A revision of its own, so that an etag from before no longer fits.
        written = await self._projects.update(
            tx, tenant, project, schema_version=row.schema_version, archived=True, body=row.body
        )
        name = f"projects/{project}"
        message = events_pb.ProjectDeleted(project=name, deleted_by=subject)
        [event_id] = announce(
            tx, Event(message, tenant=tenant, project=project, resource=name, revision=written.revision)
        )
        await self._deletions.begin(tx, tenant, project, event_id)
        tx.after_commit(lambda: self._wakes.ring(tenant, project))
        return project_message(written, await self._projects.deletion(tx, tenant, project))
