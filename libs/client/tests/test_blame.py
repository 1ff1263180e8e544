"""Whose fault it is when a judge fails, on a private stack: a bad item is skipped, and for a broken judge none is."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import pytest

from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn_client import (
    AsyncCairn,
    Job,
    JudgeFailed,
    Skip,
)
from cairn_client.working.hand import Held
from cairn_kit.testing import eventually
from libs.client.tests.test_working import YES, answers, cairn_has, nothing_live, project

pytestmark = pytest.mark.timeout(400)


async def test_a_bad_item_is_skipped_with_the_reason_and_its_neighbours_are_answered(
    cairn: AsyncCairn,
) -> None:
    name = await project(cairn, "work-bad", 30)

    def judge(jobs: Sequence[Job]) -> list[object]:
        if any(job.key == "i0007" for job in jobs):
            raise ValueError("no such picture")
        verdicts: list[object] = [YES for _ in jobs]
        for i, job in enumerate(jobs):
            if job.key == "i0011":
                verdicts[i] = {"ok": "perhaps"}  # no class of the question
            elif job.key == "i0012":
                verdicts[i] = {"ok": 7}  # no class at all
            elif job.key == "i0013":
                verdicts[i] = Skip("too dark")
        return verdicts

    worked = await cairn.work(name, judge, labeler="robot", batch=10, idle=1.0)  # type: ignore[arg-type]
    assert (worked.answered, worked.failed, worked.skipped) == (26, 3, 1)
    assert (await cairn.queue(name)).live_leases == 0
    left = {job.key for job in await cairn.lease(name, 30, labeler="ann", wait=5)}
    assert left == {"i0007", "i0011", "i0012", "i0013"}, "they are for somebody else"
    assert not await cairn.lease(name, 30, labeler="robot")


async def test_a_judge_that_fails_at_everything_ends_the_run_before_it_skips_the_project(
    cairn: AsyncCairn,
) -> None:
    name = await project(cairn, "work-broken", 100)

    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        raise OSError("the model is not there")

    with pytest.raises(JudgeFailed, match=r"failed at 5 items .*'i0\d+': OSError: the model is not there"):
        await cairn.work(name, judge, labeler="robot", batch=20, failures=5)
    await eventually(lambda: nothing_live(cairn, name))
    assert not await answers(cairn, name)
    assert len(await cairn.lease(name, 100, labeler="robot")) == 100, "none is skipped"


async def test_a_judge_that_breaks_down_in_the_middle_skips_nothing_for_it(cairn: AsyncCairn) -> None:
    name, asked_about = await project(cairn, "work-broke", 60), 0

    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        nonlocal asked_about
        asked_about += len(jobs)
        if asked_about > 20:
            raise OSError("the model has gone")
        return [YES for _ in jobs]

    with pytest.raises(JudgeFailed, match="the model has gone"):
        await cairn.work(name, judge, labeler="robot", batch=10)
    await eventually(lambda: nothing_live(cairn, name))
    worked = await cairn.work(name, lambda jobs: [YES for _ in jobs], labeler="robot", idle=1.0)
    assert worked.answered == 40


async def test_a_judge_that_fails_at_the_few_items_there_are_skips_none_and_says_why(
    cairn: AsyncCairn,
) -> None:
    name = await project(cairn, "work-few", 3)

    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        return [next(iter([])) for _ in jobs]

    with pytest.raises(JudgeFailed, match=r"failed at 3 items .*StopIteration"):
        await cairn.work(name, judge, labeler="robot", ahead=1)  # it would wait for ever for others
    await eventually(lambda: nothing_live(cairn, name))
    assert len(await cairn.lease(name, 3, labeler="robot")) == 3


def fails_after(answers: int, asked_about: list[str]) -> Callable[[Sequence[Job]], list[dict[str, str]]]:
    """A judge that notes whom it is asked about, and fails at all items that come after so many."""
    good: list[str] = []

    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        asked_about.extend(job.key for job in jobs)
        good.extend(job.key for job in jobs if len(good) < answers)
        if any(job.key not in good for job in jobs):
            raise ValueError("no such picture")
        return [YES for _ in jobs]

    return judge


@pytest.mark.parametrize("bad", [1, 2])
async def test_the_last_items_are_skipped_when_they_fail_again_and_a_run_without_end_goes_on(
    cairn: AsyncCairn, bad: int
) -> None:
    name, stop, asked_about = await project(cairn, f"work-last-{bad}", 3 + bad), asyncio.Event(), list[str]()
    judge = fails_after(3, asked_about)
    work = asyncio.create_task(
        cairn.work(
            name, judge, labeler="robot", batch=1, failures=3, duration=timedelta(seconds=4), stop=stop
        )
    )
    skipped: list[str] = []

    async def all_asked_about() -> bool:
        return len(asked_about) == 3 + bad

    async def all_skipped() -> bool:
        skipped.extend(job.key for job in await cairn.lease(name, bad, labeler="ann"))
        return len(skipped) == bad

    await eventually(all_asked_about, timeout=60)
    await eventually(all_skipped, timeout=60)
    known = asked_about[-1]
    assert known in asked_about[:3], "that it can still answer is tried before they are skipped"
    assert Counter(asked_about) == dict.fromkeys(asked_about[:3], 1) | dict.fromkeys((*skipped, known), 2)
    assert not work.done()
    stop.set()
    worked = await work
    assert (worked.answered, worked.failed, worked.released) == (3, bad, 0)


async def test_the_last_items_are_judged_once_more_before_a_run_ends_as_idle(cairn: AsyncCairn) -> None:
    name, asked_about = await project(cairn, "work-last-idle", 5), list[str]()
    judge = fails_after(3, asked_about)
    worked = await cairn.work(name, judge, labeler="robot", batch=1, idle=1.0)
    assert (worked.answered, worked.failed, worked.released) == (3, 2, 0)
    assert sorted(Counter(asked_about).values()) == [1, 1, 2, 2, 2], "and one that it had answered, too"
    assert await answers(cairn, name) == dict.fromkeys(asked_about[:3], 1)
    assert not await cairn.lease(name, 5, labeler="robot")
    assert len(await cairn.lease(name, 5, labeler="ann", wait=5)) == 2


@pytest.mark.parametrize("idle", [None, 1.0])
async def test_a_judge_that_breaks_down_where_few_items_are_left_skips_none(
    cairn: AsyncCairn, idle: float | None
) -> None:
    name, asked_about = await project(cairn, f"work-broke-late-{idle is None}".lower(), 5), list[str]()

    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        asked_about.extend(job.key for job in jobs)
        if len(asked_about) > 3:
            raise OSError("the model has gone")
        return [YES]

    async with asyncio.timeout(60):
        with pytest.raises(JudgeFailed, match=r"failed at 3 items .* 'i\d+': OSError: the model has gone"):
            await cairn.work(name, judge, labeler="robot", batch=1, idle=idle, duration=timedelta(seconds=4))
    assert sorted(Counter(asked_about).values()) == [1, 1, 2, 2, 2]
    assert len(await cairn.lease(name, 5, labeler="robot", wait=5)) == 2


async def test_the_last_items_are_skipped_where_what_was_answered_can_be_judged_no_more(
    cairn: AsyncCairn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Held, "over", True)
    name, asked_about = await project(cairn, "work-last-over", 3), list[str]()
    worked = await cairn.work(name, fails_after(1, asked_about), labeler="robot", batch=1, idle=1.0)
    assert (worked.answered, worked.failed) == (1, 2)
    assert sorted(Counter(asked_about).values()) == [1, 2, 2]


async def test_what_failed_once_is_answered_where_it_goes_well_the_second_time(cairn: AsyncCairn) -> None:
    name, asked_about = await project(cairn, "work-recovers", 4), list[str]()

    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        asked_about.extend(job.key for job in jobs)
        if 1 < len(asked_about) <= 4:
            raise OSError("the model is busy")
        return [YES]

    worked = await cairn.work(name, judge, labeler="robot", batch=1, ahead=4, idle=1.0)
    assert (worked.answered, worked.failed, worked.released) == (4, 0, 0)
    assert await answers(cairn, name) == {f"i{n:04d}": 1 for n in range(4)}


async def test_a_judge_that_breaks_down_where_items_come_one_by_one_is_known_by_the_failures_in_a_row(
    cairn: AsyncCairn,
) -> None:
    name, asked_about = await project(cairn, "work-trickle", 0), list[str]()

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        asked_about.extend(job.key for job in jobs)
        if len(asked_about) > 1:
            raise OSError("the model has gone")
        return [YES]

    async def is_judged(key: str) -> bool:
        return key in asked_about

    work = asyncio.create_task(cairn.work(name, judge, labeler="robot", batch=1, failures=4))
    for key in ("first", "a", "b", "c", "d"):
        # When another has had no work for a second, the first has none either.
        await cairn.work(name, lambda jobs: [YES for _ in jobs], labeler="other", idle=1.0)
        await cairn.import_items(name, [(key, "text")])
        await eventually(partial(is_judged, key), timeout=60)
    with pytest.raises(JudgeFailed, match=r"failed at 4 items .*'d': OSError: the model has gone"):
        await asyncio.wait_for(work, 60)
    left = {job.key for job in await cairn.lease(name, 5, labeler="robot", wait=5)}
    assert left == {"a", "b", "c", "d"}


async def test_what_is_set_aside_is_given_back_when_the_run_is_stopped(cairn: AsyncCairn) -> None:
    name, stop, asked_about = await project(cairn, "work-aside", 3), asyncio.Event(), list[str]()

    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        asked_about.extend(job.key for job in jobs)
        if len(asked_about) == 1:
            return [YES]
        raise ValueError("no such picture")

    async def all_asked_about() -> bool:
        return len(asked_about) == 3

    work = asyncio.create_task(cairn.work(name, judge, labeler="robot", batch=1, stop=stop))
    await eventually(all_asked_about, timeout=60)
    stop.set()
    worked = await work
    assert (worked.answered, worked.failed, worked.released) == (1, 0, 2)
    assert len(await cairn.lease(name, 3, labeler="robot", wait=5)) == 2


async def test_a_sound_judge_is_not_blamed_while_another_call_of_it_goes_on(cairn: AsyncCairn) -> None:
    name, third, failed = await project(cairn, "work-slow", 8), asyncio.Event(), 0
    slow: list[str] = []

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        nonlocal failed
        if not slow:
            slow.append(jobs[0].key)
            await third.wait()
            for _ in range(3):  # a run that were to blame somebody now would have done so
                await cairn.queue(name)
        elif failed < 3:
            failed += 1
            if failed == 3:
                third.set()
            raise ValueError("no such picture")
        return [YES]

    worked = await cairn.work(name, judge, labeler="robot", batch=1, parallel=2, failures=3, idle=1.0)
    assert (worked.answered, worked.failed) == (5, 3)


async def test_a_sound_judge_is_not_blamed_while_its_answers_are_on_their_way(cairn: AsyncCairn) -> None:
    name, places = await project(cairn, "work-behind", 100), dict[str, int]()

    async def judge(
        jobs: Sequence[Job],
    ) -> list[dict[str, str]]:  # never lets an acknowledgement come between
        if any(places.setdefault(job.key, len(places)) % 8 == 7 for job in jobs):  # they come in any order
            raise ValueError("no such picture")
        return [YES for _ in jobs]

    worked = await cairn.work(name, judge, labeler="robot", batch=100, failures=3, idle=1.0)
    assert (worked.answered, worked.failed) == (88, 12)


async def test_once_the_judge_is_given_up_no_answer_of_before_makes_an_item_skipped(
    cairn: AsyncCairn,
) -> None:
    name, calls = await project(cairn, "work-gone", 3), 0

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("no such picture")
        if calls == 3:
            raise JudgeFailed("out of memory")
        return [YES]

    with pytest.raises(JudgeFailed, match="out of memory"):
        await cairn.work(name, judge, labeler="robot", batch=1)
    assert len(await answers(cairn, name)) == 1, "what it answered is kept"
    assert len(await cairn.lease(name, 3, labeler="robot", wait=5)) == 2


async def test_a_run_that_waits_for_work_ends_when_its_judge_does(cairn: AsyncCairn) -> None:
    name = await project(cairn, "work-idle", 0)

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        raise JudgeFailed("out of memory")

    work = asyncio.create_task(cairn.work(name, judge, labeler="robot", idle=300.0))
    await cairn.work(
        name, judge, labeler="other", idle=2.0
    )  # so long there has been no work for the first, too
    await cairn.import_items(name, [("a", "text")])
    with pytest.raises(JudgeFailed, match="out of memory"):
        await asyncio.wait_for(work, 60)
    await eventually(lambda: nothing_live(cairn, name))


async def test_a_judge_that_says_that_it_is_broken_ends_the_run_at_once(cairn: AsyncCairn) -> None:
    name, calls = await project(cairn, "work-knows", 30), 0

    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        nonlocal calls
        calls += 1
        raise JudgeFailed("out of memory")

    with pytest.raises(JudgeFailed, match=r"^out of memory$"):
        await cairn.work(name, judge, labeler="robot", batch=10)
    assert calls == 1
    await eventually(lambda: nothing_live(cairn, name))
    assert len(await cairn.lease(name, 30, labeler="robot")) == 30


@pytest.mark.parametrize("kind", ["function", "coroutine"])
async def test_a_judge_that_exits_ends_its_run_and_nothing_else(cairn: AsyncCairn, kind: str) -> None:
    name = await project(cairn, f"work-exit-{kind}", 3)

    def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        sys.exit(4)

    async def judge_too(jobs: Sequence[Job]) -> list[dict[str, str]]:
        return judge(jobs)

    with pytest.raises(JudgeFailed, match=r"sys\.exit\(4\)"):
        await cairn.work(name, judge if kind == "function" else judge_too, labeler="robot")
    assert len(await cairn.lease(name, 3, labeler="robot", wait=5)) == 3


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (None, r"None \(NoneType\) .*expected \{question id: value\}"),
        ("yes", r"'yes' \(str\) .*expected \{question id: value\}"),
        (Skip, r"Skip.*expected \{question id: value\}"),
        ({"mood": "yes"}, "no question 'mood'; it has ok"),
        ({1: "yes"}, "no question '1'; it has ok"),
        ({"ok": 7}, "7 is not an answer to 'ok', which asks for choice"),
    ],
)
async def test_a_verdict_of_a_wrong_form_is_told_with_its_item(
    cairn: AsyncCairn, verdict: object, told: str
) -> None:
    if not await cairn_has(cairn, "work-forms"):
        await project(cairn, "work-forms", 1)
    with pytest.raises(JudgeFailed, match=rf"'i0000': .*{told}"):
        await cairn.work("work-forms", lambda jobs: [verdict for _ in jobs], labeler="robot")  # type: ignore[misc, arg-type, return-value]
    await eventually(lambda: nothing_live(cairn, "work-forms"))


async def test_what_was_set_aside_is_not_blamed_once_its_lease_has_ended(cairn: AsyncCairn) -> None:
    name, ended = await project(cairn, "work-aside-ended", 2), asyncio.Event()

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        [job] = jobs
        if not ended.is_set():
            ended.set()
            await cairn.skip(job, "given back already")
            raise ValueError("no such picture")

        async def extended_twice() -> bool:
            request = dispatch.GetLeaseRequest(name=job.lease.name)
            lease = await cairn.transport.call(cairn.transport.dispatch.GetLease, request)
            return lease.expire_time.ToMilliseconds() - job.lease.expire_time.ToMilliseconds() > 3000

        await eventually(extended_twice, timeout=60)
        return [YES]

    worked = await cairn.work(name, judge, labeler="robot", batch=1, duration=timedelta(seconds=3), idle=0.5)
    assert (worked.answered, worked.failed, worked.lost) == (1, 0, 1)


async def test_what_fails_when_its_lease_has_ended_is_not_blamed_either(cairn: AsyncCairn) -> None:
    name, extended, failed = await project(cairn, "work-ended-first", 2), asyncio.Event(), asyncio.Event()

    async def judge(jobs: Sequence[Job]) -> list[dict[str, str]]:
        [job] = jobs
        if not skipped:
            skipped.append(job.key)
            await cairn.skip(job, "given back already")
            await extended.wait()
            failed.set()
            raise ValueError("no such picture")

        async def extended_twice() -> bool:
            request = dispatch.GetLeaseRequest(name=job.lease.name)
            lease = await cairn.transport.call(cairn.transport.dispatch.GetLease, request)
            return lease.expire_time.ToMilliseconds() - job.lease.expire_time.ToMilliseconds() > 3000

        await eventually(extended_twice, timeout=60)
        extended.set()
        await failed.wait()
        return [YES]

    skipped: list[str] = []
    worked = await cairn.work(
        name, judge, labeler="robot", batch=1, parallel=2, duration=timedelta(seconds=3), idle=0.5
    )
    assert (worked.answered, worked.failed, worked.lost) == (1, 0, 1)
