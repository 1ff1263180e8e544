"""What consensus has decided and no label says yet is found in chunks, and waited for in turns."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.annotation.v1.annotation_store_pb2_grpc import (
    AnnotationStoreServiceServicer,
    add_AnnotationStoreServiceServicer_to_server,
)
from cairn.consensus.v1 import consensus_pb2 as consensus
from cairn.consensus.v1.consensus_pb2_grpc import (
    ConsensusServiceServicer,
    add_ConsensusServiceServicer_to_server,
)
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn.dispatch.v1.task_dispatch_pb2_grpc import (
    TaskDispatchServiceServicer,
    add_TaskDispatchServiceServicer_to_server,
)
from cairn.label.v1.label_schema_pb2 import LabelSchema, Question
from cairn.label.v1.label_value_pb2 import Answer
from cairn_client import AsyncCairn, Profile
from cairn_client.calls import projects

QUESTIONS = ("q", "r")
YES, NO = Answer(choice="yes"), Answer(choice="no")


def item(key: str) -> str:
    return f"projects/p/items/{key}"


class Project(AnnotationStoreServiceServicer, TaskDispatchServiceServicer, ConsensusServiceServicer):
    """One project as three services tell of it: its items by key, what is decided, and what labels say."""

    def __init__(self) -> None:
        self.items: Collection[str] = ()
        self.undecided: Collection[str] = ()
        self.labels: dict[tuple[str, str], Answer] = {}
        self.source = store.LABEL_SOURCE_CONSENSUS
        self.decided = YES
        self.looked_at: list[str] = []
        self.changes: Callable[[], None] | None = None
        """What becomes of it when a label is looked at."""
        self.most = 10_000
        """Items of which consensus can tell in one response."""

    async def GetProject(
        self, request: store.GetProjectRequest, context: grpc.aio.ServicerContext
    ) -> store.Project:
        return store.Project(
            name=request.name, schema=LabelSchema(questions=[Question(id=one) for one in QUESTIONS])
        )

    async def ListTasks(
        self, request: dispatch.ListTasksRequest, context: grpc.aio.ServicerContext
    ) -> dispatch.ListTasksResponse:
        urgent_first = sorted(self.items, reverse=True)
        return dispatch.ListTasksResponse(tasks=[dispatch.Task(item=item(key)) for key in urgent_first])

    async def ListLabels(
        self, request: store.ListLabelsRequest, context: grpc.aio.ServicerContext
    ) -> store.ListLabelsResponse:
        labels, start = sorted(self.labels), int(request.page_token or 0)
        return store.ListLabelsResponse(
            labels=[self._label(*at) for at in labels[start : start + 3]],
            next_page_token=str(start + 3) if start + 3 < len(labels) else "",
        )

    async def GetLabel(
        self, request: store.GetLabelRequest, context: grpc.aio.ServicerContext
    ) -> store.Label:
        key, question = request.name.removeprefix(item("")).split("/labels/")
        self.looked_at.append(key)
        if (key, question) not in self.labels:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is none.")
        if self.changes:
            self.changes()
        return self._label(key, question)

    async def BatchGetPosteriors(
        self, request: consensus.BatchGetPosteriorsRequest, context: grpc.aio.ServicerContext
    ) -> consensus.BatchGetPosteriorsResponse:
        if len(request.items) > self.most:
            info = error_details_pb2.ErrorInfo(reason="RESPONSE_TOO_LARGE", domain="cairn")
            refusal = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="Too much.")
            refusal.details.add().Pack(info)
            trailers = (("grpc-status-details-bin", refusal.SerializeToString()),)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Too much.", trailers)
        undecided = {item(key) for key in self.undecided}
        return consensus.BatchGetPosteriorsResponse(
            posteriors=[
                consensus.Posterior(
                    item=name,
                    answer=self.decided,
                    state=consensus.DECISION_STATE_COLLECTING
                    if name in undecided
                    else consensus.DECISION_STATE_DECIDED,
                )
                for name in request.items
            ]
        )

    def _label(self, key: str, question: str) -> store.Label:
        name, answer = f"{item(key)}/labels/{question}", self.labels[key, question]
        return store.Label(name=name, answer=answer, source=self.source)


@pytest.fixture
def told() -> Project:
    return Project()


@pytest.fixture
async def client(told: Project) -> AsyncIterator[AsyncCairn]:
    server = grpc.aio.server()
    add_AnnotationStoreServiceServicer_to_server(told, server)
    add_TaskDispatchServiceServicer_to_server(told, server)
    add_ConsensusServiceServicer_to_server(told, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AsyncCairn(profile=Profile.at(f"127.0.0.1:{port}"), token="secret") as made:
        yield made
    await server.stop(0)


def labelled(keys: str, answer: Answer = YES) -> dict[tuple[str, str], Answer]:
    return {(key, question): answer for key in keys for question in QUESTIONS}


@pytest.mark.parametrize("at_once", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("without", ["", "a", "c", "f", "ab", "cd", "ef", "ace", "bdf", "abcdef"])
async def test_decided_items_without_a_label_are_found_wherever_they_are(
    told: Project, client: AsyncCairn, monkeypatch: pytest.MonkeyPatch, at_once: int, without: str
) -> None:
    monkeypatch.setattr(projects, "_ITEMS_AT_ONCE", at_once)
    told.items = "abcdef"
    told.labels = {at: YES for at in labelled("abcdef") if at[0] not in without}

    missing = await client.projects._labels_missing("p")

    answer = YES.SerializeToString(deterministic=True)
    assert missing == {(item(key), question): answer for key in without for question in QUESTIONS}


async def test_of_many_classes_consensus_is_asked_about_fewer_items_at_once(
    told: Project, client: AsyncCairn
) -> None:
    told.items, told.labels, told.most = "abcdefg", labelled("aceg"), 2
    assert {at for at, _ in await client.projects._labels_missing("p")} == {item("b"), item("d"), item("f")}


async def test_labels_of_items_that_nobody_is_asked_about_confuse_nothing(
    told: Project, client: AsyncCairn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projects, "_ITEMS_AT_ONCE", 2)
    told.items, told.labels = "bdfh", labelled("acdegi") | {("b", "q"): YES, ("h", "r"): YES}

    missing = await client.projects._labels_missing("p")

    assert set(missing) == {(item(key), q) for key, q in (("b", "r"), ("f", "q"), ("f", "r"), ("h", "q"))}


async def test_only_what_is_decided_is_missing_and_a_label_of_a_higher_source_stands(
    told: Project, client: AsyncCairn
) -> None:
    told.items, told.undecided, told.labels = "abc", "a", labelled("b") | labelled("c", NO)
    assert {at for at, _ in await client.projects._labels_missing("p")} == {item("c")}
    told.source = store.LABEL_SOURCE_CORRECTION
    assert not await client.projects._labels_missing("p")


async def test_what_stays_missing_hides_nothing_that_arrives(
    told: Project, client: AsyncCairn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projects, "_LOOKED_FOR", 2)
    told.items, told.labels = "abcde", {}

    assert not await client.projects.labels_stand("p", patience=1.0)

    assert set(told.looked_at) == set("abcde")


@pytest.mark.parametrize("how", ["otherwise", "no more"])
async def test_what_is_decided_otherwise_meanwhile_is_waited_for_no_longer(
    told: Project, client: AsyncCairn, how: str
) -> None:
    told.items, told.labels = "abc", labelled("abc", NO)

    def changes() -> None:
        if how == "otherwise":
            told.decided = NO
        else:
            told.undecided = "abc"

    told.changes = changes
    async with asyncio.timeout(30):
        assert await client.projects.labels_stand("p")
