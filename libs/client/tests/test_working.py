"""Machine labelers on a private stack: everything is answered once, whatever breaks, and nothing is held at the end."""

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
    Cairn,
    InputError,
    Job,
    JudgeFailed,
    NotFound,
    Release,
    Skip,
    item_key,
)
from cairn_client.working.hand import Held
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
