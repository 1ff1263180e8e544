from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.store import ProjectStore
from cairn_kit.testing import eventually


async def update(birds: Any, *paths: str, etag: str = "", **fields: Any) -> pb.Project:
    project = pb.Project(name="projects/birds", etag=etag, **fields)
    return await birds.stub.UpdateProject(
        pb.UpdateProjectRequest(project=project, update_mask=FieldMask(paths=paths))
    )


async def test_the_same_project_again_is_the_same_and_another_is_refused(birds: Any, tools: Any) -> None:
    first = await birds.create(display_name="Birds")
    assert await birds.create(display_name="Birds") == first
    async with tools.refused("PROJECT_EXISTS"):
        await birds.create(display_name="Fish")


async def test_a_request_id_makes_creating_safe_to_repeat(birds: Any, tools: Any) -> None:
    def request(title: str) -> pb.CreateProjectRequest:
        return pb.CreateProjectRequest(
            project_id="birds",
            project=pb.Project(schema=tools.choice_schema(), display_name=title),
            request_id="r1",
        )

    first = await birds.stub.CreateProject(request("Birds"))
    await update(birds, "display_name", display_name="Renamed")
    assert await birds.stub.CreateProject(request("Birds")) == first
    async with tools.refused("REQUEST_ID_REUSED"):
        await birds.stub.CreateProject(request("Fish"))


async def test_a_wrong_schema_is_refused_with_every_path(birds: Any, tools: Any) -> None:
    schema = tools.choice_schema("a", "a")
    schema.questions.append(schema.questions[0])
    async with tools.refused("PROJECT_INVALID") as errors:
        await birds.create(schema)
    assert [violation.field for violation in errors[0].violations] == [
        "project.schema.questions[0].choice.classes[1].id",
        "project.schema.questions[1].id",
        "project.schema.questions[1].choice.classes[1].id",
    ]


async def test_an_update_changes_what_its_mask_names(birds: Any, tools: Any) -> None:
    heard = await birds.world.listen(events_pb.ProjectUpdated)
    created = await birds.create(display_name="Birds", quality=pb.QualityPolicy(min_answers=3))
    changed = await update(
        birds,
        "quality.max_answers",
        etag=created.etag,
        display_name="ignored",
        quality=pb.QualityPolicy(min_answers=6, max_answers=7),
    )
    assert (changed.display_name, changed.quality.min_answers, changed.quality.max_answers) == ("Birds", 3, 7)
    assert (changed.revision, changed.schema_version) == (2, 1)
    [event] = await heard.count(1)
    assert event.message.project == changed
    assert event.revision == 2
    async with tools.refused("ETAG_MISMATCH"):
        await update(birds, "display_name", etag=created.etag, display_name="late")
    same = await update(birds, "display_name", etag=changed.etag, display_name="Birds")
    assert same == changed  # what changes nothing makes no revision
    for path in ("state", "quality.no_such_field"):
        async with tools.refused("UPDATE_MASK_INVALID"):
            await update(birds, path)


async def test_a_schema_grows_but_what_is_used_stays(birds: Any, tools: Any) -> None:
    await birds.create()
    await birds.texts(1)
    await birds.submit(birds.lease("a0000"), tools.chose("wren"))
    grown = await update(birds, "schema", schema=tools.choice_schema("wren", "owl", "kite"))
    assert grown.schema_version == 2
    async with tools.refused("SCHEMA_IN_USE") as errors:
        await update(birds, "schema", schema=tools.choice_schema("owl", "kite"))
    assert "'wren' is gone" in errors[0].message
    later = await birds.submit(birds.lease("a0000", labeler="bob"), tools.chose("kite"))
    assert later.schema_version == 2


async def test_an_archived_project_takes_nothing_and_shows_everything(birds: Any, tools: Any) -> None:
    await birds.create()
    await birds.texts(1)
    token = birds.lease("a0000")
    archived = await birds.stub.ArchiveProject(pb.ArchiveProjectRequest(name="projects/birds"))
    assert archived.state == pb.PROJECT_STATE_ARCHIVED
    again = await birds.stub.ArchiveProject(pb.ArchiveProjectRequest(name="projects/birds"))
    assert again == archived
    async with tools.refused("PROJECT_ARCHIVED"):
        await birds.submit(token, tools.chose("wren"))
    async with tools.refused("PROJECT_ARCHIVED"):
        await birds.texts(1, import_id="second")
    item = await birds.stub.GetItem(pb.GetItemRequest(name="projects/birds/items/a0000"))
    assert item.text == "text 0"


async def test_projects_come_in_pages_and_only_those_that_the_token_names(birds: Any, tools: Any) -> None:
    for name in ("a", "b", "c"):
        await birds.create(project_id=name)
    names, token = [], ""
    while True:
        page = await birds.stub.ListProjects(pb.ListProjectsRequest(page_size=2, page_token=token))
        names += [project.name for project in page.projects]
        token = page.next_page_token
        if not token:
            break
    assert names == ["projects/a", "projects/b", "projects/c"]
    restricted = birds.as_(roles=["manager"], projects=["b"])
    page = await restricted.ListProjects(pb.ListProjectsRequest())
    assert [project.name for project in page.projects] == ["projects/b"]
    async with tools.refused("PROJECT_NOT_FOUND"):
        await restricted.GetProject(pb.GetProjectRequest(name="projects/a"))


async def test_another_tenant_sees_nothing(birds: Any, tools: Any) -> None:
    await birds.create()
    await birds.take_in([pb.Item(key="k", text="x", gold_answers=[tools.chose("owl")])])
    stranger = birds.as_(tenant="other", roles=["admin"])
    assert not (await stranger.ListProjects(pb.ListProjectsRequest())).projects
    name, item = "projects/birds", "projects/birds/items/k"
    calls = [
        (stranger.GetProject, pb.GetProjectRequest(name=name)),
        (stranger.GetProjectProgress, pb.GetProjectProgressRequest(name=name)),
        (stranger.GetItem, pb.GetItemRequest(name=item)),
        (stranger.ListItems, pb.ListItemsRequest(parent=name)),
        (stranger.GetImport, pb.GetImportRequest(name=f"{name}/imports/first")),
        (stranger.GetLabel, pb.GetLabelRequest(name=f"{item}/labels/species")),
        (stranger.ListLabels, pb.ListLabelsRequest(parent=name)),
        (stranger.ListLabels, pb.ListLabelsRequest(parent=item)),
        (stranger.ListLabelRevisions, pb.ListLabelRevisionsRequest(name=f"{item}/labels/species")),
        (stranger.ListAnnotations, pb.ListAnnotationsRequest(parent=f"{name}/items/-")),
        (stranger.CreateExport, pb.CreateExportRequest(parent=name, format=pb.EXPORT_FORMAT_CSV)),
        (stranger.ListExports, pb.ListExportsRequest(parent=name)),
        (stranger.ArchiveProject, pb.ArchiveProjectRequest(name=name)),
    ]
    for method, request in calls:
        async with tools.refused(
            "PROJECT_NOT_FOUND", "ITEM_NOT_FOUND", "IMPORT_NOT_FOUND", "LABEL_NOT_FOUND"
        ):
            await method(request)
    # the same names are free for them, and hold their own things
    other = await stranger.CreateProject(
        pb.CreateProjectRequest(project_id="birds", project=pb.Project(schema=tools.choice_schema("x", "y")))
    )
    assert other.revision == 1
    assert (await birds.progress()).items == 1


async def test_gold_is_shown_only_to_those_who_may_see_it(birds: Any, tools: Any) -> None:
    await birds.create()
    gold = pb.Item(
        key="k", text="x", gold_answers=[tools.chose("owl")], metadata={"truth": "owl"}, priority=0.5
    )
    await birds.take_in([gold])
    request = pb.GetItemRequest(name="projects/birds/items/k")
    whole = await birds.stub.GetItem(request)
    assert (whole.gold_answers, whole.metadata, whole.priority) == (gold.gold_answers, {"truth": "owl"}, 0.5)
    assert whole.HasField("create_time")
    plain = pb.Item(name="projects/birds/items/k", key="k", text="x")
    for role in ("viewer", "operator", "reviewer"):
        reader = birds.as_(subject=role, roles=[role])
        assert await reader.GetItem(request) == plain
        page = await reader.ListItems(pb.ListItemsRequest(parent="projects/birds"))
        assert list(page.items) == [plain]


async def test_progress_is_told_at_once_and_whenever_it_changes(birds: Any, tools: Any) -> None:
    await birds.create()
    seen: list[pb.ProjectProgress] = []

    async def watch() -> None:
        request = pb.WatchProjectProgressRequest(name="projects/birds")
        async for progress in birds.stub.WatchProjectProgress(request):
            seen.append(progress)

    task = asyncio.create_task(watch())
    await eventually(lambda: len(seen), 1)
    await birds.texts(3)
    await eventually(lambda: seen[-1].items, 3)
    await birds.submit(birds.lease("a0000", expires_at=1.0), tools.chose("wren"))
    await eventually(lambda: (seen[-1].annotations, seen[-1].late_annotations), (1, 1))
    task.cancel()


async def test_progress_tells_nobody_that_the_item_just_answered_was_gold(birds: Any, tools: Any) -> None:
    await birds.create()
    gold = pb.Item(key="g", text="hoo", gold_answers=[tools.chose("owl")])
    await birds.take_in([gold, pb.Item(key="a", text="x"), pb.Item(key="b", text="x")])
    operator = birds.operator  # answers, and reads progress, and must not know what is gold
    seen: list[pb.ProjectProgress] = []

    async def watch() -> None:
        async for progress in operator.WatchProjectProgress(
            pb.WatchProjectProgressRequest(name="projects/birds")
        ):
            seen.append(progress)

    async def asked() -> pb.ProjectProgress:
        progress = await operator.GetProjectProgress(pb.GetProjectProgressRequest(name="projects/birds"))
        progress.ClearField("as_of")
        return progress

    task = asyncio.create_task(watch())
    for count, item in enumerate(["g", "a"], start=1):
        await birds.submit(birds.lease(item), tools.chose("owl"), stub=operator)
        told = pb.ProjectProgress(project="projects/birds", items=2, annotations=count)
        assert await asked() == told
        await eventually(lambda count=count: seen and seen[-1].annotations == count)
        seen[-1].ClearField("as_of")
        assert seen[-1] == told
    task.cancel()
    whole = await birds.progress()
    assert (whole.items, whole.gold_items, whole.labeled_items, whole.label_annotations) == (3, 1, 1, 1)


async def test_a_question_that_becomes_required_makes_items_incomplete_and_back(
    birds: Any, tools: Any
) -> None:
    await birds.create()
    items = [pb.Item(key=f"k{i}", text="x", gold_answers=[tools.chose("owl")]) for i in range(3)]
    await birds.take_in(items)
    assert (await birds.progress()).gold_items == 3
    wider = tools.choice_schema()
    wider.questions.append(tools.choice_schema(question="mood").questions[0])
    await update(birds, "schema", schema=wider)

    async def labeled() -> int:
        return (await birds.progress()).labeled_items

    await eventually(labeled, 0)
    wider.questions[1].required = False
    await update(birds, "schema", schema=wider)
    await eventually(labeled, 3)


@pytest.mark.parametrize("change", ["get_to_change", "get_to_delete"])
async def test_who_changes_a_project_waits_for_those_who_use_it_and_not_for_those_who_come_later(
    birds: Any, change: str
) -> None:
    await birds.create()
    store, order = ProjectStore(), list[str]()

    async def changes() -> None:
        async with birds.database.transaction() as tx:
            row = await getattr(store, change)(tx, "acme", "birds")
            await store.update(tx, "acme", "birds", schema_version=2, archived=True, body=row.body)
            order.append("changed")

    async def uses() -> None:
        async with birds.database.transaction() as tx:
            [row] = (await store.in_use(tx, [("acme", "birds")])).values()
            order.append(f"used at revision {row.revision}")

    async def waiting() -> int:
        return await birds.database.fetchval(  # type: ignore[no-any-return]
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

    async def passed_or_waits() -> bool:
        return bool(order) or await waiting() == 2

    # given a project that is in use, somebody who waits to change it, and another who comes to use it
    async with birds.database.transaction() as tx:
        await store.in_use(tx, [("acme", "birds")])
        changing = asyncio.create_task(changes())
        await eventually(waiting, 1)
        using = asyncio.create_task(uses())
        await eventually(passed_or_waits)
        # when who used it first does so no more
    await asyncio.gather(changing, using)
    # then they go on in the order in which they came, and see what those before them did
    assert order == ["changed", "used at revision 2"]
