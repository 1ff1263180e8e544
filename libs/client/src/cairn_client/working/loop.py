"""The work loop of a machine labeler: leases ahead, judges in batches, submits behind, and loses nothing on the way."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn_client.calls.job import Job
from cairn_client.errors import CairnError, InputError, error_of_status
from cairn_client.names import item_key
from cairn_client.transport import Transport, worth_repeating
from cairn_client.words import counted, quoted
from cairn_client.working.streams import LeaseStream, SubmissionStream
from cairn_client.working.verdicts import (
    Judge,
    JudgeFailed,
    Release,
    Skip,
    Verdict,
    Worked,
    asked,
    verdicts_in,
)

if TYPE_CHECKING:
    from cairn_client.calls.work import WorkCalls

_SHOWN_AT_ONCE = 50
"""Items asked for in one call: of the largest texts, 200 KiB each, no more than an answer may hold."""
MOST_AHEAD = 10_000
"""Leases that may be asked for: what a stream allows."""
_GOODBYE = 5.0
"""Seconds in which a run that ended by an error gives back what it holds; what is left ends with its time."""
_LONGEST_REASON = 2000
_LOOK_AT_LEASES = 0.5
"""Seconds between looks for leases that need more time, and for what the failures of the judge mean."""
SHORTEST = 2.0
"""Seconds that a lease must last. More time is asked for by the first look after half of it, so that of the shortest a
quarter is left for the call, and for the way on which the lease came."""
_NO_MORE_WORK = ("PROJECT_ARCHIVED", "PROJECT_NOT_FOUND")
"""Reasons for which no answer will be taken any more: no judge's fault, and the end of the run."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a run works: `batch` items to a call of the judge, `parallel` calls of it at once, `ahead` leases held at most;
    it ends after `idle` seconds without work (None: never), or when the judge failed at `failures` items in a row. A lease
    lasts for `duration` (None: as the project says)."""

    batch: int
    ahead: int
    parallel: int
    idle: float | None
    failures: int
    duration: timedelta | None


@dataclass(slots=True, eq=False)
class _Held:
    """A lease in hand: its newest token, how many seconds it lasts, and when it is asked to last longer."""

    lease: dispatch.Lease
    lasts: float
    extend_at: float
    job: Job | None = None
    judged: bool = False


@dataclass(frozen=True, slots=True)
class _Doubt:
    """An item that the judge failed at: whether the one is broken or the other, the next answer tells."""

    held: _Held
    error: Exception
    judged_at: float


class WorkLoop:
    """One run of a machine labeler."""

    def __init__(
        self,
        calls: WorkCalls,
        transport: Transport,
        header: dispatch.LeaseStreamHeader,
        judge: Judge,
        pace: Pace,
        stop: asyncio.Event,
    ) -> None:
        self._calls = calls
        self._judge = judge
        self._pace = pace
        self._stop = stop
        self._leases = LeaseStream(
            transport, header, self._took, capacity=pace.ahead, batch=min(pace.batch, pace.ahead)
        )
        self._submissions = SubmissionStream(transport)
        self._patience = transport.patience
        self._held: dict[str, _Held] = {}
        self._unseen: asyncio.Queue[Sequence[_Held]] = asyncio.Queue()
        self._ready: deque[_Held] = deque()
        self._stirred = asyncio.Condition()
        self._moved = asyncio.Event()
        self._let_go_at = time.monotonic()
        self._doubts: list[_Doubt] = []
        self._sound_at = float("-inf")
        """When the judge last gave an answer that was kept."""
        self._ending = False
        self._broken: CairnError | None = None
        """Why the judge is not asked again: what the run ends with."""
        self._beside: set[asyncio.Task[None]] = set()
        self.worked = Worked()

    async def run(self) -> Worked:
        """Work until it is told to stop, or there has been no work for long enough.

        Raises JudgeFailed, InputError for what is no judge or leases too short to be kept, and the CairnError of a
        service that stays away or refuses the labeler. However it ends, leases that are not answered are given back.
        """
        try:
            async with asyncio.TaskGroup() as group:
                leasing = group.create_task(self._leases.run())
                submitting = group.create_task(self._submissions.run())
                beside = [group.create_task(self._see()), group.create_task(self._keep_alive())]
                judging = [group.create_task(self._judge_all()) for _ in range(self._pace.parallel)]
                await self._until_the_end()
                await self._stop_leasing(leasing)
                await asyncio.gather(*judging)
                await self._until_settled()
                self._submissions.close()
                await submitting
                for task in beside:
                    task.cancel()
        except BaseExceptionGroup as failed:
            raise _cause(failed) from None
        finally:
            await self._give_back_all()
        if self._broken is not None:
            raise self._broken
        return self.worked

    # --- leases come and go

    def _took(self, leases: Sequence[dispatch.Lease]) -> None:
        held = [_in_hand(lease) for lease in leases]
        self._held.update((one.lease.name, one) for one in held)
        if self._pace.duration is None:
            for one in held:
                check_duration(one.lasts)
        for start in range(0, len(held), _SHOWN_AT_ONCE):
            self._unseen.put_nowait(held[start : start + _SHOWN_AT_ONCE])

    def _let_go(self, held: _Held) -> None:
        if self._held.pop(held.lease.name, None) is not None:
            self._leases.finished(1)
            self._let_go_at = time.monotonic()
            self._moved.set()

    async def _see(self) -> None:
        """Get the items of leases, for ever."""
        while True:
            some = [held for held in await self._unseen.get() if held.lease.name in self._held]
            for held, job in zip(some, await self._calls.jobs([one.lease for one in some]), strict=True):
                held.job = job
                if job.item is not None:
                    self._ready.append(held)
                elif job.error is not None and job.error.reason == "LEASE_TOKEN_EXPIRED":
                    self._lost(held)
                else:
                    self._fails(held, f"The item cannot be seen: {job.error}")
            async with self._stirred:
                self._stirred.notify_all()

    async def _keep_alive(self) -> None:
        """Ask for more time for what is not judged yet, for ever."""
        while True:
            await asyncio.sleep(_LOOK_AT_LEASES)
            now = time.monotonic()
            due = [held for held in self._unanswered() if held.extend_at <= now]
            await asyncio.gather(*map(self._extend, due))

    async def _extend(self, held: _Held) -> None:
        try:
            held.lease = await self._calls.extend(held.lease, self._pace.duration)
            held.extend_at = _half_way(held.lasts)
        except CairnError:
            # It has ended. What is being judged is submitted all the same: a late answer is kept.
            held.extend_at = float("inf")
            if held in self._ready:
                self._ready.remove(held)
                self._lost(held)

    def _unanswered(self) -> list[_Held]:
        held = [one for one in self._held.values() if not one.judged]
        return [*held, *(doubt.held for doubt in self._doubts)]

    def _lost(self, held: _Held) -> None:
        self.worked.lost += 1
        self._let_go(held)

    # --- judging

    async def _judge_all(self) -> None:
        while batch := await self._next_batch():
            await self._judged(batch)

    async def _next_batch(self) -> list[_Held]:
        """The next items to judge; none when the run ends."""
        async with self._stirred:
            await self._stirred.wait_for(lambda: self._ready or self._ending)
        if self._ending:
            return []
        return [self._ready.popleft() for _ in range(min(self._pace.batch, len(self._ready)))]

    async def _judged(self, batch: Sequence[_Held]) -> None:
        """Have items judged together; when that fails each by itself, so that a bad one does not fail its neighbours."""
        began, jobs = time.monotonic(), [_job(held) for held in batch]
        try:
            said = await asked(self._judge, jobs)
        except JudgeFailed as error:
            self._ask_no_more(error)
            return
        except Exception as error:
            if len(batch) == 1:
                self._failed(batch[0], error, time.monotonic())
                return
            for held in batch:
                if not self._ending:  # what is left then is given back
                    await self._judged([held])
            return
        took = timedelta(seconds=(time.monotonic() - began) / len(batch))
        try:
            verdicts = verdicts_in(said, jobs)
        except InputError as error:
            self._ask_no_more(error)
            return
        self._carry_out(batch, verdicts, took)

    def _carry_out(self, batch: Sequence[_Held], verdicts: Sequence[Verdict], took: timedelta) -> None:
        answered: list[_Held] = []
        requests: list[store.SubmitAnnotationRequest] = []
        for held, verdict in zip(batch, verdicts, strict=True):
            if isinstance(verdict, Skip):
                self.worked.skipped += 1
                self._start(self._skip(held, verdict.reason))
            elif isinstance(verdict, Release):
                self._start(self._release(held))
            else:
                try:
                    request = self._calls.submission(_job(held), verdict, took)
                except InputError as error:
                    self._failed(held, error, time.monotonic())
                    continue
                request.lease_token = held.lease.token  # it may have been extended
                held.judged = True
                answered.append(held)
                requests.append(request)
        if answered:
            self._submit(answered, requests, time.monotonic())

    # --- failures: of the item when the judge answers others, else of the judge

    def _failed(self, held: _Held, error: Exception, judged_at: float) -> None:
        doubt = _Doubt(held, error, judged_at)
        if judged_at <= self._sound_at:
            self._blame_the_item(doubt)
            return
        self._let_go(held)  # it takes no room from those that will tell
        self._doubts.append(doubt)
        if len(self._doubts) >= self._pace.failures:
            self._blame_the_judge()

    def _was_sound(self, at: float) -> None:
        self._sound_at = max(self._sound_at, at)
        doubts, self._doubts = self._doubts, []
        for doubt in doubts:
            if doubt.judged_at <= self._sound_at:
                self._blame_the_item(doubt)
            else:
                self._doubts.append(doubt)

    def _settle_doubts(self) -> None:
        """Decide where there is no other item that would tell: whoever answered before is taken for sound."""
        if not self._doubts or self._held or self._leases.dry_since is None:
            return
        if self.worked.answered:
            self._was_sound(time.monotonic())
        else:
            self._blame_the_judge()

    def _blame_the_item(self, doubt: _Doubt) -> None:
        self._fails(doubt.held, f"It could not be judged: {_words(doubt.error)}")

    def _fails(self, held: _Held, why: str) -> None:
        self.worked.failed += 1
        self.worked.last_failure = f"{quoted(item_key(held.lease.item))}: {why}"
        self._start(self._skip(held, why))

    def _blame_the_judge(self) -> None:
        last, failures = self._doubts[-1], counted(len(self._doubts), "item")
        failed = JudgeFailed(
            f"The judge failed at {failures} with no answer in between; what it failed at comes again."
            f" The last was {quoted(_job(last.held).key)}: {_words(last.error)}"
        )
        failed.__cause__ = last.error
        self._ask_no_more(failed)

    def _ask_no_more(self, error: CairnError) -> None:
        """End the run with this error, when what was answered before is kept."""
        self._broken, self._ending = self._broken or error, True

    # --- submitting

    def _submit(
        self, answered: Sequence[_Held], requests: Sequence[store.SubmitAnnotationRequest], since: float
    ) -> None:
        self._submissions.submit(requests, partial(self._told, answered, requests, since))

    def _told(
        self,
        answered: Sequence[_Held],
        requests: Sequence[store.SubmitAnnotationRequest],
        since: float,
        results: Sequence[store.SubmitAnnotationResult],
    ) -> None:
        again: list[int] = []
        delay = 0.0
        if any(result.HasField("annotation") for result in results):
            self._was_sound(since)
        for i, (held, result) in enumerate(zip(answered, results, strict=True)):
            if result.HasField("annotation"):
                self.worked.answered += 1
                self.worked.late += result.annotation.late
                self._let_go(held)
                continue
            error = error_of_status(result.error)
            if worth_repeating(error):
                if time.monotonic() - since > self._patience.call:
                    raise error
                delay = max(delay, self._patience.delay(1, error.problem.retry_after))
                again.append(i)
            elif error.reason in _NO_MORE_WORK:
                raise error
            elif error.reason in ("ALREADY_ANSWERED", "LEASE_ALREADY_ANSWERED"):
                self._lost(held)
            else:
                self._failed(held, error, since)
        if again:
            self._start(
                self._submit_later(delay, [answered[i] for i in again], [requests[i] for i in again], since)
            )

    async def _submit_later(
        self,
        delay: float,
        answered: Sequence[_Held],
        requests: Sequence[store.SubmitAnnotationRequest],
        since: float,
    ) -> None:
        await asyncio.sleep(delay)
        self._submit(answered, requests, since)

    # --- giving back

    async def _skip(self, held: _Held, reason: str) -> None:
        # A lease that has ended is nobody's to give back.
        with suppress(CairnError):
            await self._calls.skip(held.lease, reason[:_LONGEST_REASON] or "no reason was given")
        self._let_go(held)

    async def _release(self, held: _Held) -> None:
        with suppress(CairnError):
            await self._calls.release(held.lease)
        self._let_go(held)
        self.worked.released += 1

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._is_done)

    def _is_done(self, task: asyncio.Task[None]) -> None:
        self._beside.discard(task)
        self._moved.set()

    # --- the end

    async def _until_the_end(self) -> None:
        """Wait until the run is told to stop, has been idle for long enough, or has no judge any more."""
        while not self._stop.is_set() and not self._ending:
            self._settle_doubts()
            left = _LOOK_AT_LEASES
            dry_since = None if self._held else self._leases.dry_since
            if self._pace.idle is not None and dry_since is not None:
                left = max(dry_since, self._let_go_at) + self._pace.idle - time.monotonic()
                if left <= 0:
                    break
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._stop.wait()

    async def _stop_leasing(self, leasing: asyncio.Task[None]) -> None:
        self._ending = True
        async with self._stirred:
            self._stirred.notify_all()
        self._leases.stop()
        await asyncio.wait([leasing], timeout=_GOODBYE)
        leasing.cancel()

    async def _until_settled(self) -> None:
        """Wait until what was judged is kept, or given back."""
        while self._beside or any(held.judged for held in self._held.values()):
            self._moved.clear()
            await self._moved.wait()

    async def _give_back_all(self) -> None:
        for task in self._beside:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await asyncio.gather(*map(self._release, self._unanswered()))


def check_duration(seconds: float) -> None:
    """Raise InputError for leases that would be over before they can be extended."""
    if seconds < SHORTEST:
        raise InputError(
            f"Leases of {seconds:g} s are too short to be extended in time: a run needs {SHORTEST:g} s or more"
            " (`duration`, or --lease)."
        )


def _in_hand(lease: dispatch.Lease) -> _Held:
    lasts = (lease.expire_time.ToNanoseconds() - lease.create_time.ToNanoseconds()) / 1e9
    return _Held(lease, lasts, _half_way(lasts))


def _half_way(seconds: float) -> float:
    """When half of a lease's time is over, by our clock: the service's may be another."""
    return time.monotonic() + seconds / 2


def _job(held: _Held) -> Job:
    if held.job is None:
        raise RuntimeError(f"{held.lease.name} is judged before it was seen")
    return held.job


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, CairnError) else f"{type(error).__name__}: {error}"


def _cause(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failed.exceptions[0]
    return _cause(first) if isinstance(first, BaseExceptionGroup) else first
