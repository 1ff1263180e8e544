"""What concerns a project reaches the replica that keeps its share, and comes back when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc.aio import AioRpcError, Metadata

from cairn.events.v1 import annotation_store_events_pb2 as events_pb2
from cairn_kit.auth import Caller, Role, acting_for, caller
from cairn_kit.auth.caller import make_caller, set_caller
from cairn_kit.errors import CairnError, DeadlineExceeded, FailedPrecondition, Internal, Unavailable
from cairn_kit.events import Event, Subscription
from cairn_kit.events.bus import Bus, BusAddress
from cairn_kit.events.pull import Pull
from cairn_kit.events.topology import ensure_consumer
from cairn_kit.rpc.admission import Room
from cairn_kit.rpc.deadline import remaining, set_deadline
from cairn_kit.rpc.resting import set_place
from cairn_kit.shares import SHARES, Elsewhere, EventsForKeepers, KeeperCalls, Lines, calls, share_of
from cairn_kit.testing import World, eventually

PROJECTS = [f"birds-{n}" for n in range(40)]
DURABLE = "sample"


@asynccontextmanager
async def replica(world: World) -> AsyncIterator[Lines]:
    """A replica's own connection to the bus, and its lines."""
    bus = Bus(BusAddress(world.bus.url, token=world.bus.token), DURABLE)
    await bus.open()
    try:
        yield Lines(bus, DURABLE)
    finally:
        await bus.close()


@pytest.fixture
async def two(world: World) -> AsyncIterator[tuple[Lines, Lines]]:
    await world.connection()
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(replica(world)),
            await stack.enter_async_context(replica(world)),
        )


async def begin(lines: Lines, shares: Iterable[int]) -> None:
    for share in shares:
        await lines.begin(share)
    await lines.bus.client.flush()


# --- events


def event(project: str) -> Event:
    return Event(events_pb2.ProjectCreated(), tenant="acme", project=project, resource=f"projects/{project}")


async def handle(pull: Pull, taken: list[str]) -> None:
    """Take what comes, for ever, and acknowledge it."""
    while True:
        for message in await pull.next(1.0):
            taken.append(message.subject.split(".")[3])
            await message.ack()


@asynccontextmanager
async def taking(world: World, *replicas: Lines) -> AsyncIterator[list[list[str]]]:
    """Replicas that share one durable consumer; the projects whose events each of them has taken."""
    js = (await world.connection()).jetstream
    await ensure_consumer(js, DURABLE, [Subscription.everything(handle)])
    pulls = [Pull(lines.bus, DURABLE, 10, EventsForKeepers(lines)) for lines in replicas]
    taken: list[list[str]] = [[] for _ in pulls]
    tasks = [asyncio.create_task(handle(*pair)) for pair in zip(pulls, taken, strict=True)]
    try:
        yield taken
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def unsettled(world: World) -> int:
    info = await (await world.connection()).jetstream.consumer_info("CAIRN", DURABLE)
    return int(info.num_pending + info.num_ack_pending)


async def test_each_event_is_taken_and_acknowledged_by_its_keeper(
    world: World, two: tuple[Lines, Lines]
) -> None:
    async with taking(world, *two) as taken:
        await begin(two[0], range(4))
        await begin(two[1], range(4, SHARES))
        await world.publish(*(event(project) for project in PROJECTS))
        await eventually(lambda: unsettled(world), 0)
        assert sorted(taken[0]) == sorted(p for p in PROJECTS if share_of("acme", p) < 4)
        assert sorted(taken[1]) == sorted(p for p in PROJECTS if share_of("acme", p) >= 4)


async def test_events_of_a_share_that_nobody_keeps_come_to_whoever_begins_to(
    world: World, two: tuple[Lines, Lines]
) -> None:
    kept = {share_of("acme", project) for project in PROJECTS[:20]}
    async with taking(world, *two) as taken:
        await begin(two[0], kept)
        await world.publish(*(event(project) for project in PROJECTS))
        await eventually(lambda: len(taken[0]), sum(share_of("acme", p) in kept for p in PROJECTS))
        await begin(two[1], set(range(SHARES)) - kept)
        await eventually(lambda: unsettled(world), 0)
        assert sorted(taken[0] + taken[1]) == sorted(PROJECTS)


async def test_what_is_no_event_is_taken_by_whoever_gets_it(world: World, two: tuple[Lines, Lines]) -> None:
    async with taking(world, *two) as taken:
        await begin(two[0], [0])
        await world.publish_raw([("cairn.v1.acme.birds.stray.stray", {}, b"?")])
        await eventually(lambda: taken[0], ["birds"])


# --- calls

Answer = Callable[[str, StringValue], Awaitable[StringValue]]


async def echo(tenant: str, request: StringValue) -> StringValue:
    return StringValue(value=f"{tenant}:{request.value}")


def replica_answering(lines: Lines, answer: Answer = echo) -> Answer:
    return KeeperCalls(lines).answer(StringValue, StringValue, answer)


async def ask(call: Answer, said: str = "wren", *, left: float = 20.0) -> str:
    """What a call about the project birds answers, within the time that its caller has left."""
    set_deadline(left)
    with acting_for("acme"):
        return (await call("birds", StringValue(value=said))).value


@pytest.mark.parametrize("said", ["", "wren", "wren" * 400_000], ids=["nothing", "a word", "much"])
async def test_the_answer_is_the_same_whoever_is_asked(two: tuple[Lines, Lines], said: str) -> None:
    async def repeat(tenant: str, request: StringValue) -> StringValue:
        return StringValue(value=f"{tenant}:{said}")

    replicas = [replica_answering(lines, repeat) for lines in two]
    await begin(two[1], range(SHARES))
    assert [await ask(replica) for replica in replicas] == [f"acme:{said}"] * 2


async def test_who_calls_is_the_same_whoever_was_asked(two: tuple[Lines, Lines]) -> None:
    heard: list[Caller] = []

    async def note(tenant: str, request: StringValue) -> StringValue:
        heard.append(caller())
        return request

    replicas = [replica_answering(lines, note) for lines in two]
    await begin(two[1], range(SHARES))
    zoe = make_caller("acme", " Zoë, the wren ", frozenset({Role.MANAGER, Role.VIEWER}), frozenset({"birds"}))
    bob = make_caller("acme", "bob", frozenset())
    for who in (zoe, bob):
        set_caller(who)
        for replica in replicas:
            await ask(replica)
    assert heard == [zoe, zoe, bob, bob]


async def test_a_keeper_has_no_more_time_than_the_caller_also_when_that_is_none(
    two: tuple[Lines, Lines],
) -> None:
    async def time(tenant: str, request: StringValue) -> StringValue:
        return StringValue(value=str(remaining() is not None))

    asked, _ = replica_answering(two[0]), replica_answering(two[1], time)
    await begin(two[1], range(SHARES))
    assert await ask(asked, left=0.0) == "True"


async def test_a_refusal_reaches_the_asker_as_it_was_raised(two: tuple[Lines, Lines]) -> None:
    async def refuse(tenant: str, request: StringValue) -> StringValue:
        raise FailedPrecondition("VOTES_NOT_IN", "Not all are in.", heard="3")

    asked, _ = replica_answering(two[0]), replica_answering(two[1], refuse)
    await begin(two[1], range(SHARES))
    with pytest.raises(FailedPrecondition) as refused:
        await ask(asked)
    assert (refused.value.reason, refused.value.metadata) == ("VOTES_NOT_IN", {"heard": "3"})


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), "The store is away."), Unavailable),
        (TimeoutError(), DeadlineExceeded),
        (asyncpg.ConnectionDoesNotExistError(), Unavailable),
    ],
)
async def test_what_a_keeper_could_not_do_is_told_as_by_whoever_keeps_the_project_itself(
    two: tuple[Lines, Lines], raised: Exception, told: type[CairnError]
) -> None:
    async def fail(tenant: str, request: StringValue) -> StringValue:
        raise raised

    asked, _ = replica_answering(two[0]), replica_answering(two[1], fail)
    await begin(two[1], range(SHARES))
    with pytest.raises(told):
        await ask(asked)


async def test_a_defect_of_the_keeper_is_told_without_its_insides(two: tuple[Lines, Lines]) -> None:
    async def fail(tenant: str, request: StringValue) -> StringValue:
        raise ZeroDivisionError("secret")

    asked, _ = replica_answering(two[0]), replica_answering(two[1], fail)
    await begin(two[1], range(SHARES))
    with pytest.raises(Internal, match="unexpected") as refused:
        await ask(asked)
    assert "secret" not in str(refused.value)


async def test_a_keeper_that_falls_silent_is_passed_over_for_the_next(
    world: World, two: tuple[Lines, Lines], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_SILENCE", 0.3)
    asked, reached = replica_answering(two[0]), asyncio.Event()

    async def die(tenant: str, request: StringValue) -> StringValue:
        await two[1].bus.close()
        reached.set()
        return await echo(tenant, request)

    replica_answering(two[1], die)
    await begin(two[1], range(SHARES))
    answer = asyncio.create_task(ask(asked))
    await reached.wait()
    async with replica(world) as next_keeper:
        replica_answering(next_keeper)
        await begin(next_keeper, range(SHARES))
        assert await answer == "acme:wren"


async def test_a_share_that_is_handed_over_in_the_middle_is_asked_for_again(two: tuple[Lines, Lines]) -> None:
    async def hand_over(tenant: str, request: StringValue) -> StringValue:
        share = share_of("acme", "birds")
        await two[1].end(share)
        await begin(two[0], [share])
        raise Elsewhere("it was superseded")

    asked, _ = replica_answering(two[0]), replica_answering(two[1], hand_over)
    await begin(two[1], range(SHARES))
    assert await ask(asked) == "acme:wren"


async def test_a_call_that_has_waited_for_long_has_as_much_time_for_a_handover_as_any(
    two: tuple[Lines, Lines], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_NOBODY", 0.5)
    loop, handed_over = asyncio.get_running_loop(), asyncio.Event()
    told_at_first = loop.time() + 2 * calls._NOBODY

    async def hand_over(tenant: str, request: StringValue) -> StringValue:
        await eventually(lambda: loop.time() > told_at_first)
        await two[1].end(share_of("acme", "birds"))
        handed_over.set()
        raise Elsewhere("it was superseded")

    asked, _ = replica_answering(two[0]), replica_answering(two[1], hand_over)
    await begin(two[1], range(SHARES))
    answer = asyncio.create_task(ask(asked))
    await handed_over.wait()
    await asyncio.wait([answer], timeout=calls._LOOK_AGAIN)  # it has found nobody, and looks again
    await begin(two[0], [share_of("acme", "birds")])
    assert await answer == "acme:wren"


@pytest.mark.parametrize("asked_of", [0, 1], ids=["another", "the keeper"])
async def test_handovers_soon_after_each_other_are_not_told_as_a_share_that_nobody_keeps(
    two: tuple[Lines, Lines], monkeypatch: pytest.MonkeyPatch, asked_of: int
) -> None:
    monkeypatch.setattr(calls, "_NOBODY", 0.8)
    monkeypatch.setattr(calls, "_LOOK_AGAIN", 0.01)
    loop, began = asyncio.get_running_loop(), list[float]()

    async def hand_over(tenant: str, request: StringValue) -> StringValue:
        began.append(now := loop.time())
        if len(began) > 3:
            return await echo(tenant, request)
        await eventually(lambda: loop.time() > now + 0.75 * calls._NOBODY)
        raise Elsewhere("it was superseded")

    replicas = [replica_answering(lines, hand_over) for lines in two]
    await begin(two[1], range(SHARES))
    assert await ask(replicas[asked_of]) == "acme:wren"


async def test_a_call_that_waits_takes_no_room_at_whichever_replica_was_asked(
    two: tuple[Lines, Lines],
) -> None:
    reached, go_on = asyncio.Queue[None](), asyncio.Event()

    async def wait(tenant: str, request: StringValue) -> StringValue:
        reached.put_nowait(None)
        await go_on.wait()
        return request

    replicas = [KeeperCalls(lines).answer(StringValue, StringValue, wait, waits=True) for lines in two]
    await begin(two[1], range(SHARES))
    room, who = Room(64), make_caller("acme", "bob", frozenset())
    set_place(room)
    set_caller(who)
    asking = []
    for replica in replicas:
        room.enter(who)
        asking.append(asyncio.create_task(ask(replica)))
        await reached.get()
    assert room.in_flight == 0
    go_on.set()
    assert await asyncio.gather(*asking) == ["wren", "wren"]
    assert room.in_flight == 2


async def test_whoever_asks_where_nobody_keeps_is_told_before_time_is_up(two: tuple[Lines, Lines]) -> None:
    with pytest.raises(Unavailable) as refused:
        await ask(replica_answering(two[0]), left=1.0)
    assert refused.value.reason == "PROJECT_NOT_KEPT"
    assert refused.value.retry_after
