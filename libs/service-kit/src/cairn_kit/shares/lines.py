"""The lines over the bus by which a share's keeper is reached: `cairn-shares.<service>.<share>.<kind>.<rest>`.

They are core NATS, not the stream: nothing on them is the only copy of anything. Whoever finds nobody on a line is told
so by the server at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from cairn_kit.events.bus import Bus

_PREFIX = "cairn-shares"
Listener = Callable[[int, str, Msg], Awaitable[None]]


def nobody_there(message: Msg) -> bool:
    """Whether this is the server's word that no keeper listens."""
    return bool(message.headers) and (message.headers or {}).get("Status") == "503"


class Lines:
    """Which shares this replica keeps, and how the other keepers are reached."""

    def __init__(self, bus: Bus, service: str) -> None:
        self.bus = bus
        self._service = service
        self._listeners: dict[str, Listener] = {}
        self._open: dict[int, list[Subscription]] = {}
        self.changed: Callable[[], object] = lambda: None
        """Called when a share has been begun or ended."""

    @property
    def kept(self) -> frozenset[int]:
        """The shares that this replica keeps."""
        return frozenset(self._open)

    def keeps(self, share: int) -> bool:
        """Whether this replica keeps a share."""
        return share in self._open

    def listen(self, kind: str, listener: Listener) -> None:
        """Give what comes on lines of a kind to `listener(share, rest, message)`. To be called before any is open."""
        self._listeners[kind] = listener

    async def begin(self, share: int) -> None:
        """Keep a share: listen on its lines."""
        self._open[share] = []
        for kind, listener in self._listeners.items():
            self._open[share].append(await self._subscribe(share, kind, listener))
        self.changed()

    async def end(self, share: int) -> None:
        """Keep a share no longer."""
        for subscription in self._open.pop(share, ()):
            with suppress(NatsError, OSError):
                await subscription.unsubscribe()
        self.changed()

    async def send(
        self, share: int, kind: str, rest: str, body: bytes, reply: str, headers: dict[str, str] | None
    ) -> None:
        """Send to a share's keeper. Raises NatsError when the line to the server is down."""
        subject = f"{_PREFIX}.{self._service}.{share}.{kind}.{rest}"
        await self.bus.client.publish(subject, body, reply=reply, headers=headers)

    async def _subscribe(self, share: int, kind: str, listener: Listener) -> Subscription:
        prefix = f"{_PREFIX}.{self._service}.{share}.{kind}."

        async def hear(message: Msg) -> None:
            await listener(share, message.subject.removeprefix(prefix), message)

        return await self.bus.client.subscribe(
            f"{prefix}>", cb=hear, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
