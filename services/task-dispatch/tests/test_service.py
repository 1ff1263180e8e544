"""The whole service on real NATS, PostgreSQL and gRPC: events in, leases out, events out; and who may do what."""

from __future__ import annotations

import asyncio

import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from cairn.annotation.v1 import annotation_store_pb2 as store_pb
from cairn.annotation.v1 import annotation_store_pb2_grpc as store_api
from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn.dispatch.v1 import task_dispatch_pb2_grpc as api
from cairn.events.v1.task_dispatch_events_pb2 import LeasesEnded, LeasesGranted, TasksClosed, TasksOpened
from cairn_kit.auth import PublicKeys, Verifier
from cairn_kit.errors import from_rpc_error
from cairn_kit.events import Event
from cairn_kit.testing import ProjectsOfAll, eventually
from cairn_task_dispatch.__main__ import SERVICE


class AnnotationStore(ProjectsOfAll):
    """annotation-store as far as task-dispatch needs it: the real contract over the real wire."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: dict[str, bool] = {}
        self.away = True
        self.asked = 0

    async def BatchGetAnsweredLeases(self, request, context):
        self.asked += 1
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        known = [name for name in request.leases if name in self.answered]
        return store_pb.BatchGetAnsweredLeasesResponse(
            answered_leases=known, late=[self.answered[name] for name in known]
        )


@pytest.fixture
def words(kit):
    return kit.Words()


@pytest_asyncio.fixture
async def store(world):
    servicer = AnnotationStore()
    world.signer("audit")  # its key must be known before the service reads the keys
    await world.fake_peer(
        "annotation-store", servicer, store_api.add_AnnotationStoreServiceServicer_to_server
    )
    return servicer


@pytest_asyncio.fixture
async def dispatch(world, store):
    async with world.run(SERVICE, expiry_every=0.1, expiry_retry=0.2) as running:
        yield running


async def say(world, words, *messages, tenant="acme", copies=1):
    events = [Event(message, tenant, words.project, words.name, 1) for message in messages]
    await world.publish(*events, copies=copies)


async def open_tasks(dispatch, tenant="acme"):
    return await dispatch.database.fetchval(
        "SELECT count(*) FROM task WHERE tenant = $1 AND state = 'OPEN'", tenant
    )


def reason_of(error):
    return from_rpc_error(error.value).reason


async def test_from_a_route_to_a_lease_to_an_answer(world, dispatch, words):
    heard = await world.listen(TasksOpened, LeasesGranted, TasksClosed)
    await say(
        world, words, words.routed("a", "b"), words.imported("a", "b"), words.created(min_answers=1), copies=3
    )
    await eventually(lambda: open_tasks(dispatch), 2)
    ann = dispatch.stub(api.TaskDispatchServiceStub, subject="ann", roles=["labeler"])
    response = await ann.LeaseTasks(pb.LeaseTasksRequest(parent=words.name, max_tasks=5))
    assert [lease.labeler for lease in response.leases] == ["labelers/ann"] * 2
    claims = Verifier(PublicKeys(world.keys.jwks_file)).verify_lease(response.leases[0].token)
    assert (claims.tenant, claims.project, claims.labeler, claims.kind) == (
        "acme",
        "birds",
        "labelers/ann",
        "LABEL",
    )
    assert response.leases[0].name == f"{words.name}/tasks/{claims.task}/leases/{claims.lease}"
    await say(world, words, *(words.submitted(lease) for lease in response.leases), copies=2)
    looker = dispatch.stub(api.TaskDispatchServiceStub, roles=["viewer"])
    await eventually(lambda: queue_of(looker, words), {"filled_tasks": 2, "open_tasks": 0, "live_leases": 0})
    await say(world, words, words.reached("a", 1), words.reached("b", 1))
    await heard.until(
        lambda events: sum(len(e.message.tasks) for e in events if e.type.endswith("Closed")) == 2
    )
    assert sum(len(e.message.tasks) for e in heard.events if e.type.endswith("Opened")) == 2
    assert sum(len(e.message.leases) for e in heard.events if e.type.endswith("Granted")) == 2
    assert not any(
        lease.token for e in heard.events if e.type.endswith("Granted") for lease in e.message.leases
    )


async def queue_of(stub, words):
    queue = await stub.GetQueue(pb.GetQueueRequest(project=words.name))
    return {name: getattr(queue, name) for name in ("filled_tasks", "open_tasks", "live_leases")}


async def test_expiry_over_the_wire_waits_for_the_store(world, dispatch, store, words, kit):
    heard = await world.listen(LeasesEnded)
    await say(world, words, words.created(min_answers=1), words.imported("a", "b"), words.routed("a", "b"))
    await eventually(lambda: open_tasks(dispatch), 2)
    ann = dispatch.stub(api.TaskDispatchServiceStub, subject="ann", roles=["labeler"])
    lost, answered = (await ann.LeaseTasks(pb.LeaseTasksRequest(parent=words.name, max_tasks=2))).leases
    store.answered[answered.name] = False
    await kit.Desk(dispatch.database).pass_time(700)
    await eventually(lambda: store.asked >= 2)
    bob = dispatch.stub(api.TaskDispatchServiceStub, subject="bob", roles=["labeler"])
    assert not (await bob.LeaseTasks(pb.LeaseTasksRequest(parent=words.name))).leases
    store.away = False
    [event] = await heard.count(1)
    assert [lease.name for lease in event.message.leases] == [lost.name]
    got = await bob.LeaseTasks(pb.LeaseTasksRequest(parent=words.name, max_tasks=5))
    assert [lease.item for lease in got.leases] == [lost.item]
    state = (await ann.GetLease(pb.GetLeaseRequest(name=answered.name))).state
    assert state == pb.LEASE_STATE_ANSWERED


async def test_a_lease_belongs_to_its_labeler_alone(world, dispatch, words):
    await say(world, words, words.created(), words.imported("a"), words.routed("a"))
    await eventually(lambda: open_tasks(dispatch), 1)
    ann = dispatch.stub(api.TaskDispatchServiceStub, subject="ann", roles=["labeler"])
    bob = dispatch.stub(api.TaskDispatchServiceStub, subject="bob", roles=["labeler"])
    boss = dispatch.stub(api.TaskDispatchServiceStub, subject="boss", roles=["operator"])
    alien = dispatch.stub(api.TaskDispatchServiceStub, tenant="umbra", subject="ann", roles=["admin"])
    [lease] = (await ann.LeaseTasks(pb.LeaseTasksRequest(parent=words.name))).leases
    for thief in (bob, alien):
        for call in (
            thief.GetLease(pb.GetLeaseRequest(name=lease.name)),
            thief.ExtendLease(pb.ExtendLeaseRequest(name=lease.name)),
            thief.ReleaseLease(pb.ReleaseLeaseRequest(name=lease.name)),
            thief.SkipTask(pb.SkipTaskRequest(name=lease.name, reason="mine")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call
            assert reason_of(error) == "LEASE_NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await bob.LeaseTasks(pb.LeaseTasksRequest(parent=words.name, labeler="labelers/ann"))
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await bob.LeaseTasks(pb.LeaseTasksRequest(parent=words.name, reviews=True))
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert not (await ann.GetLease(pb.GetLeaseRequest(name=lease.name))).token
    assert (await boss.ExtendLease(pb.ExtendLeaseRequest(name=lease.name))).token
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await alien.ListTasks(pb.ListTasksRequest(parent=words.name))
    assert reason_of(error) == "PROJECT_NOT_FOUND"


async def test_no_labeler_finds_gold_by_naming_items(world, dispatch, words):
    await say(world, words, words.created(min_answers=1), words.imported("a", gold=["g"]), words.routed("a"))
    await eventually(lambda: open_tasks(dispatch), 2)
    ann = dispatch.stub(api.TaskDispatchServiceStub, subject="ann", roles=["labeler", "reviewer"])
    for item in ("a", "g"):
        claims = [pb.ItemClaim(item=words.item(item))]
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await ann.ClaimItems(pb.ClaimItemsRequest(parent=words.name, claims=claims))
        assert (error.value.code(), reason_of(error)) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "PERMISSION_MISSING",
        )


async def test_a_project_is_served_before_its_event_has_come(world, dispatch, store, words):
    ann = dispatch.stub(api.TaskDispatchServiceStub, subject="ann", roles=["labeler"])
    request = pb.LeaseTasksRequest(parent=words.name, request_id="first")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await ann.LeaseTasks(request)
    assert reason_of(error) == "PROJECT_NOT_FOUND"

    store.projects[words.name] = words.created(min_answers=1).project
    assert not (await ann.LeaseTasks(request)).leases
    boss = dispatch.stub(api.TaskDispatchServiceStub, roles=["manager"])
    assert (await boss.GetQueue(pb.GetQueueRequest(project=words.name))).project == words.name

    await say(world, words, words.created(min_answers=1), words.imported("a"), words.routed("a"))
    await eventually(lambda: open_tasks(dispatch), 1)
    assert len((await ann.LeaseTasks(pb.LeaseTasksRequest(parent=words.name))).leases) == 1


async def test_bad_elements_are_answered_one_by_one(world, dispatch, words, kit):
    await say(world, words, words.created(), words.imported("a"), words.routed("a"))
    await eventually(lambda: open_tasks(dispatch), 1)
    boss = dispatch.stub(api.TaskDispatchServiceStub, subject="boss", roles=["operator"])
    claims = [
        pb.ItemClaim(item="not an item"),
        pb.ItemClaim(item="projects/other/items/a"),
        pb.ItemClaim(item=words.item("a"), labeler="labelers/bob"),
        pb.ItemClaim(item=words.item("a"), review=True),
        pb.ItemClaim(item=words.item("a")),
    ]
    response = await boss.ClaimItems(pb.ClaimItemsRequest(parent=words.name, claims=claims))
    assert kit.reasons(response.results) == ["INVALID_FIELD", "INVALID_FIELD", "", "NO_TASK_YET", ""]
    labelers = [result.lease.labeler for result in response.results]
    assert labelers == ["", "", "labelers/bob", "", "labelers/boss"]
    audit = dispatch.stub(api.TaskDispatchServiceStub, subject="services/audit", roles=["service"])
    wishes = [
        pb.TaskWish(item=words.item("a"), kind=pb.TASK_KIND_GOLD, answers_wanted=1),
        pb.TaskWish(item=words.item("a"), kind=pb.TASK_KIND_LABEL, answers_wanted=1, audit="projects/birds/audits/x"),
        pb.TaskWish(item=words.item("a"), kind=pb.TASK_KIND_REVIEW, answers_wanted=1, audit="projects/birds/audits/x"),
    ]  # fmt: skip
    made = await audit.CreateTasks(pb.CreateTasksRequest(parent=words.name, wishes=wishes))
    assert kit.reasons(made.results) == ["INVALID_FIELD", "INVALID_FIELD", ""]


async def test_tasks_are_listed_most_urgent_first_within_a_state_page_by_page(world, dispatch, words):
    keys = [f"item-{n}" for n in range(7)]
    await say(world, words, words.created(min_answers=1), words.imported(*keys, gold=["g"]))
    await say(
        world,
        words,
        *(words.routed(key, priority=n / 10) for n, key in enumerate(keys)),
        words.reached("item-6", 1),
    )
    looker = dispatch.stub(api.TaskDispatchServiceStub, roles=["viewer"])
    await eventually(lambda: open_tasks(dispatch), 7)

    async def pages(**query):
        request, names = pb.ListTasksRequest(parent=words.name, page_size=3, **query), []
        while True:
            page = await looker.ListTasks(request)
            names += [task.item.rsplit("/", 1)[1] for task in page.tasks]
            assert all(task.kind == pb.TASK_KIND_LABEL for task in page.tasks)
            if not page.next_page_token:
                return names
            request.page_token = page.next_page_token

    open_first = ["item-5", "item-4", "item-3", "item-2", "item-1", "item-0", "g"]
    assert await pages() == [*open_first, "item-6"]
    assert await pages(state=pb.TASK_STATE_CLOSED) == ["item-6"]
    assert await pages(item=words.item("item-3")) == ["item-3"]


async def test_a_watched_queue_tells_of_each_change(world, dispatch, words):
    await say(world, words, words.created(min_answers=1), words.imported("a"), words.routed("a"))
    await eventually(lambda: open_tasks(dispatch), 1)
    looker = dispatch.stub(api.TaskDispatchServiceStub, roles=["viewer"])
    ann = dispatch.stub(api.TaskDispatchServiceStub, subject="ann", roles=["labeler"])
    async with asyncio.timeout(10):
        call = looker.WatchQueue(pb.WatchQueueRequest(project=words.name))
        assert (await call.read()).open_slots == 1
        await ann.LeaseTasks(pb.LeaseTasksRequest(parent=words.name))
        seen = await call.read()
        assert (seen.open_slots, seen.live_leases) == (0, 1)
        call.cancel()


async def test_a_queue_tells_the_slots_of_reviews_from_those_of_labelers(world, dispatch, words):
    await say(world, words, words.created(min_answers=1), words.imported("a", "b"), words.routed("a", "b"))
    await eventually(lambda: open_tasks(dispatch), 2)
    boss = dispatch.stub(api.TaskDispatchServiceStub, roles=["manager"])
    wishes = [
        pb.TaskWish(item=words.item(key), kind=pb.TASK_KIND_REVIEW, answers_wanted=1) for key in ("a", "b")
    ]
    await boss.CreateTasks(pb.CreateTasksRequest(parent=words.name, wishes=wishes))
    queue = await boss.GetQueue(pb.GetQueueRequest(project=words.name))
    assert (queue.open_slots, queue.open_review_slots, queue.open_reviews) == (4, 2, 2)

    rita = dispatch.stub(api.TaskDispatchServiceStub, subject="rita", roles=["reviewer"])
    await rita.LeaseTasks(pb.LeaseTasksRequest(parent=words.name, reviews=True))
    queue = await boss.GetQueue(pb.GetQueueRequest(project=words.name))
    assert (queue.open_slots, queue.open_review_slots, queue.open_reviews) == (3, 1, 2)


async def test_an_update_changes_the_fields_of_its_mask_and_no_other(dispatch):
    boss = dispatch.stub(api.TaskDispatchServiceStub, roles=["manager"])

    async def update(*paths, **fields):
        ann = pb.Labeler(name="labelers/ann", **fields)
        request = pb.UpdateLabelerRequest(labeler=ann, update_mask=FieldMask(paths=paths))
        changed = await boss.UpdateLabeler(request)
        return list(changed.skills), changed.suspended

    assert await update("suspended", skills=["birds"], suspended=True) == ([], True), "made as the mask says"
    assert await update("skills", skills=["birds", "owls"]) == (["birds", "owls"], True)
    assert await update("suspended") == (["birds", "owls"], False)
    assert await update(suspended=True) == (["birds", "owls"], True), "without a mask: what is set"
    assert await update(skills=["owls"]) == (["owls"], True)
    assert await update("*") == ([], False)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await update("skills", "etag")
    assert reason_of(error) == "UPDATE_MASK_INVALID"


async def test_labelers_have_skills_and_an_etag(dispatch):
    boss = dispatch.stub(api.TaskDispatchServiceStub, roles=["manager"])
    nobody = await boss.GetLabeler(pb.GetLabelerRequest(name="labelers/ann"))
    assert list(nobody.skills) == []
    ann = pb.Labeler(name="labelers/ann", skills=["birds"])
    first = await boss.UpdateLabeler(pb.UpdateLabelerRequest(labeler=ann))
    second = await boss.UpdateLabeler(
        pb.UpdateLabelerRequest(labeler=pb.Labeler(name=ann.name, suspended=True, etag=first.etag))
    )
    assert second.suspended
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await boss.UpdateLabeler(pb.UpdateLabelerRequest(labeler=pb.Labeler(name=ann.name, etag=first.etag)))
    assert reason_of(error) == "ETAG_MISMATCH"
    assert list(second.skills) == ["birds"]
    for name, etag in ((ann.name, nobody.etag), ("labelers/bob", first.etag)):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await boss.UpdateLabeler(pb.UpdateLabelerRequest(labeler=pb.Labeler(name=name, etag=etag)))
        assert reason_of(error) == "ETAG_MISMATCH", "made meanwhile, or never made"
    await boss.UpdateLabeler(pb.UpdateLabelerRequest(labeler=pb.Labeler(name="labelers/bob", etag="0")))
    page = await boss.ListLabelers(pb.ListLabelersRequest(page_size=1))
    rest = await boss.ListLabelers(pb.ListLabelersRequest(page_size=1, page_token=page.next_page_token))
    assert [one.name for one in (*page.labelers, *rest.labelers)] == ["labelers/ann", "labelers/bob"]
