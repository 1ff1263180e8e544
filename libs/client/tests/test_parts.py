"""Requests of many go in parts that a service takes, and come back as if they had gone together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
from buf.validate import validate_pb2

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn_client import Cairn, NewItem
from cairn_client.errors import Problem, ResourceExhausted
from cairn_client.parts import MOST_BYTES, in_halves, in_parts
from cairn_client.transport import worth_repeating
from cairn_client.working import streams
from cairn_stack.testing import shared_stack

MIB = 1024 * 1024
TOO_LARGE = "SERVER: Sent message larger than max"


def request(size: int) -> store.SubmitAnnotationRequest:
    return store.SubmitAnnotationRequest(lease_token="x" * size)


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([], []),
        ([1, 1, 1, 1], [3, 1]),
        ([3 * MIB, 3 * MIB, 3 * MIB], [2, 1]),
        ([20 * MIB, 1, 20 * MIB], [1, 1, 1]),
    ],
)
def test_a_part_has_neither_too_many_nor_too_many_bytes(sizes: list[int], parts: list[int]) -> None:
    made = list(in_parts([request(size) for size in sizes], 3))
    assert [len(part) for part in made] == parts
    assert all(len(part) == 1 or sum(one.ByteSize() for one in part) <= MOST_BYTES for part in made)


def test_who_submits_to_a_stream_is_told_once_and_in_order() -> None:
    stream, told = streams.SubmissionStream(None), []  # type: ignore[arg-type]  # nothing is sent
    stream.submit([request(5 * MIB), request(5 * MIB)], told.extend)
    first, second = stream._unfinished.values()
    results = [store.SubmitAnnotationResult(annotation=store.Annotation(name=name)) for name in "ab"]
    second.told(results[1:])
    assert told == []
    first.told(results[:1])
    assert told == results


def test_a_message_to_a_stream_has_no_more_submissions_than_it_takes() -> None:
    rules = store.StreamAnnotationsRequest.DESCRIPTOR.fields_by_name["requests"].GetOptions()
    most = rules.Extensions[validate_pb2.field].repeated.max_items
    stream = streams.SubmissionStream(None)  # type: ignore[arg-type]  # nothing is sent
    stream.submit([request(1)] * (2 * most + 1), lambda _: None)
    assert [len(message.requests) for message in stream._unfinished.values()] == [most, most, 1]


def test_a_message_that_is_too_large_is_not_worth_repeating() -> None:
    words = "SERVER: Received message larger than max (24008349 vs. 16777216)"
    problem = partial(Problem, "RESOURCE_EXHAUSTED", "", metadata={})
    assert not worth_repeating(ResourceExhausted(problem(words)))
    assert worth_repeating(ResourceExhausted(problem("the service has too much to do")))


@pytest.mark.parametrize("most", [1, 2, 3, 7])
async def test_what_has_too_large_an_answer_together_is_asked_in_halves(most: int) -> None:
    asked: list[int] = []

    async def twice(some: Sequence[int]) -> list[int]:
        asked.append(len(some))
        if len(some) > most:
            raise ResourceExhausted(Problem("RESOURCE_EXHAUSTED", "", f"{TOO_LARGE} ({len(some)} vs. 3)", {}))
        return [2 * one for one in some]

    assert await in_halves(twice, range(7)) == [0, 2, 4, 6, 8, 10, 12]
    assert (max(asked), asked.count(7)) == (7, 1)


@pytest.mark.parametrize("words", [TOO_LARGE, "the service has too much to do"])
async def test_what_cannot_be_halved_or_fails_otherwise_is_told(words: str) -> None:
    asked: list[int] = []

    async def refused(some: Sequence[int]) -> list[int]:
        asked.append(len(some))
        raise ResourceExhausted(Problem("RESOURCE_EXHAUSTED", "", words, {}))

    with pytest.raises(ResourceExhausted, match=words):
        await in_halves(refused, range(4))
    assert asked == ([4, 2, 1] if words == TOO_LARGE else [4])


@pytest.mark.timeout(400)
def test_the_items_of_leases_are_shown_whatever_they_weigh_together() -> None:
    with Cairn(home=shared_stack().home) as cairn:
        cairn.projects.create("large-items", {"questions": [{"id": "ok", "choice": ["no", "yes"]}]})
        text = "x" * 200 * 1024
        cairn.import_items("large-items", [(f"i{n:03d}", text) for n in range(100)])
        jobs = []
        while len(jobs) < 100:
            jobs += cairn.lease("large-items", max_tasks=100, labeler="lia", wait=30)
        assert sorted(job.key for job in jobs) == [f"i{n:03d}" for n in range(100)]
        assert all(job.item is not None and job.item.text == text for job in jobs)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("by_stream", [True, False])
def test_answers_of_twenty_megabytes_together_are_all_kept(by_stream: bool) -> None:
    project, answer = f"large-answers-{by_stream}".lower(), {"t": "é" * 950_000}
    with Cairn(home=shared_stack().home) as cairn:
        cairn.projects.create(
            project,
            schema={"questions": [{"id": "t", "text": {"max_length": 1_000_000}}]},
            quality=store.QualityPolicy(min_answers=1, max_answers=1),
        )
        cairn.import_items(project, [NewItem(f"i{n}", text="x") for n in range(11)])
        if by_stream:
            worked = cairn.work(project, lambda jobs: [answer for _ in jobs], labeler="lia", idle=5)
            assert worked.answered == 11
        else:
            jobs = []
            while len(jobs) < 11:
                jobs += cairn.lease(project, max_tasks=11, labeler="lia", wait=30)
            kept = cairn.submit_many((job, answer) for job in jobs)
            assert [type(one) for one in kept] == [store.Annotation] * 11
