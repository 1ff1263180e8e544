"""Events of a project, taken to its keeper by whichever replica the stream gave them to.

The message goes on as it is, with the stream's own address for acknowledgements: the keeper acknowledges what the stream
delivered to somebody else. What is lost on the way was not acknowledged, and is delivered again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from cairn_kit.events.envelope import project_of
from cairn_kit.shares.lines import Lines, nobody_there
from cairn_kit.shares.share import share_of

_KIND = "event"
_ACKNOWLEDGE_AT = "$JS.ACK."
_NOBODY_DELAY = 0.25
"""Seconds until an event that no keeper was there for is delivered again: about as long as a share is free."""


class EventsForKeepers:
    """Sends events on that are another keeper's, and receives what others send here."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._receive: Callable[[Msg], object] = lambda _: None
        self._inbox = ""
        lines.listen(_KIND, self._hear)

    @property
    def wanted(self) -> bool:
        """Whether this replica keeps anything: else there is no sense in asking the stream for events."""
        return bool(self._lines.kept)

    def bind(self, receive: Callable[[Msg], object], changed: Callable[[], object]) -> None:
        """Give what others send here to `receive`; call `changed` when `wanted` may have changed."""
        self._receive, self._lines.changed = receive, changed

    async def sent_on(self, message: Msg) -> bool:
        """Send a message of the stream to its keeper; False when that is this replica, or nobody could be."""
        project = project_of(message.headers)
        if project is None:
            return False  # it is no event, and anybody may say so
        share = share_of(*project)
        if self._lines.keeps(share):
            return False
        with suppress(NatsError, OSError):  # else it is delivered again, for nobody acknowledges it
            client = self._lines.bus.client
            if not self._inbox:
                self._inbox = client.new_inbox()
                await client.subscribe(f"{self._inbox}.>", cb=self._nobody)
            reply = f"{self._inbox}.{message.reply}"
            await self._lines.send(share, _KIND, message.subject, message.data, reply, message.headers)
        return True

    async def _hear(self, share: int, subject: str, message: Msg) -> None:
        reply = message.reply[message.reply.index(_ACKNOWLEDGE_AT) :]
        self._receive(Msg(self._lines.bus.client, subject, reply, message.data, message.headers))

    async def _nobody(self, message: Msg) -> None:
        if nobody_there(message):
            put_off = b"-NAK " + json.dumps({"delay": round(_NOBODY_DELAY * 1e9)}).encode()
            with suppress(NatsError, OSError):
                await self._lines.bus.client.publish(message.subject.removeprefix(f"{self._inbox}."), put_off)
