"""StreamAnnotations: a machine's submissions, acknowledged as they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import pytest
from opentelemetry.trace import NoOpTracer

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.handlers.streaming import LIMITS, AnnotationStreams, Numbered
from cairn_kit.auth import Role
from cairn_kit.auth.caller import make_caller
from cairn_kit.errors import CairnError, NotFound, Unavailable, from_rpc_error, from_status
from cairn_kit.telemetry import trace_id
from cairn_kit.testing import eventually

WHO = make_caller("acme", "labelers/ann", frozenset({Role.LABELER}))


@pytest.fixture
async def ready(birds: Any) -> Any:
    await birds.create()
    await birds.texts(60)
    return birds


class Stream:
    """The caller's side of one stream."""

    def __init__(self, birds: Any, tools: Any, stub: Any = None) -> None:
        self.call = (stub or birds.operator).StreamAnnotations()
        self._birds = birds
        self._chose = tools.chose
        self.unread: list[pb.AnnotationAcknowledgement] = []

    def request(self, item: str, species: str = "wren", **lease: Any) -> pb.SubmitAnnotationRequest:
        return pb.SubmitAnnotationRequest(
            lease_token=self._birds.lease(item, **lease), answers=[self._chose(species)]
        )

    async def limits(self) -> pb.AnnotationStreamLimits:
        """The first response."""
        message = await self.call.read()
        assert message.WhichOneof("part") == "limits"
        return message.limits

    async def send(self, sequence: int, *requests: pb.SubmitAnnotationRequest) -> None:
        await self.call.write(pb.StreamAnnotationsRequest(sequence=sequence, requests=requests))

    async def acknowledged(self, number: int) -> dict[int, list[pb.SubmitAnnotationResult]]:
        """The results of so many messages, by their numbers."""
        found: list[pb.AnnotationAcknowledgement] = []
        while len(found) < number:
            message = await self.call.read()
            found += message.finished.acknowledgements
        return {one.sequence: list(one.results) for one in found}

    async def error(self) -> CairnError:
        """What the stream ends with."""

        async def rest() -> None:
            while await self.call.read() is not grpc.aio.EOF:
                pass

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest()
        return from_rpc_error(caught.value)


def keys(first: int, last: int) -> list[str]:
    return [f"a{n:04d}" for n in range(first, last)]


async def test_each_message_is_acknowledged_by_its_number_when_it_is_kept(ready: Any, tools: Any) -> None:
    heard = await ready.world.listen(events_pb.AnnotationSubmitted)
    stream = Stream(ready, tools)
    limits = await stream.limits()
    assert (limits.submissions, limits.bytes) == (LIMITS.submissions, LIMITS.bytes)
    for number in range(6):
        await stream.send(number * 7, *map(stream.request, keys(number * 10, number * 10 + 10)))
    answered = await stream.acknowledged(6)
    assert sorted(answered) == [0, 7, 14, 21, 28, 35]
    for number, results in answered.items():
        names = [result.annotation.name for result in results]
        first = number // 7 * 10
        assert [name.split("/")[3] for name in names] == keys(first, first + 10)
        assert not any(result.annotation.answers for result in results), "the caller has them"
    await stream.call.done_writing()
    assert await stream.call.read() is grpc.aio.EOF
    assert await stream.call.code() is grpc.StatusCode.OK
    assert (await ready.progress()).annotations == 60
    events = await heard.count(60)
    assert all(list(event.message.annotation.answers) == [tools.chose("wren")] for event in events)


async def test_who_closes_its_side_hears_of_all_that_was_sent(ready: Any, tools: Any) -> None:
    stream = Stream(ready, tools)
    for number in range(20):
        await stream.send(number, stream.request(f"a{number:04d}"))
    await stream.call.done_writing()
    await stream.limits()
    assert set(await stream.acknowledged(20)) == set(range(20))
    assert await stream.call.read() is grpc.aio.EOF


async def test_a_bad_submission_fails_alone_and_says_what_is_wrong(ready: Any, tools: Any) -> None:
    stream = Stream(ready, tools)
    await stream.limits()
    late = stream.request("a0004", expires_at=0)
    await stream.send(
        1,
        stream.request("a0000"),
        stream.request("a0001", "phoenix"),
        pb.SubmitAnnotationRequest(lease_token="forged", answers=[tools.chose("wren")]),
        pb.SubmitAnnotationRequest(lease_token=ready.lease("a0003")),
        late,
        stream.request("a0005", tenant="umbra"),
        stream.request("nowhere"),
    )
    [results] = (await stream.acknowledged(1)).values()
    assert [result.WhichOneof("result") == "annotation" for result in results] == [
        True, False, False, False, True, False, False,
    ]  # fmt: skip
    assert results[4].annotation.late
    errors = {i: from_status(result.error) for i, result in enumerate(results) if result.HasField("error")}
    assert [errors[i].reason for i in (2, 3, 5, 6)] == [
        "LEASE_TOKEN_INVALID", "INVALID_FIELD", "LEASE_TOKEN_INVALID", "ITEM_NOT_FOUND",
    ]  # fmt: skip
    assert isinstance(errors[6], NotFound)
    assert errors[1].violations[0].field.startswith("answers[0]")  # type: ignore[attr-defined]
    assert errors[3].violations[0].field == "requests[3].answers"  # type: ignore[attr-defined]
    await stream.send(2, stream.request("a0006"))
    assert (await stream.acknowledged(1))[2][0].HasField("annotation")


async def test_a_labeler_answers_under_its_own_leases_alone(ready: Any, tools: Any) -> None:
    stream = Stream(ready, tools, ready.as_(subject="ann", roles=["labeler"]))
    await stream.limits()
    await stream.send(
        1,
        stream.request("a0000"),
        stream.request("a0001", labeler="bob"),
        stream.request("a0002", kind="REVIEW"),
    )
    [results] = (await stream.acknowledged(1)).values()
    refused = [from_status(r.error).reason if r.HasField("error") else "" for r in results]
    assert refused == ["", "LEASE_TOKEN_INVALID", "PERMISSION_MISSING"]
    viewer = Stream(ready, tools, ready.as_(roles=["viewer"]))
    assert (await viewer.error()).reason == "PERMISSION_MISSING"


async def test_a_message_that_is_none_ends_the_stream_with_its_fault(ready: Any, tools: Any) -> None:
    stream = Stream(ready, tools)
    await stream.send(1)
    error = await stream.error()
    assert error.reason == "INVALID_FIELD"
    assert [violation.field for violation in error.violations] == ["requests"]  # type: ignore[attr-defined]


async def test_what_was_not_acknowledged_may_be_sent_again_and_is_kept_once(ready: Any, tools: Any) -> None:
    first = Stream(ready, tools)
    await first.limits()
    requests = [first.request(key) for key in keys(0, 40)]
    for number, request in enumerate(requests):
        await first.send(number, request)
    first.call.cancel()  # wherever they are by now
    again = Stream(ready, tools)
    await again.limits()
    for number, request in enumerate(requests):
        await again.send(number, request)
    answered = await again.acknowledged(40)
    assert all(results[0].HasField("annotation") for results in answered.values())
    assert (await ready.progress()).annotations == 40


async def test_a_service_that_goes_away_keeps_what_it_has_acknowledged(ready: Any, tools: Any) -> None:
    stream = Stream(ready, tools)
    await stream.limits()
    await stream.send(1, *map(stream.request, keys(0, 10)))
    await stream.acknowledged(1)
    ready.running.chassis.stop()
    error = await stream.error()
    assert isinstance(error, Unavailable)
    assert (error.reason, error.retry_after) == ("SERVICE_DRAINING", 1.0)


async def test_streams_and_single_calls_at_once_keep_each_answer_once(ready: Any, tools: Any) -> None:
    async def stream_all(labeler: str) -> None:
        stream = Stream(ready, tools)
        await stream.limits()
        for number in range(0, 60, 6):
            requests = [stream.request(key, labeler=labeler) for key in keys(number, number + 6)]
            await stream.send(number, *requests)
        for results in (await stream.acknowledged(10)).values():
            assert all(result.HasField("annotation") for result in results)

    singles = [ready.submit(ready.lease(key, labeler="eve"), tools.chose("owl")) for key in keys(0, 60)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(stream_all(f"machine-{n}") for n in range(4)), *singles)
    assert (await ready.progress()).annotations == 300


async def test_each_message_is_a_trace_of_its_own(ready: Any, tools: Any) -> None:
    heard = await ready.world.listen(events_pb.AnnotationSubmitted)
    stream = Stream(ready, tools)
    await stream.send(1, stream.request("a0000"), stream.request("a0001"))
    await stream.send(2, stream.request("a0002"))
    events = await heard.count(3)
    traces = {e.message.item.rsplit("/", 1)[1]: trace_id(e.context()) for e in events}
    assert traces["a0000"] == traces["a0001"] != traces["a0002"]
    assert all(traces.values())


# --- back-pressure


class Bench:
    """A stream served without a wire, where gRPC's own buffers would hide what is read; kept when the test says so."""

    def __init__(self) -> None:
        self.read = 0
        self.held: list[tuple[Any, asyncio.Future[Any]]] = []
        self.sent: list[pb.StreamAnnotationsResponse] = []

    async def submit_many(self, who: Any, batch: Sequence[Any], bad: Any) -> list[pb.Annotation]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.held.append((batch, future))
        await future
        return [pb.Annotation(name="kept") for _ in batch]

    async def messages(self, count: int, submissions: int, token: str = "t") -> AsyncIterator[Numbered]:
        for sequence in range(count):
            self.read += 1
            requests = [pb.SubmitAnnotationRequest(lease_token=token)] * submissions
            yield Numbered(pb.StreamAnnotationsRequest(sequence=sequence, requests=requests), {})

    def keep_all(self) -> None:
        for _, future in self.held:
            if not future.done():
                future.set_result(None)

    @property
    def acknowledged(self) -> int:
        return sum(len(message.finished.acknowledgements) for message in self.sent)


async def collecting(bench: Bench, message: pb.StreamAnnotationsResponse) -> None:
    bench.sent.append(message)


def serve(
    bench: Bench, messages: AsyncIterator[Numbered], send: Callable[..., Awaitable[None]] = collecting
) -> asyncio.Task[None]:
    streams = AnnotationStreams(bench, NoOpTracer())  # type: ignore[arg-type]

    async def sending(message: pb.StreamAnnotationsResponse) -> None:
        await send(bench, message)

    return asyncio.create_task(streams.take_in(WHO, messages, sending))


async def settled(look: Callable[[], int]) -> int:
    """What a number has come to when the event loop has had nothing more to do for many turns."""
    for _ in range(500):
        await asyncio.sleep(0)
    return look()


@pytest.mark.parametrize(
    ("submissions", "token", "within"),
    [
        (100, "t", LIMITS.submissions // 100),
        (1, "t" * 1024 * 1024, 3),
    ],
    ids=["by number", "by size"],
)
async def test_no_more_is_read_than_may_be_unfinished(submissions: int, token: str, within: int) -> None:
    bench = Bench()
    serving = serve(bench, bench.messages(50, submissions, token))
    # one more has been read and waits for room
    assert await settled(lambda: bench.read) == within + 1
    while not serving.done():
        bench.keep_all()
        await asyncio.sleep(0)
    await serving
    assert bench.acknowledged == 50


async def test_a_message_beyond_the_limits_is_taken_alone() -> None:
    bench = Bench()
    large = LIMITS.bytes // 10
    serving = serve(bench, bench.messages(3, 20, "t" * large))
    assert await settled(lambda: bench.read) == 2
    while not serving.done():
        bench.keep_all()
        await asyncio.sleep(0)
    assert bench.acknowledged == 3


async def test_a_caller_that_does_not_read_is_read_no_further() -> None:
    bench = Bench()
    reads = asyncio.Event()

    async def stuck(bench: Bench, message: pb.StreamAnnotationsResponse) -> None:
        if message.HasField("finished"):
            await reads.wait()
        bench.sent.append(message)

    serving = serve(bench, bench.messages(100, 100), stuck)

    def keep_and_count() -> int:
        bench.keep_all()
        return bench.read

    for _ in range(20):
        assert await settled(keep_and_count) <= LIMITS.submissions // 100 + 1
    reads.set()
    while not serving.done():
        bench.keep_all()
        await asyncio.sleep(0)
    assert bench.acknowledged == 100


async def test_a_database_that_is_away_is_told_of_each_submission(ready: Any, tools: Any) -> None:
    stream = Stream(ready, tools)
    await stream.limits()
    async with ready.database.transaction() as tx:
        await tx.execute("LOCK TABLE annotation IN ACCESS EXCLUSIVE MODE")
        await stream.send(1, stream.request("a0000"), stream.request("a0001", "phoenix"))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'annotation'::regclass"
        await eventually(lambda: tx.fetchval(waiting), 1)
        victims = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND relation = 'annotation'::regclass"
        await tx.execute(victims)
        [results] = (await stream.acknowledged(1)).values()
    errors = [from_status(result.error) for result in results]
    assert isinstance(errors[0], Unavailable)
    await stream.send(2, stream.request("a0000"))
    assert (await stream.acknowledged(1))[2][0].HasField("annotation")
