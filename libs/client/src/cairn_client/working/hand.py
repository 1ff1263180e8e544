"""The leases in a run's hand: they come ahead, are shown, are kept alive until they are answered, and are given back."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn_client.calls.job import Job
from cairn_client.errors import CairnError, InputError
from cairn_client.names import item_key
from cairn_client.transport import Transport
from cairn_client.words import quoted
from cairn_client.working.streams import LeaseStream
from cairn_client.working.verdicts import Worked

if TYPE_CHECKING:
    from cairn_client.calls.work import WorkCalls

_SHOWN_AT_ONCE = 50
"""Items asked for in one call: of the largest texts, 200 KiB each, no more than an answer may hold."""
_GOODBYE = 5.0
"""Seconds in which a run that ends takes what is on its way, and gives back what it holds; the rest ends with its time."""
_LONGEST_REASON = 2000
_ENDED = float("inf")
"""When a lease is asked to last longer for which no more time is given."""
_LOOK_AT_LEASES = 0.5
"""Seconds between looks for leases that need more time."""
SHORTEST = 2.0
"""Seconds that a lease must last. More time is asked for by the first look after half of it, so that of the shortest a
quarter is left for the call, and for the way on which the lease came."""


@dataclass(slots=True, eq=False)
class Held:
    """A lease in hand: its newest token, how many seconds it lasts, and when it is asked to last longer."""

    lease: dispatch.Lease
    lasts: float
    extend_at: float
    shown: Job | None = None
    judged_at: float | None = None
    """When it was answered; whether the answer is kept is not known yet."""
    returning: bool = False
    """Whether it is being given back."""
    again: bool = False
    """Whether it is, or was, judged once more, after it was set aside."""

    @property
    def job(self) -> Job:
        """What the judge gets: what was seen, under the newest token."""
        if self.shown is None:
            raise RuntimeError(f"{self.lease.name} is judged before it was seen")
        return replace(self.shown, lease=self.lease)

    @property
    def over(self) -> bool:
        """Whether its time is over, by our clock."""
        return self.extend_at == _ENDED or time.monotonic() > self.extend_at + self.lasts / 2


class Hand:
    """What a run holds; `stirred` is set whenever that changes, and `worked` counts what was given back or lost.

    `capacity` leases are held at most, beside those that are set aside, asked for `batch` at a time and for `duration`
    (None: as the project says).
    """

    def __init__(
        self,
        calls: WorkCalls,
        transport: Transport,
        header: dispatch.LeaseStreamHeader,
        *,
        capacity: int,
        batch: int,
        duration: timedelta | None,
        worked: Worked,
        stirred: asyncio.Event,
    ) -> None:
        self._calls = calls
        self._duration = duration
        self._worked = worked
        self._stirred = stirred
        self._leases = LeaseStream(transport, header, self._took, capacity=capacity, batch=batch)
        self._held: dict[str, Held] = {}
        self._aside: dict[str, Held] = {}
        self._unseen: asyncio.Queue[Sequence[Held]] = asyncio.Queue()
        self._returning: set[asyncio.Task[None]] = set()
        self._let_go_at = time.monotonic()
        self.ready: deque[Held] = deque()
        """What can be judged."""

    async def take(self) -> None:
        """Take leases until it is told to take no more. Raises the CairnError of a service that stays away or refuses,
        InputError for leases too short to be kept."""
        await self._leases.run()

    async def take_no_more(self, taking: asyncio.Task[None]) -> None:
        """End the task that takes leases; what is on its way still comes."""
        self._leases.stop()
        await asyncio.wait([taking], timeout=_GOODBYE)
        taking.cancel()

    async def see(self) -> None:
        """Get the items of leases, for ever."""
        while True:
            some = [held for held in await self._unseen.get() if held.lease.name in self._held]
            for held, job in zip(some, await self._calls.jobs([one.lease for one in some]), strict=True):
                held.shown = job
                if job.item is not None:
                    self.ready.append(held)
                elif job.error is not None and job.error.reason == "LEASE_TOKEN_EXPIRED":
                    self.lost(held)
                else:
                    self.fail(held, f"The item cannot be seen: {job.error}")
            self._stirred.set()

    async def keep_alive(self) -> None:
        """Ask for more time for what is not judged yet, for ever; what was set aside is judged once more instead when
        nothing else is held."""
        while True:
            await asyncio.sleep(_LOOK_AT_LEASES)
            now = time.monotonic()
            due = [held for held in self._unanswered() if held.extend_at <= now]
            if self.dry_since is not None:
                self.judge_again([held for held in due if not held.again])
            await asyncio.gather(*map(self._extend, due))

    @property
    def dry_since(self) -> float | None:
        """Since when (time.monotonic) nothing is held, but for what was set aside, and there is no work; None where there
        is."""
        if self._held or self._leases.dry_since is None:
            return None
        return max(self._leases.dry_since, self._let_go_at)

    @property
    def unacknowledged(self) -> float:
        """When the newest answer was judged of which nobody knows yet whether it is kept; minus infinity for none."""
        return max(
            (held.judged_at for held in self._held.values() if held.judged_at is not None),
            default=float("-inf"),
        )

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way: no answer, and nothing that is given back."""
        return not self._returning and self.unacknowledged == float("-inf")

    def let_go(self, held: Held) -> None:
        """It is no more in hand."""
        self._aside.pop(held.lease.name, None)
        if self._held.pop(held.lease.name, None) is not None:
            self._leases.finished(1)
            self._let_go_at = time.monotonic()
        self._stirred.set()

    def lost(self, held: Held) -> None:
        """It has ended, or was answered already."""
        self._worked.lost += 1
        self.let_go(held)

    def set_aside(self, held: Held) -> None:
        """Keep it where it takes no room from others, until it is judged again or given back. What has ended is lost: it
        may come again, under another lease."""
        if held.extend_at == _ENDED:
            self.lost(held)
            return
        self.let_go(held)
        held.judged_at = None
        self._aside[held.lease.name] = held

    @property
    def aside(self) -> list[Held]:
        """What was set aside, and is not being given back."""
        return [held for held in self._aside.values() if not held.returning]

    @property
    def failed_again(self) -> bool:
        """Whether nothing is held but what was set aside twice, and there is no work."""
        aside = self.aside
        return self.dry_since is not None and bool(aside) and all(held.again for held in aside)

    def judge_again(self, aside: Sequence[Held]) -> None:
        """Have some of what was set aside judged once more."""
        for held in aside:
            held.again = True
            self._held[held.lease.name] = self._aside.pop(held.lease.name)
            self.ready.append(held)
        self._leases.resumed(len(aside))
        self._stirred.set()

    def give_back(self, held: Held, for_good: str | None = None) -> None:
        """Begin to give it back: so that it may come again, or for good with a reason."""
        held.returning, held.judged_at = True, None
        task = asyncio.create_task(self._give_back(held, for_good))
        self._returning.add(task)
        task.add_done_callback(self._returned)

    def fail(self, held: Held, why: str) -> None:
        """Begin to give it back for good, as one that failed."""
        self._worked.failed += 1
        self._worked.last_failure = f"{quoted(item_key(held.lease.item))}: {why}"
        self.give_back(held, why)

    async def give_back_all(self) -> None:
        """Give back what is not answered."""
        for held in self._unanswered():
            self.give_back(held)
        if self._returning:
            _, late = await asyncio.wait(self._returning, timeout=_GOODBYE)
            for task in late:
                task.cancel()

    def _took(self, leases: Sequence[dispatch.Lease]) -> None:
        held = [_in_hand(lease) for lease in leases]
        self._held.update((one.lease.name, one) for one in held)
        if self._duration is None:
            for one in held:
                check_duration(one.lasts)
        for start in range(0, len(held), _SHOWN_AT_ONCE):
            self._unseen.put_nowait(held[start : start + _SHOWN_AT_ONCE])

    def _unanswered(self) -> list[Held]:
        held = (*self._held.values(), *self._aside.values())
        return [one for one in held if one.judged_at is None and not one.returning]

    async def _extend(self, held: Held) -> None:
        try:
            held.lease = await self._calls.extend(held.lease, self._duration)
            held.extend_at = _half_way(held.lasts)
        except CairnError:
            # It has ended. What is being judged is submitted all the same: a late answer is kept.
            held.extend_at = _ENDED
            if held in self.ready:
                self.ready.remove(held)
                self.lost(held)
            elif held in self.aside:
                self.lost(held)

    async def _give_back(self, held: Held, for_good: str | None) -> None:
        # A lease that has ended is nobody's to give back.
        with suppress(CairnError):
            if for_good is None:
                await self._calls.release(held.lease)
                self._worked.released += 1
            else:
                await self._calls.skip(held.lease, _reason(for_good))
        self.let_go(held)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._returning.discard(task)
        self._stirred.set()


def check_duration(seconds: float) -> None:
    """Raise InputError for leases that would be over before they can be extended."""
    if seconds < SHORTEST:
        raise InputError(
            f"Leases of {seconds:g} s are too short to be extended in time: a run needs {SHORTEST:g} s or more"
            " (`duration`, or --lease)."
        )


def _reason(words: str) -> str:
    """Words as Cairn takes them: no NUL, and no half of a character, of which names of files that are no UTF-8 are full."""
    told = words.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return told[:_LONGEST_REASON] or "no reason was given"


def _in_hand(lease: dispatch.Lease) -> Held:
    lasts = (lease.expire_time.ToNanoseconds() - lease.create_time.ToNanoseconds()) / 1e9
    return Held(lease, lasts, _half_way(lasts))


def _half_way(seconds: float) -> float:
    """When half of a lease's time is over, by our clock: the service's may be another."""
    return time.monotonic() + seconds / 2
