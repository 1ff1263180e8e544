"""StreamLeases: leases ahead of a machine, as many as it has room for, and none that nobody holds."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import grpc
import pytest
import pytest_asyncio

from cairn.annotation.v1 import annotation_store_pb2 as store_pb
from cairn.annotation.v1 import annotation_store_pb2_grpc as store_api
from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn.dispatch.v1 import task_dispatch_pb2_grpc as api
from cairn_kit.errors import InvalidArgument, NotFound, Unavailable, from_rpc_error, trailers
from cairn_kit.events import Event
from cairn_kit.testing import eventually
from cairn_kit.wakes import Wakes
from cairn_task_dispatch.__main__ import SERVICE
from cairn_task_dispatch.handlers.streaming import MOST_CREDIT, LeaseStreams

HOURS = 3600.0


class AnnotationStore(store_api.AnnotationStoreServiceServicer):
    """annotation-store as far as leasing needs it: it knows of no project that dispatch has not heard of."""

    async def GetProject(self, request, context):
        error = NotFound("PROJECT_NOT_FOUND", f"There is no {request.name}.", resource=request.name)
        await context.abort(error.code, error.message, trailers(error))

    async def BatchGetAnsweredLeases(self, request, context):
        return store_pb.BatchGetAnsweredLeasesResponse()


@pytest.fixture
def words(kit):
    return kit.Words()


@pytest.fixture
def look_every():
    """So seldom that whatever is found before was found by a wake."""
    return HOURS


@pytest_asyncio.fixture
async def dispatch(world, look_every):
    await world.fake_peer(
        "annotation-store", AnnotationStore(), store_api.add_AnnotationStoreServiceServicer_to_server
    )
    async with world.run(SERVICE, stream_look_every=look_every) as running:
        yield running


class Stream:
    """The caller's side of one stream."""

    def __init__(self, dispatch, words, subject="ann", roles=("labeler",), header=None, **bearer):
        stub = dispatch.stub(api.TaskDispatchServiceStub, subject=subject, roles=roles, **bearer)
        self.call = stub.StreamLeases()
        self._header = header or pb.LeaseStreamHeader(parent=words.name)
        self._opened = False

    async def open(self):
        """Returns when the service has taken the header, or refused it."""
        self._opened = True
        await self.call.write(pb.StreamLeasesRequest(header=self._header))
        await self.call.initial_metadata()

    async def grant(self, leases):
        if not self._opened:
            await self.open()
        await self.call.write(pb.StreamLeasesRequest(credit=leases))

    async def next(self):
        """The leases of the next message; none says that there is no work just now."""
        message = await self.call.read()
        assert message is not grpc.aio.EOF
        return list(message.leases)

    async def take(self, number):
        """So many leases, in however many messages; at most so many."""
        leases = []
        while len(leases) < number:
            leases += await self.next()
        assert len(leases) == number
        return leases

    async def error(self):
        """What the stream ends with."""

        async def rest():
            while await self.call.read() is not grpc.aio.EOF:
                pass

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest()
        return from_rpc_error(caught.value)


async def say(world, words, *messages):
    await world.publish(*(Event(message, "acme", words.project, words.name, 1) for message in messages))


async def open_tasks(world, dispatch, words, *keys):
    before = await count(dispatch, "task")
    await say(world, words, words.created(min_answers=1), words.imported(*keys), words.routed(*keys))
    await eventually(lambda: count(dispatch, "task"), before + len(keys))


async def count(dispatch, table, where="true"):
    return await dispatch.database.fetchval(f"SELECT count(*) FROM {table} WHERE {where}")


async def live(dispatch):
    return await count(dispatch, "lease", "state = 'LIVE'")


async def test_leases_come_ahead_and_never_more_than_there_is_room_for(world, dispatch, words):
    await open_tasks(world, dispatch, words, *"abcdef")
    ann = Stream(dispatch, words)
    await ann.grant(2)
    first = await ann.take(2)
    assert all(lease.token and lease.labeler == "labelers/ann" for lease in first)
    assert await live(dispatch) == 2
    await ann.grant(3)
    second = await ann.take(3)
    assert await live(dispatch) == 5
    await ann.grant(9)
    third = await ann.take(1)
    assert await ann.next() == [], "there are no more"
    assert len({lease.item for lease in (*first, *second, *third)}) == 6


async def test_a_stream_without_work_is_woken_when_tasks_open_and_when_a_lease_returns(
    world, dispatch, words
):
    await open_tasks(world, dispatch, words, "a")
    bob = dispatch.stub(api.TaskDispatchServiceStub, subject="bob", roles=["labeler"])
    [held] = (await bob.LeaseTasks(pb.LeaseTasksRequest(parent=words.name))).leases
    ann = Stream(dispatch, words)
    await ann.grant(5)
    assert await ann.next() == []
    await bob.ReleaseLease(pb.ReleaseLeaseRequest(name=held.name))
    assert [lease.item for lease in await ann.take(1)] == [held.item]
    assert await ann.next() == [], "it is told anew each time that the work is out"
    await say(world, words, words.imported("b", "c"), words.routed("b", "c"))
    assert {lease.item for lease in await ann.take(2)} == {words.item("b"), words.item("c")}


@pytest.mark.parametrize("look_every", [0.1])
async def test_what_another_replica_opened_is_found_by_a_look(world, dispatch, words, kit):
    await open_tasks(world, dispatch, words, "a")
    ann = Stream(dispatch, words)
    await ann.grant(5)
    await ann.take(1)
    replica = await world.database("task-dispatch", SERVICE.migrations)
    await kit.Desk(replica).hear(words.imported("b"), words.routed("b"))
    assert [lease.item for lease in await ann.take(1)] == [words.item("b")]


async def test_a_thousand_tasks_go_to_four_streams_each_once(world, dispatch, words):
    keys = [f"item-{n}" for n in range(1000)]
    for start in range(0, 1000, 250):
        await open_tasks(world, dispatch, words, *keys[start : start + 250])
    taken: list[str] = []

    async def work(subject):
        stream = Stream(dispatch, words, subject)
        await stream.grant(40)
        while leases := await stream.next():
            taken.extend(lease.item for lease in leases)
            await stream.grant(len(leases))
        await stream.call.done_writing()
        assert await stream.call.read() is grpc.aio.EOF
        assert await stream.call.code() is grpc.StatusCode.OK

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(f"machine-{n}") for n in range(4)))
    assert sorted(taken) == sorted(words.item(key) for key in keys)
    assert await live(dispatch) == 1000


async def test_who_closes_its_side_keeps_what_was_sent_and_gets_no_more(world, dispatch, words):
    await open_tasks(world, dispatch, words, *"abc")
    ann = Stream(dispatch, words)
    await ann.grant(2)
    await ann.take(2)
    await ann.call.done_writing()
    assert await ann.call.read() is grpc.aio.EOF
    assert await ann.call.code() is grpc.StatusCode.OK
    assert await live(dispatch) == 2


async def test_a_stream_ends_with_what_lease_tasks_would_say(world, dispatch, words):
    await open_tasks(world, dispatch, words, "a")
    boss = dispatch.stub(api.TaskDispatchServiceStub, roles=["manager"])
    ann, bob = Stream(dispatch, words), Stream(dispatch, words, "bob")
    await ann.grant(1)
    await ann.take(1)
    suspended = pb.Labeler(name="labelers/ann", suspended=True)
    await boss.UpdateLabeler(pb.UpdateLabelerRequest(labeler=suspended))
    await ann.grant(1)
    assert (await ann.error()).reason == "LABELER_SUSPENDED"
    await say(world, words, words.created(revision=2, archived=True))
    await eventually(lambda: count(dispatch, "project", "archived"), 1)
    await bob.grant(1)
    assert (await bob.error()).reason == "PROJECT_ARCHIVED"
    alien = Stream(dispatch, words, tenant="umbra")
    await alien.grant(1)
    assert (await alien.error()).reason == "PROJECT_NOT_FOUND"


@pytest.mark.parametrize(
    ("header", "bearer", "reason"),
    [
        ({"labeler": "labelers/bob"}, {}, "PERMISSION_MISSING"),
        ({"reviews": True}, {}, "PERMISSION_MISSING"),
        ({}, {"roles": ["viewer"]}, "PERMISSION_MISSING"),
        ({}, {"projects": ["fish"]}, "PROJECT_NOT_FOUND"),
        ({"labeler": "bob"}, {}, "INVALID_FIELD"),
    ],
)
async def test_a_stream_is_for_whoever_might_lease(world, dispatch, words, header, bearer, reason):
    await open_tasks(world, dispatch, words, "a")

    async def told():
        ann = Stream(dispatch, words, header=pb.LeaseStreamHeader(parent=words.name, **header), **bearer)
        await ann.open()
        return (await ann.error()).reason

    # What is said while the header is still being written is lost in grpc.aio, and then said again.
    await eventually(told, reason)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"credit": 1}], "HEADER_MISSING"),
        ([{"header": True}, {"header": True}], "HEADER_REPEATED"),
        ([{"header": True}, {"credit": MOST_CREDIT}, {"credit": 1}], "CREDIT_TOO_LARGE"),
        ([{"header": True}, {"credit": 0}], "INVALID_FIELD"),
    ],
)
async def test_a_stream_that_asks_amiss_is_told_how(world, dispatch, words, messages, reason):
    await say(world, words, words.created())
    await eventually(lambda: count(dispatch, "project"), 1)
    ann = Stream(dispatch, words)
    for fields in messages:
        header = pb.LeaseStreamHeader(parent=words.name)
        await ann.call.write(
            pb.StreamLeasesRequest(**{k: header if k == "header" else v for k, v in fields.items()})
        )
    error = await ann.error()
    assert isinstance(error, InvalidArgument)
    assert error.reason == reason


async def test_a_service_that_goes_away_says_so_at_once(world, dispatch, words):
    await open_tasks(world, dispatch, words, "a")
    ann = Stream(dispatch, words)
    await ann.grant(2)
    await ann.take(1)
    dispatch.chassis.stop()
    error = await ann.error()
    assert isinstance(error, Unavailable)
    assert (error.reason, error.retry_after) == ("SERVICE_DRAINING", 1.0)


async def test_a_stream_lasts_no_longer_than_its_token(world, dispatch, words):
    await open_tasks(world, dispatch, words, "a")
    token = world.token(subject="ann", roles=["labeler"], lifetime=-4.0)  # a second, with the leeway
    ann = Stream(dispatch, words, token=token)
    await ann.grant(2)
    assert (await ann.error()).reason == "TOKEN_EXPIRED"


# --- leases that were chosen for a caller who is gone


@pytest.fixture
def streams(desk):
    return LeaseStreams(desk.handing_out, desk.leasing, Wakes(), HOURS)


def served(desk, streams, send, grant=5):
    """A stream that is served without a wire, for a caller who has closed neither side."""

    async def grants():
        yield grant
        await asyncio.Event().wait()

    wish = pb.LeaseTasksRequest(parent=desk.words.name, labeler="labelers/ann")
    return asyncio.create_task(streams.lease_ahead(desk.tenant, wish, grants(), send))


async def test_while_answers_are_heard_of_late_a_stream_waits_and_takes_fewer_at_a_time(desk, streams):
    await desk.open(*(f"k{n}" for n in range(120)))
    late = desk.received(desk.words.imported("any"))
    late.time -= timedelta(seconds=30)
    desk.answers.hear([late])
    sent, began = asyncio.Queue(), time.monotonic()
    caller = served(desk, streams, sent.put, grant=1000)
    first = await sent.get()
    assert time.monotonic() - began >= 2.0
    assert len(first.leases) == 100
    caller.cancel()
    await asyncio.wait([caller])


async def test_what_was_chosen_when_the_caller_goes_is_given_back(desk, streams):
    await desk.open(*"abc")
    async with desk.database.transaction() as tx:
        await tx.execute("LOCK TABLE lease IN EXCLUSIVE MODE")
        sent = []

        async def send(message):
            sent.append(message)

        serving = served(desk, streams, send)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'lease'::regclass"
        await eventually(lambda: tx.fetchval(waiting), 1)
        serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not sent
    assert await desk.announced("LeasesGranted") == 1, "they had been chosen"
    queue = await desk.queue()
    assert (queue.live_leases, queue.open_slots) == (0, 6)


async def test_a_caller_who_hangs_up_leaves_no_lease_that_was_not_sent(world, dispatch, words):
    await open_tasks(world, dispatch, words, *"abc")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'lease'::regclass"
    async with dispatch.database.transaction() as tx:
        await tx.execute("LOCK TABLE lease IN EXCLUSIVE MODE")
        ann = Stream(dispatch, words)
        await ann.grant(5)
        await eventually(lambda: tx.fetchval(waiting), 1)
        ann.call.cancel()
        await eventually(lambda: going(dispatch))
    await eventually(lambda: count(dispatch, "lease", "state = 'RELEASED'"), 3)
    assert await live(dispatch) == 0


def going(dispatch):
    """Whether the service has heard that the caller of its one stream is gone."""
    [serving] = dispatch.chassis._rpc._gate._lasting
    return serving.cancelling() > 0


@pytest.mark.parametrize("how", ["cancelled", "broken"])
async def test_what_cannot_be_sent_is_given_back(desk, streams, how):
    await desk.open(*"abc")
    offered = asyncio.Event()

    async def send(message):
        offered.set()
        if how == "broken":
            raise ConnectionResetError
        await asyncio.Event().wait()  # the caller does not read

    serving = served(desk, streams, send)
    await offered.wait()
    serving.cancel()
    with pytest.raises((asyncio.CancelledError, ConnectionResetError)):
        await serving
    queue = await desk.queue()
    assert (queue.live_leases, queue.open_slots) == (0, 6)
