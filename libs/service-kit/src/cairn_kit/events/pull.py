"""A pull request that always stands at the server, and what it has brought so far.

nats-py's `fetch(n > 1)` may stall for its whole time-out and raises when there is nothing; here one request for many
stands open, whatever has come is taken at once, and silence beyond two heartbeats means that the request died.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from nats.errors import Error as NatsError

from cairn_kit.events.bus import Bus
from cairn_kit.events.topology import STREAM
from cairn_kit.pace import Pace

if TYPE_CHECKING:
    from cairn_kit.shares import EventsForKeepers

_EXPIRES = 30.0
_HEARTBEAT = 3.0
_SILENCE = 2.5 * _HEARTBEAT
_NANOSECONDS = 1_000_000_000
_MOST_BYTES = 2 * 1024 * 1024
"""Asked for at once, as much again while that is handled. Decoded it is some twenty times as much: an import's messages
have 200 KiB each, and tell of thousands of items."""
_MOST_FORWARDED = 16 * _MOST_BYTES
"""Bytes that may wait here when another replica sends a message on: nobody asked for it, so no request bounds these."""
_COME_AGAIN = 1.0
"""Seconds until a message comes again that there was no room for."""
_PENDING_PART = -1  # last token of $JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<time>.<pending>


class ConsumerMissing(Exception):
    """The stream or the durable consumer is not there (any more)."""


class Pull:
    """The messages of one durable consumer, a few hundred at a time, or as many as are two megabytes.

    With `keepers`, what comes for another replica is sent on to it as soon as it comes, whatever is being done here.
    """

    def __init__(self, bus: Bus, durable: str, batch: int, keepers: EventsForKeepers | None = None) -> None:
        self._bus = bus
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{durable}"
        self._batch = batch
        self._messages: deque[Msg] = deque()
        self._bytes = 0
        self._refusals: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Event()
        self._subscription: NatsSubscription | None = None
        self._inbox = ""
        self._requests = 0
        self._wanted = 0
        self._generation = -1
        self._heard_at = 0.0
        self._pace = Pace()
        self._missing = ""
        self._interrupted = False
        self._keepers = keepers
        if keepers is not None:
            keepers.bind(self._take_forwarded, self._arrived.set)
        self.waiting = 0
        """Messages at the server behind the last one that came."""

    async def next(self, timeout: float) -> list[Msg]:
        """What has arrived, at most a batch; waits for the first one, and returns nothing when time is out.

        To ask is to say that what came before is handled. Raises ConsumerMissing; NatsError when the line is down.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        self._pace.end()
        while not self._messages:
            await self._keep_asking()
            if self._missing:
                why, self._missing = self._missing, ""
                raise ConsumerMissing(why)
            left = deadline - loop.time()
            if left <= 0 or self._interrupted:
                return []
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, 1.0)):
                    await self._arrived.wait()
        if len(self._messages) < self._batch:
            await self._pace.keep()
        else:
            self._pace.begin()
        taken = self._next_batch()
        await self._keep_asking()  # so that the server sends on while these are handled
        with suppress(ValueError, IndexError):
            self.waiting = int(taken[-1].reply.rsplit(".", 1)[_PENDING_PART])
        return taken

    def interrupt(self) -> None:
        """Let `next` return at once, now and from now on."""
        self._interrupted = True
        self._arrived.set()

    def buffered(self) -> list[Msg]:
        """What has arrived and was not taken yet: it must be kept alive, too."""
        return list(self._messages)

    async def close(self) -> None:
        """Stop asking until `next` is; what has arrived and was not taken is delivered again, to whoever asks."""
        self._wanted = 0
        if self._subscription is not None:
            with suppress(NatsError, OSError):
                await self._subscription.unsubscribe()
            self._subscription = None
        with suppress(NatsError, OSError):
            # Others may send on meanwhile.
            left, self._messages, self._bytes = self._messages, deque(), 0
            for message in left:
                await message.nak()

    async def _keep_asking(self) -> None:
        loop = asyncio.get_running_loop()
        if self._subscription is None:
            self._inbox = self._bus.client.new_inbox()
            self._subscription = await self._bus.client.subscribe(
                f"{self._inbox}.*", cb=self._on_message, pending_msgs_limit=-1, pending_bytes_limit=-1
            )
        if self._keepers is not None and not self._keepers.wanted:
            return
        lost = self._generation != self._bus.generation or loop.time() - self._heard_at > _SILENCE
        full = len(self._messages) >= self._batch or self._bytes >= _MOST_BYTES
        if (self._wanted > 0 and not lost) or full:
            return
        self._requests += 1
        self._wanted, self._generation, self._heard_at = self._batch, self._bus.generation, loop.time()
        request = {
            "batch": self._batch,
            "max_bytes": _MOST_BYTES,
            "expires": int(_EXPIRES * _NANOSECONDS),
            "idle_heartbeat": int(_HEARTBEAT * _NANOSECONDS),
        }
        await self._bus.client.publish(
            self._subject, json.dumps(request).encode(), reply=f"{self._inbox}.{self._requests}"
        )

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        status = (
            message.headers.get("Status")
            if message.headers and not message.reply.startswith("$JS.ACK")
            else None
        )
        if status is None:
            self._wanted -= 1
            if self._keepers is None or not await self._keepers.sent_on(message):
                self._take(message)
            elif self._wanted <= 0:
                self._arrived.set()  # all that was asked for has come: whoever waits is to ask for more
        elif status != "100" and message.subject.rpartition(".")[2] == str(self._requests):
            # The standing request has ended: 408 in time, 409 when as many bytes have come, all else for another reason.
            self._wanted = 0
            description = (message.headers or {}).get("Description", "")
            if status in ("404", "503") or "Deleted" in description:
                self._missing = f"{status} {description}".strip()
            self._arrived.set()

    def _take(self, message: Msg) -> None:
        self._messages.append(message)
        self._bytes += len(message.data)
        self._arrived.set()

    def _take_forwarded(self, message: Msg) -> None:
        if self._bytes + len(message.data) <= _MOST_FORWARDED:
            self._take(message)
        else:
            refusal = asyncio.create_task(_refuse(message))
            self._refusals.add(refusal)
            refusal.add_done_callback(self._refusals.discard)

    def _next_batch(self) -> list[Msg]:
        """The messages that are to be handled together: one at least, however large."""
        taken: list[Msg] = []
        room = _MOST_BYTES
        while self._messages and len(taken) < self._batch:
            size = len(self._messages[0].data)
            if taken and size > room:
                break
            taken.append(self._messages.popleft())
            room -= size
            self._bytes -= size
        return taken


async def _refuse(message: Msg) -> None:
    with suppress(NatsError, OSError):  # else nobody acknowledges it, and it is delivered again as well
        await message.nak(delay=_COME_AGAIN)
