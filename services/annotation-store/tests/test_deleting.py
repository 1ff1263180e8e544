"""Deleting a project: at once to everybody, in the background to the last row and file, and nothing beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn.label.v1.label_value_pb2 import Answer
from cairn_annotation_store.__main__ import SERVICE
from cairn_kit.database import deleting
from cairn_kit.testing import eventually

PROJECT = "projects/birds"
TABLES = (
    "project", "schema_use", "blob", "item", "annotation", "label", "import", "import_failure", "export", "export_part",
    "recount", "progress",
)  # fmt: skip


async def rows_of(birds: Any, project: str = "birds", tenant: str = "acme") -> dict[str, int]:
    """How many rows of a project each table has; those that have none are left out."""
    counts = {
        table: await birds.database.fetchval(
            f'SELECT count(*) FROM "{table}" WHERE tenant = $1 AND project = $2',
            tenant,
            project,
        )
        for table in TABLES
    }
    return {table: count for table, count in counts.items() if count}


def files_of(birds: Any, project: str = "birds", tenant: str = "acme") -> list[Path]:
    found = (birds.world.folder / "blobs").glob(f"*/{tenant}/{project}/**/*")
    return [path for path in found if path.is_file()]


async def upload(birds: Any, content: bytes, stub: Any = None, parent: str = PROJECT) -> pb.Blob:
    async def messages() -> AsyncIterator[pb.UploadBlobRequest]:
        yield pb.UploadBlobRequest(header=pb.BlobHeader(parent=parent, media_type="text/plain"))
        yield pb.UploadBlobRequest(chunk=content)

    return await (stub or birds.stub).UploadBlob(messages())


async def fill(birds: Any) -> pb.Export:
    """A project with something of every kind; returns its finished export."""
    await birds.create()
    await birds.texts(30)
    await birds.take_in(
        [pb.Item(key="a0000", text="other")], import_id="second"
    )  # refused: a failure is kept
    await upload(birds, b"a wren sings")
    for item in ("a0000", "a0001"):
        await birds.submit(birds.lease(item), pb_answer("wren"))
        await birds.decide(item, "wren")
    await eventually(lambda: standing(birds, 2))
    export = await birds.stub.CreateExport(
        pb.CreateExportRequest(parent=PROJECT, format=pb.EXPORT_FORMAT_JSONL)
    )

    async def finished() -> bool:
        return (await birds.stub.GetExport(pb.GetExportRequest(name=export.name))).HasField("file")

    await eventually(finished)
    return export


def pb_answer(class_id: str) -> Answer:
    return Answer(question="species", choice=class_id)


async def standing(birds: Any, count: int) -> bool:
    listed = await birds.stub.ListLabels(pb.ListLabelsRequest(parent=PROJECT))
    return len(listed.labels) == count


async def archive(stub: Any, name: str = PROJECT) -> pb.Project:
    return await stub.ArchiveProject(pb.ArchiveProjectRequest(name=name))


async def delete(stub: Any, name: str = PROJECT, **fields: Any) -> pb.Project:
    return await stub.DeleteProject(pb.DeleteProjectRequest(name=name, **fields))


async def get(birds: Any, name: str = PROJECT) -> pb.Project:
    return await birds.stub.GetProject(pb.GetProjectRequest(name=name))


async def is_gone(birds: Any) -> bool:
    try:
        await get(birds)
    except grpc.aio.AioRpcError as error:
        return error.code() == grpc.StatusCode.NOT_FOUND
    return False


async def test_all_of_it_goes_and_nothing_of_its_neighbours(birds: Any) -> None:
    await fill(birds)
    await birds.create(project_id="birds2")
    await birds.take_in([pb.Item(key="a0000", text="x")], parent="projects/birds2")
    await upload(birds, b"not mine", parent="projects/birds2")
    other = birds.as_(tenant="globex", roles=["manager"])
    await other.CreateProject(
        pb.CreateProjectRequest(project_id="birds", project=pb.Project(schema=(await get(birds)).schema))
    )
    await birds.take_in([pb.Item(key="a0000", text="x")], stub=other)
    await upload(birds, b"a wren sings", stub=other)
    kept = [await rows_of(birds, "birds2"), await rows_of(birds, tenant="globex")]
    # The parts of an export go a moment after it is finished.
    await eventually(lambda: len(files_of(birds)), 2)
    assert set(await rows_of(birds)) >= set(TABLES) - {"recount", "export_part"}

    await archive(birds.stub)
    answer = await delete(birds.stub)
    assert answer.state == pb.PROJECT_STATE_DELETING
    assert answer.deletion.total_rows == 30 + 2 + 2
    await eventually(lambda: is_gone(birds))

    assert await rows_of(birds) == {}
    assert files_of(birds) == []
    assert [await rows_of(birds, "birds2"), await rows_of(birds, tenant="globex")] == kept
    assert len(files_of(birds, "birds2")) == 1
    assert len(files_of(birds, tenant="globex")) == 1


async def test_it_is_announced_once_with_who_asked(birds: Any) -> None:
    heard = await birds.world.listen(events_pb.ProjectDeleted)
    await birds.create()
    archived = await archive(birds.stub)
    first = await delete(birds.stub, request_id="r", etag=archived.etag)
    assert (
        await delete(birds.stub, request_id="r", etag=archived.etag) == first
    )  # also when all is gone meanwhile
    [event] = await heard.count(1)
    assert event.message == events_pb.ProjectDeleted(project=PROJECT, deleted_by="tester")
    assert event.revision == archived.revision + 1
    assert event.id == await birds.database.fetchval("SELECT event_id FROM deleted_project")


async def test_what_may_be_worked_on_or_has_changed_is_not_deleted(birds: Any, tools: Any) -> None:
    created = await birds.create()
    async with tools.refused("PROJECT_NOT_ARCHIVED"):
        await delete(birds.stub)
    await archive(birds.stub)
    async with tools.refused("ETAG_MISMATCH"):
        await delete(birds.stub, etag=created.etag)
    async with tools.refused("PROJECT_NOT_FOUND"):
        await delete(birds.stub, "projects/none")
    assert (await get(birds)).state == pb.PROJECT_STATE_ARCHIVED


@pytest.mark.parametrize("role", ["viewer", "labeler", "reviewer", "operator"])
async def test_who_may_not_write_projects_may_not_delete_them(birds: Any, tools: Any, role: str) -> None:
    await birds.create()
    await archive(birds.stub)
    async with tools.refused("PERMISSION_MISSING"):
        await delete(birds.as_(roles=[role]))
    for stranger in ({"tenant": "globex"}, {"projects": ["others"]}):
        async with tools.refused("PROJECT_NOT_FOUND"):
            await delete(birds.as_(roles=["manager"], **stranger))


@pytest.fixture
def held_back(birds: Any) -> Any:
    """A transaction of the store's own that began before: nothing is deleted while it runs."""
    return birds.database.transaction()


async def test_to_all_but_who_asks_how_far_it_is_the_project_is_gone_at_once(
    birds: Any, tools: Any, held_back: Any
) -> None:
    export = await fill(birds)
    blob = await upload(birds, b"a wren sings")
    annotations = await birds.stub.ListAnnotations(pb.ListAnnotationsRequest(parent=f"{PROJECT}/items/-"))
    token = birds.lease("a0002", labeler="op")
    await archive(birds.stub)
    watch = birds.stub.WatchProjectProgress(pb.WatchProjectProgressRequest(name=PROJECT))
    await anext(aiter(watch))
    async with held_back as older:
        await older.fetchval("SELECT 1")
        await delete(birds.stub)
        listed = await birds.stub.ListProjects(pb.ListProjectsRequest())
        assert [one.state for one in listed.projects] == [pb.PROJECT_STATE_DELETING]
        assert (await delete(birds.stub)).state == pb.PROJECT_STATE_DELETING
        item, label = f"{PROJECT}/items/a0000", f"{PROJECT}/items/a0000/labels/species"
        stub = birds.stub
        for call in (
            lambda: stub.ArchiveProject(pb.ArchiveProjectRequest(name=PROJECT)),
            lambda: stub.GetProjectProgress(pb.GetProjectProgressRequest(name=PROJECT)),
            lambda: stub.GetItem(pb.GetItemRequest(name=item)),
            lambda: stub.ListItems(pb.ListItemsRequest(parent=PROJECT)),
            lambda: stub.GetAnnotation(pb.GetAnnotationRequest(name=annotations.annotations[0].name)),
            lambda: stub.ListAnnotations(pb.ListAnnotationsRequest(parent=item)),
            lambda: stub.GetLabel(pb.GetLabelRequest(name=label)),
            lambda: stub.ListLabels(pb.ListLabelsRequest(parent=PROJECT)),
            lambda: stub.ListLabels(pb.ListLabelsRequest(parent=item)),
            lambda: stub.ListLabelRevisions(pb.ListLabelRevisionsRequest(name=label)),
            lambda: stub.GetImport(pb.GetImportRequest(name=f"{PROJECT}/imports/first")),
            lambda: stub.GetExport(pb.GetExportRequest(name=export.name)),
            lambda: stub.CancelExport(pb.CancelExportRequest(name=export.name)),
            lambda: stub.ListImports(pb.ListImportsRequest(parent=PROJECT)),
            lambda: stub.CreateExport(pb.CreateExportRequest(parent=PROJECT, format=pb.EXPORT_FORMAT_JSONL)),
            lambda: anext(aiter(stub.DownloadExport(pb.DownloadExportRequest(name=export.name)))),
            lambda: anext(aiter(stub.DownloadBlob(pb.DownloadBlobRequest(name=blob.name)))),
            lambda: birds.texts(1, import_id="third"),
            lambda: upload(birds, b"late"),
            lambda: birds.submit(token, pb_answer("owl")),
        ):
            async with tools.refused("PROJECT_NOT_FOUND"):
                await call()
        async with tools.refused("PROJECT_NOT_FOUND"):
            async for _ in watch:
                pass
        [shown] = (await birds.operator.GetLeasedItems(pb.GetLeasedItemsRequest(lease_tokens=[token]))).items
        assert shown.HasField("error")
        assert len(await rows_of(birds)) > 5  # it was not deleted yet: the older transaction still runs
    await eventually(lambda: is_gone(birds))
    async with tools.refused("PROJECT_DELETED"):
        await birds.create()


async def test_what_others_say_of_it_afterwards_changes_nothing(birds: Any) -> None:
    await fill(birds)
    await archive(birds.stub)
    await delete(birds.stub)
    await eventually(lambda: is_gone(birds))
    await birds.create(project_id="birds2")
    late = [birds.consensus("a0003", "owl"), birds.routed(("a0004", "owl")), birds.corrected("a0001", "owl")]
    await birds.world.publish(*late)

    async def handled() -> bool:
        return await birds.database.fetchval("SELECT count(*) FROM inbox") == 2 + len(late)

    await eventually(handled)
    assert await rows_of(birds) == {}
    assert await birds.database.fetchval("SELECT count(*) FROM dead_letter") == 0


async def test_a_store_that_is_stopped_in_the_middle_goes_on_where_it_was(
    world: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleting, "FIRST_CHUNK", 2)
    monkeypatch.setattr(deleting, "LARGEST_CHUNK", 2)
    url = (world.folder / "blobs").as_uri()
    async with world.run(SERVICE, blob_url=url) as running:
        birds = tools.birds(world, running)
        await fill(birds)
        await archive(birds.stub)
        await delete(birds.stub)

        async def half() -> bool:
            return (await get(birds)).deletion.deleted_rows > 6

        await eventually(half)
        before = (await get(birds)).deletion
    assert before.total_rows == 34
    async with world.run(SERVICE, blob_url=url) as running:
        birds = tools.birds(world, running)
        await eventually(lambda: is_gone(birds))
        assert await rows_of(birds) == {}
        assert files_of(birds) == []
        deleted = "SELECT deleted FROM deleted_project WHERE gone_at IS NOT NULL"
        assert await eventually(lambda: birds.database.fetchval(deleted)) > before.deleted_rows
