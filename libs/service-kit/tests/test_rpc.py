"""What every call is given, and what every caller is told."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections import Counter
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.annotation.v1 import annotation_store_pb2_grpc as store_grpc
from cairn.dispatch.v1 import task_dispatch_pb2 as api
from cairn.dispatch.v1 import task_dispatch_pb2_grpc as api_grpc
from cairn.label.v1 import label_value_pb2 as label
from cairn_kit import errors
from cairn_kit.auth import PrivateKey, Role, Signer, write_key_set
from cairn_kit.lifecycle import Chassis
from cairn_kit.rpc import invalid, remaining, texts_with_nul
from cairn_kit.rpc.validation import examined
from cairn_kit.testing import World, eventually

STUB = api_grpc.TaskDispatchServiceStub
TASK = "projects/birds/tasks/1"


async def refused(call: Any) -> errors.CairnError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return errors.from_rpc_error(caught.value)


async def test_a_domain_error_arrives_with_code_reason_and_metadata(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        error = await refused(service.stub(STUB).GetTask(api.GetTaskRequest(name=TASK)))
        assert isinstance(error, errors.NotFound)
        assert (error.reason, error.message) == ("TASK_NOT_FOUND", "There is no such task.")
        assert error.metadata == {"resource": TASK}


async def test_an_unexpected_error_shows_a_trace_id_and_nothing_else(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        stub = service.stub(STUB)
        error = await refused(
            stub.CancelTask(api.CancelTaskRequest(name=TASK, reason="boom", request_id="1"))
        )
        assert isinstance(error, errors.Internal)
        assert "secret" not in str(error)
        assert len(error.metadata["trace_id"]) == 32
        assert await service.database.fetchval("SELECT count(*) FROM effect") == 0

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.WatchQueue(api.WatchQueueRequest(project="projects/broken")):
                pass
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(caught.value)


async def test_a_request_against_the_rules_names_each_bad_field(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        wish = api.TaskWish(item="nonsense", kind=api.TASK_KIND_LABEL, answers_wanted=0)
        error = await refused(
            service.stub(STUB).CreateTasks(api.CreateTasksRequest(parent="projects/birds", wishes=[wish]))
        )
        assert isinstance(error, errors.InvalidArgument)
        assert [violation.field for violation in error.violations] == [
            "wishes[0].item",
            "wishes[0].answers_wanted",
        ]


async def test_a_bad_element_does_not_fail_its_neighbours(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        claims = [api.ItemClaim(item="projects/birds/items/1"), api.ItemClaim(item="nonsense")]
        answer = await service.stub(STUB).ClaimItems(
            api.ClaimItemsRequest(parent="projects/birds", claims=claims)
        )
        assert answer.results[0].lease.labeler == "labelers/tester"
        error = errors.from_status(answer.results[1].error)
        assert isinstance(error, errors.InvalidArgument)
        assert [violation.field for violation in error.violations] == ["claims[1].item"]


async def test_text_with_nul_is_refused_by_name_wherever_it_stands(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        stub = service.stub(STUB)
        error = await refused(
            stub.CancelTask(api.CancelTaskRequest(name=TASK, reason="e\0nough", request_id="\0"))
        )
        assert isinstance(error, errors.InvalidArgument)
        assert error.reason == "INVALID_FIELD"
        assert [violation.field for violation in error.violations] == ["reason", "request_id"]

        claims = [api.ItemClaim(item=f"projects/birds/items/{name}") for name in ("1", "\0", "3")]
        answer = await stub.ClaimItems(api.ClaimItemsRequest(parent="projects/birds", claims=claims))
        assert [result.HasField("lease") for result in answer.results] == [True, False, True]
        error = errors.from_status(answer.results[1].error)
        assert isinstance(error, errors.InvalidArgument)
        assert "claims[1].item" in {violation.field for violation in error.violations}


async def test_a_large_request_is_examined_beside_the_loop_and_as_any_other(
    world: World, sample: Any, monkeypatch: Any
) -> None:
    threads: set[str] = set()

    def noted(request: Message, elements: str | None) -> Any:
        threads.add(threading.current_thread().name)
        return examined(request, elements)

    monkeypatch.setattr("cairn_kit.rpc.gate.examined", noted)
    async with world.run(sample.service) as service:
        claims = [api.ItemClaim(item=f"projects/birds/items/{n}") for n in range(4_000)]
        claims[7].item = "nonsense"
        answer = await service.stub(STUB).ClaimItems(
            api.ClaimItemsRequest(parent="projects/birds", claims=claims[:1_000])
        )
        assert [i for i, result in enumerate(answer.results) if result.HasField("error")] == [7]
        assert threading.main_thread().name in threads
        threads.clear()
        error = await refused(
            service.stub(STUB).CreateTasks(
                api.CreateTasksRequest(
                    parent="projects/birds", wishes=[api.TaskWish(item="n" * 2_000_000, answers_wanted=1)]
                )
            )
        )
        assert isinstance(error, errors.InvalidArgument)
        assert threads
        assert threading.main_thread().name not in threads


async def test_large_requests_are_examined_callers_in_turn(
    world: World, sample: Any, monkeypatch: Any
) -> None:
    order: list[str] = []
    begin = threading.Event()

    def noted(request: Message, elements: str | None) -> Any:
        begin.wait()
        order.append(request.parent)  # type: ignore[attr-defined]  # they are all of one kind
        return examined(request, elements)

    monkeypatch.setattr("cairn_kit.rpc.gate.examined", noted)

    def large(tenant: str) -> Any:
        request = api.CreateTasksRequest(
            parent=f"projects/{tenant}", wishes=[api.TaskWish(item="n" * 100_000, answers_wanted=1)]
        )
        return asyncio.ensure_future(refused(service.stub(STUB, tenant=tenant).CreateTasks(request)))

    async with world.run(sample.service) as service:
        shown = service.chassis.metrics.registry.get_sample_value
        calls = [large("flood") for _ in range(6)]
        await eventually(lambda: shown("cairn_rpcs_in_flight"), 6)
        calls += [large("quiet"), large("calm")]
        await eventually(lambda: shown("cairn_rpcs_in_flight"), 8)
        begin.set()
        await asyncio.wait(calls)
    assert order[:2] == ["projects/flood"] * 2
    assert {*order[2:4]} == {"projects/quiet", "projects/calm"}
    assert order[4:] == ["projects/flood"] * 4


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (store.Item(metadata={"k\0": "v", "k": "v\0"}), ["metadata[k\\0]", "metadata[k]"]),
        (label.Answer(choices=label.Choices(class_ids=["a", "\0", "b\0"])), ["class_ids[1]", "class_ids[2]"]),
        (store.UploadBlobRequest(chunk=b"\0"), []),
        (label.Answer(boxes=label.Boxes(boxes=[label.Box(class_id="a", x=0.5)])), []),
    ],
)
def test_nul_is_found_in_text_alone_however_deep(message: Message, fields: list[str]) -> None:
    found = invalid(message)
    nuls = [v.field for v in found.violations if "NUL" in v.description] if found else []
    assert sorted(field.removeprefix("choices.") for field in nuls) == sorted(fields)


def test_nul_in_an_item_that_is_taken_by_itself_does_not_fail_its_neighbours() -> None:
    item = store.Item(key="k", text="\0")
    assert invalid(store.ImportItemsRequest(chunk=store.ImportChunk(items=[item]))) is None
    assert texts_with_nul(item) == ["text"]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (None, "TOKEN_MISSING"),
        ("nonsense", "TOKEN_INVALID"),
        ("a.b.c", "TOKEN_INVALID"),
    ],
)
async def test_a_call_without_a_good_token_is_unauthenticated(
    world: World, sample: Any, token: str | None, reason: str
) -> None:
    async with world.run(sample.service) as service:
        stub = STUB(service.channel) if token is None else service.stub(STUB, token=token)
        error = await refused(stub.GetTask(api.GetTaskRequest(name=TASK)))
        assert isinstance(error, errors.Unauthenticated)
        assert error.reason == reason


async def test_a_caller_may_do_what_its_roles_grant_and_no_more(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        cancel = api.CancelTaskRequest(name=TASK, request_id="1")
        assert await service.stub(STUB, roles=["manager"]).CancelTask(cancel)
        error = await refused(service.stub(STUB, roles=["labeler"]).CancelTask(cancel))
        assert isinstance(error, errors.PermissionDenied)
        assert error.metadata == {"permission": "tasks.write"}


async def test_to_a_token_of_other_projects_this_one_does_not_exist(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        stub = service.stub(STUB, projects=["fish"])
        error = await refused(stub.CancelTask(api.CancelTaskRequest(name=TASK)))
        assert isinstance(error, errors.NotFound)
        assert error.reason == "PROJECT_NOT_FOUND"
        error = await refused(stub.ListLabelers(api.ListLabelersRequest()))
        assert error.reason == "TOKEN_RESTRICTED"


async def test_one_acts_for_another_labeler_only_with_permission(world: World, sample: Any) -> None:
    request = api.ClaimItemsRequest(
        parent="projects/birds",
        claims=[api.ItemClaim(item="projects/birds/items/1", labeler="labelers/bob")],
    )
    async with world.run(sample.service) as service:
        answer = await service.stub(STUB, roles=["operator"], subject="ann").ClaimItems(request)
        assert answer.results[0].lease.labeler == "labelers/bob"
        error = await refused(service.stub(STUB, roles=["labeler"], subject="ann").ClaimItems(request))
        assert isinstance(error, errors.PermissionDenied)


async def test_a_key_can_be_added_and_withdrawn_while_the_service_runs(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        fresh = PrivateKey.generate("users-2", [Role.MANAGER])
        token = Signer(fresh, "test").token(tenant="acme", subject="ann", roles=["manager"])
        stub = service.stub(STUB, token=token)

        async def code() -> str:
            try:
                await stub.ListTasks(api.ListTasksRequest(parent="projects/birds"))
            except grpc.aio.AioRpcError as error:
                return str(error.code().name)
            return "OK"

        assert await code() == "UNAUTHENTICATED"
        write_key_set(world.keys.jwks_file, [world.keys.users_key(), fresh])
        await eventually(code, "OK")
        write_key_set(world.keys.jwks_file, [world.keys.users_key()])
        await eventually(code, "UNAUTHENTICATED")


async def test_the_same_request_id_gives_the_first_answer_again(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        stub = service.stub(STUB)
        request = api.CancelTaskRequest(name=TASK, reason="enough", request_id="r1")

        answers = await asyncio.gather(*(stub.CancelTask(request) for _ in range(8)))

        assert len({answer.SerializeToString() for answer in answers}) == 1
        assert await service.database.fetchval("SELECT count(*) FROM effect") == 1
        other = api.CancelTaskRequest(name=TASK, reason="other", request_id="r1")
        error = await refused(stub.CancelTask(other))
        assert isinstance(error, errors.InvalidArgument)
        assert error.reason == "REQUEST_ID_REUSED"
        assert await service.stub(STUB, tenant="umbrella").CancelTask(other), "ids are a tenant's own"


async def test_a_request_id_is_its_subjects_own(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        ann, bob = (service.stub(STUB, subject=name) for name in ("ann", "bob"))
        request = api.CancelTaskRequest(name=TASK, reason="enough", request_id="r1")
        for stub in (ann, bob, ann, bob):
            assert await stub.CancelTask(request)
        assert await service.database.fetchval("SELECT count(*) FROM effect") == 2

        other = api.CancelTaskRequest(name=TASK, reason="other", request_id="r1")
        for stub in (ann, bob):
            assert (await refused(stub.CancelTask(other))).reason == "REQUEST_ID_REUSED"


async def test_an_id_from_before_subjects_were_kept_is_remembered(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        ann, bob = (service.stub(STUB, subject=name) for name in ("ann", "bob"))
        request = api.CancelTaskRequest(name=TASK, reason="enough", request_id="r1")
        first = await ann.CancelTask(request)
        await service.database.execute("UPDATE request SET subject = ''")  # as the migration leaves it

        assert await ann.CancelTask(request) == first
        assert await service.database.fetchval("SELECT count(*) FROM effect") == 1
        assert await bob.CancelTask(request)
        assert await service.database.fetchval("SELECT count(*) FROM effect") == 2


async def test_pages_follow_each_other_and_a_token_fits_only_its_own_query(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        stub = service.stub(STUB)
        for number in range(5):
            name = f"projects/birds/tasks/{number}"
            await stub.CancelTask(api.CancelTaskRequest(name=name, request_id=str(number)))
        seen, request = [], api.ListTasksRequest(parent="projects/birds", page_size=2)
        while True:
            page = await stub.ListTasks(request)
            seen += [task.name for task in page.tasks]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert seen == [f"projects/birds/tasks/{number}" for number in range(5)]

        for stolen in (
            api.ListTasksRequest(parent="projects/fish", page_token=request.page_token),
            api.ListTasksRequest(parent="projects/birds", page_token=request.page_token[:-2] + "AA"),
            api.ListTasksRequest(parent="projects/birds", page_token="%%%"),
        ):
            assert (await refused(stub.ListTasks(stolen))).reason == "PAGE_TOKEN_INVALID"


async def test_beyond_the_limit_calls_are_turned_away_at_once(world: World, sample: Any) -> None:
    sample.watch_for_ever = True
    async with world.run(sample.service, max_concurrent_streams=1) as service:
        stub = service.stub(STUB)
        watch = stub.WatchQueue(api.WatchQueueRequest(project="projects/birds"))
        assert await watch.read() == api.Queue(project="projects/birds", open_tasks=1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.WatchQueue(api.WatchQueueRequest(project="projects/birds")).read()
        error = errors.from_rpc_error(caught.value)
        assert isinstance(error, errors.ResourceExhausted)
        assert error.retry_after


async def test_a_flood_of_one_caller_leaves_room_for_others_and_all_of_it_for_what_returns(
    world: World, sample: Any
) -> None:
    sample.goes_on = asyncio.Event()
    get, lease = api.GetTaskRequest(name=TASK), api.ReleaseLeaseRequest(name=f"{TASK}/leases/1")
    async with world.run(sample.service, max_concurrent_rpcs=8) as service:
        flooding = service.stub(STUB, subject="flood")
        flood = [asyncio.ensure_future(refused(flooding.GetTask(get))) for _ in range(20)]
        await eventually(lambda: sum(call.done() for call in flood), 14)
        assert {type(call.result()) for call in flood if call.done()} == {errors.ResourceExhausted}

        assert (await flooding.ReleaseLease(lease)).name == lease.name
        others = [
            asyncio.ensure_future(refused(service.stub(STUB, tenant=tenant, subject="quiet").GetTask(get)))
            for tenant in ("acme", "fish")
        ]
        in_flight = service.chassis.metrics.registry.get_sample_value
        await eventually(lambda: in_flight("cairn_rpcs_in_flight"), 8)
        full = await refused(flooding.ReleaseLease(lease))
        assert full.reason == "TOO_MANY_CALLS"

        sample.goes_on.set()
        assert {type(error) for error in await asyncio.gather(*others)} == {errors.NotFound}


async def test_of_more_calls_at_once_than_may_wait_some_are_refused_by_the_core_and_the_rest_answered(
    world: World, sample: Any
) -> None:
    async with world.run(sample.service) as service:
        stub = service.stub(STUB)
        await refused(stub.GetTask(api.GetTaskRequest(name=TASK)))
        ended = await asyncio.gather(
            *(refused(stub.GetTask(api.GetTaskRequest(name=TASK))) for _ in range(600))
        )
        kinds = Counter(type(error) for error in ended)
        assert set(kinds) == {errors.NotFound, errors.Cancelled}
        assert kinds[errors.NotFound] >= 128, "as many as may wait in any case"


async def test_health_and_reflection_need_no_token(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service:
        health: Any = health_pb2_grpc.HealthStub(service.channel)
        name = "cairn.dispatch.v1.TaskDispatchService"
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING

        def reflected() -> list[str]:
            with grpc.insecure_channel(service.chassis.address) as channel:
                return list(ProtoReflectionDescriptorDatabase(channel).get_services())

        assert name in await asyncio.to_thread(reflected)


async def test_a_watch_ends_with_the_service_and_does_not_hold_it_up(world: World, sample: Any) -> None:
    sample.watch_for_ever = True
    async with world.run(sample.service, shutdown_grace=30.0) as service:
        watch = service.stub(STUB).WatchQueue(api.WatchQueueRequest(project="projects/birds"))
        await watch.read()
        service.chassis.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert errors.from_rpc_error(caught.value).reason == "SERVICE_DRAINING"
        shown = service.chassis.metrics.registry.get_sample_value
        method = {"method": "/cairn.dispatch.v1.TaskDispatchService/WatchQueue"}
        assert shown("cairn_rpc_total", method | {"code": "UNAVAILABLE"}) == 1
        assert shown("cairn_rpc_seconds_count", method) == 0, (
            "how long it was watched is no time to an answer"
        )


async def test_a_watch_lasts_no_longer_than_its_token(world: World, sample: Any) -> None:
    sample.watch_for_ever = True
    token = world.token(lifetime=-4.0)  # a second, with the leeway
    async with world.run(sample.service) as service:
        watch = service.stub(STUB, token=token).WatchQueue(api.WatchQueueRequest(project="projects/birds"))
        assert await watch.read() == api.Queue(project="projects/birds", open_tasks=1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert errors.from_rpc_error(caught.value).reason == "TOKEN_EXPIRED"
        sample.watch_for_ever = False
        again = service.stub(STUB).WatchQueue(api.WatchQueueRequest(project="projects/birds"))
        assert [queue.open_tasks async for queue in again] == [1, 2], (
            "one whose token lasts goes on to its end"
        )


async def test_a_watch_that_comes_when_the_others_were_ended_is_sent_away_at_once(
    world: World, sample: Any
) -> None:
    sample.watch_for_ever = True
    async with world.run(sample.service) as service:
        service.chassis._rpc._gate.end_lasting()
        watch = service.stub(STUB).WatchQueue(api.WatchQueueRequest(project="projects/birds"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert errors.from_rpc_error(caught.value).reason == "SERVICE_DRAINING"


class Uploads(store_grpc.AnnotationStoreServiceServicer):
    left: float | None = 0.0

    async def UploadBlob(self, request_iterator: Any, context: Any) -> store.Blob:
        async for _ in request_iterator:
            self.left = remaining()
        return store.Blob()


async def test_who_uploads_for_as_long_as_it_takes_has_no_deadline_that_nobody_set(
    world: World, sample: Any
) -> None:
    uploads = Uploads()  # type: ignore[abstract]  # the other methods are not asked for

    async def wire(chassis: Chassis[Any]) -> None:
        chassis.serve(uploads, store_grpc.add_AnnotationStoreServiceServicer_to_server)

    async with world.run(dataclasses.replace(sample.service, wire=wire)) as service:
        stub = service.stub(store_grpc.AnnotationStoreServiceStub)
        parts = [
            store.UploadBlobRequest(header=store.BlobHeader(parent="projects/birds", media_type="image/png"))
        ]
        await stub.UploadBlob(iter(parts), timeout=None)
        assert uploads.left is None
        await stub.UploadBlob(iter(parts), timeout=60.0)
        assert uploads.left is not None


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\x03\xc3\x28x", b"hello"])
async def test_a_request_that_cannot_be_read_is_the_callers_mistake(
    world: World, sample: Any, body: bytes
) -> None:
    async with world.run(sample.service) as service:
        call: Any = service.channel.unary_unary("/cairn.dispatch.v1.TaskDispatchService/GetTask")
        error = await refused(call(body, metadata=(("authorization", f"Bearer {world.token()}"),)))
        assert isinstance(error, errors.InvalidArgument)
        assert error.reason == "REQUEST_MALFORMED"


async def test_a_full_outbox_refuses_what_would_fill_it_further_and_nothing_else(
    world: World, sample: Any
) -> None:
    async with world.run(sample.service, outbox_limit=3) as service:
        stub = service.stub(STUB)
        claims = api.ClaimItemsRequest(
            parent="projects/birds",
            claims=[api.ItemClaim(item="projects/birds/items/a", labeler="labelers/ann")],
        )
        await stub.ClaimItems(claims)
        await asyncio.to_thread(world.bus.kill)
        for number in range(3):
            request = api.CancelTaskRequest(name=TASK, reason="enough", request_id=str(number))
            assert (await stub.CancelTask(request)).name == TASK, "one event more or less is none too many"
        await service.chassis.relay.measure()

        error = await refused(stub.ClaimItems(claims))
        assert (type(error), error.reason) == (errors.ResourceExhausted, "OUTBOX_FULL")
        assert error.retry_after is not None
        assert (await refused(stub.GetTask(api.GetTaskRequest(name=TASK)))).reason == "TASK_NOT_FOUND"

        await asyncio.to_thread(world.bus.start)
        await eventually(lambda: stub.ClaimItems(claims))
