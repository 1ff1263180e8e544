"""StreamLeases: leases ahead of a machine that works, as many as it has room for, for as long as it stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import Context as VarContext
from contextvars import copy_context

from opentelemetry.context import Context, attach

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.database.transaction import to_the_end
from cairn_kit.errors import InvalidArgument, Violation
from cairn_kit.pace import Pace
from cairn_kit.wakes import Wakes
from cairn_task_dispatch.domain.names import parse_project
from cairn_task_dispatch.handlers.handing_out import HandingOut
from cairn_task_dispatch.handlers.leasing import Leasing

Send = Callable[[pb.StreamLeasesResponse], Awaitable[None]]
"""Sends a message to the caller; returns when there is room for another."""

MOST_CREDIT = 10_000
"""Leases that a caller may have asked for and not been sent: hours of work for most, and a call's worth of memory."""
_MOST_AT_ONCE = 1000  # as by LeaseTasks
_MOST_WHILE_LATE = 100
"""Leases after each pause for answers that are heard of late."""


class Credit:
    """How many leases more a caller has room for."""

    def __init__(self) -> None:
        self.left = 0
        self._more = asyncio.Event()

    async def fill(self, grants: AsyncIterator[int]) -> None:
        """Add what the caller grants, until it closes its side. Raises InvalidArgument CREDIT_TOO_LARGE."""
        async for grant in grants:
            if self.left + grant > MOST_CREDIT:
                problem = (
                    f"{self.left} leases are not sent yet; expected at most {MOST_CREDIT - self.left} more"
                )
                raise InvalidArgument(
                    "CREDIT_TOO_LARGE", f"credit: {problem}.", violations=[Violation("credit", problem)]
                )
            self.left += grant
            self._more.set()

    def spend(self, leases: int) -> None:
        """So many were sent."""
        self.left -= leases
        if not self.left:
            self._more.clear()

    async def some(self) -> None:
        """Wait until there is room for a lease."""
        await self._more.wait()


class LeaseStreams:
    """Serves streams of leases. ``look_every``: seconds until a stream without work looks by itself, for what other
    replicas opened wakes nobody here."""

    def __init__(self, handing_out: HandingOut, leasing: Leasing, opened: Wakes, look_every: float) -> None:
        self._handing_out = handing_out
        self._leasing = leasing
        self._opened = opened
        self._look_every = look_every

    async def lease_ahead(
        self, tenant: str, wish: pb.LeaseTasksRequest, grants: AsyncIterator[int], send: Send
    ) -> None:
        """Send leases as the wish says, as many as are granted, until the caller closes its side.

        `wish` names the labeler; its `max_tasks` and `request_id` are not looked at. Raises what LeaseTasks would.
        """
        credit = Credit()
        reading = asyncio.create_task(credit.fill(grants))
        try:
            await self._serve(tenant, wish, credit, reading, send)
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _serve(
        self,
        tenant: str,
        wish: pb.LeaseTasksRequest,
        credit: Credit,
        reading: asyncio.Task[None],
        send: Send,
    ) -> None:
        pace, dry = Pace(), False
        while not reading.done():
            if not credit.left:
                await _first_of(credit.some(), reading)
                continue
            most = _MOST_AT_ONCE
            if seconds := self._handing_out.pause(_MOST_AT_ONCE):
                most = _MOST_WHILE_LATE
                await _first_of(asyncio.sleep(seconds), reading)
                if reading.done():
                    break
            bell = self._opened.listen(tenant, parse_project(wish.parent))
            pace.begin()
            sent = await self._lease(tenant, wish, min(credit.left, most), send)
            pace.end()
            credit.spend(sent)
            if sent:
                dry = False
                continue
            if not dry:
                await send(pb.StreamLeasesResponse())
                dry = True
            await _first_of(bell.wait(), reading, timeout=self._look_every)
            await pace.keep()  # bells may ring all the time, and each look costs

    async def _lease(self, tenant: str, wish: pb.LeaseTasksRequest, most: int, send: Send) -> int:
        """Lease and send; returns how many. What was chosen and cannot be sent is given back."""
        request = pb.LeaseTasksRequest()
        request.CopyFrom(wish)
        request.max_tasks = most
        leasing = self._handing_out.lease_now(tenant, wish.labeler, request)
        asked = asyncio.create_task(leasing, context=_own_trace())
        try:
            # Who asks together with others does not undo what was begun for all of them by going away.
            leases = (await asyncio.shield(asked)).leases
            if leases:
                await send(pb.StreamLeasesResponse(leases=leases))
            return len(leases)
        except BaseException:
            await to_the_end(self._give_back(tenant, asked))
            raise

    async def _give_back(self, tenant: str, asked: asyncio.Task[pb.LeaseTasksResponse]) -> None:
        await asyncio.wait([asked])
        if asked.cancelled() or asked.exception() is not None:
            return  # nothing was leased, and why is being told
        releases = [pb.ReleaseLeaseRequest(name=lease.name) for lease in asked.result().leases]
        # One that fails ends by itself when its time is over.
        await asyncio.gather(
            *(self._leasing.release_lease(tenant, release, lambda _: True) for release in releases),
            return_exceptions=True,
        )


def _own_trace() -> VarContext:
    """This call's context, without its trace: a stream may go on for days, and what it leases is no one story."""
    context = copy_context()
    context.run(attach, Context())
    return context


async def _first_of(
    awaited: Awaitable[object], reading: asyncio.Task[None], timeout: float | None = None
) -> None:
    """Wait for it, until the caller closes its side, or so many seconds."""
    waiting = asyncio.ensure_future(awaited)
    try:
        await asyncio.wait([waiting, reading], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
