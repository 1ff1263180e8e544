from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.handlers import submissions
from cairn_annotation_store.handlers.submissions import _BYTES_AT_ONCE, _weighing
from cairn_annotation_store.store import ItemStore, ProjectStore
from cairn_kit.errors import from_status
from cairn_kit.rpc import Coalescer, Submitted
from cairn_kit.testing import eventually

MANY = 100_000
"""Spans of more than a MiB together: to examine them takes most of a second."""


def notes(max_length: int) -> schema_pb.LabelSchema:
    question = schema_pb.TextQuestion(max_length=max_length)
    return schema_pb.LabelSchema(questions=[schema_pb.Question(id="note", text=question)])


def note(length: int) -> v.Answer:
    return v.Answer(question="note", text="x" * length)


async def test_answers_that_take_long_to_examine_are_kept_and_hold_up_nobody(
    birds: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given answers that take longer to examine together than a transaction may
    monkeypatch.setattr(submissions, "_LONGEST_SECONDS", 2)
    spans = schema_pb.SpansQuestion(classes=[schema_pb.LabelClass(id="owl")], overlaps_allowed=True)
    schema = tools.choice_schema()
    schema.questions[0].required = False
    schema.questions.add(id="where", spans=spans)
    await birds.create(schema)
    await birds.texts(1)
    span = v.Span(start=0, end=1, class_id="owl")
    large = v.Answer(question="where", spans=v.Spans(spans=[span] * MANY))
    ended: list[str] = []

    async def submit(labeler: str, answer: v.Answer) -> pb.Annotation:
        kept = await birds.submit(birds.lease("a0000", labeler), answer)
        ended.append(labeler)
        return kept  # type: ignore[no-any-return]

    # when they come at once, and a small one after them
    large_ones = [asyncio.create_task(submit(f"l{n}", large)) for n in range(6)]
    await eventually(lambda: ended)
    await submit("small", tools.chose("owl"))
    kept = await asyncio.gather(*large_ones)
    # then all are kept, and the small one did not wait for all of them
    assert len({annotation.name for annotation in kept}) == 6
    assert ended[-1] != "small"


async def test_a_schema_that_changes_after_a_look_ahead_has_the_last_word(birds: Any, tools: Any) -> None:
    project = await birds.create(notes(100_000))
    await birds.texts(1)
    store = ProjectStore()
    # given a large answer that was found to fit, and waits for a change of the schema to be committed
    async with birds.database.transaction() as tx:
        before = await store.get_to_change(tx, "acme", "birds")
        assert before is not None
        body = pb.Project()
        body.CopyFrom(before.body)
        body.schema.CopyFrom(notes(1_000))
        await store.update(tx, "acme", "birds", schema_version=2, archived=False, body=body)
        submitting = asyncio.create_task(birds.submit(birds.lease("a0000"), note(50_000)))
        await eventually(
            lambda: birds.database.fetchval(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )
    # then it is examined again
    async with tools.refused("ANSWER_INVALID"):
        await submitting
    assert project.schema_version == 1
    assert (await birds.progress()).annotations == 0


async def test_that_the_database_is_away_is_said_of_large_answers_as_of_small_ones(
    birds: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await birds.create(notes(100_000))
    await birds.texts(1)

    async def away(*_: Any) -> None:
        raise ConnectionRefusedError

    # given a database that is away for a stream of answers, a large one and a small one
    monkeypatch.setattr(ItemStore, "of_leases", away)
    stream = birds.operator.StreamAnnotations()
    for sequence, length in enumerate((50_000, 10), 1):
        submission = pb.SubmitAnnotationRequest(lease_token=birds.lease("a0000"), answers=[note(length)])
        await stream.write(pb.StreamAnnotationsRequest(sequence=sequence, requests=[submission]))
    await stream.done_writing()
    # then it is said of each, and the stream goes on to its end
    acknowledged = {
        one.sequence: from_status(one.results[0].error).reason
        async for response in stream
        for one in response.finished.acknowledgements
    }
    assert acknowledged == {1: "STORAGE_UNAVAILABLE", 2: "STORAGE_UNAVAILABLE"}


async def test_many_large_answers_of_one_call_are_kept_in_their_order_by_several_transactions(
    birds: Any,
) -> None:
    await birds.create(notes(1_000_000))
    await birds.texts(2)
    # given two answers of one labeler to an item, and so much between them that they are not kept together
    given = [("a0000", "ann"), ("a0000", "bob"), ("a0001", "ann"), ("a0001", "bob"), ("a0000", "ann")]
    requests = [
        pb.SubmitAnnotationRequest(lease_token=birds.lease(*to), answers=[note(400_000 + n)])
        for n, to in enumerate(given)
    ]
    # when they come in one call
    call = pb.SubmitAnnotationsRequest(requests=requests)
    results = (await birds.operator.SubmitAnnotations(call)).results
    # then the first of the two is kept
    assert [result.HasField("annotation") for result in results] == [True, True, True, True, False]
    assert from_status(results[4].error).reason == "ALREADY_ANSWERED"
    transactions = "SELECT count(DISTINCT xmin::text) FROM annotation"
    assert await birds.database.fetchval(transactions) == 2


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([100] * 130, [64, 64, 2]),
        ([_BYTES_AT_ONCE] * 3, [1, 1, 1]),
        ([_BYTES_AT_ONCE // 2] * 3, [2, 1]),
        ([100] * 40 + [_BYTES_AT_ONCE // 2] + [100] * 40, [40, 33, 8]),
    ],
)
async def test_a_transaction_takes_so_many_submissions_and_so_many_bytes(
    sizes: list[int], batches: list[int]
) -> None:
    begun: list[int] = []

    async def flush(batch: list[Submitted[Any]]) -> list[int]:
        begun.append(len(batch))
        return [0] * len(batch)

    coalescer: Coalescer[Any, int] = Coalescer(
        flush,  # type: ignore[arg-type]
        max_batch=_BYTES_AT_ONCE,
        parallel=3,
        weigh=_weighing(64),
    )
    await asyncio.gather(*(coalescer.submit(SimpleNamespace(size=size)) for size in sizes))
    assert begun == batches
