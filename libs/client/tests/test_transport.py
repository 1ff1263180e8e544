"""Calls are repeated while that makes sense, streams come back, pages are one, and errors say what happened."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.annotation.v1.annotation_store_pb2_grpc import (
    AnnotationStoreServiceServicer,
    add_AnnotationStoreServiceServicer_to_server,
)
from cairn.consensus.v1.consensus_pb2_grpc import (
    add_ConsensusServiceServicer_to_server,
)
from cairn.label.v1.label_value_pb2 import Answer
from cairn_client import (
    AsyncCairn,
    Cairn,
    CairnError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Patience,
    Profile,
    Unauthenticated,
    Unavailable,
    transport,
)
from cairn_client.errors import FieldViolation, Problem
from cairn_kit.testing import eventually
from libs.client.tests.fakes import Consensus, Store, status

QUICK = Patience(call=2.0, attempt=1.0, first_delay=0.01, longest_delay=0.02)


@pytest.fixture
def heard() -> Consensus:
    return Consensus()


@pytest.fixture
async def served(heard: Consensus) -> AsyncIterator[tuple[Store, AsyncCairn]]:
    servicer, server = Store(), grpc.aio.server()
    add_AnnotationStoreServiceServicer_to_server(servicer, server)
    add_ConsensusServiceServicer_to_server(heard, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AsyncCairn(profile=Profile.at(f"127.0.0.1:{port}"), token="secret", patience=QUICK) as client:
        yield servicer, client
    await server.stop(0)


Served = tuple[Store, AsyncCairn]


async def test_a_service_that_is_away_for_a_moment_is_asked_again(served: Served) -> None:
    servicer, client = served
    servicer.failures = [(grpc.StatusCode.UNAVAILABLE, None)] * 3

    assert (await client.projects.get("p")).name == "projects/p"
    assert len(servicer.calls) == 4
    assert set(servicer.tokens) == {"Bearer secret"}


async def test_calls_are_spread_over_replicas_and_go_to_the_others_when_one_ends() -> None:
    servicers, servers = (Store(), Store()), (grpc.aio.server(), grpc.aio.server())
    for servicer, server in zip(servicers, servers, strict=True):
        add_AnnotationStoreServiceServicer_to_server(servicer, server)
    ports = [server.add_insecure_port("127.0.0.1:0") for server in servers]
    for server in servers:
        await server.start()
    both = ",".join(f"127.0.0.1:{port}" for port in ports)
    async with AsyncCairn(profile=Profile.at(both), token="secret", patience=QUICK) as client:

        async def all_have_been_called() -> bool:
            await client.projects.get("p")
            return all(servicer.calls for servicer in servicers)

        await eventually(all_have_been_called, True)
        await servers[0].stop(0)
        before = len(servicers[1].calls)
        for _ in range(10):
            await client.projects.get("p")
        assert len(servicers[1].calls) == before + 10
    await servers[1].stop(0)


async def test_a_write_is_repeated_under_the_same_request_id(served: Served) -> None:
    servicer, client = served
    servicer.failures = [(grpc.StatusCode.UNAVAILABLE, None)]

    await client.projects.create("p", {"questions": [{"id": "q", "text": {}}]})

    assert len(servicer.request_ids) == 2
    assert len(set(servicer.request_ids)) == 1
    assert servicer.request_ids[0]


async def test_a_project_is_created_with_all_that_its_file_says(served: Served, tmp_path: Path) -> None:
    _, client = served
    file = tmp_path / "reviews.yaml"
    file.write_text(
        "display_name: Reviews\n"
        "questions: [{id: q, choice: [a, b]}]\n"
        "quality: {min_answers: 1, max_answers: 4}\n"
        "routing: {enabled: true}\n"
    )

    made = await client.projects.create("p", file)
    other = await client.projects.create("p", file, quality=store.QualityPolicy(min_answers=3))

    assert (made.display_name, made.quality.max_answers, made.routing.enabled) == ("Reviews", 4, True)
    assert other.quality == store.QualityPolicy(min_answers=3)
    assert other.routing.enabled


async def test_a_project_is_concluded_once_every_answer_was_heard_of(
    served: Served, heard: Consensus
) -> None:
    _, client = served

    assert (await client.projects.conclude("p")).votes == 3


async def test_a_conclusion_does_not_wait_for_ever_for_answers(served: Served, heard: Consensus) -> None:
    _, client = served
    heard.most = 2

    with pytest.raises(FailedPrecondition) as refused:
        await client.projects.conclude("p", patience=0.2)

    assert refused.value.reason == "VOTES_NOT_IN"


JOBS = pytest.mark.parametrize("job", ["conclude", "refit"])
BRIEF = Patience(call=0.5, attempt=0.2, first_delay=0.01, longest_delay=0.02)


@JOBS
async def test_a_job_is_waited_for_as_long_as_the_service_works_on_it(
    served: Served, heard: Consensus, job: str
) -> None:
    _, client = served
    client.transport.patience = BRIEF
    heard.heard, heard.silent = 3, 5
    began = time.monotonic()

    assert (await getattr(client.projects, job)("p")).votes == 3

    assert time.monotonic() - began >= 5 * 0.2 > BRIEF.call


@JOBS
async def test_a_service_that_gives_a_try_up_does_not_work_on_the_job(
    served: Served, heard: Consensus, job: str
) -> None:
    _, client = served
    client.transport.patience = BRIEF
    heard.refuses = grpc.StatusCode.DEADLINE_EXCEEDED
    heard.failure, _ = status(heard.refuses, "DEADLINE_EXCEEDED")

    async with asyncio.timeout(30):
        with pytest.raises(DeadlineExceeded, match="It is DEADLINE_EXCEEDED"):
            await getattr(client.projects, job)("p")

    assert heard.tries < 60, "asked again after a while each time"


@JOBS
@pytest.mark.parametrize("silent", [0, 3])
@pytest.mark.parametrize(
    ("reason", "told"), [("REFIT_FAILED", "It is REFIT_FAILED"), ("", "does not answer")]
)
async def test_a_job_that_fails_or_a_service_that_is_away_is_told_of_when_patience_ends(
    served: Served, heard: Consensus, job: str, silent: int, reason: str, told: str
) -> None:
    _, client = served
    client.transport.patience = BRIEF
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=50_000_000))
    failure, _ = status(grpc.StatusCode.UNAVAILABLE, reason, retry)
    heard.silent, heard.failure = silent, failure

    async with asyncio.timeout(30):
        with pytest.raises(Unavailable, match=told):
            await getattr(client.projects, job)("p")


async def test_labels_that_do_not_stand_yet_are_waited_for_by_themselves(
    served: Served, heard: Consensus, monkeypatch: pytest.MonkeyPatch
) -> None:
    servicer, client = served
    there, other = Answer(choice="b").SerializeToString(), Answer(choice="a").SerializeToString()
    decided = {("projects/p/items/1", "q"): there, ("projects/p/items/2", "q"): there}

    async def missing(project: str) -> dict[tuple[str, str], bytes]:
        return dict(decided)

    monkeypatch.setattr(client.projects, "_labels_missing", missing)
    code = grpc.StatusCode.NOT_FOUND
    servicer.failures = [(code, status(code, "LABEL_NOT_FOUND")[0])] * 3

    assert await client.projects.labels_stand("p")

    names = [f"projects/p/items/{n}/labels/q" for n in (1, 2)]
    assert servicer.calls == [*names, *names, names[0]]
    decided, heard.decides = {("projects/p/items/1", "q"): other}, "a"
    assert not await client.projects.labels_stand("p", patience=0.1)


async def test_the_delay_that_the_server_asks_for_is_kept(served: Served) -> None:
    servicer, client = served
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=300_000_000))
    servicer.failures = [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, status(grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY", retry)[0])
    ]
    began = time.monotonic()

    await client.projects.get("p")

    assert time.monotonic() - began >= 0.3


async def test_patience_ends_and_the_error_says_where_it_called(served: Served) -> None:
    servicer, client = served
    await client.projects.get("p")  # the line is up: its making takes from the patience, too
    servicer.failures = [(grpc.StatusCode.UNAVAILABLE, None)] * 10_000
    client.transport.patience = Patience(call=0.2, attempt=0.1, first_delay=0.01, longest_delay=0.02)

    with pytest.raises(Unavailable, match="Cairn does not answer"):
        await client.projects.get("p")


async def test_what_is_refused_for_good_is_not_repeated_and_tells_everything(served: Served) -> None:
    servicer, client = served
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="project.schema", description="needs a question")
    refusal, _ = status(grpc.StatusCode.INVALID_ARGUMENT, "SCHEMA_INVALID", bad)
    servicer.failures = [(grpc.StatusCode.INVALID_ARGUMENT, refusal)]

    with pytest.raises(InvalidArgument) as error:
        await client.projects.get("p")

    assert len(servicer.calls) == 1
    assert error.value.reason == "SCHEMA_INVALID"
    assert error.value.metadata == {"resource": "projects/x"}
    assert [(v.field, v.description) for v in error.value.violations] == [
        ("project.schema", "needs a question")
    ]
    assert str(error.value) == "It is SCHEMA_INVALID (project.schema: needs a question)."


async def test_pages_are_one_iteration(served: Served) -> None:
    _, client = served

    names = [label.name async for label in client.labels("p")]

    assert names == [f"projects/p/items/{n}/labels/q" for n in range(8)]


async def test_a_watch_goes_on_where_its_stream_broke(served: Served) -> None:
    _, client = served

    seen = [label.name.split("/")[3] async for label in client.watch_labels("p")]

    assert seen == ["0", "1", "2", "3", "4", "5"]


async def test_a_watch_goes_on_with_a_fresh_token_where_its_own_ended(served: Served) -> None:
    servicer, client = served
    code = grpc.StatusCode.UNAUTHENTICATED
    servicer.break_watches = (code, status(code, "TOKEN_EXPIRED")[0])
    client.transport._token = lambda: f"token {servicer.watches}"

    seen = [label.name.split("/")[3] async for label in client.watch_labels("p")]

    assert seen == ["0", "1", "2", "3", "4", "5"]


async def test_a_watch_ends_where_its_token_did_and_there_is_no_other(served: Served) -> None:
    servicer, client = served
    code = grpc.StatusCode.UNAUTHENTICATED
    servicer.break_watches = (code, status(code, "TOKEN_EXPIRED")[0])

    with pytest.raises(Unauthenticated, match="TOKEN_EXPIRED"):
        async for _ in client.watch_labels("p"):
            pass

    assert servicer.watches == 1


async def test_a_watch_whose_every_token_has_expired_ends_with_patience_and_asks_no_more_often_than_any(
    served: Served,
) -> None:
    servicer, client = served
    code = grpc.StatusCode.UNAUTHENTICATED
    servicer.brings, servicer.break_watches = 0, (code, status(code, "TOKEN_EXPIRED")[0])
    minted = count()
    client.transport._token = lambda: f"token {next(minted)}"
    client.transport.patience = Patience(call=0.5, first_delay=0.05, longest_delay=0.05)
    told: list[CairnError] = []

    async with asyncio.timeout(30):
        with pytest.raises(Unauthenticated, match="TOKEN_EXPIRED"):
            async for _ in client.transport.following(
                client.transport.store.WatchLabels, store.WatchLabelsRequest, told.append
            ):
                pass

    assert 3 < servicer.watches < 25
    assert len(told) == servicer.watches - 2, "neither of the first, nor of the last"


async def test_a_session_whose_every_token_has_expired_ends_with_patience(served: Served) -> None:
    _, client = served
    refusal, _ = status(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", refusal.SerializeToString()))
    minted, sessions = count(), 0
    client.transport._token = lambda: f"token {next(minted)}"
    client.transport.patience = Patience(call=0.5, first_delay=0.05, longest_delay=0.05)

    async def session(progressed: Callable[[], None]) -> None:
        nonlocal sessions
        sessions += 1
        await asyncio.sleep(0)
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAUTHENTICATED, grpc.aio.Metadata(), trailers)

    async with asyncio.timeout(30):
        with pytest.raises(Unauthenticated, match="TOKEN_EXPIRED"):
            await client.transport.persisting(session)

    assert 3 < sessions < 25


@pytest.mark.parametrize("reason", ["", "TOKEN_EXPIRED"])
async def test_a_quiet_stream_may_break_as_often_as_it_stood_for_long(
    served: Served, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    _, client = served
    code = grpc.StatusCode.UNAUTHENTICATED if reason else grpc.StatusCode.UNAVAILABLE
    trailers = grpc.aio.Metadata()
    if reason:
        trailers.add("grpc-status-details-bin", status(code, reason)[0].SerializeToString())
    now, minted, sessions = 0.0, count(), 0
    monkeypatch.setattr(transport, "time", SimpleNamespace(monotonic=lambda: now))
    client.transport._token = lambda: f"token {next(minted)}"
    client.transport.patience = Patience(first_delay=0.001)

    async def session(progressed: Callable[[], None]) -> int:
        nonlocal now, sessions
        sessions += 1
        if sessions == 5:
            return sessions
        now += 3600
        raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers)

    assert await client.transport.persisting(session) == 5


async def test_an_import_is_taken_up_where_its_stream_broke(served: Served) -> None:
    servicer, client = served
    servicer.break_after = 1000
    told: list[int] = []

    result = await client.import_items(
        "p", [(f"k{n}", f"text {n}") for n in range(2300)], progress=told.append
    )

    assert [item.key for item in servicer.taken] == [f"k{n}" for n in range(2300)]
    assert (result.created, result.failed) == (2300, 0)
    assert told[-1] == 2300


async def test_items_that_cannot_be_sent_or_are_refused_are_told_by_their_place(
    served: Served, tmp_path: object
) -> None:
    servicer, client = served
    items = [
        {"key": "a", "text": "fine"},
        {"key": "", "text": "no key"},
        {"key": "c", "text": "broken \udcff"},
        {"key": "d", "path": "/nowhere/at/all.png"},
        {"key": "e e", "text": "refuse me"},
        {"text": "no key at all"},
        {"key": "g", "text": "fine"},
    ]

    result = await client.import_items("p", items)

    assert [(failure.place, failure.key) for failure in result.failures] == [
        (1, ""),
        (2, "c"),
        (3, "d"),
        (4, "e e"),
        (5, ""),
    ]
    assert [item.key for item in servicer.taken] == ["a", "e%20e", "g"]
    assert (result.created, result.failed) == (2, 5)


@pytest.fixture
def blocking() -> Iterator[Cairn]:
    """A blocking client of a server in a thread of its own."""
    from concurrent import futures

    class Sync(AnnotationStoreServiceServicer):
        def GetProject(
            self, request: store.GetProjectRequest, context: grpc.ServicerContext
        ) -> store.Project:
            context.abort(grpc.StatusCode.NOT_FOUND, "There is none.")
            raise AssertionError

        def ListLabels(
            self, request: store.ListLabelsRequest, context: grpc.ServicerContext
        ) -> store.ListLabelsResponse:
            start = int(request.page_token or 0)
            labels = [store.Label(name=f"projects/p/items/{n}/labels/q") for n in range(start, start + 1000)]
            return store.ListLabelsResponse(
                labels=labels, next_page_token=str(start + 1000) if start < 4000 else ""
            )

    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_AnnotationStoreServiceServicer_to_server(Sync(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Cairn(profile=Profile.at(f"127.0.0.1:{port}"), token="secret", patience=QUICK) as cairn:
        yield cairn
    server.stop(0)


def test_the_blocking_client_has_the_same_calls_errors_and_iterators(blocking: Cairn) -> None:
    with pytest.raises(NotFound, match="There is none"):
        blocking.projects.get("p")
    assert sum(1 for _ in blocking.labels("p")) == 5000
    assert (
        next(iter(blocking.labels("p"))).name == "projects/p/items/0/labels/q"
    )  # left in the middle: no harm


def test_each_problem_is_said_once_and_without_an_empty_name() -> None:
    twice = (
        FieldViolation("text", "it is long; expected less."),
        FieldViolation("", "the item is large."),
    )

    assert (
        str(Problem("", "", "Refused: text: it is long; expected less.", {}, twice))
        == "Refused: text: it is long; expected less (the item is large)."
    )
