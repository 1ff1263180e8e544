"""Machine labelers on a private stack: everything is answered once, whatever breaks, and nothing is held at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn_client import (
    AsyncCairn,
    Cairn,
    InputError,
    Job,
    NotFound,
    Release,
    Skip,
    item_key,
)
from cairn_kit.testing import eventually
from cairn_stack import PrivateStack

pytestmark = pytest.mark.timeout(400)

YES = {"ok": "yes"}


async def project(cairn: AsyncCairn, name: str, items: int) -> str:
    """A project with so many items that want one answer each, all of them open."""
    spec = {
        "questions": [{"id": "ok", "choice": ["no", "yes"]}],
        "quality": {"min_answers": 1, "max_answers": 1},
    }
    await cairn.projects.create(name, spec)
    await cairn.import_items(name, [(f"i{n:04d}", f"text {n}") for n in range(items)])

    async def is_open() -> bool:
        return (await cairn.queue(name)).open_tasks == items

    await eventually(is_open, timeout=60)
    return name


async def answers(cairn: AsyncCairn, name: str) -> Counter[str]:
    """How often each item was answered."""
    return Counter([item_key(a.name) async for a in cairn.annotations(name)])


async def test_each_item_is_judged_in_batches_and_answered_once(cairn: AsyncCairn) -> None:
    name = await project(cairn, "work-all", 200)
    sizes: list[int] = []

    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        sizes.append(len(jobs))
        assert all(job.item is not None and job.item.text.startswith("text ") for job in jobs)
        return [YES for _ in jobs]

    worked = await cairn.work(name, judge, labeler="robot", batch=25, idle=1.0)
    assert (worked.answered, worked.late, worked.failed, worked.released, worked.lost) == (200, 0, 0, 0, 0)
    assert max(sizes) <= 25
    assert await answers(cairn, name) == {f"i{n:04d}": 1 for n in range(200)}
    assert {a.labeler async for a in cairn.annotations(name)} == {"labelers/robot"}


async def test_several_machines_share_the_work(cairn: AsyncCairn) -> None:
    name = await project(cairn, "work-shared", 200)

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        return [YES for _ in jobs]

    runs = [cairn.work(name, judge, labeler=f"robot-{n}", batch=5, parallel=2, idle=1.0) for n in range(4)]
    worked = await asyncio.gather(*runs)
    assert sum(one.answered for one in worked) == 200
    assert set((await answers(cairn, name)).values()) == {1}


@pytest.mark.parametrize("service", ["task-dispatch", "annotation-store"])
async def test_a_killed_service_loses_nothing_and_doubles_nothing(
    cairn: AsyncCairn, stack: PrivateStack, service: str
) -> None:
    name = await project(cairn, f"work-killed-{service[:4]}", 400)
    stop, judged = asyncio.Event(), 0

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        nonlocal judged
        before, judged = judged, judged + len(jobs)
        if before < 100 <= judged:
            await asyncio.to_thread(stack.kill, service)
        return [YES for _ in jobs]

    async def all_answered() -> bool:
        return len(await answers(cairn, name)) == 400

    # What the service had chosen and not sent when it was killed comes back when its short time is over.
    work = asyncio.create_task(
        cairn.work(name, judge, labeler="robot", batch=20, duration=timedelta(seconds=5), stop=stop)
    )
    await eventually(all_answered, timeout=180)
    stop.set()
    worked = await work
    assert set((await answers(cairn, name)).values()) == {1}
    assert worked.failed == 0
    assert worked.answered + worked.lost >= 400


async def cairn_has(cairn: AsyncCairn, name: str) -> bool:
    return any([one.name == f"projects/{name}" async for one in cairn.projects.list()])


async def test_leases_that_end_before_they_can_be_extended_are_refused(cairn: AsyncCairn) -> None:
    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        return [YES for _ in jobs]

    with pytest.raises(InputError, match=r"1\.5 s are too short .* 2 s or more"):
        await cairn.work("any-project", judge, duration=timedelta(seconds=1.5))
    spec = {
        "questions": [{"id": "ok", "choice": ["no", "yes"]}],
        "quality": {"min_answers": 1, "max_answers": 1, "lease_duration": "1s"},
    }
    await cairn.projects.create("work-short", spec)
    await cairn.import_items("work-short", [("a", "text")])
    with pytest.raises(InputError, match=r"1 s are too short"):
        await cairn.work("work-short", judge, labeler="robot", idle=60.0)
    worked = await cairn.work("work-short", judge, labeler="robot", duration=timedelta(seconds=2), idle=1.0)
    assert worked.answered == 1


async def nothing_live(cairn: AsyncCairn, name: str) -> bool:
    return (await cairn.queue(name)).live_leases == 0


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
async def test_a_run_that_is_ended_in_the_middle_holds_nothing(cairn: AsyncCairn, how: str) -> None:
    name = await project(cairn, f"work-{how}", 100)
    stop, seen, goes_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        seen.set()
        await goes_on.wait()
        return [YES for _ in jobs]

    work = asyncio.create_task(cairn.work(name, judge, labeler="robot", batch=10, ahead=40, stop=stop))
    await seen.wait()
    await eventually(lambda: live(cairn, name, 40))
    if how == "stopped":
        stop.set()
        goes_on.set()
        worked = await work
        assert (worked.answered, worked.released) == (10, 30), "what was being judged is finished"
    else:
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    await eventually(lambda: nothing_live(cairn, name))


async def live(cairn: AsyncCairn, name: str, leases: int) -> bool:
    found = (await cairn.queue(name)).live_leases
    assert found <= leases
    return found == leases


async def test_a_lease_that_takes_long_is_extended(cairn: AsyncCairn) -> None:
    name = await project(cairn, "work-long", 1)

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        [job] = jobs

        async def extended() -> bool:
            request = dispatch.GetLeaseRequest(name=job.lease.name)
            lease = await cairn.transport.call(cairn.transport.dispatch.GetLease, request)
            more = lease.expire_time.ToMilliseconds() - job.lease.expire_time.ToMilliseconds()
            return more > 3000

        await eventually(extended, timeout=60)  # longer than the lease was to last
        return [YES]

    worked = await cairn.work(name, judge, labeler="robot", duration=timedelta(seconds=3), idle=0.5)
    assert (worked.answered, worked.late, worked.lost) == (1, 0, 0)


async def test_what_waits_for_its_turn_is_judged_under_the_newest_token(cairn: AsyncCairn) -> None:
    name, newest = await project(cairn, "work-newest", 2), list[bool]()

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        [job] = jobs
        request = dispatch.GetLeaseRequest(name=job.lease.name)

        async def extended() -> bool:
            lease = await cairn.transport.call(cairn.transport.dispatch.GetLease, request)
            return lease.expire_time.ToMilliseconds() > job.lease.expire_time.ToMilliseconds()

        if not newest:
            await eventually(extended, timeout=60)  # so is the other then, which came with it
        newest.append(not await extended())
        return [YES]

    worked = await cairn.work(
        name, judge, labeler="robot", batch=1, ahead=2, duration=timedelta(seconds=8), idle=0.5
    )
    assert worked.answered == 2
    assert newest == [False, True]


@pytest.mark.parametrize(
    ("number", "words"), list(enumerate(["caf\udce9.png", "two\0words", "\0", " ", "", "long" * 1000]))
)
async def test_any_words_give_an_item_back_for_good(cairn: AsyncCairn, number: int, words: str) -> None:
    name = await project(cairn, f"work-words-{number}", 3)

    def judge(jobs: Sequence[Job]) -> list[dict[str, str] | Skip]:
        [job] = jobs
        if job.key == "i0001":
            raise ValueError(words)
        return [Skip(words) if job.key == "i0000" else YES]

    async with asyncio.timeout(60):
        worked = await cairn.work(name, judge, labeler="robot", batch=1, idle=1.0)
    assert (worked.answered, worked.skipped, worked.failed) == (1, 1, 1)
    assert await nothing_live(cairn, name)
    assert len(await cairn.lease(name, 3, labeler="ann", wait=5)) == 2
    assert not await cairn.lease(name, 3, labeler="robot")


async def test_an_answer_that_is_too_large_for_a_call_ends_no_run(cairn: AsyncCairn) -> None:
    spec = {"questions": [{"id": "ok", "text": {}}], "quality": {"min_answers": 1, "max_answers": 1}}
    await cairn.projects.create("work-too-large", spec)
    await cairn.import_items("work-too-large", [(f"i{n}", "text") for n in range(5)])

    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        return [{"ok": "x" * (17 << 20) if job.key == "i2" else "a word"} for job in jobs]

    worked = await cairn.work("work-too-large", judge, labeler="robot", idle=1.0)
    assert (worked.answered, worked.failed) == (4, 1)
    assert "'i2': It could not be judged: The answers have 17,8" in worked.last_failure


async def test_what_the_judge_releases_is_somebody_elses(cairn: AsyncCairn) -> None:
    name = await project(cairn, "work-release", 5)
    stop = asyncio.Event()

    async def judge(jobs: Sequence[Job]) -> list[Release]:
        stop.set()
        return [Release() for _ in jobs]

    worked = await cairn.work(name, judge, labeler="robot", ahead=5, stop=stop)
    assert worked.answered == 0
    assert worked.released >= 5
    assert len(await cairn.lease(name, 5, labeler="ann", wait=5)) == 5


async def test_what_is_no_longer_held_does_not_count_as_given_back(cairn: AsyncCairn) -> None:
    name = await project(cairn, "work-not-held", 1)

    async def judge(jobs: Sequence[Job]) -> list[Release]:
        for job in jobs:
            await cairn.skip(job, "given back already")
        return [Release() for _ in jobs]

    worked = await cairn.work(name, judge, labeler="robot", idle=0.5)
    assert (worked.released, worked.skipped) == (0, 0)


async def test_a_run_that_makes_no_sense_is_refused(cairn: AsyncCairn) -> None:
    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        return [YES]

    with pytest.raises(NotFound):
        await cairn.work("no-such-project", judge)
    for size in ("batch", "failures"):
        with pytest.raises(InputError, match=f"{size} must be at least 1"):
            await cairn.work("work-all", judge, **{size: 0})  # type: ignore[arg-type]
    name = await project(cairn, "work-miscounted", 20)
    with pytest.raises(InputError, match=r"about 20 items, 'i\d+' first, .*verdicts, not of 1\."):
        await cairn.work(name, judge, labeler="robot", batch=20)
    await eventually(lambda: nothing_live(cairn, name))
    with pytest.raises(
        InputError, match=r"must return a list of as many verdicts, not \{'ok': 'yes'\} \(dict\)"
    ):
        await cairn.work(name, lambda jobs: YES, labeler="robot", batch=1)  # type: ignore[misc, arg-type, return-value]
    with pytest.raises(InputError, match=r"judge\(jobs\); this one takes \(\)"):
        await cairn.work(name, lambda: [YES], labeler="robot")  # type: ignore[misc, arg-type]
    with pytest.raises(InputError, match=r"judge\(jobs\), not 'judge' \(str\)"):
        await cairn.work(name, "judge", labeler="robot")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"Skip takes a reason in words, not 7 \(int\)"):
        Skip(7)  # type: ignore[arg-type]
    await eventually(lambda: nothing_live(cairn, name))


async def test_the_blocking_client_works_too(cairn: AsyncCairn, stack: PrivateStack) -> None:
    name = await project(cairn, "work-blocking", 20)

    def run() -> int:
        with Cairn(home=stack.home) as blocking:
            return blocking.work(name, lambda jobs: [YES for _ in jobs], labeler="robot", idle=0.5).answered

    assert await asyncio.to_thread(run) == 20
