"""The work loop of a machine labeler: leases ahead, judges in batches, submits behind, and loses nothing on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn_client.calls.job import Job
from cairn_client.errors import CairnError, InputError, error_of_status
from cairn_client.transport import Transport, worth_repeating
from cairn_client.words import counted, quoted
from cairn_client.working.doubts import Doubt, Doubts
from cairn_client.working.hand import Hand, Held
from cairn_client.working.streams import SubmissionStream
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

MOST_AHEAD = 10_000
"""Leases that may be asked for: what a stream allows."""
_LONGEST_REST = 0.5
"""Seconds after which the run looks anew whether there is work, which nothing tells it."""
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
        self._patience = transport.patience
        self._stirred = asyncio.Event()
        """Set when anything has happened that somebody may wait for."""
        self.worked = Worked()
        self._hand = Hand(
            calls,
            transport,
            header,
            capacity=pace.ahead,
            batch=min(pace.batch, pace.ahead),
            duration=pace.duration,
            worked=self.worked,
            stirred=self._stirred,
        )
        self._submissions = SubmissionStream(transport)
        self._later: set[asyncio.Task[None]] = set()
        self._doubts: Doubts[Held] = Doubts(pace.failures)
        self._known: Held | None = None
        """The item whose answer was kept last."""
        self._question: Held | None = None
        """That item, when the judge is to be asked about it once more."""
        self._asking = 0
        """Calls of the judge that go on."""
        self._ending = False
        self._broken: CairnError | None = None
        """Why the judge is not asked again: what the run ends with."""

    async def run(self) -> Worked:
        """Work until it is told to stop, or there has been no work for long enough.

        Raises JudgeFailed, InputError for what is no judge or leases too short to be kept, and the CairnError of a
        service that stays away or refuses the labeler. However it ends, leases that are not answered are given back.
        """
        try:
            async with asyncio.TaskGroup() as group:
                taking = group.create_task(self._hand.take())
                submitting = group.create_task(self._submissions.run())
                beside = [group.create_task(one) for one in (self._hand.see(), self._hand.keep_alive())]
                beside.append(group.create_task(self._heed_stop()))
                judging = [group.create_task(self._judge_all()) for _ in range(self._pace.parallel)]
                await self._until_the_end()
                await self._hand.take_no_more(taking)
                await asyncio.gather(*judging)
                await self._until(lambda: self._hand.settled)
                self._submissions.close()
                await submitting
                for task in beside:
                    task.cancel()
        except BaseExceptionGroup as failed:
            raise _cause(failed) from None
        finally:
            for task in self._later:
                task.cancel()
            await self._hand.give_back_all()
        if self._broken is not None:
            raise self._broken
        return self.worked

    # --- judging

    async def _judge_all(self) -> None:
        while await self._something_to_judge():
            known, self._question = self._question, None
            if known is not None:
                await self._ask_about(known)
            else:
                ready = self._hand.ready
                await self._judged([ready.popleft() for _ in range(min(self._pace.batch, len(ready)))])

    async def _something_to_judge(self) -> bool:
        """Wait for it; False when the run ends."""
        ready = self._hand.ready
        await self._until(
            lambda: self._ending or self._question is not None or (bool(ready) and not self._doubts.enough)
        )
        return not self._ending

    async def _judged(self, batch: Sequence[Held]) -> None:
        """Have items judged together; when that fails each by itself, so that a bad one does not fail its neighbours."""
        began, jobs = time.monotonic(), [held.job for held in batch]
        try:
            said = await self._said_of(jobs)
        except JudgeFailed as error:
            self._ask_no_more(error)
            return
        except Exception as error:
            if len(batch) == 1:
                self._failed(batch[0], error, time.monotonic())
            else:
                await self._judged_alone(batch)
            return
        took = timedelta(seconds=(time.monotonic() - began) / len(batch))
        try:
            verdicts = verdicts_in(said, jobs)
        except InputError as error:
            self._ask_no_more(error)
            return
        self._carry_out(batch, verdicts, took)

    async def _said_of(self, jobs: Sequence[Job]) -> object:
        self._asking += 1
        try:
            return await asked(self._judge, jobs)
        finally:
            self._asking -= 1

    async def _judged_alone(self, batch: Sequence[Held]) -> None:
        for held in batch:
            await self._until(lambda: self._ending or not self._doubts.enough)
            if self._ending:  # what is left is given back
                return
            await self._judged([held])

    def _carry_out(self, batch: Sequence[Held], verdicts: Sequence[Verdict], took: timedelta) -> None:
        now = time.monotonic()
        answered: list[Held] = []
        requests: list[store.SubmitAnnotationRequest] = []
        for held, verdict in zip(batch, verdicts, strict=True):
            if isinstance(verdict, Skip):
                self.worked.skipped += 1
                self._hand.give_back(held, verdict.reason)
            elif isinstance(verdict, Release):
                self._hand.give_back(held)
            else:
                try:
                    request = self._calls.submission(held.job, verdict, took)
                except InputError as error:
                    self._failed(held, error, now)
                    continue
                request.lease_token = held.lease.token  # it may have been extended
                held.judged_at = now
                answered.append(held)
                requests.append(request)
        if answered:
            self._submit(answered, requests, now)

    # --- failures: of the item when the judge answers others, else of the judge

    def _failed(self, held: Held, error: Exception, judged_at: float) -> None:
        doubt = Doubt(held, held.lease.item, error, judged_at)
        if self._doubts.add(doubt):
            self._hand.set_aside(held)
        else:
            self._blame_the_item(doubt)

    def _was_sound(self, at: float) -> None:
        if self._broken is None:
            ended, aside = self._doubts.kept(at), self._hand.aside
            for doubt in ended:
                if doubt.of in aside:  # else it is judged again just now, or settled
                    self._blame_the_item(doubt)

    def _settle_doubts(self) -> None:
        dry = self._hand.dry_since is not None
        if self._doubts and self._doubts.condemn_the_judge(self._unacknowledged, dry):
            self._blame_the_judge()
        elif self._hand.failed_again and not self._asking:
            self._question_the_judge()

    def _question_the_judge(self) -> None:
        """Nothing else is left that could tell whether the judge is sound, but an item that it has answered."""
        if self._known is None or self._known.over:  # its content may not be had any more
            self._was_sound(time.monotonic())
        else:
            self._question = self._known
            self._stirred.set()

    async def _ask_about(self, known: Held) -> None:
        """Have the judge judge an item that it has answered, and look at nothing but whether it can."""
        try:
            [verdict] = verdicts_in(await self._said_of([known.job]), [known.job])
            if not isinstance(verdict, Skip | Release):
                self._calls.submission(known.job, verdict, None)
        except JudgeFailed as error:
            self._ask_no_more(error)
        except Exception as error:
            self._doubts.add(Doubt(known, known.lease.item, error, time.monotonic()))
            self._blame_the_judge()
        else:
            self._was_sound(time.monotonic())

    @property
    def _unacknowledged(self) -> float:
        """When the newest answer that may still tell was judged; what is being judged will be the newest."""
        return float("inf") if self._asking else self._hand.unacknowledged

    def _blame_the_item(self, doubt: Doubt[Held]) -> None:
        self._hand.fail(doubt.of, f"It could not be judged: {_words(doubt.error)}")

    def _blame_the_judge(self) -> None:
        last, failures = self._doubts.last, counted(len(self._doubts), "item")
        failed = JudgeFailed(
            f"The judge failed at {failures} with no answer in between; what was not skipped comes again."
            f" The last was {quoted(last.of.job.key)}: {_words(last.error)}"
        )
        failed.__cause__ = last.error
        self._ask_no_more(failed)

    def _ask_no_more(self, error: CairnError) -> None:
        """End the run with this error, when what was answered before is kept."""
        self._broken = self._broken or error
        self._end()

    # --- submitting

    def _submit(
        self, answered: Sequence[Held], requests: Sequence[store.SubmitAnnotationRequest], since: float
    ) -> None:
        self._submissions.submit(requests, partial(self._told, answered, requests, since))

    def _told(
        self,
        answered: Sequence[Held],
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
                self._known = held
                self.worked.answered += 1
                self.worked.late += result.annotation.late
                self._hand.let_go(held)
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
                self._hand.lost(held)
            else:
                self._failed(held, error, since)
        if again:
            self._start(
                self._submit_later(delay, [answered[i] for i in again], [requests[i] for i in again], since)
            )

    async def _submit_later(
        self,
        delay: float,
        answered: Sequence[Held],
        requests: Sequence[store.SubmitAnnotationRequest],
        since: float,
    ) -> None:
        await asyncio.sleep(delay)
        self._submit(answered, requests, since)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    # --- the end

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._stirred.clear()
            await self._stirred.wait()

    async def _heed_stop(self) -> None:
        await self._stop.wait()
        self._end()

    def _end(self) -> None:
        self._ending = True
        self._stirred.set()

    async def _until_the_end(self) -> None:
        """Wait until the run is told to stop, has been idle for long enough, or has no judge any more."""
        while not self._ending:
            self._stirred.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_REST):
                    await self._stirred.wait()
            self._settle_doubts()
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        idle, since = self._pace.idle, self._hand.dry_since
        if self._ending or idle is None or since is None or time.monotonic() - since < idle:
            return
        if aside := [held for held in self._hand.aside if not held.again]:
            self._hand.judge_again(aside)
        elif not self._hand.aside:
            self._end()


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, CairnError) else f"{type(error).__name__}: {error}"


def _cause(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failed.exceptions[0]
    return _cause(first) if isinstance(first, BaseExceptionGroup) else first
