"""Calls that arrive together are answered together, each with its own answer or error."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import asyncpg
import pytest
from asyncpg.exceptions._base import DataError as Unencodable

from cairn_kit import errors
from cairn_kit.rpc import Coalescer, Submitted
from cairn_kit.testing import eventually


async def test_calls_that_arrive_together_are_flushed_together_and_fail_alone() -> None:
    batches: list[int] = []

    async def flush(batch: Any) -> list[int | Exception]:
        batches.append(len(batch))
        await asyncio.sleep(0)
        return [
            errors.NotFound("ODD", "odd") if submitted.request % 2 else submitted.request * 10
            for submitted in batch
        ]

    coalescer: Coalescer[int, int] = Coalescer(flush, max_batch=8, parallel=1)

    results = await asyncio.gather(*(coalescer.submit(n) for n in range(20)), return_exceptions=True)

    assert results[0::2] == [n * 10 for n in range(0, 20, 2)]
    assert all(isinstance(result, errors.NotFound) for result in results[1::2])
    assert batches == [8, 8, 4]
    assert Submitted.__slots__


async def test_calls_go_together_up_to_what_they_ask_for_in_all() -> None:
    batches: list[list[int]] = []

    async def flush(batch: Any) -> list[int]:
        batches.append([submitted.request for submitted in batch])
        return [submitted.request for submitted in batch]

    coalescer: Coalescer[int, int] = Coalescer(flush, max_batch=10, parallel=1, weigh=lambda size: size)
    sizes = [4, 6, 1, 50, 3, 3, 3, 3]
    assert await asyncio.gather(*(coalescer.submit(size) for size in sizes)) == sizes
    assert batches == [[4, 6], [1], [50], [3, 3, 3], [3]]


@pytest.mark.parametrize("error", [RuntimeError("broken"), Unencodable("value out of int64 range")])
async def test_a_call_that_a_batch_cannot_stand_fails_alone(error: Exception) -> None:
    async def flush(batch: Any) -> list[int]:
        if any(submitted.request == 13 for submitted in batch):
            raise error
        return [submitted.request for submitted in batch]

    coalescer: Coalescer[int, int] = Coalescer(flush, max_batch=4)
    results = await asyncio.gather(*(coalescer.submit(n) for n in range(12, 20)), return_exceptions=True)
    assert [n for n, result in enumerate(results, 12) if isinstance(result, Exception)] == [13]


async def test_a_batch_that_fails_as_a_whole_fails_each_of_its_calls_and_nobody_elses() -> None:
    flushed: list[int] = []

    async def flush(batch: Any) -> list[int]:
        flushed.append(len(batch))
        if any(submitted.request == 13 for submitted in batch):
            raise errors.Unavailable("AWAY", "Away.")
        return [submitted.request for submitted in batch]

    coalescer: Coalescer[int, int] = Coalescer(flush, max_batch=4)
    results = await asyncio.gather(*(coalescer.submit(n) for n in range(12, 20)), return_exceptions=True)
    assert [isinstance(result, Exception) for result in results] == [True] * 4 + [False] * 4
    assert flushed == [4, 4]


async def test_callers_of_a_batch_that_is_cancelled_while_it_is_done_one_by_one_are_told_to_come_again() -> (
    None
):
    async def flush(batch: Any) -> Any:
        raise RuntimeError if len(batch) > 1 else asyncio.CancelledError

    coalescer: Coalescer[int, int] = Coalescer(flush)
    calls = asyncio.gather(*(coalescer.submit(n) for n in range(3)), return_exceptions=True)
    results = await asyncio.wait_for(calls, 60.0)
    assert [getattr(result, "reason", result) for result in results] == ["BROKEN_OFF"] * 3


async def test_callers_of_a_batch_that_is_cancelled_are_told_to_come_again() -> None:
    async def flush(batch: Any) -> Any:
        raise asyncio.CancelledError

    coalescer: Coalescer[int, int] = Coalescer(flush)
    results = await asyncio.gather(coalescer.submit(1), coalescer.submit(2), return_exceptions=True)
    assert [getattr(result, "reason", result) for result in results] == ["BROKEN_OFF", "BROKEN_OFF"]


async def test_of_callers_who_have_gone_nothing_is_kept_however_long_a_flush_takes() -> None:
    hold = asyncio.Event()
    batches: list[list[int]] = []

    async def flush(batch: Any) -> list[int]:
        batches.append([len(submitted.request) for submitted in batch])
        await hold.wait()
        return batches[-1]

    coalescer: Coalescer[set[int], int] = Coalescer(flush, max_batch=4, parallel=1, weigh=len)
    first = asyncio.create_task(coalescer.submit({1}))
    await eventually(lambda: batches, [[1]])
    large = [set(range(3)) for _ in range(20)]
    kept = [weakref.ref(request) for request in large]
    impatient = [asyncio.create_task(coalescer.submit(large.pop())) for _ in kept]
    stays = asyncio.create_task(coalescer.submit({1, 2}))
    await asyncio.sleep(0)
    for call in impatient:
        call.cancel()
    await asyncio.wait(impatient)
    del call, impatient
    gc.collect()
    assert not [request() for request in kept if request() is not None]

    beside = [asyncio.create_task(coalescer.submit({1})) for _ in range(2)]
    await asyncio.sleep(0)
    hold.set()
    assert await asyncio.gather(first, stays, *beside) == [1, 2, 1, 1]
    assert batches == [[1], [2, 1, 1]], "and those that wait go together as if nobody had come between"


async def test_calls_gather_behind_one_that_runs_but_not_behind_one_that_takes_long() -> None:
    batches: list[list[int]] = []
    done = {0: asyncio.Event(), 1: asyncio.Event()}

    async def flush(batch: Any) -> list[int]:
        batches.append([submitted.request for submitted in batch])
        if batch[0].request in done:
            await done[batch[0].request].wait()
        return [submitted.request for submitted in batch]

    quick: Coalescer[int, int] = Coalescer(flush, patience=3600.0)
    calls = [asyncio.create_task(quick.submit(0))]
    await eventually(lambda: batches, [[0]])
    calls += [asyncio.create_task(quick.submit(n)) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    done[0].set()
    await asyncio.gather(*calls)
    assert batches == [[0], [2, 3, 4]]

    slow: Coalescer[int, int] = Coalescer(flush, patience=0.01)
    first = asyncio.create_task(slow.submit(1))
    await eventually(lambda: batches[-1], [1])
    assert await slow.submit(5) == 5, "it does not wait for the first, which never ends"
    done[1].set()
    assert await first == 1


async def test_calls_gather_for_longer_where_flushes_take_longer() -> None:
    clock = asyncio.get_running_loop().time
    began: dict[int, float] = {}
    hold = asyncio.Event()

    async def flush(batch: Any) -> list[int]:
        began[batch[0].request] = clock()
        if batch[0].request < 0:
            await hold.wait()
        else:
            await asyncio.sleep(0.02)  # what a flush takes here: the time itself is what is measured
        return [submitted.request for submitted in batch]

    coalescer: Coalescer[int, int] = Coalescer(flush, patience=0.0)
    for number in range(30):
        await coalescer.submit(number)
    first = asyncio.create_task(coalescer.submit(-1))
    await eventually(lambda: -1 in began, True)
    assert await coalescer.submit(99) == 99, "it is not waited for without end"
    assert began[99] - began[-1] >= 0.04, "but for about three flushes"
    hold.set()
    assert await first == -1


async def test_a_coalesced_call_says_as_others_do_that_the_database_is_away() -> None:
    async def flush(batch: Any) -> Any:
        raise asyncpg.ConnectionDoesNotExistError("the connection was closed")

    coalescer: Coalescer[int, int] = Coalescer(flush)
    errors = await asyncio.gather(*(coalescer.submit(n) for n in range(3)), return_exceptions=True)
    assert all(isinstance(error, asyncpg.ConnectionDoesNotExistError) for error in errors)
    assert len(set(map(id, errors))) == 3
